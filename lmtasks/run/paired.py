"""Comparisons after the cells of a run: variants paired by example on each task's main metric, in four questions.

    first   every model against the first one that has the task
    best    everybody against the best that was scored, rivals among them: who keeps the quality?
    parent  every exported model against the one that it was exported from: what did the export cost?
    rival   every model against the best trivial answer and the best classical rival: is it worth its weights?

The tests are those of `lmtasks compare`. Each question is a family of comparisons of its own. Several seeds are not
joined: an example is paired with itself under the first seed of both variants.

A published folder has no statistics: what was compared there before stays, and counts in its family.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import get_args

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import remake_metric
from lmtasks.metric import Metric, PairedResult, compare, holm, verdict
from lmtasks.metric.paired import resamples_for
from lmtasks.records import CLASSICAL_BASELINES, Floats
from lmtasks.report.grid import comparable_metric, is_per_token
from lmtasks.results.cell import CellRecord
from lmtasks.results.comparison import PairedRecord, PairedRecords, Relation
from lmtasks.run.folder import RunFolder, cell_id
from lmtasks.run.plan import Plan, VariantPlan
from lmtasks.task.task import Task

RELATIONS: tuple[Relation, ...] = get_args(Relation)


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The main metric of a finished cell."""

    variant: VariantPlan
    metric: Metric
    name: str
    value: float
    statistics: Floats
    clusters: Sequence[object] | None
    data: object
    """The fingerprint of the scored rows."""
    tokenizer: str
    """Its hash."""
    is_classical: bool
    """A baseline that learns more than how often each answer is right."""

    @property
    def order(self) -> float:
        """Larger is better."""
        return self.value if self.metric.higher_is_better else -self.value


@dataclass(frozen=True, kw_only=True)
class _Pair:
    relation: Relation
    task: str
    base: _Scored
    other: _Scored

    @property
    def names(self) -> tuple[str, str, str]:
        return self.task, self.base.variant.name, self.other.variant.name


def paired_record(folder: RunFolder, *, plan: Plan, tasks: Sequence[Task]) -> PairedRecords:
    """Compare finished cells, for paired.json. Those that failed, or were scored on other rows, are left out."""
    pairs = [
        pair
        for task in tasks
        for pair in _pairs(_task_scores(folder, plan, task), task.name)
        if pair.relation != "best" or not _has_bare(folder, plan, task)
    ]
    kept = _kept(folder, plan)
    sizes = [
        sum(each.relation == one for each in pairs) + sum(each.relation == one for each in kept) for one in RELATIONS
    ]
    results: dict[tuple[str, str, str], PairedResult] = {}
    for pair in pairs:
        if pair.names not in results:
            results[pair.names] = compare(
                pair.base.metric,
                pair.base.statistics,
                pair.other.statistics,
                resamples=resamples_for(max(sizes)),
                seed=plan.seeds[0],
                clusters=pair.base.clusters,
            )
    made = [_record(pair, results[pair.names]) for pair in pairs]
    # What is made now stands in place of what was kept; in the plan's order of tasks, then of variants.
    found = {_key(each): each for each in (*kept, *made)}
    order = {name: place for place, name in enumerate(task.name for task in tasks)}
    names = {variant.name: place for place, variant in enumerate(plan.variants)}
    ordered = sorted(found.values(), key=lambda each: (order.get(each.task, -1), names[each.variant]))
    return PairedRecords(
        seed=plan.seeds[0],
        comparisons=tuple(each for one in RELATIONS for each in _judged(ordered, one)),
    )


def _pairs(scored: Sequence[_Scored], task: str) -> Iterator[_Pair]:
    """The comparisons of one task."""
    models = [each for each in scored if each.variant.model]
    best = max(scored, key=lambda each: each.order, default=None)
    rivals = [
        max(those, key=lambda each: each.order)
        for classical in (False, True)
        if (those := [each for each in scored if each.variant.baseline and each.is_classical == classical])
    ]
    wanted: list[tuple[Relation, _Scored, _Scored]] = [("first", models[0], each) for each in models[1:]]
    wanted += [("best", best, each) for each in scored if best is not None and each is not best]
    wanted += [("parent", parent, each) for each in models if (parent := _parent(each, models)) is not None]
    wanted += [("rival", rival, each) for each in models for rival in rivals]
    for relation, base, other in wanted:
        if _alike(base, other):
            yield _Pair(relation=relation, task=task, base=base, other=other)


