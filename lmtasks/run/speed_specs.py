"""How a plan's variants are timed: what `bench:` of the plan says, as a spec of `bench/`."""

from collections.abc import Sequence
from pathlib import Path

from lmtasks.bench.judge import parse_requirements
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.speed import SpeedSettings
from lmtasks.run.plan import BenchPlan, Plan, VariantPlan
from lmtasks.run.variants import stored_variant
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task
from lmtasks.workflow.open_model import card_in
from lmtasks.workflow.workloads import at_lengths, loads_of, workloads_of


def speed_spec(
    variant: VariantPlan,
    *,
    plan: Plan,
    bench: BenchPlan,
    ref: Path,
    tasks: Sequence[Task],
    threads: int,
    data: DataAccess,
) -> SpeedSpec:
    """One variant of a plan, to be timed on these tasks.

    Raises:
        UsageError: a length that the model does not take.
        WorkError: no task can be timed.
    """
    model, seconds = card_in(ref), bench.seconds / bench.rounds
    own = workloads_of(tasks, ref=ref, model=model, options=data, rows=bench.rows, seed=plan.seeds[0])
    return SpeedSpec(
        variant=stored_variant(variant, plan=plan, model=model, threads=threads).content(),
        ref=ref,
        runtime=variant.runtime,
        device=variant.device,
        precision=variant.precision,
        threads=threads,
        workloads=(*own, *at_lengths(own, bench.lengths, model=model)),
        settings=SpeedSettings(
            batch_sizes=bench.batch_sizes or (1, bench.batch_size),
            least_seconds=seconds,
            most_seconds=seconds * 4,
            loads=loads_of(
                bench.rate,
                arrival=bench.arrival,
                requirements=parse_requirements(bench.require) if bench.require else (),
                rounds=bench.rounds,
                seconds=seconds,
                seed=plan.seeds[0],
            ),
        ),
    )
