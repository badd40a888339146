"""Inputs of aggregations that are not the metric's own, as lm-evaluation-harness 0.4.13 has them.

Metrics that are means hand over their values. Of the others an example's value is a pair, or a log-probability:

f1, mcc            (right choice, answered choice); brier_score and likelihood (right choice, probabilities of all)
perplexity         the log-probability of the text; per word or byte (log-probability, words or bytes)
of a written text  [right answer, answer], for each metric whose function returns what it is given

An aggregation of the task's own then sees what it would see there: `[(0, 0), (1, 2)]` for two rows of three choices.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.lm_eval_names import PASSED_ON
from lmtasks.metric.base import Formula, only, references
from lmtasks.metric.choice import answers, probabilities
from lmtasks.metric.custom_aggregations import Aggregation, custom_formula
from lmtasks.records import Choice, CustomValues, Floats, Likelihood, Outcome, OutcomeKind, Text

Items = Callable[[Sequence[Outcome]], Sequence[object]]

NOT_A_CHOICE = -100
"""The harness' right choice where there is none."""


@dataclass(frozen=True, kw_only=True)
class AggregationInput:
    """Input of an aggregation, by a metric's name."""

    items: Items
    """Of each example."""
    value: Callable[[object], float] | None = None
    """Of one example, where a pair has one; else a number is its own value, and a pair has none."""
    fits: frozenset[str]
    """Aggregations by name that can do something with it; a task's own function is handed anything."""


def aggregation_input(name: str, kind: OutcomeKind) -> AggregationInput | None:
    """The input of aggregations for outcomes of that kind; None where that is one number, or there is none."""
    return AGGREGATION_INPUTS.get(kind, {}).get(name)


def formula_of_input(name: str, given_input: AggregationInput, aggregation: str | Aggregation) -> Formula:
    """The formula of an aggregation of what is handed over.

    Raises:
        UsageError: the aggregation takes something else.
    """
    if not callable(aggregation) and aggregation not in given_input.fits:
        raise UsageError(
            f"{name} cannot be aggregated by {aggregation}; a function of the task's own can, or one of: "
            f"{', '.join(sorted(given_input.fits))}."
        )
    formula = custom_formula(name, aggregation)

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        return formula.statistics([CustomValues(values={name: item}) for item in given_input.items(outcomes)])

    found = replace(formula, statistics=statistics, signature=formula.signature.replace("made-by-task", "handed-on"))
    value = given_input.value
    if value is None or not callable(aggregation):
        return found
    return replace(found, per_example=lambda rows: np.array([value(item) for item in rows[:, 0].tolist()]))


def reaggregated_formula(name: str, formula: Formula, aggregation: str | Aggregation) -> Formula:
    """A metric that is a mean, its values aggregated otherwise.

    Raises:
        UsageError: there is no aggregation of that name.
    """
    other = custom_formula(name, aggregation)

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        values = formula.per_example(formula.statistics(outcomes)).tolist()
        return other.statistics([CustomValues(values={name: value}) for value in values])

    return replace(other, statistics=statistics, signature=f"{formula.signature}|{other.signature}")


def _choices(outcomes: Sequence[Outcome]) -> list[object]:
    choices = only(Choice, outcomes)
    return list(zip(map(_gold, choices), answers(choices).tolist(), strict=True))


def _is_right(pair: object) -> float:
    gold, answer = pair if isinstance(pair, tuple) else (None, pair)
    return float(answer in gold if isinstance(gold, list) else answer == gold)


def _probabilities(outcomes: Sequence[Outcome]) -> list[object]:
    choices = only(Choice, outcomes)
    rows = zip(choices, probabilities(choices), strict=True)
    return [(_gold(choice), row[: len(choice.scores)].copy()) for choice, row in rows]


def _scores(outcomes: Sequence[Outcome]) -> list[object]:
    return [(_gold(choice), choice.scores) for choice in only(Choice, outcomes)]


def _gold(choice: Choice) -> int | list[int]:
    if len(choice.gold) > 1:
        return list(choice.gold)
    return next((gold for gold in choice.gold if 0 <= gold < len(choice.scores)), NOT_A_CHOICE)


def _logprobs(outcomes: Sequence[Outcome]) -> list[object]:
    return [text.logprob for text in only(Likelihood, outcomes)]


def _per_word(outcomes: Sequence[Outcome]) -> list[object]:
    return [(text.logprob, text.words) for text in only(Likelihood, outcomes)]


def _per_byte(outcomes: Sequence[Outcome]) -> list[object]:
    return [(text.logprob, text.bytes) for text in only(Likelihood, outcomes)]


def _texts(outcomes: Sequence[Outcome]) -> list[object]:
    texts = only(Text, outcomes)
    several = next((text for text in texts if len(references(text)) > 1), None)
    if several is not None:
        raise UsageError(
            f"a row has the right answers {list(several.references)!r:.200}: of several, lm-evaluation-harness 0.4.13 "
            "hands an aggregation nothing but 1.0, whatever was answered; give each row one right answer, or score in "
            "process_results."
        )
    return [[references(text)[0], text.prediction] for text in texts]


NUMBERS = frozenset({"mean", "nanmean", "median", "perplexity", "bypass"})
LABELS = frozenset({"f1", "matthews_corrcoef", "bypass"})
LENGTHS = frozenset({"weighted_perplexity", "bits_per_byte", "bypass"})
TEXTS = frozenset({"matthews_corrcoef", "bleu", "chrf", "chrf++", "ter", "bypass"})
"""F1 is about the number 1, which no text is."""

AGGREGATION_INPUTS: Mapping[OutcomeKind, Mapping[str, AggregationInput]] = {
    "choice": {
        "f1": AggregationInput(items=_choices, value=_is_right, fits=LABELS),
        "mcc": AggregationInput(items=_choices, value=_is_right, fits=LABELS),
        "brier_score": AggregationInput(items=_probabilities, fits=frozenset({"brier_score", "bypass"})),
        "likelihood": AggregationInput(items=_scores, fits=frozenset({"bypass"})),
    },
    "likelihood": {
        "perplexity": AggregationInput(items=_logprobs, fits=NUMBERS),
        "word_perplexity": AggregationInput(items=_per_word, fits=LENGTHS),
        "byte_perplexity": AggregationInput(items=_per_byte, fits=LENGTHS),
        "bits_per_byte": AggregationInput(items=_per_byte, fits=LENGTHS),
    },
    "text": dict.fromkeys(PASSED_ON, AggregationInput(items=_texts, fits=TEXTS)),
}
"""By its names of metrics."""
