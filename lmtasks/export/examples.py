"""Example tensors to trace with. All sizes differ and are above 1; none of the values matters."""

from lmtasks.export.trace import Input

BATCH, LENGTH, SOURCE, PAST = 3, 7, 6, 5


def ids_input(name: str, *, vocabulary: int, columns: int, axis: str) -> Input:
    """Token ids, (B, `columns`)."""
    import torch

    ids = (torch.arange(BATCH * columns) * 13 + 5).reshape(BATCH, columns) % vocabulary
    return Input(name=name, example=ids, axes={0: "batch", 1: axis})


def mask_input(name: str, *, columns: int, axis: str) -> Input:
    """True at tokens, (B, `columns`), all of them."""
    import torch

    return Input(name=name, example=torch.ones(BATCH, columns, dtype=torch.bool), axes={0: "batch", 1: axis})


def cache_input(name: str, *, heads: int, width: int, columns: int, axis: str) -> Input:
    """Keys or values of one layer, (B, `heads`, `columns`, `width`)."""
    import torch

    example = torch.ones(BATCH, heads, columns, width)
    return Input(name=name, example=example, axes={0: "batch", 2: axis})
