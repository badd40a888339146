"""The decision of a run: which variant to take, what it costs against whom, where not to ship it. Computed, and said.

`decide` makes the record that decision.json holds; `facts` says it in lines under labels, which pages, report.md and
the command line print alike.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from lmtasks.metric.base import Scale
from lmtasks.report import format as show
from lmtasks.report.curves import curve_sentences, rows_text
from lmtasks.report.grid import baseline_of, contenders, main_metric, main_score, models, reference_of, score_text
from lmtasks.report.groups import defensibly_best
from lmtasks.report.quality import variant_detail
from lmtasks.report.records import RunRecords
from lmtasks.report.speeds import pace, speed_against
from lmtasks.report.standing import best_on, margin_of, pair_of, standings
from lmtasks.report.summary import Shortlist, answer, behind_trivial, choose, troubles
from lmtasks.results.cell import RowsAsked, TaskInfo, Variant
from lmtasks.results.comparison import PairedRecord
from lmtasks.results.decision import (
    Against,
    Caveat,
    DecisionRecord,
    MeanChange,
    Outcome,
    QualityAgainst,
    QualityChange,
    QualityStatus,
    RoundedAnswer,
    SpeedAgainst,
    TaskAnswer,
    VariantCosts,
)
from lmtasks.settings.runtimes import runs_packages

NORMAL_95 = 1.96
EXACT = frozenset({"", "none", "fp32"})
"""Precisions in which nothing is rounded."""
SHOWN_TASKS = 6
"""Tasks of one kind that a line names; the others are counted, and stand in the tables."""
BASES: dict[Against, str] = {
    "reference": "{base}, the reference",
    "first": "{base}, the first model",
    "parent": "{base}, which it was exported from",
    "rival": "the best rival",
    "others": "the best of the others",
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Lines of the decision under one label."""

    label: str
    lines: tuple[str, ...]


def decide(run: RunRecords) -> DecisionRecord:
    """The decision of a run; of one that asks by rows, at the largest number of rows."""
    whole, rows = run, run.row_counts[-1] if run.row_counts else None
    run = run if rows is None else run.at(rows)
    choice = choose(run)
    chosen = _chosen(run, choice)
    outcome = _outcome(run, choice)
    base = _base(run, chosen) if chosen is not None else None
    quality = _quality(run, chosen, base) if chosen is not None else ()
    speed = _speed(run, chosen, base[1]) if chosen is not None and base is not None else ()
    priced = [each for each in (chosen, base[1] if base else None) if each is not None and each.name in run.speeds]
    rounded = tuple(_rounded_answers(run))
    return DecisionRecord(
        name=run.name,
        rows=rows,
        outcome=outcome,
        variant="" if chosen is None else chosen.name,
        detail="" if chosen is None else variant_detail(chosen),
        margin=run.margin,
        quality=quality,
        speed=speed,
        costs=tuple(
            VariantCosts(
                variant=each.name,
                memory_bytes=run.speeds[each.name].total_memory_bytes,
                size_bytes=run.speeds[each.name].artefact.size_bytes,
            )
            for each in priced
        ),
        caveats=() if chosen is None else tuple(_caveats(run, chosen, quality)),
        may_be_best=defensibly_best(run),
        variants=len(contenders(run)),
        rounded=rounded,
        by_task=() if outcome in ("keeps", "only", "none") else tuple(_task_answers(run, choice)),
        disturbed=tuple(_disturbed(run, priced)),
        troubles=troubles(whole),
        said=said_of(whole, choice if not whole.row_counts else None),
    )


def said_of(whole: RunRecords, choice: Shortlist | None = None) -> tuple[str, ...]:
    """The decision in sentences; of a run that asks by rows, at each number of rows.

    Args:
        choice: of `choose`, where the caller has it.
    """
    if not whole.row_counts:
        return answer(whole, choice)
    return (*curve_sentences(whole), *with_rows(whole, answer, most=1))


