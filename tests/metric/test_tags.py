"""Entities by the rules of conlleval."""

import numpy as np
import pytest

from lmtasks.errors import UsageError
from lmtasks.metric import make_metric
from lmtasks.metric.base import value_of
from lmtasks.metric.tags import arguments, entities
from lmtasks.records import Text
from tests.metric.random_tags import random_pairs, well_formed


def text(wanted: str, found: str) -> Text:
    return Text(references=(wanted,), prediction=found)


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("B-a I-a O B-b", [(0, 2, "a"), (3, 4, "b")]),
        ("B-a B-a", [(0, 1, "a"), (1, 2, "a")]),
        ("O I-a I-a", [(1, 3, "a")]),
        ("B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),
        ("I-a O I-a", [(0, 1, "a"), (2, 3, "a")]),
        ("O O", []),
        ("B I O", [(0, 2, "")]),
        ("S-a B-a E-a I-a", [(0, 1, "a"), (1, 3, "a"), (3, 4, "a")]),
        ("B-a-b I-a-b", [(0, 2, "a-b")]),
    ],
)
def test_where_entities_begin_and_end(tags: str, wanted: list[tuple[int, int, str]]) -> None:
    """As seqeval.metrics.sequence_labeling.get_entities finds them (its last index is the entity's own last tag)."""
    assert entities(tags.split()) == wanted


ENTITIES = [(0, 1, "a"), (1, 4, "a"), (5, 7, "b"), (7, 9, "b"), (9, 10, "a")]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB1", "I-a B-a I-a I-a O I-b I-b B-b I-b I-a"),
        ("IOB2", "B-a B-a I-a I-a O B-b I-b B-b I-b B-a"),
        ("IOE1", "E-a I-a I-a I-a O I-b E-b I-b I-b I-a"),
        ("IOE2", "E-a I-a I-a E-a O I-b E-b I-b E-b E-a"),
        ("IOBES", "S-a B-a I-a E-a O B-b E-b B-b E-b S-a"),
        ("BILOU", "U-a B-a I-a L-a O B-b L-b B-b L-b U-a"),
        ("BMES", "S-a B-a M-a E-a O B-b E-b B-b E-b S-a"),
        ("BMEWO", "W-a B-a M-a E-a O B-b E-b B-b E-b W-a"),
    ],
)
def test_one_sentence_in_every_scheme(scheme: str, tags: str) -> None:
    """seqeval 1.2.2 finds the same, strictly: `Entities([tags], IOB1)`, and so on for IOB2, IOE2, IOBES and BILOU."""
    assert entities(tags.split()) == ENTITIES
    f1 = make_metric("entity_f1", labels=tuple(dict.fromkeys(tags.split())))
    assert value_of(f1, f1.statistics([text(tags, tags)])) == 1.0
    foreign = scheme in ("BILOU", "BMES", "BMEWO")
    assert (f"scheme:{scheme}" in f1.signature) == foreign  # others are scored as they always were


@pytest.mark.parametrize(("last", "unit"), [("L", "U"), ("E", "S"), ("E", "W")])
def test_a_half_entity_is_wrong_in_every_scheme(last: str, unit: str) -> None:
    """Of two entities one is right, of two answered ones too: recall 1/2, precision 1/2, F1 1/2."""
    f1 = make_metric("entity_f1")
    row = text(f"B-LOC {last}-LOC O {unit}-PER", f"B-LOC O O {unit}-PER")
    assert value_of(f1, f1.statistics([row])) == 0.5


def test_seqeval_on_answers_that_break_their_scheme() -> None:
    """seqeval 1.2.2, f1_score in its default mode; of BILOU with L and U written as E and S: 4/9, 2/5 and 0."""
    f1 = make_metric("entity_f1")
    for wanted, found, expected in (
        ("B-a E-a S-b O I-b B-a I-a", "B-a I-a S-b E-b O B-b I-a", 4 / 9),
        ("B-a L-a U-b O", "B-a I-b U-b O", 2 / 5),
        ("U-a U-a", "B-a L-a", 0.0),
    ):
        assert value_of(f1, f1.statistics([text(wanted, found)])) == pytest.approx(expected)


def test_tags_of_no_scheme_are_refused_before_anything_is_scored() -> None:
    for labels in (("O", "LOC"), ("NN", "VB"), ("O", "B_LOC"), ("o", "B-LOC"), ("LOC-B", "O")):
        with pytest.raises(UsageError, match=r"entity_f1 reads tags that begin with B, I, M, E, L, S, U, W .*tag_acc"):
            make_metric("entity_f1", labels=labels)
    f1 = make_metric("entity_f1")
    with pytest.raises(UsageError, match="'X-a'"):
        f1.statistics([text("O X-a", "O O")])


def test_words_that_are_no_tags_are_wrong_entities_and_said() -> None:
    f1 = make_metric("entity_f1")
    rows = [text("B-a O O", "B-a not tags:"), text("B-a O", "B-a O")]
    assert value_of(f1, f1.statistics(rows)) == pytest.approx(2 * 2 / (2 + 4))
    assert f1.remarks is not None
    (count,) = f1.remarks(rows).values()
    assert count == 1


