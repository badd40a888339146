import sys
from pathlib import Path

import pytest
from workbook import write_workbook

from lmtasks.data.local import open_file
from lmtasks.errors import UsageError


def test_the_first_sheet_is_read_and_said(tmp_path: Path) -> None:
    file = tmp_path / "reviews.xlsx"
    lines = [
        [None, "text", "label", "score"],
        [0, "gut; aber teuer", "good", 1.5],
        [1, "两行\n和逗号，", True, 2],
        [None, None, None, None],
        [2, " 007", None, None],
    ]
    write_workbook(file, {"answers": lines, "notes": [["x"]]})
    told: list[str] = []
    assert open_file(file, notify=told.append) == [
        {"text": "gut; aber teuer", "label": "good", "score": 1.5},
        {"text": "两行\n和逗号，", "label": True, "score": 2},
        {"text": " 007", "label": "", "score": ""},
    ]
    assert [type(row["score"]) for row in open_file(file)] == [float, int, str]
    assert open_file(file, limit=1)[0]["label"] == "good"
    assert told == [
        f"{file}: its first sheet, 'answers', was read, and not 'notes'.",
        f"{file}: column 1 of 4 has no name and is left out.",
    ]


def test_what_is_no_workbook_and_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "reviews.xlsx"
    file.write_text("text,label")
    with pytest.raises(UsageError, match="is no Excel workbook that can be read"):
        open_file(file)
    write_workbook(file, {"empty": []})
    assert open_file(file) == []


def test_without_the_reader_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "reviews.xlsx"
    write_workbook(file, {"sheet": [["text"], ["good"]]})
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(UsageError, match=r"pip install 'lmtasks\[xlsx\]'"):
        open_file(file)
