"""Answers as bytes: exactly what went in, or nothing."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtasks.engine.requests import Generated, Scored
from lmtasks.evaluation.cache import (
    STOPPED,
    pack_generated,
    pack_logits,
    pack_scored,
    unpack_generated,
    unpack_logits,
    unpack_scored,
)

FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@given(st.lists(FLOATS, max_size=20), FLOATS, st.booleans(), st.booleans())
def test_scores_come_back_bit_for_bit(tokens: list[float], logprob: float, greedy: bool, cut: bool) -> None:
    answer = Scored(logprob=logprob, greedy=greedy, token_logprobs=tuple(tokens), truncated=cut)
    packed = pack_scored(answer)
    assert packed is not None
    back = unpack_scored(packed)
    assert back == answer
    assert [value.hex() for value in back.token_logprobs] == [value.hex() for value in tokens]
    assert back.logprob.hex() == logprob.hex()


def test_scores_of_a_float32_runtime_take_four_bytes_a_token() -> None:
    tokens = np.random.default_rng(0).normal(size=7).astype(np.float32).astype(np.float64)
    answer = Scored(logprob=float(tokens.sum()), greedy=False, token_logprobs=tuple(tokens.tolist()))
    packed = pack_scored(answer)
    assert packed is not None
    assert len(packed) == 1 + 8 + 4 * 7


@given(
    st.lists(st.integers(0, 300_000), max_size=20),
    st.text(st.characters(codec=None), max_size=20),  # halves of surrogate pairs too
    st.sampled_from(STOPPED),
    st.booleans(),
)
def test_texts_come_back(ids: list[int], text: str, stopped: str, cut: bool) -> None:
    answer = Generated(ids=tuple(ids), text=text, stopped=stopped, truncated=cut)  # type: ignore[arg-type]
    packed = pack_generated(answer)
    assert packed is not None
    assert unpack_generated(packed) == answer


@pytest.mark.parametrize("shape", [(2,), (5, 2), (0, 3), (4, 300)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_logits_come_back_with_shape_and_type(shape: tuple[int, ...], kind: type) -> None:
    logits = np.random.default_rng(1).normal(size=shape).astype(kind)
    packed = pack_logits(logits)
    assert packed is not None
    back = unpack_logits(packed)
    assert back.dtype == logits.dtype
    assert back.shape == shape
    assert back.tobytes() == logits.tobytes()
    back += 1  # as an engine's own answer


def test_a_view_of_an_array_is_kept_as_it_reads() -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    packed = pack_logits(table[:, ::2].T)
    assert packed is not None
    assert (unpack_logits(packed) == table[:, ::2].T).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_kept(bad: float) -> None:
    assert pack_scored(Scored(logprob=bad, greedy=False, token_logprobs=(bad,))) is None
    assert pack_logits(np.array([0.0, bad], np.float32)) is None


def test_no_field_of_an_answer_is_left_out() -> None:
    why = {"failed"}  # what failed is not kept
    assert {field.name for field in fields(Scored)} - why == {"logprob", "greedy", "token_logprobs", "truncated"}
    assert {field.name for field in fields(Generated)} - why == {"ids", "text", "stopped", "truncated"}
    assert pack_scored(Scored(logprob=-1.0, greedy=False, token_logprobs=(), failed="500")) is None
    assert pack_generated(Generated(ids=(), text="", stopped="end", truncated=False, failed="500")) is None
