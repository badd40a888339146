"""Probes of what a loaded model may share between rows: shared and plain answers are compared.

No list of families is kept. Models with relative positions (T5, ALiBi), recurrent ones, and those that make their own
masks answer differently when rows branch, or fail; then they get plain rows, and nothing else changes.
"""

from collections.abc import Callable

import numpy as np

from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Floats32, Ints, TokenBatch, TokenTargets
from lmtasks.runtime.align import every_next
from lmtasks.runtime.base import Runtime, Slots
from lmtasks.runtime.memory import OutOfMemory

CLOSE = 1e-4
"""So far may shared and plain log-probabilities lie apart."""
UNFIT = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, UsageError, WorkError)
"""Errors of a model that does not understand a request."""

TRUNK, BRANCHES = 5, (4, 3, 5)


def branches_agree(runtime: Runtime) -> bool:
    """Are answers of a row with branches those of plain rows?"""
    trunk, branches = _tokens(runtime, TRUNK), [_tokens(runtime, length, salt=length) for length in BRANCHES]
    packed, subtree_end, columns = list(trunk), [TRUNK + sum(BRANCHES)] * TRUNK, []
    for branch in branches:
        first = len(packed)
        packed += branch
        subtree_end += [len(packed)] * len(branch)
        columns += [TRUNK - 1, *range(first, len(packed) - 1)]
    tokens = [token for branch in branches for token in branch]
    targets = TokenTargets(
        rows=np.zeros(len(columns), dtype=np.int64), columns=np.array(columns), tokens=np.array(tokens)
    )

    def shared() -> Floats32:
        return runtime.score(_batch([packed]), targets, subtree_end=np.array([subtree_end])).logprobs

    return _agree(shared, lambda: _plain(runtime, trunk, branches))


def prefix_agrees(runtime: Runtime) -> bool:
    """Are answers of rows that continue a state those of whole rows?"""
    trunk, branches = _tokens(runtime, TRUNK), [_tokens(runtime, length, salt=length) for length in BRANCHES]
    # Each row begins with the trunk's last token: behind the state itself no token is ever a target.
    rows = _batch([[trunk[-1], *branch] for branch in branches])
    read, targets = every_next(rows)

    def shared() -> Floats32:
        state, _ = runtime.prefill(_batch([trunk[:-1]]))
        return runtime.score(read, targets, prefix_state=state).logprobs

    return _agree(shared, lambda: _plain(runtime, trunk, branches))


def slots_agree(runtime: Runtime, slots: Callable[[], Slots], *, joins: bool) -> bool:
    """Do rows in slots get the logits that rows get alone, while rows come (where they may) and go?"""
    prompts = [_tokens(runtime, length, salt=length) for length in (5, 2, 7)]
    new = np.array(_tokens(runtime, 3, salt=1))

    def in_slots() -> Floats32:
        made = slots()
        first = made.fill(_batch(prompts[:2] if joins else prompts))
        second = made.step(new[:2] if joins else new).copy()
        joined = made.fill(_batch(prompts[2:])) if joins else np.zeros((0, second.shape[1]), dtype=np.float32)
        third = made.step(new).copy()
        made.leave(0)
        return np.concatenate([first, second, joined, third, made.step(new[:2])])

    def apart() -> Floats32:
        found: list[list[Floats32]] = [[], [], [], []]
        for number, prompt in enumerate(prompts):
            late = joins and number == 2
            state, logits = runtime.prefill(_batch([prompt]))
            found[2 if late else 0].append(logits[0])
            if not late:
                state, logits = runtime.step(state, new[[number]])
                found[1].append(logits[0])
            state, logits = runtime.step(state, new[[number]])
            found[3].append(logits[0])
            found.append([runtime.step(state, new[[0 if number == 2 else 1]])[1][0]])
        # The last row took the first one's place.
        return np.array([*found[0], *found[1], *found[2], *found[3], *found[6], *found[5]])

    return _agree(in_slots, apart)


def _plain(runtime: Runtime, trunk: list[int], branches: list[list[int]]) -> Floats32:
    parts = []
    for branch in branches:
        read, targets = every_next(_batch([trunk + branch]))
        parts.append(runtime.score(read, targets).logprobs[TRUNK - 1 :])
    return np.concatenate(parts)


def _agree(shared: Callable[[], Floats32], plain: Callable[[], Floats32]) -> bool:
    try:
        wanted, found = plain(), shared()
    except OutOfMemory:
        raise
    except UNFIT:
        return False
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() < CLOSE)


def _tokens(runtime: Runtime, count: int, *, salt: int = 0) -> list[int]:
    """Tokens that differ from each other, wherever the vocabulary allows it."""
    return [(3 + 7 * place + 31 * salt) % runtime.model.vocabulary for place in range(count)]


def _batch(rows: list[list[int]]) -> TokenBatch:
    shape = (len(rows), max(map(len, rows)))
    ids: Ints = np.zeros(shape, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.bool_)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, True
    return TokenBatch(ids=ids, mask=mask)
