"""Comparisons of scored cells: variants paired by example on each task's main metric, in five questions.

    first   every model against the plan's reference, else the first model that has the task
    clean   every variant on changed rows against itself on the rows as they are: how robust is it?
    best    everybody against the best that was scored, rivals among them: who keeps the quality?
    parent  every exported model against the one that it was exported from: what did the export cost?
    rival   every model against the best trivial answer and the best classical rival: is it worth its weights?

And of each task all variants against all, at once (`metric/simultaneous.py`).

The tests are those of `lmtasks compare`. Each question is a family of comparisons of its own, where the plan asks by
rows once for each number of rows. The seeds that both variants have are joined (`compare_over_seeds`); where they share
none, an example is paired with itself under the first seed of both.

A published folder has no statistics: what was compared there before stays, and counts in its family.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from types import MappingProxyType
from typing import get_args

import numpy as np

from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.outcome import remake_metric
from lmtasks.metric import Metric, PairedResult, holm, verdict
from lmtasks.metric.paired import compare_over_seeds, resamples_for
from lmtasks.metric.simultaneous import all_pairs
from lmtasks.records import BOUND_BASELINES, CLASSICAL_BASELINES, Floats
from lmtasks.report.grid import comparable_metric, is_per_token
from lmtasks.report.records import told_apart
from lmtasks.results.cell import CellRecord, RowsAsked, Variant
from lmtasks.results.comparison import PairedRecord, PairedRecords, Relation, TogetherRecord
from lmtasks.settings.runtimes import runs_packages

NO_CHANGES: Mapping[str, str] = MappingProxyType({})
RELATIONS: tuple[Relation, ...] = get_args(Relation)
PARTED: tuple[Relation, ...] = ("first", "best", "parent")
"""Relations that are compared on parts of the rows, too."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The main metric of the finished cells of a variant, one a seed."""

    variant: Variant
    baseline: str
    """The baseline's name; empty for a model."""
    num_fewshot: object
    metric: Metric
    name: str
    statistics: Mapping[int, Floats]
    """By seed, in the order of the plan."""
    values: Mapping[int, float]
    clusters: Sequence[object] | None
    parts: Sequence[str] | None
    """The part of the rows that each example is of; None: there are none."""
    data: object
    """The fingerprint of the scored rows."""
    tokenizer: str
    """Its hash."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the statistics, the same for all seeds."""
        return next(iter(self.statistics.values())).shape

    @property
    def order(self) -> float:
        """Larger is better."""
        value = fmean(self.values.values())
        return value if self.metric.higher_is_better else -value


@dataclass(frozen=True, kw_only=True)
class _Pair:
    relation: Relation
    task: str
    rows: RowsAsked
    base: _Scored
    other: _Scored

    @property
    def names(self) -> tuple[object, ...]:
        return self.rows, self.task, self.base.variant.name, self.other.variant.name

    @property
    def statistics(self) -> Sequence[tuple[Floats, Floats]]:
        """Statistics of both sides, one pair a seed that both have."""
        shared = [seed for seed in self.base.statistics if seed in self.other.statistics]
        base, other = self.base.statistics, self.other.statistics
        if not shared:
            return [(next(iter(base.values())), next(iter(other.values())))]
        return [(base[seed], other[seed]) for seed in shared]


