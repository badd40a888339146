"""The head that answers with vectors: its losses as their papers write them, its scores as SciPy counts them."""

from itertools import product
from math import exp, log

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.head import HEADS
from lmtasks.head.embedding import SHARPNESS, text_name, unit
from lmtasks.records import HeadInput, Quantity

HEAD = HEADS["embedding"]


def pairs(rows: int, *, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 2, 6)).astype(np.float32))


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


def test_right_texts_are_told_from_those_of_other_rows() -> None:
    """Both ways round; a text that stands twice is no wrong answer to itself."""
    vectors, names = pairs(4), [7, 8, 7, 9]
    given = vectors.double().numpy()
    table = [[SHARPNESS * cosine(q, t) for t in given[:, 1]] for q in given[:, 0]]
    wanted = 0.0
    for i in range(4):
        others = [j for j in range(4) if j == i or names[j] != names[i]]
        wanted += log(sum(exp(table[i][j]) for j in others)) - table[i][i]
        wanted += log(sum(exp(table[j][i]) for j in others)) - table[i][i]
    assert float(HEAD.loss(vectors, torch.tensor(names)[:, None])) == pytest.approx(wanted / 8, rel=1e-5)


def test_numbers_are_learned_by_their_order() -> None:
    """CoSENT by hand; equal numbers ask for nothing, and another scale for nothing else."""
    vectors, numbers = pairs(5), [0.0, 3.0, 3.0, 1.0, 5.0]
    likeness = [cosine(*each) for each in vectors.double().numpy()]
    terms = [
        exp(SHARPNESS * (likeness[j] - likeness[i])) for i, j in product(range(5), range(5)) if numbers[i] > numbers[j]
    ]
    found = HEAD.loss(vectors, torch.tensor(numbers)[:, None])
    assert len(terms) == 9
    assert float(found) == pytest.approx(log(1 + sum(terms)), rel=1e-5)
    assert float(HEAD.loss(vectors, 100 * torch.tensor(numbers)[:, None] - 7)) == pytest.approx(float(found))
    assert float(HEAD.loss(vectors, torch.ones(5, 1))) == 0.0


def test_validation_rows_are_scored_together_however_they_are_batched() -> None:
    vectors = pairs(40)
    numbers = torch.from_numpy(np.random.default_rng(1).integers(0, 6, size=(40, 1)).astype(np.float32))
    likeness = [cosine(*each) for each in vectors.double().numpy()]
    wanted = (1 + spearmanr(likeness, numbers[:, 0]).statistic) / 2
    for size in (40, 7):
        batches = [(vectors[at : at + size], numbers[at : at + size]) for at in range(0, 40, size)]
        assert HEAD.scored(batches) == pytest.approx(wanted)
    names = torch.arange(40)[:, None] // 2  # each right text answers two rows
    vectors[1::2, 1] = vectors[::2, 1]
    table = unit(vectors[:, 0].numpy()) @ unit(vectors[::2, 1].numpy()).T
    ranks = [1 + int((row > row[place // 2]).sum()) for place, row in enumerate(table)]
    batches = [(vectors[at : at + 9], names[at : at + 9]) for at in range(0, 40, 9)]
    assert HEAD.scored(batches) == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert HEAD.scored([]) == 0.0


def test_texts_are_read_behind_their_prefixes() -> None:
    tokenizer = learn_tokenizer("words:40", ["query: passage: a b c d"])
    prefixes = ("query: ", "passage: ")

    def read(given: HeadInput) -> list[str]:
        rows = HEAD.encode(given, tokenizer=tokenizer, max_length=16).rows
        return [tokenizer.decode(row.ids) for row in rows]

    asked, found = read(HeadInput(first="a b", answers=("c d",), prefixes=prefixes))
    assert ("query" in asked, "passage" in found) == (True, True)
    assert all("query" in text for text in read(HeadInput(first="a b", second="c d", prefixes=prefixes)))
    encoded = HEAD.encode(HeadInput(first="a", answers=("c d", "b")), tokenizer=tokenizer, max_length=16)
    ((row, targets),) = encoded.targets()
    assert row.apart is not None
    assert targets == (text_name("c d"),)
    assert targets[0] < 2**56


def test_the_answer_is_a_cosine_and_nothing_is_like_a_vector_without_length() -> None:
    tokenizer = learn_tokenizer("words:40", ["a b"])
    encoded = HEAD.encode(HeadInput(first="a", second="b", number=2.0), tokenizer=tokenizer, max_length=8)
    found = encoded.outcome([np.array([1, 1], np.float32), np.array([2, 0], np.float32)], labels=(), order=())
    assert found == Quantity(gold=2.0, prediction=pytest.approx(0.5**0.5))
    zero = encoded.outcome([np.zeros(2, np.float32), np.ones(2, np.float32)], labels=(), order=())
    assert zero == Quantity(gold=2.0, prediction=0.0)
