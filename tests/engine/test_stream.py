"""The text of a growing answer."""

import random

from hypothesis import given
from hypothesis import strategies as st

from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.decode import TextStream

TOKENIZER = train_byte_bpe(["the cat sat on the mat", "北京的天气很好"], vocabulary=300)


def stream_of(text: str, stops: tuple[str, ...] = ()) -> tuple[TextStream, int | None]:
    """The stream after the text's tokens, and at which of them it saw a stop string."""
    stream = TextStream(TOKENIZER.decode, stops=stops)
    for number, token in enumerate(TOKENIZER.encode(text)):
        if stream.push(token):
            return stream, number
    return stream, None


def test_a_character_of_several_tokens_comes_whole() -> None:
    stream = TextStream(TOKENIZER.decode)
    pieces = []
    for token in TOKENIZER.encode("ab 鑫é"):
        stream.push(token)
        pieces.append(stream.take())
    assert "".join(pieces) + stream.rest() == "ab 鑫é"
    assert not any("�" in piece for piece in pieces)


def test_a_stop_string_across_tokens() -> None:
    tokens = TOKENIZER.encode("the cat\n\nsat")
    stream, at = stream_of("the cat\n\nsat", ("t\n\ns",))
    assert at is not None
    assert stream.text() == "the ca"
    assert at < len(tokens) - 1 or tokens[-1] == tokens[at]


def test_the_first_of_several_stops_counts() -> None:
    stream, _ = stream_of("one two three", ("three", "o t"))
    assert "one two three".startswith(stream.text())
    whole = TextStream(TOKENIZER.decode, stops=("three", "o t"))
    for token in TOKENIZER.encode("one two three"):
        whole.push(token)
    assert whole.text() == "one tw"[:5] + "w"


def test_what_may_become_a_stop_is_held_back() -> None:
    stream = TextStream(TOKENIZER.decode, stops=("##end",))
    given: list[str] = []
    for token in TOKENIZER.encode("a ##e b"):
        stream.push(token)
        given.append(stream.take())
    assert "".join(given) == "a ##e b"
    assert not any(piece.endswith("#") for piece in given)


def test_a_copy_goes_its_own_way() -> None:
    stream, _ = stream_of("the ")
    other = stream.copy()
    for token in TOKENIZER.encode("cat"):
        stream.push(token)
    for token in TOKENIZER.encode("mat"):
        other.push(token)
    assert (stream.text(), other.text()) == ("the cat", "the mat")


@given(st.text(alphabet="ab \n北京é", max_size=30), st.sampled_from([("\n\n",), ("ab", "a "), ("北京",), ()]))
def test_pieces_join_to_the_text_before_the_first_stop(text: str, stops: tuple[str, ...]) -> None:
    stream = TextStream(TOKENIZER.decode, stops=stops)
    pieces = ""
    for token in TOKENIZER.encode(text):
        stopped = stream.push(token)
        if stopped:
            break
        pieces += stream.take()
    pieces += stream.rest()
    expected = text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]
    assert stream.text() == expected
    assert pieces == expected


def test_any_tokens_decode_as_at_once() -> None:
    chooser = random.Random(0)
    for _ in range(50):
        ids = [chooser.randrange(3, TOKENIZER.vocabulary) for _ in range(30)]
        stream = TextStream(TOKENIZER.decode)
        pieces = ""
        for token in ids:
            stream.push(token)
            pieces += stream.take()
        assert stream.text() == TOKENIZER.decode(ids)
        assert len(pieces + stream.rest()) == len(stream.text())
