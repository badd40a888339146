"""Documents that stand in two splits."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from lmtasks.settings.data import DataAccess
from lmtasks.task.identity import document_of
from lmtasks.task.index import default_index
from lmtasks.workflow.split_check import CheckOptions, DocumentHashes, Overlap
from lmtasks.workflow.validate import check_task

KNOWN: Mapping[str, int] = {"imdb": 123, "thucnews_titles": 30, "chnsenticorp": 331}
"""Scored rows whose text stands among the training rows too, counted by hand in the issue that asked for this."""


def _documents(*texts: str) -> DocumentHashes:
    documents = DocumentHashes()
    for text in texts:
        documents.add(text)
    return documents


def test_white_space_makes_no_other_document() -> None:
    scored = _documents("a b", "c", " a\n\tb ", "a  c", "ab", "A b")
    assert scored.shared_with([("train", _documents("x", "a  b", "d"))]) == (Overlap(split="train", rows=2, first=0),)
    assert scored.shared_with([("train", _documents("e")), ("pool", _documents("ab"))]) == (
        Overlap(split="train", rows=0, first=-1),
        Overlap(split="pool", rows=1, first=4),
    )
    assert _documents().shared_with([("train", _documents("a"))])[0].rows == 0


def test_a_document_is_what_is_asked_and_not_its_answer() -> None:
    index = default_index()
    (task,) = index.find("mrpc")
    row = {"sentence1": "a", "sentence2": "b", "label": 1, "text1": "a", "text2": "b"}
    assert document_of(task, row) == document_of(task, {**row, "label": 0})
    (qa,) = index.find("starter_qa_en")
    answers = {"text": ["x"], "answer_start": [0]}
    asked = {"id": "1", "context": "x y", "question": "q?", "answers": answers}
    assert document_of(qa, asked) == document_of(qa, {**asked, "id": "2", "answers": {"text": [], "answer_start": []}})
    assert document_of(qa, asked) != document_of(qa, {**asked, "question": "p?"})


def test_right_texts_are_counted_beside_documents() -> None:
    scored, train = DocumentHashes(), DocumentHashes()
    for text, target in (("a", "甲。"), ("b", "乙。"), ("c", "")):
        scored.add(text, target=target)
    for text, target in (("a", "丁。"), ("x", " 甲。\n"), ("y", "")):
        train.add(text, target=target)
    assert scored.shared_with([("train", train)]) == (Overlap(split="train", rows=1, first=0, targets=1),)


@pytest.mark.real_data
def test_known_right_texts_of_a_public_set(data_root: Path) -> None:
    (task,) = default_index().find("tatoeba_en_zh")
    options = CheckOptions(data=DataAccess(data_root=data_root, offline=True))
    check = check_task(task, options=options, report=lambda progress: None)
    assert [(overlap.rows, overlap.targets) for overlap in check.overlaps] == [(0, 192)]


@pytest.mark.slow  # whole data sets
@pytest.mark.real_data
@pytest.mark.parametrize("name", KNOWN)
def test_known_overlaps_of_public_sets(name: str, data_root: Path) -> None:
    (task,) = default_index().find(name)
    options = CheckOptions(data=DataAccess(data_root=data_root, offline=True))
    check = check_task(task, options=options, report=lambda progress: None)
    assert [(overlap.split, overlap.rows) for overlap in check.overlaps] == [("train", KNOWN[name])]
    assert check.problems == ()
