"""Models x tasks to scores: what each model can answer, its scores, and the folder that they are written to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.cores import usable_cores
from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.evaluation.chat import ChatUse, chat_use, template_settings
from lmtasks.evaluation.evaluate import TaskResult, answer_shard, changes_of, evaluate
from lmtasks.evaluation.filtering import check_thinking
from lmtasks.evaluation.groups import group_results
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.processes import ALONE, Processes, launched_here, started
from lmtasks.evaluation.shards import SHARD, Shard, ShardScored, StoredShard, write_shard
from lmtasks.evaluation.write import RESULTS, SPEED
from lmtasks.files import locked
from lmtasks.records import Json, Progress
from lmtasks.results.scores import GroupScores
from lmtasks.results.shard import ShardRecord
from lmtasks.settings.data import DataAccess
from lmtasks.settings.evaluation import PromptFormat, ResultsOut, Scoring, Uncertainty
from lmtasks.settings.runs_on import RunsOn
from lmtasks.task.changes import with_clean
from lmtasks.task.generation import read_kwargs, with_generation
from lmtasks.task.kinds import kind_of
from lmtasks.workflow.choose_models import (
    ChosenModel,
    OpenOptions,
    as_asked,
    check_given,
    chosen_models,
    learning_baseline,
    open_solver,
    solver_before_loading,
)
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_groups, chosen_tasks
from lmtasks.workflow.open_endpoint import chat_of_server
from lmtasks.workflow.open_model import hashes_folder
from lmtasks.workflow.results_folder import asked_json, check_free, check_rows, make_free, next_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmtasks.bench.compare import SpeedComparison
    from lmtasks.evaluation.given_answers import GivenAnswers
    from lmtasks.evaluation.protocols import Solver
    from lmtasks.task.groups import Group
    from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """Which models are scored on which tasks, and how."""

    tasks: TaskRequest
    models: Sequence[str] = ()
    answers: Sequence[GivenAnswers] = ()
    """What other systems answered; scored beside the models."""
    opening: OpenOptions = field(default_factory=OpenOptions)
    data: DataAccess = field(default_factory=DataAccess)
    scoring: Scoring = field(default_factory=Scoring)
    """`split` None: every row of a single file, unless a baseline learns from it; of anything else the scored split."""
    prompts: PromptFormat = field(default_factory=PromptFormat)
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    generation: Mapping[str, object] = field(default_factory=dict)
    """Settings of generation in place of what the tasks say, beside `scoring.gen_kwargs`."""
    output: ResultsOut = field(default_factory=ResultsOut)
    """`out` None: `runs/eval-N`. The cache stands in `opening`."""
    speed: bool = False
    """Time the models, too: `speed.json` beside the scores of each."""
    explain: int = 0
    """Rows of each task of which the words that moved the answers are told: `words-TASK.json` beside the samples."""
    given: Mapping[str, object] = field(default_factory=dict)
    """Options as they were given, for results.json."""

    def __post_init__(self) -> None:
        if not self.models and not self.answers:
            raise UsageError(
                "missing option '--model': a model or package folder, a shipped name, Hub id or baseline; or "
                "'--answers', a file of what some system answered."
            )
        if self.scoring.split == "all" and not self.tasks.is_single:
            raise UsageError("--split all scores every row of a single --data file; of tasks and folders give test.")
        if self.explain and self.output.no_samples:
            raise UsageError("--explain tells words of stored samples; leave out --no-samples, or --explain.")
        if self.speed and launched_here() > 1:
            raise UsageError("--speed times models in processes of its own; leave the launcher out, or --speed.")

    def check_divided(self) -> None:
        """Refuse what a part of the rows cannot be asked for.

        Raises:
            UsageError: it is asked.
        """
        if self.output.out is None:
            raise UsageError("--shard needs --out, the same folder for every shard: they are merged there.")
        if self.output.no_samples:
            raise UsageError("--no-samples leaves nothing that shards could be merged from; leave it out.")
        if self.speed:
            raise UsageError("--speed times a model on all rows; leave out --speed, or --shard.")
        if self.explain:
            raise UsageError("--explain tells words of the rows of all shards; leave out --explain, or --shard.")
        if launched_here() > 1:
            raise UsageError("a launcher divides the rows itself; leave the launcher out, or --shard.")


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """Scores of one model."""

    label: str
    folder: Path
    results: Sequence[TaskResult]
    groups: Mapping[str, GroupScores]
    failed: Mapping[str, LmtasksError]
    """Task to why it has no scores."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Scores of all models."""

    folder: Path
    tasks: tuple[str, ...]
    """In the order of the tables."""
    models: tuple[ModelScores, ...]
    reasons: Mapping[tuple[str, str], str]
    """(model, task) to why the model cannot answer it."""
    speed: SpeedComparison | None = None
    """Models that were timed side by side."""
    not_timed: tuple[str, ...] = ()
    """A sentence for each model that could not be timed."""
    not_explained: tuple[str, ...] = ()
    """Why no words are told of some answers, where they were asked for."""

    @property
    def kept(self) -> int:
        """Number of scored pairs of a model and a task."""
        return sum(len(each.results) for each in self.models)

    def failure(self) -> LmtasksError | None:
        """The error that says which tasks failed, and what is kept all the same; None where all went well."""
        failed = [(each, error) for each in self.models for error in each.failed.values()]
        if not failed:
            return None
        if self.kept == 0 and len(failed) == 1:
            return failed[0][1]
        several = len(self.models) > 1
        told = " ".join(dict.fromkeys(f"{each.label + ', ' if several else ''}{error}" for each, error in failed))
        names = "; ".join(_kept(each, several=several) for each in self.models if each.results) or "nothing"
        return WorkError(f"{len(failed)} of {self.kept + len(failed)} failed: {told} Kept: {names}.")