def pair_cells(
    cells: Sequence[CellRecord],
    *,
    variants: Sequence[str],
    tasks: Sequence[str],
    row_counts: Sequence[RowsAsked] = (),
    clean: Mapping[str, str] = NO_CHANGES,
    reference: str = "",
    seed: int,
    before: PairedRecords | None = None,
) -> PairedRecords:
    """Compare finished cells. Those that failed are left out; those of other rows are compared among themselves.

    Args:
        variants: names, in the order of the plan; the first model is what `first` holds the others to.
        tasks: names, in the order of the plan.
        row_counts: numbers of training rows that the plan asks with; empty: it does not ask by rows.
        clean: task of changed rows -> the task of the rows as they are.
        reference: the variant that `first` holds the others to where it has the task; empty: the first model.
        seed: of the resamples.
        before: an earlier comparison; what it says of cells without statistics stays.
    """
    cells = told_apart(cells)
    tasks = [*tasks, *dict.fromkeys(cell.task.name for cell in cells if cell.task.apart_from)]
    pairs: list[_Pair] = []
    groups: list[tuple[RowsAsked, str, list[_Scored]]] = []
    for rows in row_counts or (None,):
        for task in tasks:
            own = _of_task(cells, task, rows)
            bare, scored = any(map(_is_bare, own)), _task_scores(own, variants)
            pairs += [
                pair
                for pair in _pairs(scored, task=task, rows=rows, reference=reference)
                if pair.relation != "best" or not bare
            ]
            if len(group := _comparable(scored)) > 1 and not bare:
                groups.append((rows, task, group))
            if task in clean:
                pairs += _changes(scored, _task_scores(_of_task(cells, clean[task], rows), variants), task, rows)
    kept = _kept(cells, before)
    sizes = Counter([(each.relation, each.rows) for each in pairs] + [(each.relation, each.rows) for each in kept])
    results: dict[tuple[object, ...], PairedResult] = {}
    for pair in pairs:
        if pair.names not in results:
            results[pair.names] = compare_over_seeds(
                pair.base.metric,
                pair.statistics,
                resamples=resamples_for(max(sizes.values())),
                seed=seed,
                clusters=pair.base.clusters,
            )
    made = [_record(pair, results[pair.names]) for pair in pairs]
    of_parts = list(_of_parts(pairs, seed=seed))
    # What is made now stands in place of what was kept; in the plan's order of tasks, then of variants.
    all_pairs = {_key(each): each for each in (*kept, *made)}
    order = {name: place for place, name in enumerate(tasks)}
    names = {name: place for place, name in enumerate(variants)}
    ordered = sorted(all_pairs.values(), key=lambda each: (order.get(each.task, -1), names.get(each.variant, -1)))
    return PairedRecords(
        seed=seed,
        comparisons=tuple(
            each for rows in row_counts or (None,) for one in RELATIONS for each in _judged(ordered, one, rows)
        ),
        parts=tuple(each for rows in row_counts or (None,) for one in PARTED for each in _judged(of_parts, one, rows))
        or (before.parts if before is not None and any(map(_is_bare, cells)) else ()),
        together=tuple(
            sorted(
                (*_kept_groups(cells, before), *_together(groups, seed=seed)), key=lambda each: order.get(each.task, -1)
            )
        ),
    )


def _pairs(scored: Sequence[_Scored], *, task: str, rows: RowsAsked, reference: str) -> Iterator[_Pair]:
    """The comparisons of one task."""
    models = [each for each in scored if not each.baseline]
    best = max(scored, key=lambda each: each.order, default=None)
    rivals = [
        max(those, key=lambda each: each.order)
        for classical in (False, True)
        if (those := [each for each in scored if each.baseline and (each.baseline in CLASSICAL_BASELINES) == classical])
    ]
    first = next((each for each in scored if each.variant.name == reference), models[0] if models else None)
    wanted: list[tuple[Relation, _Scored, _Scored]] = [
        ("first", first, each) for each in models if first is not None and each is not first
    ]
    wanted += [("best", best, each) for each in scored if best is not None and each is not best]
    wanted += [("parent", parent, each) for each in models if (parent := _parent(each, models)) is not None]
    wanted += [("rival", rival, each) for each in models for rival in rivals]
    for relation, base, other in wanted:
        if _alike(base, other):
            yield _Pair(relation=relation, task=task, rows=rows, base=base, other=other)


def _changes(changed: Sequence[_Scored], clean: Sequence[_Scored], task: str, rows: RowsAsked) -> Iterator[_Pair]:
    """Each variant on changed rows against itself on the rows as they are."""
    before = {each.variant.name: each for each in clean}
    for other in changed:
        base = before.get(other.variant.name)
        if base is not None and (base.name, base.metric.signature) == (other.name, other.metric.signature):
            yield _Pair(relation="clean", task=task, rows=rows, base=base, other=other)


