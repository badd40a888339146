"""Probes: heads over a backbone that stands still, trained step by step over its features, or fitted at once.

Logistic regression is scikit-learn's, over features that are brought to mean 0 and deviation 1; both are folded into
the weights, so that what is stored is the linear layer of an ordinary head. Beside the states may stand TF-IDF of the
row's n-grams (`head.words`): it counts for more the more rows there are, since words need rows to be known.

Axes: B batch, T time (tokens), N rows, or tokens that have a target; D width, C classes, G n-grams.

>>> random = np.random.default_rng(0)
>>> labels = random.integers(0, 2, 60)
>>> states = random.normal(size=(60, 3)) + 5 + 2 * labels[:, None] * np.array([0, 0, 1])
>>> fitted = fit_logistic(Targets(states=states, labels=labels), classes=3, judged=None, strength=None, seed=0)
>>> logits = states @ fitted.weights.T + fitted.bias
>>> float((logits.argmax(1) == labels).mean()) > 0.8, bool((logits[:, 2] < -1000).all()), fitted.chosen_on
(True, True, '5 parts of the training rows')
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from lmtasks.data.batches import plan_batches
from lmtasks.data.examples import HeadExamples
from lmtasks.errors import UsageError
from lmtasks.head import head_of
from lmtasks.head.module import TokenRows
from lmtasks.head.words import KnownNgrams, WordTable, most_ngrams, ngrams_of
from lmtasks.model.closed_form import NEVER_SEEN
from lmtasks.model.model import Model
from lmtasks.records import Bools, Floats, Ints, Progress
from lmtasks.training.features import FeatureReader, FeatureRows
from lmtasks.training.pace import judged_rows
from lmtasks.training.stepping import Batch
from lmtasks.training.validation import JudgedRows, Validation

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

STRENGTHS: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(-6, 5))
"""C of logistic regression that are tried where nobody says one: 0.001 to 100, two a decade."""
FOLDS = 5
ENOUGH_ROWS = 100
"""Validation rows (or words) that a strength is chosen on; fewer tell less than parts of the training rows do."""
PAST_THE_BEST = 3
MOST_ITERATIONS = 1000
STATES_AT_ONCE = 16_384
"""States of a batch of validation rows."""
LIGHTEST_ROWS, WORDS_POWER, HEAVIEST = 64, 0.4, 3.0
"""Up to so many rows a row's words are as long a vector as its states; of N rows (N / 64)^0.4 times as long, at most 3
times."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """States that have a label each."""

    states: Floats
    """(N, D)"""
    labels: Ints
    """(N,)"""
    ngrams: Sequence[Ints] | None = None
    """(N,) of each row; None: the states alone are looked at."""

    def where(self, kept: Bools) -> "Targets":
        """Those that are kept, (N,)."""
        ngrams = None
        if self.ngrams is not None:
            ngrams = [row for row, own in zip(self.ngrams, kept, strict=True) if own]
        return Targets(states=self.states[kept], labels=self.labels[kept], ngrams=ngrams)


@dataclass(frozen=True, kw_only=True)
class FittedLayer:
    """Logistic regression as a linear layer."""

    weights: Floats
    """(C, D)"""
    bias: Floats
    """(C,)"""
    strength: float
    """C, by which the loss is multiplied against the squares of the weights."""
    chosen_on: str
    """For people; empty where somebody said it."""
    words: WordTable | None = None
    """The weights of n-grams, where they were looked at."""


class FeatureProbe:
    """The heads of a model over the features of its backbone.

    Args:
        model: on the device where it computes.
        heads: those that learn.
        judged: how many validation rows of each are looked at.
        smoothing: share of a right answer that all answers divide.
        report: told while the backbone reads.
    """

    def __init__(
        self,
        model: Model,
        heads: Sequence[HeadExamples],
        *,
        reader: FeatureReader,
        judged: int,
        smoothing: float,
        report: Callable[[Progress], None],
    ) -> None:
        self.module = HeadsModule(model, smoothing=smoothing)
        self.reader = reader
        self._model, self._heads = model, heads
        names = [head.head.name for head in heads]
        self._train = [
            FeatureRows(reader, name, head.train, report=report) for name, head in zip(names, heads, strict=True)
        ]
        self._judged = [
            FeatureRows(reader, name, judged_rows(head.validation, judged), report=report)
            for name, head in zip(names, heads, strict=True)
        ]

    def batch(self, number: int, places: Sequence[int]) -> Batch:
        """Training rows of a head: states (B, T, D), mask (B, T) and targets."""
        return self._train[number].batch(places)

    @torch.no_grad()
    def judge(self) -> Validation:
        """Mean over heads of the 0-1 score on validation rows, and each head's loss on them."""
        scores: list[float] = []
        losses: dict[str, float] = {}
        by_row: dict[str, Sequence[float]] = {}
        for head, rows in zip(self._heads, self._judged, strict=True):
            judged = JudgedRows(head_of(head.head))
            batches = (
                (self.module.logits(head.head.name, batch), batch["targets"])
                for places in plan_batches(rows.lengths, tokens_per_batch=STATES_AT_ONCE)
                for batch in [rows.batch(places)]
            )
            scores.append(judged.head.scored(judged.over(batches)))
            losses[head.head.name], by_row[head.head.name] = judged.loss, judged.scores
        return Validation(value=fmean(scores), rows=by_row, losses=losses)

    def fit(self, *, strength: float | None, seed: int, words: bool) -> Mapping[str, FittedLayer]:
        """Give every head the weights of logistic regression.

        Args:
            strength: None: the best one of `STRENGTHS`.
            words: look at the n-grams of each row, too, for heads that can.
            seed: of the parts that training rows are divided into.

        Raises:
            UsageError: a head that answers otherwise than by one label, or training rows of one class alone.
        """
        found: dict[str, FittedLayer] = {}
        for head, train, judged in zip(self._heads, self._train, self._judged, strict=True):
            layer, name = head_of(head.head).linear_layer, head.head.name
            counted = words and head_of(head.head).takes_words
            if not layer:
                raise UsageError(
                    f"logistic regression finds one label of several, and the {head.head.kind} head {name!r} answers "
                    "otherwise; use the fit by steps."
                )
            try:
                fitted = fit_logistic(
                    _targets(train, words=counted),
                    classes=len(head.head.labels),
                    judged=_targets(judged, words=counted),
                    strength=strength,
                    seed=seed,
                )
            except UsageError as error:
                raise UsageError(f"task {name}: {error}") from error
            linear = self._model.head(name).get_submodule(layer)
            linear.load_state_dict({"weight": _tensor(fitted.weights), "bias": _tensor(fitted.bias)})
            self._model.set_words(name, fitted.words)
            found[name] = fitted
        return found


