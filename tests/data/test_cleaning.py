"""Cleaning: what each step does, that it is saved with the tokenizer, and that what is unknown is said."""

from pathlib import Path

import pytest

from lmtasks.data.cleaning import STEPS, STOP_WORDS, checked_steps, clean, stop_words_of
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.data.vocabulary import TOKENIZERS, learn_tokenizer, parse_tokenizer
from lmtasks.errors import UsageError

TEXTS = ["The cat sat on the mat.", "Ａ ｃａｔ， don't stop！", "我们的猫在垫子上。", "一只猫和一只狗"]
EXAMPLES = {
    "nfkc": ("ﬁne ①　Ｘ。", "fine 1 X。"),
    "half-width": ("Ａｂ９！　ﬁ。", "Ab9! ﬁ。"),
    "lower": ("ÄÉ İstanbul", "äé i̇stanbul"),
    "zero-digits": ("B 747-400, ٣ or ３?", "B 000-000, 0 or 0?"),
    "no-punctuation": ("Don't «stop», 你好。 $5 <unk> 'x'", "Don't  stop   你好  $5 <unk>  x "),
}


@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_does_what_it_says(name: str) -> None:
    given, wanted = EXAMPLES[name]
    assert clean((name,))(given) == wanted


def test_full_width_forms_are_those_of_unicode() -> None:
    import unicodedata

    wide = "".join(chr(code) for code in range(0xFF01, 0xFF5F)) + "\u3000"
    assert clean(("half-width",))(wide) == unicodedata.normalize("NFKC", wide)


def test_steps_are_carried_out_in_one_order() -> None:
    assert checked_steps(("stop=en", "lower", "nfkc", "lower")) == ("nfkc", "lower", "stop=en")


@pytest.mark.parametrize("kind", [name for name, line in TOKENIZERS.items() if line.whole_words])
def test_what_was_cleaned_for_learning_is_cleaned_after_loading(kind: str, tmp_path: Path) -> None:
    made = learn_tokenizer(f"{kind}:200,stop=en,stop=zh,no-punctuation,lower,nfkc", TEXTS)
    made.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.cleaning == ("nfkc", "lower", "no-punctuation", "stop=en", "stop=zh")
    assert loaded.hash == made.hash
    for text in TEXTS:
        ids = made.encode(text)
        assert ids
        assert loaded.encode(text) == loaded.encode_many([text])[0] == ids
        head = loaded.encode_for_head(text)
        assert list(head.ids[:-1]) == ids
        assert len(head.ids) == len(head.offsets) == len(head.sequences) == len(head.types)
    shown = " ".join(made.decode([index]) for index in made.encode("THE Cat， sat！"))
    assert "the" not in shown.split()
    assert "," not in shown
    assert "，" not in shown


def test_stop_words_are_left_out_and_others_stay() -> None:
    made = learn_tokenizer("words:100,lower,stop=en", TEXTS)
    assert made.decode(made.encode("The cat sat on the mat")) == "cat sat mat"
    plain = learn_tokenizer("words:100,lower", TEXTS)
    assert plain.decode(plain.encode("The cat sat on the mat")) == "the cat sat on the mat"
    assert plain.hash != made.hash
    chinese = learn_tokenizer("jieba:100,stop=zh", TEXTS)
    assert chinese.decode(chinese.encode("一只猫和一只狗")) == "一只猫一只狗"


def test_lists_are_those_of_their_sources() -> None:
    """Snowball's english/stop.txt at 8ee5cf9; stopwords-iso's raw/fergiemcdowall_stopwords_zh.txt at 5e0b3d2."""
    assert {language: len(words) for language, words in STOP_WORDS.items()} == {"en": 174, "zh": 78}
    assert {"the", "couldn't", "yourselves"} < stop_words_of(("stop=en",))
    assert "will" not in STOP_WORDS["en"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("words:100,nfkd", "it takes a size, least=2, and the cleaning steps nfkc"),
        ("words:100,stop=de", r"unknown stop words 'de'.* Known: en, zh"),
        (
            "bpe:300,stop=en",
            "tokens of bpe are pieces of words; use characters, words, words-or-characters, blanks",
        ),
    ],
)
def test_cleaning_that_cannot_be_is_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_tokenizer(text)