def _comparable(scored: Sequence[_Scored]) -> list[_Scored]:
    """Those that were scored alike, with the best of which most can be compared."""
    groups = [[other for other in scored if other is each or _alike(each, other)] for each in scored]
    return max(groups, key=len, default=[])


def _together(groups: Sequence[tuple[RowsAsked, str, Sequence[_Scored]]], *, seed: int) -> Iterator[TogetherRecord]:
    """Each task's variants, all against all."""
    tasks = Counter(rows for rows, _, _ in groups)
    for rows, task, group in groups:
        shared = [number for number in group[0].statistics if all(number in each.statistics for each in group)]
        variants = [
            [each.statistics[number] for number in shared] if shared else [next(iter(each.statistics.values()))]
            for each in group
        ]
        usual, table = all_pairs(
            group[0].metric,
            variants,
            levels=(0.95, 1 - 0.05 / tasks[rows]),
            seed=seed,
            clusters=group[0].clusters,
        )
        sign = 1 if group[0].metric.higher_is_better else -1
        order = np.argsort(-sign * usual.values, kind="stable")
        yield TogetherRecord(
            task=task,
            rows=rows,
            metric=group[0].name,
            scale=group[0].metric.scale,
            higher_is_better=group[0].metric.higher_is_better,
            n=usual.n,
            variants=tuple(group[place].variant.name for place in order),
            values=tuple(usual.values[order].tolist()),
            halves=_triangle(usual.halves[np.ix_(order, order)]),
            table_halves=_triangle(table.halves[np.ix_(order, order)]),
        )


def _triangle(square: Floats) -> tuple[tuple[float, ...], ...]:
    """Below the diagonal, in four digits."""
    return tuple(tuple(float(f"{each:.4g}") for each in line[:place]) for place, line in enumerate(square))


def _of_task(cells: Sequence[CellRecord], task: str, rows: RowsAsked) -> list[CellRecord]:
    return [cell for cell in cells if cell.task.name == task and cell.rows_asked in (rows, None)]


def _parent(exported: _Scored, models: Sequence[_Scored]) -> _Scored | None:
    """The variant that the exported one was made from: the same model in torch, in fp32 where there is one."""
    mine = exported.variant
    if not runs_packages(mine.runtime):
        return None
    same = [
        each
        for each in models
        if each.variant.runtime in ("torch", "torch-compile", "native")
        and (each.variant.model, each.num_fewshot, each.variant.generation_kwargs)
        == (mine.model, exported.num_fewshot, mine.generation_kwargs)
    ]
    return min(same, key=lambda each: each.variant.precision != "fp32", default=None)


def _of_parts(pairs: Sequence[_Pair], *, seed: int) -> Iterator[PairedRecord]:
    """The comparisons again, on each part of the rows alone."""
    parted = [pair for pair in pairs if pair.relation in PARTED and pair.base.parts]
    for pair in parted:
        parts = np.array(pair.base.parts)
        for part in dict.fromkeys(pair.base.parts or ()):
            kept = parts == part
            clusters = None if pair.base.clusters is None else np.array(pair.base.clusters, dtype=object)[kept].tolist()
            try:
                result = compare_over_seeds(
                    pair.base.metric,
                    [(base[kept], other[kept]) for base, other in pair.statistics],
                    resamples=resamples_for(2 * len(parted)),
                    seed=seed,
                    clusters=clusters,
                )
            except WorkError:
                continue  # no example of the part has a value
            yield _record(pair, result).model_copy(update={"part": part})


def _record(pair: _Pair, result: PairedResult) -> PairedRecord:
    """The comparison on its own; `_judged` adjusts it for its family."""
    return PairedRecord(
        relation=pair.relation,
        variant=pair.other.variant.name,
        base=pair.base.variant.name,
        task=pair.task,
        rows=pair.rows,
        seeds=len(pair.statistics),
        metric=pair.base.name,
        scale=pair.base.metric.scale,
        higher_is_better=pair.base.metric.higher_is_better,
        **asdict(result),
        p_holm=result.p_value,
        verdict="open",
    )