def with_rows(
    whole: RunRecords, say: Callable[[RunRecords], tuple[str, ...]], *, most: int | None = None
) -> tuple[str, ...]:
    """Sentences about each number of rows; those that hold for all numbers once.

    Args:
        most: sentences of each number; None: all.
    """
    said: dict[RowsAsked, tuple[str, ...]] = {rows: say(whole.at(rows))[:most] for rows in whole.row_counts}
    everywhere = [each for each in next(iter(said.values())) if all(each in those for those in said.values())]
    if len(said) > 1 and everywhere and all(len(those) == len(everywhere) for those in said.values()):
        return (f"With every number of rows: {everywhere[0]}", *everywhere[1:])
    return tuple(f"With {rows_text(rows)}: {sentence}" for rows, those in said.items() for sentence in those)


def facts(decision: DecisionRecord) -> tuple[Fact, ...]:
    """The lines below the answer, each label once, in the order of the page."""
    found: list[Fact] = []
    if decision.variant:
        label = "Nearest" if decision.outcome == "nearest" else "Recommended"
        found.append(Fact(label=label, lines=(" · ".join(filter(None, [decision.variant, decision.detail])),)))
    found += [
        Fact(label=f"Quality against {BASES[each.against].format(base=each.base)}", lines=tuple(_quality_lines(each)))
        for each in decision.quality
    ]
    if decision.may_be_best:
        those = f"{len(decision.may_be_best)} of {decision.variants}"
        verb = "is" if len(decision.may_be_best) == 1 else "are"
        line = f"{_shortened(decision.may_be_best)}: {those} {verb} not told apart from the best on any task"
        if len(decision.may_be_best) == decision.variants:
            line = f"any of all {decision.variants}: nobody is told apart from the best on any task"
        found.append(Fact(label="May be best everywhere", lines=(f"{line} (simultaneous intervals)",)))
    if decision.speed:
        found.append(
            Fact(label=f"Speed against {decision.speed[0].base}", lines=tuple(map(_speed_line, decision.speed)))
        )
    if decision.costs:
        found.append(
            Fact(
                label="Memory and size",
                lines=tuple(
                    f"{each.variant}: {show.size(each.memory_bytes)} at the peak, libraries among them; "
                    f"{show.size(each.size_bytes)} on disk"
                    for each in decision.costs
                ),
            )
        )
    found += [Fact(label=f"Ship {each.variant}?", lines=(each.said,)) for each in decision.rounded]
    if decision.caveats:
        found.append(Fact(label="Do not ship where", lines=tuple(each.said for each in decision.caveats)))
    if decision.disturbed:
        found.append(Fact(label="The machine was disturbed", lines=decision.disturbed))
    return tuple(found)


def decision_lines(decision: DecisionRecord) -> tuple[str, ...]:
    """The decision as a terminal prints it: sentences, then each fact in a line or more."""
    lines = [*decision.said, *decision.troubles]
    for fact in facts(decision):
        first, *more = fact.lines
        lines += [f"{fact.label}: {first}", *(f"{' ' * (len(fact.label) + 2)}{line}" for line in more)]
    return tuple(lines)


def _chosen(run: RunRecords, choice: Shortlist) -> Variant | None:
    """The fastest of those that may be taken; where nothing was timed, the one that fewest others are ahead of, counted
    over all tasks."""
    if not choice.candidates or choice.is_by_task:
        return None
    among = choice.keeping or choice.level
    if not among:
        return choice.nearest
    if choice.fastest is not None:
        return choice.fastest
    found = [{each.name: main_score(run, variant=each, task=task) for each in among} for task in choice.tasks]
    known = [{name: score.order for name, score in scores.items() if score is not None} for scores in found]

    def ahead(variant: Variant) -> int:
        return sum(
            order > scores[variant.name] for scores in known if variant.name in scores for order in scores.values()
        )

    return min(among, key=ahead)


def _outcome(run: RunRecords, choice: Shortlist) -> Outcome:
    if not choice.candidates:
        return "none"
    if len(run.variants) == 1:
        return "only"
    if choice.is_by_task:
        return "by-task"
    return "keeps" if choice.keeping else "level" if choice.level else "nearest"


