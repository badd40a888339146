"""Bytes of a text file become text: UTF-8, UTF-8 with a byte order mark, or GB18030 (which holds GBK and GB2312).

>>> decode("评论,标签".encode("gb18030"), name="reviews.csv")
'评论,标签'
"""

import codecs
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError

UTF8_MARK = b"\xef\xbb\xbf"
OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}

PIECE_BYTES = 1 << 20

# Most byte pairs are *some* character of GB18030, so that Latin-1, Big5 or Shift JIS often pass for it. They come out
# as characters that hardly anybody writes: of those beyond ASCII, up to a third are marks or in GB2312, which holds the
# common ones. Of simplified Chinese nearly all are, of traditional Chinese six in ten.
LEAST_COMMON_SHARE = 0.5


def decode(data: bytes, *, name: str) -> str:
    """The text of a file, without its byte order mark.

    Args:
        data: the bytes.
        name: the file's name, for the error.

    Raises:
        UsageError: the bytes are in no known encoding; says at which byte.
    """
    for mark, encoding in OTHER_MARKS.items():
        if data.startswith(mark):
            raise UsageError(f"{name} is written in {encoding}; save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # With a mark, positions count from behind it.
        at = error.start + (len(UTF8_MARK) if data.startswith(UTF8_MARK) else 0)
    if data.startswith(UTF8_MARK):
        raise UsageError(f"{name} says that it is UTF-8, but is not at {_place(data, at)}; save it again as UTF-8.")
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is neither UTF-8 (wrong at {_place(data, at)}) nor GB18030 (wrong at "
            f"{_place(data, error.start)}); save it as UTF-8."
        ) from error
    if not _looks_chinese(text):
        raise UsageError(
            f"{name} is not UTF-8 (wrong at {_place(data, at)}), and read as GB18030 it is no common Chinese; "
            "save it as UTF-8."
        )
    return text


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a file's bytes are to be decoded."""

    codec: str
    mark_bytes: int
    """Of the byte order mark, before the text."""


def encoding_of(file: Path) -> Encoding:
    """What `decode` would decode a file as, found without the whole of it in memory where it is UTF-8.

    In both encodings the bytes of line ends are part of no other character, so that lines may be decoded one by one.

    Raises:
        UsageError: the file cannot be read, or its bytes are in no known encoding; says at which byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with file.open("rb") as stream:
            start = stream.read(len(UTF8_MARK))
            mark_bytes = len(UTF8_MARK) if start == UTF8_MARK else 0
            decoder.decode(b"" if mark_bytes else start)
            while piece := stream.read(PIECE_BYTES):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        return Encoding(codec="utf-8", mark_bytes=mark_bytes)
    except UnicodeDecodeError:
        decode(file.read_bytes(), name=str(file))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    return Encoding(codec="gb18030", mark_bytes=0)


def _place(data: bytes, at: int) -> str:
    line = data.count(b"\n", 0, at) + 1
    return f"byte {at}, 0x{data[at]:02x}, in line {line}"


def _looks_chinese(text: str) -> bool:
    characters = [character for character in text if not character.isascii()]
    return sum(_is_common(character) for character in characters) >= LEAST_COMMON_SHARE * len(characters)


def _is_common(character: str) -> bool:
    if "\u4e00" <= character <= "\u9fff":
        return bool(character.encode("gb2312", "ignore"))
    # General and Chinese punctuation, full-width forms, and the middle dot in foreign names.
    return (
        "\u2010" <= character <= "\u2027"
        or "\u3000" <= character <= "\u303f"
        or character in "·×°"
        or ("\uff00" <= character <= "\uffef")
    )
