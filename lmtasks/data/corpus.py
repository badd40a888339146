"""Text for language modelling: documents become one long row of tokens, cut into full windows.

Nothing is stored but token arrays, on the disk: which window stands in which batch is a pure function of seed and
position, so that training can stop and go on anywhere and end with the same weights.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmtasks.data.documents import CorpusFacts, Document
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.held_out import held_out
from lmtasks.records import Ints, Progress

CHUNK = 1000

Tokens = NDArray[np.uint16 | np.uint32]


@dataclass(frozen=True, kw_only=True)
class TokenizedCorpus:
    """The tokens of one corpus, the held-out documents apart."""

    train: Tokens
    """(tokens,) the documents in a shuffled order, each followed by the end token."""
    held_out: tuple[tuple[str, int, Tokens], ...]
    """(source, UTF-8 bytes of the texts, tokens) for each source."""


def tokenize_corpus(
    documents: Iterable[Document],
    *,
    facts: CorpusFacts,
    tokenizer: Tokenizer,
    seed: int,
    folder: Path,
    report: Callable[[Progress], None],
) -> TokenizedCorpus:
    """Tokenize once and keep the arrays in `folder`, where a later call with the same inputs finds them.

    Args:
        documents: gone through once, with 1,000 of them in memory at a time; not at all where they are known.
        facts: what `survey` tells of them.

    Raises:
        UsageError: there is no document to train on.
    """
    key = hashlib.sha256(f"{tokenizer.hash} {seed} {facts.digest}".encode()).hexdigest()[:16]
    index_file = folder / f"{key}.json"
    if not index_file.is_file():
        _tokenize(documents, count=facts.documents, tokenizer=tokenizer, seed=seed, stem=folder / key, report=report)
    index = parse_json(index_file.read_text(encoding="utf-8"))
    held = tuple(
        (source, int(size), np.load(folder / f"{key}.held-{number}.npy"))
        for number, (source, size) in enumerate(index["held_out"])
    )
    return TokenizedCorpus(train=np.load(folder / f"{key}.train.npy", mmap_mode="r"), held_out=held)


class WindowSampler:
    """Full windows of several corpora, mixed by weight, shuffled by seed.

    Args:
        corpora: token arrays, each at least `window + 1` long.
        weights: share of windows drawn from each, in the same order; they need not sum to 1.
        window: tokens a row predicts; a row holds `window + 1` ids.
        names: of the corpora, for people.

    Raises:
        UsageError: a corpus is shorter than one window.
    """

    def __init__(
        self,
        corpora: Sequence[NDArray[np.integer]],
        *,
        weights: Sequence[float],
        window: int,
        seed: int,
        names: Sequence[str],
    ) -> None:
        for name, tokens in zip(names, corpora, strict=True):
            if len(tokens) < window + 1:
                raise UsageError(
                    f"{name} has {len(tokens)} tokens to train on, fewer than one window of {window + 1}; "
                    "give more text or a smaller --window."
                )
        self.corpora = corpora
        self.shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self.window = window
        self.seed = seed
        self._orders: dict[tuple[int, int], tuple[Ints, int]] = {}

    def rows(self, first: int, count: int) -> Ints:
        """Rows `first` to `first + count` of the endless stream: (count, window + 1)."""
        return np.stack([self._row(number) for number in range(first, first + count)])

    def _row(self, number: int) -> Ints:
        which, draw = self.place(number)
        tokens = self.corpora[which]
        windows = (len(tokens) - 1) // self.window
        epoch, position = divmod(draw, windows)
        if (which, epoch) not in self._orders:
            random = np.random.default_rng((self.seed, which, epoch))
            # Every epoch but the first begins elsewhere, so that it cuts the same text into other windows.
            self._orders[which, epoch] = (random.permutation(windows), int(random.integers(self.window) * (epoch > 0)))
        order, first = self._orders[which, epoch]
        start = first + int(order[position]) * self.window
        if start + self.window < len(tokens):
            return np.asarray(tokens[start : start + self.window + 1], dtype=np.int64)
        around = np.arange(start, start + self.window + 1)
        return np.take(tokens, around, mode="wrap").astype(np.int64)

    def place(self, number: int) -> tuple[int, int]:
        """The corpus that gives row `number`, and how many rows it has given before."""
        return take_turns(number, self.shares)


def take_turns(number: int, shares: NDArray[np.float64]) -> tuple[int, int]:
    """Whose turn `number` is among some that have shares, and how many turns it had before: evenly spread, with no
    state.

    >>> [take_turns(number, np.array([0.5, 0.25, 0.25])) for number in range(4)]
    [(2, 0), (0, 0), (1, 0), (0, 1)]
    """
    for which in range(len(shares) - 1):
        share = shares[which] / shares[which:].sum()
        before = int(number * share)
        if int((number + 1) * share) > before:
            return which, before
        number -= before
    return len(shares) - 1, number


def _tokenize(
    documents: Iterable[Document],
    *,
    count: int,
    tokenizer: Tokenizer,
    seed: int,
    stem: Path,
    report: Callable[[Progress], None],
) -> None:
    """Documents come in their order and are written in a shuffled one, by way of a file."""
    end = [tokenizer.eos if tokenizer.eos is not None else tokenizer.pad]
    dtype = np.uint16 if tokenizer.vocabulary <= 2**16 else np.uint32
    lengths = np.zeros(count, dtype=np.int64)
    held: dict[int, tuple[str, int, list[int]]] = {}
    stem.parent.mkdir(parents=True, exist_ok=True)
    stream = stem.with_name(stem.name + ".stream")
    with stream.open("wb") as file:
        for first, chunk in _chunks(documents):
            encoded = tokenizer.encode_many([item.text for item in chunk])
            for number, (document, ids) in enumerate(zip(chunk, encoded, strict=True), start=first):
                if held_out(document.text):
                    held[number] = (document.source, len(document.text.encode()), ids + end)
                else:
                    file.write(np.asarray(ids + end, dtype=dtype).tobytes())
                    lengths[number] = len(ids) + 1
            report(Progress(stage="tokenize", done=first + len(chunk), total=count, unit="documents"))
    total = int(lengths.sum())
    if not total:
        stream.unlink()
        raise UsageError("the text has no document to train on; give at least a few documents.")
    order = np.random.default_rng(seed).permutation(count)
    _shuffle(stream, Path(f"{stem}.train.npy"), lengths=lengths, order=order, dtype=dtype)
    stream.unlink()
    sources = sorted({source for source, _, _ in held.values()})
    sizes = []
    for place, source in enumerate(sources):
        kept = [held[number] for number in order.tolist() if number in held and held[number][0] == source]
        np.save(f"{stem}.held-{place}.npy", np.asarray([token for _, _, ids in kept for token in ids], dtype=dtype))
        sizes.append([source, sum(size for _, size, _ in kept)])
    Path(f"{stem}.json").write_text(json.dumps({"held_out": sizes}), encoding="utf-8")


def _shuffle(stream: Path, out: Path, *, lengths: NDArray[np.int64], order: Ints, dtype: type) -> None:
    ends = np.cumsum(lengths)
    tokens = np.memmap(stream, dtype=dtype, mode="r", shape=(int(ends[-1]),))
    shuffled = np.lib.format.open_memmap(out, mode="w+", dtype=dtype, shape=tokens.shape)
    at = 0
    for number in order.tolist():
        length = int(lengths[number])
        shuffled[at : at + length] = tokens[ends[number] - length : ends[number]]
        at += length
    shuffled.flush()


def _chunks(documents: Iterable[Document]) -> Iterable[tuple[int, list[Document]]]:
    going = iter(documents)
    first = 0
    while chunk := list(islice(going, CHUNK)):
        yield first, chunk
        first += len(chunk)
