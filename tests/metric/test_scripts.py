"""Metrics that look at words, in scripts with marks and in scripts without blanks. Values are worked out by hand.

A word holds its vowel signs, tone marks, points, viramas and joiners; scripts without blanks are cut into grapheme
clusters. Each line has two texts that share some of their words and differ in a mark in the others.
"""

from collections.abc import Mapping
from unicodedata import normalize

import pytest
from rouge_score.rouge_scorer import RougeScorer

from lmtasks.metric import make_metric
from lmtasks.metric.words import pieces, words
from lmtasks.records import Likelihood, Outcome, Text

# language, one text as words, another as words: what they share is rouge1, worked out beside each line.
SCRIPTS = [
    ("hi", ["वह", "दिन", "अच्छा", "है"], ["वह", "दान", "अच्छी", "है"], 2 / 4),
    ("hi", ["किताब"], ["काताब"], 0),
    ("ne", ["क्षत्रिय", "राजा"], ["क्षत्रीय", "राजा"], 1 / 2),
    ("bn", ["বাংলা", "ভাষা"], ["বাংলা", "ভষা"], 1 / 2),
    ("pa", ["ਪੰਜਾਬੀ", "ਬੋਲੀ"], ["ਪੰਜਾਬੀ", "ਬੋਲ"], 1 / 2),
    ("gu", ["ગુજરાતી", "ભાષા"], ["ગજરાતી", "ભાષા"], 1 / 2),
    ("ta", ["தமிழ்", "மொழி"], ["தமிழ்", "மொழ"], 1 / 2),
    ("te", ["తెలుగు", "భాష"], ["తెలుగ", "భాష"], 1 / 2),
    ("kn", ["ಕನ್ನಡ", "ಭಾಷೆ"], ["ಕನ್ನಡ", "ಭಾಷ"], 1 / 2),
    ("ml", ["മലയാളം", "ഭാഷ"], ["മലയാള", "ഭാഷ"], 1 / 2),
    ("si", ["ශ්\u200dරී", "ලංකා"], ["ශ්\u200dරි", "ලංකා"], 1 / 2),
    ("ar", ["كَتَبَ", "الوَلَدُ"], ["كُتِبَ", "الوَلَدُ"], 1 / 2),
    ("fa", ["می\u200cخواهم", "بروم"], ["می\u200cخواهد", "بروم"], 1 / 2),
    ("he", ["שָׁלוֹם", "עוֹלָם"], ["שָׁלוֹם", "עוֹלֵם"], 1 / 2),
    ("am", ["አማርኛ", "ቋንቋ"], ["አማርኛ", "ቋንቃ"], 1 / 2),
    ("ru", ["за\u0301мок", "стоит"], ["замо\u0301к", "стоит"], 1 / 2),  # no letter of Unicode's own for these
    ("vi", ["tiếng", "việt", "nam"], ["tiếng", "viết", "năm"], 1 / 3),
    ("ko", ["한국어", "만세"], ["한국어", "만새"], 1 / 2),
    ("bo", ["བོད", "ཡིག"], ["བོད", "ཡུག"], 1 / 2),  # a mark of its own stands between syllables
    ("th", ["น้ำ", "เ", "ย็", "น"], ["นำ", "เ", "ย็", "น"], 3 / 4),
    ("th", ["ก", "า"], ["กิ"], 0),
    ("lo", ["ນ້ຳ", "ດີ"], ["ນຳ", "ດີ"], 1 / 2),
    ("km", ["ខ្មែ", "រ"], ["ខ្មុ", "រ"], 1 / 2),
    ("my", ["မြ", "န်", "မာ"], ["မြ", "န်", "မ"], 2 / 3),
    ("zh", ["我", "爱", "北", "京"], ["我", "爱", "上", "海"], 2 / 4),
    ("ja", ["が", "く", "せ", "い"], ["か", "く", "せ", "い"], 3 / 4),
    ("ja", ["デ", "ー", "タ", "が", "1", "件"], ["デ", "ー", "タ", "が", "2", "件"], 5 / 6),
]
UNSPACED = frozenset({"bo", "th", "lo", "km", "my", "zh", "ja"})


def text_of(language: str, cut: list[str]) -> str:
    between = "་" if language == "bo" else "" if language in UNSPACED else " "
    return between.join(cut)


def value(name: str, prediction: str, *references: str, language: str = "en") -> float:
    metric = make_metric(name, language=language)
    return float(metric.statistics([Text(references=references, prediction=prediction)])[0, 0])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(("language", "wanted", "given", "shared"), SCRIPTS)
def test_marks_belong_to_their_words(
    language: str, wanted: list[str], given: list[str], shared: float, form: str
) -> None:
    gold, prediction = text_of(language, wanted), normalize(form, text_of(language, given))
    in_nfc = [normalize("NFC", word) for word in given]
    assert words(prediction) == in_nfc
    common = len(set(wanted) & set(given))
    assert common / max(len(wanted), len(given)) == shared  # the table itself
    rouge1 = 200 * common / (len(wanted) + len(given))
    assert value("rouge1", prediction, gold, language=language) == pytest.approx(rouge1)
    assert value("rougeL", prediction, gold, language=language) == pytest.approx(rouge1)  # all are in the same order
    assert value("rouge1", normalize(form, gold), gold, language=language) == 100
    if language != "bo":  # where marks between syllables are pieces too
        both = f"{gold} {prediction}"
        assert value("distinct_1", both) == pytest.approx(len({*wanted, *given}) / (len(wanted) + len(given)))
    if language not in UNSPACED:  # by what stands between blanks
        assert value("squad_f1", prediction, gold) == pytest.approx(rouge1 / 100)
    assert value("squad_em", prediction, gold) == 0
    assert value("squad_em", normalize(form, gold), gold) == 1


