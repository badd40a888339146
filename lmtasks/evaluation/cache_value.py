"""Answers as bytes and back, exactly: what comes out is bit for bit what went in.

    scored       flags (1 byte), log-probability (8), then those of the tokens: 4 bytes each where that is exact, else 8
    logits       type (1), number of axes (1), their sizes (4 each), the values
    generated    flags (1), number of tokens (4), token ids in 2 or 4 bytes each, the text in UTF-8

A value that is no finite number is not kept: whether it was the model or a fault, it is worth asking again.
"""

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Generic, TypeVar, get_args

import numpy as np

from lmtasks.engine.requests import Generated, Scored, Stopped
from lmtasks.records import Floats32

_Answer = TypeVar("_Answer")

GREEDY, TRUNCATED, WIDE = 1, 2, 4
"""Flags. WIDE: token log-probabilities need 8 bytes, or token ids need 4."""
STOPPED: tuple[Stopped, ...] = get_args(Stopped)
STOPPED_SHIFT = 4
SCORED_HEAD, GENERATED_HEAD = Struct("=Bd"), Struct("=BI")
TWO_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Codec(Generic[_Answer]):
    """How answers of one kind are kept."""

    pack: Callable[[_Answer], bytes | None]
    """None: not to be kept."""
    unpack: Callable[[bytes], _Answer]


def pack_scored(answer: Scored) -> bytes | None:
    """See above.

    >>> answer = Scored(logprob=-1.5, greedy=True, token_logprobs=(-1.0, -0.5))
    >>> len(pack_scored(answer)), unpack_scored(pack_scored(answer)) == answer
    (17, True)
    """
    if not math.isfinite(answer.logprob):
        return None
    tokens = array("f", answer.token_logprobs)
    flags = GREEDY * answer.greedy | TRUNCATED * answer.truncated
    if tuple(tokens) != answer.token_logprobs:
        tokens = array("d", answer.token_logprobs)
        flags |= WIDE
    return SCORED_HEAD.pack(flags, answer.logprob) + tokens.tobytes()


def unpack_scored(value: bytes) -> Scored:
    """The inverse of `pack_scored`."""
    flags, logprob = SCORED_HEAD.unpack_from(value)
    tokens = array("d" if flags & WIDE else "f", value[SCORED_HEAD.size :])
    return Scored(
        logprob=logprob,
        greedy=bool(flags & GREEDY),
        token_logprobs=tuple(tokens),
        truncated=bool(flags & TRUNCATED),
    )


def pack_logits(answer: Floats32) -> bytes | None:
    """See above."""
    if not np.isfinite(answer).all():
        return None
    sizes = array("I", answer.shape)
    return answer.dtype.char.encode() + bytes([answer.ndim]) + sizes.tobytes() + np.ascontiguousarray(answer).tobytes()


def unpack_logits(value: bytes) -> Floats32:
    """The inverse of `pack_logits`; may be written to."""
    axes = value[1]
    sizes = array("I", value[2 : 2 + 4 * axes])
    logits: Floats32 = np.frombuffer(value, dtype=value[:1].decode(), offset=2 + 4 * axes).reshape(tuple(sizes)).copy()
    return logits


def pack_generated(answer: Generated) -> bytes | None:
    """See above."""
    wide = max(answer.ids, default=0) >= TWO_BYTES
    flags = TRUNCATED * answer.truncated | WIDE * wide | STOPPED.index(answer.stopped) << STOPPED_SHIFT
    ids = array("I" if wide else "H", answer.ids)
    return GENERATED_HEAD.pack(flags, len(ids)) + ids.tobytes() + answer.text.encode("utf-8", "surrogatepass")


def unpack_generated(value: bytes) -> Generated:
    """The inverse of `pack_generated`."""
    flags, count = GENERATED_HEAD.unpack_from(value)
    text = GENERATED_HEAD.size + count * (4 if flags & WIDE else 2)
    return Generated(
        ids=tuple(array("I" if flags & WIDE else "H", value[GENERATED_HEAD.size : text])),
        text=value[text:].decode("utf-8", "surrogatepass"),
        stopped=STOPPED[flags >> STOPPED_SHIFT],
        truncated=bool(flags & TRUNCATED),
    )


SCORED = Codec[Scored](pack=pack_scored, unpack=unpack_scored)
LOGITS = Codec[Floats32](pack=pack_logits, unpack=unpack_logits)
GENERATED = Codec[Generated](pack=pack_generated, unpack=unpack_generated)
