"""Words with tags as rows of tokens, whatever the tokenizer cuts."""

import pytest

from lmtasks.data.vocabulary import TOKENIZERS, learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.head.tagging import tagging_row
from lmtasks.records import HeadInput

WORDS = ("fly", "to", "st.", "louis", "on", "5/3")


def given(words: tuple[str, ...]) -> HeadInput:
    return HeadInput(
        first=" ".join(words), second=None, label=None, answers=(), starts=(), tokens=words,
        tags=tuple(range(len(words))),
    )  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_first_token_of_a_word_speaks_for_it(name: str) -> None:
    tokenizer = learn_tokenizer(f"{name}:300", [" ".join(WORDS), "to fly"])
    row = tagging_row(given(WORDS), tokenizer=tokenizer, max_length=100)
    pieces = tokenizer.raw.encode(" ".join(WORDS)).tokens
    assert not row.truncated
    assert None not in row.places
    assert list(row.places) == sorted(set(row.places))  # type: ignore[type-var]
    for word, place in zip(WORDS, row.places, strict=True):
        assert place is not None
        piece = pieces[place].lstrip("Ġ▁")
        assert word.startswith(piece)


def test_words_that_are_cut_off_have_no_token() -> None:
    tokenizer = learn_tokenizer("blanks", [" ".join(WORDS)])
    row = tagging_row(given(WORDS), tokenizer=tokenizer, max_length=4)
    assert row.places == (0, 1, 2, None, None, None)
    assert row.truncated
    assert row.ids[-1] == tokenizer.eos
    with pytest.raises(UsageError, match="holds no text"):
        tagging_row(given(WORDS), tokenizer=tokenizer, max_length=0)
