"""How a plan's variants are timed: what `bench:` of the plan says, as a spec of `bench/`."""

import math
from collections.abc import Sequence
from pathlib import Path

from lmtasks.bench.percentile import least_samples
from lmtasks.bench.require import Requirement, parse_requirements
from lmtasks.bench.schedule import Arrival, Load
from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import Workload, at_length
from lmtasks.data.options import DataOptions
from lmtasks.errors import UsageError
from lmtasks.records import ModelCard
from lmtasks.run.plan import BenchPlan, Plan, VariantPlan
from lmtasks.run.variants import variant_json
from lmtasks.task.task import Task
from lmtasks.workflow.open_model import card_in
from lmtasks.workflow.workloads import workloads_of

USUAL_PERCENTILE = 95
"""So many requests come under a load that this one can be told."""
SPARE = 1.1


def speed_spec(
    variant: VariantPlan,
    *,
    plan: Plan,
    bench: BenchPlan,
    ref: Path,
    tasks: Sequence[Task],
    threads: int,
    data: DataOptions,
) -> SpeedSpec:
    """One variant of a plan, to be timed on these tasks.

    Raises:
        UsageError: a length that the model does not take.
        WorkError: no task can be timed.
    """
    model, seconds = card_in(ref), bench.seconds / bench.rounds
    own = workloads_of(tasks, ref=ref, model=model, options=data, rows=bench.rows, seed=plan.seeds[0])
    return SpeedSpec(
        variant=variant_json(variant, plan=plan, model=model, threads=threads),
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


def at_lengths(workloads: Sequence[Workload], lengths: Sequence[int], *, model: ModelCard) -> list[Workload]:
    """Every workload once more at every length.

    Raises:
        UsageError: longer than the model takes.
    """
    found = []
    for workload in workloads:
        new = workload.new_tokens if model.kind != "encoder-decoder" else 0
        for length in lengths:
            if length + new > model.max_length_tokens:
                behind = f" and {new} new ones" if new else ""
                raise UsageError(
                    f"a length of {length} tokens was asked for: {model.name} takes {model.max_length_tokens}, and "
                    f"{workload.task} needs {length}{behind}; use at most {model.max_length_tokens - new}."
                )
            found.append(at_length(workload, length))
    return found


def loads_of(
    rates: Sequence[float],
    *,
    arrival: Arrival,
    requirements: Sequence[Requirement],
    rounds: int,
    seconds: float,
    seed: int,
) -> tuple[Load, ...]:
    """One for each rate that was asked for, or that is required: with so many requests, in all rounds together, that
    the percentile which is asked of it can be told.

    Args:
        seconds: a round lasts at least so long.
    """
    wanted = dict.fromkeys(rates, USUAL_PERCENTILE)
    for each in requirements:
        if each.rate is not None and each.latency is not None:
            wanted[each.rate] = max(wanted.get(each.rate, USUAL_PERCENTILE), each.latency[1])
    return tuple(
        Load(
            rate=rate,
            count=max(math.ceil(rate * seconds), math.ceil(SPARE * least_samples(percentile) / rounds)),
            arrival=arrival,
            seed=seed,
        )
        for rate, percentile in wanted.items()
    )
