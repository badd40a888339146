"""Every line of the table keeps the contract of `Metric`; names, kinds and options are checked at the door."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lmtasks.errors import UsageError, WorkError
from lmtasks.metric import METRICS, Metric, compare, concatenate, estimate, make_metric, value_of
from lmtasks.metric.base import resampled
from lmtasks.metric.interval import RANGES
from lmtasks.records import Choice, Outcome, OutcomeKind, Text

from .examples import choices, likelihoods, of_kind, texts, value

LINES: list[tuple[str, OutcomeKind]] = [(name, kind) for name, spec in METRICS.items() for kind in spec.takes]

TAGS = frozenset({"entity_f1", "role_f1", "tag_acc"})
"""Texts are sequences of tags, as many as there are words; any other text is refused."""
TEXTS = [name for name, kind in LINES if kind == "text" and name not in TAGS]

UNBOUNDED_OR_SIGNED = {
    **dict.fromkeys(("ter", "wer", "cer"), (0.0, math.inf)),
    **dict.fromkeys(("mcc", "pearson", "spearman"), (-1.0, 1.0)),
}


def some(metric: Metric, n: int) -> list[Outcome]:
    """Outcomes that the metric scores; of rankings with as many choices as they look at."""
    if metric.name.startswith("squad_noans"):
        return [replace(text, references=()) for text in texts(n) if isinstance(text, Text)]
    wide = metric.name.startswith("recall_") and metric.takes == "choice"
    return choices(n, classes=120) if wide else of_kind(metric.takes, n)


@pytest.fixture(params=LINES, ids=lambda line: "-".join(line))
def metric(request: pytest.FixtureRequest) -> Metric:
    name, kind = request.param
    return make_metric(name, takes=kind)


def test_statistics_do_not_depend_on_the_chunk(metric: Metric) -> None:
    outcomes = some(metric, 12)
    rows = metric.statistics(outcomes)
    assert rows.shape[0] == 12
    assert rows.dtype == np.float64
    for size in (1, 5):
        parts = [metric.statistics(outcomes[start : start + size]) for start in range(0, 12, size)]
        assert np.array_equal(rows, concatenate(metric, parts))
    assert estimate(metric, rows).value == value(metric, outcomes) == value_of(metric, rows)


def test_weights_are_repeated_examples(metric: Metric) -> None:
    """A row that counts twice is an example that stands there twice: what every resample rests on."""
    outcomes = some(metric, 12)
    rows = metric.statistics(outcomes)
    counts = np.random.default_rng(0).integers(4, size=(5, 12))
    expected = [value_of(metric, np.repeat(rows, times, axis=0)) for times in counts]
    found = resampled(metric, rows, counts.astype(float)).tolist()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    if metric.kind != "rows":
        assert metric.aggregate(counts @ rows).tolist() == pytest.approx(expected, rel=1e-12)


def test_order_does_not_matter(metric: Metric) -> None:
    outcomes = some(metric, 12)
    assert value(metric, outcomes[::-1]) == pytest.approx(value(metric, outcomes), rel=1e-12)


def test_values_are_numbers_in_range(metric: Metric) -> None:
    outcomes = some(metric, 30)
    rows = metric.statistics(outcomes)
    lowest, highest = UNBOUNDED_OR_SIGNED.get(metric.name, RANGES[metric.scale])
    for found in (*metric.per_example(rows).tolist(), value(metric, outcomes)):
        assert lowest <= found <= highest + 1e-9
    assert metric.per_example(rows).shape == (30,)
    result = estimate(metric, rows, resamples=200)
    assert result.stderr is not None
    assert result.stderr >= 0
    assert result.ci95 is not None
    assert result.ci95[0] <= result.value <= result.ci95[1]


def test_means_are_the_mean_of_their_examples(metric: Metric) -> None:
    outcomes = some(metric, 12)
    rows = metric.statistics(outcomes)
    if metric.kind == "mean":
        assert value(metric, outcomes) == pytest.approx(float(metric.per_example(rows).mean()), rel=1e-12)
        assert np.array_equal(rows[:, 1], np.ones(12))


def test_one_example_has_a_value_and_no_uncertainty(metric: Metric) -> None:
    rows = metric.statistics(some(metric, 1))
    result = estimate(metric, rows)
    assert math.isfinite(result.value)
    assert result.stderr is None
    assert result.ci95 is None
    assert compare(metric, rows, rows).ci95 is None


def test_no_example_is_an_error(metric: Metric) -> None:
    with pytest.raises(WorkError, match="no examples"):
        metric.statistics([])
    with pytest.raises(WorkError, match="no examples"):
        estimate(metric, np.zeros((0, 2)))


def test_outcomes_of_another_kind_are_refused(metric: Metric) -> None:
    other: OutcomeKind = "likelihood" if metric.takes != "likelihood" else "text"
    with pytest.raises(UsageError, match="was given"):
        metric.statistics(of_kind(other, 2))


def test_a_system_does_not_differ_from_itself(metric: Metric) -> None:
    rows = metric.statistics(some(metric, 12))
    result = compare(metric, rows, rows, resamples=100)
    assert (result.difference, result.p_value, result.wins, result.ties, result.losses) == (0.0, 1.0, 0, 12, 0)
    assert result.ci95 is not None
    low, high = result.ci95
    assert low == pytest.approx(-high)  # of shares as wide as twelve examples leave it (Tango)
    assert high in (0.0, pytest.approx(24.25, abs=0.01))


def test_it_says_its_conditions(metric: Metric) -> None:
    assert all(":" in part for part in metric.signature.split("|"))
    assert METRICS[metric.name].description
    assert METRICS[metric.name].higher_is_better == metric.higher_is_better


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("prediction", ["", " \n", "。", "!!!", "\u200b", "a\ud83d\ude00b"])
def test_odd_predictions_score(name: str, language: str, prediction: str) -> None:
    metric = make_metric(name, language=language)
    golds = [("the cat sat",), ("今天天气很好。", "很好"), ()]
    rows = metric.statistics([Text(references=gold, prediction=prediction) for gold in golds])
    assert np.isfinite(rows).all()
    assert np.isfinite(metric.per_example(rows)).all()
    assert np.isfinite(value_of(metric, rows))


@pytest.mark.parametrize("name", [name for name, kind in LINES if kind == "text"])
def test_perfect_answers_are_best(name: str) -> None:
    metric = make_metric(name)
    right = "" if name.startswith("squad_noans") else "one two three four five"
    rows = metric.statistics([Text(references=(right,) if right else (), prediction=right)] * 3)
    best = {"fraction": 1.0, "points": 100.0}[metric.scale] if metric.higher_is_better else 0.0
    assert value_of(metric, rows) == pytest.approx(best)


def test_a_name_kind_or_option_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'bleau'; did you mean 'bleu'"):
        make_metric("bleau")
    with pytest.raises(UsageError, match="bleu scores text, not choice; for choice use acc, acc_bytes"):
        make_metric("bleu", takes="choice")
    with pytest.raises(UsageError, match="bleu takes no options, was given 'lowercase'"):
        make_metric("bleu", options={"lowercase": True})
    with pytest.raises(UsageError, match=r"unknown option of exact_match 'ignore_cases'; did you mean 'ignore_case'"):
        make_metric("exact_match", options={"ignore_cases": True})
    with pytest.raises(UsageError, match="unknown language of squad_em and squad_f1 'de'"):
        make_metric("squad_f1", language="de")


def test_where_nobody_says_the_kind() -> None:
    assert make_metric("acc").takes == "choice"
    assert make_metric("exact_match").takes == "text"


def test_the_names_that_task_files_use() -> None:
    """lm-evaluation-harness 0.4.13's names (those that our outcomes can answer), and ours."""
    theirs = {
        "acc",
        "acc_norm",
        "acc_bytes",
        "acc_mutual_info",
        "f1",
        "mcc",
        "brier_score",
        "exact_match",
        "bleu",
        "chrf",
        "chrf++",
        "ter",
    }
    theirs |= {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"}
    ours = {
        "sql_match",
        "macro_f1",
        "micro_f1",
        "weighted_f1",
        "ece",
        "squad_em",
        "squad_f1",
        "bleu_zh",
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum",
    }
    ours |= {"preference", "preference_gap", "label_gap", "distance", "answers_differ"}
    ours |= {"wer", "cer", "distinct_1", "distinct_2", "repetition", "token_perplexity", *TAGS}
    ours |= {"acc_letters"}
    ours |= {"lrap", "subset_acc", "pearson", "spearman", "mae", "rmse"}
    ours |= {"recall_1", "recall_2", "recall_5", "recall_10", "recall_100", "mrr", "ndcg_10"}
    ours |= {f"squad_{part}_{name}" for part in ("hasans", "noans") for name in ("em", "f1")}
    assert set(METRICS) == theirs | ours


def test_importing_metrics_loads_no_heavy_library() -> None:
    script = (
        "import sys, lmtasks.metric; lmtasks.metric.make_metric('acc');"
        "print([m for m in ('sklearn', 'sacrebleu', 'rouge_score', 'nltk', 'scipy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scores_that_are_not_numbers_are_no_answers() -> None:
    broken = Choice(gold=(0,), scores=(-1.0, math.nan), chars=(1, 1), bytes=(1, 1))
    for name in ("acc", "acc_norm", "macro_f1", "brier_score"):
        with pytest.raises(WorkError, match="example 0"):
            make_metric(name).statistics([broken])


def test_statistics_do_not_change_what_they_read() -> None:
    metric = make_metric("token_perplexity")
    rows = metric.statistics(likelihoods(8))
    kept = rows.copy()
    estimate(metric, rows, resamples=10)
    compare(metric, rows, rows[::-1], resamples=10)
    assert np.array_equal(rows, kept)


def test_several_references_count_for_every_text_metric() -> None:
    """A second reference equal to the prediction makes the answer perfect wherever references matter."""
    free = {"distinct_1", "distinct_2", "repetition", "squad_noans_em", "squad_noans_f1"}  # these: no answer is right
    for name in set(TEXTS) - free:
        metric = make_metric(name)
        outcomes: list[Outcome] = [
            Text(references=(*text.references, text.prediction), prediction=text.prediction)
            for text in texts(5)
            if isinstance(text, Text)
        ]
        best = {"fraction": 1.0, "points": 100.0}[metric.scale] if metric.higher_is_better else 0.0
        assert value(metric, outcomes) == pytest.approx(best), name
