"""`lmtasks eval`: models x tasks -> scores, on one table and in files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lmtasks.cli import options
from lmtasks.cli.eval_table import print_scores
from lmtasks.cli.models import Chosen, ModelOptions, chosen_models, label_names, open_solver, solver_before_loading
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.replacing import asked_of, check_free, check_rows, make_free
from lmtasks.cli.rescore import Rescored, rescore_results
from lmtasks.cli.tasks import chosen_groups, chosen_tasks, data_options
from lmtasks.errors import LmtasksError, UsageError, WorkError

if TYPE_CHECKING:
    from lmtasks.evaluation.chat import ChatUse
    from lmtasks.evaluation.evaluate import TaskResult
    from lmtasks.evaluation.prepare import EvalOptions
    from lmtasks.evaluation.processes import Processes
    from lmtasks.records import Json, Progress
    from lmtasks.task.groups import Group
    from lmtasks.task.task import Task

NO_MODELS: list[str] = []
"""What --rescore needs."""
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


def command(
    context: typer.Context,
    model: options.Models = NO_MODELS,
    tasks: options.Tasks = "",
    include_path: options.IncludePath = options.NO_PATHS,
    data: options.Data = None,
    text: options.Text = "text",
    label: options.Label = None,
    pair: options.Pair = None,
    name: options.TaskName = None,
    language: options.Language = None,
    encoding: options.Encoding = None,
    drop_unlabelled: options.DropUnlabelled = False,
    label_map: options.LabelMap = "",
    runtime: options.Runtime = None,
    device: options.Device = "cpu",
    precision: options.Precision = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = "auto",
    num_fewshot: options.NumFewshot = None,
    gen_kwargs: options.GenKwargs = "",
    split: options.Split = None,
    limit: options.Limit = None,
    sample: options.SampleRows = None,
    rows: options.BaselineRows = None,
    seed: options.Seed = 1234,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    no_samples: options.NoSamples = False,
    cache: options.Cache = None,
    apply_chat_template: options.ChatTemplate = None,
    chat_template_args: options.ChatTemplateArgs = "",
    think_end_token: options.ThinkEndToken = "",
    system_instruction: options.SystemInstruction = None,
    fewshot_as_multiturn: options.Multiturn = False,
    fewshot_stream: options.FewshotStream = "ours",
    resamples: options.Resamples = None,
    draws: options.Draws = "ours",
    rescore: options.Rescore = None,
    metrics: options.Metrics = "",
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Score models on tasks; or score again what an evaluation stored."""
    from lmtasks.data.sampling import Sample
    from lmtasks.evaluation.chat import template_settings
    from lmtasks.evaluation.prepare import EvalOptions
    from lmtasks.evaluation.processes import launched_here, started
    from lmtasks.evaluation.thinking import check_thinking
    from lmtasks.folder_lock import locked
    from lmtasks.task.generation import read_kwargs, with_generation
    from lmtasks.workflow.answer_cache import cache_file, hashes_folder

    if rescore is not None:
        _check_rescoring(context)
        rescore_results(
            rescore,
            Rescored(
                tasks=tasks,
                include=include_path,
                metrics=metrics,
                out=out,
                samples=not no_samples,
                seed=seed,
                resamples=resamples,
                draws=draws,
                trust_code=trust_code,
                overwrite=overwrite,
            ),
            context,
        )
        return
    if not model:
        raise UsageError("missing option '--model': a model or package folder, a shipped name, Hub id or baseline.")
    if metrics:
        raise UsageError("--metrics says what --rescore computes; a task file names the metrics of an evaluation.")
    if limit is not None and sample is not None:
        raise UsageError("--limit takes the first rows and --sample draws rows; give one of them.")
    single = data is not None and data.is_file()
    if split == "all" and not single:
        raise UsageError("--split all scores every row of a single --data file; of tasks and folders give test.")
    with started() as processes:
        opening = ModelOptions(
            runtime=runtime,
            device=device,
            precision=precision,
            threads=threads or _threads_each(launched_here()),
            rows_per_batch=options.batch_rows(batch_size),
            label_names=label_names(label_map),
            cache=cache_file(cache),
        )
        sources = data_options(data_root=data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled)
        found = chosen_tasks(
            tasks=tasks,
            data=data,
            text=text,
            label=label,
            pair=pair,
            name=name,
            language=language,
            encoding=encoding,
            trust_code=trust_code,
            include=include_path,
            use="both"
            if single and (split in ("test", "validation") or (split is None and _learning(model)))
            else "score",
        )
        found = with_generation(found, read_kwargs(gen_kwargs))
        settings = template_settings(chat_template_args)
        check_thinking(found, token=think_end_token, settings=settings)
        models = chosen_models(model, offline=offline, token=token)
        if rows is not None and all(each.folder is not None for each in models):
            raise UsageError("--rows says what baselines learn from, and no --model is one; leave it out.")
        answered, reasons = _who_answers_what(models, found, opening)
        asked = _Asked(
            opening=opening,
            settings=EvalOptions(
                data=sources,
                limit=limit,
                sample=None if sample is None else Sample(rows=sample, seed=seed),
                rows=rows,
                num_fewshot=num_fewshot,
                shot_stream=fewshot_stream,
                seed=seed,
                resamples=resamples,
                draws=draws,
                hashes=hashes_folder(cache_file(cache)),
                split="validation" if split == "validation" else "test",
                think_end_token=think_end_token,
            ),
            chat=_Chat(
                template=apply_chat_template,
                system=system_instruction,
                multiturn=fewshot_as_multiturn,
                settings=settings,
            ),
            groups=chosen_groups(tasks, include=include_path) if tasks else (),
            samples=not no_samples,
            overwrite=overwrite,
            processes=processes,
        )
        uses = {chosen.label: asked.chat.use(chosen) for chosen in models}  # before a model is loaded
        folder = processes.share(out or options.next_folder("eval"))
        with locked(folder) if processes.first else nullcontext():
            asks = {
                out_of(folder, models, chosen): asked_of(context, tasks=answered[chosen.label], chosen=chosen)
                for chosen in models
            }
            if processes.first:
                (make_free if overwrite else check_free)(asks, out=folder)
            done = [
                _score(
                    chosen,
                    answered[chosen.label],
                    asked=asked,
                    chat=uses[chosen.label],
                    out=out_of(folder, models, chosen),
                    asks=asks[out_of(folder, models, chosen)],
                )
                for chosen in models
            ]
        if processes.first:
            _tell(done, tasks=[task.name for task in found], reasons=reasons, folder=folder)


