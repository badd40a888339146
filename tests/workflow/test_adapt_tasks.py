"""Adapting to tasks: what is read in place of a data set that the mirror lacks, and how heads read."""

import json
from pathlib import Path

import pytest
import torch
from tiny import ARCHITECTURES, TEXTS, tiny_checkpoint, tiny_tokenizer
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from lmtasks.data.mirror import with_stand_ins
from lmtasks.data.row_hashes import TrainingRows, hash_rows, read_training_rows
from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.export.package import load_package
from lmtasks.model.files import copy_tokenizer
from lmtasks.model.model import Model
from lmtasks.model.store import load_model, read_provenance, training_rows_file
from lmtasks.model.weights import ADAPTERS, base_facts, read_base, write_base
from lmtasks.prove.export import export_and_prove
from lmtasks.records import TRAINING_ROWS
from lmtasks.settings.attention import Attention
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
        assert "loss" in json.loads((tmp_path / out / "training.jsonl").read_text().splitlines()[-1])
    assert {file.name for file in tmp_path.iterdir()} == {"there", "made", "old", "old.new"}


@pytest.mark.parametrize("backbone", ["svm", "cnn"])
def test_options_of_a_backbone_that_is_there_are_refused_for_a_new_one(backbone: str) -> None:
    with pytest.raises(UsageError, match="a backbone that is there"):
        Start(backbone=backbone, from_scratch=True)


MIXED = "starter_topic_en,starter_qa_en,starter_translation_en_zh"
"""Labels, spans, and texts that are written."""


def _adapted(
    start: Start,
    out: Path,
    *,
    tasks: str = MIXED,
    method: Adaptation = "full",
    epochs: float = 0.1,
    rows: int | None = 12,
) -> Model:
    adapt_to_tasks(
        start=start,
        tasks=default_index().find(tasks),
        settings=AdaptSettings(method=method, epochs=epochs, evaluations=1),
        options=DataAccess(offline=True),
        out=out,
        report=lambda _: None,
        rows=rows,
    )
    return load_model(out)


def _attention(model: Model) -> dict[str, Attention | None]:
    return {spec.kind: spec.attention for spec in model.card.heads}


def _sees_ahead(model: Model, head: str) -> bool:
    """Does the first state that a head reads depend on the last token?"""
    ids, mask, attention = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool), model.spec(head).attention
    with torch.no_grad():
        one, two = (model.encode(row, mask, attention=attention)[0, 0] for row in (ids, ids + torch.tensor([0, 0, 1])))
    return not torch.equal(one, two)


