"""Findings of a run in sentences: computed, never written by hand.

Who keeps the quality of the best, and who beats a rival, is decided by paired comparisons (`standing.py`).
"""

from collections.abc import Mapping, Sequence

from lmtasks.report import format as show
from lmtasks.report.grid import Score, baseline_of, best, contenders, learned, main_metric, main_score, models, trivial
from lmtasks.report.records import RunRecords
from lmtasks.report.speeds import pace, speed_up
from lmtasks.report.standing import Standing, best_on, pair_of, shown_margin, standings
from lmtasks.results.cell import TaskInfo, Variant

Losses = list[tuple[TaskInfo, str]]
"""Tasks, and how much was lost there, in words."""


def answer(run: RunRecords) -> tuple[str, ...]:
    """A few sentences: which variant is best for these tasks on this machine, and what the others trade. Rivals compete
    as models do."""
    candidates = [variant for variant in models(run) or contenders(run) if _scored_tasks(run, variant)]
    if not candidates:
        return ("No model was scored yet.",)
    tasks = [task for task in run.tasks if best(run, variants=candidates, task=task) is not None]
    if len(tasks) > 1 and not any(_scored_on(run, variant, tasks) for variant in candidates):
        return (*(_task_by_task(run, task) for task in tasks), *_rivals_ahead(run, candidates, tasks))
    everywhere = {task.name: standings(run, task) for task in tasks}
    lost = {variant.name: _lost(everywhere, variant, tasks, "worse") for variant in contenders(run)}
    unclear = {variant.name: _lost(everywhere, variant, tasks, "open") for variant in contenders(run)}
    whole = [variant for variant in contenders(run) if _scored_on(run, variant, tasks)]
    keeping = [variant for variant in whole if not lost[variant.name] and not unclear[variant.name]]
    level = [variant for variant in whole if not lost[variant.name]]
    chosen = _fastest(run, keeping or level)
    sentences = [_choice(run, candidates, keeping, level, lost, unclear, len(tasks), chosen)]
    sentences += _faster_but_worse(run, {name: [*lost[name], *unclear[name]] for name in lost}, chosen)
    sentences += _rivals_ahead(run, candidates, tasks)
    return tuple(sentences)


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
            who = _list([f"{v.name} ({_shown(s)})" for v, s in behind])
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


def troubles(run: RunRecords) -> tuple[str, ...]:
    """Warnings before comparing: failed cells, conditions that differ within a task."""
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


def _choice(
    run: RunRecords,
    candidates: Sequence[Variant],
    keeping: Sequence[Variant],
    level: Sequence[Variant],
    lost: Mapping[str, Losses],
    unclear: Mapping[str, Losses],
    tasks: int,
    chosen: Variant | None,
) -> str:
    on_tasks = "on the one task" if tasks == 1 else f"on all {tasks} tasks"
    if len(run.variants) == 1:
        return f"One model was scored, {candidates[0].name}: there is nothing to choose between."
    excluded = f"a loss of more than {shown_margin(run)}"
    if keeping:
        verb = "keeps" if len(keeping) == 1 else "keep"
        quality = (
            f"{_named(run, keeping)} {verb} the quality of the best {on_tasks} "
            f"(paired by example: not worse by more than chance, and {excluded} is excluded)"
        )
        return f"{quality}{_pick(run, keeping, chosen)}."
    if level:
        few = _list([f"{v.name} ({_losses_text(unclear[v.name])})" for v in level])
        verb = "is" if len(level) == 1 else "are"
        return (
            f"Nobody is shown to keep the quality of the best {on_tasks}. Nowhere worse by more than chance {verb} "
            f"{_named(run, level)}, but these examples do not exclude {excluded}: {few}{_pick(run, level, chosen)}."
        )
    least = min(candidates, key=lambda variant: (len(lost[variant.name]), len(unclear[variant.name])))
    return (
        f"Nobody keeps the quality of the best {on_tasks}; {least.name} comes nearest among the models, "
        f"worse by more than chance on {_losses_text(lost[least.name])}."
    )


def _pick(run: RunRecords, among: Sequence[Variant], chosen: Variant | None) -> str:
    """The fastest of them."""
    if chosen is None:
        return "; their speed was not measured" if any(not baseline_of(run, each) for each in among) else ""
    which = f"; the fastest of them is {chosen.name}" if len(among) > 1 else ""
    return f"{which}{_times_torch(run, chosen)}"


def _task_by_task(run: RunRecords, task: TaskInfo) -> str:
    """Where nobody answers all tasks: who is best on one, and who is not told apart from it."""
    top, stands = best_on(run, task), standings(run, task)
    assert top is not None  # only tasks that somebody answers come here
    first, theirs = top
    if len(stands) == 1:
        return f"{task.name}: {_named(run, [first])}, {_shown(theirs)}, the only one."
    parts = [f"{task.name}: {_named(run, [first])}, {_shown(theirs)}"]
    for status, words in (("keeps", "keeping its quality"), ("open", "not told apart from it")):
        those = [variant for variant in run.variants if (at := stands.get(variant.name)) and at.status == status]
        if those:
            parts.append(f"{words}: {_list([f'{each.name} ({stands[each.name].shown})' for each in those])}")
    return f"{'; '.join(parts)}."


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
                f"{_losses_text(losses[variant.name])}."
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
        ahead.append(f"{task.name} ({_shown(rival[1])} by {rival[0].name} against {_shown(model[1])}: {sure})")
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
            found += [(task, "no score")] if status == "worse" else []
        elif at.status == status:
            found.append((task, at.shown if status == "worse" else at.shown_loss))
    return found


def _scored_tasks(run: RunRecords, variant: Variant) -> bool:
    return any(main_score(run, variant=variant, task=task) is not None for task in run.tasks)


def _scored_on(run: RunRecords, variant: Variant, tasks: Sequence[TaskInfo]) -> bool:
    return all(main_score(run, variant=variant, task=task) is not None for task in tasks)


def _named(run: RunRecords, variants: Sequence[Variant]) -> str:
    """The variants, rivals told apart from models where there are both."""
    both = bool(models(run))
    return _list([f"{v.name} (a rival)" if both and baseline_of(run, v) else v.name for v in variants])


def _losses_text(losses: Losses) -> str:
    return _list([f"{task.name} {by}" for task, by in losses])


def _shown(score: Score) -> str:
    interval = show.uncertainty(score.value, score.ci95, score.scale)
    return f"{show.value(score.value, score.scale)} {interval}".strip()


def _list(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
