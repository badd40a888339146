"""Where a model starts: a backbone that is there, its shape with random weights, or a family made new."""

from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from tiny import tiny_checkpoint, tiny_tokenizer
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from lmtasks.errors import UsageError
from lmtasks.model.store import card_of, load_model
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import AdaptSettings
from lmtasks.task.index import default_index
from lmtasks.workflow.adapt import adapt_to_tasks
from lmtasks.workflow.new_backbone import Start, started_backbone


def started(start: Start, folder: Path, *, seed: int = 1) -> Path:
    return started_backbone(
        start,
        tasks=default_index().find("starter_topic_en"),
        options=DataAccess(offline=True),
        seed=seed,
        folder=folder,
        report=lambda _: None,
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "bilstm"
    return started(Start(backbone="bilstm:width=8", tokenizer="words:50"), folder)


@pytest.mark.parametrize("family", ["llama", "bert", "t5", "bilstm"])
def test_from_scratch_keeps_shape_and_tokenizer_and_nothing_else(family: str, tmp_path: Path, own: Path) -> None:
    there = own if family == "bilstm" else tiny_checkpoint(tmp_path / "there", family)
    made = started(Start(backbone=str(there), from_scratch=True), tmp_path / "made", seed=2)
    old, new = load_file(there / "model.safetensors"), load_file(made / "model.safetensors")
    shared = old.keys() & new.keys()
    assert shared
    assert {name: old[name].shape for name in shared} == {name: new[name].shape for name in shared}
    matrices = [name for name in shared if old[name].ndim == 2 and old[name].std() > 0]
    assert matrices
    assert not any((old[name] == new[name]).all() for name in matrices)
    assert (made / "tokenizer.json").read_text() == (there / "tokenizer.json").read_text()


def test_its_weights_follow_the_seed(tmp_path: Path) -> None:
    there = Start(backbone=str(tiny_checkpoint(tmp_path / "there", "llama")), from_scratch=True)
    one, again, two = (started(there, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    weights = [load_file(folder / "model.safetensors")["model.embed_tokens.weight"] for folder in (one, again, two)]
    assert (weights[0] == weights[1]).all()
    assert not (weights[0] == weights[2]).all()


def test_without_it_the_backbone_is_used_where_it_lies(tmp_path: Path) -> None:
    there = tiny_checkpoint(tmp_path / "there", "llama")
    assert started(Start(backbone=str(there)), tmp_path / "made") == there
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_read_both_ways_an_early_token_sees_the_late_ones(family: str, tmp_path: Path) -> None:
    there = tiny_checkpoint(tmp_path / "there", family)
    made = started(Start(backbone=str(there), bidirectional=True), tmp_path / "made")
    assert not list(made.rglob("*.safetensors"))  # it refers to those that are there
    assert card_of(made).weights_hash == card_of(there).weights_hash
    one, other, mask = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 9]]), torch.ones(1, 3, dtype=torch.bool)
    for folder, kind, sees in ((there, "causal", False), (made, "encoder", True)):
        model = load_model(folder)
        assert model.card.kind == kind
        with torch.no_grad():
            early = [model.encode(ids, mask)[0, 0] for ids in (one, other)]
        assert torch.equal(*early) != sees


def test_both_ways_from_scratch_is_the_same_shape_with_other_weights(tmp_path: Path) -> None:
    there = tiny_checkpoint(tmp_path / "there", "llama")
    made = started(Start(backbone=str(there), bidirectional=True, from_scratch=True), tmp_path / "made")
    assert card_of(made).kind == "encoder"
    assert card_of(made).parameters == card_of(there).parameters
    assert card_of(made).weights_hash != card_of(there).weights_hash


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("bert", "no causal language model but an encoder"),
        ("t5", "no causal language model but an encoder-decoder"),
        ("llama:width=8", "would be made new: eurobert, bilstm and bigru"),
        ("svm", "would be made new"),
    ],
)
def test_what_cannot_be_read_both_ways_is_refused(start: str, says: str, tmp_path: Path) -> None:
    there = start if start in {"llama:width=8", "svm"} else str(tiny_checkpoint(tmp_path / "there", start))
    with pytest.raises(UsageError, match=says):
        started(Start(backbone=there, bidirectional=True), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_family_that_asks_nobody_how_to_attend_is_refused(tmp_path: Path) -> None:
    config = GPTNeoConfig(
        vocab_size=300, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global"], 2]], eos_token_id=0,
        bos_token_id=0, architectures=["GPTNeoForCausalLM"],
    )  # fmt: skip
    GPTNeoForCausalLM(config).save_pretrained(tmp_path / "there")
    tiny_tokenizer().save(tmp_path / "there")
    with pytest.raises(UsageError, match="gpt_neo attends to earlier tokens alone, whatever its configuration says"):
        started(Start(backbone=str(tmp_path / "there"), bidirectional=True), tmp_path / "made")


@pytest.mark.parametrize(("bidirectional", "says"), [(False, "it learned reading one way"), (True, "but an encoder")])
def test_an_adapted_model_is_not_turned_round(bidirectional: bool, says: str, tmp_path: Path) -> None:
    there = tiny_checkpoint(tmp_path / "there", "llama")
    adapt_to_tasks(
        start=Start(backbone=str(there), bidirectional=bidirectional),
        tasks=default_index().find("starter_topic_en"),
        settings=AdaptSettings(method="probe", epochs=0.1, evaluations=1),
        options=DataAccess(offline=True),
        out=tmp_path / "model",
        report=lambda _: None,
    )
    with pytest.raises(UsageError, match=says):
        started(Start(backbone=str(tmp_path / "model"), bidirectional=True), tmp_path / "made")


def test_a_new_tokenizer_knows_the_words_of_the_rows_that_are_learned_from_alone(tmp_path: Path) -> None:
    """The vocabulary of a family that learned from 64 rows was that of all rows."""
    (task,) = default_index().find("starter_topic_en")
    data = DataAccess(offline=True)
    settings = AdaptSettings(seed=3)
    start, said = Start(backbone="naive-bayes"), lambda _: None
    sizes = []
    for rows in (12, None):
        out = tmp_path / f"rows-{rows}"
        adapt_to_tasks(start=start, tasks=[task], settings=settings, options=data, out=out, report=said, rows=rows)
        sizes.append(card_of(out).vocabulary)
    assert 50 < sizes[0] < sizes[1] / 3