@dataclass(frozen=True, kw_only=True)
class _Chat:
    """How prompts are put to a model."""

    template: str | None
    system: str | None
    multiturn: bool
    settings: Mapping[str, object]

    def use(self, chosen: Chosen) -> ChatUse | None:
        """The model's own template; a baseline reads no prompts."""
        from lmtasks.evaluation.chat import chat_use
        from lmtasks.model.store import tokenizer_folder

        if chosen.folder is None:
            return None
        return chat_use(
            tokenizer_folder(chosen.folder),
            template=self.template,
            system=self.system,
            multiturn=self.multiturn,
            settings=self.settings,
        )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is the same for all models of a command."""

    opening: ModelOptions
    settings: EvalOptions
    chat: _Chat
    groups: Sequence[Group]
    samples: bool
    overwrite: bool
    processes: Processes


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What came of one model."""

    label: str
    folder: Path
    results: Sequence[TaskResult]
    groups: Mapping[str, Json]
    failed: Mapping[str, LmtasksError]


def out_of(folder: Path, models: Sequence[Chosen], chosen: Chosen) -> Path:
    """Where the results of a model go: of several, each has a folder of its own."""
    return folder / chosen.label if len(models) > 1 else folder


def _check_rescoring(context: typer.Context) -> None:
    """Raises: UsageError: an option was given that --rescore would not look at."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in RESCORING:
            raise UsageError(
                f"{parameter.opts[0]} is about answers that are made; --rescore takes those that are stored. "
                "Leave out one of the two."
            )


def _threads_each(processes: int) -> int | None:
    """Of several processes on this machine each takes its part of the processors."""
    if processes == 1:
        return None
    from lmtasks.cores import usable_cores

    return max(1, usable_cores() // processes)


def _tell(done: Sequence[_Done], *, tasks: Sequence[str], reasons: Mapping[tuple[str, str], str], folder: Path) -> None:
    """The table, where it is written down, and what failed.

    Raises:
        UsageError, WorkError: a task failed. What the others scored is kept.
    """
    failed = [(each, task, error) for each in done for task, error in each.failed.items()]
    kept = sum(len(each.results) for each in done)
    if kept:
        print_scores(
            {each.label: each.results for each in done},
            tasks=tasks,
            groups={each.label: each.groups for each in done},
            reasons=dict(reasons),
        )
        folders = [each.folder for each in done if each.results]
        print(f"\nScores are in {', '.join(str(each / 'results.json') for each in folders)}.")
        others = [str(each) for each in folders] if len(folders) > 1 else [str(folder), "OTHER"]
        print(f"Next: lmtasks compare {' '.join(others)}")
    if not failed:
        return
    if kept == 0 and len(failed) == 1:
        raise failed[0][2]
    several = len(done) > 1
    told = " ".join(f"{each.label + ', ' if several else ''}{error}" for each, _, error in failed)
    names = "; ".join(_kept(each, several=several) for each in done if each.results) or "nothing"
    raise WorkError(f"{len(failed)} of {kept + len(failed)} failed: {told} Kept: {names}.")


def _kept(each: _Done, *, several: bool) -> str:
    """The tasks that have scores; of several models with its name, since each may have failed others."""
    tasks = ", ".join(result.task for result in each.results)
    return f"{tasks} of {each.label}" if several else tasks


def _who_answers_what(
    models: Sequence[Chosen], tasks: Sequence[Task], opening: ModelOptions
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
            raise UsageError(next(iter(why_not.values())) + _hint(why_not.values(), tasks))
    return answered, reasons


def _hint(reasons: Iterable[str], tasks: Sequence[Task]) -> str:
    """What to do about it."""
    if any("say which is which" in reason for reason in reasons):
        return " Say so with --label-map."
    own = any(task.file is None and task.sources["test"].part is None for task in tasks)
    if own and any("learns from training data" in reason for reason in reasons):
        return " Of a single --data file, --split test scores a fifth, and the rest can be learned from."
    from lmtasks.task.kinds import kind_of

    if all(task.file is None and kind_of(task).answer == "likelihood" for task in tasks):
        return " --data without --label is a text whose likelihood is asked; name the column of the classes by --label."
    return ""


def _learning(models: Sequence[str]) -> bool:
    """Is one a baseline that learns? Of a single file all are then scored on the part that it does not learn from."""
    from lmtasks.evaluation.baselines import BASELINES

    return any(ref in BASELINES and BASELINES[ref].learns and not Path(ref).is_dir() for ref in models)


def _score(
    chosen: Chosen, tasks: Sequence[Task], *, asked: _Asked, chat: ChatUse | None, out: Path, asks: Json
) -> _Done:
    from lmtasks.bench.machine import machine, versions
    from lmtasks.evaluation.evaluate import evaluate
    from lmtasks.evaluation.groups import group_results
    from lmtasks.evaluation.samples import sample_files
    from lmtasks.evaluation.write import samples_file, write_results

    failed: dict[str, LmtasksError] = {}
    first = asked.processes.first
    with sample_files(out, name=samples_file) as samples, open_solver(chosen, asked.opening) as solver:
        with progress_bars() if first else nullcontext(_nothing) as report:
            results = evaluate(
                solver=solver,
                tasks=tasks,
                options=replace(asked.settings, chat=chat),
                on_progress=report,
                keep_samples=False,
                samples=samples if asked.samples else None,
                on_failure=failed.__setitem__,
                processes=asked.processes,
            )
        groups = group_results(asked.groups, results)
        if first and results:
            if not asked.overwrite:
                check_rows(results, out=out)
            write_results(
                out,
                results=results,
                model=solver.model,
                runtime=solver.card,
                machine=machine(),
                versions=versions(),
                samples=samples if asked.samples else False,
                groups=groups,
                processes=asked.processes.count,
                failed={task: str(error) for task, error in failed.items()},
                asked=asks,
            )
    return _Done(label=chosen.label, folder=out, results=results, groups=groups, failed=failed)


def _nothing(progress: Progress) -> None:
    """Only the first process draws."""
