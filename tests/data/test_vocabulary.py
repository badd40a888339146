"""Tokenizers that are learned: what each kind makes of a text, and that tokenizer.json holds all of it."""

from pathlib import Path

import pytest

from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.data.vocabulary import TOKENIZERS, learn_tokenizer, parse_tokenizer
from lmtasks.errors import UsageError
from lmtasks.workflow.new_backbone import read_vectors

TEXTS = (
    "It's a cat , a hat and <unk> N \n",
    "a cat, 1,000 dogs' tails<br />",
    "今天天气很好，我们去公园散步。我们去公园！",
)
PIECES = {
    "bytes": ["a", "Ġ", "c", "a", "t", ",", "Ġ", "a", "Ġ", "C", "o", "w"],
    "characters": ["a", " ", "c", "a", "t", ",", " ", "a", " ", "<0x43>", "o", "<0x77>"],
    "words": ["a", "cat", ",", "a", "<unk>"],
    "blanks": ["a", "cat,", "a", "<unk>"],
    "jieba": ["a", " ", "cat", ",", " ", "a", " ", "<unk>", "o", "<unk>"],
}


@pytest.mark.parametrize("name", PIECES)
def test_pieces(name: str) -> None:
    tokenizer = learn_tokenizer(name, TEXTS)
    assert [tokenizer.raw.id_to_token(index) for index in tokenizer.encode("a cat, a Cow")] == PIECES[name]


def test_chinese_by_characters_bytes_or_words() -> None:
    text = "我们去公园"
    assert learn_tokenizer("characters", TEXTS).raw.encode(text).tokens == list(text)
    assert len(learn_tokenizer("bytes", TEXTS).encode(text)) == 15
    assert learn_tokenizer("jieba", TEXTS).raw.encode(text).tokens == ["我们", "去", "公园"]
    assert learn_tokenizer("jieba", TEXTS).decode(learn_tokenizer("jieba", TEXTS).encode(text)) == text


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    learned = learn_tokenizer(f"{name}:300,lower", TEXTS)
    learned.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "A Cat and 1,000 hats; 我们去公园\n"
    assert loaded.encode(text) == learned.encode(text) == learned.encode(text.lower())
    assert (loaded.bos, loaded.eos, loaded.pad) == (learned.bos, learned.eos, learned.pad)
    assert len({loaded.eos, loaded.pad}) == 2
    row = loaded.encode_for_head("a cat", "a hat")
    assert row.ids[-1] == loaded.eos
    assert set(row.sequences) == {0, 1, -1}


@pytest.mark.parametrize("name", ["bytes", "bpe:400", "characters"])
def test_what_loses_nothing_loses_nothing(name: str) -> None:
    tokenizer = learn_tokenizer(name, [*TEXTS, "the dogs"])
    for text in (*TEXTS, "  the   dogs \n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_joiners_and_marks_stand_within_words() -> None:
    text = "می\u200cخواهم ශ්\u200dරී l'e\u0301te\u0301 दिन"
    tokenizer = learn_tokenizer("words:100", [text])
    assert [tokenizer.decode([number]) for number in tokenizer.encode(text)] == text.split()


def test_rare_words_are_unknown_and_shown_as_such() -> None:
    texts = ["a a a b b c", "a b"]
    few = learn_tokenizer("words:2", texts)
    assert few.vocabulary == 2 + 4  # two words, <unk>, and three special tokens
    assert few.decode(few.encode("a b c")) == "a b <unk>"
    assert learn_tokenizer("words:9,least=2", texts).decode(few.encode("a b c")) == "a b <unk>"


def test_the_unknown_word_of_a_data_set_is_ours() -> None:
    """PTB and WikiText write <unk> where a word was cut."""
    tokenizer = learn_tokenizer("blanks", TEXTS)
    assert tokenizer.encode("<unk>") == tokenizer.encode("never-seen") == [tokenizer.raw.token_to_id("<unk>")]
    assert tokenizer.raw.encode("N \n").tokens == ["N", "\n"]
    assert sorted(tokenizer.raw.get_vocab().values()) == list(range(tokenizer.vocabulary))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word", "did you mean 'words'"), ("words:many", "'many' is no setting"), ("words:0", "'0' is no setting"),
        ("words:10,least=x", "no setting"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_read_is_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_tokenizer(text)


def test_word_vectors_in_both_formats(tmp_path: Path) -> None:
    tokenizer = learn_tokenizer("words", ["the Cat sat"])
    (tmp_path / "glove.txt").write_text("the 1 2 3\ncat 4 5 6\ndog 7 8 9\n")
    (tmp_path / "word2vec.txt").write_text("3 3\nthe 1 2 3\ncat 4 5 6\ndog 7 8 9\n")
    for name in ("glove.txt", "word2vec.txt"):
        found = read_vectors(tmp_path / name, tokenizer=tokenizer)
        assert (found.found, found.values.shape) == (2, (tokenizer.vocabulary, 3))
        assert found.values[tokenizer.encode("Cat")[0]].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the 1 2\ncat 1 2 3\n", "line 2: 3 numbers, the lines before have 2"),
        (b"the 1 2\ncat\n", "line 2: a word and at least two numbers"),
        (b"the 1 x\n", "'the' holds what is no number"),
        (b"the 1 2\nc\xff 1 2\n", "line 2: byte 9 is not UTF-8"),
        (b"zzz 1 2\n", "none of the"),
    ],
)
def test_a_damaged_file_of_vectors_is_explained(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_vectors(file, tokenizer=learn_tokenizer("words", ["the cat"]))
