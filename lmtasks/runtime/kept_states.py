"""Pooled states of backbones that stand still, kept in memory while a plan is carried out.

Many probes stand over one backbone, one for each seed and number of rows, and are scored on the same texts. Within
`states_kept` the backbone reads each text once for all of them (`model.state_keys` tells texts and ways to read apart).
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from lmtasks.records import Floats32

KEPT_BYTES = 512 * 2**20
"""Of states; those that were not needed for longest are computed again."""


class KeptStates:
    """States by key, (D,) each; several threads may ask at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._states: OrderedDict[bytes, Floats32] = OrderedDict()
        self._bytes = 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Floats32]:
        """Those that it has of these."""
        with self._lock:
            found = {key: self._states[key] for key in keys if key in self._states}
            for key in found:
                self._states.move_to_end(key)
        return found

    def put(self, states: dict[bytes, Floats32]) -> None:
        """Keep these."""
        with self._lock:
            for key, state in states.items():
                self._bytes += state.nbytes - (self._states[key].nbytes if key in self._states else 0)
                self._states[key] = state
            while self._bytes > KEPT_BYTES:
                self._bytes -= self._states.popitem(last=False)[1].nbytes


_KEPT: ContextVar[KeptStates | None] = ContextVar("states that are kept", default=None)


@contextmanager
def states_kept() -> Iterator[None]:
    """Let probes that are opened within the block share what their backbone makes of a text."""
    token = _KEPT.set(KeptStates())
    try:
        yield
    finally:
        _KEPT.reset(token)


def kept_states() -> KeptStates | None:
    """Where states are kept now; None: nowhere."""
    return _KEPT.get()
