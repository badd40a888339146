"""Text for language modelling: documents become one long row of tokens, cut into full windows.

Nothing is stored but token arrays: which window stands in which batch is a pure function of seed and position,
so that training can stop and go on anywhere and end with the same weights.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmtasks.data.files import read_file
from lmtasks.data.options import DataOptions
from lmtasks.data.rows import read_rows
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError, unknown
from lmtasks.records import Ints, Progress
from lmtasks.task.task import Source

HELD_OUT_PER_MILLE = 5
CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text and the name of the source that it came from."""

    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class TokenizedCorpus:
    """The tokens of one corpus, the held-out documents apart."""

    train: NDArray[np.uint16 | np.uint32]
    """(tokens,) the documents in a shuffled order, each followed by the end token."""
    held_out: tuple[tuple[str, int, NDArray[np.uint16 | np.uint32]], ...]
    """(source, UTF-8 bytes of the texts, tokens) for each source."""


def held_out(text: str) -> bool:
    """Is this document kept for evaluation? Decided by its content alone, so any order gives the same answer."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 1000 < HELD_OUT_PER_MILLE


def tokenize_corpus(
    documents: Sequence[Document],
    *,
    tokenizer: Tokenizer,
    seed: int,
    folder: Path,
    report: Callable[[Progress], None],
) -> TokenizedCorpus:
    """Tokenize once and keep the arrays in `folder`, where a later call with the same inputs finds them.

    Raises:
        UsageError: there is no document to train on.
    """
    digest = hashlib.sha256(f"{tokenizer.hash} {seed}".encode())
    for document in documents:
        digest.update(document.text.encode())
    key = digest.hexdigest()[:16]
    index_file = folder / f"{key}.json"
    if not index_file.is_file():
        _tokenize(documents, tokenizer=tokenizer, seed=seed, stem=folder / key, report=report)
    index = json.loads(index_file.read_text(encoding="utf-8"))
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
    """

    def __init__(
        self, corpora: Sequence[NDArray[np.integer]], *, weights: Sequence[float], window: int, seed: int
    ) -> None:
        for number, tokens in enumerate(corpora):
            if len(tokens) < window + 1:
                raise UsageError(
                    f"corpus {number} has {len(tokens)} tokens, fewer than one window of {window + 1}; "
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
        """Which corpus gives row `number`, and how many rows it has given before: evenly spread, with no state."""
        for which in range(len(self.corpora) - 1):
            share = self.shares[which] / self.shares[which:].sum()
            before = int(number * share)
            if int((number + 1) * share) > before:
                return which, before
            number -= before
        return len(self.corpora) - 1, number


def read_documents(data: str, *, column: str, options: DataOptions) -> tuple[Document, ...]:
    """The texts of a file, or of the train split of a folder or a Hub data set; empty ones are dropped.

    A column `source`, where there is one, names where each text is from.

    Raises:
        UsageError: no such data, or it lacks the column.
    """
    file = Path(data)
    rows = read_file(file) if file.is_file() else read_rows(Source(path=data, split="train"), options=options)[0]
    if not rows or column not in rows[0]:
        raise unknown(f"column of {data}", column, rows[0] if rows else ())
    named = [(str(row[column] or ""), str(row.get("source") or file.name)) for row in rows]
    return tuple(Document(text=text, source=source) for text, source in named if text.strip())


def by_source(corpora: Sequence[Sequence[Document]], *, sources: Sequence[str]) -> list[tuple[Document, ...]]:
    """The documents of each source, in the order of `sources`.

    Raises:
        UsageError: a source is not there, or one that is there is not named.
    """
    found: dict[str, list[Document]] = {}
    for corpus in corpora:
        for document in corpus:
            found.setdefault(document.source, []).append(document)
    for source in sources:
        if source not in found:
            raise unknown("source", source, found)
    left = [source for source in found if source not in sources]
    if left:
        raise UsageError(f"--mix must give every source of the text its share; {', '.join(left)} has none.")
    return [tuple(found[source]) for source in sources]


def _tokenize(
    documents: Sequence[Document],
    *,
    tokenizer: Tokenizer,
    seed: int,
    stem: Path,
    report: Callable[[Progress], None],
) -> None:
    end = [tokenizer.eos if tokenizer.eos is not None else tokenizer.pad]
    dtype = np.uint16 if tokenizer.vocabulary <= 2**16 else np.uint32
    order = np.random.default_rng(seed).permutation(len(documents))
    train: list[NDArray[np.integer]] = []
    held: dict[str, tuple[int, list[int]]] = {}
    for start in range(0, len(order), CHUNK):
        chunk = [documents[index] for index in order[start : start + CHUNK]]
        for document, ids in zip(chunk, tokenizer.encode_many([item.text for item in chunk]), strict=True):
            if held_out(document.text):
                size, tokens = held.get(document.source, (0, []))
                held[document.source] = (size + len(document.text.encode()), tokens + ids + end)
            else:
                train.append(np.asarray(ids + end, dtype=dtype))
        report(Progress(stage="tokenize", done=min(start + CHUNK, len(order)), total=len(order), unit="documents"))
    if not train:
        raise UsageError("the text has no document to train on; give at least a few documents.")
    stem.parent.mkdir(parents=True, exist_ok=True)
    np.save(f"{stem}.train.npy", np.concatenate(train))
    for number, source in enumerate(sorted(held)):
        np.save(f"{stem}.held-{number}.npy", np.asarray(held[source][1], dtype=dtype))
    index = {"held_out": [[source, held[source][0]] for source in sorted(held)]}
    Path(f"{stem}.json").write_text(json.dumps(index), encoding="utf-8")
