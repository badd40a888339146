"""Findings of a run in sentences: computed, never written by hand.

Who keeps the quality of the best, and who beats a rival, is decided by paired comparisons (`standing.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmtasks.report import format as show
from lmtasks.report.grid import (
    Score,
    baseline_of,
    best,
    contenders,
    learned,
    main_metric,
    main_score,
    models,
    score_text,
    trivial,
)
from lmtasks.report.records import RunRecords
from lmtasks.report.speeds import pace, speed_up
from lmtasks.report.standing import Standing, pair_of, shown_margin, standings
from lmtasks.results.cell import TaskInfo, Variant

Losses = list[tuple[TaskInfo, str]]
"""Tasks, and how much was lost there, in words."""
NO_SCORE = "no score"
"""In the place of what was lost, on a task that a variant has no score on."""


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """Who keeps the quality of the best on the tasks that anybody answers, and whom to take."""

    candidates: Sequence[Variant]
    """Scored on some task: models, or rivals where there are no models."""
    tasks: Sequence[TaskInfo]
    keeping: Sequence[Variant] = ()
    """Those that keep it on all tasks."""
    level: Sequence[Variant] = ()
    """Those that are nowhere shown to be worse; the keeping ones too."""
    lost: Mapping[str, Losses] = field(default_factory=dict)
    """By variant: where it is worse."""
    unclear: Mapping[str, Losses] = field(default_factory=dict)
    """By variant: where neither is shown."""
    fastest: Variant | None = None
    """Of the keeping ones, or else of the level ones; None where nothing was timed."""

    @property
    def is_by_task(self) -> bool:
        """Does nobody answer all tasks?"""
        return len(self.tasks) > 1 and not self.level and not self.lost

    @property
    def nearest(self) -> Variant | None:
        """The candidate that is worse on the fewest tasks."""
        if not self.lost:
            return None
        return min(self.candidates, key=lambda each: (len(self.lost[each.name]), len(self.unclear[each.name])))


def choose(run: RunRecords) -> Shortlist:
    """Weigh the variants of a run against each other. Rivals compete as models do."""
    candidates = [variant for variant in models(run) or contenders(run) if _scored_tasks(run, variant)]
    tasks = [task for task in _shared(run) if best(run, variants=candidates, task=task) is not None]
    if not candidates or (len(tasks) > 1 and not any(_scored_on(run, variant, tasks) for variant in candidates)):
        return Shortlist(candidates=candidates, tasks=tasks)
    everywhere = {task.name: standings(run, task) for task in tasks}
    lost = {variant.name: _lost(everywhere, variant, tasks, "worse") for variant in contenders(run)}
    unclear = {variant.name: _lost(everywhere, variant, tasks, "open") for variant in contenders(run)}
    level = [each for each in contenders(run) if _scored_on(run, each, tasks) and not lost[each.name]]
    keeping = [variant for variant in level if not unclear[variant.name]]
    return Shortlist(
        candidates=candidates,
        tasks=tasks,
        keeping=keeping,
        level=level,
        lost=lost,
        unclear=unclear,
        fastest=_fastest(run, keeping or level),
    )


def answer(run: RunRecords, choice: Shortlist | None = None) -> tuple[str, ...]:
    """A few sentences: which variant is best for these tasks on this machine, and what the others trade.

    Args:
        choice: of `choose`, where the caller has it.
    """
    choice = choice or choose(run)
    if not choice.candidates:
        return ("No model was scored yet.",)
    ahead = _rivals_ahead(run, choice.candidates, choice.tasks)
    if choice.is_by_task:
        return (f"No variant answers all {len(choice.tasks)} tasks; the table says who is best on each.", *ahead)
    losses = {name: [*choice.lost[name], *choice.unclear[name]] for name in choice.lost}
    return (_choice(run, choice), *_faster_but_worse(run, losses, choice.fastest), *ahead)


def against_trivial(run: RunRecords) -> tuple[str, ...]:
    """For every model and task: is it better than the best trivial answer by more than chance?"""
    baselines, candidates = trivial(run), models(run)
    fails: list[str] = []
    compared = 0
    for task in run.tasks:
        top = best(run, variants=baselines, task=task)
        if top is None:
            continue
        baseline, theirs = top
        scored = [(v, s) for v in candidates if (s := main_score(run, variant=v, task=task)) is not None]
        compared += len(scored)
        behind = [(v, s) for v, s in scored if not _beats(run, v, s, baseline, theirs, task)]
        if behind:
            who = _list([f"{v.name} ({score_text(s)})" for v, s in behind])
            verb = "does" if len(behind) == 1 else "do"
            which = next((c.baseline for c in run.of(variant=baseline.name, task=task.name)), baseline.name)
            answered = f"{which} ({show.value(theirs.value, theirs.scale)} {main_metric(run, task)})"
            fails.append(f"On {task.name}, {who} {verb} not beat the trivial answer, {answered}, by more than chance.")
    if not compared:
        return ("No trivial answer was scored beside a model.",)
    if not fails:
        return ("Every model beats the best trivial answer on every task by more than chance.",)
    rest = "Everywhere else the models beat the trivial answer by more than chance."
    return (*fails, rest) if len(fails) < len(run.tasks) else tuple(fails)


def behind_trivial(run: RunRecords, variant: Variant) -> tuple[str, ...]:
    """Tasks on which a model does not beat the best trivial answer by more than chance."""
    found = []
    for task in run.tasks:
        top, mine = best(run, variants=trivial(run), task=task), main_score(run, variant=variant, task=task)
        if top is not None and mine is not None and variant not in trivial(run):
            found += [] if _beats(run, variant, mine, *top, task) else [task.name]
    return tuple(found)


def troubles(run: RunRecords) -> tuple[str, ...]:
    """Warnings before comparing: failed cells, conditions that differ within a task."""
    found = []
    failed = [cell for cell in run.cells if cell.status == "failed"]
    if failed:
        found.append(f"{len(failed)} of {len(run.cells)} cells failed; the tables say why.")
    for task in run.tasks:
        if task.apart_from:
            mine = [v.name for v in run.variants if any(c.metrics for c in run.of(variant=v.name, task=task.name))]
            verb = "was" if len(mine) == 1 else "were"
            found.append(
                f"{_list(mine)} {verb} scored on {_apart_in(run, task)} {task.apart_from} than the others: that stands "
                f"as a task of its own, {task.name}, and is not compared."
            )
    machines = {str(cell.machine.get("processor")) for cell in run.cells if cell.machine.get("processor")}
    machines |= {str(s.machine.get("processor")) for s in run.speeds.values() if s.machine.get("processor")}
    if len(machines) > 1:
        found.append(f"Not everything ran on the same machine: {', '.join(sorted(machines))}.")
    return tuple(found)


def _apart_in(run: RunRecords, task: TaskInfo) -> str:
    """In what the rows of a task that stands apart differ."""
    both = [
        {str(cell.conditions.get("data_fingerprint")) for cell in run.cells if cell.task.name == name and cell.metrics}
        for name in (task.name, task.apart_from)
    ]
    return "other questions of" if both[0] & both[1] else "other rows of"


def _choice(run: RunRecords, choice: Shortlist) -> str:
    on_tasks = "on the one task" if len(choice.tasks) == 1 else f"on all {len(choice.tasks)} tasks"
    if len(run.variants) == 1:
        return f"One model was scored, {choice.candidates[0].name}: there is nothing to choose between."
    excluded = f"a loss of more than {shown_margin(run)}"
    if choice.keeping:
        verb = "keeps" if len(choice.keeping) == 1 else "keep"
        quality = (
            f"{_named(run, choice.keeping)} {verb} the quality of the best {on_tasks} "
            f"(paired by example: not worse by more than chance, and {excluded} is excluded)"
        )
        return f"{quality}{_pick(run, choice.keeping, choice.fastest)}."
    if choice.level:
        few = _list([f"{v.name} ({losses_text(choice.unclear[v.name])})" for v in choice.level])
        verb = "is" if len(choice.level) == 1 else "are"
        return (
            f"Nobody is shown to keep the quality of the best {on_tasks}. Nowhere worse by more than chance {verb} "
            f"{_named(run, choice.level)}, but these examples do not exclude {excluded}: "
            f"{few}{_pick(run, choice.level, choice.fastest)}."
        )
    least = choice.nearest
    assert least is not None  # somebody was scored on all tasks
    worse = [loss for loss in choice.lost[least.name] if loss[1] != NO_SCORE]
    unscored = [task.name for task, by in choice.lost[least.name] if by == NO_SCORE]
    where = [f"worse by more than chance on {losses_text(worse)}"] if worse else []
    where += [f"without a score on {_list(unscored)}"] if unscored else []
    return (
        f"Nobody keeps the quality of the best {on_tasks}; {least.name} comes nearest among the models, "
        f"{'; '.join(where)}."
    )


def _pick(run: RunRecords, among: Sequence[Variant], chosen: Variant | None) -> str:
    """The fastest of them."""
    if chosen is None:
        return "; their speed was not measured" if any(not baseline_of(run, each) for each in among) else ""
    which = f"; the fastest of them is {chosen.name}" if len(among) > 1 else ""
    return f"{which}{_times_torch(run, chosen)}"


def _times_torch(run: RunRecords, variant: Variant) -> str:
    times = speed_up(run, variant)
    if times is None or variant.runtime == "torch":
        return ""
    return f", with {show.ratio(times)} the throughput of the same model in torch (geometric mean over the tasks)"


def _fastest(run: RunRecords, variants: Sequence[Variant]) -> Variant | None:
    timed = [(variant, rate) for variant in variants if (rate := pace(run, variant, among=variants)) is not None]
    return max(timed, key=lambda pair: pair[1])[0] if timed else None


def _faster_but_worse(run: RunRecords, losses: Mapping[str, Losses], chosen: Variant | None) -> list[str]:
    found = []
    for variant in models(run):
        if chosen is None or variant == chosen or not losses[variant.name]:
            continue
        mine, theirs = (pace(run, each, among=(variant, chosen)) for each in (variant, chosen))
        if mine is not None and theirs is not None and mine > theirs:
            times = show.ratio(mine / theirs)
            found.append(
                f"{variant.name} is faster still, {times} {chosen.name}, but not shown to keep the quality: "
                f"{losses_text(losses[variant.name])}."
            )
    return found


def _rivals_ahead(run: RunRecords, candidates: Sequence[Variant], tasks: Sequence[TaskInfo]) -> list[str]:
    """Tasks on which a rival has more than every model."""
    ahead = []
    for task in tasks:
        model = best(run, variants=candidates, task=task)
        rival = best(run, variants=[*trivial(run), *learned(run)], task=task)
        if model is None or rival is None or rival[1].order <= model[1].order:
            continue
        record = pair_of(run, relation="rival", variant=model[0].name, base=rival[0].name, task=task.name)
        sure = "not paired" if record is None else "more than chance" if record.verdict == "worse" else "open"
        ahead.append(f"{task.name} ({score_text(rival[1])} by {rival[0].name} against {score_text(model[1])}: {sure})")
    return [f"A rival is ahead of every model on {_list(ahead)}."] if ahead else []


def _beats(run: RunRecords, variant: Variant, mine: Score, baseline: Variant, theirs: Score, task: TaskInfo) -> bool:
    """By the paired comparison; where none is stored, by the model's own interval."""
    record = pair_of(run, relation="rival", variant=variant.name, base=baseline.name, task=task.name)
    return record.verdict == "better" if record is not None else mine.better_than(theirs.value)


