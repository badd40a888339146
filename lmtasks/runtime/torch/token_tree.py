"""Rows that hold a tree of tokens: which token sees which, and where each one stands.

Axes: B rows, T columns.

>>> import torch
>>> sees = tree_mask(torch.zeros((1, 4)), torch.tensor([[4, 4, 3, 4]]))  # tokens a b, then c and d behind b
>>> sees[0].int().tolist()
[[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
>>> positions_of(sees).tolist()
[[0, 1, 2, 2]]
"""

import torch
from torch import Tensor


def tree_mask(ids: Tensor, reach: Tensor | None) -> Tensor:
    """(B, T) -> (B, T, T): does the token of the first column see that of the second? Each sees itself.

    Args:
        ids: for their shape.
        reach: (B, T), see `Runtime.score`; None: every token sees all before it.
    """
    columns = torch.arange(ids.shape[1], device=ids.device)
    before = columns[:, None] >= columns
    if reach is None:
        return before.expand(ids.shape[0], -1, -1)
    own = columns[:, None] == columns  # padding sees itself at least: a softmax over nothing is no number
    return (before & (columns[:, None] < reach[:, None, :])) | own


def positions_of(sees: Tensor) -> Tensor:
    """(B, T, T) -> (B, T): how many others each token sees."""
    return sees.sum(-1) - 1


def shut_mask(sees: Tensor, *, before: int, dtype: torch.dtype) -> Tensor:
    """(B, T, T) -> what attention adds to its scores, (B, 1, T, P + T): nothing, or so little that it is shut.

    Args:
        before: P columns before the row, which every token sees.
    """
    shut = torch.zeros((*sees.shape[:2], before + sees.shape[2]), dtype=dtype, device=sees.device)
    shut[:, :, before:].masked_fill_(~sees, torch.finfo(dtype).min)
    return shut[:, None]
