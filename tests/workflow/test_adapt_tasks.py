"""Adapting to tasks: what is read in place of a data set that the mirror lacks, and a backbone read both ways."""

import json
from pathlib import Path

import pytest
import torch
from tiny import TEXTS, tiny_checkpoint

from lmtasks.data.mirror import with_stand_ins
from lmtasks.data.row_hashes import TrainingRows, hash_rows, read_training_rows
from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.export.package import load_package
from lmtasks.model.store import load_model, read_provenance, training_rows_file
from lmtasks.model.weights import read_base
from lmtasks.prove.export import export_and_prove
from lmtasks.records import TRAINING_ROWS
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import Adaptation, AdaptSettings
from lmtasks.task.index import default_index
from lmtasks.workflow.adapt import adapt_to_tasks
from lmtasks.workflow.new_backbone import Start


def test_training_reads_what_stands_in_as_scoring_does(tmp_path: Path) -> None:
    """The mirror has `stanfordnlp/sst2` by the sentence, and no `SetFit/sst2`."""
    folder = tmp_path / "mirror" / "stanfordnlp" / "sst2"
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        rows = [{"sentence": f"a {word} film", "label": label} for label, word in enumerate(("bad", "good"))]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows * 4)))
    (named,) = default_index().find("sst2_sentences")
    options = DataAccess(data_root=tmp_path / "mirror", offline=True)
    adapt_to_tasks(
        start=Start(backbone="average:width=4,buckets=10", tokenizer="words:10"),
        tasks=[named],
        settings=AdaptSettings(epochs=1, evaluations=1),
        options=options,
        out=tmp_path / "model",
        report=lambda _: None,
    )
    read = with_stand_ins(named, options=options)
    assert read.hash != named.hash
    assert read.sources["test"].path == "stanfordnlp/sst2"
    assert read_provenance(tmp_path / "model")["task_hashes"] == {"sst2_sentences": read.hash}


def test_a_finished_adaptation_leaves_its_model_alone(tmp_path: Path) -> None:
    """With the loss by step; and nothing is taken that only happens to be called like a new backbone."""
    (tmp_path / "old.new").mkdir()
    there = tiny_checkpoint(tmp_path / "there", "llama")
    for backbone, out in (("cnn:width=8,filters=4", "made"), (str(there), "old")):
        adapt_to_tasks(
            start=Start(backbone=backbone),
            tasks=default_index().find("starter_topic_en"),
            settings=AdaptSettings(epochs=0.2, evaluations=1),
            options=DataAccess(offline=True),
            out=tmp_path / out,
            report=lambda _: None,
        )
        assert "loss" in json.loads((tmp_path / out / "training.jsonl").read_text().splitlines()[0])
    assert {file.name for file in tmp_path.iterdir()} == {"there", "made", "old", "old.new"}


@pytest.mark.parametrize("backbone", ["svm", "cnn"])
@pytest.mark.parametrize("option", ["from_scratch", "bidirectional"])
def test_options_of_a_backbone_that_is_there_are_refused_for_a_new_one(backbone: str, option: str) -> None:
    with pytest.raises(UsageError, match=r"a (causal )?backbone that is there"):
        Start(backbone=backbone, **{option: True})


