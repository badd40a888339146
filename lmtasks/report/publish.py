"""A run folder becomes a published one, small enough to commit: pages, charts and records; no weights, no samples.

    reports/<plan>/index.html report.md charts/*.svg     for people; results.csv for spreadsheets
                   run.json paired.json plan.yaml cells/*.json sweeps/*.json speed/*.json
                   parity/*.json gate/*.json         what they were made from

`reports/index.html` lists all of them: question, answer in one sentence, picture.

Records lose their per-example statistics, raw timings, and the names of local folders. A published folder can be read
again as a run (`lmtasks report reports/<plan>`).
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from lmtasks.checksums import FIELD
from lmtasks.errors import UsageError, WorkError
from lmtasks.files import write_record, write_text
from lmtasks.records import Json
from lmtasks.report.decision import said_of
from lmtasks.report.plot import without_own_colours
from lmtasks.report.records import read_run
from lmtasks.report.write import render_index, write_pages
from lmtasks.results.base import StoredFile, read_content
from lmtasks.results.training import lines_of, read_looks
from lmtasks.settings.evaluation import PageLanguage


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """A line of the index."""

    name: str
    """Of its folder."""
    question: str
    answer: str
    """In one sentence."""
    picture: Markup
    """Its first chart; empty where it has none."""


LEFT_OUT = frozenset({"statistics", "clusters", "parts", "raw_ms", FIELD})
"""Fields of records that grow with the number of examples or calls; and the checksum over them."""


def publish(run_folder: Path, *, reports: Path, language: PageLanguage = "en") -> Path:
    """Publish a run under `reports/<plan>/`, replacing what was published there before.

    Returns:
        The page.

    Raises:
        UsageError: the folder is no run, a file in it is damaged, or the target holds something else than a report.
        WorkError: the target cannot be written.
    """
    run = read_run(run_folder)
    target = reports / run.name
    if target.exists() and any(target.iterdir()) and not (target / "cells").is_dir():
        raise UsageError(f"{target} holds something else than a published report; move it away, or publish elsewhere.")
    aside, before = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.before.part")
    try:
        for leftover in (aside, before):
            shutil.rmtree(leftover, ignore_errors=True)
        _copy_records(run_folder, aside)
        write_pages(read_run(aside), out=aside, language=language)
        if target.exists():
            target.rename(before)
        aside.rename(target)
        shutil.rmtree(before, ignore_errors=True)
        write_text(reports / "index.html", render_index(published_runs(reports)))
    except OSError as error:
        raise WorkError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target / "index.html"


def published_runs(reports: Path) -> tuple[PublishedRun, ...]:
    """Every published run below that folder, by name; one that cannot be read is left out of the index."""
    found = []
    for folder in sorted(file.parent for file in reports.glob("*/run.json")):
        try:
            run = read_run(folder)
        except UsageError:
            continue
        charts = sorted(folder.glob("charts/*.svg"))
        answer = next(iter(said_of(run)), "")
        picture = Markup(without_own_colours(charts[0].read_text(encoding="utf-8"))) if charts else Markup("")
        found.append(PublishedRun(name=folder.name, question=run.question, answer=answer, picture=picture))
    return tuple(found)


def slim(record: Json, *, private: tuple[tuple[str, str], ...] = ()) -> Json:
    """A record without what grows with the examples.

    Args:
        private: folders and what stands for them.
    """
    return {name: _slim(value, private) for name, value in record.items() if name not in LEFT_OUT}


def _copy_records(run_folder: Path, target: Path) -> None:
    private = _private(run_folder)
    for pattern in (
        "run.json",
        "paired.json",
        "cells/*.json",
        "sweeps/*.json",
        "speed/*.json",
        "parity/*.json",
        "gate/*.json",
    ):
        for file in sorted(run_folder.glob(pattern)):
            _copy(file, target / file.relative_to(run_folder), private)
    for file in sorted((run_folder / "packages").glob("*/*.json")):
        # A folder `.part` is an export that is under way, or was killed.
        if file.stem in ("parity", "gate") and file.parent.suffix != ".part":
            _copy(file, target / file.stem / f"{file.parent.name}.json", private)
    for name, looks in read_looks(run_folder).items():
        write_text(target / "training" / f"{name}.jsonl", lines_of(looks))
    if (run_folder / "plan.yaml").is_file():
        write_text(target / "plan.yaml", (run_folder / "plan.yaml").read_text(encoding="utf-8"))


def _copy(file: Path, target: Path, private: tuple[tuple[str, str], ...]) -> None:
    record = slim(read_content(file, remedy=StoredFile.remedy), private=private)
    write_record(target, record)


def _private(run_folder: Path) -> tuple[tuple[str, str], ...]:
    """Folders that tell of whoever ran it, the longest first."""
    folders = {str(run_folder.resolve()): "RUN", str(Path.cwd()): ".", str(Path.home()): "~"}
    return tuple(sorted(((name, by) for name, by in folders.items() if len(name) > 1), key=lambda each: -len(each[0])))


def _slim(value: object, private: tuple[tuple[str, str], ...]) -> object:
    match value:
        case dict():
            return slim(value, private=private)
        case list():
            return [_slim(item, private) for item in value]
        case str():
            for folder, by in private:
                value = re.sub(rf"(?<![\w/.-]){re.escape(folder)}(?![\w.-])", by, value)
            return value
        case _:
            return value