def evaluate_models(request: EvalRequest, *, report: Callable[[Progress], None]) -> Evaluated:
    """Score models on tasks and write the scores; everything that can be known before the first answer is checked
    before it.

    Under a launcher of several processes all take part, and the first one writes.

    Raises:
        UsageError: a model, a task or an option is wrong, a model answers none of the tasks, or the folder holds
            results of something else.
        WorkError: a model cannot be loaded or nothing can be written. A task that fails does not stop the others: see
            `Evaluated.failure`.
    """
    with started() as processes:
        return Evaluation(request=request, processes=processes, report=report).run()


def evaluate_shard(
    request: EvalRequest, shard: Shard, *, report: Callable[[Progress], None]
) -> tuple[StoredShard, ...]:
    """Answer one part of every task's rows, for each model, and write it to `OUT/[MODEL/]shard-i-of-n`; no score is
    made.

    Raises:
        UsageError: as `evaluate_models`; or an option is about all rows.
        WorkError: a model cannot be loaded or nothing can be written. A task that fails stands in the record's
            `failed`.
    """
    request.check_divided()
    return Evaluation(request=request, processes=ALONE, report=report).shard(shard)


@dataclass(frozen=True, kw_only=True)
class PreparedEvaluation:
    """All of a request that is known before a model is loaded."""

    opening: OpenOptions
    tasks: tuple[Task, ...]
    models: Sequence[ChosenModel]
    answered: Mapping[str, Sequence[Task]]
    """Label of a model to the tasks that it answers."""
    reasons: Mapping[tuple[str, str], str]
    groups: Sequence[Group]
    chats: Mapping[str, ChatUse | None]
    """By the label of a model."""
    folder: Path
    places: Mapping[str, Path]
    """Label of a model to the folder of its results."""
    asks: Mapping[Path, Json]
    """By that folder."""

    def place_of(self, chosen: ChosenModel) -> int:
        """Place of a model among those of the command."""
        return [each.label for each in self.models].index(chosen.label)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Carries out a request, whole or in shards."""

    request: EvalRequest
    processes: Processes
    report: Callable[[Progress], None]

    def prepare(self) -> PreparedEvaluation:
        """Everything that is known before a model is loaded, checked."""
        request = self.request
        opening = replace(request.opening, on=_shared(request.opening.on))
        generation = {**read_kwargs(request.scoring.gen_kwargs), **request.generation}
        tasks = with_generation(with_clean(chosen_tasks(request.tasks, use=self._use())), generation)
        variables = template_settings(request.prompts.chat_template_args)
        check_thinking(tasks, token=request.prompts.think_end_token, settings=variables)
        data = request.data
        check_given(request.answers, tasks=[task.name for task in tasks], sample=request.scoring.sample)
        models = chosen_models(
            request.models, offline=data.offline, token=data.token, answers=request.answers, opening=opening
        )
        if request.scoring.rows is not None and not any(each.is_baseline for each in models):
            raise UsageError("--rows says what baselines learn from, and no --model is one; leave it out.")
        answered, reasons = _answerable(models, tasks, opening)
        groups = chosen_groups(request.tasks)
        # before a model is loaded
        chats = {chosen.label: _chat_of(chosen, request.prompts, variables) for chosen in models}
        folder = self.processes.share(request.output.out or next_folder("eval"))
        places = {chosen.label: folder / chosen.label if len(models) > 1 else folder for chosen in models}
        return PreparedEvaluation(
            opening=opening,
            tasks=tasks,
            models=models,
            answered=answered,
            reasons=reasons,
            groups=groups,
            chats=chats,
            folder=folder,
            places=places,
            asks={
                places[chosen.label]: asked_json(request.given, tasks=answered[chosen.label], chosen=chosen)
                for chosen in models
            },
        )

    def run(self) -> Evaluated:
        """Score and write."""
        prepared = self.prepare()
        with locked(prepared.folder) if self.processes.first else nullcontext():
            if self.processes.first:
                (make_free if self.request.output.overwrite else check_free)(prepared.asks, out=prepared.folder)
            scores = tuple(self.score(chosen, prepared) for chosen in prepared.models)
            not_explained = self.explained(prepared, scores) if self.processes.first else ()
            speed, not_timed = self._timed(prepared, scores)
        return Evaluated(
            folder=prepared.folder,
            tasks=tuple(task.name for task in prepared.tasks),
            models=scores,
            reasons=prepared.reasons,
            speed=speed,
            not_timed=not_timed,
            not_explained=not_explained,
        )

    def shard(self, shard: Shard) -> tuple[StoredShard, ...]:
        """Answer a part of the rows and write it."""
        prepared = self.prepare()
        with locked(prepared.folder / shard.folder):  # others write beside it
            return tuple(self._own_shard(chosen, prepared, shard) for chosen in prepared.models)

    def _own_shard(self, chosen: ChosenModel, prepared: PreparedEvaluation, shard: Shard) -> StoredShard:
        place = prepared.places[chosen.label]
        out, asked = place / shard.folder, prepared.asks[place]
        held = ShardRecord.read_if_whole(out / SHARD)
        if held is not None and held.asked != asked and not self.request.output.overwrite:
            raise UsageError(f"{out} holds a shard of something else; give another --out, or --overwrite.")
        with open_solver(chosen, prepared.opening) as solver:
            return self.answer_shard(
                shard, chosen, prepared, solver=solver, out=out, asked=asked, place=prepared.place_of(chosen)
            )

    def answer_shard(
        self,
        shard: Shard,
        chosen: ChosenModel,
        prepared: PreparedEvaluation,
        *,
        solver: Solver,
        out: Path,
        asked: Json,
        place: int,
    ) -> StoredShard:
        """Let a loaded model answer its part of the rows, and write it into the folder `out`.

        Args:
            place: of the model among those of the command.
        """
        from lmtasks.bench.machine import machine, versions
        from lmtasks.evaluation.samples import sample_files
        from lmtasks.evaluation.write import samples_file

        failed: dict[str, LmtasksError] = {}
        options, tasks = self._options(chosen, prepared), prepared.answered[chosen.label]
        with sample_files(out, name=samples_file) as samples:
            answered = answer_shard(
                shard.part,
                solver=solver,
                tasks=tasks,
                options=options,
                samples=samples,
                on_progress=self.report,
                on_failure=failed.__setitem__,
            )
            scored = ShardScored(
                shard=shard,
                answered=answered,
                changes=changes_of(tasks),
                groups=prepared.groups,
                failed={task: str(error) for task, error in failed.items()},
                model=solver.model,
                runtime=solver.card,
                machine=machine(),
                versions=versions(),
                seed=options.seed,
                resamples=options.resamples,
                draws=options.draws,
                asked=asked,
                place=place,
            )
            return StoredShard(folder=out, record=write_shard(out, scored, samples=samples))

    def _options(self, chosen: ChosenModel, prepared: PreparedEvaluation) -> EvalOptions:
        request = self.request
        cache = prepared.opening.cache
        return EvalOptions(data=request.data, chat=prepared.chats[chosen.label], hashes=hashes_folder(cache)).but(
            {
                **dict(request.scoring),
                **dict(request.prompts),
                **dict(request.uncertainty),
                "split": "validation" if request.scoring.split == "validation" else "test",
            }
        )

    def _timed(
        self, prepared: PreparedEvaluation, scores: Sequence[ModelScores]
    ) -> tuple[SpeedComparison | None, tuple[str, ...]]:
        """Models that were timed, and why others were not; each record lies beside the scores of its model."""
        from lmtasks.workflow.bench import time_scored

        if not self.request.speed:
            return None, ()
        scored = [
            (chosen, [task for task in prepared.tasks if any(result.task == task.name for result in each.results)])
            for chosen, each in zip(prepared.models, scores, strict=True)
        ]
        if not any(chosen.folder is not None and own for chosen, own in scored):
            return None, ("nothing was timed: baselines are not, nor are servers or answers that are there.",)
        compared, failed = time_scored(
            [(chosen, own) for chosen, own in scored if own],
            opening=prepared.opening,
            data=self.request.data,
            seed=self.request.scoring.seed,
            report=self.report,
        )
        for record in compared.variants if compared is not None else ():
            record.write(next(each.folder for each in scores if each.label == record.variant.name) / SPEED)
        return compared, failed

    def explained(self, prepared: PreparedEvaluation, scores: Sequence[ModelScores]) -> tuple[str, ...]:
        """Words beside the samples of every model, the same rows of each; sentences on what has none."""
        from lmtasks.evaluation.write import samples_file, words_file
        from lmtasks.results.scores import ResultsRecord
        from lmtasks.workflow.explain import SampleFile, explain_samples, wrong_first

        if not self.request.explain:
            return ()
        ids = {
            task.name: wrong_first(
                [
                    each.folder / samples_file(task.name)
                    for chosen, each in zip(prepared.models, scores, strict=True)
                    if not chosen.is_baseline and any(result.task == task.name for result in each.results)
                ],
                self.request.explain,
            )
            for task in prepared.tasks
        }
        reasons: list[str] = []
        for chosen, each in zip(prepared.models, scores, strict=True):
            if not each.results:
                continue
            checksums = ResultsRecord.read(each.folder / RESULTS).checksums
            conditions = {result.task: result.conditions for result in each.results}
            with open_solver(chosen, prepared.opening) as solver:
                for task in (task for task in prepared.answered[chosen.label] if task.name in conditions):
                    name = samples_file(task.name)
                    file = SampleFile(
                        task=task,
                        samples=each.folder / name,
                        checksum=checksums[name],
                        out=each.folder / words_file(task.name),
                        conditions=conditions[task.name],
                    )
                    record = explain_samples(
                        solver, file, ids[task.name], seed=self.request.scoring.seed, report=self.report
                    )
                    reasons += [record.reason] if record.reason else []
        return tuple(dict.fromkeys(reasons))

    def _use(self) -> Literal["score", "both"]:
        request = self.request
        divided = request.scoring.split in ("test", "validation") or (
            request.scoring.split is None and learning_baseline(request.models)
        )
        return "both" if request.tasks.is_single and divided else "score"

    def score(self, chosen: ChosenModel, prepared: PreparedEvaluation) -> ModelScores:
        """Scores of one model, written."""
        from lmtasks.bench.machine import machine, versions
        from lmtasks.evaluation.samples import sample_files
        from lmtasks.evaluation.write import samples_file, write_results

        failed: dict[str, LmtasksError] = {}
        request, out = self.request, prepared.places[chosen.label]
        with sample_files(out, name=samples_file) as samples, open_solver(chosen, prepared.opening) as solver:
            results = evaluate(
                solver=solver,
                tasks=prepared.answered[chosen.label],
                options=self._options(chosen, prepared),
                on_progress=self.report,
                keep_samples=False,
                samples=samples if not request.output.no_samples else None,
                on_failure=failed.__setitem__,
                processes=self.processes,
            )
            found = group_results(prepared.groups, results)
            if self.processes.first and results:
                if not request.output.overwrite:
                    check_rows(results, out=out)
                write_results(
                    out,
                    results=results,
                    model=solver.model,
                    runtime=solver.card,
                    machine=machine(),
                    versions=versions(),
                    samples=samples if not request.output.no_samples else False,
                    groups=found,
                    processes=self.processes.count,
                    failed={task: str(error) for task, error in failed.items()},
                    asked=prepared.asks[out],
                    place=prepared.place_of(chosen),
                )
        return ModelScores(label=chosen.label, folder=out, results=results, groups=found, failed=failed)


def _chat_of(chosen: ChosenModel, prompts: PromptFormat, variables: Mapping[str, object]) -> ChatUse | None:
    """The model's own template; None for a baseline, which reads no prompts."""
    from lmtasks.model.files import tokenizer_folder

    if chosen.server is not None:
        return chat_of_server(chosen.server, prompts)
    if chosen.folder is None:
        return None
    return chat_use(
        tokenizer_folder(chosen.folder),
        template=prompts.apply_chat_template,
        system=prompts.system_instruction,
        multiturn=prompts.fewshot_as_multiturn,
        settings=variables,
    )


