"""`Progress` on standard error: on a terminal bars with the time left, elsewhere a line on every piece that is
finished, and one every few seconds on a stage that takes long."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmtasks.cli.output import output
from lmtasks.cli.streams import VisibleStream
from lmtasks.progress_bars import Report, bars_on, quiet
from lmtasks.visible import shown_line

if TYPE_CHECKING:
    from lmtasks.records import Progress

PLAIN_SECONDS = 10.0
"""Between two lines where no terminal is attached."""


@contextmanager
def progress_bars() -> Iterator[Report]:
    """A callback that draws; all on standard error, so that standard output holds results only."""
    if output().quiet:
        yield quiet
        return
    if not sys.stderr.isatty():
        yield _Plain()
        return
    # Bars move the cursor, so they draw behind the filter that keeps others from doing so.
    terminal = sys.stderr.terminal if isinstance(sys.stderr, VisibleStream) else sys.stderr
    with bars_on(terminal) as draw:
        yield draw


class _Plain:
    """Lines on pieces that are finished; and of a stage that takes long a line every few seconds, with the time left
    where it is known."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[float, int]] = {}
        self.printed: dict[str, float] = {}
        self.done: dict[str, int] = {}

    def __call__(self, report: "Progress") -> None:
        from lmtasks.report.format import duration

        now = time.monotonic()
        if report.finished:
            print(shown_line(f"[{report.done}/{report.total}] {report.finished}"), file=sys.stderr, flush=True)
        if report.done < self.done.get(report.stage, 0):  # the same stage again, of the next variant
            del self.started[report.stage], self.printed[report.stage]
        self.done[report.stage] = report.done
        began, first = self.started.setdefault(report.stage, (now, report.done))
        last = self.printed.setdefault(report.stage, began)
        if now - last < PLAIN_SECONDS:
            return
        self.printed[report.stage] = now
        rate = (report.done - first) / (now - began) if now > began and report.is_even else 0.0
        todo = report.total - report.done
        seconds = report.seconds_left if report.seconds_left is not None else todo / rate if rate else None
        left = f", {duration(seconds, whole=True)} left" if seconds is not None and todo > 0 else ""
        note = f", {report.note}" if report.note else ""
        line = f"{report.stage}: {report.done}/{report.total} {report.unit}{left}{note}"
        print(shown_line(line), file=sys.stderr, flush=True)
