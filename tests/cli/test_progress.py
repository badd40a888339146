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
    assert lines[0] == "sst2: 50/100 texts, 50 s left"
    assert lines[-1] == "sst2: 50/100 texts, 50 s left"
    assert len(lines) == 3  # what has just begun says nothing yet


def test_a_finished_piece_is_a_line_at_once_and_an_unknown_time_is_not_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress_bars() as report:
        report(Progress(stage="cells", done=0, total=3, unit="cells", note="a, sst2", is_even=False))
        report(Progress(stage="cells", done=1, total=3, is_even=False, finished="a, sst2: acc 81.3 ±2.6"))
        now[0] = 60.0
        report(Progress(stage="cells", done=1, total=3, unit="cells", note="b, sst2", is_even=False))
    assert capsys.readouterr().err.splitlines() == ["[1/3] a, sst2: acc 81.3 ±2.6", "cells: 1/3 cells, b, sst2"]
