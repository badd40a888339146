"""Values that a task makes itself (`process_results`), aggregated with lm-evaluation-harness' meaning (0.4.13).

An aggregation takes one value for each example: a number (`mean`, `nanmean`, `median`, `perplexity`), a pair of
log-probability and units (`weighted_perplexity`, `bits_per_byte`), of truth and answer (`f1`, `matthews_corrcoef`), of
truth and probabilities (`brier_score`), of reference(s) and text (`bleu`, `chrf`, `chrf++`, `ter`); `bypass` looks at
nothing and is 999. Or it is a function of the task's own, of the list of all values; then they are kept as they are.

An example for which the task made no such value is left out, as there; its row of statistics is not a number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import TypeVar, cast

import numpy as np

from lmtasks.errors import WorkError, code_failed, unknown
from lmtasks.lm_eval_names import IMPLIED_AGGREGATION
from lmtasks.metric import classes, text_overlap
from lmtasks.metric.base import IDENTITY, Formula, MetricSettings, Rate, first_column, of_rows, only, ratio
from lmtasks.metric.likelihood import BITS, PERPLEXITY, likelihood_formula, likelihood_row
from lmtasks.records import Bools, CustomValues, Floats, Outcome, Text

T = TypeVar("T")

Aggregation = Callable[[list[object]], object]
"""A task's own: the values of all examples -> a number."""
BYPASSED = 999.0
Weighted = Callable[[Floats, Floats], Floats]


class _Missing:
    """Stands where a task made no value for an example."""

    def __repr__(self) -> str:
        return "no value"


MISSING = _Missing()


def present(statistics: Floats) -> Bools:
    """(N, K) -> (N,): has the example a value?"""
    if statistics.dtype == object:
        return np.array([item is not MISSING for item in statistics[:, 0].tolist()], dtype=np.bool_)
    return np.logical_not(np.isnan(statistics).any(axis=1))


def items_of(name: str, outcomes: Sequence[Outcome]) -> list[object]:
    """The values of that name, MISSING where there is none."""
    return [outcome.values.get(name, MISSING) for outcome in only(CustomValues, outcomes)]


def table_of(
    name: str, outcomes: Sequence[Outcome], *, wanted: str, read: Callable[[object], Sequence[float]]
) -> Floats:
    """(N, K): what `read` makes of each value; not a number where there is none.

    Raises:
        WorkError: a value is not what is wanted.
    """
    items = items_of(name, outcomes)
    there = [place for place, item in enumerate(items) if item is not MISSING]
    rows = [checked(name, items[place], wanted=wanted, read=read) for place in there]
    table = np.full((len(items), len(rows[0]) if rows else 1), np.nan)
    if rows:
        table[there] = np.array(rows, dtype=np.float64)
    return table


def checked(name: str, item: object, *, wanted: str, read: Callable[[object], T]) -> T:
    """Read a value.

    Raises:
        WorkError: the value is not what is wanted.
    """
    try:
        return read(item)
    except (TypeError, ValueError, IndexError) as error:
        raise WorkError(f"{name}: the task made the value {item!r:.200}; its aggregation takes {wanted}.") from error


def number(item: object) -> float:
    """A number, of NumPy or Python; True is 1."""
    if isinstance(item, bool | int | float | np.number | np.bool_):
        return float(item)
    if isinstance(item, np.ndarray) and item.size == 1:
        return float(item.item())
    raise TypeError("no number")


def is_number(item: object) -> bool:
    """Can `number` read it?"""
    try:
        number(item)
    except TypeError:
        return False
    return True


def pair(item: object) -> tuple[object, object]:
    """Two values."""
    first, second = several(item)
    return first, second


def several(item: object) -> list[object]:
    """The values of a list, a tuple or an array."""
    if isinstance(item, np.ndarray):
        return list(item)
    if isinstance(item, list | tuple):
        return list(item)
    raise TypeError("no list")


