"""Answers that exist: a file in which some system's answers stand, whatever it is, one a row of a task.

    {"row": 0, "answer": "positive"}
    {"id": "q17", "answer": "Paris", "scores": {"Paris": -0.1, "Rome": -2.4}}

A line says which row it is of by `row` (the place among the scored rows, from 0; `doc_id` of samples is the same), by
`id` (the value of a column of the data), or by its own place in the file. `task` says of which task, where a file holds
several. `answer` is the answer as it was written; `text` and `label` are other names of it, `label` counting first
where a task has labels. `raw` is what a model answered before anything was made of it: lines of `lmtasks predict
--json` and of samples have it, and it counts before `answer`. `scores` of choices are log-probabilities, in the order
of the choices or by their names; `probabilities` say the same.

JSON Lines, CSV, TSV, JSON and parquet are read; in a cell of a table a list or an object is written as JSON.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmtasks.data.files import read_file
from lmtasks.data.rows import fingerprint
from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.records import Row
from lmtasks.results.base import NOT_IN_JSON

SHOWN = 5
"""Rows that a sentence names."""
PLACES = ("row", "doc_id")
"""Keys of the place among the scored rows."""
ID = "id"


@dataclass(frozen=True, kw_only=True)
class GivenAnswers:
    """The answers of one system.

    >>> given = GivenAnswers(name="mine", where="mine.jsonl", lines=({"answer": "yes"},), hash="", size_bytes=0)
    >>> given.by_place, given.by_id, given.tasks
    (False, False, ())
    """

    name: str
    """Of the system."""
    where: str
    """The file, for messages."""
    lines: Sequence[Row]
    hash: str
    """sha256 over them, 16 hex digits: what the scores are of."""
    size_bytes: int
    id_column: str = ID
    """The column of the data that `id` of a line is a value of."""
    allowed: float = 0.0
    """Share of a task's rows that may be without an answer, 0-1; they count as wrong."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that its lines name; none where they do not say."""
        return tuple(dict.fromkeys(str(line["task"]) for line in self.lines if line.get("task") is not None))

    @property
    def by_place(self) -> bool:
        """Do lines say the place of their row?"""
        return any(line.get(key) is not None for line in self.lines for key in PLACES)

    @property
    def by_id(self) -> bool:
        """Do lines name their row by its id, and none by its place?"""
        return not self.by_place and any(line.get(ID) is not None for line in self.lines)

    def of(self, task: str) -> list[tuple[int, Row]]:
        """The lines of a task, each with its number in the file, counted from 1."""
        numbered = enumerate(self.lines, start=1)
        return [(number, line) for number, line in numbered if not self.tasks or str(line.get("task")) == task]


@dataclass(frozen=True, kw_only=True)
class AlignedAnswers:
    """The answers to the rows of a task."""

    found: Sequence[tuple[int, Row] | None]
    """(N,) number of the line, and the line; None: there is none, or it holds no answer."""
    extra: tuple[str, ...]
    """Places or ids of answers to rows that are not scored."""

    @property
    def missing(self) -> tuple[int, ...]:
        """Rows without an answer."""
        return tuple(place for place, each in enumerate(self.found) if each is None)


def read_answers(file: Path, *, name: str, id_column: str | None = None, allowed: float = 0.0) -> GivenAnswers:
    """Read a file of answers. Cells of CSV and TSV stay the texts that they are.

    Args:
        id_column: None: `id`.

    Raises:
        UsageError: there is no such file, or it holds no answers.
    """
    lines = read_file(file, typed=False)
    if not lines:
        raise UsageError(f"{file} holds no answers; a line is an object with `answer`, and `row` or `id`.")
    content = file.read_bytes()
    return GivenAnswers(
        name=name,
        where=str(file),
        lines=lines,
        hash=hashlib.sha256(content).hexdigest()[:16],
        size_bytes=len(content),
        id_column=id_column or ID,
        allowed=allowed,
    )


def held_answers(
    lines: Sequence[Row], *, name: str, id_column: str | None = None, allowed: float = 0.0
) -> GivenAnswers:
    """The answers of rows in memory."""
    held = [dict(line) for line in lines]
    return GivenAnswers(
        name=name,
        where=f"the answers of {name}",
        lines=held,
        hash=fingerprint(held),
        size_bytes=0,
        id_column=id_column or ID,
        allowed=allowed,
    )


