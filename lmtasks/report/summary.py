"""What the numbers say, in sentences: computed, never written by hand.

A variant keeps the quality of the best one on a task while its value lies within the best one's interval. A model beats
the trivial answer when its whole interval lies on the better side of the trivial answer's value.
"""

from collections.abc import Sequence

from lmtasks.report import format as show
from lmtasks.report.grid import (
    Score,
    best,
    learned,
    main_metric,
    main_score,
    models,
    trivial,
)
from lmtasks.report.records import RunRecords, TaskInfo, Variant
from lmtasks.report.speeds import pace, speed_up


def answer(run: RunRecords) -> tuple[str, ...]:
    """Two or three sentences: which variant is best for these tasks on this machine, and what the others trade."""
    candidates = [variant for variant in models(run) if _scored_tasks(run, variant)]
    if not candidates:
        return ("No model was scored yet.",)
    tasks = [task for task in run.tasks if best(run, variants=candidates, task=task) is not None]
    if len(tasks) > 1 and not any(_scored_on(run, variant, tasks) for variant in candidates):
        return (*(_task_by_task(run, candidates, task) for task in tasks), *_baselines_ahead(run, candidates))
    losses = {variant.name: _losses(run, variant, candidates, tasks) for variant in candidates}
    keeping = [variant for variant in candidates if not losses[variant.name]]
    sentences = [_choice(run, candidates, keeping, losses, len(tasks))]
    sentences += _faster_but_outside(run, losses, _fastest(run, keeping))
    sentences += _baselines_ahead(run, candidates)
    return tuple(sentences)


def against_trivial(run: RunRecords) -> tuple[str, ...]:
    """For every model and task: is it better than the trivial answer by more than its interval?"""
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
        behind = [(v, s) for v, s in scored if not s.better_than(theirs.value)]
        if behind:
            who = _list([f"{v.name} ({_shown(s)})" for v, s in behind])
            verb = "does" if len(behind) == 1 else "do"
            which = next((c.baseline for c in run.of(variant=baseline.name, task=task.name)), baseline.name)
            answered = f"{which} ({show.value(theirs.value, theirs.scale)} {main_metric(run, task)})"
            fails.append(
                f"On {task.name}, {who} {verb} not beat the trivial answer, {answered}, by more than its interval."
            )
    if not compared:
        return ("No trivial answer was scored beside a model.",)
    if not fails:
        return ("Every model beats the best trivial answer on every task by more than its 95 % interval.",)
    rest = "Everywhere else the models beat the trivial answer by more than their 95 % interval."
    return (*fails, rest) if len(fails) < len(run.tasks) else tuple(fails)


def troubles(run: RunRecords) -> tuple[str, ...]:
    """What a reader must know before comparing: failed cells, conditions that differ within a task."""
    found = []
    failed = [cell for cell in run.cells if cell.status == "failed"]
    if failed:
        found.append(f"{len(failed)} of {len(run.cells)} cells failed; the tables say why.")
    for task in run.tasks:
        for key, what in (("data_fingerprint", "data"), ("task_hash", "task files"), ("limit", "limits")):
            values = {
                str(cell.conditions.get(key))
                for cell in run.cells
                if cell.task.name == task.name and cell.status == "done" and key in cell.conditions
            }
            if len(values) > 1:
                found.append(f"The rows of {task.name} were scored on different {what} and must not be compared.")
    machines = {str(cell.machine.get("processor")) for cell in run.cells if cell.machine.get("processor")}
    machines |= {str(s.machine.get("processor")) for s in run.speeds.values() if s.machine.get("processor")}
    if len(machines) > 1:
        found.append(f"Not everything ran on the same machine: {', '.join(sorted(machines))}.")
    return tuple(found)


def _choice(run: RunRecords, candidates: Sequence[Variant], keeping: Sequence[Variant],
            losses: dict[str, list[tuple[TaskInfo, str]]], tasks: int) -> str:  # fmt: skip
    on_tasks = "on the one task" if tasks == 1 else f"on all {tasks} tasks"
    if len(candidates) == 1:
        return f"One model was scored, {candidates[0].name}: there is nothing to choose between."
    if not keeping:
        least = min(candidates, key=lambda variant: len(losses[variant.name]))
        return (
            f"No variant stays within the interval of the best {on_tasks}; {least.name} comes nearest, "
            f"outside it only on {_list([f'{task.name} ({by})' for task, by in losses[least.name]])}."
        )
    if len(keeping) == len(candidates):
        quality = f"No variant is worse than the best by more than its interval {on_tasks}"
    else:
        stay = "stays" if len(keeping) == 1 else "stay"
        quality = f"{_list([v.name for v in keeping])} {stay} within the interval of the best {on_tasks}"
    chosen = _fastest(run, keeping)
    if chosen is None:
        return f"{quality}; their speed was not measured."
    which = f"; the fastest of them is {chosen.name}" if len(keeping) > 1 else ""
    return f"{quality}{which}{_times_torch(run, chosen)}."


