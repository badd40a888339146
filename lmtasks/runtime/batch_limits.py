"""What every runtime over emitted graphs asks of a batch before it computes anything."""

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import ModelCard, TokenBatch


def check_batch(batch: TokenBatch, model: ModelCard, *, most: int | None = None) -> None:
    """
    Args:
        most: tokens a row may have; None: any number.

    Raises:
        UsageError: no rows, one of no tokens, or one of more than `most`.
    """
    counts = batch.mask.sum(axis=1)
    if not len(counts):
        raise UsageError("a batch of no rows was given; it needs at least one.")
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise UsageError(f"row {empty[0]} of a batch of {len(counts)} has no tokens; each needs at least one token.")
    if most is not None and int(counts.max()) > most:
        raise too_long(int(counts.max()), model)


def too_long(tokens: int, model: ModelCard) -> UsageError:
    """What is raised where a row has more tokens than the model has positions."""
    return UsageError(f"a row has {tokens} tokens, but {model.name} takes {model.max_length_tokens}; cut it.")
