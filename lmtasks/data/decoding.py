"""Bytes of a text file become text: UTF-8, UTF-16 with a byte order mark, or GB18030 (which holds GBK and GB2312).

GB18030 is taken only where what comes out is Chinese; any other encoding must be named.

>>> decode("评论,标签,很好".encode("gb18030"), name="reviews.csv")
'评论,标签,很好'
>>> decode("맛있다".encode("euc-kr"), name="reviews.csv", encoding="euc-kr")
'맛있다'
"""

import codecs
from dataclasses import dataclass
from pathlib import Path

from lmtasks.data.chinese import ENOUGH_EVIDENCE, chinese_evidence
from lmtasks.data.notices import Tell, say
from lmtasks.errors import UsageError

UTF8_MARK = b"\xef\xbb\xbf"
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    UTF8_MARK: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks and what they say; the longer ones first, since they begin as the others do."""
BY_LINES = ("utf-8", "gb18030")
"""Encodings of which the bytes of line ends are part of no other character, so that lines may be decoded one by one."""

MOST_ZEROS = 0.05
"""Of the bytes of a text; one of UTF-16 has more, by its line ends and commas alone."""
PIECE_BYTES = 1 << 20
SAVE = "save it as UTF-8"
NAME_IT = "save it as UTF-8, or say its encoding (--encoding NAME; in a task file dataset_kwargs: {encoding: NAME})"


def decode(data: bytes, *, name: str, encoding: str | None = None, tell: Tell = say) -> str:
    """The text of a file, without its byte order mark.

    Args:
        data: the bytes.
        name: the file's name, for messages.
        encoding: as somebody says; None: found by its mark or its content.
        tell: hears of an encoding that was found and is not UTF-8.

    Raises:
        UsageError: the bytes are not in that encoding, or in none that can be told; says at which byte.
    """
    codec = codec_of(data, name=name, tell=tell) if encoding is None else known_codec(encoding)
    try:
        return data.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = _place(data, error.start)
    if encoding is None:
        raise UsageError(f"{name} says by its first bytes that it is {codec.upper()}, but is not at {at}; {SAVE}.")
    raise UsageError(f"{name} is not {encoding}: wrong at {at}; give another --encoding, or {SAVE}.")


def known_codec(encoding: str) -> str:
    """Python's name of an encoding of text.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        b"text".decode(encoding)
    except UnicodeDecodeError:
        pass
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"unknown encoding {encoding!r}; it is one of those of Python, such as utf-8, utf-16-le, gb18030, big5, "
            "shift_jis, euc-kr, windows-1252."
        ) from error
    return codecs.lookup(encoding).name


def codec_of(data: bytes, *, name: str, tell: Tell = say) -> str:
    """The codec that decodes a file, by its mark or its content.

    Raises:
        UsageError: its bytes are in no encoding that can be told; says at which byte they are not UTF-8.
    """
    marked = next((codec for mark, codec in MARKS.items() if data.startswith(mark)), None)
    if marked == "utf-32":
        raise UsageError(f"{name} is written in UTF-32; {SAVE}.")
    if marked is not None:
        if marked != "utf-8":
            tell(f"{name} was read as {marked.upper()}.")
        return marked
    if data.count(b"\0") > MOST_ZEROS * len(data):
        raise UsageError(f"{name} has zero bytes, as UTF-16 without a byte order mark has; {NAME_IT}.")
    if data.isascii() and b"\x1b$" in data:
        raise UsageError(f"{name} changes its character set by escape sequences, as ISO-2022 does; {NAME_IT}.")
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        at = _place(data, error.start)
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is neither UTF-8 (wrong at {at}) nor GB18030 (wrong at {_place(data, error.start)}); {NAME_IT}."
        ) from error
    lines = data.split(b"\n")
    others = {number for number, line in enumerate(lines, start=1) if _is_utf8(line)}
    if others:
        text = b"\n".join(line for number, line in enumerate(lines, start=1) if number not in others).decode("gb18030")
    if chinese_evidence(text) < ENOUGH_EVIDENCE:
        raise UsageError(f"{name} is not UTF-8 (wrong at {at}) and no common Chinese in GB18030; {NAME_IT}.")
    if others:
        first = min(others)
        raise UsageError(f"{name} is written in two encodings: line {first} is UTF-8, and others are GB18030; {SAVE}.")
    tell(f"{name} was read as GB18030.")
    return "gb18030"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a file's bytes are to be decoded."""

    codec: str
    mark_bytes: int
    """Of the byte order mark, before the text."""


def encoding_of(file: Path, *, tell: Tell = say) -> Encoding | None:
    """What `decode` would decode a file as, found without the whole of it in memory where it is UTF-8; None where its
    lines cannot be decoded one by one.

    Raises:
        UsageError: the file cannot be read, or its bytes are in no known encoding; says at which byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with file.open("rb") as stream:
            start = stream.read(len(UTF8_MARK))
            mark_bytes = len(UTF8_MARK) if start == UTF8_MARK else 0
            decoder.decode(b"" if mark_bytes else start)
            odd = b"\0" in start
            while piece := stream.read(PIECE_BYTES):
                decoder.decode(piece)
                odd = odd or b"\0" in piece or b"\x1b$" in piece
            decoder.decode(b"", final=True)
        if not odd:
            return Encoding(codec="utf-8", mark_bytes=mark_bytes)
    except UnicodeDecodeError:
        pass
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    codec = codec_of(file.read_bytes(), name=str(file), tell=tell)
    return Encoding(codec=codec, mark_bytes=mark_bytes) if codec in BY_LINES else None


def _is_utf8(line: bytes) -> bool:
    """Is it UTF-8 beyond ASCII, and no Chinese in GB18030?"""
    if line.isascii():
        return False
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return chinese_evidence(line.decode("gb18030", "replace")) < 0


def _place(data: bytes, at: int) -> str:
    line = data.count(b"\n", 0, at) + 1
    return f"byte {at}, 0x{data[at]:02x}, in line {line}"
