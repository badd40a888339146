"""Some rows of a split: the first ones, a sample, or the part of a single file that is for training or for testing.

The first rows are what lm-evaluation-harness takes; whether their labels are those of the whole split can be told: many
sets are sorted. A sample has every label in its share.

Training rows are put into an order of which every beginning is such a sample (`nested_order`): the 64 rows of a seed
are among its 256, and no label is without an example where there are rows enough.

Of a single file a fifth of the rows of each label is for testing, the same for every model, seed and command: which
rows depends on the texts in the file alone. Rows with equal texts stand on one side, so that no test row was learned
from, and their order in the file changes nothing.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.data.table import LazyRows, PickedRows
from lmtasks.errors import LmtasksError, UsageError
from lmtasks.records import Ints, Row
from lmtasks.task.identity import folded
from lmtasks.task.kinds import kind_of
from lmtasks.task.roles import label_number
from lmtasks.task.task import Part, Task
from lmtasks.task.templates import is_template, target_of

DRAWS = 9999
"""Of prefixes of a shuffled split, against which the real one is held."""
BY_CHANCE = 0.01
"""Shares that so few shuffled prefixes differ as far from are reported."""
TOLD = 3
"""Labels whose shares are reported, the most different first."""
NO_LABEL = ""

TEST_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A draw of rows of a split."""

    rows: int
    seed: int = 1234
    """The same rows for every model: not that of a training, or of answers."""


def sampled(task: Task, rows: Sequence[Row], sample: Sample) -> Sequence[Row]:
    """The rows of a sample, in the order of the split; all where there are no more.

    Each label has its share of the sample, as near as whole rows allow; without labels rows are drawn from all alike.
    """
    if sample.rows >= len(rows):
        return rows
    strata: dict[str, list[int]] = {}
    name = label_reader(task) or (lambda row: NO_LABEL)
    for number, row in enumerate(rows):
        strata.setdefault(name(row), []).append(number)
    generator = random.Random(f"sample {sample.seed}")
    counts = _shares({label: len(strata[label]) for label in sorted(strata)}, sample.rows)
    places = sorted(place for label, count in counts.items() for place in generator.sample(strata[label], count))
    if isinstance(rows, LazyRows):
        return LazyRows(PickedRows(rows=rows, places=np.array(places, dtype=np.int64)))
    return [rows[place] for place in places]


def nested_order(labels: Sequence[str], *, seed: int) -> Ints:
    """Places of rows with these labels, (N,), in an order of which every beginning has each label in its share, and at
    least once.

    The k-th row of a label with n rows comes at (k - 1/2) / n: Webster's method of dividing seats, where a larger house
    takes nobody's seat away. The first row of each label comes before all others, of the most frequent label first. Of
    rows without labels (all `NO_LABEL`) a beginning is what a draw of so many would be.

    >>> labels = ["good"] * 4 + ["bad"] * 2
    >>> [labels[place] for place in nested_order(labels, seed=1)]
    ['good', 'bad', 'good', 'good', 'bad', 'good']
    """
    drawn = np.random.default_rng(seed).permutation(len(labels))
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    codes = codes[drawn]
    by_label = np.argsort(codes, kind="stable")  # rows of one label behind each other, as they were drawn
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_label] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_first = (ranks == 0) & (names[codes] != NO_LABEL)
    place = np.where(is_first, 0.0, (ranks + 0.5) / counts[codes])
    order: Ints = drawn[np.lexsort((np.where(is_first, -counts[codes], 0), place))]
    return order


def labels_of(task: Task, rows: Sequence[Row]) -> list[str]:
    """The label of each row; `NO_LABEL` where it has none, and for all where the task has none that rows share."""
    read = label_reader(task)
    return [NO_LABEL] * len(rows) if read is None else [read(row) for row in rows]


def label_shift(task: Task, rows: Sequence[Row], *, first: int) -> str:
    """Compare the labels of the first rows with those of all: a sentence, empty where they differ by chance.

    A prefix of a shuffled split would be as far off, by the sum of squares over expectations, in less than 1 of 100
    cases.
    """
    name = label_reader(task)
    if name is None or not 0 < first < len(rows):
        return ""
    labels = [name(row) for row in rows]
    whole, part = Counter(labels), Counter(labels[:first])
    names = sorted(whole)
    counts = np.array([whole[label] for label in names])
    expected = counts * (first / len(rows))
    found = float((((np.array([part[label] for label in names]) - expected) ** 2) / expected).sum())
    drawn = np.random.default_rng(0).multivariate_hypergeometric(counts, first, size=DRAWS, method="marginals")
    as_far = int((((drawn - expected) ** 2 / expected).sum(1) >= found - 1e-9).sum())
    if (as_far + 1) / (DRAWS + 1) >= BY_CHANCE:
        return ""
    off = sorted(names, key=lambda label: -abs(part[label] / first - whole[label] / len(rows)))[:TOLD]
    message = ", ".join(f"{part[label] / first:.0%} {label} instead of {whole[label] / len(rows):.0%}" for label in off)
    return (
        f"the first {first:,} of {len(rows):,} rows are unlike the whole by more than chance: {message}; "
        f"--sample {first} draws from all"
    )


