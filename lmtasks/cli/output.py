"""How a command line is answered: for people, or as one JSON object (`--json`), with notices and bars or without
(`--quiet`); and which options came from a file of defaults.

What a command prints is kept for the object as it stands, tables by their cells; a command adds numbers by `tell`.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmtasks.bench.compare import SideBySide
    from lmtasks.records import Estimate


@dataclass(kw_only=True)
class Output:
    """Form of the answer to one command line, and what of it is known."""

    quiet: bool = False
    """Neither notices nor progress: warnings and errors alone."""
    as_json: bool = False
    tables: list[Mapping[str, object]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    """Fields of `AnswerRecord`."""
    defaults: list[str] = field(default_factory=list)
    """Options that a file of defaults has set, as one would type them."""


_CURRENT: ContextVar[Output | None] = ContextVar("output", default=None)


def output() -> Output:
    """That of the command line which is carried out; outside of one a plain one."""
    return _CURRENT.get() or Output()


def tell(facts: Callable[[], Mapping[str, object]]) -> None:
    """Add fields of `AnswerRecord` to what --json prints; they are computed only for that."""
    current = output()
    if current.as_json:
        current.facts |= facts()


def tell_made(place: Path) -> None:
    """Add what a command has made at its --out, where it has not said so itself."""
    current = output()
    if place.is_dir():
        current.facts.setdefault("folder", str(place))
    elif place.is_file():
        current.facts.setdefault("files", (str(place),))


def tell_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Keep a table for --json."""
    output().tables.append({"columns": tuple(columns), "rows": tuple(map(tuple, rows))})


def typed_command() -> str:
    """The command line, with the options that came from a file of defaults, to be typed anywhere."""
    return shlex.join(["lmtasks", *sys.argv[1:], *output().defaults])


def scores_of(model: str, task: str, n: int, metrics: Mapping[str, Estimate]) -> list[dict[str, object]]:
    """Lines for `scores` of `AnswerRecord`, one a metric."""
    return [
        {
            "model": model,
            "task": task,
            "metric": name,
            "value": each.value,
            "ci95": each.ci95,
            "n": n,
            "scale": each.scale,
            "higher_is_better": each.higher_is_better,
        }
        for name, each in metrics.items()
    ]


def speeds_of(rows: Sequence[SideBySide]) -> list[dict[str, object]]:
    """Lines for `speeds` of `AnswerRecord`."""
    return [
        {
            "variant": row.variant,
            "base": row.base,
            "task": row.task,
            "batch_size": row.batch_size,
            "length": row.length,
            "examples_per_s": row.examples_per_s,
            "ratio": row.ratio.value,
            "ratio_ci95": row.ratio.ci95,
            "verdict": row.verdict,
        }
        for row in rows
    ]


@contextmanager
def answering(wanted: Output, *, command: str) -> Iterator[Callable[[int], None]]:
    """Let a command line be answered so; yields what takes its exit code at the end."""
    token = _CURRENT.set(wanted)
    shown, out = io.StringIO(), sys.stdout

    def end(code: int) -> None:
        from lmtasks.results.answer import AnswerRecord

        facts = {"command": command, "code": code, "printed": wanted.tables, "said": shown.getvalue().splitlines()}
        record = AnswerRecord.model_validate({**facts, **wanted.facts})
        print(json.dumps(record.content(), ensure_ascii=False), file=out, flush=True)

    try:
        if wanted.as_json:
            with redirect_stdout(shown):
                yield end
        else:
            yield lambda code: None
    finally:
        _CURRENT.reset(token)
