"""What the system says, in one sentence."""

import errno

import pytest

from lmtasks.cli.error_output import failure_of
from lmtasks.errors import GateError, UsageError, WorkError


@pytest.mark.parametrize(
    ("error", "code", "fragment"),
    [
        (UsageError("wrong."), 2, "wrong."),
        (WorkError("failed."), 1, "failed."),
        (GateError("no."), 3, "no."),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), 1, "the disk that holds runs/a is full"),
        (OSError(errno.EROFS, "Read-only file system", "runs/a"), 1, "runs/a cannot be read or written (Read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), 1, "check its permissions"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), 1, "a file has that name or is above it"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), 1, "there is no file or folder a/b."),
        (OSError("strange"), 1, "strange"),
        (MemoryError(), 1, "the memory is full"),
        (ModuleNotFoundError("No module named 'ray'", name="ray"), 1, "the package ray is not installed"),
    ],
)
def test_a_sentence_and_a_code(error: Exception, code: int, fragment: str) -> None:
    failure = failure_of(error)
    assert failure.code == code
    assert fragment in failure.sentence
    assert "\n" not in failure.sentence