class HeadsModule(nn.Module):
    """The heads of a model over features: what a probe trains.

    Args:
        smoothing: share of a right answer that all answers divide.
    """

    def __init__(self, model: Model, *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.heads, self._smoothing = model.heads, smoothing
        self._specs = model.card.heads
        self._head = model.head  # the model itself, as an attribute, would be a part of this module

    def logits(self, head: str, batch: Batch) -> Tensor:
        """Logits of one head for states (B, T, D) and mask (B, T), and the tokens that they were made of."""
        device = next(self.parameters()).device
        tokens = TokenRows(ids=batch["ids"].to(device), mask=batch["ids_mask"].to(device))
        logits: Tensor = self._head(head)(batch["states"].to(device), batch["mask"].to(device), tokens)
        return logits

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch of one head, in nats; of a part of a batch, times the share that it has in the batch."""
        spec = self._specs[int(batch["place"])]
        loss = head_of(spec).loss(self.logits(spec.name, batch), batch["targets"], smoothing=self._smoothing)
        return loss * batch["share"] if "share" in batch else loss


def fit_logistic(
    train: Targets, *, classes: int, judged: Targets | None, strength: float | None, seed: int
) -> FittedLayer:
    """Logistic regression of labels on states, and n-grams where the rows have them, with a penalty on the squares of
    the weights of standardised states and of TF-IDF.

    Args:
        classes: C; a class without rows is never answered.
        judged: rows that the strength is chosen on, by their mean loss; None, or fewer than `ENOUGH_ROWS`: each part of
            the training rows is judged by what the others teach.
        strength: None: the best one of `STRENGTHS`, of equal ones the smallest.

    Raises:
        UsageError: the rows have one label only.
    """
    seen = len(np.unique(train.labels))
    if seen < 2:
        raise UsageError(f"logistic regression needs training rows of at least two labels; these have {seen}.")
    chosen_on = ""
    if strength is None:
        if judged is not None and len(judged.labels) >= ENOUGH_ROWS:
            splits, chosen_on = [(train, judged)], f"{len(judged.labels):,} validation rows"
        else:
            splits = list(_parts(train, seed=seed))
            chosen_on = f"{len(splits)} parts of the training rows"
        strength = _best_strength(splits, classes=classes)
    regression = _Regression(train, classes=classes)
    regression.fit(strength)
    return regression.layer(strength=strength, chosen_on=chosen_on)


class _Regression:
    """scikit-learn's logistic regression over standardised states; a fit begins where the last one ended."""

    def __init__(self, train: Targets, *, classes: int) -> None:
        from sklearn.linear_model import LogisticRegression

        self._classes, self._words = classes, None
        if train.ngrams is not None:
            self._words = KnownNgrams.of(train.ngrams, most=most_ngrams(classes))
        # A row of standardised states is as long as the root of their number.
        heavier = min(HEAVIEST, max(1.0, len(train.labels) / LIGHTEST_ROWS) ** WORDS_POWER)
        self._weight = heavier * train.states.shape[1] ** 0.5
        self._mean = train.states.mean(0)
        deviation = train.states.std(0)
        self._deviation = np.where(deviation > 0, deviation, 1.0)
        self._rows, self._labels = self._standard(train), train.labels
        self._fitted = LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)

    def fit(self, strength: float) -> None:
        """Find the weights that this strength allows."""
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # where it stops is what is judged
            self._fitted.set_params(C=strength).fit(self._rows, self._labels)

    def loss(self, judged: Targets) -> float:
        """Sum over rows, in nats; a row of a class that it never saw tells strengths apart no better than chance, and
        is left out."""
        place = np.minimum(np.searchsorted(self._fitted.classes_, judged.labels), len(self._fitted.classes_) - 1)
        known = self._fitted.classes_[place] == judged.labels
        if not known.any():
            return 0.0
        scores = self._fitted.predict_log_proba(self._standard(judged.where(known)))
        return -float(scores[np.arange(len(scores)), place[known]].sum())

    def layer(self, *, strength: float, chosen_on: str) -> FittedLayer:
        """Weights over states and n-grams as they are."""
        own, constant = self._fitted.coef_, self._fitted.intercept_
        if len(own) == 1:  # of two classes scikit-learn keeps the second one's advantage
            own, constant = np.concatenate([-own / 2, own / 2]), np.concatenate([-constant / 2, constant / 2])
        own, of_words = np.split(own, [len(self._mean)], axis=1)
        weights, bias = np.zeros((self._classes, own.shape[1])), np.full(self._classes, NEVER_SEEN)
        weights[self._fitted.classes_] = own / self._deviation
        bias[self._fitted.classes_] = constant - weights[self._fitted.classes_] @ self._mean
        table = None
        if self._words is not None:
            spread = np.zeros((self._classes, of_words.shape[1]))
            spread[self._fitted.classes_] = of_words * self._weight
            table = self._words.table(spread)
        return FittedLayer(weights=weights, bias=bias, strength=strength, chosen_on=chosen_on, words=table)

    def _standard(self, rows: Targets) -> "Floats | csr_matrix":
        states: Floats = (rows.states - self._mean) / self._deviation
        if self._words is None or rows.ngrams is None:
            return states
        from scipy.sparse import csr_matrix, hstack

        return hstack([csr_matrix(states), self._weight * self._words.matrix(rows.ngrams)], format="csr")