def _parent(exported: _Scored, models: Sequence[_Scored]) -> _Scored | None:
    """The variant that the exported one was made from: the same model in torch, in fp32 where there is one."""
    mine = exported.variant
    if mine.runtime != "onnx":
        return None
    same = [
        each
        for each in models
        if each.variant.runtime in ("torch", "torch-compile", "native")
        and (each.variant.model, each.variant.num_fewshot, each.variant.generation_kwargs)
        == (mine.model, mine.num_fewshot, mine.generation_kwargs)
    ]
    return min(same, key=lambda each: each.variant.precision != "fp32", default=None)


def _record(pair: _Pair, result: PairedResult) -> PairedRecord:
    """The comparison on its own; `_judged` adjusts it for its family."""
    return PairedRecord(
        relation=pair.relation,
        variant=pair.other.variant.name,
        base=pair.base.variant.name,
        task=pair.task,
        metric=pair.base.name,
        scale=pair.base.metric.scale,
        higher_is_better=pair.base.metric.higher_is_better,
        **asdict(result),
        p_holm=result.p_value,
        verdict="open",
    )


def _judged(comparisons: Sequence[PairedRecord], relation: Relation) -> Iterator[PairedRecord]:
    """One family with p-values adjusted, and what they show."""
    family = [each for each in comparisons if each.relation == relation]
    for each, p_value in zip(family, holm([one.p_value for one in family]), strict=True):
        shown = verdict(each.difference, p_value=p_value, higher_is_better=each.higher_is_better)
        yield each.model_copy(update={"relation": relation, "p_holm": p_value, "verdict": shown})


def _key(comparison: PairedRecord) -> tuple[str, ...]:
    """Two models may have the same best rival of both kinds, so the base belongs to the key there alone."""
    base = comparison.base if comparison.relation == "rival" else ""
    return comparison.relation, base, comparison.variant, comparison.task


def _has_bare(folder: RunFolder, plan: Plan, task: Task) -> bool:
    """Was a variant scored whose statistics are gone? Then it may be the best, and nobody can be compared with it."""
    return any(
        _is_bare(folder, variant=variant.name, task=task.name, seed=plan.seeds_of(variant)[0])
        for variant in plan.variants
    )


def _is_bare(folder: RunFolder, *, variant: str, task: str, seed: int) -> bool:
    cell = CellRecord.read_if_whole(folder.cell(cell_id(variant=variant, task=task, seed=seed)))
    return cell is not None and cell.result is not None and cell.statistics is None


def _kept(folder: RunFolder, plan: Plan) -> Sequence[PairedRecord]:
    """What was compared before between cells that have no statistics any more."""
    stored = PairedRecords.read_if_whole(folder.paired)
    seeds = {variant.name: plan.seeds_of(variant)[0] for variant in plan.variants}

    return [
        each
        for each in (stored.comparisons if stored else ())
        if all(
            _is_bare(folder, variant=variant, task=each.task, seed=seeds.get(variant, 0))
            for variant in (each.variant, each.base)
        )
    ]


def _task_scores(folder: RunFolder, plan: Plan, task: Task) -> list[_Scored]:
    """The variants that have a main metric on the task, in the plan's order."""
    files = {
        variant.name: folder.cell(cell_id(variant=variant.name, task=task.name, seed=plan.seeds_of(variant)[0]))
        for variant in plan.variants
    }
    cells = {variant: cell for variant, file in files.items() if (cell := CellRecord.read_if_whole(file)) is not None}
    name = comparable_metric(
        [(tuple(cell.recipes), cell.tokenizer_hash) for cell in cells.values() if cell.recipes],
        language=task.language,
    )
    if name is None:
        return []
    found = (_scored(cells[variant.name], variant, name) for variant in plan.variants if variant.name in cells)
    return [each for each in found if each is not None]


def _scored(cell: CellRecord, variant: VariantPlan, name: str) -> _Scored | None:
    if not cell.statistics or name not in cell.statistics or name not in cell.recipes or name not in cell.metrics:
        return None
    try:
        metric = remake_metric(cell.recipes[name])
    except UsageError:
        return None  # made by code of the task file: there is nothing to compute it with again
    return _Scored(
        variant=variant,
        metric=metric,
        name=name,
        value=cell.metrics[name].value,
        statistics=cell.statistics[name],
        clusters=cell.clusters,
        data=cell.conditions.get("data_fingerprint"),
        tokenizer=cell.tokenizer_hash,
        is_classical=cell.model is not None and cell.model.family in CLASSICAL_BASELINES,
    )


def _alike(first: _Scored, other: _Scored) -> bool:
    if is_per_token(first.name) and first.tokenizer != other.tokenizer:
        return False
    return (first.data, first.name, first.metric.signature, first.statistics.shape) == (
        other.data,
        other.name,
        other.metric.signature,
        other.statistics.shape,
    )
