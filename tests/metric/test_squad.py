"""squad_em and squad_f1 worked by hand from the official scripts' rules.

English (SQuAD 2.0, evaluate-v2.0.py): lower case; drop ASCII punctuation; a, an, the -> space; collapse spaces.
EM: equal. F1: bag of words; both empty 1, one empty 0. Best reference; none: the empty text.
Chinese (CMRC 2018, cmrc2018_evaluate.py v5): lower, strip, drop the script's marks. EM: equal. F1: characters
U+4E00-9FA5 alone, English words whole; longest common run of segments over the lengths. Best reference.
"""

import numpy as np
import pytest

from lmtasks.metric import make_metric, value_of
from lmtasks.metric.squad import longest_common_run, segments
from lmtasks.records import Text


def scores(prediction: str, *references: str, language: str = "en") -> tuple[float, float]:
    outcome = Text(references=references, prediction=prediction)
    em, f1 = (make_metric(name, language=language).statistics([outcome])[0, 0] for name in ("squad_em", "squad_f1"))
    return float(em), float(f1)


@pytest.mark.parametrize(
    ("prediction", "references", "em", "f1"),
    [
        ("Norman conquest.", ("the Norman Conquest",), 1, 1),
        # {norman}: precision 1, recall 1/2
        ("Norman", ("the Norman Conquest",), 0, 2 / 3),
        # {in, 1066, ad} against {1066}: precision 1/3, recall 1
        ("in 1066 AD", ("1066",), 0, 0.5),
        # common words count as often as both have them: {no, no} of 3 and 2: precision 2/3, recall 1
        ("no, no, no", ("no no",), 0, 0.8),
        # the best of three: EM with the second, F1 1
        ("10th century", ("in the 10th and 11th centuries", "10th century", "10th"), 1, 1),
        # punctuation goes before articles: "a-b" is "ab", and "the." is an article
        ("a-b the.", ("ab",), 1, 1),
        # an article inside a word stays
        ("theatre", ("atre",), 0, 0),
        ("something else", ("another thing",), 0, 0),
        # without an answer
        ("", (), 1, 1),
        ("1066", (), 0, 0),
        ("the", (), 1, 1),  # normalizes to nothing
        ("", ("1066",), 0, 0),
        # references that normalize to nothing are none
        ("", ("the", "..."), 1, 1),
        ("1066", ("...", "1066"), 1, 1),
    ],
)
def test_english(prediction: str, references: tuple[str, ...], em: float, f1: float) -> None:
    assert scores(prediction, *references) == (em, pytest.approx(f1))


@pytest.mark.parametrize(
    ("prediction", "references", "em", "f1"),
    [
        ("1918年", ("1918年",), 1, 1),
        # marks do not count, on either side
        ("《红楼梦》。", ("红楼梦",), 1, 1),
        # [在, 1918, 年] against [1918, 年]: run 2, precision 2/3, recall 1
        ("在1918年", ("1918年",), 0, 0.8),
        # [上, 海, 大, 北, 京] against [北, 京, 大, 上, 海]: the longest run is 上海 or 北京, 2 of 5
        ("上海大北京", ("北京大上海",), 0, 0.4),
        # a subsequence of 3 (甲, 乙, 丙), but runs of 1: precision 1/5, recall 1/3
        ("甲一乙二丙", ("甲乙丙",), 0, 0.25),
        # English words are whole and in lower case: [kobe, bryant, 是, 球, 星] against [kobe, bryant]: 2/5, 1
        ("Kobe Bryant是球星", ("kobe bryant",), 0, 4 / 7),
        # a mark inside disappears before the cut, so its neighbours join: bryant，1996 is one word
        ("Bryant，1996", ("1996",), 0, 0),
        # the best reference
        ("鲁迅", ("周树人", "鲁迅先生", "鲁迅"), 1, 1),
        ("", ("鲁迅",), 0, 0),
        ("鲁迅", (), 0, 0),
        ("", (), 1, 1),
        # the ellipsis is not among the script's marks (its two-character one never matches), nor are ASCII , and .
        ("很好…", ("很好",), 0, 0.8),
        ("很好,", ("很好",), 0, 0.8),
        ("很好-", ("很好",), 1, 1),
    ],
)
def test_chinese(prediction: str, references: tuple[str, ...], em: float, f1: float) -> None:
    assert scores(prediction, *references, language="zh") == (em, pytest.approx(f1))


def test_segments() -> None:
    assert segments("NBA球星It's OK，3.5米！") == ["nba", "球", "星", "it", "'s", "ok3.5", "米"]


def test_longest_common_run() -> None:
    assert longest_common_run(list("abcde"), list("cdeab")) == 3
    assert longest_common_run([], ["a"]) == 0
    assert longest_common_run(list("aaa"), list("aa")) == 2


def test_the_script_stands_in_the_signature() -> None:
    assert "squad-2.0" in make_metric("squad_f1").signature
    assert "cmrc-2018" in make_metric("squad_f1", language="zh").signature


def test_questions_with_and_without_an_answer_apart_are_the_scripts() -> None:
    """evaluate-v2.0.py, `make_eval_dict` over `has_ans_qids` and `no_ans_qids`, carried out here over random answers:
    a question belongs to the first if its list of answers is not empty, whatever normalizing leaves of them."""
    draw = np.random.default_rng(0)
    golds = [(), ("the Norman Conquest", "1066"), ("The.",), ("a red apple",)]
    given = ["", "Norman conquest", "1066.", "red", "the", "nothing of it"]
    rows = [Text(references=golds[draw.integers(4)], prediction=given[draw.integers(6)]) for _ in range(200)]
    for name in ("em", "f1"):
        whole = make_metric(f"squad_{name}")
        scores = whole.per_example(whole.statistics(rows))
        has = np.array([bool(row.references) for row in rows])
        for part, chosen in (("hasans", has), ("noans", ~has)):
            metric = make_metric(f"squad_{part}_{name}")
            wanted = sum(scores[chosen].tolist()) / chosen.sum()
            assert value_of(metric, metric.statistics(rows)) == pytest.approx(wanted)
        parts = [make_metric(f"squad_{part}_{name}") for part in ("hasans", "noans")]
        shares = [has.mean(), 1 - has.mean()]
        joined = sum(share * value_of(m, m.statistics(rows)) for m, share in zip(parts, shares, strict=True))
        assert joined == pytest.approx(value_of(whole, whole.statistics(rows)))
