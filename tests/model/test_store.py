"""Models on disk: one backbone for all heads, safetensors only, clear errors for what is missing."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint

from lmtasks.errors import UsageError
from lmtasks.model.model import Model
from lmtasks.model.resolve import resolve
from lmtasks.model.store import card_of, load_model, save_model
from lmtasks.model.weights import weight_facts
from lmtasks.records import HeadSpec

HEADS = (
    HeadSpec(name="mood", kind="classification", labels=("bad", "good")),
    HeadSpec(name="find", kind="span"),
    HeadSpec(name="say", kind="generation"),
)
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]])
MASK = torch.tensor([[True] * 4, [True, True, False, False]])


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Model, Path]:
    model = load_model(tiny_checkpoint(tmp_path / "llama", "llama"))
    model.add_heads(HEADS)
    model.eval()
    save_model(model, tmp_path / "model", provenance={"made": "by a test"})
    return model, tmp_path / "model"


def test_a_model_answers_the_same_after_reload(saved: tuple[Model, Path]) -> None:
    model, folder = saved
    loaded = load_model(folder)
    for head in ("mood", "find"):
        assert torch.equal(model.head_logits(head, IDS, MASK), loaded.head_logits(head, IDS, MASK))
    assert torch.equal(model.lm_logits(IDS, MASK), loaded.lm_logits(IDS, MASK))
    assert loaded.card.heads == HEADS


def test_two_heads_share_one_backbone_in_memory(saved: tuple[Model, Path]) -> None:
    loaded = load_model(saved[1])
    before = [loaded.head_logits(head, IDS, MASK) for head in ("mood", "find")]
    with torch.no_grad():
        loaded.hf.get_input_embeddings().weight.mul_(2.0)  # type: ignore[operator, union-attr]
    after = [loaded.head_logits(head, IDS, MASK) for head in ("mood", "find")]
    assert all(not torch.equal(one, two) for one, two in zip(before, after, strict=True))
    total = sum(parameter.numel() for parameter in loaded.parameters())
    heads = sum(parameter.numel() for parameter in loaded.heads.parameters())
    assert total == sum(parameter.numel() for parameter in loaded.backbone.parameters()) + heads


def test_a_model_folder_holds_no_pickle(saved: tuple[Model, Path]) -> None:
    kinds = {file.suffix for file in saved[1].rglob("*") if file.is_file()}
    assert kinds <= {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("architecture", "kind", "heads"),
    [
        ("llama", "causal", ()), ("gpt2", "causal", ()), ("bert", "encoder", ()), ("marian", "encoder-decoder", ()),
        ("bert-classifier", "encoder", ("negative", "positive")),
    ],
)  # fmt: skip
def test_a_transformers_folder_is_a_model(tmp_path: Path, architecture: str, kind: str, heads: tuple[str, ...]) -> None:
    model = load_model(tiny_checkpoint(tmp_path / architecture, architecture))
    assert model.card.kind == kind
    assert model.encode(IDS, MASK).shape == (2, 4, 32)
    if heads:
        assert model.card.heads[0].labels == heads
        assert model.head_logits("own", IDS, MASK).shape == (2, 2)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
def test_padding_may_stand_on_either_side(tmp_path: Path, architecture: str) -> None:
    model = load_model(tiny_checkpoint(tmp_path / architecture, architecture))
    right = model.encode(torch.tensor([[5, 6, 7, 1, 1]]), torch.tensor([[True, True, True, False, False]]))
    left = model.encode(torch.tensor([[1, 1, 5, 6, 7]]), torch.tensor([[False, False, True, True, True]]))
    assert torch.allclose(right[0, :3], left[0, 2:], atol=1e-5)


def test_the_hash_is_of_values_not_of_files(tmp_path: Path) -> None:
    one = tiny_checkpoint(tmp_path / "one", "llama", seed=1)
    same = tiny_checkpoint(tmp_path / "same", "llama", seed=1)
    other = tiny_checkpoint(tmp_path / "other", "llama", seed=2)
    assert weight_facts(one).hash == weight_facts(same).hash != weight_facts(other).hash
    loaded = load_model(one)
    loaded.hf.save_pretrained(tmp_path / "cut", max_shard_size="20KB")  # type: ignore[operator]
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 1
    assert weight_facts(tmp_path / "cut").hash == weight_facts(one).hash
    assert card_of(one).parameters == sum(parameter.numel() for parameter in loaded.parameters())


def test_what_starts_and_ends_a_text_is_read_off_the_folder(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "marian", "marian")
    assert (card_of(folder).decoder_start, card_of(folder).ends) == (1, (0,))
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 5], "decoder_start_token_id": 2}')
    assert (card_of(folder).decoder_start, card_of(folder).ends) == (2, (0, 5))
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(UsageError, match=r"generation_config\.json is damaged"):
        card_of(folder)
    causal = card_of(tiny_checkpoint(tmp_path / "llama", "llama"))
    assert (causal.decoder_start, causal.ends) == (None, (0,))


def _drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _cut(folder: Path, name: str) -> None:
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize(
    ("harm", "name", "message"),
    [
        (_drop, "heads/mood/head.safetensors", "lacks heads/mood/head.safetensors"),
        (_drop, "backbone/config.json", "lacks backbone/config.json"),
        (_cut, "backbone/model.safetensors", "cut short"),
        (_cut, "model.json", "is damaged"),
    ],
)
def test_what_is_missing_is_named(saved: tuple[Model, Path], harm, name: str, message: str) -> None:  # type: ignore[no-untyped-def]
    harm(saved[1], name)
    with pytest.raises(UsageError, match=message):
        load_model(saved[1])


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "llama", "llama")
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"lacks \d+ weights"):
        load_model(folder)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("lmtasks-mino", "unknown model"),
        ("./nowhere", "unknown model"),
        ("org/never-downloaded", "--offline is set"),
    ],
)
def test_an_unknown_model_is_explained(ref: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        resolve(ref, offline=True)
