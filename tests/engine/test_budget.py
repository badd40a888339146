"""Tokens of a batch when nobody says so."""

from dataclasses import replace

import pytest
from fake_runtime import FakeRuntime

from lmtasks.engine.schedule import LEAST_TOKENS, auto_tokens


class Room(FakeRuntime):
    """So much memory is free."""

    free: int | None = None

    def free_bytes(self) -> int | None:
        return self.free


@pytest.mark.parametrize(
    ("free", "parameters", "device", "tokens"),
    [
        (None, 30_000_000, "cpu", 768),
        (64 << 30, 30_000_000, "cpu", 768),
        (64 << 30, 30_000_000, "cuda:1", 32_768),
        (1 << 20, 30_000_000, "cpu", LEAST_TOKENS),
        (200 << 20, 30_000_000, "cpu", 690),
    ],
)
def test_it_follows_the_memory_and_the_model(free: int | None, parameters: int, device: str, tokens: int) -> None:
    runtime = Room(vocabulary=300)
    runtime.free = free
    runtime.model = replace(runtime.model, parameters=parameters)
    runtime.card = replace(runtime.card, device=device)
    assert auto_tokens(runtime) == pytest.approx(tokens, abs=2)
