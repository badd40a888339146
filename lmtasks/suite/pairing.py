"""After the cells of a run: every variant with a model against the first that has the task, paired by example, on its
main metric.

The tests are those of `lmtasks compare`, and all comparisons of a run are one family there too. Several seeds are not
joined: an example is paired with itself under the first seed of both variants.

A published folder has no statistics: what was compared there before stays, and counts in the family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import remake_metric
from lmtasks.metric import Metric, compare, holm, verdict
from lmtasks.metric.family import resamples_for
from lmtasks.records import Floats, Json
from lmtasks.suite.folder import SCHEMA, RunFolder, cell_id, read_json
from lmtasks.suite.plan import Plan
from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The main metric of a finished cell."""

    metric: Metric
    name: str
    statistics: Floats
    clusters: Sequence[object] | None
    data: object
    """The fingerprint of the scored rows."""


def paired_record(folder: RunFolder, *, plan: Plan, tasks: Sequence[Task]) -> Json:
    """What paired.json says. Cells that failed, or that were scored on other rows, are in no comparison."""
    seed = plan.seeds[0]
    seeds = {variant.name: plan.seeds_of(variant)[0] for variant in plan.variants if variant.model}
    kept = _kept(folder, seeds)
    pairs: list[tuple[str, str, str, _Scored, _Scored]] = []
    for task in tasks:
        all_scored = [
            (name, scored) for name in seeds if (scored := _scored(folder, name, task, seeds[name])) is not None
        ]
        for name, other in all_scored[1:]:
            base, first = all_scored[0]
            if _alike(first, other):
                pairs.append((base, name, task.name, first, other))
    resamples = resamples_for(len(pairs) + len(kept))
    results = [
        compare(
            first.metric,
            first.statistics,
            other.statistics,
            resamples=resamples,
            seed=seed,
            clusters=first.clusters,
        )
        for _, _, _, first, other in pairs
    ]
    made = [
        {
            "variant": name,
            "base": base,
            "task": task_name,
            "metric": first.name,
            "scale": first.metric.scale,
            "higher_is_better": first.metric.higher_is_better,
            **asdict(result),
        }
        for (base, name, task_name, first, _), result in zip(pairs, results, strict=True)
    ]
    found = {(each["variant"], each["task"]): each for each in (*kept, *made)}
    ordered = [found[name, task.name] for task in tasks for name in seeds if (name, task.name) in found]
    adjusted = holm([float(str(each["p_value"])) for each in ordered])
    return {
        "schema": SCHEMA,
        "seed": seed,
        "comparisons": [
            {
                **each,
                "p_holm": p_value,
                "verdict": verdict(
                    float(str(each["difference"])), p_value=p_value, higher_is_better=bool(each["higher_is_better"])
                ),
            }
            for each, p_value in zip(ordered, adjusted, strict=True)
        ],
    }


def _kept(folder: RunFolder, seeds: Mapping[str, int]) -> Sequence[Json]:
    """What was compared before between cells that have no statistics any more."""
    comparisons = (read_json(folder.paired) or {}).get("comparisons")

    def is_bare(variant: str, task: str) -> bool:
        cell = read_json(folder.cell(cell_id(variant=variant, task=task, seed=seeds.get(variant, 0))))
        return cell is not None and "result" in cell and "statistics" not in cell

    return [
        each
        for each in (comparisons if isinstance(comparisons, list) else ())
        if all(is_bare(each[side], each["task"]) for side in ("variant", "base"))
    ]


def _scored(folder: RunFolder, variant: str, task: Task, seed: int) -> _Scored | None:
    record = read_json(folder.cell(cell_id(variant=variant, task=task.name, seed=seed))) or {}
    recipes, statistics, conditions = (record.get(key) for key in ("recipes", "statistics", "conditions"))
    if not (isinstance(recipes, dict) and isinstance(statistics, dict) and isinstance(conditions, dict) and recipes):
        return None
    name, clusters = next(iter(recipes)), record.get("clusters")
    try:
        return _Scored(
            metric=remake_metric(recipes[name]),
            name=name,
            statistics=np.array(statistics[name], dtype=np.float64),
            clusters=clusters if isinstance(clusters, list) else None,
            data=conditions.get("data_fingerprint"),
        )
    except (UsageError, ValueError, KeyError):
        return None  # made by code of the task file: there is nothing to compute it with again


def _alike(first: _Scored, other: _Scored) -> bool:
    return (first.data, first.name, first.metric.signature, first.statistics.shape) == (
        other.data,
        other.name,
        other.metric.signature,
        other.statistics.shape,
    )
