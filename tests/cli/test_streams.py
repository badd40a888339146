"""Standard input line by line, and what terminals are kept from."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmtasks.cli.streams import VisibleStream, waiting_lines
from lmtasks.errors import UsageError
from lmtasks.visible import visible


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end that is written to; the other one is standard input."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield writing


def test_a_line_is_there_before_the_next_one_is_written(pipe: int) -> None:
    lines = waiting_lines(64)
    for text in ("one", "two"):
        os.write(pipe, f"{text}\n".encode())
        assert next(lines) == [text]
    os.write(pipe, b"a\r\nb\n\nc")  # what has no end yet is no line
    assert next(lines) == ["a", "b", ""]
    os.write(pipe, "é".encode()[:1])
    os.write(pipe, "é".encode()[1:])
    os.close(pipe)
    assert next(lines) == ["cé"]
    assert next(lines, None) is None


def test_so_many_lines_as_wait_are_taken_together(pipe: int) -> None:
    os.write(pipe, "\n".join(map(str, range(10))).encode())
    os.close(pipe)
    assert [len(part) for part in waiting_lines(4)] == [4, 4, 2]


def test_a_line_that_cannot_be_decoded_is_named_and_those_before_it_are_answered(pipe: int) -> None:
    os.write(pipe, b"\xef\xbb\xbffine\ncaf\xe9\nlost\n")
    os.close(pipe)
    lines = waiting_lines(64)
    assert next(lines) == ["fine"]
    with pytest.raises(UsageError, match=r"line 2 of standard input is not UTF-8 \(byte 4 is 0xe9\)"):
        next(lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("done\rfailed", r"done\rfailed"),
        ("\x9b31m", r"\x9b31m"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("中文 ไทย हिन्दी 👩\u200d💻\n\tनमस्ते", "中文 ไทย हिन्दी 👩\u200d💻\n\tनमस्ते"),
    ],
)
def test_what_would_move_the_cursor_or_turn_the_writing_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    terminal = io.StringIO()
    print(text, end="", file=VisibleStream(terminal))
    assert terminal.getvalue() == shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_task_file_cannot_colour_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "x", "label": "a\\u001b[31m\\u202eb"}\n', encoding="utf-8")
    shown = b""
    reading, writing = os.openpty()
    command = ["eval", "--model", "majority", "--data", "t.jsonl", "--label", "labl\x1b[31m"]
    with subprocess.Popen([sys.executable, "-m", "lmtasks", *command], cwd=tmp_path, stdout=writing, stderr=writing):
        os.close(writing)
        while part := _read(reading):
            shown += part
    os.close(reading)
    assert rb"labl\x1b[31m" in shown
    assert b"labl\x1b[31m" not in shown


def _read(number: int) -> bytes:
    try:
        return os.read(number, 1 << 16)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(("closed", "code", "said"), [
    ("<&-", 2, "standard input is closed"), (">&-", 2, "standard output is closed"), ("2>&-", 2, ""),
])  # fmt: skip
def test_a_closed_stream_is_said_or_done_without(closed: str, code: int, said: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m lmtasks predict --model no-such-model 'x' {closed}"
    if closed == "<&-":
        command = f"{sys.executable} -c 'from lmtasks.cli.streams import *; print(next(waiting_lines(1)))' {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert said in done.stderr
    assert done.returncode == (1 if closed == "<&-" else code)
    assert "Traceback" not in done.stderr or closed == "<&-"
