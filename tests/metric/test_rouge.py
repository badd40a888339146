"""ROUGE equals rouge-score; Chinese by characters and sentences are worked by hand."""

import pytest
from rouge_score.rouge_scorer import RougeScorer

from lmtasks.metric import make_metric
from lmtasks.metric.text_overlap import sentences_on_lines
from lmtasks.metric.words import pieces, words
from lmtasks.records import Text

from .examples import texts

NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def score(name: str, prediction: str, *references: str, language: str = "en") -> float:
    metric = make_metric(name, language=language)
    return float(metric.statistics([Text(references=references, prediction=prediction)])[0, 0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("references", [1, 3])
def test_english_equals_rouge_score(name: str, references: int) -> None:
    scorer = RougeScorer([name], use_stemmer=True)
    for text in texts(20, references=references):
        assert isinstance(text, Text)
        # rouge-score knows only lines as sentences, so they are made lines here too.
        prepare = sentences_on_lines if name == "rougeLsum" else str
        golds = [prepare(gold) for gold in text.references]
        theirs = scorer.score_multi(golds, prepare(text.prediction))[name].fmeasure
        assert score(name, text.prediction, *text.references) == 100 * theirs


def test_lines_are_sentences_as_in_rouge_score() -> None:
    gold, given = "the cat sat\non the mat", "on the mat\nthe dog sat"
    theirs = RougeScorer(["rougeLsum"], use_stemmer=True).score(gold, given)["rougeLsum"].fmeasure
    assert score("rougeLsum", given, gold) == 100 * theirs


def test_known_value() -> None:
    # rouge-score's README: "The quick brown fox jumps over the lazy dog" / "The quick brown dog jumps on the log."
    # 6 of 9 reference words and of 8 words given are shared: F = 2 (6/8)(6/9) / (6/8 + 6/9) = 12/17.
    found = score("rouge1", "The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog")
    assert found == pytest.approx(100 * 12 / 17)


def test_stems_are_shared() -> None:
    assert score("rouge1", "dogs running", "dog runs") > 0
    assert score("rouge1", "dogs", "dogs", language="de") == 100


def test_a_line_is_cut_after_its_marks() -> None:
    # One sentence each would have an LCS of 3 of 6; sentence by sentence all 6 are found.
    gold, given = "The cat sat. A dog ran.", "A dog ran. The cat sat."
    assert score("rougeL", given, gold) == pytest.approx(50)
    assert score("rougeLsum", given, gold) == pytest.approx(100)
    assert score("rougeLsum", "狗跑了。猫坐着！", "猫坐着！狗跑了。", language="zh") == pytest.approx(100)


def test_sentences() -> None:
    assert sentences_on_lines("It is 3.5 m. Yes? No!") == "It is 3.5 m.\nYes?\nNo!"
    assert sentences_on_lines("好。不好！\n").split() == ["好。", "不好！"]
    assert sentences_on_lines("One. Two\nThree.") == "One. Two\nThree."


def test_chinese_by_characters() -> None:
    # [我, 爱, 北, 京] against [我, 爱, 上, 海]: 2 of 4 shared, 1 of 3 pairs.
    assert score("rouge1", "我爱北京", "我爱上海", language="zh") == pytest.approx(50)
    assert score("rouge2", "我爱北京", "我爱上海", language="zh") == pytest.approx(100 / 3)
    # rouge-score's own tokenizer would find no word at all.
    assert score("rouge1", "我爱北京", "我爱北京", language="zh") == 100


def test_latin_words_and_numbers_are_whole() -> None:
    assert words("GPT-2在2019年，发布！") == ["gpt", "2", "在", "2019", "年", "发", "布"]
    assert words("Straße, naïve_x カナ") == ["straße", "naïve", "x", "カ", "ナ"]
    assert pieces("好！ ok?!") == ["好", "！", "ok", "?", "!"]


def test_the_tokenizer_and_version_stand_in_the_signature() -> None:
    assert "porter" in make_metric("rouge1").signature
    assert "words-or-han" in make_metric("rouge1", language="zh").signature
    assert "rouge-score:" in make_metric("rougeLsum").signature
    assert "sentences:" in make_metric("rougeLsum").signature
