"""Linear classifiers over terms, by scikit-learn: TF-IDF and logistic regression, naive Bayes, support vectors.

A term is a token or a run of neighbours; its key is their numbers in base V + 1, each plus one, so that terms of all
lengths are different numbers, and a sorted array of them is the whole vocabulary.

Axes: B rows, F terms, C classes, V vocabulary of tokens.

>>> rows = [np.array([3, 4]), np.array([4, 3])]
>>> terms = known_terms(rows, longest=2, vocabulary=9, least=1)
>>> terms.tolist(), term_counts(rows, terms=terms, longest=2, vocabulary=9).toarray().tolist()
([4, 5, 45, 54], [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.records import Floats, Ints, softmax_log

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NEVER_SEEN = -1e4
"""Logit of a class without training rows."""
TFIDF_STRENGTH = 10.0
"""C of logistic regression: weaker a penalty than scikit-learn's default of 1, as rows of unit length ask for."""
FOLDS = 5
"""Parts of the training rows, of which each is judged by what the others taught."""


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Weights of terms for classes."""

    scale: Floats
    """(F,) inverse document frequencies; empty: counts are taken as they are."""
    weights: Floats
    """(F, C)"""
    bias: Floats
    """(C,)"""

    def logits(self, counts: "csr_matrix") -> Floats:
        """(B, F) counts -> (B, C); their softmax are probabilities."""
        rows = tfidf(counts, self.scale) if len(self.scale) else counts
        found: Floats = np.asarray(rows @ self.weights) + self.bias
        return found


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A linear model with the terms that it knows."""

    terms: Ints
    """(F,) sorted keys."""
    longest: int
    vocabulary: int
    skipped: tuple[int, ...]
    """Tokens that are no part of a text: its end, padding."""
    linear: Linear

    def logits(self, rows: Sequence[Ints]) -> Floats:
        """Token ids of rows -> (B, C)."""
        kept = without(rows, self.skipped)
        return self.linear.logits(term_counts(kept, terms=self.terms, longest=self.longest, vocabulary=self.vocabulary))


def fit_classifier(
    family: str,
    rows: Sequence[Ints],
    labels: Ints,
    *,
    classes: int,
    vocabulary: int,
    skipped: tuple[int, ...],
    longest: int,
    least: int,
    strength: float,
) -> Classifier:
    """Find the terms of rows of token ids, and fit weights to them; see `fit_linear`."""
    kept = without(rows, skipped)
    terms = known_terms(kept, longest=longest, vocabulary=vocabulary, least=least)
    counts = term_counts(kept, terms=terms, longest=longest, vocabulary=vocabulary)
    linear = fit_linear(family, counts, labels, classes=classes, strength=strength)
    return Classifier(terms=terms, longest=longest, vocabulary=vocabulary, skipped=skipped, linear=linear)


def fit_linear(family: str, counts: "csr_matrix", labels: Ints, *, classes: int, strength: float) -> Linear:
    """Fit a classifier of this family.

    Args:
        family: `tfidf`, `naive-bayes` or `svm`.
        counts: (B, F), in fp32.
        labels: (B,), numbers of classes.
        classes: C; a class without rows is never answered.
        strength: C of scikit-learn's classifiers, or what naive Bayes adds to every count.

    Raises:
        UsageError: the rows have one label only, or no terms.
    """
    seen = np.unique(labels)
    if len(seen) < 2:
        raise UsageError(f"{family} needs training rows of at least two labels; these have {len(seen)}.")
    if not counts.nnz:
        raise UsageError(f"{family} needs training rows with words in them; these have none.")
    from threadpoolctl import threadpool_limits

    # The work is sparse: more BLAS threads only wait for each other (trec on two busy cores: 24 s with two, 2.4 s with
    # one, the same answers).
    with threadpool_limits(limits=1):
        fitted = FITS[family](counts, labels, strength)
    weights = np.zeros((counts.shape[1], classes))
    bias = np.full(classes, NEVER_SEEN)
    weights[:, seen], bias[seen] = fitted.weights, fitted.bias
    return Linear(scale=fitted.scale, weights=weights, bias=bias)


def tfidf(counts: "csr_matrix", scale: Floats) -> "csr_matrix":
    """Logarithmic counts times inverse document frequencies, each row of length 1: scikit-learn's TfidfTransformer with
    sublinear_tf, which builds a matrix of all terms at every call."""
    from sklearn.preprocessing import normalize

    rows = counts.copy()
    rows.data = (1 + np.log(rows.data)) * scale[rows.indices].astype(rows.dtype)
    return normalize(rows, copy=False)


def inverse_frequencies(counts: "csr_matrix") -> Floats:
    """Smoothed inverse document frequencies, as scikit-learn has them."""
    rows_with = np.bincount(counts.indices, minlength=counts.shape[1])
    found: Floats = np.log((1 + counts.shape[0]) / (1 + rows_with)) + 1
    return found


