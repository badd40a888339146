"""The ARPA format of back-off n-gram models, as SRILM's `ngram-format(5)` describes it: written and read.

\\data\\
ngram 1=3
ngram 2=2

\\1-grams:
-99	<s>	-0.30103
-0.60206	</s>
-0.60206	a	-0.30103

\\2-grams:
-0.1	<s> a
-0.2	a </s>

\\end\\

Logarithms there are decimal. `<s>` begins a line and `</s>` ends it; here both are one token that ends lines, and the
token V behind it (`ngram`). Files that end in .gz are compressed.
"""

import gzip
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

import numpy as np

from lmtasks.backbone.ngram import NEVER, Ngram, NgramOrder
from lmtasks.errors import UsageError
from lmtasks.records import Floats32, Ints

BEGIN = "<s>"
END = "</s>"
LOG10 = math.log(10.0)


def write_arpa(model: Ngram, file: Path, *, words: Sequence[str]) -> None:
    """Write a model; tokens with white space in them are written with %XX in its place.

    Args:
        words: (V,) the text of each token. The end token that the model thinks most likely is written as `</s>`.

    Raises:
        UsageError: two tokens are written alike.
    """
    names = arpa_names(model, words)
    with _opened(file) as out:
        out.write("\\data\\\n")
        out.writelines(f"ngram {order}={len(level.keys)}\n" for order, level in enumerate(model.levels, start=1))
        texts = np.array(names, dtype=object)
        for number, level in enumerate(model.levels):
            out.write(f"\n\\{number + 1}-grams:\n")
            if number:
                texts = texts[level.keys // (model.vocabulary + 1)] + " "
                texts = texts + np.array(names, dtype=object)[level.keys % (model.vocabulary + 1)]
            logprobs = (level.logprobs / LOG10).tolist()
            if len(level.backoffs):
                weights = (level.backoffs / LOG10).tolist()
                lines = zip(logprobs, texts, weights, strict=True)
                out.writelines(f"{logprob:.7g}\t{text}\t{weight:.7g}\n" for logprob, text, weight in lines)
            else:
                out.writelines(f"{logprob:.7g}\t{text}\n" for logprob, text in zip(logprobs, texts, strict=True))
        out.write("\n\\end\\\n")


def _opened(file: Path) -> TextIO:
    if file.suffix == ".gz":
        return cast(TextIO, gzip.open(file, "wt", encoding="utf-8"))
    return file.open("w", encoding="utf-8")


def arpa_names(model: Ngram, words: Sequence[str]) -> list[str]:
    """How each token is written, (V + 1,)."""
    names = ["".join(f"%{ord(letter):02X}" if letter.isspace() else letter for letter in word) for word in words]
    if model.ends:
        names[max(model.ends, key=lambda token: float(model.levels[0].logprobs[token]))] = END
    names.append(BEGIN)
    seen: dict[str, int] = {}
    for token, name in enumerate(names):
        if name in seen or not name:
            raise UsageError(
                f"tokens {seen.get(name, token)} and {token} are both written {name!r} in an ARPA file; its words must "
                "differ."
            )
        seen[name] = token
    return names


def read_arpa(file: Path, *, also: Sequence[str] = ()) -> tuple[Ngram, tuple[str, ...]]:
    """The model of a file, and its words, (V,); `</s>` is its end token.

    Args:
        also: words that the vocabulary has to have; where the file lacks them, nothing predicts them.

    Raises:
        UsageError: the file is damaged; the message names the line.
    """
    try:
        with cast(TextIO, gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")) as opened:
            lines = _Lines(file=file, lines=_decoded(cast("Iterator[bytes]", opened), file))
            return _model(lines, also)
    except (OSError, EOFError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error


@dataclass(kw_only=True)
class _Lines:
    """Lines with their numbers, blank ones left out."""

    file: Path
    lines: Iterator[str]
    number: int = 0
    text: str = ""

    def next(self, wanted: str) -> str:
        for line in self.lines:
            self.number += 1
            self.text = line.strip("\r\n \t")
            if self.text:
                return self.text
        self.number += 1
        raise self.damaged(f"the file ends, where {wanted} should stand; it was cut short")

    def damaged(self, why: str) -> UsageError:
        return UsageError(f"{self.file}, line {self.number}: {why}.")


def _decoded(lines: Iterator[bytes], file: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{file}, line {number}: byte {error.start} is not UTF-8; convert the file.") from error


@dataclass(kw_only=True)
class _Section:
    """The n-grams of one order, as they stand in the file."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    backoffs: list[float] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def _model(lines: _Lines, also: Sequence[str]) -> tuple[Ngram, tuple[str, ...]]:
    while lines.next("\\data\\") != "\\data\\":
        pass  # SRILM lets comments stand before
    counts: list[int] = []
    while lines.next("ngram 1=...").startswith("ngram "):
        length, _, number = lines.text[6:].partition("=")
        if length.strip() != str(len(counts) + 1) or not number.strip().isdecimal():
            raise lines.damaged(f"expected 'ngram {len(counts) + 1}=' and a number, found {lines.text!r}")
        counts.append(int(number))
    if not counts:
        raise lines.damaged(f"expected 'ngram 1=' and a number, found {lines.text!r}")
    known: dict[str, int] = {}
    levels: list[NgramOrder] = []
    for order, count in enumerate(counts, start=1):
        if order > 1:
            lines.next(f"\\{order}-grams:")
        if lines.text != f"\\{order}-grams:":
            raise lines.damaged(f"expected '\\{order}-grams:', found {lines.text[:60]!r}")
        section = _section(lines, known, order=order, count=count, highest=order == len(counts))
        if order == 1:
            for word in also:
                if word not in known:
                    known[word] = len(known)
                    section.logprobs.append(NEVER / LOG10)
                    section.backoffs.append(0.0)
            levels.append(_first_level(section, known, lines))
        else:
            levels.append(_level(section, levels, order=order, vocabulary=len(known) - 1, lines=lines))
    if lines.next("\\end\\") != "\\end\\":
        raise lines.damaged(f"expected '\\end\\', found {lines.text[:60]!r}; are there more n-grams than were counted?")
    words = tuple(sorted((word for word in known if word != BEGIN), key=known.__getitem__))
    return Ngram(vocabulary=len(words), ends=(known[END],), levels=tuple(levels)), words


def _section(lines: _Lines, known: dict[str, int], *, order: int, count: int, highest: bool) -> _Section:
    found = _Section()
    for _ in range(count):
        text = lines.next(f"one of {count} {order}-grams")
        if text.startswith("\\"):
            raise lines.damaged(f"{count} {order}-grams were counted, and {len(found.lines)} are there")
        fields = text.split()
        words = fields[1 : order + 1]
        if len(fields) not in ((order + 1,) if highest else (order + 1, order + 2)):
            raise lines.damaged(
                f"expected a number, {order} words{'' if highest else ' and perhaps a weight'}: {text!r}"
            )
        found.logprobs.append(_number(fields[0], lines))
        if found.logprobs[-1] > 0:
            raise lines.damaged(f"a logarithm of a probability is 0 or less, was {fields[0]}")
        found.backoffs.append(_number(fields[order + 1], lines) if len(fields) > order + 1 else 0.0)
        found.lines.append(lines.number)
        if order == 1:
            if words[0] in known:
                raise lines.damaged(f"the word {words[0]!r} stands there twice")
            known[words[0]] = len(known)
        unknown = [word for word in words if word not in known]
        if unknown:
            raise lines.damaged(f"the word {unknown[0]!r} is not among the 1-grams")
        found.tokens += [known[word] for word in words]
    return found


def _first_level(section: _Section, known: dict[str, int], lines: _Lines) -> NgramOrder:
    """The words, `<s>` as the last of them."""
    missing = [word for word in (BEGIN, END) if word not in known]
    if missing:
        raise lines.damaged(f"the 1-grams end here, and {missing[0]} is not among them")
    begin, last = known[BEGIN], len(known) - 1
    order = np.array([*range(begin), *range(begin + 1, last + 1), begin])
    for word, token in known.items():
        known[word] = last if token == begin else token - (token > begin)
    logprobs = _natural(section.logprobs)[order]
    logprobs[last] = NEVER
    return NgramOrder(keys=np.arange(last + 1), logprobs=logprobs, backoffs=_natural(section.backoffs)[order])


def _level(
    section: _Section, levels: Sequence[NgramOrder], *, order: int, vocabulary: int, lines: _Lines
) -> NgramOrder:
    tokens = np.array(section.tokens, dtype=np.int64).reshape(-1, order)
    below = Ngram(vocabulary=vocabulary, ends=(), levels=tuple(levels))
    places: Ints = tokens[:, 0]
    for length in range(1, order - 1):
        places = below.find(length, places, tokens[:, length])
    lost = np.flatnonzero(places < 0)
    if len(lost):
        lines.number = section.lines[lost[0]]
        raise lines.damaged(f"the first {order - 1} words of this {order}-gram are no {order - 1}-gram of the file")
    keys = places * (vocabulary + 1) + tokens[:, -1]
    by_key = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(keys[by_key][1:] == keys[by_key][:-1])
    if len(twice):
        lines.number = section.lines[by_key[twice[0] + 1]]
        raise lines.damaged(f"this {order}-gram stands there twice")
    return NgramOrder(
        keys=keys[by_key],
        logprobs=_natural(section.logprobs)[by_key],
        backoffs=_natural(section.backoffs)[by_key],
    )


def _natural(decimal: Sequence[float]) -> Floats32:
    return (np.array(decimal) * LOG10).astype(np.float32)


def _number(text: str, lines: _Lines) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise lines.damaged(f"expected a number, found {text!r}")
    return value
