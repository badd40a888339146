"""Weights in 8 or 4 bits for `MatMulNBits`: blocks along the inner axis with a scale each, activations in fp32.

onnxruntime rounds the activations of a block to 8 bits while it multiplies (accuracy level 4), each row for itself, so
that answers do not depend on the batch. In 4 bits the value of largest size in a block becomes -8 exactly, which leaves
one more step than a symmetric range.
"""

import numpy as np
from numpy.typing import NDArray

from lmtasks.records import Floats32

BLOCK = 32
ACCURACY = 4
"""Products in 8 bits, the fastest that the operator has."""

Bytes = NDArray[np.uint8]


def packed_blocks(weight: Floats32, *, bits: int) -> tuple[Bytes, Floats32]:
    """W (K, N) -> blocks (N, K / 32, 32 x bits / 8), and scales (N, K / 32). The last block is filled up with zeros.

    >>> blocks, scales = packed_blocks(np.eye(32, 1, dtype=np.float32), bits=4)
    >>> blocks.shape, blocks[0, 0, :2].tolist(), scales.tolist()
    ((1, 1, 16), [128, 136], [[-0.125]])
    """
    inner, outer = weight.shape
    filled = np.zeros((outer, -(-inner // BLOCK) * BLOCK), dtype=np.float32)
    filled[:, :inner] = weight.T
    blocks = filled.reshape(outer, -1, BLOCK)
    middle = 2 ** (bits - 1)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[:, :, None], axis=2)
    scales = (largest / np.float32(-middle)).astype(np.float32)
    safe = np.where(scales == 0, np.float32(1), scales)
    whole = np.clip(np.rint(blocks / safe) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        whole = whole[:, :, ::2] | (whole[:, :, 1::2] << np.uint8(4))
    return whole, safe[:, :, 0]
