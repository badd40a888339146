"""Entities by the rules of conlleval."""

import numpy as np
import pytest

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
