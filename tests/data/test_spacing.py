"""Scripts without spaces: a run of Chinese, Japanese, Thai ... is no word.

A support vector machine over `words` had 22.2 on TNEWS and 36.4 on THUCNews: every title was two or three "words".
"""

import logging
from collections.abc import Sequence

import numpy as np
import pytest

from lmtasks.backbone.closed_form import FITTED
from lmtasks.backbone.family import FAMILIES
from lmtasks.data.spacing import longest_terms, spaceless_share, suited_tokenizer
from lmtasks.data.vocabulary import learn_tokenizer

WITHOUT = {
    "Chinese": "今天天气很好我们去公园散步",
    "traditional": "這家餐廳的服務態度很差",
    "Japanese": "東京タワーへ行くバスはどこですか",
    "half-width kana": "ｶﾀｶﾅﾀﾞｹﾉﾌﾞﾝｼｮｳ",
    "Thai": "วันนี้อากาศดีมากเราไปเดินเล่น",
    "Lao": "ມື້ນີ້ອາກາດດີຫຼາຍ",
    "Khmer": "ថ្ងៃនេះអាកាសធាតុល្អណាស់",
    "Burmese": "ဒီနေ့ရာသီဥတုကောင်းတယ်",
    "rare Han": "\U00020000\U00020001\U00020002\U00030000" * 3,
}
WITH = [
    "It's a good film",
    "यह एक अच्छी फिल्म है",
    "오늘은 날씨가 좋다",
    "сегодня хорошая погода",
    "طقس جميل اليوم",
    "Trời hôm nay đẹp",
]


@pytest.mark.parametrize("script", WITHOUT)
def test_what_has_no_spaces_is_read_by_characters(script: str) -> None:
    text = WITHOUT[script]
    assert suited_tokenizer("words:900,lower", [[text]]) == "characters:900,lower"
    tokens = learn_tokenizer("words-or-characters", [text]).raw.encode(f"an {text} end").tokens
    assert len(tokens) >= len(text) / 3
    assert len(learn_tokenizer("words", [text]).encode(text)) == 1


@pytest.mark.parametrize("text", WITH)
def test_what_has_spaces_is_read_by_words(text: str) -> None:
    assert spaceless_share([text]) == 0
    assert suited_tokenizer("words:900", [[text]]) == "words:900"
    both = [learn_tokenizer(kind, [text]).encode(text) for kind in ("words", "words-or-characters")]
    assert both[0] == both[1]


def test_words_and_characters_beside_each_other() -> None:
    mixed = ["BERT模型 is a good start", "the 词表 of a model"]
    assert suited_tokenizer("words", [mixed]) == "words-or-characters"
    tokenizer = learn_tokenizer("words-or-characters", mixed)
    assert tokenizer.raw.encode(mixed[0]).tokens == ["BERT", "模", "型", "is", "a", "good", "start"]
    assert suited_tokenizer("words:90", [["一部好电影"], ["a good film"]]) == "words-or-characters:90"
    assert suited_tokenizer("bpe:8000", [["一部好电影"]]) == "bpe:8000"


def test_a_mark_stays_on_its_letter() -> None:
    tokens = learn_tokenizer("words-or-characters", ["นี้ ကို"]).raw.encode("นี้ ကို").tokens
    assert tokens == ["นี้", "ကို"]


@pytest.mark.parametrize(
    ("kind", "length"), [("characters", 3), ("words-or-characters", 3), ("words", 2), ("bpe:300", 2)]
)
def test_it_takes_more_characters_than_words_to_say_something(kind: str, length: int) -> None:
    texts = ["今天天气很好"] if length == 3 else ["we were walking through gardens"] * 9
    tokenizer = learn_tokenizer(kind, texts)
    rows = [np.array(tokenizer.encode(text), dtype=np.int64) for text in texts]
    assert longest_terms(rows, tokenizer=tokenizer) == length
    assert longest_terms([], tokenizer=tokenizer) == 2


@pytest.mark.parametrize("kind", ["words", "blanks", "wordpiece"])
@pytest.mark.parametrize(
    ("texts", "said"), [([WITHOUT["Chinese"]] * 3, 1), (["今天 天气 很 好 我们 去 公园"], 0), (["a film", "中国"], 0)]
)
def test_a_trap_that_is_asked_for_is_named(
    kind: str, texts: Sequence[str], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="lmtasks"):
        logging.getLogger("lmtasks").propagate = True
        learn_tokenizer(kind, texts)
    assert [record.message.count("words-or-characters") for record in caplog.records] == [1] * said


def test_no_default_makes_a_word_of_a_run() -> None:
    defaults = {family.tokenizer for family in FITTED.values()} | {FAMILIES[name].tokenizer for name in FAMILIES}
    defaults -= {"bpe:8000"}
    assert len(defaults) == 3
    for default in defaults:
        tokenizer = learn_tokenizer(suited_tokenizer(default, [WITHOUT.values()]), [*WITHOUT.values()] * 3)
        assert len(tokenizer.encode(WITHOUT["Chinese"])) > 3, default
