"""Files written whole or not at all: aside first, then renamed into place. What cannot be written is one sentence."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lmtasks.checksums import sealed
from lmtasks.errors import WorkError

MOST_OPEN = 16
"""Files that `AppendedFiles` holds open together; a shell may allow a process 128, and libraries have theirs."""


def slug(name: str, *, lower: bool = True) -> str:
    """A name as part of a file's name: one hyphen for each run of what is no letter, mark, number, `_` or `.`.

    >>> slug("ONNX int8"), slug("दिन दान"), slug("org/Some model@v1", lower=False)
    ('onnx-int8', 'दिन-दान', 'org-Some-model-v1')
    """
    kept = (mark if mark in "_." or unicodedata.category(mark)[0] in "LMN" else " " for mark in name)
    found = "-".join("".join(kept).split())
    return found.lower() if lower else found


@contextmanager
def aside(file: Path) -> Iterator[Path]:
    """Yield the name to write a file under; behind the block it is renamed to `file`, after a failure removed."""
    part = file.with_name(f"{file.name}.part")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns what the disk says (it is full, the folder is read-only) into a `WorkError` about `what`."""
    try:
        yield
    except OSError as error:
        raise WorkError(f"{what}: {error.strerror or error}.") from error


def write_files(folder: Path, files: Mapping[str, Iterable[str]], *, before: Callable[[], None] = lambda: None) -> None:
    """Write every file aside, then rename them in order, after `before`; after a failure nothing is left of it.

    Args:
        files: name to pieces of text. Halves of surrogate pairs, which JSON may hold, are kept.

    Raises:
        OSError: see `writing`.
    """
    parts = {name: folder / f"{name}.part" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, pieces in files.items():
            with parts[name].open("w", encoding="utf-8", errors="surrogatepass", newline="\n") as opened:
                opened.writelines(pieces)
        before()
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write one file.

    Raises:
        WorkError: it cannot be written; an older one stands as it was.
    """
    with writing(f"{file} cannot be written"):
        write_files(file.parent, {file.name: [text]})


def write_bytes(file: Path, content: bytes) -> None:
    """Write one file that is no text.

    Raises:
        WorkError: as `write_text`.
    """
    with writing(f"{file} cannot be written"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with aside(file) as part:
            part.write_bytes(content)


def write_json(file: Path, content: Mapping[str, object], *, indent: int = 1) -> None:
    """Write one JSON file for people and machines.

    Raises:
        WorkError: as `write_text`.
    """
    write_text(file, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def write_record(file: Path, record: Mapping[str, object]) -> None:
    """Write one JSON file with its own checksum.

    Raises:
        WorkError: as `write_text`.
    """
    write_json(file, sealed(record))


class AppendedFiles:
    """Text files that are written to in turn, any number of them; few are open at a time."""

    def __init__(self) -> None:
        self._open: dict[Path, IO[str]] = {}
        self._begun: set[Path] = set()

    def append(self, file: Path, text: str) -> None:
        """Write behind what was written here before; whatever else was in the file is gone."""
        opened = self._open.pop(file, None)
        if opened is None:
            if len(self._open) >= MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()  # the one that was written to longest ago
            mode = "a" if file in self._begun else "w"
            opened = file.open(mode, encoding="utf-8", errors="surrogatepass", newline="\n")
            self._begun.add(file)
        self._open[file] = opened
        opened.write(text)

    def forget(self, file: Path) -> None:
        """Remove a file that was begun here."""
        if file in self._begun:
            opened = self._open.pop(file, None)
            if opened is not None:
                opened.close()
            self._begun.discard(file)
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Everything is written."""
        while self._open:
            self._open.popitem()[1].close()
