"""Corpus scores equal sacrebleu's own entry points, and resamples of statistics equal resamples of texts."""

import time

import numpy as np
import pytest
import sacrebleu

from lmtasks.metric import estimate, make_metric, value_of
from lmtasks.records import Outcome, Text

from .examples import texts

THEIRS = {
    "bleu": lambda given, golds: sacrebleu.corpus_bleu(given, golds).score,
    "bleu_zh": lambda given, golds: sacrebleu.corpus_bleu(given, golds, tokenize="zh").score,
    "chrf": lambda given, golds: sacrebleu.corpus_chrf(given, golds).score,
    "chrf++": lambda given, golds: sacrebleu.corpus_chrf(given, golds, word_order=2).score,
    "ter": lambda given, golds: sacrebleu.corpus_ter(given, golds).score,
}


def value(name: str, outcomes: list[Outcome]) -> float:
    metric = make_metric(name)
    return value_of(metric, metric.statistics(outcomes))


def split(outcomes: list[Outcome]) -> tuple[list[str], list[list[str | None]]]:
    found = [outcome for outcome in outcomes if isinstance(outcome, Text)]
    most = max(len(text.references) for text in found)
    streams = [[text.references[k] if k < len(text.references) else None for text in found] for k in range(most)]
    return [text.prediction for text in found], streams


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("chinese", [False, True])
def test_equals_sacrebleu(name: str, chinese: bool) -> None:
    outcomes = texts(40, chinese=chinese)
    assert value(name, outcomes) == THEIRS[name](*split(outcomes))


@pytest.mark.parametrize("name", THEIRS)
def test_several_references_of_varying_number(name: str) -> None:
    outcomes = [*texts(10, references=3), *texts(10, references=1, seed=1), *texts(10, references=2, seed=2)]
    # TER adds fractions (mean lengths of references), in another order than sacrebleu: the last bit may differ.
    assert value(name, outcomes) == pytest.approx(THEIRS[name](*split(outcomes)), rel=1e-14)


@pytest.mark.parametrize("name", THEIRS)
def test_a_resample_of_statistics_is_a_resample_of_texts(name: str) -> None:
    outcomes = texts(20)
    metric = make_metric(name)
    rows = metric.statistics(outcomes)
    drawn = np.random.default_rng(0).integers(20, size=(4, 20))
    ours = metric.aggregate(np.stack([rows[places].sum(axis=0) for places in drawn]))
    theirs = [THEIRS[name](*split([outcomes[place] for place in places])) for places in drawn]
    assert ours.tolist() == theirs


def test_known_value() -> None:
    # sacrebleu's README, "Using SacreBLEU from Python": bleu.corpus_score(sys, refs) = 48.53, chrf 59.73.
    golds = [
        ("The dog bit the man.", "The dog had bit the man."),
        ("It was not unexpected.", "No one was surprised."),
        ("The man bit him first.", "The man had bitten the dog."),
    ]
    given = ("The dog bit the man.", "It wasn't surprising.", "The man had just bitten him.")
    outcomes: list[Outcome] = [
        Text(references=gold, prediction=prediction) for gold, prediction in zip(golds, given, strict=True)
    ]
    assert round(value("bleu", outcomes), 2) == 48.53
    assert round(value("chrf", outcomes), 2) == 59.73


def test_the_value_of_an_example_is_the_sentence_score() -> None:
    outcomes = texts(10)
    given, (golds,) = split(outcomes)
    theirs = {
        "bleu": lambda p, g: sacrebleu.sentence_bleu(p, [g]).score,
        "chrf": lambda p, g: sacrebleu.sentence_chrf(p, [g]).score,
        "ter": lambda p, g: sacrebleu.sentence_ter(p, [g]).score,
    }
    for name, score in theirs.items():
        metric = make_metric(name)
        found = metric.per_example(metric.statistics(outcomes)).tolist()
        assert found == [score(p, g) for p, g in zip(given, golds, strict=True)]


def test_signature_is_sacrebleus() -> None:
    version = f"version:{sacrebleu.__version__}"
    assert make_metric("bleu").signature == f"nrefs:all|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert "tok:zh" in make_metric("bleu_zh").signature
    assert "nw:2" in make_metric("chrf++").signature
    assert "case:lc" in make_metric("ter").signature


def test_a_thousand_resamples_of_a_thousand_sentences_take_about_a_second() -> None:
    metric = make_metric("bleu")
    rows = np.tile(metric.statistics(texts(100)), (10, 1))
    start = time.perf_counter()
    estimate(metric, rows, resamples=1000)
    assert time.perf_counter() - start < 2.0  # 0.05 s measured on one core