def label_reader(task: Task) -> Callable[[Row], str] | None:
    """A function from a row to its label; None where the task has no labels that all rows share."""
    if kind_of(task).answer == "label":
        return lambda row: _quietly(lambda: task.labels[label_number(task, row, where=f"task {task.name}")])
    wording = task.templates.asked
    fixed = isinstance(wording.choices, tuple) and not any(is_template(str(choice)) for choice in wording.choices)
    if task.output_type == "multiple_choice" and fixed and wording.target is not None:
        return lambda row: _quietly(lambda: _choice(task, row))
    return None


def _choice(task: Task, row: Row) -> str:
    choices = task.templates.asked.choices
    value = target_of(task.templates.asked, row=row, task=task.name)
    first = value[0] if isinstance(value, tuple) and value else value
    return str(choices[first]) if isinstance(first, int) and isinstance(choices, tuple) else str(first)


def _quietly(read: Callable[[], str]) -> str:
    """A row without a label is no reason to stop here: it is told where rows are scored."""
    try:
        return read()
    except (LmtasksError, IndexError):
        return NO_LABEL


def _shares(counts: Mapping[str, int], wanted: int) -> Mapping[str, int]:
    """How many rows of each label, by the largest remainders.

    >>> _shares({"a": 50, "b": 30, "c": 20}, 9)
    {'a': 4, 'b': 3, 'c': 2}
    """
    total = sum(counts.values())
    exact = {label: wanted * count / total for label, count in counts.items()}
    found = {label: int(share) for label, share in exact.items()}
    left = sorted(counts, key=lambda label: (found[label] - exact[label], label))[: wanted - sum(found.values())]
    return {label: count + (label in left) for label, count in found.items()}


@dataclass(kw_only=True)
class _Texts:
    """Rows whose texts are equal."""

    rows: int = 0
    label: str = ""
    """The first of their labels in alphabetical order, as almost all have but one."""


def part_of(rows: Sequence[Row], part: Part, *, where: str) -> tuple[Sequence[Row], str]:
    """The rows of one part, in their order, and where they came from.

    Raises:
        UsageError: a column is missing, or there are too few rows to divide.
    """
    hashes = np.zeros(len(rows), dtype=np.uint64)
    groups: dict[int, _Texts] = defaultdict(_Texts)
    for number, row in enumerate(rows):
        missing = [column for column in (*part.texts, part.label) if column is not None and column not in row]
        if missing:
            raise UsageError(f"{where} has no column {missing[0]!r}; its columns: {', '.join(row)}.")
        key = _hash(row, part.texts)
        hashes[number] = key
        label = "" if part.label is None else folded(str(row[part.label]))
        group = groups[key]
        group.label = min(group.label, label) if group.rows else label
        group.rows += 1
    test = np.isin(hashes, np.fromiter(_for_testing(groups, where=where), dtype=np.uint64))
    places = np.flatnonzero(test if part.use == "test" else ~test)
    described = f"{where} ({len(places)} of {len(rows)} rows, for {'testing' if part.use == 'test' else 'training'})"
    if isinstance(rows, LazyRows):
        return LazyRows(PickedRows(rows=rows, places=places)), described
    return [rows[place] for place in places.tolist()], described


def _for_testing(groups: dict[int, _Texts], *, where: str) -> list[int]:
    """The hashes of the texts that are for testing."""
    if len(groups) < 2:
        raise UsageError(
            f"{where} holds one text, and cannot be divided into rows to learn from and rows to be scored on; give "
            "more rows, or a folder with train and test files."
        )
    strata: dict[str, list[int]] = defaultdict(list)
    for key in sorted(groups):  # as good as drawn, and the same in any order of the rows
        strata[groups[key].label].append(key)
    found = [key for keys in strata.values() for key in _fifth(groups, keys)]
    return found or _fifth(groups, sorted(groups))  # every text has a label of its own


def _fifth(groups: dict[int, _Texts], keys: Sequence[int]) -> list[int]:
    """A fifth of the rows, at least one text; none where there is only one."""
    if len(keys) < 2:
        return []
    wanted = max(1, round(TEST_SHARE * sum(groups[key].rows for key in keys)))
    taken: list[int] = []
    for key in keys:
        if groups[key].rows <= wanted:
            taken.append(key)
            wanted -= groups[key].rows
    return taken or [min(keys, key=lambda key: groups[key].rows)]


def _hash(row: Row, columns: Sequence[str]) -> int:
    text = "\x1f".join(folded(str(row[column])) for column in columns)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"held out")
    return int.from_bytes(digest.digest(), "little")