def _mixed_objective(folder: Path, *, later: str = "mixed") -> Path:
    """A causal backbone with the record of a pretraining both ways; the last of its stages may be another."""
    record = {"objective": later, "before": {"objective": "mixed", "before": None}}
    (tiny_checkpoint(folder, "llama") / "pretraining.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("method", ["full", "probe", "lora"])
def test_heads_of_one_model_read_each_in_its_own_way(method: Adaptation, tmp_path: Path) -> None:
    """Trained together; packed together; each proved; and read so ever after."""
    there, out, package = tiny_checkpoint(tmp_path / "there", "llama"), tmp_path / "model", tmp_path / "package"
    model = _adapted(Start(backbone=str(there), attention="both"), out, method=method)
    assert (model.card.kind, model.card.family) == ("causal", "llama")
    writes = {} if method == "probe" else {"generation": "causal"}
    assert _attention(model) == {"classification": "both", "span": "both", "generation": "causal"}
    assert {name: _sees_ahead(model, f"starter_{name}") for name in ("topic_en", "qa_en", "translation_en_zh")} == {
        "topic_en": True,
        "qa_en": True,
        "translation_en_zh": False,
    }
    made = read_provenance(out)
    assert made["start"]["attention"] == "both"  # type: ignore[index]
    learned = {task["attention"] for task in made["tasks"].values()}  # type: ignore[attr-defined]
    assert learned == {"both", *writes.values()}
    base = read_base(out)
    assert (base is not None) == (method == "lora")
    assert base is None or base.name == "there"
    export_and_prove(out, out=package, precision="fp32", texts=TEXTS, report=lambda _: None)
    proof = load_package(package)
    assert set(proof.graphs) == {"score", "decoder", "heads_both"}
    assert {check["graph"] for check in proof.parity["checks"]} == {  # type: ignore[attr-defined]
        *("head.starter_topic_en", "head.starter_qa_en", "score", "decoder")
    }


def test_a_backbone_that_was_pretrained_both_ways_is_read_so_by_default(tmp_path: Path) -> None:
    """By any stage; by heads that come later, over the model as well; and not where it is asked otherwise."""
    for number, (folder, asked, wanted) in enumerate(
        (
            (_mixed_objective(tmp_path / "mixed"), None, "both"),
            (_mixed_objective(tmp_path / "then causal", later="causal"), None, "both"),
            (tmp_path / "mixed", "causal", "causal"),
            (tiny_checkpoint(tmp_path / "plain", "llama"), None, "causal"),
        )
    ):
        model = _adapted(Start(backbone=str(folder), attention=asked), tmp_path / f"model {number}")  # type: ignore[arg-type]
        assert _attention(model) == {"classification": wanted, "span": wanted, "generation": "causal"}
    for name, start in (
        ("more", Start(backbone=str(tmp_path / "model 0"))),
        ("random", Start(backbone=str(tmp_path / "mixed"), from_scratch=True)),
    ):
        heads = _adapted(start, tmp_path / name, tasks="starter_sentiment_en").card.heads
        assert heads[-1].name == "starter_sentiment_en"
        assert heads[-1].attention == "both"


def test_heads_that_are_there_go_on_as_they_learned(tmp_path: Path) -> None:
    there = tiny_checkpoint(tmp_path / "there", "llama")
    _adapted(Start(backbone=str(there), attention="both"), tmp_path / "one")
    again = _adapted(Start(backbone=str(tmp_path / "one")), tmp_path / "two")
    assert _attention(again) == {"classification": "both", "span": "both", "generation": "causal"}
    with pytest.raises(UsageError, match=r"'starter_topic_en' of .* has learned to read both ways, and goes on so"):
        _adapted(Start(backbone=str(tmp_path / "one"), attention="causal"), tmp_path / "three")


@pytest.mark.parametrize(
    ("backbone", "attention", "tasks", "message"),
    [
        ("lstm:width=8,layers=1", "both", MIXED, "family lstm .causal. cannot read both ways: it carries a state"),
        (
            "bilstm:width=8",
            "causal",
            "starter_topic_en",
            "family bilstm .encoder. cannot read causally: the tokens",
        ),
        ("svm", "both", "starter_topic_en", "'svm' has none: it counts tokens"),
        ("ngram", "both", "starter_paragraphs_en", "'ngram' has none: it counts tokens"),
        ("bert", "causal", "starter_topic_en", "family bert .encoder. cannot read causally: the tokens of an encoder"),
        ("gpt_neo", "both", MIXED, "family gpt_neo .causal. cannot read both ways: gpt_neo shows a token those before"),
        ("llama", "both", "starter_translation_en_zh", "starter_translation_en_zh is answered by a head that writes"),
    ],
)
def test_an_attention_that_cannot_be_given_is_refused_with_the_reason(
    backbone: str, attention: Attention, tasks: str, message: str, tmp_path: Path
) -> None:
    if backbone == "gpt_neo":
        config = GPTNeoConfig(
            vocab_size=300,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            max_position_embeddings=64,
            attention_types=[[["global", "local"], 1]],
            bos_token_id=0,
            eos_token_id=0,
        )
        GPTNeoForCausalLM(config).save_pretrained(tmp_path / backbone)
        tiny_tokenizer().save(tmp_path / backbone)
    elif backbone in ARCHITECTURES:
        tiny_checkpoint(tmp_path / backbone, backbone)
    there = str(tmp_path / backbone) if (tmp_path / backbone).is_dir() else backbone
    with pytest.raises(UsageError, match=message) as error:
        _adapted(Start(backbone=there, attention=attention), tmp_path / "model", tasks=tasks)
    assert str(error.value).count(". ") <= 1
    assert not (tmp_path / "model").exists()


def test_nothing_reads_where_nothing_is_adapted(tmp_path: Path) -> None:
    there = tiny_checkpoint(tmp_path / "there", "llama")
    with pytest.raises(UsageError, match="prompt makes none; leave --attention out"):
        _adapted(Start(backbone=str(there), attention="both"), tmp_path / "model", method="prompt")


@pytest.mark.parametrize(
    ("head", "attention", "message"),
    [
        ("starter_translation_en_zh", "both", "starter_translation_en_zh is answered by a head that writes"),
        (
            "starter_topic_en",
            "sideways",
            "head 'starter_topic_en' reads 'sideways', which is no attention",
        ),
    ],
)
def test_a_model_whose_file_says_what_cannot_be_is_refused(
    head: str, attention: str, message: str, tmp_path: Path
) -> None:
    _adapted(Start(backbone=str(tiny_checkpoint(tmp_path / "there", "llama"))), tmp_path / "model")
    content = json.loads((tmp_path / "model" / "model.json").read_text())
    for each in content["card"]["heads"]:
        each["attention"] = attention if each["name"] == head else each["attention"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(content))
    (tmp_path / "model" / "checksums.json").unlink()
    with pytest.raises(UsageError, match=message):
        load_model(tmp_path / "model")


def test_a_model_that_was_turned_as_a_whole_is_read_as_it_was(tmp_path: Path) -> None:
    """Earlier versions wrote `is_causal: false` into its configuration, and called it an encoder."""
    there, out = tiny_checkpoint(tmp_path / "there", "llama"), tmp_path / "model"
    config = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps({**config, "is_causal": False, "architectures": ["LlamaModel"]}))
    model = _adapted(Start(backbone=str(there)), out, tasks="starter_topic_en")
    content = json.loads((out / "model.json").read_text())
    for head in content["card"]["heads"]:
        del head["attention"]  # as it was written then
    (out / "model.json").write_text(json.dumps(content))
    (out / "checksums.json").unlink()
    old = load_model(out)
    assert (old.card.kind, old.card.heads[0].attention) == ("encoder", None)
    assert _sees_ahead(old, "starter_topic_en")
    ids, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(*(each.head_logits("starter_topic_en", ids, mask) for each in (model, old)))
    export_and_prove(out, out=tmp_path / "package", precision="fp32", texts=TEXTS, report=lambda _: None)
    assert set(load_package(tmp_path / "package").graphs) == {"heads"}
    with pytest.raises(UsageError, match="cannot read causally: the tokens of an encoder"):
        _adapted(Start(backbone=str(out), attention="causal"), tmp_path / "again", tasks="starter_sentiment_en")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_turned_folder_that_refers_to_weights_elsewhere_is_adapted_further(
    method: Adaptation, tmp_path: Path
) -> None:
    """Earlier versions put it beside a model, and adapters over it refer to the same weights."""
    there, turned = tiny_checkpoint(tmp_path / "there", "llama"), tmp_path / "turned"
    (turned / ADAPTERS).mkdir(parents=True)
    write_base(turned, base=there, weights_hash=base_facts(there).hash)
    copy_tokenizer(there, turned)
    config = json.loads((there / "config.json").read_text())
    (turned / "config.json").write_text(json.dumps({**config, "is_causal": False, "architectures": ["LlamaModel"]}))
    model = _adapted(Start(backbone=str(turned)), tmp_path / "model", tasks="starter_topic_en", method=method)
    assert (model.card.kind, _sees_ahead(model, "starter_topic_en")) == ("encoder", True)
    base = read_base(tmp_path / "model")
    assert (None if base is None else base.name) == ("there" if method == "lora" else None)


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
