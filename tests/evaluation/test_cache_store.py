"""The file of answers: whole or set aside, shared, and never in the way."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.evaluation import cache_store
from lmtasks.evaluation.cache_store import ByteStore, check_place, count_answers

ANSWERS = [(number.to_bytes(16, "big"), b"answer %d" % number * 20) for number in range(3000)]
WRITER = """
import sys
from pathlib import Path
from lmtasks.evaluation.cache_store import ByteStore
first = int(sys.argv[2])
store = ByteStore(Path(sys.argv[1]))
for start in range(first, first + 2000, 50):
    store.put([(number.to_bytes(16, "big"), b"answer %d" % number * 20) for number in range(start, start + 50)])
store.close()
sys.exit(0 if store.file.exists() else 1)
"""


def _filled(file: Path) -> Path:
    store = ByteStore(file)
    store.put(ANSWERS)
    store.close()
    return file


def _found(file: Path) -> dict[bytes, bytes]:
    store = ByteStore(file)
    try:
        return store.get([key for key, _ in ANSWERS])
    finally:
        store.close()


def test_what_is_put_is_found_by_whoever_opens_the_file(tmp_path: Path) -> None:
    file = _filled(tmp_path / "deep" / "answers.sqlite")
    assert _found(file) == dict(ANSWERS)
    assert count_answers(file) == len(ANSWERS)


def test_what_was_not_put_is_not_found(tmp_path: Path) -> None:
    store = ByteStore(tmp_path / "a")
    store.put(ANSWERS[:10])
    assert store.get([ANSWERS[3][0], ANSWERS[11][0]]) == dict([ANSWERS[3]])
    assert store.get([]) == {}
    store.close()
    assert store.get([ANSWERS[3][0]]) == {}


def test_the_first_answer_stays(tmp_path: Path) -> None:
    store = ByteStore(tmp_path / "a")
    store.put([(b"k" * 16, b"one")])
    store.put([(b"k" * 16, b"two"), (b"l" * 16, b"three")])
    assert store.get([b"k" * 16, b"l" * 16]) == {b"k" * 16: b"one", b"l" * 16: b"three"}
    store.close()


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def _sql(*lines: str) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        connection = sqlite3.connect(file)
        for line in lines:
            connection.execute(line)
        connection.commit()
        connection.close()

    return change


def _flip(marker: bytes) -> Callable[[Path], object]:
    """One bit behind a text that stands in the file."""

    def change(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[content.index(marker) + 3] ^= 4
        file.write_bytes(content)

    return change


def _overwritten_page(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:8192] = os.urandom(4096)
    file.write_bytes(content)


UNFIT: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "a text": (_write(b"model,score\nmini,0.5\n"), "it is no SQLite file"),
    "another SQLite file": (
        lambda file: (file.unlink(), _sql("CREATE TABLE songs (name)")(file)),
        "no cache of lmtasks",
    ),
    "another application": (_sql("PRAGMA application_id = 7"), "no cache of lmtasks"),
    "another version": (_sql("PRAGMA user_version = 99"), "another version (schema 99, this one reads 1)"),
    "another table": (_sql("ALTER TABLE answers ADD COLUMN note"), "another version"),
    "cut short": (lambda file: os.truncate(file, file.stat().st_size // 2), "it is damaged or cut short"),
    "cut in its head": (lambda file: os.truncate(file, 50), "it is damaged or cut short"),
    "a page of noise": (_overwritten_page, "it is damaged"),
    "one bit in an answer": (_flip(b"answer 1234"), "does not match its checksum"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_unfit_file_is_set_aside_and_a_new_one_begun(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = _filled(tmp_path / "a")
    spoil, reason = UNFIT[name]
    spoil(file)
    content = file.read_bytes()
    store = ByteStore(file, own_place=True)
    for key, answer in store.get([key for key, _ in ANSWERS]).items():
        assert dict(ANSWERS)[key] == answer  # whatever is still given is right
    store.put(ANSWERS[:5])
    assert store.get([key for key, _ in ANSWERS]) == dict(ANSWERS[:5])
    store.close()
    assert reason in caplog.text
    assert "renamed to a.damaged-1" in caplog.text
    assert (tmp_path / "a.damaged-1").read_bytes()[:2000] == content[:2000]
    assert len(caplog.records) == 1


FOREIGN = ("a text", "another SQLite file", "another application", "cut in its head")


@pytest.mark.parametrize("name", UNFIT)
def test_only_a_file_with_our_mark_is_renamed_where_somebody_named_it(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program's database was renamed away, and a text file too."""
    file = _filled(tmp_path / "a")
    UNFIT[name][0](file)
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in tmp_path.iterdir()}
    if name not in FOREIGN:
        ByteStore(file).close()
        return
    for ask in (lambda: ByteStore(file), lambda: check_place(file, own_place=False)):
        with pytest.raises(UsageError, match=r"is no cache of lmtasks .* and is left as it is"):
            ask()
    assert {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in tmp_path.iterdir()} == before
    assert caplog.text == ""


