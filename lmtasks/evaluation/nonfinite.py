"""Whose answer is no number, where examples of one batch spoil each other's.

What stands in one batch is computed by the same products, and 0 times NaN is NaN: where one example overflows, its
neighbours' answers may be NaN too. Asked apart, each shows whether it is the one.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from lmtasks.errors import NoNumberError
from lmtasks.evaluation.pending import Replies

Ask = Callable[[Sequence[int]], Sequence[Replies]]
"""Asks the examples at these places again, and no others with them."""


def no_number(replies: Replies) -> float | None:
    """The first NaN or infinity among the answers about an example; None where all are numbers."""
    for each in replies.scored:
        if not math.isfinite(each.logprob):
            return each.logprob
    for logits in replies.logits:
        wrong = np.ravel(logits)[~np.isfinite(np.ravel(logits))]
        if wrong.size:
            return float(wrong[0])
    return None


def asked_apart(replies: Sequence[Replies], *, owners: Sequence[object], ask: Ask) -> list[Replies]:
    """The replies (N,), those that are no numbers asked again: what stays without one is at fault itself.

    By halves, so that a few faults cost a few questions, but of each owner the first one alone: a model that is broken
    as a whole shows it there. Once an owner has a fault, its others are left as they are.

    Args:
        owners: (N,) the task of each.
    """
    found = list(replies)
    blamed: list[object] = []

    def again(places: Sequence[int]) -> None:
        half = (len(places) + 1) // 2
        for part in (places[:half], places[half:]):
            asked = [place for place in part if owners[place] not in blamed]
            if not asked:
                continue
            for place, reply in zip(asked, ask(asked), strict=True):
                found[place] = reply
            left = [place for place in asked if no_number(found[place]) is not None]
            if len(asked) == 1:
                blamed.extend(owners[place] for place in left)
            elif left:
                again(left)

    unfit = [place for place, reply in enumerate(replies) if no_number(reply) is not None]
    for place in {owners[place]: place for place in reversed(unfit)}.values():
        again([place])
    again([place for place in unfit if no_number(found[place]) is not None])
    return found


def first_fault(count: int, *, ask: Ask) -> int:
    """The place of the first of `count` examples, at least one of which an engine refuses to answer."""
    first, behind = 0, count
    while behind - first > 1:
        middle = (first + behind) // 2
        try:
            ask(range(first, middle))
            first = middle
        except NoNumberError:
            behind = middle
    return first
