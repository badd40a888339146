import pytest

from lmtasks.bench.spec import Sweep, parse_sweeps
from lmtasks.errors import UsageError


def test_axes_are_read() -> None:
    assert parse_sweeps([]) == Sweep()
    assert parse_sweeps(["length=128, 32,128", "threads=2"]) == Sweep(length=(128, 32), threads=(2,))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["batch"], r"--sweep must be AXIS=NUMBERS, as in batch=1,8,32, was 'batch'"),
        (["bach=1"], r"unknown axis of --sweep 'bach'; did you mean 'batch'\?"),
        (["batch=1,x"], r"--sweep 'batch=1,x': values are whole numbers of at least 1 .*, not 'x'"),
        (["batch=0"], r"not '0'"),
        (["batch=1", "batch=2"], r"--sweep batch is given twice"),
    ],
)
def test_wrong_axes_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_sweeps(given)
