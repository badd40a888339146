"""Plain text of any size: documents are read anew each time somebody goes through them, and are never all in memory.

>>> texts = Documents(name="a list", rows=[{"text": "one"}, {"text": " "}, {"text": "two", "source": "mine"}])
>>> [(document.text, document.source) for document in texts]
[('one', 'a list'), ('two', 'mine')]
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmtasks.data.local import open_file
from lmtasks.data.rows import read_rows
from lmtasks.errors import UsageError, unknown
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import ReaderOptions, Source

SHORTEST_PASSAGE = 12
"""UTF-8 bytes of the shortest passage that is worth keeping."""
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|(?<=[。！？；])(?![”’」』）])|\s*\n\s*")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text and the name of the source that it came from."""

    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The texts of a column of rows; empty ones are left out.

    Raises while it is read:
        UsageError: a cell is no text; says in which row, and where in it.
    """

    name: str
    """Of the data, and of the source where no column `source` names it."""
    rows: Sequence[Row]
    column: str = "text"
    only: str | None = None
    """Take the documents of this source alone."""

    def __iter__(self) -> Iterator[Document]:
        for number, row in enumerate(self.rows):
            source = str(row.get("source") or self.name)
            if self.only is not None and source != self.only:
                continue
            text = _text(row[self.column], place=f"{self.name}, row {number}, column {self.column!r}")
            if text.strip():
                yield Document(text=text, source=source)


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """One source of text; its name says the terms, as the data set states them."""

    source: str
    corpus: int
    """Place of its corpus in the command."""
    documents: int
    bytes: int
    """UTF-8, held-out documents included."""


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """Counts of one pass over a corpus."""

    documents: int
    bytes: int
    sources: tuple[SourceFacts, ...]
    digest: str
    """sha256 over all texts, 16 hex digits."""


def read_documents(data: str, *, column: str, options: DataAccess, encoding: str | None = None) -> Documents:
    """The texts of a file, or of the train split of a folder or a Hub data set.

    A column `source`, where there is one, names where each text is from.

    Raises:
        UsageError: no such data, or it lacks the column.
    """
    file = Path(data)
    reading = None if encoding is None else ReaderOptions(encoding=encoding)
    if file.is_file():
        rows = open_file(file, reading=reading)
    else:
        rows, _ = read_rows(Source(path=data, split="train", reading=reading), options=options)
    first = next(iter(rows), {})
    if column not in first:
        raise unknown(f"column of {data}", column, first)
    return Documents(name=file.name, rows=rows, column=column)


def by_source(corpora: Sequence[Documents], *, sources: Sequence[str]) -> list[Iterable[Document]]:
    """The documents of each source, in the order of `sources`.

    Raises:
        UsageError: a source is not there, or one that is there is not named.
    """
    within = [dict.fromkeys(document.source for document in corpus) for corpus in corpora]
    found = {source: None for names in within for source in names}
    for source in sources:
        if source not in found:
            raise unknown("source", source, found)
    left = [source for source in found if source not in sources]
    if left:
        raise UsageError(f"--mix must give every source of the text its share; {', '.join(left)} has none.")
    return [
        Joined(
            parts=tuple(
                replace(corpus, only=source) for corpus, names in zip(corpora, within, strict=True) if source in names
            )
        )
        for source in sources
    ]


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Documents of several data sets, one behind the other."""

    parts: tuple[Documents, ...]

    def __iter__(self) -> Iterator[Document]:
        for part in self.parts:
            yield from part


def survey(documents: Iterable[Document], *, corpus: int) -> CorpusFacts:
    """Count a corpus, and take its fingerprint."""
    digest = hashlib.sha256()
    counts: dict[str, tuple[int, int]] = {}
    for document in documents:
        text = document.text.encode()
        digest.update(text)
        count, size = counts.get(document.source, (0, 0))
        counts[document.source] = (count + 1, size + len(text))
    return CorpusFacts(
        documents=sum(count for count, _ in counts.values()),
        bytes=sum(size for _, size in counts.values()),
        sources=tuple(
            SourceFacts(source=source, corpus=corpus, documents=count, bytes=size)
            for source, (count, size) in counts.items()
        ),
        digest=digest.hexdigest()[:16],
    )


def passages(text: str, *, limit: int) -> Iterator[str]:
    """Cut a document into passages of whole sentences.

    How long a passage may be changes from one to the next, between an eighth of the limit and all of it (evenly in
    its logarithm, decided by the text behind), so that what is learned from passages holds for titles and for
    paragraphs. A sentence that is longer than the limit is left out.

    Args:
        text: a document.
        limit: UTF-8 bytes; a token is about four in English, and three in Chinese.

    >>> list(passages("今天天气很好。我们去公园吧！好的", limit=60))
    ['今天天气很好。', '我们去公园吧！好的']
    """
    held: list[str] = []
    size, room = 0, 0.0
    for sentence in _SENTENCE_END.split(text):
        words = _SPACE.sub(" ", sentence or "").strip()
        length = len(words.encode())
        if held and size + length + 1 > room:
            yield from _worth(held)
            held, size = [], 0
        if not words or length > limit:
            continue
        if not held:
            room = _room(words, limit)
        held.append(words)
        size += length + 1
    yield from _worth(held)


def _text(value: object, *, place: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{place}: byte {error.start}, 0x{value[error.start]:02x}, is not UTF-8; give text, or clean the row."
            ) from error
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"{place} holds {type(value).__name__}, not text; name another column by --text.")
    return value


def _room(first: str, limit: int) -> float:
    drawn = int.from_bytes(hashlib.sha256(first.encode()).digest()[:4]) / 2**32
    return float(limit / 8 ** (1 - drawn))


def _worth(held: list[str]) -> Iterator[str]:
    joined = ""
    for sentence in held:
        joined += sentence if not joined or not joined[-1].isascii() else f" {sentence}"
    if len(joined.encode()) >= SHORTEST_PASSAGE:
        yield joined