def _lost(
    everywhere: Mapping[str, Mapping[str, Standing]], variant: Variant, tasks: Sequence[TaskInfo], status: str
) -> Losses:
    """Tasks on which the variant stands so; one without a score counts as worse."""
    found: Losses = []
    for task in tasks:
        at = everywhere[task.name].get(variant.name)
        if at is None:
            found += [(task, NO_SCORE)] if status == "worse" else []
        elif at.status == status:
            found.append((task, at.shown if status == "worse" else at.shown_loss))
    return found


def _scored_tasks(run: RunRecords, variant: Variant) -> bool:
    return any(main_score(run, variant=variant, task=task) is not None for task in _shared(run))


def _shared(run: RunRecords) -> Sequence[TaskInfo]:
    """Tasks but for those that stand apart, of other rows than most were scored on."""
    return [task for task in run.tasks if not task.apart_from]


def _scored_on(run: RunRecords, variant: Variant, tasks: Sequence[TaskInfo]) -> bool:
    return all(main_score(run, variant=variant, task=task) is not None for task in tasks)


def _named(run: RunRecords, variants: Sequence[Variant]) -> str:
    """The variants, rivals told apart from models where there are both."""
    both = bool(models(run))
    return _list([f"{v.name} (a rival)" if both and baseline_of(run, v) else v.name for v in variants])


def losses_text(losses: Losses) -> str:
    """Tasks with what was lost there, in one line."""
    return _list([f"{task.name} {by}" for task, by in losses])


def _list(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
