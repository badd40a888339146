"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is done is kept, locks and half-written files are gone."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lmtasks.interruption import ENDING


class Ending:
    """Which signal asked the process to end; none at first."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler: unwinds the work as Ctrl-C does.

        Raises:
            KeyboardInterrupt: always.
        """
        self.signal = signal.Signals(number)
        raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """The exit code that shells know a signal by: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def how(self) -> str:
        """For people."""
        return "interrupted" if self.signal in (None, signal.SIGINT) else f"ended by {self.signal.name}"


@contextmanager
def handled() -> Iterator[Ending]:
    """Every ending signal is raised as `KeyboardInterrupt`, but for those that the process was started to ignore
    (`nohup`); handlers are as before afterwards."""
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {
        number: handler
        for number in ENDING
        if (handler := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler)
    }
    try:
        for number in before:
            signal.signal(number, ending)
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
