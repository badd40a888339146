"""Bars with the time left, on a terminal and in a notebook; started by the first report, so that nothing is drawn over
the bars of a download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from lmtasks.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, Task, TaskID

    from lmtasks.records import Progress

Report = Callable[["Progress"], None]
"""Takes each report of progress; `quiet` drops it."""


def quiet(progress: Progress) -> None:
    """Draw nothing."""


@contextmanager
def bars_on(terminal: TextIO | None = None) -> Iterator[Report]:
    """A callback that draws, one bar a stage.

    Args:
        terminal: where; None: standard error, or in a notebook the output of the cell.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        _time_left(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=Console(file=terminal) if terminal is not None else Console(stderr=True),
    )
    try:
        yield _Drawn(bars)
    finally:
        bars.stop()


def is_watched() -> bool:
    """Does somebody see bars: is standard error a terminal, or the process a notebook's?"""
    from rich.console import Console

    console = Console(stderr=True)
    return console.is_terminal or console.is_jupyter


def _time_left() -> ProgressColumn:
    """The time left as whoever works knows it, else by the rate of parts that take alike; nothing where neither is
    known."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            seconds = task.fields["seconds_left"]
            if seconds is None and task.fields["is_even"]:
                seconds = task.time_remaining
            if seconds is None or task.finished:
                return Text("")
            minutes, rest = divmod(round(seconds), 60)
            hours, minutes = divmod(minutes, 60)
            return Text(f"{hours:d}:{minutes:02d}:{rest:02d} left", style="progress.remaining")

    return TimeLeft()


class _Drawn:
    """Stages as bars, each from its first report on; behind the first, which is that of the whole, a bar goes when its
    stage ends."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._known: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}

    def __call__(self, report: Progress) -> None:
        """Draw one report."""
        if not self._known:
            self._bars.start()
        if report.stage not in self._known:
            shown = visible(report.stage)
            self._known[report.stage] = self._bars.add_task(
                shown, total=report.total, unit=report.unit, note="", seconds_left=None, is_even=report.is_even
            )
        elif report.done < self._done[report.stage]:  # the same stage again, of the next variant: its clock starts anew
            self._bars.reset(self._known[report.stage], total=report.total)
        self._done[report.stage] = report.done
        if report.finished:
            self._bars.console.print(visible(report.finished), markup=False, highlight=False)
        is_first = report.stage == next(iter(self._known))
        self._bars.update(
            self._known[report.stage],
            completed=report.done,
            total=report.total,
            note=visible(report.note),
            seconds_left=report.seconds_left,
            is_even=report.is_even,
            visible=is_first or report.done < report.total,
        )
