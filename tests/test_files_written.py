"""`lmtasks/files.py`: a file is there whole, or as it was before."""

import json
from pathlib import Path

import pytest

from lmtasks.errors import WorkError
from lmtasks.files import write_files, write_json, write_text, writing


def test_folders_are_made_and_files_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c.json"
    write_json(file, {"text": "\u4f60\u597d", "half": "x"})
    write_json(file, {"text": "\u4f60\u597d"}, indent=2)
    assert file.read_text(encoding="utf-8") == '{\n  "text": "\u4f60\u597d"\n}\n'
    write_text(file, "half of a pair: \ud800\r\n")
    assert file.read_bytes() == b"half of a pair: \xed\xa0\x80\r\n"
    assert [each.name for each in file.parent.iterdir()] == ["c.json"]


def test_a_disk_that_is_full_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"n": 1})

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WorkError, match=r"a\.json cannot be written: No space left on device\."):
        write_json(file, {"n": 2})
    assert json.loads(file.read_text()) == {"n": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"cannot be written: (Not a directory|File exists)"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_of_several_files_none_is_renamed_before_all_are_written(tmp_path: Path) -> None:
    def pieces():  # type: ignore[no-untyped-def]
        yield "begun"
        raise OSError(5, "Input/output error")

    with pytest.raises(WorkError, match=r"it failed: Input/output error"), writing("it failed"):
        write_files(tmp_path, {"first": ["whole"], "second": pieces()})
    assert not list(tmp_path.iterdir())
