"""Values that a task's own code makes of answers: `process_results`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.pending import Example
from lmtasks.records import Made
from lmtasks.task.hooks import call_process_results
from lmtasks.task.task import Task


def with_made(answered: Answered, task: Task, *, example: Example, results: Mapping[str, Sequence[object]]) -> Answered:
    """The answer with the values that the task's own code makes of it; as it is, where there is no such code.

    Args:
        results: filter to what lm-evaluation-harness hands over: (log-probability, greedy?) of each choice, one
            log-probability, or one filtered answer.

    Raises:
        WorkError: the code failed.
    """
    if task.process_results is None:
        return answered
    made = {name: Made(values=call_process_results(task, example.row, handed)) for name, handed in results.items()}
    return replace(answered, made=made)
