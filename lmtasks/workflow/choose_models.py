"""Which models a use case is about, and how they are opened: folders, shipped names, Hub ids, baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.files import slug
from lmtasks.settings.endpoint import Endpoint, is_address
from lmtasks.settings.runs_on import RunsOn

if TYPE_CHECKING:
    from lmtasks.endpoint.probe import Server
    from lmtasks.engine.engine import Engine
    from lmtasks.evaluation.given_answers import GivenAnswers
    from lmtasks.evaluation.protocols import Solver
    from lmtasks.task.task import Task


@dataclass(frozen=True, kw_only=True)
class ChosenModel:
    """One `--model`, found."""

    ref: str
    label: str
    """Short, and no other's: the column of a table, the name of a folder."""
    folder: Path | None
    """None: a baseline, a server, or answers that are there."""
    answers: GivenAnswers | None = None
    """What some system answered; None: a model or a baseline is asked."""
    server: Server | None = None
    """As it was probed."""

    @property
    def is_baseline(self) -> bool:
        """Is it no system of somebody's, but one to hold them against?"""
        return self.folder is None and self.server is None and self.answers is None


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """How models are opened, the same for all of a use case."""

    on: RunsOn = field(default_factory=RunsOn)
    rows_per_batch: int | None = None
    """None: by length."""
    label_names: Mapping[str, str] = field(default_factory=dict)
    """A checkpoint's own label to a label of the tasks."""
    cache: Path | None = None
    """The file in which answers are kept; None: they are not."""
    endpoint: Endpoint = field(default_factory=Endpoint)
    """How servers are asked."""

    def engine(self, folder: Path) -> AbstractContextManager[Engine]:
        """The model or package in a folder, loaded; see `open_engine`."""
        from lmtasks.workflow.open_model import open_engine

        return open_engine(
            folder,
            runtime=self.on.runtime,
            device=self.on.device,
            precision=self.on.precision,
            threads=self.on.threads,
            force=self.on.force,
            rows_per_batch=self.rows_per_batch,
        )

    def engines(self, folders: Sequence[Path]) -> AbstractContextManager[tuple[Engine, ...]]:
        """Several models over one backbone, which is in memory once; see `open_engines`."""
        from lmtasks.workflow.open_model import open_engines

        return open_engines(
            folders,
            runtime=self.on.runtime,
            device=self.on.device,
            precision=self.on.precision,
            threads=self.on.threads,
            force=self.on.force,
            rows_per_batch=self.rows_per_batch,
        )


def chosen_models(
    refs: Sequence[str],
    *,
    offline: bool,
    token: str | None,
    answers: Sequence[GivenAnswers] = (),
    opening: OpenOptions | None = None,
) -> tuple[ChosenModel, ...]:
    """Find every model, before any is loaded; a server is probed. Behind them stand the systems whose answers are
    there.

    Args:
        opening: how servers are asked; None: as by default.

    Raises:
        UsageError: none was given, one is given twice, or there is nothing of that name.
        WorkError: the Hub or a server cannot be reached.
    """
    from lmtasks.evaluation.baselines import BASELINES
    from lmtasks.evaluation.rivals import GROUPS
    from lmtasks.model.resolve import resolve
    from lmtasks.workflow.open_endpoint import probe_server

    if not refs and not answers:
        raise UsageError("give --model: a model or package folder, a shipped name, a Hub id, or a baseline.")
    twice = sorted({ref for ref in refs if refs.count(ref) > 1})
    if twice:
        raise UsageError(f"--model {twice[0]} is given twice.")
    known = {**BASELINES, **GROUPS}
    opening = opening or OpenOptions()
    servers = {ref: probe_server(ref, opening.endpoint, cache=opening.cache) for ref in refs if is_address(ref)}
    labels = labels_of([servers[ref].name if ref in servers else ref for ref in refs]) if refs else []
    given = [ChosenModel(ref=each.where, label=_folder_name(each.name), folder=None, answers=each) for each in answers]
    names = [*labels, *(each.label for each in given)]
    double = next((each for each in given if names.count(each.label) > 1), None)
    if double is not None:
        raise UsageError(
            f"{double.label!r} names two systems; give the answers of {double.ref} a name of their own, "
            f"--answers NAME={double.ref}."
        )
    found = tuple(
        ChosenModel(
            ref=ref,
            label=label,
            folder=None
            if ref in servers or _is_baseline(ref, known)
            else resolve(ref, offline=offline, token=token, also=known),
            server=servers.get(ref),
        )
        for ref, label in zip(refs, labels, strict=True)
    )
    return (*found, *given)


def learning_baseline(refs: Sequence[str]) -> bool:
    """Is one a baseline that learns, or a group with such a one? Of a single file all are then scored on the part that
    it does not learn from."""
    from lmtasks.evaluation.baselines import BASELINES
    from lmtasks.evaluation.rivals import GROUPS, baseline_names

    wanted = [ref for ref in refs if _is_baseline(ref, {**BASELINES, **GROUPS})]
    return any(BASELINES[name].learns for ref in wanted for name in baseline_names([ref]))


