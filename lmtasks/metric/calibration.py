"""`ece`: expected calibration error of the choices (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

The confidence of an example is the probability of its answer (softmax of the scores). Confidences are cut into bins of
equal width, (0, 1/15], (1/15, 2/15], ...; ece is the mean over examples of a bin's |accuracy - mean confidence|.
Ten answers with confidence 0.9, of which seven are right, have an ece of 0.2.

Noise alone moves every bin away from zero, so an ece over few examples is too large, and resamples of it larger still.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.metric.base import Formula, Settings, of_rows, only
from lmtasks.metric.choice import probabilities
from lmtasks.records import Choice, Floats, Outcome

OPTIONS = ("bins",)
BINS = 15
"""The paper's."""


def expected_calibration_error(settings: Settings) -> Formula:
    """`ece`, with the option `bins`.

    Raises:
        UsageError: `bins` is no whole number above 0.
    """
    bins = _bins(settings.options)

    def weighted(rows: Floats, weights: Floats) -> Floats:
        place = np.clip(np.ceil(rows[:, 0] * bins).astype(np.int64) - 1, 0, bins - 1)
        gaps = np.zeros((len(rows), bins))
        gaps[np.arange(len(rows)), place] = rows[:, 1] - rows[:, 0]
        result: Floats = np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
        return result

    return of_rows(
        weighted,
        statistics=_confidences,
        per_example=lambda rows: np.abs(rows[:, 1] - rows[:, 0]),
        signature=f"bins:{bins}|width:equal|confidence:softmax-max",
        skewed=True,
    )


def _confidences(outcomes: Sequence[Outcome]) -> Floats:
    """(N, 2): the probability of the answer, and whether it is right."""
    choices = only(Choice, outcomes)
    table = probabilities(choices)
    found = table.argmax(axis=1)
    right = [float(answer in choice.gold) for answer, choice in zip(found.tolist(), choices, strict=True)]
    return np.stack([table.max(axis=1), np.array(right)], axis=1)


def _bins(options: Mapping[str, object]) -> int:
    given = options.get("bins", BINS)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise UsageError(f"ece: bins must be a whole number above 0, was: {given!r}.")
    return given