def _kept(each: ModelScores, *, several: bool) -> str:
    """The tasks that have scores; of several models with its name, since each may have failed others."""
    tasks = ", ".join(result.task for result in each.results)
    return f"{tasks} of {each.label}" if several else tasks


def _shared(on: RunsOn) -> RunsOn:
    """The same with threads: of several processes on this machine each takes its part, unless threads were given."""
    processes = launched_here()
    if on.threads is not None or processes == 1:
        return on
    return on.but({"threads": max(1, usable_cores() // processes)})


def _answerable(
    models: Sequence[ChosenModel], tasks: Sequence[Task], opening: OpenOptions
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
        answered[chosen.label] = [as_asked(solver, task) for task in tasks if not why_not[task.name]]
        reasons |= {(chosen.label, name): reason for name, reason in why_not.items() if reason}
        if not answered[chosen.label]:
            raise UsageError(next(iter(why_not.values())) + _hint(why_not.values(), tasks))
    return answered, reasons


def _hint(reasons: Iterable[str], tasks: Sequence[Task]) -> str:
    """Advice for a model that answers none of the tasks."""
    if any("say which is which" in reason for reason in reasons):
        return " Say so with --label-map."
    own = any(task.file is None and task.sources["test"].part is None for task in tasks)
    if own and any("learns from training data" in reason for reason in reasons):
        return " Of a single --data file, --split test scores a fifth, and the rest can be learned from."
    if all(task.file is None and kind_of(task).answer == "likelihood" for task in tasks):
        return " --data without --label is a text whose likelihood is asked; name the column of the classes by --label."
    return ""