@contextmanager
def open_solver(chosen: ChosenModel, opening: OpenOptions) -> Iterator[Solver]:
    """A model, loaded, a baseline, or answers that are there.

    Raises:
        UsageError: the folder does not suit the runtime, device or precision, or a part of it is missing.
        WorkError: it cannot be loaded.
    """
    from lmtasks.data.row_hashes import read_training_rows
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.evaluation.given_solver import GivenSolver
    from lmtasks.evaluation.rivals import RivalSolver
    from lmtasks.model.store import training_rows_file
    from lmtasks.workflow.open_model import with_cache

    if chosen.answers is not None:
        yield GivenSolver(chosen.answers)
        return
    if chosen.server is not None:
        from lmtasks.workflow.open_endpoint import open_endpoint, server_solver

        with open_endpoint(chosen.server, opening.endpoint, cache=opening.cache) as engine:
            yield server_solver(engine, chosen.server, opening.endpoint)
        return
    if chosen.folder is None:
        yield RivalSolver([chosen.ref])
        return
    with (
        opening.engine(chosen.folder) as loaded,
        with_cache(loaded, folder=chosen.folder, cache=opening.cache) as answers,
    ):
        training = read_training_rows(training_rows_file(chosen.folder))
        yield EngineSolver(answers, label_names=opening.label_names, training=training)


def solver_before_loading(chosen: ChosenModel, opening: OpenOptions) -> Solver:
    """A solver that can say what it will answer, made from the model's card alone."""
    from lmtasks.bench.recorder import Recorder
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.evaluation.given_solver import GivenSolver
    from lmtasks.evaluation.rivals import RivalSolver
    from lmtasks.model.files import tokenizer_folder
    from lmtasks.records import RuntimeCard
    from lmtasks.workflow.open_model import card_in

    if chosen.answers is not None:
        return GivenSolver(chosen.answers)
    if chosen.server is not None:
        from lmtasks.workflow.open_endpoint import server_solver, unasked_engine

        return server_solver(unasked_engine(chosen.server, opening.endpoint), chosen.server, opening.endpoint)
    if chosen.folder is None:
        return RivalSolver([chosen.ref])
    nothing = RuntimeCard(runtime="native", version="", device="cpu", precision="none", threads=1, size_bytes=0)
    card = card_in(chosen.folder)
    tokenizer = load_tokenizer(tokenizer_folder(chosen.folder))
    return EngineSolver(Recorder(model=card, card=nothing, tokenizer=tokenizer), label_names=opening.label_names)


def as_asked(solver: Solver, task: Task) -> Task:
    """The task as a solver asks it: by letters, where a server tells no log-probabilities of choices."""
    from lmtasks.evaluation.endpoint_solver import EndpointSolver

    return solver.as_asked(task) if isinstance(solver, EndpointSolver) else task


def _is_baseline(ref: str, baselines: Mapping[str, object]) -> bool:
    return ref in baselines and not Path(ref).is_dir()


def labels_of(refs: Sequence[str]) -> list[str]:
    """The last part of each path, with as many parts before it as tell them apart."""
    parts = [[part for part in Path(ref).parts if part not in ("/", ".")] or [ref] for ref in refs]
    for count in range(1, max(map(len, parts)) + 1):
        labels = [_folder_name("/".join(each[-count:])) for each in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{_folder_name(ref)}-{number}" for number, ref in enumerate(refs, start=1)]


def _folder_name(ref: str) -> str:
    return slug(ref, lower=False).strip(".") or "model"


def read_given(
    files: Sequence[str], *, id_column: str | None = None, allow_missing: float | None = None
) -> tuple[GivenAnswers, ...]:
    """The files of `--answers [NAME=]FILE`, read.

    Args:
        allow_missing: percent of a task's rows that may be without an answer.

    Raises:
        UsageError: there is no such file, or it holds no answers.
    """
    from lmtasks.evaluation.given_answers import read_answers

    found = []
    for given in files:
        name, equals, path = given.partition("=")
        named = bool(equals) and bool(name) and not Path(given).is_file()
        file = Path(path if named else given)
        found.append(
            read_answers(
                file, name=name if named else file.stem, id_column=id_column, allowed=(allow_missing or 0.0) / 100
            )
        )
    return tuple(found)


def check_given(given: Sequence[GivenAnswers], *, tasks: Sequence[str], sample: int | None) -> None:
    """Hold answers that are there against what is scored.

    Raises:
        UsageError: a file does not say of which of several tasks its lines are, or of which rows of a sample.
    """
    for each in given:
        if not each.tasks and len(tasks) > 1:
            raise UsageError(
                f"{each.where} does not say which of {len(tasks)} tasks its lines answer; give each a `task`, or name "
                "one task."
            )
        if sample is not None and not each.by_id:
            raise UsageError(
                f"--sample draws rows, and {each.where} names them by their places among all; give `id` in place of "
                "`row`, or leave --sample out."
            )