def _base(run: RunRecords, chosen: Variant) -> tuple[Against, Variant] | None:
    """What the variant is held to: the plan's reference, else the one that it was exported from, else the first model;
    None where it is that itself."""
    named = next((each for each in run.variants if each.name == run.reference), None)
    if named is not None:
        return None if named.name == chosen.name else ("reference", named)
    if (parent := _parent(run, chosen)) is not None:
        return "parent", parent
    first = next((each for each in models(run) if each.name != chosen.name), None)
    return None if first is None or chosen == next(iter(models(run)), None) else ("first", first)


def _parent(run: RunRecords, variant: Variant) -> Variant | None:
    """The variant that an exported one was made from."""
    if not runs_packages(variant.runtime):
        return None
    base = next((e.base for e in run.comparisons if (e.relation, e.variant) == ("parent", variant.name)), None)
    found = next((each for each in run.variants if each.name == base), None) or reference_of(run, variant)
    return None if found is None or found.name == variant.name else found


def _quality(run: RunRecords, chosen: Variant, base: tuple[Against, Variant] | None) -> tuple[QualityAgainst, ...]:
    found = []
    if base is not None:
        against, other = base
        changes = [_change(run, task, chosen, other) for task in run.tasks]
        found.append(_against(against, other.name, [each for each in changes if each is not None]))
    rivals = [each for each in contenders(run) if baseline_of(run, each)]
    is_model = not baseline_of(run, chosen)
    others = rivals if is_model and rivals else [each for each in contenders(run) if each.name != chosen.name]
    nearest = [_nearest(run, task, chosen, others) for task in run.tasks]
    known = [each for each in nearest if each is not None]
    if known and {each.base for each in known} != {base[1].name if base else ""}:
        found.append(_against("rival" if others is rivals else "others", "", known))
    return tuple(each for each in found if each.tasks)


def _nearest(run: RunRecords, task: TaskInfo, chosen: Variant, others: Sequence[Variant]) -> QualityChange | None:
    """Against the best of the others on a task: by value, and of those with a paired comparison where there are any."""
    scored = [(each, score) for each in others if (score := main_score(run, variant=each, task=task)) is not None]
    paired = [pair for pair in scored if _pair(run, task, chosen, pair[0]) is not None]
    top = max(paired or scored, key=lambda pair: pair[1].order, default=None)
    return None if top is None else _change(run, task, chosen, top[0])


def _against(against: Against, base: str, changes: Sequence[QualityChange]) -> QualityAgainst:
    return QualityAgainst(against=against, base=base, mean=_mean(changes), tasks=tuple(changes))


def _mean(changes: Sequence[QualityChange]) -> MeanChange | None:
    """Tasks are of different examples, so that the variances of their differences add up."""
    counted = [each for each in changes if each.scale != "raw" and each.status != "unpaired"]
    if len(counted) < 2:
        return None
    gains = [each.difference if each.higher_is_better else -each.difference for each in counted]
    mean = sum(gains) / len(gains)
    intervals = [each.ci95 for each in counted if each.ci95 is not None]
    half = sqrt(sum(((high - low) / 2) ** 2 for low, high in intervals)) / len(gains)
    return MeanChange(
        tasks=len(counted),
        difference=mean,
        ci95=(mean - half, mean + half) if len(intervals) == len(counted) else None,
    )


def _change(run: RunRecords, task: TaskInfo, variant: Variant, base: Variant) -> QualityChange | None:
    """None where one of both has no score."""
    metric = main_metric(run, task)
    mine, theirs = (main_score(run, variant=each, task=task) for each in (variant, base))
    if metric is None or mine is None or theirs is None:
        return None
    margin, record = margin_of(run, theirs), _pair(run, task, variant, base)
    if record is not None:
        return _of_record(record, base=base.name, margin=margin)
    change = show.in_points(mine.value, mine.scale) - show.in_points(theirs.value, theirs.scale)
    sizes = [cell.scores.n for cell in run.of(variant=variant.name, task=task.name) if cell.metrics]
    return QualityChange(
        task=task.name,
        base=base.name,
        metric=metric,
        scale=mine.scale,
        higher_is_better=mine.higher_is_better,
        n=max(sizes),
        difference=change,
        ci95=None,
        status="unpaired",
        margin=margin,
    )


