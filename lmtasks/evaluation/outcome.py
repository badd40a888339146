"""Which kind of outcome each kind of task has, by the way it is answered; and the metrics that fit it.

>>> outcome_kind("classification", "head")
'choice'
>>> outcome_kind("tagging", "head")
Traceback (most recent call last):
...
lmtasks.errors.UsageError: a tagging task cannot be answered by a head yet; it is answered by: prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lmtasks.errors import UsageError
from lmtasks.metric import Metric, make_metric
from lmtasks.records import Choice, Json, Likelihood, Outcome, OutcomeKind, Text
from lmtasks.task.task import Kind, MetricUse, Task

Way = Literal["head", "prompt", "baseline"]
"""How a task is answered: by what was trained for it, by a prompt alone, or by something that is no language model."""

WAYS: tuple[Way, ...] = get_args(Way)

OUTCOMES: Mapping[Kind, Mapping[Way, OutcomeKind]] = {
    "classification": {"head": "choice", "prompt": "choice", "baseline": "choice"},
    "multiple_choice": {"head": "choice", "prompt": "choice", "baseline": "choice"},
    "span": {"head": "text", "prompt": "text", "baseline": "text"},
    "translation": {"head": "text", "prompt": "text", "baseline": "text"},
    "summarization": {"head": "text", "prompt": "text", "baseline": "text"},
    "generation": {"head": "text", "prompt": "text", "baseline": "text"},
    "tagging": {"prompt": "text"},
    "language_modelling": {"head": "likelihood", "prompt": "likelihood"},
}
"""A generation head answers by the task's own prompts, so it has outcomes wherever a prompt has."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One example with its answer."""

    outcome: Outcome
    prompt: str | tuple[str, ...]
    """What was read; several texts where each choice has a context of its own."""
    target: tuple[str, ...]
    """The right answers."""
    raw: object
    """What came from the model, ready for JSON: a text, log-probabilities of choices, one log-probability."""
    answer: str
    """What was made of it; empty where a given text was scored."""


def outcome_kind(kind: Kind, way: Way) -> OutcomeKind:
    """What answering tasks of this kind yields.

    Raises:
        UsageError: they cannot be answered that way.
    """
    ways = OUTCOMES[kind]
    if way not in ways:
        by = "a baseline" if way == "baseline" else f"a {way}"
        raise UsageError(f"a {kind} task cannot be answered by {by} yet; it is answered by: {', '.join(ways)}.")
    return ways[way]


def metrics_for(task: Task, way: Way) -> tuple[Metric, ...]:
    """The metrics that a task asks for, made for its outcomes.

    Raises:
        UsageError: a metric is unknown, does not fit the outcomes, or an option is wrong.
    """
    return tuple(remake_metric(recipe(task, way, use)) for use in task.metrics)


def recipe(task: Task, way: Way, use: MetricUse) -> Json:
    """All that a metric is made from, ready for JSON: stored beside statistics, so that they can be compared later."""
    return {
        "task": task.name,
        "name": use.name,
        "takes": outcome_kind(task.kind, way),
        "language": task.language,
        "labels": list(task.labels) if task.kind == "classification" else [],
        "options": dict(use.options),
    }


def remake_metric(made_from: Json) -> Metric:
    """The metric of a recipe.

    Raises:
        UsageError: as `metrics_for`.
    """
    labels, options = made_from["labels"], made_from["options"]
    takes = next((kind for kind in get_args(OutcomeKind) if kind == made_from["takes"]), None)
    try:
        return make_metric(
            str(made_from["name"]),
            takes=takes,
            language=str(made_from["language"]),
            labels=tuple(map(str, labels)) if isinstance(labels, list) else (),
            options=options if isinstance(options, Mapping) else {},
        )
    except UsageError as error:
        raise UsageError(f"task {made_from['task']}: {error}") from error


def best_choice(choice: Choice) -> int:
    """The choice with the highest score; of equals the first."""
    return max(range(len(choice.scores)), key=lambda index: (choice.scores[index], -index), default=0)


def answered_choice(outcome: Choice, *, prompt: str | tuple[str, ...], choices: tuple[str, ...]) -> Answered:
    """A choice with its texts."""
    return Answered(
        outcome=outcome,
        prompt=prompt,
        target=tuple(choices[gold] for gold in outcome.gold),
        raw=list(outcome.scores),
        answer=choices[best_choice(outcome)],
    )


def answered_text(raw: str, *, prediction: str, prompt: str, references: tuple[str, ...], source: str) -> Answered:
    """A text that was answered."""
    return Answered(
        outcome=Text(references=references, prediction=prediction, source=source),
        prompt=prompt,
        target=references,
        raw=raw,
        answer=prediction,
    )


def answered_likelihood(outcome: Likelihood, *, prompt: str, text: str) -> Answered:
    """A text that was scored."""
    return Answered(outcome=outcome, prompt=prompt, target=(text,), raw=outcome.logprob, answer="")
