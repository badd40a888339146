"""n-gram models against a plain count over dictionaries, and against what a distribution must be."""

import math
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from lmtasks.backbone.kneser_ney import FALLBACK, count_ngrams, kneser_ney
from lmtasks.backbone.ngram import Ngram
from lmtasks.errors import UsageError
from lmtasks.records import Ints

VOCABULARY, END, START = 300, 0, 300


def lines(*, seed: int, count: int = 300) -> list[list[int]]:
    """Lines of a small language: few tokens are frequent, and some follow each other more often than chance has it."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        line = [int(min(random.zipf(1.5), VOCABULARY - 1))]
        while random.random() < 0.85:
            new = int(min(random.zipf(1.5), VOCABULARY - 1))
            line.append(new if random.random() < 0.6 else 1 + line[-1] * 7 % (VOCABULARY - 1))
        made.append(line)
    return made


def text_of(given: list[list[int]]) -> Ints:
    return np.array([token for line in given for token in (*line, END)])


def model(*, order: int, seed: int = 0, cutoffs: tuple[int, ...] = (), fallback: bool = False) -> Ngram:
    counts = count_ngrams([text_of(lines(seed=seed))], order=order, vocabulary=VOCABULARY, ends=(END,))
    return kneser_ney(counts, cutoffs=cutoffs, fallback=fallback)


class Plain:
    """Chen and Goodman 1998, section 3, word for word over dictionaries; nothing is shared with the package."""

    def __init__(self, given: list[list[int]], *, order: int) -> None:
        raw: Counter[tuple[int, ...]] = Counter()
        for line in given:
            padded = (START, *line, END)
            for length in range(1, order + 1):
                for first in range(len(padded) - length + 1):
                    raw[padded[first : first + length]] += 1
        before: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for gram in raw:
            if len(gram) > 1:
                before[gram[1:]].add(gram[0])
        self.counts = {
            gram: count if len(gram) == order or gram[0] == START else len(before[gram]) for gram, count in raw.items()
        }
        del self.counts[(START,)]
        self.discounts = {}
        for length in range(1, order + 1):
            n = Counter(count for gram, count in self.counts.items() if len(gram) == length)
            y = n[1] / (n[1] + 2 * n[2])
            self.discounts[length] = [0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        self.followers: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
        for gram in self.counts:
            self.followers[gram[:-1]].append(gram)

    def probability(self, context: tuple[int, ...], token: int) -> float:
        lower = self.probability(context[1:], token) if context else 1 / VOCABULARY
        seen = self.followers[context]
        if not seen:
            return lower
        discounts = self.discounts[len(context) + 1]
        total = sum(self.counts[gram] for gram in seen)
        spared = sum(discounts[min(3, self.counts[gram])] for gram in seen)
        own = self.counts.get((*context, token), 0)
        return max(own - discounts[min(3, own)], 0) / total + spared / total * lower


def stepwise(ngram: Ngram, line: list[int]) -> list[float]:
    state, found = ngram.start(1), []
    for token in line:
        found.append(float(ngram.next_logprobs(state)[0, token]))
        state = ngram.read(state, np.array([[token]]))[:, 0]
    return found


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_paper(order: int) -> None:
    ngram, plain = model(order=order), Plain(lines(seed=0), order=order)
    for line in lines(seed=5, count=20):
        padded = (START, *line, END)
        found = stepwise(ngram, [*line, END])
        for place, logprob in enumerate(found, start=1):
            context = padded[max(0, place - order + 1) : place]
            assert logprob == pytest.approx(math.log(plain.probability(context, padded[place])), abs=1e-5)


@pytest.mark.parametrize("cutoffs", [(), (0, 0, 1), (0, 1, 2)])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_context_has_a_distribution(order: int, cutoffs: tuple[int, ...]) -> None:
    ngram = model(order=order, cutoffs=cutoffs, fallback=True)
    rows = text_of(lines(seed=7, count=30))[None]
    states = ngram.read(ngram.start(1), rows)[0]
    every = ngram.next_logprobs(states)
    np.testing.assert_allclose(np.exp(every.astype(np.float64)).sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(every.max(1), ngram.best(states), atol=1e-6)
    tokens = np.arange(len(states)) % VOCABULARY
    np.testing.assert_allclose(ngram.score(states, tokens), every[np.arange(len(states)), tokens], atol=1e-6)
    whole = stepwise(ngram, rows[0].tolist())
    assert ngram.row_logprobs([rows[0]])[0] == pytest.approx(sum(whole), rel=1e-6)


def test_rows_are_read_side_by_side_as_alone() -> None:
    ngram = model(order=4)
    rows = np.stack([text_of(lines(seed=seed))[:40] for seed in (1, 2, 3)])
    together = ngram.read(ngram.start(3), rows)
    for number in range(3):
        first = ngram.read(ngram.start(1), rows[number : number + 1, :13])
        second = ngram.read(first[:, -1], rows[number : number + 1, 13:])
        np.testing.assert_array_equal(together[number], np.concatenate([first, second], axis=1)[0])


def test_lines_do_not_look_back_over_their_beginning() -> None:
    ngram = model(order=4)
    end = ngram.read(ngram.start(1), np.array([[3, 4, 5, END]]))[:, -1]
    np.testing.assert_array_equal(end, ngram.start(1))


def test_rows_and_lines_are_counted_alike() -> None:
    given = lines(seed=0)
    joined = count_ngrams([text_of(given)], order=3, vocabulary=VOCABULARY, ends=(END,))
    apart = count_ngrams([np.array([END, *line, END]) for line in given], order=3, vocabulary=VOCABULARY, ends=(END,))
    for one, other in zip(joined.levels, apart.levels, strict=True):
        np.testing.assert_array_equal(one.keys, other.keys)
        np.testing.assert_array_equal(one.counts, other.counts)


def test_cut_offs_leave_rare_ones_out_and_nothing_else() -> None:
    whole, cut = model(order=3, fallback=True), model(order=3, cutoffs=(0, 0, 2), fallback=True)
    counts = count_ngrams([text_of(lines(seed=0))], order=3, vocabulary=VOCABULARY, ends=(END,))
    assert [len(level.keys) for level in whole.levels] == [len(level.keys) for level in counts.levels]
    assert len(cut.levels[1].keys) == len(whole.levels[1].keys)
    assert len(cut.levels[2].keys) == int((counts.levels[2].counts > 2).sum()) < len(whole.levels[2].keys)


def test_a_text_shorter_than_the_order_is_said() -> None:
    with pytest.raises(UsageError, match=r"longest line has 3 tokens, its end included, and an order of 5 needs 4"):
        count_ngrams([np.array([1, 2, END, 3])], order=5, vocabulary=VOCABULARY, ends=(END,))
    with pytest.raises(UsageError, match="longest line has 0 tokens"):
        count_ngrams([np.array([END])], order=1, vocabulary=VOCABULARY, ends=(END,))
    assert count_ngrams([np.array([1, 2, END, 3])], order=4, vocabulary=VOCABULARY, ends=(END,)).levels[3].counts == [1]


def test_counts_that_define_no_discounts_are_named_and_have_a_way_out() -> None:
    counts = count_ngrams([np.array([1, 2, 1, 2, END])], order=2, vocabulary=VOCABULARY, ends=(END,))
    with pytest.raises(UsageError, match=r"no Kneser-Ney discounts of order 1: .* fallback=1, which discounts 0.5, 1"):
        kneser_ney(counts)
    made = kneser_ney(counts, fallback=True)
    # 1 2 stands twice behind 1; nothing else does. Adjusted counts of single tokens: 1 has two before it, 2 one, 0 one.
    spared = (0.5 + 1.0 + 0.5) / 4
    one = (1 - FALLBACK[0]) / 4 + spared / VOCABULARY
    wanted = (2 - FALLBACK[1]) / 2 + FALLBACK[1] / 2 * one
    state = made.read(made.start(1), np.array([[1]]))[:, 0]
    assert float(np.exp(made.next_logprobs(state)[0, 2])) == pytest.approx(wanted, abs=1e-6)


def test_cut_offs_that_fall_are_refused() -> None:
    with pytest.raises(UsageError, match=r"must not fall .* were 0\+2\+1"):
        model(order=3, cutoffs=(0, 2, 1))


@pytest.mark.real_data
def test_penn_treebank() -> None:
    """Mikolov and Zweig 2012, "Context dependent recurrent neural network language model", table 2: KN5 has 141.2."""
    root = os.environ.get("LMTASKS_DATA_ROOT")
    if not root:
        pytest.skip("LMTASKS_DATA_ROOT names no mirror")
    import pyarrow.parquet as pq

    def read(split: str) -> list[str]:
        file = Path(root) / "ptb-text-only" / "ptb_text_only" / f"{split}.parquet"
        return [word for line in pq.read_table(file)["sentence"].to_pylist() for word in (*line.split(), "\n")]

    train, test = read("train"), read("test")
    number = {word: place for place, word in enumerate(dict.fromkeys(["\n", *train]))}
    ids = [np.array([number[word] for word in words]) for words in (train, test)]
    ngram = kneser_ney(count_ngrams(ids[:1], order=5, vocabulary=len(number), ends=(0,)))
    assert len(test) == 82_430
    assert math.exp(-ngram.row_logprobs(ids[1:])[0] / len(test)) == pytest.approx(141.19, abs=0.05)
