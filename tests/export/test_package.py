"""The package on disk: everything hashed, every damage said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from packed import PREDICTING, model_folder, package

from lmtasks.errors import UsageError
from lmtasks.export.package import MANIFEST, is_package, load_package, write_manifest
from lmtasks.model.store import card_of


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(package("gpt2"), tmp_path / "package")


def test_a_package_says_what_it_is() -> None:
    found = load_package(package("llama"))
    assert is_package(found.folder)
    assert not is_package(model_folder("llama"))
    assert found.precision == "fp32"
    assert set(found.graphs) == {"score", "decoder", "heads"}
    assert found.emitter == "emitted:llama 1"
    assert found.model.weights_hash == card_of(model_folder("llama")).weights_hash
    assert tuple(head.name for head in found.model.heads if head.kind != "generation") == PREDICTING
    assert found.model.ends == (0,)
    assert found.parity["ok"] is True
    assert {"tokenizer.json", "tokenizer_config.json", "parity.json"} <= set(found.files)


def test_an_encoder_decoder_says_what_its_decoder_starts_with() -> None:
    assert load_package(package("marian")).model.decoder_start == 1
    assert set(load_package(package("marian")).graphs) == {"score", "encoder", "decoder"}
    assert load_package(package("gpt2")).model.decoder_start is None


def test_graphs_share_their_weights() -> None:
    """Three graphs of one tied backbone: its weights once, and not the three to six times that exporters write."""
    weights = sum(file.stat().st_size for file in model_folder("llama").rglob("*.safetensors"))
    stored = load_package(package("llama")).files["weights.bin"].size_bytes
    assert stored < 1.5 * weights  # the rest is alignment, which counts in a tiny model


def test_every_file_is_checked(copied: Path) -> None:
    for name in load_package(copied).files:
        kept = (copied / name).read_bytes()
        flipped = bytes([kept[len(kept) // 2] ^ 1])
        (copied / name).write_bytes(kept[: len(kept) // 2] + flipped + kept[len(kept) // 2 + 1 :])
        with pytest.raises(UsageError, match=rf"{name} is not the file that was exported \(its hash differs\)"):
            load_package(copied)
        (copied / name).unlink()
        with pytest.raises(UsageError, match=rf"lacks {name}; copy it again"):
            load_package(copied)
        (copied / name).write_bytes(kept)
    assert load_package(copied).precision == "fp32"


@pytest.mark.parametrize("name", ["score.onnx", "weights.bin", "tokenizer.json", "parity.json"])
def test_a_file_that_the_manifest_does_not_vouch_for_is_not_read(copied: Path, name: str) -> None:
    (copied / "notes.txt").write_text("somebody's own file", encoding="utf-8")
    assert load_package(copied).precision == "fp32"
    content = json.loads((copied / MANIFEST).read_text(encoding="utf-8"))
    del content["files"][name]
    (copied / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"was altered: it has no hash of {name}"):
        load_package(copied)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: {**content, "schema": 99}, r"made by another version \(schema 99, this one reads 1\)"),
        (lambda content: {name: content[name] for name in content if name != "graphs"}, r"is damaged \('graphs'\)"),
        (lambda content: {**content, "files": 3}, "is damaged"),
        (lambda content: {**content, "model": {"name": "x"}}, "is damaged"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(
    copied: Path, change: Callable[[dict[str, object]], object], said: str
) -> None:
    content = json.loads((copied / MANIFEST).read_text(encoding="utf-8"))
    (copied / MANIFEST).write_text(json.dumps(change(content)), encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        load_package(copied)


def test_a_broken_manifest_and_no_manifest_are_refused(copied: Path) -> None:
    (copied / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="is damaged"):
        load_package(copied)
    with pytest.raises(UsageError, match=r"is no exported model: it has no package.json"):
        load_package(model_folder("gpt2"))


def test_the_tokenizer_says_whether_its_model_takes_segment_ids() -> None:
    from lmtasks.data.tokenizer import load_tokenizer

    assert load_tokenizer(package("bert")).takes_types
    assert not load_tokenizer(package("gpt2")).takes_types


def test_chat_templates_of_a_package_are_carried_and_checked(copied: Path) -> None:
    """They were lost on the way, and nobody vouched for those that somebody put there."""
    (copied / "additional_chat_templates").mkdir()
    for name in ("chat_template.jinja", "additional_chat_templates/tools.jinja"):
        (copied / name).write_text("{{ messages[0].content }}", encoding="utf-8")
        with pytest.raises(UsageError, match=rf"was altered: it has no hash of {name}"):
            load_package(copied)
        (copied / name).unlink()
    for name in ("chat_template.jinja", "additional_chat_templates/tools.jinja"):
        (copied / name).write_text("{{ messages[0].content }}", encoding="utf-8")
    manifest = json.loads((copied / MANIFEST).read_text(encoding="utf-8"))
    before = load_package(package("gpt2"))
    write_manifest(copied, model=before.model, precision=before.precision, graphs=before.graphs, emitter=before.emitter)
    assert set(load_package(copied).files) - set(manifest["files"]) == {
        "chat_template.jinja", "additional_chat_templates/tools.jinja",
    }  # fmt: skip
    (copied / "additional_chat_templates" / "tools.jinja").write_text("{{ messages[1].content }}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"tools\.jinja is not the file that was exported"):
        load_package(copied)


def test_one_changed_digit_of_a_manifest_is_told_of(copied: Path) -> None:
    text = (copied / MANIFEST).read_text(encoding="utf-8")
    assert '"vocabulary": 300' in text
    (copied / MANIFEST).write_text(text.replace('"vocabulary": 300', '"vocabulary": 301'), encoding="utf-8")
    with pytest.raises(UsageError, match=r"package\.json is damaged: .*its checksum differs"):
        load_package(copied)
