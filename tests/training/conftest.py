"""The machine's rate of matrix products is measured once for all trainings of a test run, and not before each."""

from collections.abc import Iterator
from functools import cache

import pytest

from lmtasks.training import stepping


@pytest.fixture(autouse=True, scope="session")
def _one_rate() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepping, "_gemm_rate", cache(stepping._gemm_rate))
        yield