def aligned(given: GivenAnswers, *, task: str, rows: Sequence[Row]) -> AlignedAnswers:
    """The lines that answer the rows (N,) of a task's scored split.

    Raises:
        UsageError: lines differ in how they name their rows, two are of one row, a place is no number, ids of the data
            are not one row's alone, or more rows are without an answer than are allowed.
    """
    lines = given.of(task)
    keys = _keys(given, lines)
    places: Mapping[object, int] = {place: place for place in range(len(rows))}
    known = _ids(given, task, rows) if given.by_id else places
    found: list[tuple[int, Row] | None] = [None] * len(rows)
    seen: dict[object, int] = {}
    twice: dict[object, tuple[int, int]] = {}
    extra: list[str] = []
    for (number, line), key in zip(lines, keys, strict=True):
        if key in seen:
            twice.setdefault(key, (seen[key], number))
            continue
        seen[key] = number
        place = known.get(key)
        if place is None:
            extra.append(str(key))
        elif any(line.get(name) is not None for name in ("answer", "label", "text", "raw", "scores", "probabilities")):
            found[place] = (number, line)
    if twice:
        key, (first, second) = next(iter(twice.items()))
        raise UsageError(
            f"{given.where} answers {_count(len(twice), 'row')} of {task} more than once ({named(list(twice))}; "
            f"{key} in lines {first} and {second}); leave one answer to each."
        )
    answers = AlignedAnswers(found=found, extra=tuple(extra))
    _check_missing(given, answers, task=task)
    return answers


def named(places: Sequence[object]) -> str:
    """Rows by their places or ids, the first ones of many.

    >>> named([3, 4]), named(list(range(9)))
    ('rows 3, 4', 'rows 0, 1, 2, 3, 4 and 4 more')
    """
    first = ", ".join(map(str, places[:SHOWN]))
    more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
    return f"row{'s' if len(places) > 1 else ''} {first}{more}"


def cell(value: object) -> object:
    """A value of a line; a text that is a list or an object of JSON as that.

    >>> cell("[1, 2]"), cell("[sic] yes"), cell(3)
    ([1, 2], '[sic] yes', 3)
    """
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except ValueError:
            return value
    return value


def numbers(value: object, *, where: str) -> tuple[float, ...] | None:
    """A list of numbers, -inf among them; None where it is none.

    Raises:
        UsageError: one is NaN or infinite.
    """
    if isinstance(value, str) or not isinstance(value, Iterable) or isinstance(value, Mapping):
        return None
    found: list[float] = []
    for each in value:
        number = number_in(each)
        if number is None:
            return None
        if not number < math.inf:  # NaN, too
            raise UsageError(
                f"{where}: the score {each!r} is no log-probability; each must be a number below infinity."
            )
        found.append(number)
    return tuple(found)


def number_in(value: object) -> float | None:
    """A number, or a text that is one; None: it is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return NOT_IN_JSON[value] if isinstance(value, str) and value in NOT_IN_JSON else float(value)
    except (ValueError, OverflowError):
        return None


def _keys(given: GivenAnswers, lines: Sequence[tuple[int, Row]]) -> list[object]:
    """What each line names its row by."""
    if given.by_id:
        wanted = [line.get(ID) for _, line in lines]
        _refuse_nameless(given, lines, wanted, key=ID)
        return [_plain_id(value) for value in wanted]
    if not given.by_place:
        return list(range(len(lines)))
    places = [next((line[key] for key in PLACES if line.get(key) is not None), None) for _, line in lines]
    _refuse_nameless(given, lines, places, key=PLACES[0])
    found: list[object] = []
    for (number, _), value in zip(lines, places, strict=True):
        place = number_in(value)
        if place is None or not place.is_integer() or place < 0:
            raise UsageError(
                f"{given.where}, line {number}: row {value!r} is no place; rows are counted from 0. Ids stand in `id`."
            )
        found.append(int(place))
    return found


def _refuse_nameless(
    given: GivenAnswers, lines: Sequence[tuple[int, Row]], keys: Sequence[object], *, key: str
) -> None:
    without = next((number for (number, _), value in zip(lines, keys, strict=True) if value is None), None)
    if without is not None:
        raise UsageError(f"{given.where}, line {without} has no `{key}`, which others have; give it to all, or none.")


def _plain_id(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _ids(given: GivenAnswers, task: str, rows: Sequence[Row]) -> Mapping[object, int]:
    """Ids of the data to their rows."""
    column = given.id_column
    if rows and column not in rows[0]:
        raise UsageError(
            f"task {task}: its data have no column {column!r} that `id` of {given.where} could be a value of; name "
            f"one with --answers-id ({', '.join(map(str, rows[0]))}), or give `row` in place of `id`."
        )
    found: dict[object, int] = {}
    for place, row in enumerate(rows):
        key = _plain_id(row[column])
        if key in found:
            raise UsageError(
                f"task {task}: {key!r} stands in column {column!r} of rows {found[key]} and {place}, and names no row; "
                "take another column with --answers-id, or give `row` in place of `id`."
            )
        found[key] = place
    return found


def _check_missing(given: GivenAnswers, answers: AlignedAnswers, *, task: str) -> None:
    missing, n = answers.missing, len(answers.found)
    if not missing or len(missing) / n <= given.allowed:
        return
    share = math.ceil(1000 * len(missing) / n) / 10
    also = f", and answers {named(answers.extra)}, which {'is' if len(answers.extra) == 1 else 'are'} not scored"
    raise UsageError(
        f"{given.where} has no answer to {len(missing):,} of {n:,} rows of {task} ({named(missing)})"
        f"{also if answers.extra else ''}; with --allow-missing {share:g}% they count as wrong."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def shown(value: object) -> str:
    """An answer, cut short."""
    return json.dumps(value, ensure_ascii=False, default=str)[:60]
