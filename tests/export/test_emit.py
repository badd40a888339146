"""What can be exported, and what is said when it cannot."""

import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
import torch
from packed import model_folder, package, padded, random_rows, score_all
from tiny import tiny_checkpoint, tiny_tokenizer

from lmtasks.errors import UsageError, WorkError
from lmtasks.export.emit import export_model
from lmtasks.export.package import load_package
from lmtasks.export.trace import Input, Traceable, trace
from lmtasks.records import Progress
from lmtasks.runtime.open import open_runtime


def ignored(progress: Progress) -> None:
    """A report that nobody reads."""


def axes_of(name: str, graph: str) -> dict[str, list[object]]:
    """Shapes of a graph's outputs, free axes by name."""
    found = load_package(package(name))
    session = onnxruntime.InferenceSession(
        str(found.folder / found.graphs[graph]),  # type: ignore[index]
        providers=["CPUExecutionProvider"],
    )
    return {item.name: list(item.shape) for item in session.get_outputs()}


def test_logits_of_all_positions_never_leave_the_graph() -> None:
    vocabulary = load_package(package("llama")).model.vocabulary
    assert axes_of("llama", "score") == {"logprob": ["targets"], "greedy": ["targets"]}
    assert axes_of("llama", "decoder")["logits"] == ["wanted", vocabulary]
    assert axes_of("marian", "decoder")["logits"] == ["wanted", vocabulary]


@pytest.mark.slow  # traced
def test_logits_of_all_positions_never_leave_a_traced_graph() -> None:
    vocabulary = load_package(package("blenderbot")).model.vocabulary
    assert axes_of("blenderbot", "encoder")["logits"] == ["batch", vocabulary]


def test_every_head_is_an_output_of_one_graph() -> None:
    assert list(axes_of("bert", "heads")) == ["head.mood", "head.topic", "head.find", "head.tag"]


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown precision of an export 'int7'; did you mean"):
        export_model(model_folder("gpt2"), out=tmp_path, precision="int7", report=ignored)


def test_an_encoder_without_a_head_answers_nothing(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "bert", "bert")
    modules = [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))  # nor with vectors, which need more than pooled states
    with pytest.raises(UsageError, match=r"is an encoder without a head.*lmtasks adapt"):
        export_model(folder, out=tmp_path, precision="fp32", report=ignored)


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder("gpt2"), tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"has no tokenizer.json; a package needs"):
        export_model(folder, out=tmp_path, precision="fp32", report=ignored)


def test_graphs_are_rounded_from_an_fp32_package_of_the_same_weights_only(tmp_path: Path) -> None:
    other = model_folder("gpt2", 1)
    with pytest.raises(UsageError, match="was exported from other weights"):
        export_model(other, out=tmp_path, precision="int8", report=ignored, base=package("gpt2"))
    with pytest.raises(UsageError, match="is in int8-tensor; graphs can be rounded from an fp32 package only"):
        export_model(
            model_folder("gpt2"), out=tmp_path, precision="int8", report=ignored, base=package("gpt2", "int8-tensor")
        )


def test_a_package_says_which_way_it_was_made() -> None:
    built = load_package(package("gpt2"))
    assert built.emitted
    assert built.emitter == "emitted:gpt2 1"
    assert set(built.graphs) == {"score", "decoder"}


@pytest.mark.slow  # traced
def test_what_no_emitter_builds_is_traced_and_the_package_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 300, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 16}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=1, activation_function="tanh")
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save(tmp_path / "model")
    out = tmp_path / "package"
    out.mkdir()
    export_model(tmp_path / "model", out=out, precision="fp32", report=ignored, emitters={"gpt2"})
    found = load_package(out)
    assert not found.emitted
    assert "(gpt2 builds no graphs for it: its activation is 'tanh';" in found.emitter
    assert "torch traces model, and nothing in its graphs is fused: gpt2 builds no graphs for it: its" in caplog.text


def test_a_model_that_keeps_no_keys_and_values_stays_with_torch(tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=1,
        state_size=4,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    tiny_tokenizer().save(tmp_path / "mamba")
    with pytest.raises(UsageError, match=r"\(mamba\) keeps no keys and values .* stays with the torch runtime"):
        export_model(tmp_path / "mamba", out=tmp_path, precision="fp32", report=ignored)
    runtime = open_runtime(tmp_path / "mamba", runtime="torch", threads=1)
    assert score_all(runtime, padded(random_rows(5, 3))).logprobs.shape == (2, 4)
    with pytest.raises(UsageError, match="it can be scored"):
        runtime.prefill(padded(random_rows(5, 3)))


def test_positions_that_depend_on_the_length_are_refused_before_anything_is_traced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_checkpoint(tmp_path / "llama", "llama")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    (folder / "config.json").write_text(json.dumps(config))
    (out := tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match=r"'dynamic', which turn by the length .* stays with the torch runtime"):
        export_model(folder, out=out, precision="fp32", report=ignored)
    assert not caplog.records
    assert not list(out.iterdir())


def test_what_torch_cannot_export_is_said_in_one_sentence() -> None:
    class Depends(torch.nn.Module):
        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return given[0] * 2 if given[0].sum() > 0 else given[0]

    what = Traceable(
        module=Depends(), inputs=(Input(name="x", example=torch.ones(3, 4), axes={0: "batch"}),), outputs=("y",)
    )
    with pytest.raises(WorkError, match=r"cannot export the odd graph: .*stays with the torch runtime\.$") as caught:
        trace(what, name="odd")
    assert "\n" not in str(caught.value)
