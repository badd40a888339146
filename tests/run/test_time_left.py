"""The time that a run still takes: by variant and rows, not by the number of cells."""

from collections import Counter

import pytest

from lmtasks.cli.progress import _Plain
from lmtasks.progress_bars import bars_on
from lmtasks.records import Progress
from lmtasks.run.trials import TimeLeft


def test_more_rows_take_longer_and_another_variant_what_it_took() -> None:
    left = TimeLeft()
    assert left.of(Counter([("mini", 64)])) is None
    for seconds in (9.0, 11.0):
        left.took("mini", rows=64, seconds=seconds)
    left.took("tf-idf", rows=64, seconds=1.0)
    assert left.of({}) == 0
    assert left.of(Counter([("mini", 64), ("tf-idf", 64)])) == pytest.approx(11)
    assert left.of(Counter([("mini", 256)])) == pytest.approx(40)
    left.took("mini", rows=256, seconds=25.0)
    assert left.of(Counter([("mini", 256), ("mini", 512)])) == pytest.approx(75)
    assert left.of(Counter([("tf-idf", 64), ("new", 4000)])) is None  # nobody knows yet
    assert left.of(Counter([("tf-idf", 0)])) == pytest.approx(1)


def test_what_is_known_of_the_time_left_is_what_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _Plain()
    for seconds in (0.0, 60.0):
        monkeypatch.setattr("time.monotonic", lambda seconds=seconds: seconds)
        plain(Progress(stage="cells", done=1, total=3, unit="cells", seconds_left=4000.0))
        plain(Progress(stage="other", done=1, total=3, unit="cells"))
    err = capsys.readouterr().err
    assert "cells: 1/3 cells, 1 h 6 min left" in err
    assert "other: 1/3 cells\n" in err


def test_bars_show_it_too() -> None:
    import io

    drawn = io.StringIO()
    with bars_on(drawn) as report:
        report(Progress(stage="cells", done=1, total=3, unit="cells", seconds_left=3725.0))
        report(Progress(stage="other", done=1, total=3))
    assert "1:02:05 left" in drawn.getvalue()
    with bars_on(drawn) as report:
        report(Progress(stage="cells", done=1, total=3, is_even=False))
        report(Progress(stage="other", done=1, total=3))
        report(Progress(stage="cells", done=2, total=3, is_even=False, finished="a, sst2: acc 81.3"))
    assert drawn.getvalue().count("left") == 1
    assert "a, sst2: acc 81.3\n" in drawn.getvalue()
    assert drawn.getvalue().rindex("cells") < drawn.getvalue().rindex("other")  # that of the whole stands first
