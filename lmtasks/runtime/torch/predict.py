"""A head's answer over PyTorch, whatever backbone stands below it."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmtasks.errors import UsageError
from lmtasks.head import head_of
from lmtasks.records import Floats32, HeadSpec, TokenBatch
from lmtasks.runtime.align import align

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def checked_precision(precision: str) -> str:
    """A precision that torch computes in.

    Raises:
        UsageError: it is another one.
    """
    if precision not in DTYPES:
        raise UsageError(
            f"torch computes in {' or '.join(DTYPES)}, was asked for {precision!r}; 8 bits run in onnx: "
            "`lmtasks export --precision int8`."
        )
    return precision


def predicted(
    spec: HeadSpec,
    batch: TokenBatch,
    *,
    name: str,
    head: Callable[..., Tensor],
    tensor: Callable[[NDArray[np.generic]], Tensor],
) -> Floats32:
    """Logits of a head; padded positions hold `Head.padding`.

    Args:
        name: of the model.
        head: (name of the head, ids, mask, types) -> logits.
        tensor: an array on the model's device.

    Raises:
        UsageError: the head writes text.
    """
    if not spec.predicts:
        raise UsageError(f"head {spec.name!r} of {name} writes text; it has no logits to predict with.")
    aligned = align(batch, side="right")
    given = aligned.batch
    types = None if given.types is None else tensor(given.types)
    values: Floats32 = head(spec.name, tensor(given.ids), tensor(given.mask), types).float().cpu().numpy()
    kind = head_of(spec)
    return aligned.restore(values, padding=kind.padding) if kind.per_token else values
