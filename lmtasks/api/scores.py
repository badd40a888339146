"""Scores of the front door: tasks, evaluation, speed, comparison, reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.api.arguments import ModelLike, PathLike, access_of, drawn, given_of, opening_of, refs_of, tasks_of
from lmtasks.api.results import ComparedResults, ReportPage, Results, Timings, TriedReport
from lmtasks.errors import UsageError
from lmtasks.progress_bars import Report

if TYPE_CHECKING:
    from lmtasks.api.arguments import Answers
    from lmtasks.api.rows import GivenRows
    from lmtasks.settings.data import OwnKind
    from lmtasks.settings.endpoint import Endpoint
    from lmtasks.settings.evaluation import PageLanguage, PromptFormat, SplitName, TrackerName, Uncertainty
    from lmtasks.task.task import Task
    from lmtasks.workflow.evaluate import Evaluated


def load_task(ref: PathLike, *, include_path: Sequence[PathLike] = (), trust_code: bool = False) -> Task:
    """The task of a name or a file, checked.

        >>> load_task("starter_sentiment_en").labels
        ('negative', 'positive')

    Raises:
        UsageError: there is no such task, several are meant, or its file is wrong.
    """
    from lmtasks.workflow.choose_tasks import chosen_tasks

    found = chosen_tasks(tasks_of(ref, include_path=include_path, trust_code=trust_code))
    if len(found) > 1:
        raise UsageError(f"{ref} means {len(found)} tasks; name one of: {', '.join(task.name for task in found)}.")
    return found[0]


def evaluate(
    models: ModelLike | Sequence[ModelLike] = (),
    tasks: PathLike | Task | Sequence[PathLike | Task] = (),
    *,
    answers: Answers | None = None,
    answers_id: str | None = None,
    allow_missing: float | None = None,
    rows: GivenRows | None = None,
    data: PathLike | None = None,
    text: str = "text",
    label: str | None = None,
    pair: str | None = None,
    kind: OwnKind = "classification",
    name: str | None = None,
    language: str | None = None,
    encoding: str | None = None,
    drop_unlabelled: bool = False,
    label_map: Mapping[str, str] | None = None,
    runtime: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
    batch_size: int | Literal["auto"] = "auto",
    server: Endpoint | None = None,
    num_fewshot: int | None = None,
    generation: Mapping[str, object] | None = None,
    split: SplitName | None = None,
    limit: int | None = None,
    sample: int | None = None,
    baseline_rows: int | None = None,
    seed: int = 1234,
    prompts: PromptFormat | None = None,
    uncertainty: Uncertainty | None = None,
    out: PathLike | None = None,
    overwrite: bool = False,
    no_samples: bool = False,
    speed: bool = False,
    explain: int = 0,
    cache: PathLike | None = None,
    data_root: PathLike | None = None,
    offline: bool = False,
    token: str | None = None,
    include_path: Sequence[PathLike] = (),
    trust_code: bool = False,
    track: TrackerName | None = None,
    shard: str = "",
    on: str = "",
    shards: int | None = None,
    progress: bool | Report = True,
) -> Results:
    """Score models and baselines on tasks or on rows of your own, as `lmtasks eval` does.

        scores = lmtasks.evaluate([model, "tfidf"], rows=frame, text="comment", label="stars")
        scores.to_frame()

    Answers that exist are scored as a model's, `models` left out or beside them:

        lmtasks.evaluate(tasks="arc_easy", answers={"gpt": "gpt.jsonl", "mine": [{"row": 0, "answer": "A"}]})

    Of undivided rows every one is scored; where a baseline that learns is among the models, or with `split="test"`, a
    fifth of each label, which `adapt` sets aside too.

    Args:
        models: folders, shipped names, Hub ids, addresses of servers, baselines (`majority`, `tfidf`, ...), or what
            `adapt`, `export` and `load_model` gave; one or several.
        server: how servers are asked, `lmtasks.Endpoint(served_name="mine", api_key_env="MY_KEY")`.
        tasks: names, globs, files or tasks; or give `rows` or `data`.
        answers: what other systems answered: a file, several, or name to a file, a DataFrame or a list of dicts.
        answers_id: column of the data that `id` of an answer is a value of; None: `id`.
        allow_missing: percent of a task's rows that may be without an answer, and count as wrong; None: none may.
        rows: a DataFrame, a list of dicts, or one of them for each of train, validation and test.
        kind: what the column `label` holds: one class, a list of them (`multi_label`), or a number (`regression`).
        label_map: a checkpoint's own label to a label of the task.
        generation: settings of generation in place of the tasks' own, as `{"num_beams": 4}`.
        baseline_rows: training rows that baselines learn from at most.
        speed: time the models, too, each in fresh processes; `report` has quality beside speed then.
        explain: rows of each task of which the words that moved the answers are told, wrong ones first; `report` marks
            them.
        track: also write the scores to mlflow, tensorboard or trackio.
        shard: answer this part of every task's rows alone, `2/4`, below `out`, for `merge`; nothing is scored.
        on: engine for many machines, `ray` or `ray://...`, over which the rows are divided, and merged at the end.
        shards: of `on`: parts of every task's rows.
        out: folder of the results; None: `runs/eval-N`.
        cache: file in which answers are kept; None: one in your cache folder; "off": none.

    Raises:
        UsageError: an argument is wrong, or a model answers none of the tasks.
        WorkError: nothing could be scored. What failed beside scores that are kept stands in `Results.failed`.
    """
    from lmtasks.evaluation.shards import parse_shard
    from lmtasks.settings.evaluation import (
        BesideScores,
        ExistingAnswers,
        PromptFormat,
        ResultsOut,
        Scoring,
        Uncertainty,
    )
    from lmtasks.workflow.evaluate import EvalRequest, evaluate_models, evaluate_shard
    from lmtasks.workflow.open_model import cache_file
    from lmtasks.workflow.shards_on_cluster import evaluate_on_cluster
    from lmtasks.workflow.track import check_tracker, track_results

    check_tracker(track)
    BesideScores(speed=speed, track=track, shard=shard, on=on, shards=shards)
    scoring = Scoring(num_fewshot=num_fewshot, split=split, limit=limit, sample=sample, rows=baseline_rows, seed=seed)
    prompts, uncertainty = prompts or PromptFormat(), uncertainty or Uncertainty()
    given = ExistingAnswers(answers_id=answers_id, allow_missing=allow_missing)
    opening = opening_of(
        runtime,
        device,
        precision,
        threads,
        batch_size,
        label_map,
        force=force,
        cache=cache_file(None if cache is None else str(cache)),
        server=server,
    )
    request = EvalRequest(
        models=refs_of(models),
        answers=given_of(answers, id_column=answers_id, allow_missing=given.allow_missing),
        tasks=tasks_of(
            tasks,
            rows=rows,
            data=data,
            text=text,
            label=label,
            pair=pair,
            kind=kind,
            name=name,
            language=language,
            encoding=encoding,
            include_path=include_path,
            trust_code=trust_code,
        ),
        opening=opening,
        data=access_of(data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled),
        scoring=scoring,
        prompts=prompts,
        uncertainty=uncertainty,
        generation=dict(generation or {}),
        output=ResultsOut(out=None if out is None else Path(out), overwrite=overwrite, no_samples=no_samples),
        speed=speed,
        explain=BesideScores(explain=explain).explain,
        given={
            **dict.fromkeys(("gen_kwargs", "label_map", "metrics"), ""),
            **dict(scoring),
            **dict(prompts),
            **dict(uncertainty),
            **{"answers_id": given.answers_id, "allow_missing": given.allow_missing},
            **{"text": text, "label": label, "pair": pair, "kind": kind, "name": name, "language": language},
            **{"encoding": encoding},
            **{"runtime": runtime, "device": device, "precision": precision, "no_samples": no_samples},
            **{"drop_unlabelled": drop_unlabelled, "rescore": None},
            **{name: getattr(opening.endpoint, name) for name in ("server_tokenizer", "server_context")},
            **({"gen_kwargs": dict(generation)} if generation else {}),
            **({"label_map": dict(label_map)} if label_map else {}),
        },
    )
    with drawn(progress) as report:
        if shard:
            written = evaluate_shard(request, parse_shard(shard), report=report)
            lost = {(each.record.model.name, task): why for each in written for task, why in each.record.failed.items()}
            return Results(folder=Path(out or ""), models={}, failed=lost)
        if on:
            evaluated = evaluate_on_cluster(request, on=on, shards=shards, report=report)
        else:
            evaluated = evaluate_models(request, report=report)
    if track is not None:
        track_results(track, evaluated)
    return _results_of(evaluated)


def merge(
    shards: PathLike | Sequence[PathLike],
    *,
    out: PathLike | None = None,
    overwrite: bool = False,
    tasks: str = "",
    include_path: Sequence[PathLike] = (),
    trust_code: bool = False,
) -> Results:
    """Merge what `evaluate(..., shard="2/4")` or `lmtasks eval --shard` wrote, as `lmtasks merge` does.

        lmtasks.merge("runs/large").to_frame()

    Args:
        shards: the `out` of the shards, or shards from several places.
        out: folder of the results; None: the one that is given.
        tasks: task files of metrics that are their own code.

    Raises:
        UsageError: a shard is missing, there twice, or of another evaluation.
        WorkError: a metric has no value.
    """
    from lmtasks.workflow.merge import MergeRequest, merge_results

    given = [shards] if isinstance(shards, str | Path) else list(shards)
    return _results_of(
        merge_results(
            MergeRequest(
                folders=[Path(each) for each in given],
                tasks=tasks,
                include=[Path(each) for each in include_path],
                trust_code=trust_code,
                out=None if out is None else Path(out),
                overwrite=overwrite,
            )
        )
    )


def _results_of(evaluated: Evaluated) -> Results:
    """The stored results.

    Raises:
        WorkError: there are none.
    """
    from lmtasks.evaluation.write import read_results

    failure = evaluated.failure()
    if failure is not None and not evaluated.kept:
        raise failure
    failed = {(each.label, task): str(error) for each in evaluated.models for task, error in each.failed.items()}
    return Results(
        folder=evaluated.folder,
        models={each.label: read_results(each.folder) for each in evaluated.models if each.results},
        failed={**evaluated.reasons, **failed},
    )


def bench(
    models: ModelLike | Sequence[ModelLike],
    tasks: PathLike | Task | Sequence[PathLike | Task] = "starter_*",
    *,
    rows: GivenRows | None = None,
    data: PathLike | None = None,
    text: str = "text",
    label: str | None = None,
    runtimes: Sequence[str] = (),
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
    batch_size: int | Literal["auto"] = "auto",
    limit: int | None = None,
    rounds: int = 5,
    seconds: float = 1.0,
    sweep: Sequence[str] = (),
    rate: Sequence[float] = (),
    arrival: Literal["poisson", "even"] = "poisson",
    require: str = "",
    price: str = "",
    price_hour: str = "",
    server: Endpoint | None = None,
    seed: int = 1234,
    out: PathLike | None = None,
    data_root: PathLike | None = None,
    offline: bool = False,
    token: str | None = None,
    include_path: Sequence[PathLike] = (),
    trust_code: bool = False,
    progress: bool | Report = True,
) -> Timings:
    """Measure speed and memory of models on runtimes, side by side, as `lmtasks bench` does.

        speeds = lmtasks.bench(["runs/stars", "runs/stars-int8"], require="p95_ms<=50")
        speeds.best

    Args:
        models: the first is what others are held to.
        runtimes: empty: what each model is made for.
        sweep: `batch=1,8,32`, `length=32,128`, `threads=1,2`.
        rate: also let so many requests come a second.
        require: what production needs; `Timings.best` is the variant that fulfils it, None where none does.
        server: how servers are asked, `lmtasks.Endpoint(served_name="mine")`.
        price: of a million tokens of a server, read and written, as "0.15,0.60 USD"; `Timings.costs` has the answers'.
        price_hour: of an hour of this machine, as "1.20 USD".

    Raises:
        UsageError: an argument is wrong, a baseline is among the models, or a runtime suits no model.
        WorkError: measuring failed.
    """
    from lmtasks.bench.costs import parse_prices
    from lmtasks.bench.judge import parse_requirements
    from lmtasks.bench.spec import parse_sweeps
    from lmtasks.settings.bench import BenchSettings
    from lmtasks.workflow.bench import BenchRequest, bench_models

    settings = BenchSettings(
        rounds=rounds,
        seconds=seconds,
        sweep=tuple(sweep),
        rate=tuple(rate),
        arrival=arrival,
        require=require,
        price=price,
        price_hour=price_hour,
    )
    own = rows is not None or data is not None
    opening = opening_of(None, device, precision, threads, batch_size, None, force=force, server=server)
    request = BenchRequest(
        models=refs_of(models),
        tasks=tasks_of(
            () if own and tasks == "starter_*" else tasks,
            rows=rows,
            data=data,
            text=text,
            label=label,
            include_path=include_path,
            trust_code=trust_code,
        ),
        data=access_of(data_root, offline=offline, token=token),
        runtimes=tuple(runtimes),
        device=device,
        precision=opening.on.precision,
        threads=opening.on.threads,
        force=opening.on.force,
        rows_at_once=opening.rows_per_batch,
        limit=limit,
        rounds=settings.rounds,
        seconds=settings.seconds,
        seed=seed,
        sweep=parse_sweeps(settings.sweep),
        rates=settings.rate,
        arrival=settings.arrival,
        requirements=parse_requirements(require) if require else (),
        require=require,
        prices=parse_prices(tokens=price, hour=price_hour),
        endpoint=opening.endpoint,
        out=None if out is None else Path(out),
    )
    with drawn(progress) as report:
        return Timings(benched=bench_models(request, report=report))


def try_(
    *,
    rows: GivenRows | None = None,
    data: PathLike | None = None,
    text: str = "text",
    label: str | None = None,
    pair: str | None = None,
    kind: OwnKind = "classification",
    name: str | None = None,
    language: str | None = None,
    encoding: str | None = None,
    drop_unlabelled: bool = False,
    models: ModelLike | Sequence[ModelLike] = (),
    minutes: float = 10.0,
    threads: int | None = None,
    seed: int = 1234,
    out: PathLike | None = None,
    cache: PathLike | None = None,
    data_root: PathLike | None = None,
    offline: bool = False,
    token: str | None = None,
    page_language: PageLanguage = "en",
    track: TrackerName | None = None,
    progress: bool | Report = True,
) -> TriedReport:
    """Answer which model to take for rows of your own, as `lmtasks try` does: looks at them, divides them, writes a
    plan and carries it out.

        tried = lmtasks.try_(rows=frame, text="comment", label="stars")
        tried.answer, tried.plan

    The same call again goes on where it stopped.

    Args:
        rows: a DataFrame, a list of dicts, or one of them for each of train, validation and test; or give `data`.
        kind: what the column `label` holds: one class, a list of them (`multi_label`), or a number (`regression`).
        models: beside the shipped backbone.
        minutes: for all of it, about; trainings keep to their share of it.
        page_language: of the page, which has a switch to the other one, too.
        track: also write results and learning curves to mlflow, tensorboard or trackio.
        out: folder of the run; None: `runs/try-NAME`.
        cache: file in which answers are kept; None: one in your cache folder; "off": none.

    Raises:
        UsageError: the rows make no task, a model is not there, or the folder holds something else.
        WorkError: nothing could be scored. What failed beside scores that are kept stands in `failed`.
    """
    from lmtasks.report.records import read_run
    from lmtasks.report.view import view
    from lmtasks.run.try_data import DataPlan, TryRequest, try_data
    from lmtasks.workflow.open_model import cache_file
    from lmtasks.workflow.track import check_tracker, track_run

    check_tracker(track)
    made: list[DataPlan] = []
    request = TryRequest(
        tasks=tasks_of(
            (),
            rows=rows,
            data=data,
            text=text,
            label=label,
            pair=pair,
            kind=kind,
            name=name,
            language=language,
            encoding=encoding,
        ),
        models=refs_of(models),
        minutes=minutes,
        data=access_of(data_root, offline=offline, token=token, drop_unlabelled=drop_unlabelled),
        threads=threads,
        seed=seed,
        cache=cache_file(None if cache is None else str(cache)),
        out=None if out is None else Path(out),
        page_language=page_language,
    )
    with drawn(progress) as report:
        tried = try_data(request, report=report, on_plan=made.append)
    if track is not None:
        track_run(track, tried.folder)
    return TriedReport(
        page=tried.page,
        report=view(read_run(tried.folder)),
        plan=tried.plan,
        found=made[0].found,
        notes=made[0].notes,
        failed=tried.ran.failed,
    )


def compare(
    base: Results | PathLike, *others: Results | PathLike, only: Sequence[str] = (), seed: int = 1234
) -> ComparedResults:
    """Compare results, paired by example; all are held to the first, as `lmtasks compare` does.

        lmtasks.compare(scores)  # the models of one evaluation, held to its first
        lmtasks.compare("runs/eval-1", "runs/eval-2", only=["sst2/acc"])

    Raises:
        UsageError: fewer than two results, or results that cannot be compared.
    """
    from lmtasks.workflow.compare import compare_folders

    places = [
        place
        for each in (base, *others)
        for place in (
            [stored.folder for stored in each.models.values()] if isinstance(each, Results) else [_folder(each)]
        )
    ]
    return ComparedResults(compared=compare_folders(places, only=tuple(only), seed=seed))


def report(*given: Results | PathLike, out: PathLike | None = None, language: PageLanguage = "en") -> ReportPage:
    """Make the pages of a run from its records, or one page over results, as `lmtasks report` does.

        lmtasks.report(first_scores, other_scores, out="runs/page").answer

    Args:
        given: the folder of one run; or results, or their folders.
        out: folder of the page over results; None: that of the results, where one was given.
        language: of the pages, which have a switch to the other one, too.

    Raises:
        UsageError: a folder is no run and no results, or a file in it is damaged.
        WorkError: the folder cannot be written.
    """
    from lmtasks.report.view import view
    from lmtasks.workflow.report import ReportRequest, make_reports

    folders = [each.folder if isinstance(each, Results) else _folder(each) for each in given]
    made = make_reports(ReportRequest(folders=folders, out=None if out is None else Path(out), language=language))
    if len(made) != 1:
        raise UsageError(f"report takes one run, or results; was given {len(made)} runs.")
    return ReportPage(page=made[0].page, report=view(made[0].records))


def _folder(given: object) -> Path:
    if not isinstance(given, str | Path):
        raise UsageError(f"results are given as Results or as a folder, was {str(given)[:80]!r}.")
    return Path(given)