def _of_record(record: PairedRecord, *, base: str, margin: float) -> QualityChange:
    change = QualityChange(
        task=record.task,
        base=base,
        part=record.part,
        metric=record.metric,
        scale=record.scale,
        higher_is_better=record.higher_is_better,
        n=record.n,
        difference=record.difference,
        ci95=record.ci95,
        status="open",
        margin=margin,
    )
    status: QualityStatus = record.verdict
    if status == "open" and change.loss is not None and change.loss <= margin:
        status = "keeps"
    return change.model_copy(update={"status": status})


def _pair(run: RunRecords, task: TaskInfo, variant: Variant, base: Variant) -> PairedRecord | None:
    relation = "parent" if _parent(run, variant) == base else "rival" if baseline_of(run, base) else "best"
    return pair_of(run, relation=relation, variant=variant.name, base=base.name, task=task.name)


def _speed(run: RunRecords, chosen: Variant, base: Variant) -> tuple[SpeedAgainst, ...]:
    found = []
    for of, largest in (("throughput", True), ("latency", False)):
        against = speed_against(run, chosen, base, largest=largest)
        if against is not None:
            ratio, tasks, size = against
            found.append(
                SpeedAgainst.model_validate(
                    {
                        "base": base.name,
                        "of": of,
                        "batch_size": size,
                        "tasks": tasks,
                        "value": ratio.value,
                        "ci95": ratio.ci95,
                        "rounds": len(ratio.rounds),
                    }
                )
            )
    return tuple(found)


def _rounded_answers(run: RunRecords) -> Iterator[RoundedAnswer]:
    """Every rounded export against what it was exported from."""
    for variant in models(run):
        base = _parent(run, variant)
        if base is None or variant.precision in EXACT:
            continue
        changes = [_change(run, task, variant, base) for task in run.tasks]
        known = tuple(each for each in changes if each is not None and each.status != "unpaired")
        paired = {each.task for each in known}
        missing = tuple(
            task.name
            for task in run.tasks
            if task.name not in paired and main_score(run, variant=base, task=task) is not None
        )
        if not known and not missing:
            continue
        worse = [each for each in known if each.is_beyond_margin]
        unclear = [each for each in known if each.loss is None or each.loss > each.margin]
        name = "no" if worse else "not shown" if unclear or missing else "yes"
        answered = RoundedAnswer.model_validate(
            {"variant": variant.name, "base": base.name, "answer": name, "tasks": known, "missing": missing, "said": ""}
        )
        yield answered.model_copy(update={"said": _rounded_sentence(run, answered, worse or unclear)})


def _rounded_sentence(run: RunRecords, answered: RoundedAnswer, named: Sequence[QualityChange]) -> str:
    """The answer with its reason, then what it brings in speed and size."""
    where = "on the one task" if len(answered.tasks) == 1 else f"on all {len(answered.tasks)} tasks"
    if answered.answer == "yes":
        most = max(answered.tasks, key=lambda each: (each.loss or 0.0) / each.margin)
        reason = (
            f"Yes, in place of {answered.base}: {where} a loss beyond the margin is excluded; nearest to it "
            f"({_margin(most)}) is {_named_change(most)}"
        )
    elif answered.answer == "no":
        reason = (
            f"No, not in place of {answered.base}: worse by more than the margin ({_margin(named[0])}) on "
            f"{_shortened([_named_change(each) for each in named])}"
        )
    else:
        parts = []
        if named:
            parts.append(
                f"a loss beyond the margin ({_margin(named[0])}) is not excluded on "
                f"{_shortened([f'{_named_change(each)} of {show.count(each.n)} examples' for each in named])}"
            )
        if answered.missing:
            parts.append(f"nothing is paired on {_shortened(answered.missing)}")
        reason = f"Not shown, in place of {answered.base}: {'; '.join(parts)}"
    variant, base = (next(each for each in run.variants if each.name == name)
                     for name in (answered.variant, answered.base))  # fmt: skip
    faster = speed_against(run, variant, base, largest=True)
    gains = [] if faster is None else [f"{show.ratio_interval(faster[0].value, faster[0].ci95)} the throughput"]
    if all(name in run.speeds for name in (answered.variant, answered.base)):
        sizes = [run.speeds[name].artefact.size_bytes for name in (answered.variant, answered.base)]
        gains.append(f"{show.size(sizes[0])} instead of {show.size(sizes[1])} on disk")
    return f"{reason}{'. It brings ' + ', and '.join(gains) if gains else ''}."


