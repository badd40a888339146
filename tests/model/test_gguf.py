"""Files of llama.cpp, written by its own package `gguf`, are read as the checkpoints that they were made of."""

import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from said import Say
from tiny import tiny_checkpoint
from transformers import AutoModelForCausalLM

import lmtasks
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.errors import UsageError
from lmtasks.model import gguf
from lmtasks.model.resolve import resolve
from lmtasks.model.store import card_of

needs_gguf = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the extra gguf is not installed")
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
HEADS = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}


def write_gguf(folder: Path, file: Path, *, rounded: bool, architecture: str = "llama") -> Path:
    """The checkpoint of a folder as llama.cpp's converter has it: rotary halves interleaved, names of its own."""
    from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    writer = GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = tokenizer["model"]["vocab"]
    added = {each["content"]: each["id"] for each in tokenizer["added_tokens"]}
    tokens = sorted({**vocabulary, **added}.items(), key=lambda each: each[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([TokenType.CONTROL if token in added else TokenType.NORMAL for token, _ in tokens])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        values = tensor.numpy()
        part = name.removeprefix("model.").removesuffix(".weight")
        known = {"embed_tokens": "token_embd", "norm": "output_norm"}.get(part, "")
        if not known:
            _, number, inner = part.split(".", 2)
            known = f"blk.{number}.{LAYER[inner]}"
            if inner in HEADS:
                heads = config[HEADS[inner]]
                rows = values.reshape(heads, 2, values.shape[0] // heads // 2, -1)
                values = np.ascontiguousarray(rows.swapaxes(1, 2).reshape(values.shape))
        if rounded and values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{known}.weight", quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{known}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMTASKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf, "_SAID", set())


def _logprobs(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(2, 40)[None]).logits.log_softmax(-1)
    return found


@needs_gguf
@pytest.mark.parametrize(("rounded", "tolerance", "kept"), [(False, 1e-5, ["F32"]), (True, 0.35, ["Q8_0", "F32"])])
def test_a_file_answers_as_the_checkpoint_that_it_was_made_of(
    checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    rounded: bool,
    tolerance: float,
    kept: list[str],
) -> None:
    file = write_gguf(checkpoint, tmp_path / "Tiny-Q8_0.gguf", rounded=rounded)
    with caplog.at_level(logging.WARNING, logger="lmtasks"):
        folder = resolve(str(file), offline=True)
        assert resolve(str(file), offline=True) == folder
    said = [record.message for record in caplog.records if "Tiny-Q8_0.gguf" in record.message]
    assert len(said) == 1
    assert f"(llama; weights in {', '.join(kept)}) is read by transformers and computed in fp32" in said[0]
    assert "llama-server -m" in said[0]
    assert folder.name == "Tiny-Q8_0"
    facts = json.loads((folder / gguf.FACTS).read_text())
    assert folder.parent.name == facts["hash"]
    gap = float((_logprobs(folder) - _logprobs(checkpoint)).abs().max())
    assert gap < tolerance
    assert (gap > 1e-4) == rounded
    card, original = card_of(folder), card_of(checkpoint)
    assert (card.kind, card.family, card.max_length_tokens) == ("causal", "llama", original.max_length_tokens)
    texts = ["the cat sat on the mat", "今天天气很好", " a  good\nfilm"]
    mine, theirs = load_tokenizer(folder), load_tokenizer(checkpoint)
    assert [mine.encode(text) for text in texts] == [theirs.encode(text) for text in texts]
    (tmp_path / "other").mkdir()
    other = write_gguf(checkpoint, tmp_path / "other" / "Tiny-Q8_0.gguf", rounded=not rounded)
    assert resolve(str(other), offline=True).parent.name != facts["hash"]


@needs_gguf
def test_it_is_scored_and_exported_as_any_model(checkpoint: Path, tmp_path: Path, say: Say) -> None:
    file = write_gguf(checkpoint, tmp_path / "tiny.gguf", rounded=False)
    command = ["eval", "--model", file, "--model", checkpoint, "--tasks", "starter_sentiment_en", "--limit", 6]
    said = say(*command, "--cache", "off", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    results = lmtasks.Results.load(tmp_path / "out")
    assert results.value("tiny.gguf", metric="acc") == results.value("llama", metric="acc")
    said = say("export", "--model", file, "--out", tmp_path / "package")
    assert said.code == 0, said.err
    assert (tmp_path / "package" / "package.json").is_file()


@needs_gguf
def test_what_cannot_be_read_is_told_with_the_way_out(checkpoint: Path, tmp_path: Path) -> None:
    strange = write_gguf(checkpoint, tmp_path / "strange.gguf", rounded=False, architecture="rwkv7")
    with pytest.raises(UsageError, match=r"architecture 'rwkv7', which transformers does not read .*llama-server -m"):
        resolve(str(strange), offline=True)
    whole = write_gguf(checkpoint, tmp_path / "whole.gguf", rounded=False)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"cut\.gguf"):
        resolve(str(cut), offline=True)
    assert not list((tmp_path / "cache").rglob(".making-*"))


def test_what_is_no_whole_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.gguf").write_text("<html>")
    with pytest.raises(UsageError, match="is no GGUF file"):
        resolve(str(tmp_path / "page.gguf"), offline=True)
    part = tmp_path / "big-00001-of-00003.gguf"
    part.write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"one of several parts; .* --merge"):
        resolve(str(part), offline=True)
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'lmtasks\[gguf\]'; or serve it"):
        resolve(str(tmp_path / "small.gguf"), offline=True)
