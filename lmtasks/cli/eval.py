"""`lmtasks eval`: models x tasks -> scores, on one table and in files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import typer

from lmtasks.cli.output import scores_of, speeds_of, tell, typed_command
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.signature import is_given
from lmtasks.cli.table import print_table
from lmtasks.cli.values import data_options, open_options
from lmtasks.errors import UsageError, WorkError
from lmtasks.progress_bars import quiet
from lmtasks.settings.data import DataAccess, TaskChoice, TrustCode
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.evaluation import (
    BesideScores,
    ExistingAnswers,
    PromptFormat,
    ResultsOut,
    Scoring,
    Uncertainty,
)
from lmtasks.settings.models import Models, Opening
from lmtasks.settings.runs_on import RunsOn

if TYPE_CHECKING:
    from lmtasks.evaluation.evaluate import TaskResult
    from lmtasks.evaluation.shards import Shard
    from lmtasks.results.scores import GroupScores
    from lmtasks.settings.evaluation import PageLanguage
    from lmtasks.workflow.evaluate import EvalRequest, Evaluated

RESCORING = frozenset(
    {
        "rescore",
        "tasks",
        "include_path",
        "metrics",
        "out",
        "overwrite",
        "no_samples",
        "seed",
        "resamples",
        "draws",
        "trust_code",
    }
)
"""Parameters that --rescore looks at."""
MISSING = "–"


def command(
    *,
    context: typer.Context,
    model: Models = (),
    choice: TaskChoice,
    opened: Opening,
    runs_on: RunsOn,
    server: Endpoint,
    scoring: Scoring,
    output: ResultsOut,
    beside: BesideScores,
    prompts: PromptFormat,
    uncertainty: Uncertainty,
    stored: ExistingAnswers,
    access: DataAccess,
    trust_code: TrustCode = False,
) -> None:
    """Score models, or answers that exist, on tasks; or score again what an evaluation stored."""
    from lmtasks.evaluation.processes import is_first
    from lmtasks.evaluation.shards import parse_shard
    from lmtasks.workflow.choose_models import read_given
    from lmtasks.workflow.choose_tasks import TaskRequest
    from lmtasks.workflow.evaluate import EvalRequest, evaluate_models
    from lmtasks.workflow.open_model import cache_file
    from lmtasks.workflow.rescore import RescoreRequest, rescore_results
    from lmtasks.workflow.track import check_tracker, track_results

    if stored.rescore is not None:
        _check_rescoring(context)
        rescored = rescore_results(
            RescoreRequest(
                folder=stored.rescore,
                tasks=choice.tasks,
                include=choice.include_path,
                metrics=tuple(part.strip() for part in stored.metrics.split(",") if part.strip()),
                seed=scoring.seed,
                resamples=uncertainty.resamples,
                draws=uncertainty.draws,
                trust_code=trust_code,
                out=output.out,
                overwrite=output.overwrite,
                samples=not output.no_samples,
                given=context.params,
            ),
        )
        _print(rescored)
        print(f"\nScores are in {rescored.folder / 'results.json'}.")
        return
    if stored.metrics and (model or stored.answers):
        raise UsageError("--metrics says what --rescore computes; a task file names the metrics of an evaluation.")
    if not stored.answers and (stored.answers_id is not None or stored.allow_missing is not None):
        option = "--answers-id" if stored.answers_id is not None else "--allow-missing"
        raise UsageError(f"{option} is about --answers, and none are given.")
    check_tracker(beside.track)
    request = EvalRequest(
        models=model,
        answers=read_given(stored.answers, id_column=stored.answers_id, allow_missing=stored.allow_missing),
        tasks=TaskRequest.of(choice),
        opening=open_options(
            runs_on,
            batch_size=opened.batch_size,
            label_map=opened.label_map,
            cache=cache_file(output.cache),
            server=server,
        ),
        data=data_options(access),
        scoring=scoring,
        prompts=prompts,
        uncertainty=uncertainty,
        output=output,
        speed=beside.speed,
        explain=beside.explain,
        given=context.params,
    )
    if beside.shard:
        _answer_shard(request, parse_shard(beside.shard))
        return
    if beside.on:
        from lmtasks.workflow.shards_on_cluster import evaluate_on_cluster

        with progress_bars() as report:
            evaluated = evaluate_on_cluster(request, on=beside.on, shards=beside.shards, report=report)
        if beside.track is not None:
            track_results(beside.track, evaluated)
        tell_scores(evaluated, page_language=beside.page_language)
        return
    first = is_first()  # of several processes one prints and writes
    with progress_bars() if first else nullcontext(quiet) as report:
        evaluated = evaluate_models(request, report=report)
    if first:
        if beside.track is not None:
            track_results(beside.track, evaluated)
        tell_scores(evaluated, page_language=beside.page_language)


def _answer_shard(request: EvalRequest, shard: Shard) -> None:
    """Answer a part of the rows, and say how the parts become scores.

    Raises:
        WorkError: a task failed; the answers of the others are kept.
    """
    from lmtasks.workflow.evaluate import evaluate_shard

    with progress_bars() as report:
        written = evaluate_shard(request, shard, report=report)
    print_table(
        ("model", "task", "rows answered", "of"),
        [
            (each.record.model.name, name, str(task.n), str(task.rows))
            for each in written
            for name, task in each.record.tasks.items()
        ],
        right=(2, 3),
    )
    print(f"\nShard {shard.index} of {shard.count} is in {', '.join(str(each.folder) for each in written)}.")
    print(f"Next, when all {shard.count} are there: lmtasks merge {shlex.quote(str(request.output.out))}")
    tell(lambda: {"folder": str(request.output.out), "files": tuple(str(each.folder) for each in written)})
    failed = [reason for each in written for reason in each.record.failed.values()]
    if failed:
        raise WorkError(f"{failed[0]} The same command again answers it once more.")


def _check_rescoring(context: typer.Context) -> None:
    """Raises: UsageError: an option was given that --rescore would not look at."""
    for parameter in context.command.params:
        if parameter.name not in RESCORING and is_given(context, parameter.name or ""):
            raise UsageError(
                f"{parameter.opts[0]} is about answers that are made; --rescore takes those that are stored. "
                "Leave out one of the two."
            )


def tell_scores(evaluated: Evaluated, *, page_language: PageLanguage = "en") -> None:
    """The table, where it is written down, and what failed.

    Raises:
        UsageError, WorkError: a task failed. The scores of the others are kept.
    """
    from lmtasks.report.decision import decide, decision_lines
    from lmtasks.workflow.report import report_results

    if evaluated.kept:
        _print(evaluated)
        if evaluated.speed is not None:
            from lmtasks.cli.bench import print_compared

            print()
            print_compared(evaluated.speed)
        for sentence in (*evaluated.not_timed, *evaluated.not_explained):
            print(f"note: {sentence}")
        folders = [each.folder for each in evaluated.models if each.results]
        print(f"\nScores are in {', '.join(str(each / 'results.json') for each in folders)}.")
        made = report_results(
            [evaluated.folder],
            out=evaluated.folder,
            command=typed_command(),
            reasons=evaluated.reasons,
            language=page_language,
        )
        page, decision = made.page, decide(made.records)
        if decision.variants > 1:
            print()
            for line in decision_lines(decision):
                print(line)
            print()
        print(f"The report is {page} (and {page.with_name('report.md')}).")
        tell(
            lambda: {
                "decision": decision.said if decision.variants > 1 else (),
                "folder": str(evaluated.folder),
                "files": (str(page), *(str(each / "results.json") for each in folders)),
                "scores": [
                    line
                    for each in evaluated.models
                    for result in each.results
                    for line in scores_of(each.label, result.task, result.n, result.metrics)
                ],
                "speeds": [] if evaluated.speed is None else speeds_of(evaluated.speed.rows),
            }
        )
        others = [str(each) for each in folders] if len(folders) > 1 else [str(evaluated.folder), "OTHER"]
        print(f"Next: lmtasks compare {' '.join(others)}")
    failure = evaluated.failure()
    if failure is not None:
        raise failure


def _print(evaluated: Evaluated) -> None:
    print_scores(
        {each.label: each.results for each in evaluated.models},
        tasks=evaluated.tasks,
        groups={each.label: each.groups for each in evaluated.models},
        reasons=evaluated.reasons,
    )


def print_scores(
    scores: Mapping[str, Sequence[TaskResult]],
    *,
    tasks: Sequence[str],
    groups: Mapping[str, Mapping[str, GroupScores]],
    reasons: Mapping[tuple[str, str], str],
) -> None:
    """One line for each metric of each task, then of each group; one column for each model.

    Args:
        scores: model to its results.
        tasks: in the order of the table.
        groups: model to group to its record, as `evaluation/groups.py` makes it.
        reasons: (model, task) to why it has no scores.
    """
    from lmtasks.report import format as form

    found = {(model, result.task): result for model, results in scores.items() for result in results}
    rows: list[list[str]] = []
    for task in tasks:
        if all((model, task) in reasons for model in scores):
            continue  # the notes say why
        having = [found[model, task] for model in scores if (model, task) in found]
        sizes = {str(result.n) for result in having}
        names = dict.fromkeys(name for result in having for name in result.metrics)
        for number, name in enumerate(names or [MISSING]):
            head = (_shown(task, having), "/".join(sorted(sizes))) if number == 0 else ("", "")
            rows.append([*head, name, *(_value(found.get((model, task)), name) for model in scores)])
    rows += _group_rows(groups, models=tuple(scores))
    print_table(("task", "n", "metric", *scores), rows, right=(1, *range(3, 3 + len(scores))))
    notes = [
        reason if reason.startswith(f"{model} ") else f"{model}: {reason}" for (model, _), reason in reasons.items()
    ]
    if any(result.conditions.get("split") == "validation" for result in found.values()):
        notes.append("These are validation rows: to choose by, not to publish.")
    notes += [
        f"{task}: the {result.n} rows of the file that adapt sets aside; the others are for training (--split all "
        "scores every row)."
        for (_, task), result in found.items()
        if result.conditions.get("part") == "test"
    ]
    notes += _overlaps(found)
    notes += [
        f"{model}, {task}: of {result.n} texts {result.truncated} are longer than the model takes, and were cut."
        for (model, task), result in found.items()
        if result.truncated
    ]
    notes += [
        f"{model}, {task}: {said}" for (model, task), result in found.items() if (said := form.choice(result.rival))
    ]
    notes += [
        f"{model}, {task}: {reason}" for (model, task), result in found.items() for reason in result.refused.values()
    ]
    notes += [
        f"{model}, {task}: {100 * result.unknown_share:.2g} % of the scored tokens are unknown ones, which count as "
        "any other token."
        for (model, task), result in found.items()
        if result.unknown_share and not result.refused
    ]
    notes += [
        f"{model}, {task}: {result.cached} answers were known from before (--cache off asks anew), so its seconds say "
        "nothing about speed."
        for (model, task), result in found.items()
        if result.cached
    ]
    notes += _changes(found)
    notes += _remarks(found)
    if notes:
        print("\n" + "\n".join(dict.fromkeys(notes)))


def _group_rows(groups: Mapping[str, Mapping[str, GroupScores]], *, models: Sequence[str]) -> list[list[str]]:
    from lmtasks.report import format as form

    rows: list[list[str]] = []
    for group in dict.fromkeys(name for records in groups.values() for name in records):
        scored = [groups.get(model, {}).get(group) for model in models]
        metrics = [each.metrics if each else {} for each in scored]
        sizes = {str(each.n) for each in scored if each}
        alias = next((each.alias for each in scored if each), group)
        shown = f"{group} (group)" if alias == group else f"{group} (group): {alias}"
        for number, name in enumerate(dict.fromkeys(name for each in metrics for name in each)):
            head = (shown, "/".join(sorted(sizes))) if number == 0 else ("", "")
            cells = []
            for each in metrics:
                total = each.get(name)
                if total is None:
                    cells.append(MISSING)
                    continue
                half = form.uncertainty(total.value, total.ci95, total.scale)
                cells.append(f"{form.value(total.value, total.scale)} {half}".strip())
            rows.append([*head, name, *cells])
    return rows


def _shown(task: str, results: Sequence[TaskResult]) -> str:
    """A task with its alias behind; the name comes first, since files and other commands know it by that."""
    alias = next((result.alias for result in results), task)
    return task if alias == task else f"{task}: {alias}"


def _value(result: TaskResult | None, metric: str) -> str:
    from lmtasks.report import format as form
    from lmtasks.report.overlap import MARK, is_marked

    if result is None or metric not in result.metrics:
        return MISSING
    estimate = result.metrics[metric]
    shown = form.value(estimate.value, estimate.scale)
    half = form.uncertainty(estimate.value, estimate.ci95, estimate.scale)
    return f"{shown} {half}{' ' + MARK if is_marked(result.overlap) else ''}".strip()


def _overlaps(found: Mapping[tuple[str, str], TaskResult]) -> list[str]:
    """Notes on rows that models may have seen before."""
    from lmtasks.report.overlap import MARK, is_marked, on_the_others, seen_rows

    notes = [
        f"{MARK} {model}, {task}: {seen_rows(result.overlap, n=result.n)}; {on_the_others(result.overlap)}."
        for (model, task), result in found.items()
        if result.overlap is not None and is_marked(result.overlap)
    ]
    unknown = dict.fromkeys(
        model for (model, _), result in found.items() if result.overlap is None or result.overlap.learned is None
    )
    if unknown:
        notes.append(f"Not known: which rows {', '.join(unknown)} learned from.")
    return notes


def _changes(found: Mapping[tuple[str, str], TaskResult]) -> list[str]:
    """Notes on tasks with changed rows: what the change costs, paired with the rows as they are."""
    from lmtasks.report import format as form

    notes = []
    for (model, task), result in found.items():
        if (change := result.changed) is None:
            continue
        ends = (
            ""
            if change.ci95 is None
            else f", 95 % {' to '.join(form.difference(end, change.scale) for end in change.ci95)}"
        )
        unit = "" if change.scale == "raw" else " points"
        by = f"{form.difference(change.difference, change.scale)}{unit}"
        notes.append(
            f"{model}, {task}: {change.metric} changes by {by} against {change.clean}, paired by "
            f"row{ends}, p {change.p_holm:.2g} by Holm's procedure."
        )
    return notes


def _remarks(found: Mapping[tuple[str, str], TaskResult]) -> list[str]:
    """Notes of results on their values; what all models of a task say is said of the task."""
    models = {task: [model for model, name in found if name == task] for _, task in found}
    said: dict[tuple[str, str], list[str]] = {}
    for (model, task), result in found.items():
        for note in result.notes:
            said.setdefault((task, note), []).append(model)
    return [
        f"{task}: {note}" if len(models[task]) > 1 and mine == models[task] else f"{', '.join(mine)}, {task}: {note}"
        for (task, note), mine in said.items()
    ]
