"""A folder that does not suit a runtime is refused with the way out; nothing is replaced silently."""

import json
import shutil
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from packed import model_folder, package, padded

from lmtasks.checksums import sealed
from lmtasks.cores import checked_threads
from lmtasks.errors import UsageError
from lmtasks.export.package import MANIFEST
from lmtasks.runtime.align import every_next
from lmtasks.runtime.base import RuntimeOpener
from lmtasks.runtime.open import list_runtimes, open_runtime, opener_of
from lmtasks.settings.runtimes import RUNTIMES


def test_a_package_is_not_opened_by_torch() -> None:
    with pytest.raises(UsageError, match=r"is an exported package, which runs in onnx: use --runtime onnx"):
        open_runtime(package("gpt2"), runtime="torch")


def test_a_model_is_not_opened_by_onnx() -> None:
    with pytest.raises(UsageError, match=r"onnx runs packages only: make one with `lmtasks export --model"):
        open_runtime(model_folder("gpt2"), runtime="onnx")


def test_a_package_runs_in_its_own_precision_only() -> None:
    assert open_runtime(package("gpt2"), runtime="onnx").card.precision == "fp32"
    with pytest.raises(UsageError, match=r"is in fp32, was asked for 'int8'.*--precision int8"):
        open_runtime(package("gpt2"), runtime="onnx", precision="int8")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"emitter": "emitted:gpt2 99"}, r"made by another version: .* graphs of 'emitted:gpt2 99'; export the model"),
        ({"emitter": "emitted:rwkv 1"}, r"made by another version: .* graphs of 'emitted:rwkv 1'"),
        ({"emitter": "traced-1 torch-2.9"}, r"made by another version: .* graphs of 'traced-1 torch-2.9'"),
        ({"precision": "int3"}, r"made by another version: it is in 'int3', and this one reads fp32, fp16"),
    ],
)
def test_a_package_of_another_version_is_not_driven(changed: dict[str, str], said: str, tmp_path: Path) -> None:
    """Its graphs may open, and answer something else."""
    folder = shutil.copytree(package("gpt2"), tmp_path / "package")
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(sealed({**content, **changed})), encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        open_runtime(folder, runtime="onnx")


def test_names_and_numbers_are_checked() -> None:
    with pytest.raises(UsageError, match=r"unknown runtime 'onxx'; did you mean 'onnx'\?"):
        open_runtime(package("gpt2"), runtime="onxx")
    with pytest.raises(UsageError, match="it computes on cpu"):
        open_runtime(package("gpt2"), runtime="onnx", device="cuda")
    with pytest.raises(UsageError, match=r"cannot compute on 'tpu' here; it can on: cpu"):
        open_runtime(model_folder("gpt2"), runtime="torch", device="tpu")
    with pytest.raises(UsageError, match="--threads must be at least 1, was 0"):
        open_runtime(package("gpt2"), runtime="onnx", threads=0)
    with pytest.raises(UsageError, match="has no weights"):
        open_runtime(Path(__file__).parent, runtime="torch")


def test_every_runtime_is_listed_with_what_it_can_do_here() -> None:
    listed = {info.name: info for info in list_runtimes()}
    assert list(listed) == ["torch", "torch-compile", "onnx", "openvino", "native", "endpoint"]
    assert "cpu" in listed["torch"].devices
    assert listed["onnx"].precisions == ("fp32", "int8", "int8-static", "int8-tensor", "w8", "int4")
    assert all(info.version for info in listed.values() if info.name != "openvino" or find_spec("openvino"))


def test_without_a_compiler_torch_compile_is_listed_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtasks.runtime.torch.open.shutil.which", lambda name: None)
    info = next(info for info in list_runtimes() if info.name == "torch-compile")
    assert "cpu" not in info.devices
    assert "install g++" in info.note
    with pytest.raises(UsageError, match="install g"):
        open_runtime(model_folder("gpt2"), runtime="torch-compile")


def test_threads_default_to_what_the_process_may_use() -> None:
    assert checked_threads(None) >= 1
    assert checked_threads(3) == 3


def test_a_runtime_of_another_package_is_opened_like_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = (
        EntryPoint(name="toy", value="toy_runtime:TOY", group="lmtasks.runtimes"),
        EntryPoint(name="torch", value="toy_runtime:TOY", group="lmtasks.runtimes"),
        EntryPoint(name="broken", value="toy_runtime:BROKEN", group="lmtasks.runtimes"),
        EntryPoint(name="wrong", value="toy_runtime:WRONG", group="lmtasks.runtimes"),
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: brought)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delitem(RUNTIMES.__dict__, "_others", raising=False)
    toy = open_runtime(model_folder("gpt2"), runtime="toy")
    scores = toy.score(*every_next(padded([[5, 6, 7]])))
    np.testing.assert_allclose(scores.logprobs, -np.log(toy.model.vocabulary))
    assert toy.slots(rows=1, length=4) is None
    assert toy.for_concurrent_calls() is toy
    with pytest.raises(UsageError, match=r"toy cannot compute on 'cuda' here; it can on: cpu"):
        open_runtime(model_folder("gpt2"), runtime="toy", device="cuda")
    with pytest.raises(UsageError, match=r"unknown runtime 'tory'; did you mean 'toy' or 'torch'\?"):
        open_runtime(model_folder("gpt2"), runtime="tory")
    notes = {info.name: info.note for info in list_runtimes()}
    assert list(notes)[-3:] == ["broken", "toy", "wrong"]
    assert notes["toy"] == ""
    assert "cannot be imported: No module named 'no_such_module'" in notes["broken"]
    assert "is no `RuntimeOpener`" in notes["wrong"]
    monkeypatch.delitem(RUNTIMES.__dict__, "_others")


def test_every_line_of_the_table_opens() -> None:
    assert all(isinstance(opener_of(name), RuntimeOpener) for name in RUNTIMES)
