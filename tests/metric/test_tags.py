"""Entities by the rules of conlleval."""

import numpy as np
import pytest

from lmtasks.errors import UsageError
from lmtasks.metric import make_metric
from lmtasks.metric.base import value_of
from lmtasks.metric.tags import entities
from lmtasks.records import Text


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
