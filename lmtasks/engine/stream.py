"""The text of a growing answer: readable pieces as they come, and the first stop string across token borders.

A character may take several tokens (byte-level BPE), and a token's text may depend on the one before it (a leading
space), so tokens are decoded together with the few before them, and a piece is held back while it ends in the middle
of a character.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_UNFINISHED = "�"


class TextStream:
    """One answer's tokens and text.

    Args:
        decode: token ids to text.
        stops: strings before which the text ends.
    """

    def __init__(self, decode: Decode, *, stops: tuple[str, ...] = ()) -> None:
        self.ids: list[int] = []
        self._decode = decode
        self._stops = stops
        self._text = ""
        self._from = 0  # tokens before this one are not looked at any more
        self._read = 0  # tokens before this one are in the text
        self._before = ""  # text of the tokens from `_from` to `_read`
        self._given = 0

    def copy(self) -> TextStream:
        """The same state, to go on from it twice (beams)."""
        other = TextStream(self._decode, stops=self._stops)
        other.ids = list(self.ids)
        other._text, other._from, other._read = self._text, self._from, self._read
        other._before, other._given = self._before, self._given
        return other

    def push(self, token: int) -> bool:
        """Append a token; True where the answer now holds a stop string."""
        self.ids.append(token)
        now = self._decode(self.ids[self._from :])
        if len(now) <= len(self._before) or now.endswith(_UNFINISHED):
            return False
        searched = len(self._text)
        self._text += now[len(self._before) :]
        self._before = self._decode(self.ids[self._read :])
        self._from, self._read = self._read, len(self.ids)
        longest = max(map(len, self._stops), default=0)
        tail = self._text[max(0, searched - longest + 1) :]
        # Decoded all at once the text may differ (white space at its start): that text decides.
        return any(stop in tail for stop in self._stops) and self._first_stop(self._decode(self.ids)) is not None

    def text(self) -> str:
        """All of the answer, up to its first stop string."""
        whole = self._decode(self.ids)
        return whole[: self._first_stop(whole)]

    def take(self) -> str:
        """What can be read since the last call, without what may become a stop string."""
        safe = len(self._text)
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._text)), 0, -1):
                if self._text.endswith(stop[:length]):
                    safe = min(safe, len(self._text) - length)
                    break
        piece = self._text[self._given : safe]
        self._given = max(self._given, safe)
        return piece

    def rest(self) -> str:
        """What `take` has not given yet, once the answer is complete."""
        return self.text()[self._given :]

    def _first_stop(self, text: str) -> int | None:
        return min((text.index(stop) for stop in self._stops if stop in text), default=None)