def _task_answers(run: RunRecords, choice: Shortlist) -> Iterator[TaskAnswer]:
    for task in choice.tasks:
        top, stands = best_on(run, task), standings(run, task)
        if top is None:
            continue
        first, theirs = top
        others = {
            status: tuple(
                f"{name} ({at.shown_loss if status == 'open' else at.shown})"
                for name, at in stands.items()
                if at.status == status
            )
            for status in ("keeps", "open", "worse")
        }
        able = [each for each in run.variants
                if (at := stands.get(each.name)) and at.status in ("best", "keeps")]  # fmt: skip
        paces = [(rate, each) for each in able if (rate := pace(run, each, among=able)) is not None]
        advice = max(paces, key=lambda pair: pair[0])[1] if paces else first
        yield TaskAnswer(
            task=task.name,
            metric=main_metric(run, task) or "",
            best=first.name,
            shown=score_text(theirs),
            rival=_baseline_on(run, first, task),
            keeps=others["keeps"],
            open=others["open"],
            worse=others["worse"],
            missing=tuple(_without_score(run, task)),
            advice=advice.name,
        )


def _baseline_on(run: RunRecords, variant: Variant, task: TaskInfo) -> str:
    return next((cell.baseline for cell in run.of(variant=variant.name, task=task.name)), "")


def _without_score(run: RunRecords, task: TaskInfo) -> Iterator[str]:
    for variant in contenders(run):
        if reason := _why_failed(run, variant, task):
            yield f"{variant.name} (failed: {reason})"


def _why_failed(run: RunRecords, variant: Variant, task: TaskInfo) -> str:
    """The reason of the first seed that failed; empty where none did."""
    cells = run.of(variant=variant.name, task=task.name)
    return next((cell.reason or "no reason was recorded" for cell in cells if cell.status == "failed"), "")


def _caveats(run: RunRecords, chosen: Variant, quality: Sequence[QualityAgainst]) -> Iterator[Caveat]:
    for each in quality:
        yield from (
            Caveat(kind="loss", task=change.task, said=f"{_named_change(change)} against {change.base}")
            for change in each.tasks
            if change.status == "worse"
        )
    bases = {(change.task, change.base) for each in quality for change in each.tasks}
    for task in run.tasks:
        top = best_on(run, task)
        if reason := _why_failed(run, chosen, task):
            yield Caveat(kind="failed", task=task.name, said=f"{task.name}: it failed ({reason.rstrip('.')})")
        elif top is not None and main_score(run, variant=chosen, task=task) is None:
            yield Caveat(kind="missing", task=task.name, said=f"{task.name}: it has no score there")
        elif top is not None and (task.name, top[0].name) not in bases and top[0].name != chosen.name:
            change = _change(run, task, chosen, top[0])
            if change is not None and change.status == "worse":
                yield Caveat(
                    kind="loss", task=task.name, said=f"{_named_change(change)} against {change.base}, the best"
                )
        at = standings(run, task).get(chosen.name)
        if at is not None and at.status == "worse" and at.loss is None and top is not None:
            said = f"{task.name}: {at.shown}, outside the interval of {top[0].name}, the best"
            yield Caveat(kind="loss", task=task.name, said=said)
    yield from _of_parts(run, chosen, bases)
    yield from _never_answered(run, chosen)
    yield from (
        Caveat(kind="trivial", task=task, said=f"{task}: it does not beat the trivial answer by more than chance")
        for task in behind_trivial(run, chosen)
    )


def _of_parts(run: RunRecords, chosen: Variant, bases: set[tuple[str, str]]) -> Iterator[Caveat]:
    """Parts of the rows on which it is worse than a base."""
    worse: dict[tuple[str, str, str], PairedRecord] = {}
    for each in run.part_comparisons:
        if each.variant == chosen.name and each.verdict == "worse":
            worse.setdefault((each.task, each.part, each.base), each)
    if worse:
        bases = bases | {(task.name, top[0].name) for task in run.tasks if (top := best_on(run, task)) is not None}
    for (task, _, base), each in worse.items():
        if (task, base) in bases:
            change = _of_record(each, base=base, margin=run.margin)
            yield Caveat(kind="part", task=task, said=f"{_named_change(change)} against {base}")


