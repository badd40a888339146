"""`lmtasks eval`: models x tasks -> scores, on one table and in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.cli import options
from lmtasks.cli.models import Chosen, Opening, chosen_models, label_names, open_solver, solver_before_loading
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.table import print_table
from lmtasks.cli.tasks import chosen_tasks, data_options
from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from lmtasks.evaluation.evaluate import EvalOptions, TaskResult
    from lmtasks.task.task import Task

MISSING = "–"


def command(
    model: options.Models,
    tasks: options.Tasks = "",
    data: options.Data = None,
    text: options.Text = "text",
    label: options.Label = None,
    pair: options.Pair = None,
    name: options.TaskName = None,
    language: options.Language = None,
    label_map: options.LabelMap = "",
    runtime: options.Runtime = None,
    device: options.Device = "cpu",
    precision: options.Precision = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = "auto",
    num_fewshot: options.NumFewshot = None,
    limit: options.Limit = None,
    seed: options.Seed = 1234,
    out: options.Out = None,
    no_samples: options.NoSamples = False,
    cache: options.Cache = None,
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Score models on tasks."""
    from lmtasks.evaluation.evaluate import EvalOptions
    from lmtasks.suite.caching import cache_file
    from lmtasks.suite.lock import locked

    opening = Opening(
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        rows_per_batch=options.batch_rows(batch_size),
        label_names=label_names(label_map),
        cache=cache_file(cache),
    )
    sources = data_options(data_root=data_root, offline=offline, token=token)
    found = chosen_tasks(
        tasks=tasks,
        data=data,
        text=text,
        label=label,
        pair=pair,
        name=name,
        language=language,
        trust_code=trust_code,
    )
    models = chosen_models(model, offline=offline, token=token)
    answered, reasons = _who_answers_what(models, found, opening)
    folder = out or options.next_folder("eval")
    settings = EvalOptions(data=sources, limit=limit, num_fewshot=num_fewshot, seed=seed)
    scores: dict[str, Sequence[TaskResult]] = {}
    folders: list[Path] = []
    with locked(folder):
        for chosen in models:
            folders.append(folder / chosen.label if len(models) > 1 else folder)
            scores[chosen.label] = _score(
                chosen,
                answered[chosen.label],
                opening=opening,
                settings=settings,
                out=folders[-1],
                samples=not no_samples,
            )
    _print(scores, found, reasons)
    print(f"\nScores are in {', '.join(str(each / 'results.json') for each in folders)}.")
    others = [str(each) for each in folders] if len(folders) > 1 else [str(folder), "OTHER"]
    print(f"Next: lmtasks compare {' '.join(others)}")


def _who_answers_what(
    models: Sequence[Chosen], tasks: Sequence[Task], opening: Opening
) -> tuple[Mapping[str, Sequence[Task]], Mapping[tuple[str, str], str]]:
    """The tasks that each model answers, and why not the others; known before the first model is loaded.

    Raises:
        UsageError: a model answers none of the tasks.
    """
    answered: dict[str, Sequence[Task]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for chosen in models:
        solver = solver_before_loading(chosen, opening)
        why_not = {task.name: solver.why_not(task, way="auto") for task in tasks}
        answered[chosen.label] = [task for task in tasks if not why_not[task.name]]
        reasons |= {(chosen.label, name): reason for name, reason in why_not.items() if reason}
        if not answered[chosen.label]:
            raise UsageError(next(iter(why_not.values())) + _hint(why_not.values()))
    return answered, reasons


def _hint(reasons: Sequence[str] | object) -> str:
    return " Say so with --label-map." if "say which is which" in str(reasons) else ""


def _score(
    chosen: Chosen, tasks: Sequence[Task], *, opening: Opening, settings: EvalOptions, out: Path, samples: bool
) -> Sequence[TaskResult]:
    from lmtasks.bench.machine import machine, versions
    from lmtasks.evaluation.evaluate import evaluate
    from lmtasks.evaluation.write import write_results

    with open_solver(chosen, opening) as solver:
        with progress_bars() as report:
            results = evaluate(solver=solver, tasks=tasks, options=settings, on_progress=report, keep_samples=samples)
        model, card = solver.model, solver.card
    write_results(
        out,
        results=results,
        model=model,
        runtime=card,
        machine=machine(),
        versions=versions(),
        samples=samples,
    )
    return results


def _print(
    scores: Mapping[str, Sequence[TaskResult]], tasks: Sequence[Task], reasons: Mapping[tuple[str, str], str]
) -> None:
    """One line for each metric of each task, one column for each model."""
    found = {(model, result.task): result for model, results in scores.items() for result in results}
    rows: list[list[str]] = []
    for task in tasks:
        sizes = {str(found[model, task.name].n) for model in scores if (model, task.name) in found}
        for number, use in enumerate(task.metrics):
            head = (task.name, "/".join(sorted(sizes))) if number == 0 else ("", "")
            rows.append([*head, use.name, *(_value(found.get((model, task.name)), use.name) for model in scores)])
    print_table(("task", "n", "metric", *scores), rows, right=(1, *range(3, 3 + len(scores))))
    notes = [f"{model}: {reason}" for (model, _), reason in reasons.items()]
    notes += [
        f"{model}, {task}: of {result.n} texts {result.truncated} are longer than the model takes, and were cut."
        for (model, task), result in found.items()
        if result.truncated
    ]
    notes += [
        f"{model}, {task}: {result.cached} answers were known from before (--cache off asks anew), so its seconds say "
        "nothing about speed."
        for (model, task), result in found.items()
        if result.cached
    ]
    if notes:
        print("\n" + "\n".join(dict.fromkeys(notes)))


def _value(result: TaskResult | None, metric: str) -> str:
    from lmtasks.report import format as form

    if result is None:
        return MISSING
    estimate = result.metrics[metric]
    shown = form.value(estimate.value, estimate.scale)
    half = form.uncertainty(estimate.value, estimate.ci95, estimate.scale)
    return f"{shown} {half}".strip()
