"""Tokens by their texts, as OpenAI's log-probabilities name them.

A token of a byte-level vocabulary is named by its text, or, where it is a part of a character, by its bytes
(`bytes:\\xe4\\xbb`), so that no two tokens have one name. Of other vocabularies it is the text that the token adds
behind those before it, else the token as the vocabulary has it.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import decoders

from lmtasks.data.tokenizer import Tokenizer

BEFORE = 4
"""Tokens that are decoded before one whose text depends on them."""


@dataclass(frozen=True, kw_only=True)
class TokenName:
    """One token of a text."""

    text: str
    data: bytes
    """The UTF-8 that it stands for; empty where it is a special token that no text shows."""


class TokenNames:
    """Names of one tokenizer's tokens.

    Args:
        as_ids: call them `token_id:17`, as vLLM does where it is asked to.
    """

    def __init__(self, tokenizer: Tokenizer, *, as_ids: bool = False) -> None:
        self._tokenizer = tokenizer
        self._as_ids = as_ids
        self._special = frozenset(
            index for index, token in tokenizer.raw.get_added_tokens_decoder().items() if token.special
        )
        self._is_byte_level = isinstance(tokenizer.raw.decoder, decoders.ByteLevel)

    def name(self, token: int, *, before: Sequence[int] = ()) -> TokenName:
        """The name of a token behind others."""
        word = self._tokenizer.raw.id_to_token(token)
        if word is None:  # a table of embeddings may have more rows than there are tokens
            return TokenName(text=f"token_id:{token}", data=b"")
        data = self._bytes(token, word, before=before)
        return TokenName(
            text=f"token_id:{token}" if self._as_ids else _shown(data, word),
            data=b"" if token in self._special else data,
        )

    def names(self, tokens: Sequence[int], *, before: Sequence[int] = ()) -> list[TokenName]:
        """The names of tokens that follow each other, behind others."""
        whole = (*before[-BEFORE:], *tokens)
        first = len(whole) - len(tokens)
        return [
            self.name(token, before=whole[max(0, first + place - BEFORE) : first + place])
            for place, token in enumerate(tokens)
        ]

    def _bytes(self, token: int, word: str, *, before: Sequence[int]) -> bytes:
        if token in self._special:
            return word.encode()
        if self._is_byte_level:
            alphabet = _byte_alphabet()
            known = [alphabet.get(character) for character in word]
            return word.encode() if None in known else bytes(byte for byte in known if byte is not None)
        ahead = self._tokenizer.decode(before, skip_special=False)
        added = self._tokenizer.decode((*before, token), skip_special=False)
        return added[len(ahead) :].encode() if added.startswith(ahead) else b""


class Offsets:
    """Where tokens begin in the text that they make, in characters.

    Args:
        start: of the first one.
    """

    def __init__(self, start: int = 0) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = start

    def take(self, name: TokenName) -> int:
        """The place of the next token."""
        place = self._length
        self._length += len(self._decoder.decode(name.data))
        return place


def _shown(data: bytes, word: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
    return word if not text or "�" in text else text


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2's)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