def label(item: object) -> float:
    """A number that stands for a label: a number is itself, any other value a large negative number made from it.

    >>> label(True), label(2), label("entailment") < -(2**50), label("a") == label("b")
    (1.0, 2.0, True, False)
    """
    try:
        return number(item)
    except TypeError:
        digest = blake2b(repr(item).encode("utf-8", "surrogatepass"), digest_size=6).digest()
        return -float((1 << 50) + int.from_bytes(digest, "big"))


def custom_formula(name: str, aggregation: str | Aggregation | None = None) -> Formula:
    """The formula of the values of that name.

    Raises:
        UsageError: there is no aggregation of that name.
    """
    if callable(aggregation):
        return _foreign(name, aggregation)
    chosen = aggregation or IMPLIED_AGGREGATION.get(name, "mean")
    if chosen not in AGGREGATIONS:
        raise unknown(f"aggregation of {name}", chosen, AGGREGATIONS)
    formula = AGGREGATIONS[chosen](name)
    own = formula.per_example

    def per_example(rows: Floats) -> Floats:
        values = np.full(len(rows), np.nan)
        there = present(rows)
        if there.any():
            values[there] = own(rows[there])
        return values

    signature = f"values:made-by-task|aggregation:{chosen}|{formula.signature}".rstrip("|")
    return replace(formula, per_example=per_example, signature=signature, original=chosen)


def _mean(name: str) -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        table = _numbers(name, outcomes)
        return np.where(np.isnan(table), np.nan, np.hstack([table, np.ones_like(table)]))

    return _means(statistics)


def _means(statistics: Callable[[Sequence[Outcome]], Floats]) -> Formula:
    return Formula(
        kind="mean", statistics=statistics, aggregate=ratio, per_example=first_column, signature="", rate=IDENTITY
    )


def _nanmean(name: str) -> Formula:
    def read(item: object) -> tuple[float, float]:
        value = number(item)
        return (0.0, 0.0) if np.isnan(value) else (value, 1.0)

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        return _wide(table_of(name, outcomes, wanted="a number", read=read), 2)

    return Formula(kind="ratio", statistics=statistics, aggregate=ratio, per_example=ratio, signature="", rate=IDENTITY)


def _median(name: str) -> Formula:
    def weighted(rows: Floats, weights: Floats) -> Floats:
        order = np.argsort(rows[:, 0], kind="stable")
        upto = np.cumsum(weights[:, order], axis=1)
        # Of n sorted values the one at n // 2, as there: of an even number the upper middle one.
        place = (upto <= np.floor(upto[:, -1:] / 2)).sum(axis=1)
        result: Floats = rows[order, 0][place]
        return result

    return _of_rows(weighted, lambda outcomes: _numbers(name, outcomes), first_column)


def _likelihood(name: str, *, rate: Rate, pairs: bool) -> Formula:
    def read(item: object) -> Sequence[float]:
        logprob, units = map(number, pair(item)) if pairs else (number(item), 1.0)
        if np.isnan(logprob):
            raise ValueError("no log-probability")
        return likelihood_row(logprob, units)

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        wanted = "a pair of log-probability and units" if pairs else "a log-probability"
        return _wide(table_of(name, outcomes, wanted=wanted, read=read), 2)

    return likelihood_formula(statistics, rate, signature="")


def _labels(name: str, *, weighted: Weighted, signature: str) -> Formula:
    def read(item: object) -> tuple[float, float]:
        truth, answer = pair(item)
        return label(truth), label(answer)

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        return _wide(table_of(name, outcomes, wanted="a pair of truth and answer", read=read), 2)

    return replace(_of_rows(weighted, statistics, classes.right), signature=signature)


def _brier(name: str) -> Formula:
    def read(item: object) -> tuple[float, float]:
        gold, given = pair(item)
        distance = np.array(list(map(number, several(given))))
        distance[int(number(gold))] -= 1.0
        return float(np.square(distance).sum()), 1.0

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        wanted = "a pair of the right choice's number and the probabilities of all"
        return _wide(table_of(name, outcomes, wanted=wanted, read=read), 2)

    return _means(statistics)


