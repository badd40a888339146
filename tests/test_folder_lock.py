"""Only one process writes to a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from lmtasks.errors import WorkError
from lmtasks.files import locked

HOLD = "import sys; from pathlib import Path; from lmtasks.files import locked\n" + (
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
)


def _holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    holder = _holder(folder)
    with pytest.raises(WorkError, match=rf"run is being written by another lmtasks \(process {holder.pid}\)"):
        locked(folder).__enter__()
    holder.communicate()
    with locked(folder):
        pass


def test_a_killed_holder_leaves_nothing_that_anybody_must_remove(tmp_path: Path) -> None:
    holder = _holder(tmp_path / "run")
    holder.kill()
    holder.communicate()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run.lock").is_file()
    assert not (tmp_path / "run.lock").exists()


def test_it_ends_with_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / "run"):
        raise ValueError("inside")
    with locked(tmp_path / "run"):
        pass


def test_work_that_fails_leaves_no_empty_folders(tmp_path: Path) -> None:
    with locked(tmp_path / "runs" / "one" / "two"):
        pass
    assert not (tmp_path / "runs").exists()
    with locked(tmp_path / "runs" / "one"):
        (tmp_path / "runs" / "one").mkdir()
    assert (tmp_path / "runs" / "one").is_dir()
