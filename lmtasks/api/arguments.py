"""Arguments as people give them to the requests of `workflow/`; refused in the sentences of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from lmtasks.errors import UsageError
from lmtasks.progress_bars import Report, bars_on, is_watched, quiet

if TYPE_CHECKING:
    from lmtasks.api.rows import GivenRows, TableLike
    from lmtasks.evaluation.given_answers import GivenAnswers
    from lmtasks.settings.data import DataAccess, OwnKind
    from lmtasks.settings.endpoint import Endpoint
    from lmtasks.task.task import Task
    from lmtasks.workflow.choose_models import OpenOptions
    from lmtasks.workflow.choose_tasks import TaskRequest


@runtime_checkable
class InFolder(Protocol):
    """Result of `adapt`, `export` and `load_model`."""

    @property
    def folder(self) -> Path:
        """Folder of the model or package."""
        ...


PathLike = str | Path
if TYPE_CHECKING:
    Answers = PathLike | Sequence[PathLike] | Mapping[str, PathLike | TableLike]
    """Answers that exist: files, named by themselves, or by name."""
ModelLike = str | Path | InFolder
"""A folder, a shipped name, a Hub id, a server's address or a baseline; or a model that another function gave."""


def tasks_of(
    tasks: PathLike | Task | Sequence[PathLike | Task],
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
    include_path: Sequence[PathLike] = (),
    trust_code: bool = False,
) -> TaskRequest:
    """Tasks by name or value, or one's own rows, as a use case takes them."""
    from lmtasks.api.rows import held_rows
    from lmtasks.settings.data import TaskChoice
    from lmtasks.task.task import Task
    from lmtasks.workflow.choose_tasks import TaskRequest

    if rows is not None and data is not None:
        raise UsageError("rows and data both say what the task is; give one of them.")
    TaskChoice(text=text, label=label, pair=pair, kind=kind, name=name, language=language, encoding=encoding)
    given = list(tasks) if isinstance(tasks, Sequence) and not isinstance(tasks, str) else [tasks]
    for each in given:
        if not isinstance(each, str | Path | Task):
            raise UsageError(f"tasks must be names, files or tasks that were loaded, was {str(each)[:80]!r}.")
    include = tuple(map(Path, include_path))
    chosen: str | tuple[Task, ...] = ",".join(str(each) for each in given if not isinstance(each, Task))
    if any(isinstance(each, Task) for each in given):
        index = TaskRequest(include=include).index
        chosen = tuple(
            task
            for each in given
            for task in ((each,) if isinstance(each, Task) else index.find(str(each), trust_code=trust_code))
        )
    return TaskRequest(
        tasks=chosen,
        include=include,
        data=held_rows(rows) if rows is not None else None if data is None else Path(data),
        text=text,
        label=label,
        pair=pair,
        kind=kind,
        name=name,
        language=language,
        encoding=encoding,
        trust_code=trust_code,
    )


def access_of(
    data_root: PathLike | None, *, offline: bool, token: str | None, drop_unlabelled: bool = False
) -> DataAccess:
    from lmtasks.settings.data import DataAccess
    from lmtasks.workflow.choose_tasks import checked_root

    root = checked_root(None if data_root is None else Path(data_root))
    return DataAccess(data_root=root, offline=offline, token=token, drop_unlabelled=drop_unlabelled)


def opening_of(
    runtime: str | None,
    device: str,
    precision: str | None,
    threads: int | None,
    batch_size: int | Literal["auto"],
    label_map: Mapping[str, str] | None,
    *,
    force: bool = False,
    cache: Path | None = None,
    server: Endpoint | None = None,
) -> OpenOptions:
    from lmtasks.settings.bounds import COUNT, shown
    from lmtasks.settings.endpoint import Endpoint
    from lmtasks.settings.runs_on import RunsOn
    from lmtasks.workflow.choose_models import OpenOptions

    on = RunsOn(runtime=runtime, device=device, precision=precision, threads=threads, force=force)  # type: ignore[arg-type]  # checked
    if batch_size != "auto" and (not isinstance(batch_size, int) or not COUNT.holds(batch_size)):
        raise UsageError(f"batch size must be auto or a whole number of at least 1, was {shown(batch_size)}.")
    return OpenOptions(
        on=on,
        rows_per_batch=None if batch_size == "auto" else batch_size,
        label_names=dict(label_map or {}),
        cache=cache,
        endpoint=server or Endpoint(),
    )


def refs_of(models: ModelLike | Sequence[ModelLike]) -> tuple[str, ...]:
    if isinstance(models, Sequence) and not isinstance(models, str):
        return tuple(map(ref_of, models))
    return (ref_of(models),)


def given_of(
    answers: Answers | None, *, id_column: str | None = None, allow_missing: float | None = None
) -> tuple[GivenAnswers, ...]:
    """Answers of other systems.

    Raises:
        UsageError: there is no such file, or it holds no answers.
    """
    from lmtasks.api.rows import held_rows
    from lmtasks.evaluation.given_answers import held_answers
    from lmtasks.workflow.choose_models import read_given

    if answers is None:
        return ()
    if not isinstance(answers, Mapping):
        files = [answers] if isinstance(answers, str | Path) else answers
        return read_given([str(each) for each in files], id_column=id_column, allow_missing=allow_missing)
    found: list[GivenAnswers] = []
    for name, each in answers.items():
        if isinstance(each, str | Path):
            found += read_given([f"{name}={each}"], id_column=id_column, allow_missing=allow_missing)
        else:
            lines = held_rows(each).rows or ()
            found.append(held_answers(lines, name=name, id_column=id_column, allowed=(allow_missing or 0.0) / 100))
    return tuple(found)


def ref_of(model: object) -> str:
    """A model as a command line names it.

    Raises:
        UsageError: it is none.
    """
    if isinstance(model, InFolder):
        return str(model.folder)
    if isinstance(model, str | Path):
        return str(model)
    raise UsageError(
        "a model must be a folder, a name, a Hub id, or what adapt, export or load_model gave, was "
        f"{str(model)[:80]!r}."
    )


@contextmanager
def drawn(progress: bool | Report) -> Iterator[Report]:
    """Bars where somebody sees them, the caller's own callback, or nothing."""
    if callable(progress):
        yield progress
    elif progress and is_watched():
        with bars_on() as report:
            yield report
    else:
        yield quiet
