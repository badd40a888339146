"""The file in which answers are kept, and the one of features: one SQLite table, shared by any number of processes.

    answers(key BLOB PRIMARY KEY, value BLOB)       value: CRC-32 over key and answer, then the answer

Each `put` is one transaction in the write-ahead log: a process that is killed loses what it had not put yet, nothing
else. SQLite keeps no checksums of its data, so every value has its own, and a flipped bit cannot become an answer.
A file of ours that is damaged or of another version is renamed and told of. A file is ours where it carries our
application id, or where it lies in a place that is ours; any other is left as it is, and refused. Where no file can be
used, the work goes on without.
"""

import logging
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from zlib import crc32

from lmtasks.errors import UsageError

SCHEMA = 1
"""Of the table and of the values in it (`cache_value`); stands in the file as SQLite's user_version."""
APPLICATION = 0x6C6D7461
"""`lmta`: marks the file as ours, as SQLite's application_id."""
MAGIC = b"SQLite format 3\x00"
APPLICATION_AT = slice(68, 72)
"""Where SQLite's file format has the application id, most significant byte first."""
KINDS: Mapping[int, str] = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
CREATE = "CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"

MOST_BYTES = 4 * 2**30
"""A larger file takes no more."""
CHECKED_WHOLE_BYTES = 64 * 2**20
"""Files up to this size are checked page by page when they are opened (a tenth of a second); of larger ones damage is
found where it is read."""
PAGE_BYTES = 4096
BUSY_SECONDS = 60.0
"""Waiting for another process that writes; a batch takes it milliseconds."""
AT_ONCE = 1000
"""Keys of one SELECT."""
CRC_BYTES = 4

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
TAKES_NO_MORE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
"""What stops writing, but not reading."""
SAID: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: f"the disk is full, or the file has reached its {MOST_BYTES >> 30} GiB",
    sqlite3.SQLITE_READONLY: "it cannot be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened or made",
    sqlite3.SQLITE_BUSY: "another process has locked it",
    sqlite3.SQLITE_LOCKED: "another process has locked it",
    sqlite3.SQLITE_IOERR: "the disk failed while it was read or written",
    sqlite3.SQLITE_PERM: "it may not be opened",
}

log = logging.getLogger(__name__)


class _Unfit(Exception):
    """The file is no cache that can be used; the text says why."""


def check_place(file: Path, *, own_place: bool) -> None:
    """May anything be kept in this file? Nothing is opened but a file that is whole, and nothing is written.

    Args:
        own_place: whatever file lies there is ours, damaged ones too.

    Raises:
        UsageError: it is no plain file, or another program's.
    """
    what = _kind(file)
    if what:
        raise UsageError(f"a cache is a file, and {file} is {what}; give --cache another file, or off.")
    if not own_place and not _is_ours(file):
        raise UsageError(
            f"{file} is no cache of lmtasks (its head does not carry our mark), and is left as it is; give --cache "
            "another file, or off, or move it away."
        )