def _never_answered(run: RunRecords, chosen: Variant) -> Iterator[Caveat]:
    """Labels that rows have and that are answered under no seed."""
    for task in run.tasks:
        counts = [cell.scores.labels for cell in run.of(variant=chosen.name, task=task.name) if cell.scores.labels]
        if not counts:
            continue
        labels = [
            f"{label} ({show.count(count.true)} of {show.count(sum(each.true for each in counts[0].values()))} rows)"
            for label, count in counts[0].items()
            if count.true and not any(label in each and each[label].answered for each in counts)
        ]
        if labels:
            yield Caveat(kind="labels", task=task.name, said=f"{task.name}: it never answers {_shortened(labels)}")


def _disturbed(run: RunRecords, variants: Sequence[Variant]) -> Iterator[str]:
    """A sentence for each variant whose timings were disturbed."""
    for variant in variants:
        speed = run.speeds[variant.name]
        flags = [*(each.flags for each in speed.workloads), *(each.flags for each in speed.loads)]
        first = next(filter(None, flags), None)
        if first is not None:
            yield f"{variant.name}, in {sum(map(bool, flags))} of {len(flags)} timings; the first: {first[0]}"
        yield from (f"{variant.name}: {note}" for note in speed.notes)


def _quality_lines(against: QualityAgainst) -> Iterator[str]:
    mean, tasks = against.mean, against.tasks
    base = "" if against.base else " against whoever is best there"
    if mean is not None:
        of = "both tasks" if mean.tasks == 2 else f"{mean.tasks} tasks"
        interval = "" if mean.ci95 is None else f" {_interval(mean.ci95)}"
        sign = "" if all(each.higher_is_better for each in tasks if each.scale != "raw") else ", above 0 being better"
        yield f"{show.difference(mean.difference)} points{interval} in the mean over {of}{base}{sign}"
    words = {
        "worse": "worse by more than chance on",
        "open": "not told apart, and a loss beyond the margin is not excluded, on",
        "unpaired": "not paired on",
        "better": "better by more than chance on",
        "keeps": "a loss beyond the margin is excluded on",
    }
    for status, text in words.items():
        those = [each for each in tasks if each.status == status]
        if those:
            named = [_named_change(each) + ("" if against.base else f" against {each.base}") for each in those]
            yield f"{text} {_shortened(named)}"


def _speed_line(speed: SpeedAgainst) -> str:
    what = {"throughput": f"the throughput at batch {speed.batch_size}", "latency": "as fast for one request alone"}
    over = "on one task" if speed.tasks == 1 else f"over {speed.tasks} tasks"
    how = f"paired over {speed.rounds} rounds" if speed.rounds else "intervals of both joined"
    return f"{show.ratio_interval(speed.value, speed.ci95)} {what[speed.of]} ({over}, {how})"


def _named_change(change: QualityChange) -> str:
    """`sst2 −0.5 points [−1.9, +0.9]`."""
    unit = "" if change.scale == "raw" else " points"
    interval = "" if change.ci95 is None else f" {_interval(change.ci95, change.scale)}"
    part = f", {change.part}" if change.part else ""
    return f"{change.task}{part} {show.difference(change.difference, change.scale)}{unit}{interval}"


def _margin(change: QualityChange) -> str:
    unit = "" if change.scale == "raw" else " point" if change.margin == 1 else " points"
    return f"{change.margin:.3g}{unit}"


def _interval(ci95: tuple[float, float], scale: Scale = "points") -> str:
    return f"[{show.difference(ci95[0], scale)}, {show.difference(ci95[1], scale)}]"


def _shortened(names: Sequence[str]) -> str:
    """All names of a few; else the first ones, and how many more."""
    if len(names) <= SHOWN_TASKS:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN_TASKS])} and {len(names) - SHOWN_TASKS} more"