def known_terms(rows: Sequence[Ints], *, longest: int, vocabulary: int, least: int) -> Ints:
    """Sorted keys of all terms that stand in at least `least` of the rows."""
    owners, keys = _terms(rows, longest=longest, vocabulary=vocabulary)
    order = np.lexsort((owners, keys))
    keys, owners = keys[order], owners[order]
    new = np.ones(len(keys), dtype=np.bool_)
    new[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
    found, rows_with = np.unique(keys[new], return_counts=True)
    kept: Ints = found[rows_with >= least]
    return kept


def term_counts(rows: Sequence[Ints], *, terms: Ints, longest: int, vocabulary: int) -> "csr_matrix":
    """How often each known term stands in each row, (B, F)."""
    from scipy.sparse import csr_matrix

    owners, keys = _terms(rows, longest=longest, vocabulary=vocabulary)
    place = np.minimum(np.searchsorted(terms, keys), max(0, len(terms) - 1))
    known = terms[place] == keys if len(terms) else np.zeros(len(keys), dtype=np.bool_)
    ones = np.ones(int(known.sum()), dtype=np.float32)
    counts = csr_matrix((ones, (owners[known], place[known])), shape=(len(rows), len(terms)))
    counts.sum_duplicates()
    return counts


def without(rows: Sequence[Ints], skipped: Sequence[int]) -> list[Ints]:
    """Rows without some tokens."""
    return [row[~np.isin(row, skipped)] for row in rows]


def _fit_tfidf(counts: "csr_matrix", labels: Ints, strength: float) -> Linear:
    from sklearn.linear_model import LogisticRegression

    scale = inverse_frequencies(counts)
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(tfidf(counts, scale), labels)
    return _two_sided(scale, fitted.coef_, fitted.intercept_)


def _fit_bayes(counts: "csr_matrix", labels: Ints, strength: float) -> Linear:
    from sklearn.naive_bayes import MultinomialNB

    fitted = MultinomialNB(alpha=strength).fit(counts, labels)
    return Linear(scale=np.zeros(0), weights=fitted.feature_log_prob_.T, bias=fitted.class_log_prior_)


def _fit_svm(counts: "csr_matrix", labels: Ints, strength: float) -> Linear:
    """Margins times one factor: temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599), on the margins
    of rows that were held out. A factor changes no answer."""
    from scipy.optimize import minimize_scalar
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.svm import LinearSVC

    scale = inverse_frequencies(counts)
    rows = tfidf(counts, scale)
    fitted = LinearSVC(C=strength).fit(rows, labels)
    linear = _two_sided(scale, fitted.coef_, fitted.intercept_)
    _, numbers = np.unique(labels, return_inverse=True)
    folds = min(FOLDS, int(np.bincount(numbers).min()))
    if folds < 2:
        return linear  # a class of one row cannot be held out and learned at once
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    margins = cross_val_predict(LinearSVC(C=strength), rows, numbers, cv=split, method="decision_function")
    held_out = np.stack([np.zeros(len(margins)), margins], axis=1) if margins.ndim == 1 else margins

    def loss(logarithm: float) -> float:
        return -float(softmax_log(held_out * np.exp(logarithm))[np.arange(len(numbers)), numbers].mean())

    factor = float(np.exp(minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded").x))
    return Linear(scale=scale, weights=linear.weights * factor, bias=linear.bias * factor)


FITS: Mapping[str, Callable[["csr_matrix", Ints, float], Linear]] = {
    "tfidf": _fit_tfidf,
    "naive-bayes": _fit_bayes,
    "svm": _fit_svm,
}


def _two_sided(scale: Floats, weights: Floats, bias: Floats) -> Linear:
    """scikit-learn keeps one row of weights for two classes: that of the second one."""
    if len(weights) == 1:
        weights, bias = np.concatenate([0 * weights, weights]), np.concatenate([0 * bias, bias])
    return Linear(scale=scale, weights=weights.T, bias=bias)


def _terms(rows: Sequence[Ints], *, longest: int, vocabulary: int) -> tuple[Ints, Ints]:
    """(row, key) of every term of every row."""
    if longest * math.log2(vocabulary + 1) >= 63:
        raise UsageError(
            f"runs of {longest} tokens of a vocabulary of {vocabulary:,} are too many to be numbered; use shorter ones."
        )
    tokens = np.concatenate([np.zeros(0, dtype=np.int64), *rows]) + 1
    rows_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    owners, keys = [rows_of], [tokens]
    running = tokens
    for length in range(1, longest):
        running = running[:-1] * (vocabulary + 1) + tokens[length:]
        whole = rows_of[length:] == rows_of[: len(running)]
        owners.append(rows_of[length:][whole])
        keys.append(running[whole])
    return np.concatenate(owners), np.concatenate(keys)
