"""`lmtasks eval`: models x tasks -> scores, on one table and in files."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import typer

from lmtasks.cli import options
from lmtasks.cli.eval_table import print_scores
from lmtasks.cli.progress import progress_bars
from lmtasks.cli.values import data_options, label_names
from lmtasks.errors import UsageError
from lmtasks.progress_bars import quiet

if TYPE_CHECKING:
    from lmtasks.workflow.evaluate import Evaluated

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
    from lmtasks.evaluation.processes import is_first
    from lmtasks.task.generation import read_kwargs
    from lmtasks.workflow.answer_cache import cache_file
    from lmtasks.workflow.choose_models import OpenOptions
    from lmtasks.workflow.choose_tasks import TaskRequest
    from lmtasks.workflow.evaluate import ChatOptions, EvalRequest, evaluate_models
    from lmtasks.workflow.rescore import RescoreRequest, rescore_results

    if rescore is not None:
        _check_rescoring(context)
        rescored = rescore_results(
            RescoreRequest(
                folder=rescore,
                tasks=tasks,
                include=include_path,
                metrics=tuple(part.strip() for part in metrics.split(",") if part.strip()),
                out=out,
                samples=not no_samples,
                seed=seed,
                resamples=resamples,
                draws=draws,
                trust_code=trust_code,
                overwrite=overwrite,
                given=context.params,
            ),
        )
        _print(rescored)
        print(f"\nScores are in {rescored.folder / 'results.json'}.")
        return
    if metrics and model:
        raise UsageError("--metrics says what --rescore computes; a task file names the metrics of an evaluation.")
    request = EvalRequest(
        models=model,
        tasks=TaskRequest(
            tasks=tasks,
            include=tuple(include_path),
            data=data,
            text=text,
            label=label,
            pair=pair,
            name=name,
            language=language,
            encoding=encoding,
            trust_code=trust_code,
        ),
        opening=OpenOptions(
            runtime=runtime,
            device=device,
            precision=precision,
            threads=threads,
            rows_per_batch=options.batch_rows(batch_size),
            label_names=label_names(label_map),
            cache=cache_file(cache),
        ),
        options=EvalOptions(
            data=data_options(data_root=data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled),
            limit=limit,
            sample=None if sample is None else Sample(rows=sample, seed=seed),
            rows=rows,
            num_fewshot=num_fewshot,
            shot_stream=fewshot_stream,
            seed=seed,
            resamples=resamples,
            draws=draws,
            think_end_token=think_end_token,
        ),
        split=next((each for each in options.SPLITS if each == split), None),
        chat=ChatOptions(
            template=apply_chat_template,
            system=system_instruction,
            multiturn=fewshot_as_multiturn,
            settings=template_settings(chat_template_args),
        ),
        generation=read_kwargs(gen_kwargs),
        out=out,
        overwrite=overwrite,
        samples=not no_samples,
        given=context.params,
    )
    first = is_first()  # of several processes one prints and writes
    with progress_bars() if first else nullcontext(quiet) as report:
        evaluated = evaluate_models(request, report=report)
    if first:
        _tell(evaluated)


def _check_rescoring(context: typer.Context) -> None:
    """Raises: UsageError: an option was given that --rescore would not look at."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in RESCORING:
            raise UsageError(
                f"{parameter.opts[0]} is about answers that are made; --rescore takes those that are stored. "
                "Leave out one of the two."
            )


def _tell(evaluated: Evaluated) -> None:
    """The table, where it is written down, and what failed.

    Raises:
        UsageError, WorkError: a task failed. The scores of the others are kept.
    """
    if evaluated.kept:
        _print(evaluated)
        folders = [each.folder for each in evaluated.models if each.results]
        print(f"\nScores are in {', '.join(str(each / 'results.json') for each in folders)}.")
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