def _task_by_task(run: RunRecords, candidates: Sequence[Variant], task: TaskInfo) -> str:
    """Where nobody answers all tasks: who is best on one, and who lies within that one's interval."""
    top = best(run, variants=candidates, task=task)
    assert top is not None  # only tasks that somebody answers are told
    first, theirs = top
    others = [(v, s) for v in candidates if v != first and (s := main_score(run, variant=v, task=task)) is not None]
    near = [f"{v.name} ({show.value(s.value, s.scale)})" for v, s in others if not _outside(s, theirs)]
    alone = "" if others else ", the only one"
    also = f"; within its interval: {_list(near)}" if near else ""
    return f"{task.name}: {first.name}, {_shown(theirs)}{alone}{also}."


def _times_torch(run: RunRecords, variant: Variant) -> str:
    times = speed_up(run, variant)
    if times is None or variant.runtime == "torch":
        return ""
    return f", with {show.ratio(times)} the throughput of the same model in torch (geometric mean over the tasks)"


def _fastest(run: RunRecords, variants: Sequence[Variant]) -> Variant | None:
    timed = [(variant, rate) for variant in variants if (rate := pace(run, variant, among=variants)) is not None]
    return max(timed, key=lambda pair: pair[1])[0] if timed else None


def _faster_but_outside(
    run: RunRecords, losses: dict[str, list[tuple[TaskInfo, str]]], chosen: Variant | None
) -> list[str]:
    found = []
    for variant in models(run):
        if chosen is None or not losses.get(variant.name):
            continue
        mine, theirs = (pace(run, each, among=(variant, chosen)) for each in (variant, chosen))
        if mine is not None and theirs is not None and mine > theirs:
            where = _list([f"{task.name} ({by})" for task, by in losses[variant.name]])
            times = show.ratio(mine / theirs)
            found.append(
                f"{variant.name} is faster still, {times} {chosen.name}, but outside that interval on {where}."
            )
    return found


def _baselines_ahead(run: RunRecords, candidates: Sequence[Variant]) -> list[str]:
    ahead = []
    for task in run.tasks:
        model, simple = best(run, variants=candidates, task=task), best(run, variants=learned(run), task=task)
        if model is not None and simple is not None and simple[1].order > model[1].order:
            ahead.append(f"{task.name} ({_shown(simple[1])} against {_shown(model[1])})")
    return [f"The learned baseline is ahead of every model on {_list(ahead)}."] if ahead else []


def _losses(run: RunRecords, variant: Variant, candidates: Sequence[Variant],
            tasks: Sequence[TaskInfo]) -> list[tuple[TaskInfo, str]]:  # fmt: skip
    """Tasks on which the variant is worse than the best by more than the best's interval, and by how much."""
    found = []
    for task in tasks:
        top, mine = best(run, variants=candidates, task=task), main_score(run, variant=variant, task=task)
        if top is None:
            continue
        if mine is None:
            found.append((task, "no score"))
        elif _outside(mine, top[1]):
            change = show.in_points(mine.value, mine.scale) - show.in_points(top[1].value, top[1].scale)
            unit = "" if mine.scale == "raw" else " points"
            found.append((task, f"{show.difference(change)}{unit}"))
    return found


def _outside(mine: Score, top: Score) -> bool:
    """Is the value on the worse side of the best one's interval?"""
    if top.ci95 is None:
        return mine.order < top.order
    return mine.value < top.ci95[0] if top.higher_is_better else mine.value > top.ci95[1]


def _scored_tasks(run: RunRecords, variant: Variant) -> bool:
    return any(main_score(run, variant=variant, task=task) is not None for task in run.tasks)


def _scored_on(run: RunRecords, variant: Variant, tasks: Sequence[TaskInfo]) -> bool:
    return all(main_score(run, variant=variant, task=task) is not None for task in tasks)


def _shown(score: Score) -> str:
    interval = show.uncertainty(score.value, score.ci95, score.scale)
    return f"{show.value(score.value, score.scale)} {interval}".strip()


def _list(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
