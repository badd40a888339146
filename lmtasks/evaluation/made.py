"""Values that a task's own code makes of answers: `process_results`, and metrics that are functions of its file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lmtasks.errors import WorkError
from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.pending import Example
from lmtasks.records import Made
from lmtasks.task.task import Task


def with_made(
    answered: Answered, task: Task, *, example: Example, results: Mapping[str, Sequence[object]]
) -> Answered:
    """The answer with the values that the task's own code makes of it; as it is, where there is no such code.

    Args:
        results: filter to what lm-evaluation-harness hands over: (log-probability, greedy?) of each choice, one
            log-probability, or one filtered answer.

    Raises:
        WorkError: the code failed, or a metric that the task asks for is not among the values.
    """
    if task.process_results is None:
        own = [use for use in task.metrics if use.function is not None]
        if not own:
            return answered
        from lmtasks.task.hooks import call_metric

        golds: Sequence[object] = answered.target
        made = {
            name: Made(
                values={
                    key: value
                    for use in own
                    for key, value in call_metric(
                        use, golds=golds, result=handed[0], several=len(golds) > 1
                    ).items()
                }
            )
            for name, handed in results.items()
        }
        return replace(answered, made=made)
    from lmtasks.task.hooks import call_process_results

    found: dict[str, Made] = {}
    for name, handed in results.items():
        values = call_process_results(task, example.row, handed)
        missing = [use.name for use in task.metrics if use.name not in values]
        if missing:
            raise WorkError(
                f"task {task.name}, row {example.doc_id}: process_results made no {missing[0]!r}, which metric_list "
                f"names; it made {', '.join(values) or 'nothing'}."
            )
        found[name] = Made(values=values)
    return replace(answered, made=found)