@pytest.mark.parametrize(
    ("text", "repetition"),
    [
        # Five times the same word: two 4-grams, one of them a repeat.
        ("दिन दिन दिन दिन दिन", 1 / 2),
        ("दिन दान दीन दून देन", 0),  # without their vowels all would be the same
        ("น้ำนำนำ้นา", 0),
        ("กากากากา", 3 / 5),  # ก, า, ก, า, ... : 5 4-grams of 2 kinds
    ],
)
def test_repetition(text: str, repetition: float) -> None:
    assert value("repetition", text) == pytest.approx(repetition)


def test_what_is_not_seen_is_no_part_of_a_word() -> None:
    assert words("co\u00adoperate \ufeffgo\u2060es \u200fשלום\u200f") == ["cooperate", "goes", "שלום"]
    assert words("ភាសា\u200bខ្មែរ") == words("ភាសា ខ្មែរ")
    assert words("İstanbul") == ["i\u0307stanbul"]
    assert pieces("👨\u200d👩\u200d👧🇫🇷 ❤\ufe0f!") == ["👨\u200d👩\u200d👧", "🇫🇷", "❤", "!"]


def test_english_squad_keeps_the_words_that_only_look_like_articles() -> None:
    # In normal form D "thé" is "the" with a mark behind it; the article would go and leave the mark.
    assert value("squad_em", "the\u0301", "thé") == 1
    assert value("squad_em", "the\u0301", "thè") == 0
    assert value("squad_em", "the a\u0320", "") == 0  # no letter of Unicode's own holds this one
    assert value("squad_em", "The café.", "cafe\u0301") == 1


def test_english_rouge_is_that_of_rouge_score_beyond_ascii_too() -> None:
    gold, given = "The naïve café's 3½ rôles — “quoted” e\u0301lan", "the naive café 3 rôles"
    theirs = RougeScorer(["rouge1", "rougeL"], use_stemmer=True).score(gold, given)
    assert value("rouge1", given, gold) == 100 * theirs["rouge1"].fmeasure
    assert value("rougeL", given, gold) == 100 * theirs["rougeL"].fmeasure


@pytest.mark.parametrize("language", ["en-GB", "en_US", "EN"])
def test_a_region_makes_no_other_language(language: str) -> None:
    assert make_metric("rouge1", language=language).signature == make_metric("rouge1").signature
    assert make_metric("squad_em", language="zh-Hans").signature == make_metric("squad_em", language="zh").signature


def test_sentences_end_with_the_marks_of_their_own_script() -> None:
    first, second = "यह दिन है", "वह रात थी"
    gold, given = f"{first}। {second}।", f"{second}। {first}।"
    assert value("rougeL", given, gold, language="hi") == pytest.approx(50)
    assert value("rougeLsum", given, gold, language="hi") == pytest.approx(100)
    assert value("rougeLsum", "یہ رات ہے؟ وہ دن ہے۔", "وہ دن ہے۔ یہ رات ہے؟", language="ur") == pytest.approx(100)


REFERENCES: Mapping[str, str] = {
    "English": "It rained in 東京 all day.",
    "Hindi": "दिन में बारिश हुई।",
    "Korean": "하루 종일 비가 왔다.",
    "Chinese": "我爱北京天安门 (Beijing)",
    "Japanese": "東京で雨が降った。",
    "Thai": "ฝนตกทั้งวัน 3 ครั้ง",
    "Lao": "ຝົນຕົກ",
    "Khmer": "ភ្លៀងធ្លាក់",
    "Burmese": "မိုးရွာတယ်",
    "Tibetan": "ཆར་པ་བབས་སོང་།",
}
USE = {
    # metric: what is to be used instead, in Chinese and in other scripts without blanks; empty: it cuts them
    "bleu": ("bleu_zh", "chrf"),
    "bleu_zh": ("", "chrf"),
    "chrf++": ("chrf", "chrf"),
    "ter": ("bleu_zh", "chrf"),
    "squad_f1": ("zh", "chrf"),
    "chrf": ("", ""),
    "distinct_1": ("", ""),
}


def remarks(name: str, outcomes: list[Outcome], *, language: str = "en") -> Mapping[str, int]:
    found = make_metric(name, language=language).remarks
    return {} if found is None else found(outcomes)


@pytest.mark.parametrize("script", REFERENCES)
@pytest.mark.parametrize("name", USE)
def test_a_metric_that_cannot_cut_a_script_says_what_to_use(name: str, script: str) -> None:
    spaced = script in ("English", "Hindi", "Korean")
    use = "" if spaced else USE[name][0 if script == "Chinese" else 1]
    english: Outcome = Text(references=("It rained.",), prediction="東京で雨が降った。")
    found = remarks(name, [Text(references=(REFERENCES[script],), prediction="rain"), english])
    assert list(found.values()) == ([1] if use else [])
    assert all(script in sentence and sentence.split("; use ")[1].endswith(use) for sentence in found)


@pytest.mark.parametrize("script", REFERENCES)
def test_english_rouge_says_so_where_the_language_was_not_set(script: str) -> None:
    outcome: Outcome = Text(references=(REFERENCES[script],), prediction="rain")
    assert len(remarks("rouge1", [outcome])) == (script != "English")
    assert not remarks("rouge1", [outcome], language="hi")


def test_word_perplexity_says_that_nothing_stands_between_blanks() -> None:
    thai: Outcome = Likelihood(logprob=-90.0, tokens=40, words=1, bytes=len((REFERENCES["Thai"] * 2).encode()))
    english: Outcome = Likelihood(logprob=-90.0, tokens=40, words=6, bytes=30)
    (found,) = remarks("word_perplexity", [thai, english]).items()
    assert "byte_perplexity" in found[0]
    assert found[1] == 1
