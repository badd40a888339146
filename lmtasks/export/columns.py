"""Weights in 8 bits with a scale for each column."""

import numpy as np
from numpy.typing import NDArray

from lmtasks.records import Floats32


def column_scales(weight: Floats32) -> Floats32:
    """max |W| / 127 of each column of W (K, N); 1 for a column of zeros."""
    largest = np.abs(weight).max(axis=0)
    return np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)


def rounded(weight: Floats32, scales: Floats32) -> NDArray[np.int8]:
    """W (K, N) in 8 bits, halves to even, within -127 and 127."""
    whole: NDArray[np.int8] = np.clip(np.rint(weight / scales), -127, 127).astype(np.int8)
    return whole
