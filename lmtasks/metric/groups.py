"""A group's value over its tasks, with lm-evaluation-harness 0.4.13's formulas (`api/metrics.py`).

Weighted by size (micro), with m_i the value, e_i the standard error and n_i the number of examples of task i of k:

    value  sum m_i n_i / sum n_i        stderr  sqrt( sum (n_i - 1) n_i e_i^2 / (sum n_i - k) / sum n_i )

Unweighted (macro), the tasks being independent:

    value  sum m_i / k                  stderr  sqrt( sum e_i^2 ) / k

>>> total = aggregate([0.5, 0.8], stderrs=[0.05, 0.02], sizes=[100, 300], weight_by_size=True)
>>> round(total.value, 4), round(total.stderr or 0, 6)
(0.725, 0.019515)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from lmtasks.errors import WorkError

NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True)
class GroupValue:
    """What a group scores."""

    value: float
    stderr: float | None
    """None where a task has none."""

    @property
    def ci95(self) -> tuple[float, float] | None:
        """1.96 standard errors around the value."""
        if self.stderr is None:
            return None
        return self.value - NORMAL_95 * self.stderr, self.value + NORMAL_95 * self.stderr


def aggregate(
    values: Sequence[float], *, stderrs: Sequence[float | None], sizes: Sequence[int], weight_by_size: bool
) -> GroupValue:
    """The group's value and standard error.

    Args:
        values, stderrs, sizes: of each task.
        weight_by_size: micro; else macro.

    Raises:
        WorkError: there are no tasks.
    """
    if not values:
        raise WorkError("a group of no tasks has no value.")
    weights = list(sizes) if weight_by_size else [1] * len(values)
    value = sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
    known = [stderr for stderr in stderrs if stderr is not None]
    if len(known) < len(values):
        return GroupValue(value=value, stderr=None)
    if not weight_by_size:
        return GroupValue(value=value, stderr=sqrt(sum(stderr**2 for stderr in known)) / len(known))
    spread = sum((size - 1) * stderr**2 * size for size, stderr in zip(sizes, known, strict=True))
    free = sum(sizes) - len(sizes)
    return GroupValue(value=value, stderr=sqrt(spread / free / sum(sizes)) if free else None)
