"""Families that are fitted at once, on the command line: adapt, eval, predict, and what they cannot do."""

import json
from pathlib import Path

import pytest
from said import Say
from test_new_families import TEXTS, value

from lmtasks.backbone.arpa import read_arpa
from lmtasks.backbone.closed_form import FITTED
from lmtasks.errors import UsageError
from lmtasks.model.store import card_of, read_provenance
from lmtasks.run.plan import load_plan
from lmtasks.workflow.bench import runtime_pairs
from lmtasks.workflow.choose_models import ChosenModel


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts.yaml").write_text(TEXTS)
    (tmp_path / "texts.jsonl").write_text('{"text": "a b c d"}\n' * 60)
    return tmp_path


@pytest.mark.parametrize("family", list(FITTED))
def test_a_family_is_fitted_to_labels_and_scored(say: Say, tmp_path: Path, family: str) -> None:
    settings = "ngram:order=2,fallback=1" if family == "ngram" else family
    told = ("--tasks", "starter_sentiment_en,starter_topic_zh", "--tokenizer", "characters:2000,nfkc,lower")
    adapted = say("adapt", "--backbone", settings, *told, "--out", tmp_path / "model")
    assert adapted.code == 0, adapted.err
    assert say("eval", "--model", tmp_path / "model", *told[:2], "--out", tmp_path / "out").code == 0
    assert value(tmp_path / "out", "starter_sentiment_en", "acc") > 0.55
    assert value(tmp_path / "out", "starter_topic_zh", "acc") > 0.4
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["runtime"]["runtime"] == "native"
    card = card_of(tmp_path / "model")
    assert (card.family, card.kind, [head.name for head in card.heads]) == (family, "encoder", told[1].split(","))
    kept = read_provenance(tmp_path / "model")
    assert kept["cleaning"] == ["nfkc", "lower"]
    said = say("predict", "--model", tmp_path / "model", "--tasks", "starter_sentiment_en", "A wonderful film.")
    assert said.out.strip() in ("negative", "positive")
    assert not (tmp_path / "model.new").exists()


def test_a_running_text_is_counted_scored_and_continued(say: Say, texts: Path) -> None:
    told = ("adapt", "--backbone", "ngram:order=3,fallback=1", "--tokenizer", "blanks", "--tasks", texts / "texts.yaml")
    assert say(*told, "--out", texts / "model").code == 0
    assert say("eval", "--model", texts / "model", "--tasks", texts / "texts.yaml", "--out", texts / "out").code == 0
    assert value(texts / "out", "letters", "token_perplexity") < 1.1
    assert say("predict", "--model", texts / "model", "--new-tokens", 2, "a b").out.split() == ["c", "d"]
    assert card_of(texts / "model").kind == "causal"
    written = say("export", "--model", texts / "model", "--out", texts / "model.arpa.gz")
    assert written.code == 0, written.err
    again, words = read_arpa(texts / "model.arpa.gz")
    assert again.order == 3
    assert {"a", "b", "c", "d", "</s>"} < set(words)
    back = say("export", "--model", texts / "model.arpa.gz", "--out", texts / "again")
    assert back.code == 0, back.err
    for name in ("model", "again"):
        scored = say("eval", "--model", texts / name, "--tasks", texts / "texts.yaml", "--out", texts / f"{name}.out")
        assert scored.code == 0, scored.err
    for metric in ("token_perplexity",):
        both = [value(texts / f"{name}.out", "letters", metric) for name in ("model", "again")]
        assert both[0] == pytest.approx(both[1], rel=1e-5), metric
    assert say("predict", "--model", texts / "again", "--new-tokens", 2, "a b").out.split() == ["c", "d"]
    refused = say("eval", "--model", texts / "model.arpa.gz", "--tasks", texts / "texts.yaml", "--out", texts / "no")
    assert (refused.code, "lmtasks export --model" in refused.err) == (2, True)
    unfit = say("export", "--model", texts / "texts", "--out", texts / "other.arpa")
    assert unfit.code == 2


def test_what_a_family_cannot_be_is_said(say: Say, texts: Path) -> None:
    task = ("--tasks", texts / "texts.yaml")
    for arguments, message in (
        (
            ("--backbone", "tfidf", *task),
            "tfidf cannot be adapted to 'letters', a generation head: it gives a whole text",
        ),
        (
            ("--backbone", "ngram", "--method", "lora", *task),
            "ngram counts its text once, without steps: use --method full",
        ),
        (("--backbone", "ngram", "--vectors", texts / "v.txt", *task), "leave --vectors out"),
        (
            ("--backbone", "ngram:order=9", "--tokenizer", "blanks", *task),
            "shorter than the order: its longest line has 5",
        ),
        (("--backbone", "ngram:order=2", "--tokenizer", "blanks", *task), "no Kneser-Ney discounts of order 1"),
        (("--backbone", "ngram:ordr=2", *task), "did you mean 'order'"),
        (("--backbone", "tfidf", "--tokenizer", "words:9,stop=xx", *task), "unknown stop words 'xx'"),
    ):
        said = say("adapt", *arguments, "--out", texts / "model")
        assert (said.code, message in said.err) == (2, True), said.err
    assert say("adapt", "--backbone", "ngram:fallback=1", *task, "--out", texts / "model").code == 0
    exported = say("export", "--model", texts / "model", "--out", texts / "package")
    assert (exported.code, "runs in native alone" in exported.err) == (2, True), exported.err
    torch = say("eval", "--model", texts / "model", "--runtime", "torch", *task, "--out", texts / "out")
    assert (torch.code, "runs in native alone" in torch.err) == (2, True), torch.err
    again = say("adapt", "--backbone", texts / "model", *task, "--out", texts / "other")
    assert (again.code, "runs in native alone" in again.err) == (2, True), again.err


def test_lists_name_them(say: Say) -> None:
    assert all(name in say("list", "backbones").out for name in FITTED)
    assert "stop=zh" in say("list", "cleaning").out
    assert "native" in say("list", "runtimes").out


def test_bench_and_plans_run_a_fitted_model_in_its_own_runtime(say: Say, tmp_path: Path) -> None:
    """`bench --model SVM` wanted `--runtime native`, and said that torch does not run it."""
    told = ("--tasks", "starter_sentiment_en", "--out", tmp_path / "svm")
    assert say("adapt", "--backbone", "svm", *told).code == 0
    chosen = ChosenModel(ref="svm", label="svm", folder=tmp_path / "svm")
    assert [name for _, name in runtime_pairs([chosen], [])] == ["native"]
    with pytest.raises(UsageError, match=r"fitted at once .* none of the runtimes torch, onnx runs; it runs on native"):
        runtime_pairs([chosen], ["torch", "onnx"])
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"plan: p\ntasks: [starter_sentiment_en]\nvariants: [{{name: v, model: '{tmp_path / 'svm'}'}}]\n")
    assert load_plan(plan).variants[0].runtime == "native"
