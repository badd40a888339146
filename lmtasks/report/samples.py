"""Scored examples on a page: those on which variants differ or all fail, with every variant's answer; how often each
class is taken for which; and how often a probability is right.

Files of samples are read once, task by task, and not as JSON: of each line only what counts and comparisons need is
taken, the rest of the few lines that are shown. So 40 variants on 20 tasks with 2,000 examples each, 1.6 million lines,
take seconds and little memory.

What a page shows is cut: examples to a number that a page can bear, a text to `LONGEST` characters. Marks that would
turn the writing round or move a cursor are shown as escapes (`lmtasks.visible`); a page shows all of it as text.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict
from urllib.parse import quote

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import Floats
from lmtasks.report import format as show
from lmtasks.report.grid import main_metric
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Table, TableCell
from lmtasks.results.cell import CellRecord, TaskInfo
from lmtasks.results.sample import ExplainedSample, SampleRecord, WordsRecord
from lmtasks.visible import visible

MOST = 60
"""Examples of a task, at most."""
ALL_TASKS = 20_000
"""Answers of all tasks together, at most: of many variants and tasks fewer examples are shown."""
LEAST = 8
"""Examples of a task that are shown however many variants there are."""
LONGEST = 700
"""Characters of a text; its middle is left out."""
LONGEST_ANSWER = 320
MOST_CLASSES = 30
"""Of more of them no matrix is shown."""
BINS = 10
"""Of equal width, for how often a probability is right (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
PARTS = (("differ", 0.5), ("fail", 0.25), ("right", 0.25))
"""Kinds of examples and their shares of those that are shown."""
MOST_CHANGES = 60_000
"""Changes by words of all tasks together; those of later variants are left out."""
LONGEST_REST = 160
"""Characters of a text between words, or behind the last one that was left out."""
CAPTION = (
    "Examples on which the variants differ (one has a better value than another), on which all fail (no value above 0, "
    "or, of values that are no yes or no, the worst tenth), and the others. Those that are shown are taken from each "
    "kind at even distances, none is chosen by hand."
)
WORDS = (
    "Of examples that come first the words that moved an answer are marked: each was left out in turn, and what the "
    "model said then was held against what it had said (occlusion, Zeiler and Fergus 2014)."
)
LINE = re.compile(
    rb'"target": ?("(?:[^"\\]|\\.)*"|\[(?:"(?:[^"\\]|\\.)*"(?:, ?)?)*\]), ?"raw": ?(.*?), ?'
    rb'"answer": ?("(?:[^"\\]|\\.)*"), ?"metrics": ?(\{[^{}]*\}), ?"hash": ?"[0-9a-f]*"'
    rb'(?:, ?"outcome": ?\{"kind": ?"choice", ?"gold": ?\[(\d+))?'
)
"""The end of a line of samples, as `evaluation.samples` writes it."""
FIRST = re.compile(rb'\{"doc_id": ?(\d+),')


class ShownWords(TypedDict):
    """The text of an example cut at its words, and what each word did, as the page's script reads it."""

    pieces: list[str]
    """What stands between words and words, in turn; it begins and ends with what is none."""
    changes: dict[str, list[float]]
    """By the number of the variant: of labels points of the answer's probability that it has by the word, of tags how
    many other words have another tag without it."""
    moved: dict[str, dict[str, str]]
    """By the number of the variant and of the word: what is answered without it."""


class ShownRow(TypedDict):
    """One example, as the page's script reads it."""

    id: int
    part: str
    text: str
    target: str
    answers: list[int]
    """By variant: the place of its text among the task's `texts`; -1: it has none."""
    values: list[float | None]
    words: NotRequired[ShownWords]


class ShownTask(TypedDict):
    """One task, as the page's script reads it."""

    name: str
    metric: str
    lower: bool
    n: int
    variants: list[str]
    files: list[str]
    texts: list[str]
    rows: list[ShownRow]
    classes: list[str]
    tagged: bool
    """Are the answers tags?"""
    confusion: list[list[list[int]]]
    """By variant: how often a class (line) was answered as which (column; the last: as none of them). Empty: not of
    classes."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often the probabilities of a variant's answers are right, by bins of probability."""

    variant: str
    counts: tuple[int, ...]
    stated: tuple[float, ...]
    """Mean probability of the answers of each bin."""
    right: tuple[float, ...]
    """Share of them that are right."""

    @property
    def error(self) -> float:
        """Expected calibration error, 0-1."""
        total = sum(self.counts)
        return sum(n * abs(s - r) for n, s, r in zip(self.counts, self.stated, self.right, strict=True)) / total


@dataclass(frozen=True, kw_only=True)
class TaskSamples:
    """Samples of one task: those that are shown, and what was counted over all."""

    shown: ShownTask
    parts: Mapping[str, int]
    """Kind of example to how many there are of it."""
    reliability: tuple[Reliability, ...]
    """Of tasks with classes."""
    remarks: tuple[str, ...]
    """Why samples of a variant are not among them."""


@dataclass(frozen=True, kw_only=True)
class _Read:
    """All lines of one file."""

    variant: str
    lines: list[bytes]
    places: Mapping[int, int]
    """doc_id to its line."""
    values: Floats
    """(N,) of the main metric, in the order of the lines; nan where it has none."""
    targets: Sequence[object]
    answers: Sequence[str]
    gold: Sequence[int | None]
    raw: Sequence[bytes]


def read_samples(run: RunRecords, *, out: Path) -> tuple[TaskSamples, ...]:
    """The samples of every task that has any; of several seeds those of the first, of several numbers of training rows
    those of the largest.

    Args:
        out: the page's folder, that links to the whole files are relative to.
    """
    run = run.at(run.row_counts[-1]) if run.row_counts else run
    tasks = [(task, cells) for task in run.tasks if (cells := _cells(run, task))]
    answers = sum(len(cells) for _, cells in tasks)
    most = max(LEAST, min(MOST, ALL_TASKS // max(1, answers)))
    left = _Room(left=MOST_CHANGES)
    read = (_task(run, task, cells, out=out, most=most, room=left) for task, cells in tasks)
    return tuple(found for found in read if found is not None)


@dataclass(kw_only=True)
class _Room:
    """What is left of a number."""

    left: int

    def take(self, wanted: int) -> bool:
        """Is there so much? It is gone then."""
        self.left -= wanted if (there := wanted <= self.left) else 0
        return there


def samples_table(samples: Sequence[TaskSamples]) -> Table | None:
    """How many examples there are of each kind; None where there are no samples."""
    if not samples:
        return None
    return Table(
        caption=CAPTION,
        corner="task",
        columns=tuple(Column(title=title) for title in ("examples", "variants differ", "all fail", "shown")),
        lines=tuple(
            Line(
                name=each.shown["name"],
                cells=tuple(
                    TableCell(text=show.count(number), sort=number)
                    for number in (
                        each.shown["n"],
                        each.parts["differ"],
                        each.parts["fail"],
                        len(each.shown["rows"]),
                    )
                ),
            )
            for each in samples
        ),
        notes=tuple(
            dict.fromkeys(
                [
                    *([WORDS] if any("words" in row for each in samples for row in each.shown["rows"]) else []),
                    *(remark for each in samples for remark in each.remarks),
                ]
            )
        ),
    )


def as_json(content: object) -> str:
    """JSON that may stand in a page: nothing in it can end the element that it stands in."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")  # halves of surrogate pairs have no bytes


def _cells(run: RunRecords, task: TaskInfo) -> list[CellRecord]:
    """One cell a variant that has samples, of the first seed; models first."""
    found: dict[str, CellRecord] = {}
    for cell in sorted(run.cells, key=lambda cell: bool(cell.baseline)):
        if cell.task.name == task.name and cell.status == "done" and cell.id in run.samples:
            found.setdefault(cell.variant.name, cell)
    return list(found.values())


def _task(
    run: RunRecords, task: TaskInfo, cells: Sequence[CellRecord], *, out: Path, most: int, room: _Room
) -> TaskSamples | None:
    metric = main_metric(run, task) or ""
    read: list[_Read] = []
    remarks: list[str] = []
    for cell in cells:
        try:
            read.append(_read(run.samples[cell.id], cell.variant.name, metric))
        except (OSError, ValueError, UsageError) as error:
            remarks.append(f"{task.name}: the samples of {cell.variant.name} cannot be read ({error})")
    read = [each for each in read if each.lines]
    if not read:
        return None
    ids = sorted(set().union(*(each.places for each in read)))
    values = np.array([_column(each, ids) for each in read])  # (V, N)
    lower = next((not c.metrics[metric].higher_is_better for c in cells if metric in c.metrics), False)
    parts = _parts(-values if lower else values, lower=lower)
    names = {cell.variant.name: cell for cell in cells}
    classes = _classes(read)
    texts: dict[str, int] = {}
    words = _words(run, [names[each.variant] for each in read], remarks)
    told = [place for place, doc in enumerate(ids) if any(doc in own for own in words)][:most]
    chosen = [(str(parts[place]), place) for place in told]
    chosen += [each for each in _chosen(parts, most) if each[1] not in told][: most - len(told)]
    rows = [_row(read, ids[place], part, values[:, place], texts) for part, place in chosen]
    for row in rows:
        pieces = _row_words(read, row["id"], words, room)
        if pieces is not None:
            row["words"] = pieces
    return TaskSamples(
        shown=ShownTask(
            name=task.name,
            metric=metric,
            lower=lower,
            n=len(ids),
            variants=[each.variant for each in read],
            files=[_link(run.samples[names[each.variant].id], out) for each in read],
            texts=list(texts),
            rows=sorted(rows, key=lambda row: ("words" not in row, row["id"])),
            classes=[visible(name)[:40] for name in classes],
            tagged=any(each.probability is None for own in words for each in own.values()),
            confusion=[_confusion(each, len(classes)) for each in read] if classes else [],
        ),
        parts={part: int((parts == part).sum()) for part, _ in PARTS},
        reliability=tuple(found for each in read if classes and (found := _reliability(each)) is not None),
        remarks=tuple(remarks),
    )


def _read(file: Path, variant: str, metric: str) -> _Read:
    """Raises: UsageError: a line is no sample."""
    lines = file.read_bytes().splitlines()
    found = [_columns(line) for line in lines]
    ids, targets, raw, answers, metrics, gold = zip(*found, strict=True) if found else ((),) * 6
    values = {piece: _number(each.get(metric)) for piece, each in _parsed(metrics).items()}
    parsed = _parsed((*targets, *answers))
    return _Read(
        variant=variant,
        lines=lines,
        places={int(doc): place for place, doc in enumerate(ids)},
        values=np.array([values[piece] for piece in metrics], dtype=np.float64),
        targets=[parsed[piece] for piece in targets],
        answers=[parsed[piece] for piece in answers],
        gold=[None if number is None else int(number) for number in gold],
        raw=raw,
    )


def _columns(line: bytes) -> tuple[Any, ...]:
    """doc_id, target, raw, answer, metrics and the first right class of a line, as they stand there."""
    first, rest = FIRST.match(line), LINE.search(line)
    if first is not None and rest is not None:
        return first[1], *rest.groups()
    record = SampleRecord.model_validate_json(line)  # written by something else: slower, and checked
    pieces = (record.target, record.raw, record.answer, dict(record.metrics))
    gold = record.outcome.gold if record.outcome.kind == "choice" else ()
    return record.doc_id, *(json.dumps(piece).encode() for piece in pieces), next(iter(gold), None)


def _parsed(pieces: Sequence[bytes]) -> dict[bytes, Any]:
    """What each of these pieces of JSON says; equal ones are parsed once."""
    distinct = list(set(pieces))
    return dict(zip(distinct, _joined(distinct), strict=True))


def _joined(pieces: Sequence[bytes]) -> Sequence[Any]:
    """Pieces of JSON, parsed at once."""
    found: Sequence[Any] = json.loads(b"[" + b",".join(pieces) + b"]")
    return found


def _number(value: object) -> float:
    """Also those that JSON has no form for; nan where there is none."""
    return float(value) if isinstance(value, int | float | str) else np.nan


def _column(read: _Read, ids: Sequence[int]) -> Floats:
    return np.array([read.values[read.places[doc]] if doc in read.places else np.nan for doc in ids])


def _parts(gains: Floats, *, lower: bool) -> "np.ndarray[tuple[int], np.dtype[np.str_]]":
    """Of each example: do variants differ, do all fail, or is nothing the matter? Larger gains are better."""
    known = np.where(np.isnan(gains), -np.inf, gains)
    best = known.max(axis=0)
    worst = np.where(np.isnan(gains), np.inf, gains).min(axis=0)
    is_yes_or_no = not lower and bool(np.isin(gains[~np.isnan(gains)], (0.0, 1.0)).all())
    fails = best <= 0 if is_yes_or_no else best <= np.quantile(best, 0.1)
    return np.where(fails, "fail", np.where(best > worst, "differ", "right"))


def _chosen(parts: "np.ndarray[tuple[int], np.dtype[np.str_]]", most: int) -> Iterator[tuple[str, int]]:
    """Kind and place of the examples that are shown: a share of each kind, what one has too few of goes to the next."""
    left = most
    for number, (part, share) in enumerate(PARTS):
        places = np.flatnonzero(parts == part)
        later = sum(int((parts == other).sum()) for other, _ in PARTS[number + 1 :])
        wanted = min(len(places), left, max(round(share * most), left - later))
        left -= wanted
        yield from ((part, int(places[each])) for each in np.linspace(0, len(places) - 1, wanted).round().astype(int))


def _row(read: Sequence[_Read], doc: int, part: str, values: Floats, texts: dict[str, int]) -> ShownRow:
    having = [each for each in read if doc in each.places]
    records = {each.variant: json.loads(each.lines[each.places[doc]]) for each in having}
    prompts = [_text(record["prompt"]) for record in records.values()]
    target = next(iter(records.values()))["target"]
    answers = []
    for each in read:
        record = records.get(each.variant)
        answers.append(-1 if record is None else texts.setdefault(_cut(_answer(record), LONGEST_ANSWER), len(texts)))
    return ShownRow(
        id=doc,
        part=part,
        text=_cut(min(prompts, key=len), LONGEST),
        target=_cut(_text(target), LONGEST_ANSWER),
        answers=answers,
        values=[None if not np.isfinite(value) else round(float(value), 4) for value in values],
    )


def _words(run: RunRecords, cells: Sequence[CellRecord], remarks: list[str]) -> list[Mapping[int, ExplainedSample]]:
    """Of each cell the examples whose words are told; why there are none goes to the remarks."""
    found: list[Mapping[int, ExplainedSample]] = []
    for cell in cells:
        own: Mapping[int, ExplainedSample] = {}
        if cell.id in run.words:
            try:
                record = WordsRecord.read(run.words[cell.id])
            except UsageError as error:
                remarks.append(f"{cell.task.name}: the words of {cell.variant.name} cannot be read ({error})")
            else:
                is_of_these = record.samples_checksum == cell.samples_checksum
                own = {each.doc_id: each for each in record.rows} if is_of_these else {}
                remarks += (
                    [record.reason.rstrip(".")] if record.reason and record.reason.rstrip(".") not in remarks else []
                )
        found.append(own)
    return found


def _row_words(
    read: Sequence[_Read], doc: int, words: Sequence[Mapping[int, ExplainedSample]], room: _Room
) -> ShownWords | None:
    """The example's text cut at its words, and what they did to each variant's answer, while there is room."""
    told = [(number, own[doc]) for number, own in enumerate(words) if doc in own]
    told = [(number, each) for number, each in told if each.words and room.take(len(each.words))]
    if not told:
        return None
    first = told[0][1]
    whole = json.loads(read[told[0][0]].lines[read[told[0][0]].places[doc]])["doc"]
    return ShownWords(
        pieces=_pieces(whole, first),
        changes={
            str(number): [_points(word.change, tags=each.probability is None) for word in each.words]
            for number, each in told
            if len(each.words) == len(first.words)
        },
        moved={
            str(number): {
                str(place): visible("; ".join(word.moved))[:LONGEST_REST]
                for place, word in enumerate(each.words)
                if word.moved
            }
            for number, each in told
        },
    )


def _points(change: float, *, tags: bool) -> float:
    return round(change if tags else 100 * change, 1) + 0.0


def _pieces(doc: Mapping[str, object], told: ExplainedSample) -> list[str]:
    """The columns that words are of, cut at them; columns stand on lines of their own."""
    pieces, between, column, place = list[str](), "", "", 0

    def rest(value: object, start: int, end: int | None) -> str:
        text = (
            value[start:end]
            if isinstance(value, str)
            else " ".join(map(str, value[start:]))
            if isinstance(value, list)
            else ""
        )
        return text if end is not None else _cut(text, LONGEST_REST)

    for word in told.words:
        value = doc.get(word.column)
        if word.column != column:
            between = f"{rest(doc.get(column), place, None)}\n" if column else ""
            column, place = word.column, 0
        if isinstance(value, str):
            pieces += [_cut(between + rest(value, place, word.start), LONGEST_REST), visible(word.word)]
            place = word.start + len(word.word)
        else:
            pieces += [between or (" " if place else ""), visible(word.word)]
            place = word.start + 1
        between = ""
    tail = rest(doc.get(column), place, None)
    return [*pieces, f" {tail}" if tail and not isinstance(doc.get(column), str) else tail]


def _text(value: object) -> str:
    return value if isinstance(value, str) else " | ".join(map(str, value)) if isinstance(value, list) else str(value)


def _answer(record: Mapping[str, object]) -> str:
    """Of a scored text its log-probability."""
    return _text(record["answer"]) or (f"{record['raw']:.2f}" if isinstance(record["raw"], float) else "")


def _cut(text: str, most: int) -> str:
    """Visible, and no longer than that: the middle is left out, and how much."""
    if len(text) <= most:
        return visible(text)
    half = most // 2
    return f"{visible(text[:half])} [… {show.count(len(text) - 2 * half)} characters …] {visible(text[-half:])}"


def _classes(read: Sequence[_Read]) -> tuple[str, ...]:
    """Names of classes by their number, of the first variant that answers by name; empty: not of classes."""
    names: dict[int, str] = {}
    for each in read:
        for number, target in zip(each.gold, each.targets, strict=True):
            if number is None or not isinstance(target, str) or number >= MOST_CLASSES:
                return ()
            names.setdefault(number, target)
    distinct = [names.get(number, f"#{number}") for number in range(max(names, default=-1) + 1)]
    # Of choices that are written out row by row (multiple choice) every right one has a text of its own.
    own = {(number, target) for number, target in zip(read[0].gold, map(str, read[0].targets), strict=True)}
    return tuple(distinct) if 1 < len(own) <= len(distinct) else ()


def _confusion(read: _Read, classes: int) -> list[list[int]]:
    """(C, C + 1): a line a right class, a column an answered one; the last column has answers that are no class."""
    numbers = {str(target): number for number, target in zip(read.gold, read.targets, strict=True)}
    found = [[0] * (classes + 1) for _ in range(classes)]
    for right, answer in zip(read.gold, read.answers, strict=True):
        if right is not None and right < classes:
            answered = numbers.get(answer)
            found[right][classes if answered is None else answered] += 1
    return found


def _reliability(read: _Read) -> Reliability | None:
    """None where the scores of classes are no lists of numbers."""
    try:
        table = np.array(_joined(read.raw), dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if table.ndim != 2 or table.shape[1] < 2:
        return None
    table = np.exp(table - table.max(axis=1, keepdims=True))
    chance = table.max(axis=1) / table.sum(axis=1)
    right = table.argmax(axis=1) == np.array([-1 if each is None else each for each in read.gold])
    bins = np.minimum((chance * BINS).astype(int), BINS - 1)
    filled = [number for number in range(BINS) if (bins == number).any()]
    if not np.isfinite(chance).all():
        return None
    return Reliability(
        variant=read.variant,
        counts=tuple(int((bins == number).sum()) for number in filled),
        stated=tuple(float(chance[bins == number].mean()) for number in filled),
        right=tuple(float(right[bins == number].mean()) for number in filled),
    )


def _link(file: Path, out: Path) -> str:
    """Relative to the page."""
    return quote(Path(os.path.relpath(file.resolve(), out.resolve())).as_posix())
