"""Schemes of tags, and the best sequence that keeps to one."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lmtasks.data.labelled import labelled_rows
from lmtasks.errors import UsageError
from lmtasks.head.tagging import TaggedWords, TaggingRow
from lmtasks.metric.tags import entities
from lmtasks.records import HeadInput, Row
from lmtasks.tag_scheme import RULES, best_path, breaks, label_scheme, label_schemes, row_scheme, transitions
from lmtasks.task.load import load_task
from lmtasks.task.task import Task

SCHEMES = {
    "iob1": "I-x B-x I-x I-x O I-y I-y B-y I-y I-x",
    "iob2": "B-x B-x I-x I-x O B-y I-y B-y I-y B-x",
    "ioe1": "E-x I-x I-x I-x O I-y E-y I-y I-y I-x",
    "ioe2": "E-x I-x I-x E-x O I-y E-y I-y E-y E-x",
    "iobes": "S-x B-x I-x E-x O B-y E-y B-y E-y S-x",
    "bilou": "U-x B-x I-x L-x O B-y L-y B-y L-y U-x",
    "bmes": "S-x B-x M-x E-x O B-y E-y B-y E-y S-x",
    "bmewo": "W-x B-x M-x E-x O B-y E-y B-y E-y W-x",
}
LETTERS = {"iob": "BI", "ioe": "IE", "iobes": "BIES", "bilou": "BILU", "bmes": "BMES", "bmewo": "BMEW"}


def labels_of(scheme: str) -> tuple[str, ...]:
    letters = LETTERS.get(scheme) or LETTERS[scheme[:3]]
    return ("O", *(f"{letter}-{kind}" for kind in "xy" for letter in letters))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_rows_of_a_scheme_keep_to_it_and_to_no_other(scheme: str) -> None:
    labels, tags = labels_of(scheme), SCHEMES[scheme].split()
    row = [labels.index(tag) for tag in tags]
    name = scheme if scheme in RULES else "iobes"
    assert row_scheme(labels, [row]) == name
    assert not breaks(row, transitions(labels, name))
    for other in label_schemes(labels):
        assert (other == name) == (not breaks(row, transitions(labels, other)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_best_path_is_the_best_of_all_that_a_strict_reading_allows(scheme: str) -> None:
    """Every sequence of four tags is tried; legal are those that are written again as they were from their entities."""
    labels = labels_of(scheme)
    name = scheme if scheme in RULES else "iobes"
    follows, random = transitions(labels, name), np.random.default_rng(1)
    all_paths = list(product(range(len(labels)), repeat=4))
    legal = [path for path in all_paths if written([labels[tag] for tag in path], scheme) == [labels[t] for t in path]]
    assert legal == [path for path in all_paths if not breaks(path, follows)]
    for _ in range(20):
        scores = random.normal(size=(4, len(labels)))
        between = random.normal(size=(len(labels) + 1, len(labels)))
        alone = max(legal, key=lambda path: sum(scores[place, tag] for place, tag in enumerate(path)))
        assert best_path(scores, follows) == list(alone)
        together = max(
            legal,
            key=lambda path: (
                sum(scores[place, tag] for place, tag in enumerate(path))
                + sum(between[a, b] for a, b in zip((len(labels), *path), path, strict=False))
            ),
        )
        assert best_path(scores, follows, between=between) == list(together)


def written(tags: list[str], scheme: str) -> list[str]:
    """The entities of a sequence as the scheme writes them, by a reading of their own for each."""
    found, spans = ["O"] * len(tags), entities(tags)
    first, middle, last, alone = {
        "iobes": "BIES", "bilou": "BILU", "bmes": "BMES", "bmewo": "BMEW",
        "iob2": "BIIB", "ioe2": "IIEE", "iob1": "IIII", "ioe1": "IIII",
    }[scheme]  # fmt: skip
    for number, (start, end, kind) in enumerate(spans):
        letters = [middle] * (end - start)
        letters[0], letters[-1] = (alone, alone) if end - start == 1 else (first, last)
        before, behind = spans[number - 1] if number else None, spans[number + 1] if number + 1 < len(spans) else None
        if scheme == "iob1" and before and before[1:] == (start, kind):
            letters[0] = "B"
        if scheme == "ioe1" and behind and (behind[0], behind[2]) == (end, kind):
            letters[-1] = "E"
        found[start:end] = [f"{letter}-{kind}" for letter in letters]
    return found


def test_labels_of_no_scheme_and_types_without_a_beginning() -> None:
    assert label_schemes(("NOUN", "VERB", "X", "O")) == ()
    assert label_schemes(("N", "I", "S", "V")) == ()  # parts of speech in single letters
    assert label_scheme(("O", "B-x", "I-x")) == "none"  # IOB1, or IOB2
    assert label_scheme(("B", "M", "E", "S")) == "iobes"
    labels = ("O", "B-x", "I-x", "I-y")
    assert best_path(np.array([[0.0, 0, 0, 1]] * 2), transitions(labels, "iob2")) == [3, 3]


def test_where_no_path_keeps_to_the_scheme_the_one_with_fewest_breaks_stands() -> None:
    labels = ("B", "M", "E")
    follows = transitions(labels, "iobes")
    assert breaks(best_path(np.array([[0.0, 5, 0]]), follows), follows) != []
    assert best_path(np.array([[0.0, 5, 0]] * 2), follows) == [0, 2]


def tagged(scheme: str, *, places: tuple[int | None, ...] = (0, 1, 2)) -> TaggedWords:
    row = TaggingRow(ids=(1, 2, 3), types=(0, 0, 0), truncated=False, places=places)
    return TaggedWords(
        given=HeadInput(first="a b c", tokens=("a", "b", "c"), tags=(0, 0, 0), scheme=scheme), rows=(row,)
    )


def test_a_head_answers_with_the_best_tags_that_keep_to_the_scheme() -> None:
    labels = ("O", "B-x", "I-x")
    logits = np.array([[1.0, 0.0, 0.9], [0.0, 0.0, 2.0], [0.0, 0.1, 0.0]], dtype=np.float32)
    order = (0, 1, 2)
    assert tagged("iob2").outcome([logits], labels=labels, order=order).prediction == "B-x I-x B-x"
    for free in ("", "none", "iob1"):
        assert tagged(free).outcome([logits], labels=labels, order=order).prediction == "O I-x B-x"
    mixed = logits[:, [2, 0, 1]]
    assert tagged("iob2").outcome([mixed], labels=labels, order=(1, 2, 0)).prediction == "B-x I-x B-x"


def test_a_word_that_no_token_speaks_for_ends_an_entity() -> None:
    labels = ("O", "B-x", "I-x", "E-x", "S-x")
    logits = np.array([[0.0, 5, 0, 0, 4], [0.0, 0, 9, 0, 0]], dtype=np.float32)
    answer = tagged("", places=(0, None, None)).outcome([logits], labels=labels, order=range(5))
    assert answer.prediction == "S-x O O"


TASK = """task: mine
kind: tagging
dataset_path: json
dataset_kwargs: {{data_files: {{test: rows.jsonl}}}}
test_split: test
inputs: {{tokens: tokens, tags: tags}}
labels: [O, B-x, I-x]
{more}
"""


def task_of(folder: Path, more: str = "") -> Task:
    (folder / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    (folder / "mine.yaml").write_text(TASK.format(more=more), encoding="utf-8")
    return load_task(folder / "mine.yaml")


def rows_of(*tags: str) -> list[Row]:
    return [{"tokens": each.split(), "tags": each.split()} for each in tags]


def test_rows_that_break_the_scheme_are_told_by_their_numbers(tmp_path: Path) -> None:
    told: list[str] = []
    rows = [*rows_of(*["B-x I-x O B-x"] * 200), *rows_of("O I-x", "B-x", "I-x O")]
    labelled_rows(task_of(tmp_path), rows, where="rows.jsonl", notify=told.append)
    assert told == [
        "rows.jsonl: the tags of rows 201 and 203 (counted from 1) break IOB2 (I-x behind O in row 201); they are "
        "scored as they stand."
    ]


def test_rows_that_keep_to_another_scheme_or_to_none(tmp_path: Path) -> None:
    told: list[str] = []
    task = task_of(tmp_path)
    labelled_rows(task, rows_of(*["I-x I-x B-x O"] * 9), where="r", notify=told.append)  # IOB1
    assert told == []
    labelled_rows(task, rows_of(*["I-x I-x B-x O", "B-x O"] * 9), where="r", notify=told.append)
    assert len(told) == 1
    assert "break IOB2, to which their letters would belong" in told[0]
    labelled_rows(task_of(tmp_path, "scheme: none"), rows_of("I-x O B-x"), where="r", notify=told.append)
    assert len(told) == 1
    labelled_rows(task_of(tmp_path, "scheme: iob1"), rows_of("I-x O B-x"), where="r", notify=told.append)
    assert told[1].startswith("r: the tags of row 1 (counted from 1) break IOB1 (B-x behind O in row 1)")


def test_a_scheme_of_a_task_file(tmp_path: Path) -> None:
    plain, named = task_of(tmp_path), task_of(tmp_path, "scheme: iob2")
    assert "scheme" not in plain.fields  # so that hashes of older files stay
    assert named.hash != plain.hash
    with pytest.raises(UsageError, match=r"mine.yaml:8: scheme: Input should be 'iob1', 'iob2'.*was: 'bio'"):
        task_of(tmp_path, "scheme: bio")
    (tmp_path / "mine.yaml").write_text(
        TASK.format(more="scheme: iob2").replace("tagging", "classification").replace("tags: tags", "label: tags"),
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match="scheme is one of tags, and a classification task has none"):
        load_task(tmp_path / "mine.yaml")
