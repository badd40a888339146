"""Heads that a causal backbone reads both ways for, beside those that it reads causally for: one package, proved."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tiny import TEXTS, tiny_checkpoint, tiny_tokenizer
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from lmtasks.export.emit import export_model, load_graphs
from lmtasks.export.graph import save_graphs
from lmtasks.export.half import to_half
from lmtasks.export.package import WEIGHTS, load_package
from lmtasks.model.store import load_model, save_model
from lmtasks.prove.export import export_and_prove
from lmtasks.records import Floats32, HeadSpec, TokenBatch
from lmtasks.runtime.op_costs import traffic_of
from lmtasks.runtime.open import open_runtime

SIZES: Mapping[str, int] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
SHARED: Mapping[str, int] = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
MADE: Mapping[str, Callable[[int], PreTrainedModel]] = {
    "qwen3": lambda size: Qwen3ForCausalLM(Qwen3Config(vocab_size=size, **SHARED)),
    "mistral": lambda size: MistralForCausalLM(MistralConfig(vocab_size=size, sliding_window=6, **SHARED)),
    "opt": lambda size: OPTForCausalLM(OPTConfig(vocab_size=size, ffn_dim=48, word_embed_proj_dim=32, **SIZES)),
    "gpt_neox": lambda size: GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=size, intermediate_size=48, **SIZES)),
}
SLOW = ("qwen2", "qwen3", "gpt2", "opt", "gpt_neox", "gemma2")
LABELS = ("a", "b", "c")
HEADS = (
    HeadSpec(name="tags", kind="tagging", labels=LABELS, attention="both"),
    HeadSpec(name="labels", kind="classification", labels=LABELS, attention="both"),
    HeadSpec(name="spans", kind="span", attention="both"),
    HeadSpec(name="tags, causal", kind="tagging", labels=LABELS, attention="causal"),
    HeadSpec(name="tags, as it reads", kind="tagging", labels=LABELS),
    HeadSpec(name="texts", kind="generation", attention="causal"),
)
ONE_WAY = tuple(replace(head, attention=None) for head in HEADS)
PREDICTING = {head.name for head in HEADS if head.predicts}


def _model(folder: Path, family: str, heads: tuple[HeadSpec, ...] = HEADS) -> Path:
    """A random model with these heads, of which all that predict have random weights, drawn alike for all."""
    source = folder / f"{family}-backbone"
    if family in MADE:
        tokenizer = tiny_tokenizer()
        torch.manual_seed(0)
        made = MADE[family](tokenizer.vocabulary)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        made.save_pretrained(source)
        tokenizer.save(source)
    else:
        tiny_checkpoint(source, family)
    model = load_model(source)
    model.add_heads(heads)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_(0.0, 0.3)
    save_model(model, folder / family, provenance={})
    return folder / family


def _first(folder: Path, runtime: str, head: str, *, last: int) -> Floats32:
    """Logits of the first of three tokens, the last of which is given."""
    opened = open_runtime(folder, runtime=runtime, threads=1)
    found: Floats32 = opened.predict(head, TokenBatch(ids=np.array([[5, 6, last]]), mask=np.ones((1, 3), dtype=bool)))
    opened.close()
    return found[0, 0]


@pytest.mark.parametrize("family", ["llama", "mistral", *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def test_each_attention_has_a_graph_over_one_set_of_weights(family: str, tmp_path: Path) -> None:
    """Gemma 2, whose layers see far and near in turn, is traced."""
    model, package = _model(tmp_path, family), tmp_path / "package"
    parity = export_and_prove(model, out=package, precision="fp32", texts=TEXTS, report=lambda _: None).parity
    assert parity.ok
    assert {f"head.{name}" for name in PREDICTING} | {"score", "decoder"} == {check.graph for check in parity.checks}
    made = load_package(package)
    assert made.emitted == (family != "gemma2")
    assert set(made.graphs) == {"score", "decoder", "heads", "heads_both"}
    for runtime, folder in (("torch", model), ("onnx", package)):
        for head, sees in (("tags", True), ("spans", True), ("tags, causal", False), ("tags, as it reads", False)):
            one, two = (_first(folder, runtime, head, last=last) for last in (7, 8))
            assert np.array_equal(one, two) != sees, (runtime, head)
    one, other = (
        traffic_of(package, graph="heads", precision=None, head=head) for head in ("tags", "tags, as it reads")
    )
    assert one is not None
    assert other is not None
    assert one.body > 0
    # Both graphs multiply with the layers of the one backbone, and each with its own heads.
    assert abs(one.body - other.body) <= 32 * (32 + 2 + 3 * 3)
    stored = _stored_bytes(_model(tmp_path / "causal", family, ONE_WAY), tmp_path / "one way")
    # A traced graph holds tables of its own (frequencies, masks), no weights.
    assert (package / WEIGHTS).stat().st_size - stored <= (0 if made.emitted else 4096)


def _stored_bytes(model: Path, package: Path) -> int:
    package.mkdir()
    export_model(model, out=package, precision="fp32", report=lambda _: None)
    assert set(load_package(package).graphs) == {"score", "decoder", "heads"}
    return (package / WEIGHTS).stat().st_size


@pytest.mark.parametrize("precision", ["int8", "w8"])
def test_rounded_weights_of_both_are_stored_once(precision: str, tmp_path: Path) -> None:
    sizes = {}
    for name, heads in (("mixed", HEADS), ("causal", ONE_WAY)):
        package = tmp_path / name / "package"
        done = export_and_prove(
            _model(tmp_path / name, "llama", heads),
            out=package,
            precision=precision,
            texts=TEXTS,
            report=lambda _: None,
        )
        assert done.parity.ok
        sizes[name] = (package / WEIGHTS).stat().st_size
    assert sizes["mixed"] == sizes["causal"]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_in_16_bits_answers_are_close(family: str, tmp_path: Path) -> None:
    """On the processor onnxruntime computes fp16 in fp32 between casts: enough to see that the graph is right."""
    package = tmp_path / "package"
    package.mkdir()
    export_model(_model(tmp_path, family), out=package, precision="fp32", report=lambda _: None)
    graph = load_graphs(load_package(package))["heads_both"]
    assert to_half(graph, precision="fp16") > 10
    save_graphs({tmp_path / "half.onnx": graph}, weights=tmp_path / "half.bin")
    session = onnxruntime.InferenceSession(str(tmp_path / "half.onnx"), providers=["CPUExecutionProvider"])
    ids, mask = np.array([[5, 6, 7, 8], [9, 10, 1, 1]]), np.array([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=bool)
    opened = open_runtime(package, runtime="onnx", threads=1)
    for head in ("tags", "labels"):
        (found,) = session.run([f"head.{head}"], {"ids": ids, "mask": mask})
        wanted = opened.predict(head, TokenBatch(ids=ids, mask=mask))
        real = mask if wanted.ndim == 3 else np.ones(2, dtype=bool)
        np.testing.assert_allclose(found[real], wanted[real], atol=0.05, rtol=0.02)
    opened.close()


def test_a_model_whose_heads_all_read_both_ways_still_writes(tmp_path: Path) -> None:
    heads = tuple(head for head in HEADS if head.attention == "both")
    package = tmp_path / "package"
    done = export_and_prove(
        _model(tmp_path, "llama", heads), out=package, precision="fp32", texts=TEXTS, report=lambda _: None
    )
    assert done.parity.ok
    assert set(load_package(package).graphs) == {"score", "decoder", "heads_both"}