def _socket(place: Path) -> None:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(place))
    made.close()


@pytest.mark.parametrize("own_place", [True, False])
@pytest.mark.parametrize(
    ("make", "what"),
    [(os.mkfifo, "a pipe"), (Path.mkdir, "a folder"), (_socket, "a socket"),
     (lambda place: place.symlink_to("/dev/null"), "a device")],
)  # fmt: skip
def test_what_is_no_plain_file_is_refused_and_never_waited_for(
    make: Callable[[Path], object], what: str, own_place: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "a"
    make(place)
    with pytest.raises(UsageError, match=f"is {what}; give --cache another file, or off"):
        check_place(place, own_place=own_place)
    store = ByteStore(place, own_place=own_place)  # a library's caller goes on without
    assert not store.usable
    assert f"it is {what}; the work goes on without it" in caplog.text
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_missing_and_an_empty_file_become_a_cache_that_carries_its_mark_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        store = ByteStore(tmp_path / name)
        store.put(ANSWERS[:1])
        check_place(tmp_path / name, own_place=False)  # while it is open, so that a killed process leaves it marked
        store.close()


def test_files_set_aside_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for text in (b"one", b"two"):
        (tmp_path / "a").write_bytes(text)
        ByteStore(tmp_path / "a", own_place=True).close()
        for file in (tmp_path / "a", tmp_path / "a-wal", tmp_path / "a-shm"):
            file.unlink(missing_ok=True)
    assert [(tmp_path / f"a.damaged-{number}").read_bytes() for number in (1, 2)] == [b"one", b"two"]


def test_damage_that_is_found_while_working(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the size up to which a file is checked whole when it is opened."""
    file = _filled(tmp_path / "a")
    _overwritten_page(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_store, "CHECKED_WHOLE_BYTES", 0)
        store = ByteStore(file)
    assert caplog.text == ""
    found = store.get([key for key, _ in ANSWERS])
    assert all(dict(ANSWERS)[key] == answer for key, answer in found.items())
    assert "renamed to a.damaged-1" in caplog.text
    store.put(ANSWERS)
    assert store.get([key for key, _ in ANSWERS]) == dict(ANSWERS)
    store.close()


def test_a_place_where_nothing_can_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "answers", Path("/proc/answers.sqlite"), tmp_path):
        caplog.clear()
        store = ByteStore(place)
        assert not store.usable
        store.put(ANSWERS[:3])
        assert store.get([ANSWERS[0][0]]) == {}
        store.close()
        assert "the work goes on without it" in caplog.text
        assert len(caplog.records) == 1


def test_a_full_disk_stops_writing_but_not_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_store, "MOST_BYTES", 30 * 4096)  # SQLite says the same of a file at its largest size
    store = ByteStore(tmp_path / "a")
    store.put(ANSWERS[:100])
    store.put(ANSWERS[100:])
    store.put(ANSWERS[100:])
    assert store.get([key for key, _ in ANSWERS]) == dict(ANSWERS[:100])
    store.close()
    assert [record.message for record in caplog.records] == [
        f"the cache {tmp_path / 'a'} takes no more: the disk is full, or the file has reached its 4 GiB; "
        "what is in it is still used."
    ]


def test_a_file_that_is_locked_for_too_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _filled(tmp_path / "a")
    monkeypatch.setattr(cache_store, "BUSY_SECONDS", 0.05)
    store = ByteStore(file)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put([(b"k" * 16, b"new")])
    other.execute("ROLLBACK")
    other.close()
    assert "another process has locked it; the work goes on without it" in caplog.text
    assert _found(file) == dict(ANSWERS)


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_write_one_new_file(count: int, tmp_path: Path) -> None:
    """They also make it at the same time, and half of what each writes another writes too."""
    file = tmp_path / "a"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(1000 * number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(count)
    ]
    said = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * count
    assert said == [""] * count
    assert count_answers(file) == 1000 * (count + 1)
    assert list(tmp_path.glob("a.damaged*")) == []
    found = _found(file)
    assert all(found[key] == answer for key, answer in ANSWERS[: 1000 * (count + 1)])


def test_two_stores_in_one_process_see_each_other(tmp_path: Path) -> None:
    one, two = ByteStore(tmp_path / "a"), ByteStore(tmp_path / "a")
    one.put(ANSWERS[:2])
    assert two.get([ANSWERS[1][0]]) == dict([ANSWERS[1]])
    two.put(ANSWERS[2:4])
    assert len(one.get([key for key, _ in ANSWERS[:9]])) == 4
    one.close()
    two.close()
