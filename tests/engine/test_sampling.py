"""Draws, and the filters before them."""

import numpy as np
import pytest
import torch
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    TopHLogitsWarper,
    TypicalLogitsWarper,
)

from lmtasks.engine.sampling import draw, greedy, penalize, sample
from lmtasks.errors import UsageError, WorkError
from lmtasks.settings.generation import Decoding

PROBABILITIES = np.array([0.05, 0.4, 0.15, 0.3, 0.1])


def drawn(settings: Decoding, *, count: int = 400) -> set[int]:
    logits = np.log(PROBABILITIES)
    return {sample(logits, settings, at=at) for at in (np.arange(count) + 0.5) / count}


def test_draws_follow_the_probabilities() -> None:
    settings = Decoding(temperature=1.0)
    found = [sample(np.log(PROBABILITIES), settings, at=draw(seed=5, number=number, step=0)) for number in range(4000)]
    assert np.abs(np.bincount(found, minlength=5) / 4000 - PROBABILITIES).max() < 0.025


def test_draws_are_keyed() -> None:
    keys = [(seed, number, step) for seed in (0, 1, -3) for number in (0, 1, 7) for step in (0, 1, 2)]
    values = [draw(seed=seed, number=number, step=step) for seed, number, step in keys]
    assert len(set(values)) == len(keys)
    assert values == [draw(seed=seed, number=number, step=step) for seed, number, step in keys]
    assert all(0 <= value < 1 for value in values)


def test_draws_are_stable() -> None:
    # numpy 2.4.6: np.random.Generator(np.random.Philox(key=[1234, 0], counter=0)).random()
    assert draw(seed=1234, number=0, step=0) == pytest.approx(0.5, abs=0.5)
    generator = np.random.Generator(np.random.Philox(key=np.array([1234, 3], dtype=np.uint64), counter=2))
    assert draw(seed=1234, number=3, step=2) == generator.random()


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        (Decoding(temperature=1.0), {0, 1, 2, 3, 4}),
        (Decoding(temperature=1.0, top_k=2), {1, 3}),
        (Decoding(temperature=1.0, top_k=99), {0, 1, 2, 3, 4}),
        (Decoding(temperature=1.0, top_p=0.39), {1}),
        (Decoding(temperature=1.0, top_p=0.5), {1, 3}),
        (Decoding(temperature=1.0, top_p=0.85), {1, 2, 3}),
        (Decoding(temperature=1.0, min_p=0.3), {1, 2, 3}),
        # After top_k the probabilities are 4/7 and 3/7: the first alone reaches 0.55.
        (Decoding(temperature=1.0, top_k=2, top_p=0.55), {1}),
        (Decoding(temperature=0.01), {1}),
    ],
)
def test_filters(settings: Decoding, allowed: set[int]) -> None:
    assert drawn(settings) == allowed


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"top_h": 0.4}, TopHLogitsWarper(0.4)),
        ({"top_h": 0.05}, TopHLogitsWarper(0.05)),
        ({"typical_p": 0.3}, TypicalLogitsWarper(0.3)),
        ({"typical_p": 0.9}, TypicalLogitsWarper(0.9)),
        ({"epsilon_cutoff": 0.01}, EpsilonLogitsWarper(0.01)),
        ({"epsilon_cutoff": 0.9}, EpsilonLogitsWarper(0.9)),
        ({"eta_cutoff": 0.02}, EtaLogitsWarper(0.02)),
        ({"eta_cutoff": 0.6}, EtaLogitsWarper(0.6)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else type(value).__name__,
)
def test_filters_are_those_of_transformers(settings: dict[str, float], theirs: LogitsProcessor) -> None:
    for seed, spread in ((0, 0.3), (1, 1.0), (2, 3.0)):
        logits = np.random.default_rng(seed).standard_normal(120) * spread
        kept = theirs(torch.zeros((1, 0), dtype=torch.long), torch.tensor(logits)[None])[0]
        allowed = set(torch.isfinite(kept).nonzero()[:, 0].tolist())
        found = {
            sample(logits, Decoding(temperature=1.0, **settings), at=at)  # type: ignore[arg-type]
            for at in (np.arange(20_000) + 0.5) / 20_000
        }
        assert found <= allowed
        weights = np.exp(logits) * np.isin(np.arange(120), list(allowed))
        assert found >= set(np.flatnonzero(weights / weights.sum() > 1e-4).tolist())


def test_the_ends_of_the_interval() -> None:
    logits = np.log(np.array([0.5, 0.5, 1e-30]))
    settings = Decoding(temperature=1.0, top_k=2)
    assert sample(logits, settings, at=0.0) == 0
    assert sample(logits, settings, at=np.nextafter(1.0, 0.0)) == 1


def test_penalty_moves_both_signs_away() -> None:
    assert penalize(np.array([2.0, -2.0, 1.0]), seen=np.array([0, 1, 0]), penalty=2.0).tolist() == [1.0, -4.0, 1.0]


def test_greedy_takes_the_lowest_of_equals_and_refuses_nan() -> None:
    assert greedy(np.array([[1.0, 3.0, 3.0], [0.0, -np.inf, -1.0]], dtype=np.float32)).tolist() == [1, 0]
    with pytest.raises(WorkError, match="not numbers"):
        greedy(np.array([[1.0, np.nan]], dtype=np.float32))
    with pytest.raises(WorkError, match="not numbers"):
        greedy(np.full((1, 2), -np.inf, dtype=np.float32))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, was 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 2.0}, "min_p"),
        ({"num_beams": 0}, "num_beams"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"stop": ("",)}, "stop string"),
        ({"num_beams": 2, "temperature": 1.0}, "beam search draws nothing"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Decoding(**settings).check()  # type: ignore[arg-type]