def _translation(name: str, *, build: Callable[[MetricSettings], Formula]) -> Formula:
    formula = build(MetricSettings(options={}))

    def read(item: object) -> Text:
        golds, given = pair(item)
        (answer,) = several(given) if isinstance(given, list | tuple) else [given]
        wanted = several(golds) if isinstance(golds, list | tuple) else [golds]
        return Text(references=tuple(map(str, wanted)), prediction=str(answer))

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        items = items_of(name, outcomes)
        blank = Text(references=("",), prediction="")
        texts = [
            blank if item is MISSING else checked(name, item, wanted="a pair of reference(s) and a text", read=read)
            for item in items
        ]
        table = formula.statistics(texts)
        table[[item is MISSING for item in items]] = np.nan
        return table

    return replace(formula, statistics=statistics)


def _bypass(name: str) -> Formula:
    return _of_rows(
        lambda rows, weights: np.full(len(weights), BYPASSED),
        lambda outcomes: np.zeros((len(items_of(name, outcomes)), 1)),
        lambda rows: np.full(len(rows), BYPASSED),
    )


def _foreign(name: str, aggregation: Aggregation) -> Formula:
    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        items = items_of(name, outcomes)
        table = np.empty((len(items), 1), dtype=object)
        table[:, 0] = items
        # Rows of any other metric are numbers; these are what the task made, kept for its own function.
        return cast("Floats", table)

    def called(items: list[object]) -> float:
        try:
            return number(aggregation(items))
        except (ImportError, SystemExit) as error:
            raise code_failed(f"{name}: the task's own aggregation", error) from error
        except Exception as error:
            raise WorkError(
                f"{name}: the task's own aggregation failed on {len(items)} values: {type(error).__name__}: {error}."
            ) from error

    def weighted(rows: Floats, weights: Floats) -> Floats:
        items = rows[:, 0].tolist()
        drawn = np.rint(weights).astype(np.int64)
        places = [np.repeat(np.arange(len(items)), counts).tolist() for counts in drawn]
        return np.array([called([items[place] for place in each]) for each in places])

    def per_example(rows: Floats) -> Floats:
        return np.array([_number_or_nan(item) for item in rows[:, 0].tolist()])

    return replace(_of_rows(weighted, statistics, per_example), signature="values:made-by-task|aggregation:own")


def _of_rows(
    weighted: Weighted, statistics: Callable[[Sequence[Outcome]], Floats], per_example: Callable[[Floats], Floats]
) -> Formula:
    return of_rows(weighted, statistics=statistics, per_example=per_example, signature="")


def _numbers(name: str, outcomes: Sequence[Outcome]) -> Floats:
    """(N, 1)."""

    def read(item: object) -> tuple[float]:
        value = number(item)
        if np.isnan(value):
            raise ValueError("only nanmean leaves such values out")
        return (value,)

    return table_of(name, outcomes, wanted="a number (nanmean also takes what is none)", read=read)


def _wide(table: Floats, columns: int) -> Floats:
    """With as many columns, where no example of a chunk had a value."""
    return table if table.shape[1] == columns else np.full((len(table), columns), np.nan)


def _number_or_nan(item: object) -> float:
    try:
        return number(item)
    except TypeError:
        return float("nan")


AGGREGATIONS: Mapping[str, Callable[[str], Formula]] = {
    "mean": _mean,
    "nanmean": _nanmean,
    "median": _median,
    "perplexity": partial(_likelihood, rate=PERPLEXITY, pairs=False),
    "weighted_perplexity": partial(_likelihood, rate=PERPLEXITY, pairs=True),
    "bits_per_byte": partial(_likelihood, rate=BITS, pairs=True),
    "f1": partial(_labels, weighted=classes.positive_f1, signature=classes.F1_SIGNATURE),
    "matthews_corrcoef": partial(_labels, weighted=classes.correlation, signature=classes.MCC_SIGNATURE),
    "brier_score": _brier,
    "bleu": partial(_translation, build=text_overlap.bleu),
    "chrf": partial(_translation, build=text_overlap.chrf),
    "chrf++": partial(_translation, build=text_overlap.chrf_plus_plus),
    "ter": partial(_translation, build=text_overlap.ter),
    "bypass": _bypass,
}
"""lm-evaluation-harness' aggregations, by its names."""
