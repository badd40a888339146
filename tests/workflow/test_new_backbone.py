"""Where a model starts: a backbone that is there, its shape with random weights, or a family made new."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tiny import tiny_checkpoint

from lmtasks.model.store import card_of
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
