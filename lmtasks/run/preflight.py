"""What can be said of a plan before any of it is carried out."""

from collections.abc import Sequence
from difflib import get_close_matches

from lmtasks.errors import UsageError
from lmtasks.evaluation.protocols import decoding_of
from lmtasks.evaluation.rivals import baseline_names
from lmtasks.run.plan import Plan
from lmtasks.run.variants import tasks_of
from lmtasks.runtime.open import check_runs
from lmtasks.task.task import Task


def check_devices(plan: Plan) -> None:
    """What cannot run here is said before anything is trained for it.

    Raises:
        UsageError: this machine has no such device, or the device no such precision.
    """
    for variant in plan.variants:
        if variant.model:
            try:
                check_runs(runtime=variant.runtime, device=variant.device, precision=variant.precision)
            except UsageError as error:
                raise UsageError(f"variant {variant.name!r} of the plan cannot run on this machine: {error}") from None


def check_tasks(plan: Plan, tasks: Sequence[Task]) -> None:
    """What of a plan does not fit its tasks is said before anything is done.

    Raises:
        UsageError: there is no such baseline; a variant, or the timing, names a task that the plan does not have; or a
            variant says how it writes texts, and has none to write, or cannot write so.
    """
    for variant in plan.variants:
        baseline_names(variant.baseline)
    names = {task.name for task in tasks}
    wanted = [(f"variant {variant.name!r}", variant.tasks) for variant in plan.variants]
    wanted += [("`bench`", plan.bench.tasks)] if plan.bench else []
    for who, asked in wanted:
        missing = sorted(set(asked) - names)
        if missing:
            near = get_close_matches(missing[0], sorted(names), n=3, cutoff=0.5)
            guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
            raise UsageError(f"{who} names {missing[0]!r}, which is no task of the plan{guess}")
    for variant in plan.variants:
        try:
            for task in tasks_of(variant, tasks) if variant.generation_kwargs else ():
                decoding_of(task.generation)  # refuses settings that exclude each other
        except UsageError as error:
            raise UsageError(f"variant {variant.name!r}: {error}") from None
