"""ARPA files: what is written comes back, and what is damaged is said with its line."""

from pathlib import Path

import numpy as np
import pytest
from test_ngram import END, VOCABULARY, lines, model, text_of

from lmtasks.backbone.arpa import read_arpa, write_arpa
from lmtasks.errors import UsageError

WORDS = ["\n", *(f"w{number}" for number in range(1, VOCABULARY))]
SRILM = """\
a comment, as SRILM lets them stand

\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-0.60206\t</s>
-99\t<s>\t-0.30103
-0.30103\ta\t-0.12
-0.60206\tb

\\2-grams:
-0.1\t<s> a
-0.2\ta b
-0.3\tb </s>

\\end\\
"""


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_model_comes_back_from_its_file(order: int, name: str, tmp_path: Path) -> None:
    ngram = model(order=order, cutoffs=(0, 0, 1), fallback=True)
    write_arpa(ngram, tmp_path / name, words=WORDS)
    again, words = read_arpa(tmp_path / name)
    assert words == ("</s>", *WORDS[1:])
    assert (again.order, again.vocabulary, again.ends) == (order, VOCABULARY, (END,))
    row = text_of(lines(seed=9, count=40))
    before, after = (one.read(one.start(1), row[None])[0] for one in (ngram, again))
    np.testing.assert_allclose(ngram.next_logprobs(before), again.next_logprobs(after), atol=1e-5)


def test_a_file_of_another_tool_is_read(tmp_path: Path) -> None:
    """Written by hand after SRILM's ngram-format(5); log10, a missing weight is 0."""
    (tmp_path / "small.arpa").write_text(SRILM)
    ngram, words = read_arpa(tmp_path / "small.arpa")
    number = {word: place for place, word in enumerate(words)}
    row = np.array([number[word] for word in ("a", "b", "b", "</s>")])
    states = ngram.read(ngram.start(1), row[None])[0]
    states = np.concatenate([ngram.start(1), states[:-1]])
    np.testing.assert_allclose(ngram.score(states, row) / np.log(10), [-0.1, -0.2, -0.60206, -0.3], atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-0.2\ta b", "-0.2\ta", "line 15: expected a number, 2 words"),
        ("-0.2\ta b", "zero\ta b", "line 15: expected a number, found 'zero'"),
        ("-0.2\ta b", "nan\ta b", "line 15: expected a number, found 'nan'"),
        ("-0.2\ta b", "0.2\ta b", "line 15: a logarithm of a probability is 0 or less"),
        ("-0.2\ta b", "-0.2\ta c", "line 15: the word 'c' is not among the 1-grams"),
        ("-0.2\ta b\n", "", "line 17: 3 2-grams were counted, and 2 are there"),
        ("-0.2\ta b", "-0.1\t<s> a", "line 15: this 2-gram stands there twice"),
        ("ngram 2=3", "ngram 3=3", "line 5: expected 'ngram 2=' and a number"),
        ("ngram 2=3", "ngram 2=2", "line 16: expected '.end.', found '-0.3"),
        ("-0.60206\tb", "-0.60206\ta", "line 11: the word 'a' stands there twice"),
        ("-99\t<s>\t-0.30103", "-99\t<S>\t-0.30103", "<s> is not among them"),
        ("\\2-grams:", "\\two-grams:", "line 13: expected '.2-grams:'"),
        ("-0.3\tb </s>\n\n\\end\\\n", "", "the file ends, where one of 3 2-grams should stand"),
        ("\\end\\\n", "", "the file ends"),
        (SRILM, "hello\n", "the file ends, where .data. should stand"),
    ],
)
def test_what_is_damaged_is_said_with_its_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in SRILM
    file = tmp_path / "damaged.arpa"
    file.write_text(SRILM.replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        read_arpa(file)


def test_bytes_that_are_no_text_are_said_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "damaged.arpa"
    file.write_bytes(SRILM.encode().replace(b"a b", b"\xff b", 1))
    with pytest.raises(UsageError, match="line 15: byte 5 is not UTF-8"):
        read_arpa(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_arpa(tmp_path / "nowhere.arpa")
    (tmp_path / "short.arpa.gz").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_arpa(tmp_path / "short.arpa.gz")


def test_words_that_would_be_written_alike_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tokens 1 and 2 are both written 'w'"):
        write_arpa(model(order=2, fallback=True), tmp_path / "model.arpa", words=["\n", "w", "w", *WORDS[3:]])
