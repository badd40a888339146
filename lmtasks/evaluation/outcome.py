"""Answers to examples, and the metrics that a task asks for, made for its outcomes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from lmtasks.errors import UsageError
from lmtasks.metric import Metric, make_metric
from lmtasks.records import (
    Choice,
    CustomValues,
    Json,
    LabelSet,
    Likelihood,
    Outcome,
    OutcomeKind,
    Quantity,
    Ranks,
    Row,
    Text,
)
from lmtasks.task.functions import FunctionRef
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import MetricUse, Task

Way = Literal["head", "prompt", "baseline", "answers"]
"""How a task is answered: by what was trained for it, by a prompt alone, by something that is no language model, or not
at all: the answers were there."""

WAYS: tuple[Way, ...] = get_args(Way)

WITHOUT_CONTEXT = "acc_mutual_info"
"""The metric that needs every choice behind no context as well."""


UNLIKELY = -30.0
"""Log-probability of what was not chosen. Of the chosen it is 0, so it also wins per character and per byte; behind no
context it is 0 for all of them, so that every metric of a choice is told of the same one."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One example with its answer."""

    outcome: Outcome
    """What came of the first answer, as it is."""
    prompt: str | tuple[str, ...]
    """What was read; several texts where each choice has a context of its own."""
    target: tuple[str, ...]
    """The right answers."""
    raw: object
    """What came from the model, ready for JSON: a text, log-probabilities of choices, log-odds of labels, one
    log-probability, one number, place and score of the first texts."""
    answer: str
    """What was made of it; empty where a given text was scored."""
    scored: Mapping[str, Outcome] = field(default_factory=dict)
    """What metrics look at where that is not `outcome`: for each filter (its name, or nothing for the only one) what
    came of the filtered answer."""
    made: Mapping[str, CustomValues] = field(default_factory=dict)
    """For each filter the values that the task's own code made of its answer, where a task has such code."""
    filtered: Mapping[str, object] = field(default_factory=dict)
    """Filter to what it left of the answers, ready for JSON; where a task has filters."""
    choices: tuple[str, ...] = ()
    """The texts of the choices whose scores `raw` holds; empty where nothing was chosen from."""


AnswerRows = Callable[[Sequence[Row]], Sequence[Answered]]
"""A learned baseline: rows of the scored split -> their answers, in order."""


def recipe(task: Task, use: MetricUse) -> Json:
    """All that a metric is made from, ready for JSON: stored beside statistics, so that they can be compared later."""
    found: dict[str, object] = {
        "task": task.name,
        "name": use.name,
        "takes": _takes(task, use),
        "language": task.language,
        "labels": list(task.labels) if kind_of(task).labelled else [],
        "options": dict(use.options),
    }
    code = {"function": use.function, "aggregation": use.aggregation}
    found |= {key: _code_json(value) for key, value in code.items() if value is not None}
    if use.higher_is_better is not None:
        found["higher_is_better"] = use.higher_is_better
    return found


def remake_metric(made_from: Json) -> Metric:
    """The metric of a recipe.

    Raises:
        UsageError: it is unknown, does not fit its outcomes or its options; or it is code of a task file.
    """
    aggregation = made_from.get("aggregation")
    # What a function made of each example stands in its sample.
    code = made_from.get("function") is not None and made_from.get("takes") != "made"
    if isinstance(aggregation, Mapping) or code:
        raise UsageError(
            f"the metric {made_from['name']} of task {made_from['task']} is code of its task file, which results do "
            "not hold; give the task file with --tasks."
        )
    labels, options = made_from["labels"], made_from["options"]
    return _make(
        str(made_from["name"]),
        task=str(made_from["task"]),
        takes=next((kind for kind in get_args(OutcomeKind) if kind == made_from["takes"]), None),
        language=str(made_from["language"]),
        labels=tuple(map(str, labels)) if isinstance(labels, list) else (),
        use=MetricUse(
            name=str(made_from["name"]),
            options=options if isinstance(options, Mapping) else {},
            aggregation=None if aggregation is None else str(aggregation),
            higher_is_better=_truth(made_from.get("higher_is_better")),
        ),
    )


def metric_for(task: Task, use: MetricUse) -> Metric:
    """One metric that a task asks for.

    Raises:
        UsageError: it is unknown, does not fit the outcomes, or an option is wrong.
    """
    if use.function is not None:
        use.function.load()  # now, and not at the first answer
    return _make(
        use.name,
        task=task.name,
        takes=_takes(task, use),
        language=task.language,
        labels=task.labels if kind_of(task).labelled else (),
        use=use,
    )


def asks_without_context(task: Task) -> bool:
    """Is each choice also wanted behind no context?"""
    return any(use.name == WITHOUT_CONTEXT for use in task.metrics)


def certain(chosen: int, count: int) -> list[float]:
    """The scores of an answer without doubt."""
    return [0.0 if place == chosen else UNLIKELY for place in range(count)]


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
        choices=choices,
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


def answered_number(outcome: Quantity, *, prompt: str) -> Answered:
    """A number, shown with six digits that count."""
    return Answered(
        outcome=outcome,
        prompt=prompt,
        target=(f"{outcome.gold:.6g}",),
        raw=outcome.prediction,
        answer=f"{outcome.prediction:.6g}",
    )


def answered_labels(outcome: LabelSet, *, prompt: str, labels: tuple[str, ...]) -> Answered:
    """Labels by name. The answer is a list in JSON: one without labels is then no empty line, and names may hold
    commas."""
    return Answered(
        outcome=outcome,
        prompt=prompt,
        target=tuple(labels[place] for place in outcome.gold),
        raw=list(outcome.scores),
        answer=json.dumps([labels[place] for place in outcome.answered], ensure_ascii=False),
    )


def answered_ranks(
    outcome: Ranks, *, prompt: str, right: tuple[str, ...], corpus: Sequence[str], first: Sequence[tuple[int, float]]
) -> Answered:
    """Texts of a corpus in order.

    Args:
        first: place in the corpus and score of the first ones.
    """
    return Answered(
        outcome=outcome,
        prompt=prompt,
        target=right,
        raw=[[place, score] for place, score in first],
        answer=corpus[first[0][0]],
    )


def answered_likelihood(outcome: Likelihood, *, prompt: str, text: str) -> Answered:
    """A text that was scored."""
    return Answered(outcome=outcome, prompt=prompt, target=(text,), raw=outcome.logprob, answer="")


def _make(
    name: str, *, task: str, takes: OutcomeKind | None, language: str, labels: tuple[str, ...], use: MetricUse
) -> Metric:
    try:
        return make_metric(
            name,
            takes=takes,
            language=language,
            labels=labels,
            options=use.options,
            aggregation=use.aggregation.load() if isinstance(use.aggregation, FunctionRef) else use.aggregation,
            higher_is_better=use.higher_is_better,
        )
    except UsageError as error:
        raise UsageError(f"task {task}: {error}") from error


def _takes(task: Task, use: MetricUse) -> OutcomeKind:
    """With `process_results` the task's own code makes the values of all metrics; else those of its functions."""
    made = task.process_results is not None or use.function is not None
    return "made" if made else kind_of(task).outcome


def _code_json(value: str | FunctionRef) -> object:
    return value.describe() if isinstance(value, FunctionRef) else value


def _truth(value: object) -> bool | None:
    return None if value is None else bool(value)
