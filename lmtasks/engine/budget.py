"""How many tokens a batch holds when nobody says so: what the memory has room for, and no more than is of use."""

from typing import TypeVar

from lmtasks.runtime.base import Runtime

State = TypeVar("State")

MOST_TOKENS = {"cpu": 768}
"""A processor is busy with so many; more mostly take memory (4 choices, 30M parameters, two cores: 3.2 s with these,
3.1 with 1,024, 3.3 with 512; each 256 tokens take 15 MB)."""
MOST_TOKENS_ELSEWHERE = 32_768
LEAST_TOKENS = 128
ENOUGH_TOKENS = {"cpu": 256}
"""With so many a processor's products are as fast a token as with more. 16 rows of 10 to 69 tokens through a package of
10M parameters, two cores: 104 ms in one batch, 50 in several of rows that are about as long."""
ENOUGH_TOKENS_ELSEWHERE = 1024
ACTIVATIONS = 96
"""Bytes a token takes for each unit of the model's width: about two dozen vectors in fp32 live at a time."""
SHARE = 0.5
"""Of the free memory, for one batch."""
KEPT_TOKENS = 4
"""While texts are written, so many times the tokens of a batch are kept as keys and values."""


def auto_tokens(runtime: Runtime[State]) -> int:
    """Tokens of a batch, from the memory that is free now and the size of the model.

    The width is taken for that of a model with one layer, so this errs on the careful side; what is wrong all the same
    is put right by halving.
    """
    most = MOST_TOKENS.get(runtime.card.device.split(":")[0], MOST_TOKENS_ELSEWHERE)
    free = runtime.free_bytes()
    if free is None:
        return most
    width = max(64.0, (runtime.model.parameters / 12) ** 0.5)
    return max(LEAST_TOKENS, min(most, int(free * SHARE / (ACTIVATIONS * width))))


def enough_tokens(runtime: Runtime[State]) -> int:
    """Tokens of a batch that is not filled up with padding; see `Budget`."""
    return ENOUGH_TOKENS.get(runtime.card.device.split(":")[0], ENOUGH_TOKENS_ELSEWHERE)
