"""Signals that end a process wait until a piece of work is whole.

with uninterrupted() as signals:
    while more():
        step()                      # Ctrl-C or SIGTERM in here is held; a second one reaches its handler at once
        if signals.held:
            break                   # behind the block it is raised
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING: tuple[signal.Signals, ...] = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)
"""What asks a process to end, and lets it say its last words."""


class HeldSignals:
    """Signals that arrived and wait. Signals without a Python handler, and threads but the main one, are left as they
    are.
    """

    def __init__(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        self._handlers = {each: found for each in ENDING if main and callable(found := signal.getsignal(each))}
        self._first: int | None = None

    @property
    def held(self) -> bool:
        """Did one arrive?"""
        return self._first is not None

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """In here signals reach their handlers as they come: for work that may be cut short anywhere."""
        self.restore()
        try:
            yield
        finally:
            self.hold()

    def hold(self) -> None:
        """From now on they wait."""
        for each in self._handlers:
            signal.signal(each, self._hold)

    def restore(self) -> None:
        """From now on they do not; one that waits is raised."""
        for each, handler in self._handlers.items():
            signal.signal(each, handler)
        if self._first is not None:
            number, self._first = self._first, None
            signal.raise_signal(number)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._first is not None:
            self._handlers[signal.Signals(number)](number, frame)
        self._first = number


@contextmanager
def uninterrupted() -> Iterator[HeldSignals]:
    """A signal that arrives within is raised at the end."""
    signals = HeldSignals()
    signals.hold()
    try:
        yield signals
    finally:
        signals.restore()