def test_the_example_of_seqeval() -> None:
    """README of seqeval 1.2.2: y_true and y_pred there score f1_score 0.50 and accuracy 0.80."""
    rows = [
        text("O O O B-MISC I-MISC I-MISC O", "O O B-MISC I-MISC I-MISC I-MISC O"),
        text("B-PER I-PER O", "B-PER I-PER O"),
    ]
    f1, accuracy = make_metric("entity_f1"), make_metric("tag_acc")
    assert value_of(f1, f1.statistics(rows)) == pytest.approx(0.5)
    assert value_of(accuracy, accuracy.statistics(rows)) == pytest.approx(0.8)
    assert f1.per_example(f1.statistics(rows)).tolist() == [0.0, 1.0]


def test_missing_tags_are_outside_and_sentences_without_entities_are_right() -> None:
    f1 = make_metric("entity_f1")
    rows = [text("B-a O O", "B-a"), text("O", "O")]
    assert value_of(f1, f1.statistics(rows)) == 1.0
    assert f1.per_example(f1.statistics(rows)).tolist() == [1.0, 1.0]
    assert value_of(f1, f1.statistics([text("O", "O")])) == 0.0
    assert np.isfinite(value_of(f1, f1.statistics([text("O O", "B-a O")])))


@pytest.mark.parametrize(
    ("letters", "seed", "f1"),
    [
        ("BI", 1, 0.7249283667621778),
        ("BI", 2, 0.7150108774474256),
        ("IE", 1, 0.7390366642703091),
        ("IE", 2, 0.7263537906137184),
        ("BIES", 1, 0.7770534550195567),
        ("BIES", 2, 0.7675613934894346),
        ("BIE", 1, 0.75),
        ("BIE", 2, 0.7970128988458928),
    ],
)
def test_entities_of_random_tags_are_those_of_seqeval(letters: str, seed: int, f1: float) -> None:
    """Golden: seqeval 1.2.2, `f1_score(wanted, found)` over these pairs, most of which break every scheme."""
    pairs = random_pairs(letters, ("a", "b", "a-b"), seed=seed)
    metric = make_metric("entity_f1")
    rows = [text(" ".join(wanted), " ".join(found)) for wanted, found in pairs]
    assert value_of(metric, metric.statistics(rows)) == pytest.approx(f1, abs=1e-12)


ROLES = ("A0", "A1", "C-A0", "C-A1", "R-A1", "V", "C-V")


@pytest.mark.parametrize(("seed", "counts"), [(1, (629, 296, 315)), (2, (604, 349, 347)), (3, (640, 349, 354))])
def test_arguments_of_random_tags_are_those_of_the_script(seed: int, counts: tuple[int, int, int]) -> None:
    """Golden: srl-eval.pl of CoNLL-2005 (2005/04/21), `Overall`: corr., excess, missed, over these pairs as its
    start-end columns, one predicate a sentence."""
    pairs = well_formed(random_pairs("BI", ROLES, seed=seed, count=400))
    found = [(set(arguments(wanted)), set(arguments(answered))) for wanted, answered in pairs]
    both = sum(len(wanted & answered) for wanted, answered in found)
    assert (
        both,
        sum(len(answered) for _, answered in found) - both,
        sum(len(wanted) for wanted, _ in found) - both,
    ) == counts
    metric = make_metric("role_f1")
    rows = [text(" ".join(wanted), " ".join(answered)) for wanted, answered in pairs]
    assert value_of(metric, metric.statistics(rows)) == pytest.approx(2 * both / (2 * both + counts[1] + counts[2]))


@pytest.mark.parametrize("seed", range(4, 9))
def test_arguments_are_those_of_the_definition_read_by_itself(seed: int) -> None:
    """Word by word: each word belongs to the argument that its own piece goes on, or begins."""
    for wanted, _ in well_formed(random_pairs("BI", ROLES, seed=seed)):
        owner: dict[int, tuple[str, int]] = {}
        begun: dict[str, int] = {}
        for place, tag in enumerate(wanted):
            letter, _, kind = tag.partition("-")
            if letter == "I":
                owner[place] = owner[place - 1]
            elif letter == "B":
                whole = kind[2:] if kind.startswith("C-") else kind
                if whole == kind or whole not in begun:
                    begun[whole] = place
                owner[place] = (whole, begun[whole])
        joined: dict[tuple[str, int], list[int]] = {}
        for place, each in owner.items():
            joined.setdefault(each, []).append(place)
        borders = {place for place, tag in enumerate(wanted) if tag[0] == "B"}
        expected = {
            (kind, tuple(places), tuple(sorted(borders & set(places))))
            for (kind, _), places in joined.items()
            if kind != "V"
        }
        assert {
            (kind, tuple(place for piece in pieces for place in range(*piece)), tuple(start for start, _ in pieces))
            for kind, pieces in arguments(wanted)
        } == expected


def test_an_argument_in_pieces_is_right_with_all_of_them() -> None:
    metric = make_metric("role_f1")
    wanted = "B-A1 B-V O B-C-A1 I-C-A1 B-A0"
    for found, value in (
        (wanted, 1.0),
        ("B-A1 O O B-C-A1 I-C-A1 B-A0", 1.0),  # V is not counted
        ("B-A1 B-V O B-C-A1 O B-A0", 0.5),
        ("B-A1 B-V O B-A1 I-A1 B-A0", 2 / 5),
        ("O B-V O B-C-A1 I-C-A1 B-A0", 0.5),  # without one before it, it is an A1
        ("B-A1 B-V O B-C-A1 I-C-A1 B-R-A0", 0.5),
    ):
        assert value_of(metric, metric.statistics([text(wanted, found)])) == pytest.approx(value)