class ByteStore:
    """Bytes by key. It never raises for what is wrong with its file: it says so once, and holds nothing from then on.

    Args:
        file: made if it is not there, with its folder.
        own_place: whatever file lies there is ours, and is renamed where it is unfit.
        page_bytes: of a file that is made; a value of more than a quarter of a page takes pages of its own.

    Raises:
        UsageError: the file is another program's.
    """

    def __init__(self, file: Path, *, own_place: bool = False, page_bytes: int = PAGE_BYTES) -> None:
        self.file = file
        self._page_bytes = page_bytes
        self._own_place = own_place
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._takes_more = True
        self._open()

    @property
    def usable(self) -> bool:
        """True while the file can be used."""
        return self._connection is not None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The answers that it has of these."""
        found: dict[bytes, bytes] = {}
        connection = self._connection
        if connection is None:
            return found
        try:
            for part in _parts(sorted(keys), AT_ONCE):
                marks = ",".join("?" * len(part))
                for key, value in connection.execute(f"SELECT key, value FROM answers WHERE key IN ({marks})", part):
                    found[key] = _checked(key, value)
        except (sqlite3.Error, _Unfit) as error:
            self._failed(error)
        return found

    def put(self, answers: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep these, all or none; what is there already stays. Once it returns, they outlive the process."""
        connection = self._connection
        if connection is None or not self._takes_more or not answers:
            return
        rows = [(key, crc32(key + answer).to_bytes(CRC_BYTES, "little") + answer) for key, answer in sorted(answers)]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if _code(error) in TAKES_NO_MORE:
                self._takes_more = False
                log.warning("the cache %s takes no more: %s; what is in it is still used.", self.file, _why(error))
            else:
                self._failed(error)

    def close(self) -> None:
        """Give the file back. The store is not used afterwards."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _open(self) -> None:
        """Open the file; if it is unfit, set it aside and begin a new one; if that cannot be, do without."""
        if not _kind(self.file):
            check_place(self.file, own_place=self._own_place)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if _kind(self.file):
                raise _Unfit(f"it is {_kind(self.file)}")
            try:
                self._connection = _opened(self.file, page_bytes=self._page_bytes)
            except _Unfit as reason:
                self._set_aside(str(reason), inode=_inode(self.file))
                self._connection = _opened(self.file, page_bytes=self._page_bytes)
            self._inode = _inode(self.file)
        except (OSError, sqlite3.Error, _Unfit) as error:
            self._do_without(error)

    def _failed(self, error: Exception) -> None:
        """Something went wrong in the middle of the work."""
        self.close()
        if not isinstance(error, _Unfit) and _code(error) not in DAMAGED:
            self._do_without(error)
            return
        try:
            self._set_aside("it is damaged" if not isinstance(error, _Unfit) else str(error), inode=self._inode)
        except OSError as failure:
            self._do_without(failure)
        else:
            self._open()

    def _set_aside(self, reason: str, *, inode: int) -> None:
        """Rename the file with its log, unless another process has done so already."""
        if inode != _inode(self.file):
            return
        number = 1
        while (aside := self.file.with_name(f"{self.file.name}.damaged-{number}")).exists():
            number += 1
        self.file.rename(aside)
        for ending in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.file.with_name(self.file.name + ending).rename(aside.with_name(aside.name + ending))
        log.warning("the cache %s cannot be used: %s; it was renamed to %s.", self.file, reason, aside.name)

    def _do_without(self, error: Exception) -> None:
        self.close()
        log.warning("the cache %s is not used: %s; the work goes on without it.", self.file, _why(error))


def _opened(file: Path, *, page_bytes: int) -> sqlite3.Connection:
    """A connection to a cache, new or checked.

    Raises:
        _Unfit: the file is to be set aside.
        OSError, sqlite3.Error: no cache can be had there.
    """
    if file.exists():
        with file.open("rb") as stream:
            start = stream.read(len(MAGIC))
        if start and start != MAGIC:
            raise _Unfit("it is no SQLite file")
    try:
        connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size = {page_bytes}")  # nothing, where there are pages already
            _prepare(connection, file)
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        if _code(error) in DAMAGED:
            raise _Unfit("it is damaged or cut short") from error
        raise
    return connection


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Check what is there, or lay out a new file; several processes may do so at once."""
    connection.execute("BEGIN")  # one look: between two of them, another process may lay out the file
    application, version, tables = _identity(connection)
    connection.execute("COMMIT")
    if not tables and not application:
        # Before there is a log, so that our mark stands in the file itself from the beginning.
        connection.execute("BEGIN IMMEDIATE")
        application, version, tables = _identity(connection)
        if not tables and not application:
            connection.execute(CREATE)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            application, version, tables = APPLICATION, SCHEMA, [CREATE]
        connection.execute("COMMIT")
    if application != APPLICATION:
        raise _Unfit("it is a SQLite file, but no cache of lmtasks")
    if version != SCHEMA or tables != [CREATE]:
        raise _Unfit(f"it is of another version (schema {version}, this one reads {SCHEMA})")
    if file.stat().st_size <= CHECKED_WHOLE_BYTES:
        (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise _Unfit(f"it is damaged ({' '.join(str(state).split())[:80]})")
    _use_log(connection)
    # After a loss of power, not of a process, the last batches may be gone; nothing is ever half there.
    connection.execute("PRAGMA synchronous = NORMAL")
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA max_page_count = {MOST_BYTES // size}")
    connection.execute("PRAGMA cache_size = -65536")  # in KiB: random keys touch many pages


def _identity(connection: sqlite3.Connection) -> tuple[int, int, list[str]]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master ORDER BY name")]
    return application, version, tables


def _use_log(connection: sqlite3.Connection) -> None:
    """Write-ahead log, so that readers and a writer do not wait for each other.

    Two processes that switch a new file at once get "locked" without waiting, whatever the timeout; hence the loop.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _checked(key: bytes, value: bytes) -> bytes:
    answer = value[CRC_BYTES:]
    if crc32(key + answer) != int.from_bytes(value[:CRC_BYTES], "little"):
        raise _Unfit("it is damaged (an answer does not match its checksum)")
    return answer


def _kind(file: Path) -> str:
    """What lies there, where it is no plain file; empty where it is one, or nothing is there."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return ""
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no plain file")


def _is_ours(file: Path) -> bool:
    """Is there no file yet, an empty one, or one with our mark? What cannot be read is told of where it is opened."""
    try:
        with file.open("rb") as opened:
            head = opened.read(APPLICATION_AT.stop)
    except OSError:
        return True
    return not head or (head.startswith(MAGIC) and head[APPLICATION_AT] == APPLICATION.to_bytes(4, "big"))


def _parts(keys: Sequence[bytes], size: int) -> Iterator[list[bytes]]:
    waiting = iter(keys)
    while part := list(islice(waiting, size)):
        yield part


def _inode(file: Path) -> int:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return 0


def _code(error: Exception) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _why(error: Exception) -> str:
    match error:
        case OSError():
            return error.strerror or str(error)
        case sqlite3.Error():
            return SAID.get(_code(error), str(error))
    return str(error)


def count_answers(file: Path) -> int:
    """Number of answers in a file; for people and tests."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    return int(count)
