"""Metrics of a task: their names in results, what each is made from, and whether it has a meaning for the answers.

A task with several filters has each metric once for each of them: `exact_match,strict`, `exact_match,flexible`. The
only filter, and lm-evaluation-harness' default one (`none`), add nothing to the name.

Coding: a token that stands for whatever the vocabulary lacks says nothing of the text. A model that gives it a
probability has not coded the text, and nats over the text's words or bytes are then no perplexity of it. Nor are they
where cleaning changed the text before it was scored. Perplexity per token means what it says, with the share of such
tokens beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, metric_for, recipe
from lmtasks.evaluation.protocols import Finished
from lmtasks.metric import Metric
from lmtasks.records import Json, Likelihood, Outcome
from lmtasks.task.task import MetricUse, Task

DEFAULT_FILTER = "none"

OF_TEXT = frozenset({"perplexity", "weighted_perplexity", "bits_per_byte"})
"""Aggregations of a text's log-probability over the text itself, its words or its bytes."""
METRICS_OF_TEXT = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"})
"""Metrics of a given text that hand such a log-probability on, whatever aggregates it."""


@dataclass(frozen=True, kw_only=True)
class TaskMetric:
    """One metric of a task."""

    name: str
    """As results know it."""
    filter_name: str
    """Whose answers it scores; nothing where there is one kind of answer only."""
    metric: Metric
    recipe: Json
    """All that the metric is made from, ready for JSON."""

    def outcome_of(self, answered: Answered) -> Outcome:
        """The outcome that the metric scores."""
        scored = answered.made if self.metric.takes == "made" else answered.scored
        return scored.get(self.filter_name, answered.outcome)


def scorings_for(task: Task) -> tuple[TaskMetric, ...]:
    """Every metric that a task asks for, for every filter.

    Raises:
        UsageError: a metric is unknown, does not fit the outcomes, or an option is wrong.
    """
    return tuple(scoring_of(task, use, name) for name in filter_names(task) for use in task.metrics)


def scoring_of(task: Task, use: MetricUse, filter_name: str) -> TaskMetric:
    """One metric of the answers that one filter leaves.

    Raises:
        UsageError: as `scorings_for`.
    """
    return TaskMetric(
        name=f"{use.name},{filter_name}" if filter_name not in ("", DEFAULT_FILTER) else use.name,
        filter_name=filter_name,
        metric=metric_for(task, use),
        recipe={**recipe(task, use), **({"filter": filter_name} if filter_name else {})},
    )


def filter_names(task: Task) -> tuple[str, ...]:
    """The filters that a task's metrics are told apart by; one without a name where there is nothing to tell apart."""
    return tuple(pipeline.name for pipeline in task.filters) if len(task.filters) > 1 else ("",)


@dataclass(frozen=True, kw_only=True)
class Coding:
    """Counts of tokens that code their text, and of those that do not."""

    tokens: int = 0
    unknown: int = 0
    """Of the tokens: those that stand for a text that they do not say."""
    texts: int = 0
    altered: int = 0
    """Of the texts: those that cleaning changed before they were scored."""

    def __add__(self, other: "Coding") -> "Coding":
        return Coding(
            tokens=self.tokens + other.tokens,
            unknown=self.unknown + other.unknown,
            texts=self.texts + other.texts,
            altered=self.altered + other.altered,
        )

    @property
    def unknown_share(self) -> float:
        """Share of the scored tokens that do not code their text, 0-1."""
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def why_not(self) -> str:
        """Why nothing is counted per word or byte of the texts, as the beginning of a sentence; empty: it is."""
        if self.unknown:
            count = f"{100 * self.unknown_share:.2g} % of the scored tokens ({self.unknown:,} of {self.tokens:,})"
            return f"{count} are unknown ones, which do not say the text that they stand for"
        if self.altered:
            return f"the tokenizer's cleaning changed {self.altered:,} of {self.texts:,} texts before they were scored"
        return ""


def count_coding(finished: Sequence[Finished]) -> Coding:
    """Count tokens of answers that are log-probabilities of given texts; others count nothing."""
    texts = [each.answered.outcome for each in finished if isinstance(each.answered.outcome, Likelihood)]
    return Coding(
        tokens=sum(text.tokens for text in texts),
        unknown=sum(text.unknown for text in texts),
        texts=len(texts),
        altered=sum(text.altered for text in texts),
    )


def is_of_text(scoring: TaskMetric) -> bool:
    """True where a metric holds log-probabilities against the texts, and not against tokens."""
    metric = scoring.metric
    if metric.takes == "likelihood" and metric.name in METRICS_OF_TEXT:
        return True
    return metric.takes in {"likelihood", "made"} and metric.original in OF_TEXT


def meaningful(scorings: Sequence[TaskMetric], coding: Coding) -> tuple[list[TaskMetric], dict[str, str]]:
    """The scorings that these texts have a value of; and the other ones' names, each with the reason as a sentence.

    Raises:
        UsageError: there is none of the first kind.
    """
    names = [scoring.name for scoring in scorings if is_of_text(scoring)] if coding.why_not else []
    if not names:
        return list(scorings), {}
    sentence = (
        f"{coding.why_not}, so there is no {', no '.join(names)}. Use token_perplexity, or a tokenizer that says every "
        "text (bpe, characters or bytes, without cleaning)."
    )
    kept = [scoring for scoring in scorings if scoring.name not in names]
    if not kept:
        raise UsageError(sentence)
    return kept, dict.fromkeys(names, sentence)
