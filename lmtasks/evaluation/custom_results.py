"""Values that a task's own code makes of answers: `process_results`, or functions as metrics (`metric: !function`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.scoring import filter_names
from lmtasks.metric.base import references
from lmtasks.records import Choice, CustomValues, LabelSet, Likelihood, Outcome, Quantity, Text
from lmtasks.task.hooks import call_metric, call_process_results
from lmtasks.task.task import Task


def with_custom_values(
    answered: Answered, task: Task, *, example: ScoredExample, results: Mapping[str, Sequence[object]]
) -> Answered:
    """The answer with the values that the task's own code makes of it; as it is, where there is no such code.

    Args:
        results: filter to what lm-evaluation-harness hands over: (log-probability, greedy?) of each choice, one
            log-probability, or one filtered answer.

    Raises:
        UsageError: the code imports what is not installed.
        WorkError: the code failed.
    """
    if task.process_results is not None:
        made = {
            name: CustomValues(values=call_process_results(task, example.row, handed))
            for name, handed in results.items()
        }
    elif any(use.function is not None for use in task.metrics):
        made = {
            name: _measured(task, answered.scored.get(name, answered.outcome), handed)
            for name, handed in results.items()
        }
    else:
        return answered
    return replace(answered, made=made)


def with_custom_values_of_outcome(finished: Finished, task: Task) -> Finished:
    """The same for an answer of which nothing but its outcome is known: a baseline's, or a stored one."""
    outcome = finished.answered.outcome
    results = dict.fromkeys(filter_names(task), lm_eval_result(task, outcome))
    return replace(
        finished, answered=with_custom_values(finished.answered, task, example=finished.example, results=results)
    )


def lm_eval_result(task: Task, outcome: Outcome) -> Sequence[object]:
    """The values of an outcome that lm-evaluation-harness hands to a task's code."""
    if isinstance(outcome, Choice):
        greedy = outcome.greedy or (False,) * len(outcome.scores)
        return [*zip(outcome.scores, greedy, strict=True), *((score, False) for score in outcome.unconditional)]
    if isinstance(outcome, Likelihood):
        rolling = task.output_type == "loglikelihood_rolling"
        return [outcome.logprob if rolling else (outcome.logprob, outcome.greedy)]
    if isinstance(outcome, LabelSet):
        return [[task.labels[place] for place in outcome.answered]]
    return [outcome.prediction] if isinstance(outcome, Text | Quantity) else []


def _measured(task: Task, outcome: Outcome, handed: Sequence[object]) -> CustomValues:
    """What the functions among a task's metrics make of one filtered answer."""
    if not isinstance(outcome, Text):
        return CustomValues(values={})
    golds = references(outcome)
    # A text is taken as it is scored (a trained head's without its blanks), a list of texts as the filter made it.
    result = outcome.prediction if isinstance(handed[0], str) else handed[0]
    values: dict[str, object] = {}
    makers: dict[str, str] = {}
    for use in task.metrics:
        if use.function is not None:
            found = call_metric(use, golds=golds, result=result, several=len(golds) > 1)
            values |= found
            makers |= {name: use.name for name in found if name != use.name}
    return CustomValues(values=values, makers=makers)