def _best_strength(splits: Sequence[tuple[Targets, Targets]], *, classes: int) -> float:
    """The strength of the least loss on what was not learned from. The loss falls and then rises with the strength, and
    strong fits take longest: behind `PAST_THE_BEST` worse ones no more are tried."""
    regressions = [(_Regression(learned, classes=classes), judged) for learned, judged in splits]
    best, least, worse = 1.0, np.inf, 0
    for strength in STRENGTHS if splits else ():
        for regression, _ in regressions:
            regression.fit(strength)
        loss = sum(regression.loss(judged) for regression, judged in regressions)
        if loss < least:
            best, least, worse = strength, loss, 0
        else:
            worse += 1
        if worse == PAST_THE_BEST:
            break
    return best


def _parts(train: Targets, *, seed: int) -> Iterator[tuple[Targets, Targets]]:
    """Learned and judged rows, for each of `FOLDS` parts; each label in its share, as far as its rows go."""
    order = np.random.default_rng(seed).permutation(len(train.labels))
    order = order[np.argsort(train.labels[order], kind="stable")]
    part = np.empty(len(order), dtype=np.int64)
    part[order] = np.arange(len(order)) % FOLDS
    for number in range(min(FOLDS, len(order))):
        learned = part != number
        if len(np.unique(train.labels[learned])) > 1:
            yield train.where(learned), train.where(~learned)


def _targets(rows: FeatureRows, *, words: bool) -> Targets:
    """The states of rows that have a target: one a row, or one a word; of those of one a row their n-grams, too."""
    states = rows.states(range(len(rows.rows)))
    labels = np.array([target for row in rows.rows for target in row.targets], dtype=np.int64)
    found = np.concatenate([np.zeros((0, rows.width)), *states])
    ngrams = [ngrams_of(row.ids) for row in rows.rows] if words else None
    return Targets(states=found, labels=labels, ngrams=ngrams).where(labels >= 0)


def _tensor(numbers: Floats) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32))
