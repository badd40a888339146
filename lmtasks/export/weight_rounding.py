"""Weights that rounding reaches in a graph, and the forms that they are rounded to.

Products with stored weights and tables are rounded where they are large enough. In 8 bits each column has a scale. For
`MatMulNBits` (`w8`, `int4`) blocks along the inner axis have one each: onnxruntime rounds the activations of a block to
8 bits while it multiplies (accuracy level 4), each row for itself, so that answers do not depend on the batch. The
value of largest size in a block becomes -128 (-8) exactly, which leaves one more step than a symmetric range.

Blocks of `w8` are long: a step of one text (30M Llama shape, two threads, AMD EPYC with AVX-512 VNNI and without AMX)
takes 1.49 times as long in `int8` as with blocks of 256, 1.36 with 128 and 1.09 with 32.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.export.graph import FLOAT
from lmtasks.records import Floats32

if TYPE_CHECKING:
    import onnx_ir as ir
LEAST_SIDE = 16
"""A weight with a shorter side (a classifier's two columns) stays in fp32: nothing is gained there, and much lost."""
LEAST_ROWS = 1024
"""A table with fewer rows (token types, short positions) stays in fp32."""
BLOCK = 32
"""Of 4 bits, where a longer one would lose too much, and of widths that longer ones do not suit."""
LONG_BLOCKS = (256, 128, 64)
"""Of 8 bits, the best first."""
MOST_FILLED = 1 / 16
"""So large a part of a width may be filled up with zeros, all of which are read and multiplied, to make it blocks."""
ACCURACY = 4
"""Products in 8 bits, the fastest that the operator has."""
Bytes = NDArray[np.uint8]


def products(model: "ir.Model") -> tuple[str, ...]:
    """Names of the weights that rounding would reach, products and tables, in the order of the graph."""
    names: list[str] = []
    for node in model.graph:
        reached = {"MatMul": (weight_of, 1), "Gemm": (weight_of, 1), "Gather": (table_of, 0)}.get(node.op_type)
        if node.domain == "" and reached is not None:
            look, place = reached
            value = node.inputs[place]
            names += [str(value.name)] if value is not None and look(value) is not None else []
    return tuple(dict.fromkeys(names))


def product_inputs(model: "ir.Model") -> Mapping[str, Sequence[Floats32]]:
    """Inputs of the products, by name, each with the weights (K, N) that it is multiplied with."""
    found: dict[str, list[Floats32]] = {}
    for node in model.graph:
        if node.domain == "" and node.op_type in {"MatMul", "Gemm"} and node.inputs[0] is not None:
            weight = weight_of(node.inputs[1])
            if weight is not None:
                turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
                found.setdefault(str(node.inputs[0].name), []).append(weight.T if turned else weight)
    return found


def weight_of(value: "ir.Value | None") -> Floats32 | None:
    """A stored matrix that is large enough to be rounded."""
    array = _matrix(value)
    return None if array is None or min(array.shape) < LEAST_SIDE else array


def table_of(value: "ir.Value | None") -> Floats32 | None:
    """A stored table that is large enough to be rounded."""
    array = _matrix(value)
    return None if array is None or array.shape[0] < LEAST_ROWS else array


def column_scales(weight: Floats32) -> Floats32:
    """max |W| / 127 of each column of W (K, N); 1 for a column of zeros."""
    largest = np.abs(weight).max(axis=0)
    return np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)


def rounded(weight: Floats32, scales: Floats32) -> NDArray[np.int8]:
    """W (K, N) in 8 bits, halves to even, within -127 and 127."""
    whole: NDArray[np.int8] = np.clip(np.rint(weight / scales), -127, 127).astype(np.int8)
    return whole


def block_length(inner: int, *, bits: int) -> int:
    """Weights of a block, along an inner axis of this width.

    >>> [block_length(inner, bits=8) for inner in (512, 1360, 576, 384, 96)], block_length(512, bits=4)
    ([256, 128, 64, 128, 32], 32)
    """
    suiting = [length for length in LONG_BLOCKS if -inner % length <= MOST_FILLED * inner]
    return suiting[0] if bits == 8 and suiting else BLOCK


def packed_blocks(weight: Floats32, *, bits: int) -> tuple[Bytes, Floats32]:
    """W (K, N) -> blocks (N, K / L, L x bits / 8), and scales (N, K / L), with L as `block_length` has it. The last
    block is filled up with zeros.

    >>> blocks, scales = packed_blocks(np.eye(32, 1, dtype=np.float32), bits=4)
    >>> blocks.shape, blocks[0, 0, :2].tolist(), scales.tolist()
    ((1, 1, 16), [128, 136], [[-0.125]])
    """
    inner, outer = weight.shape
    length = block_length(inner, bits=bits)
    filled = np.zeros((outer, -(-inner // length) * length), dtype=np.float32)
    filled[:, :inner] = weight.T
    blocks = filled.reshape(outer, -1, length)
    middle = 2 ** (bits - 1)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[:, :, None], axis=2)
    scales = (largest / np.float32(-middle)).astype(np.float32)
    safe = np.where(scales == 0, np.float32(1), scales)
    whole = np.clip(np.rint(blocks / safe) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        whole = whole[:, :, ::2] | (whole[:, :, 1::2] << np.uint8(4))
    return whole, safe[:, :, 0]


def _matrix(value: "ir.Value | None") -> Floats32 | None:
    """The value of a stored fp32 matrix; None for anything else."""
    tensor = None if value is None else value.const_value
    if tensor is None or tensor.dtype.value != FLOAT or len(tensor.shape) != 2:
        return None
    array: Floats32 = tensor.numpy()
    return array
