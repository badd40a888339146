"""Linear classifiers against scikit-learn's own pipeline, and what bad rows get."""

import numpy as np
import pytest

from lmtasks.backbone.closed_form import FITTED, is_fitted, parse_fitted
from lmtasks.backbone.family import FAMILIES, is_family, parse_family
from lmtasks.backbone.linear import FITS, fit_classifier, fit_linear, known_terms, term_counts, tfidf
from lmtasks.errors import UsageError
from lmtasks.records import Ints, softmax_log

END = 0


def rows(*, seed: int, classes: int, count: int = 120) -> tuple[list[Ints], Ints]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    made = [
        np.append(1 + (random.poisson(4 + 3 * label, random.integers(3, 12)) % 18), END).astype(np.int64)
        for label in labels
    ]
    return made, labels


def words(given: list[Ints]) -> list[str]:
    return [" ".join(f"w{token}" for token in row if token != END) for row in given]


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_that_of_scikit_learn_over_texts(classes: int) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, labels = rows(seed=0, classes=classes)
    test, _ = rows(seed=1, classes=classes)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    wanted = LogisticRegression(C=10.0, max_iter=1000).fit(vectorizer.fit_transform(words(train)), labels)
    made = fit_classifier(
        "tfidf", train, labels, classes=classes, vocabulary=20, skipped=(END,), longest=2, least=1, strength=10.0
    )
    assert len(made.terms) == len(vectorizer.vocabulary_)
    found = softmax_log(made.logits(test))
    np.testing.assert_allclose(np.exp(found), wanted.predict_proba(vectorizer.transform(words(test))), atol=2e-3)


def test_naive_bayes_is_that_of_scikit_learn_over_texts() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    train, labels = rows(seed=0, classes=3)
    test, _ = rows(seed=1, classes=3)
    vectorizer = CountVectorizer(ngram_range=(1, 2))
    wanted = MultinomialNB(alpha=1.0).fit(vectorizer.fit_transform(words(train)), labels)
    made = fit_classifier(
        "naive-bayes", train, labels, classes=3, vocabulary=20, skipped=(END,), longest=2, least=1, strength=1.0
    )
    found = softmax_log(made.logits(test))
    np.testing.assert_allclose(found, wanted.predict_log_proba(vectorizer.transform(words(test))), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_support_vectors_answer_as_scikit_learn_s_and_their_scores_are_calibrated(classes: int) -> None:
    from sklearn.svm import LinearSVC

    train, labels = rows(seed=0, classes=classes, count=400)
    test, gold = rows(seed=1, classes=classes, count=400)
    terms = known_terms([row[:-1] for row in train], longest=2, vocabulary=20, least=1)
    counts, asked = (
        term_counts([row[:-1] for row in given], terms=terms, longest=2, vocabulary=20) for given in (train, test)
    )
    made = fit_linear("svm", counts, labels, classes=classes, strength=1.0)
    wanted = LinearSVC(C=1.0).fit(tfidf(counts, made.scale), labels)
    found = made.logits(asked)
    np.testing.assert_array_equal(found.argmax(1), wanted.predict(tfidf(asked, made.scale)))
    margins = wanted.decision_function(tfidf(asked, made.scale))
    plain = np.stack([0 * margins, margins], axis=1) if classes == 2 else margins
    ours, theirs = (-softmax_log(each)[np.arange(400), gold].mean() for each in (found, plain))
    assert ours < theirs  # likelier answers to rows that nothing was fitted to


def test_terms_are_counted_row_by_row() -> None:
    given = [np.array([3, 4, 3, 4]), np.array([4]), np.array([], dtype=np.int64), np.array([3, 4])]
    terms = known_terms(given, longest=3, vocabulary=9, least=2)
    assert terms.tolist() == [4, 5, 45]  # 3, 4, and 3 behind which 4 stands; no run reaches into the next row
    counts = term_counts(given, terms=terms, longest=3, vocabulary=9).toarray()
    assert counts.tolist() == [[2, 2, 2], [0, 1, 0], [0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("family", list(FITS))
def test_a_class_without_rows_is_never_answered(family: str) -> None:
    train, labels = rows(seed=0, classes=2)
    made = fit_classifier(
        family, train, labels * 2, classes=4, vocabulary=20, skipped=(END,), longest=2, least=1, strength=1.0
    )
    logits = made.logits(rows(seed=1, classes=2)[0])
    assert logits.shape == (120, 4)
    assert set(logits.argmax(1)) <= {0, 2}


@pytest.mark.parametrize("family", list(FITS))
def test_rows_that_teach_nothing_are_refused(family: str) -> None:
    empty = [np.array([END]), np.array([END])]
    settings = {"classes": 2, "vocabulary": 20, "skipped": (END,), "longest": 2, "least": 1, "strength": 1.0}
    with pytest.raises(UsageError, match="rows with words in them"):
        fit_classifier(family, empty, np.array([0, 1]), **settings)
    with pytest.raises(UsageError, match="at least two labels; these have 1"):
        fit_classifier(family, [np.array([3]), np.array([4])], np.array([1, 1]), **settings)
    with pytest.raises(UsageError, match="are too many to be numbered"):
        known_terms(empty, longest=5, vocabulary=200_000, least=1)


def test_families_have_one_name_each_and_settings() -> None:
    assert not set(FITTED) & set(FAMILIES)
    assert all(is_family(name) and is_fitted(name) for name in FITTED)
    assert parse_fitted("ngram:order=3,cutoffs=0+0+1")[1].cutoffs == (0, 0, 1)
    with pytest.raises(UsageError, match="order must be at least 1, was 0"):
        parse_fitted("ngram:order=0")
    with pytest.raises(UsageError, match="unknown setting of ngram 'ordr'; did you mean 'order'"):
        parse_fitted("ngram:ordr=3")
    with pytest.raises(UsageError, match="strength must be"):
        parse_fitted("svm:strength=0")
    with pytest.raises(UsageError, match="ngram counts its text once, without steps"):
        parse_family("ngram:order=3")
    with pytest.raises(UsageError, match="did you mean 'ngram'"):
        parse_family("ngrams")
