"""Files: ours are written whole or not at all, by one writer a folder; those of others are read with one sentence about
what is wrong with them.

with writing(f"{file} cannot be written"):      # a full disk, a read-only folder: one sentence
    write_files(folder, {"a.json": [text]})     # aside first, then renamed into place
with reading(f"the weights in {file}"):         # whatever a library says of a damaged file: one sentence
    tensors = load_file(file)
with locked(folder):                            # two runs into the same folder would mix their files
    ...

The lock is the operating system's (`flock` on a file beside the folder): it ends with the process that holds it,
however that ends, so nobody ever has to remove a stale one.
"""

import fcntl
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from lmtasks.checksums import sealed
from lmtasks.errors import LmtasksError, UsageError, WorkError

MOST_OPEN = 16
"""Files that `AppendedFiles` holds open together; a shell may allow a process 128, and libraries have theirs."""

PANIC = "PanicException"
"""What libraries in Rust raise where they meet what they did not expect; it is no `Exception`."""
LONGEST = 300
"""Characters of what a library says that are told."""


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
    """Turn an error of the disk (full, read-only) into a `WorkError` about `what`."""
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


@contextmanager
def reading(what: str, *, advice: str = "") -> Iterator[None]:
    """Whatever is raised within is about the file. Around nothing but a library's own reading: libraries have many
    hierarchies of errors, and change them.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        yield
    except (LmtasksError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"{what} cannot be read: {first_line(error)}{advice}") from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise UsageError(f"{what} cannot be read: it is damaged.{advice}") from error


def parse_json(text: str | bytes) -> Any:  # as json.loads, which knows no better
    """A JSON text's value.

    Raises:
        ValueError: it is none, or nested more deeply than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no file.

    Raises:
        UsageError: it cannot be read, or is no JSON object.
    """
    if not file.is_file():
        return {}
    try:
        found = parse_json(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file} is damaged: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} is damaged: it is no JSON object.")
    return found


def first_line(error: BaseException) -> str:
    """The message of an error, as the end of a sentence; its class where it has none.

    >>> first_line(KeyError("hidden_size"))
    "KeyError: 'hidden_size'."
    """
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    message = message if len(message) <= LONGEST else f"{message[:LONGEST]} [...]"
    if isinstance(error, KeyError | AttributeError | IndexError | AssertionError) or not message:
        message = f"{type(error).__name__}: {message}".rstrip(": ")
    return message if message.endswith(".") else f"{message}."


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other lmtasks processes; it need not exist, but its parent is made.

    The file stands beside the folder (`runs/a.lock` for `runs/a`), since the folder itself may be renamed into place.
    Parents that had to be made, and that nothing was written to, are gone afterwards.

    Raises:
        WorkError: another process holds it (named), or nothing can be written there.
    """
    place = Path(os.path.abspath(folder))
    file = place.with_name(place.name + ".lock")
    if not place.name:
        raise UsageError(f"{folder} is the root of the file system; give another --out.")
    try:
        missing = [parent for parent in place.parents if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(file, folder)
    except OSError as error:
        raise WorkError(f"{folder} cannot be written: {error.strerror or error}; give another --out.") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while still held, so that nobody holds a file that is gone
        os.close(handle)
        for parent in missing:
            with suppress(OSError):  # it holds something by now, as it should
                parent.rmdir()


def _acquire(file: Path, folder: Path) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
            os.close(handle)
            who = f"process {holder}" if holder else "another process"
            raise WorkError(
                f"{folder} is being written by another lmtasks ({who}); wait until it ends, or give another --out."
            ) from error
        except OSError:
            os.close(handle)
            raise
        if _is_still(file, handle):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle
        os.close(handle)  # its holder removed it between our open and our lock


def _is_still(file: Path, handle: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
