"""The plain form of progress: what a log file or CI sees."""

import time

import pytest

from lmtasks.cli.progress import progress_bars
from lmtasks.records import Progress


def test_a_stage_that_starts_again_has_a_clock_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def at(seconds: float, done: int) -> Progress:
        now[0] = seconds
        return Progress(stage="sst2", done=done, total=100, unit="texts")

    with progress_bars() as report:
        for seconds, done in ((0, 0), (50, 50), (100, 100), (4000, 0), (4050, 50)):
            report(at(seconds, done))
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "sst2: 50/100 texts, 50 s left"
    assert lines[-1] == "sst2: 50/100 texts, 50 s left"