@pytest.mark.parametrize("method", ["full", "probe", "lora"])
def test_a_model_that_learned_both_ways_is_read_so_ever_after(method: Adaptation, tmp_path: Path) -> None:
    there, out = tiny_checkpoint(tmp_path / "there", "llama"), tmp_path / "model"
    adapt_to_tasks(
        start=Start(backbone=str(there), bidirectional=True),
        tasks=default_index().find("starter_topic_en"),
        settings=AdaptSettings(method=method, epochs=1, evaluations=1),
        options=DataAccess(offline=True),
        out=out,
        report=lambda _: None,
    )
    model = load_model(out)
    assert (model.card.kind, model.card.family) == ("encoder", "llama")
    ids, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        states = [model.encode(row, mask)[0, 0] for row in (ids, ids + torch.tensor([0, 0, 1]))]
    assert not torch.equal(*states)
    assert read_provenance(out)["start"]["bidirectional"] == "yes"  # type: ignore[index]
    base = read_base(out)
    assert (base is not None) == (method == "lora")
    assert base is None or base.name == "there"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_export_of_it_answers_as_it_does(family: str, tmp_path: Path) -> None:
    """Llama's graph is built, GPT-2's as an encoder is traced."""
    adapt_to_tasks(
        start=Start(backbone=str(tiny_checkpoint(tmp_path / "there", family)), bidirectional=True),
        tasks=default_index().find("starter_topic_en"),
        settings=AdaptSettings(epochs=1, evaluations=1),
        options=DataAccess(offline=True),
        out=tmp_path / "model",
        report=lambda _: None,
    )
    export_and_prove(tmp_path / "model", out=tmp_path / "package", precision="fp32", texts=TEXTS, report=lambda _: None)
    proof = json.loads((tmp_path / "package" / "parity.json").read_text())
    assert proof["ok"] is True
    assert {check["graph"] for check in proof["checks"]} == {"head.starter_topic_en"}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_modernbert_is_adapted_and_exported_by_its_own_graph(method: Adaptation, tmp_path: Path) -> None:
    adapt_to_tasks(
        start=Start(backbone=str(tiny_checkpoint(tmp_path / "there", "modernbert"))),
        tasks=default_index().find("starter_topic_en"),
        settings=AdaptSettings(method=method, epochs=1, evaluations=1),
        options=DataAccess(offline=True),
        out=tmp_path / "model",
        report=lambda _: None,
    )
    export_and_prove(tmp_path / "model", out=tmp_path / "package", precision="fp32", texts=TEXTS, report=lambda _: None)
    made = load_package(tmp_path / "package")
    assert made.emitter_name == "modernbert"
    assert made.parity["ok"] is True
    assert {check["graph"] for check in made.parity["checks"]} == {"head.starter_topic_en"}  # type: ignore[attr-defined]


def _seen(folder: Path) -> TrainingRows:
    found = read_training_rows(training_rows_file(folder))
    assert found is not None
    return found


@pytest.mark.parametrize("method", ["full", "probe", "lora"])
def test_a_model_keeps_fingerprints_of_all_that_it_learned(method: Adaptation, tmp_path: Path) -> None:
    """Adapted twice, it has learned from both; its package says the same."""
    first, second = default_index().find("starter_topic_en,starter_sentiment_en")
    data = [
        load_task_data(task, options=DataAccess(), need=frozenset({"train", "validation"})) for task in (first, second)
    ]
    folders = [tiny_checkpoint(tmp_path / "there", "llama"), tmp_path / "one", tmp_path / "two"]
    for number, task in enumerate((first, second)):
        adapt_to_tasks(
            start=Start(backbone=str(folders[number])),
            tasks=[task],
            settings=AdaptSettings(method=method, epochs=0.2, evaluations=1),
            options=DataAccess(offline=True),
            out=folders[number + 1],
            report=lambda _: None,
            rows=10 if number else None,
        )
    assert read_training_rows(training_rows_file(folders[0])) is None
    assert data[0].train is not None
    assert data[0].validation is not None
    learned, chosen = hash_rows(first, data[0].train.rows).as_set(), hash_rows(first, data[0].validation.rows).as_set()
    one, two = _seen(folders[1]), _seen(folders[2])
    assert one.learned.rows.tolist() == learned.rows.tolist()
    assert one.chosen.rows.tolist() == chosen.rows.tolist()
    assert len(two.learned.rows) == len(one.learned.rows) + 10
    assert data[1].train is not None
    more = hash_rows(second, data[1].train.rows).as_set()
    assert set(two.learned.rows.tolist()) - set(one.learned.rows.tolist()) <= set(more.rows.tolist())
    assert _seen(folders[2] / "backbone").learned.rows.tolist() == two.learned.rows.tolist()
    if method == "lora":
        package = tmp_path / "package"
        export_and_prove(folders[2], out=package, precision="fp32", texts=TEXTS, report=lambda _: None)
        assert _seen(package).learned.rows.tolist() == two.learned.rows.tolist()
        assert TRAINING_ROWS in load_package(package).files


def test_random_weights_remember_no_rows(tmp_path: Path) -> None:
    (task,) = default_index().find("starter_topic_en")
    start = Start(backbone=str(tiny_checkpoint(tmp_path / "there", "llama")))
    for name, begun in (("one", start), ("two", Start(backbone=str(tmp_path / "one"), from_scratch=True))):
        adapt_to_tasks(
            start=begun,
            tasks=[task] if name == "one" else default_index().find("starter_sentiment_en"),
            settings=AdaptSettings(epochs=0.1, evaluations=1),
            options=DataAccess(offline=True),
            out=tmp_path / name,
            report=lambda _: None,
            rows=10,
        )
    assert len(_seen(tmp_path / "two").learned.rows) == 10
