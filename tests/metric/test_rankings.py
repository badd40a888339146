"""Ranks of right choices: as scikit-learn counts them, and as good as chance where nothing is told apart."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from lmtasks.errors import UsageError
from lmtasks.metric import make_metric
from lmtasks.metric.choice import rank_ties
from lmtasks.records import Choice, Ranks

from .examples import value


def choice(scores: list[float], *gold: int) -> Choice:
    ones = (1,) * len(scores)
    return Choice(gold=gold, scores=tuple(scores), chars=ones, bytes=ones)


def test_equals_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    scores, gold = draw.normal(size=(60, 12)), draw.integers(12, size=60)
    outcomes = [choice(row.tolist(), int(right)) for row, right in zip(scores, gold, strict=True)]
    true = np.eye(12)[gold]
    for k in (1, 2, 5, 10):
        wanted = top_k_accuracy_score(gold, scores, k=k, labels=range(12))
        assert value(make_metric(f"recall_{k}"), outcomes) == pytest.approx(wanted, abs=1e-12)
    # Of one right choice the precision at its rank is one over the rank.
    assert value(make_metric("mrr"), outcomes) == pytest.approx(label_ranking_average_precision_score(true, scores))
    assert value(make_metric("ndcg_10"), outcomes) == pytest.approx(ndcg_score(true, scores, k=10), abs=1e-12)


def test_gain_of_several_right_ones_and_of_equal_scores_is_scikit_learns() -> None:
    draw = np.random.default_rng(1)
    scores, true = draw.integers(4, size=(80, 15)).astype(float), draw.random((80, 15)) < 0.2
    true[:, 0] |= ~true.any(axis=1)
    outcomes = [choice(row.tolist(), *np.flatnonzero(right).tolist()) for row, right in zip(scores, true, strict=True)]
    assert value(make_metric("ndcg_10"), outcomes) == pytest.approx(ndcg_score(true, scores, k=10), abs=1e-12)


@pytest.mark.parametrize("gold", [(0,), (3,), (0, 1), (1, 2, 4)])
def test_ties_are_the_mean_over_all_orders(gold: tuple[int, ...]) -> None:
    scores = [2.0, 1.0, 1.0, 1.0, 0.0]
    orders = [order for order in permutations(range(5)) if [scores[place] for place in order] == sorted(scores)[::-1]]
    ranks = [[order.index(place) + 1 for place in gold] for order in orders]
    found = [choice(scores, *gold)]
    for k in (1, 2, 5):
        wanted = np.mean([[rank <= k for rank in each] for each in ranks])
        assert value(make_metric(f"recall_{k}"), found) == pytest.approx(wanted)
    assert value(make_metric("mrr"), found) == pytest.approx(np.mean([1 / min(each) for each in ranks]))


def test_a_score_that_is_the_same_for_all_is_chance() -> None:
    outcomes = [choice([0.5] * 10, 0)]
    assert value(make_metric("recall_1"), outcomes) == pytest.approx(0.1)
    assert value(make_metric("recall_5"), outcomes) == pytest.approx(0.5)
    assert value(make_metric("mrr"), outcomes) == pytest.approx(np.mean([1 / rank for rank in range(1, 11)]))


def test_candidates_fewer_than_k_are_refused() -> None:
    with pytest.raises(UsageError, match="an example has 3 candidates, fewer than the 5 of recall_5"):
        value(make_metric("recall_5"), [choice([0.0] * 5, 0), choice([0.0] * 3, 0)])


def test_ranks_in_a_corpus_are_trec_evals() -> None:
    """trec_eval's `recall.k`, `recip_rank` and `ndcg_cut.10` (binary gain, log2(1 + rank), the best order of as many
    right texts), written out; and what the same order is worth as a choice among all texts."""
    draw = np.random.default_rng(2)
    scores, right = draw.normal(size=(40, 120)), draw.random((40, 120)) < 0.05
    right[:, 7] |= ~right.any(axis=1)
    ranks, choices = [], []
    for row, gold in zip(scores, right, strict=True):
        places = np.flatnonzero(gold).tolist()
        ranks.append(Ranks(ties=tuple(rank_ties(row, places)), count=len(row)))
        choices.append(choice(row.tolist(), *places))
    orders = [[bool(gold[place]) for place in np.argsort(-row)] for row, gold in zip(scores, right, strict=True)]
    for k in (1, 10, 100):
        wanted = np.mean([sum(order[:k]) / sum(order) for order in orders])
        assert value(make_metric(f"recall_{k}", takes="ranks"), ranks) == pytest.approx(wanted)
        assert value(make_metric(f"recall_{k}"), choices) == pytest.approx(wanted)
    wanted = np.mean([1 / (1 + order.index(True)) for order in orders])
    assert value(make_metric("mrr", takes="ranks"), ranks) == pytest.approx(wanted)
    gains = 1 / np.log2(np.arange(2, 12))
    wanted = np.mean([gains @ order[:10] / gains[: sum(order)].sum() for order in orders])
    assert value(make_metric("ndcg_10", takes="ranks"), ranks) == pytest.approx(wanted)
    assert value(make_metric("ndcg_10"), choices) == pytest.approx(wanted)