def _judged(comparisons: Sequence[PairedRecord], relation: Relation, rows: RowsAsked) -> Iterator[PairedRecord]:
    """One family with p-values adjusted, and what they show."""
    family = [each for each in comparisons if (each.relation, each.rows) == (relation, rows)]
    for each, p_value in zip(family, holm([one.p_value for one in family]), strict=True):
        shown = verdict(each.difference, p_value=p_value, higher_is_better=each.higher_is_better)
        yield each.model_copy(update={"relation": relation, "p_holm": p_value, "verdict": shown})


def _key(comparison: PairedRecord) -> tuple[object, ...]:
    """Two models may have the same best rival of both kinds, so the base belongs to the key there alone."""
    base = comparison.base if comparison.relation == "rival" else ""
    return comparison.rows, comparison.relation, base, comparison.variant, comparison.task


def _is_bare(cell: CellRecord) -> bool:
    """Was it scored, and are its statistics gone? Then it may be the best, and nobody can be compared with it."""
    return cell.result is not None and cell.statistics is None


def _kept_groups(cells: Sequence[CellRecord], before: PairedRecords | None) -> Iterator[TogetherRecord]:
    """Tasks whose variants were all compared before, one of them in a cell that has no statistics any more."""
    bare = {(cell.task.name, cell.rows_asked) for cell in cells if _is_bare(cell)}
    for each in before.together if before else ():
        if {(each.task, each.rows), (each.task, None)} & bare:
            yield each


def _kept(cells: Sequence[CellRecord], before: PairedRecords | None) -> Sequence[PairedRecord]:
    """What was compared before between cells that have no statistics any more."""
    bare = {(cell.variant.name, cell.task.name, rows) for cell in cells if _is_bare(cell) for rows in {cell.rows_asked}}
    return [
        each
        for each in (before.comparisons if before else ())
        if all({(name, each.task, each.rows), (name, each.task, None)} & bare for name in (each.variant, each.base))
    ]


def _task_scores(cells: Sequence[CellRecord], variants: Sequence[str]) -> list[_Scored]:
    """The variants that have a main metric among the cells of one task, in their order, without bounds."""
    name = comparable_metric(
        [(tuple(cell.recipes), cell.tokenizer_hash) for cell in cells if cell.recipes],
        language=next((cell.task.language for cell in cells), ""),
    )
    if name is None:
        return []
    mine = {each: {cell.seed: cell for cell in cells if cell.variant.name == each} for each in variants}
    found = (_scored(cells_of, name) for cells_of in mine.values())
    return [each for each in found if each is not None and each.baseline not in BOUND_BASELINES]


def _scored(cells: Mapping[int, CellRecord], name: str) -> _Scored | None:
    """The seeds that were scored on the same rows as the first of them."""
    scored = {seed: cell for seed, cell in cells.items() if name in cell.recipes and name in cell.metrics}
    tables = {
        seed: cell.statistics[name] for seed, cell in scored.items() if cell.statistics and name in cell.statistics
    }
    if not tables:
        return None
    first = scored[next(iter(tables))]
    try:
        metric = remake_metric(first.recipes[name])
    except UsageError:
        return None  # made by code of the task file: there is nothing to compute it with again
    data = first.conditions.get("data_fingerprint")
    alike = [
        seed
        for seed, table in tables.items()
        if scored[seed].conditions.get("data_fingerprint") == data
        and table.shape == tables[next(iter(tables))].shape
        and scored[seed].recipes[name] == first.recipes[name]
    ]
    return _Scored(
        variant=first.variant,
        baseline=first.baseline,
        num_fewshot=first.conditions.get("num_fewshot"),
        metric=metric,
        name=name,
        statistics={seed: tables[seed] for seed in alike},
        values={seed: scored[seed].metrics[name].value for seed in alike},
        clusters=first.clusters,
        parts=first.parts,
        data=data,
        tokenizer=first.tokenizer_hash,
    )


def _alike(first: _Scored, other: _Scored) -> bool:
    if is_per_token(first.name) and first.tokenizer != other.tokenizer:
        return False
    return (first.data, first.name, first.metric.signature, first.shape) == (
        other.data,
        other.name,
        other.metric.signature,
        other.shape,
    )
