"""Baselines that are fitted: linear classifiers over terms, the nearest training row by TF-IDF, and n-grams.

The first are the families `tfidf`, `svm` and `naive-bayes` with their own defaults, so that both give the same numbers;
the family's is kept as a model. The second compares, by the cosine of TF-IDF, what a head reads: a text, two texts, or
the prompt's question. The third is the family `ngram` with its own defaults, over byte-level BPE, whose tokens say
every text; where counts define no discounts (a small text), it takes the usual ones (`fallback=1`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lmtasks.backbone.closed_form import FITTED, NgramSizes, TermSizes
from lmtasks.backbone.kneser_ney import count_ngrams, kneser_ney
from lmtasks.backbone.linear import fit_classifier, inverse_frequencies, known_terms, term_counts, tfidf, without
from lmtasks.backbone.ngram import Ngram
from lmtasks.data.continuation import encode_pairs, encode_texts, end_tokens, prefix_token
from lmtasks.data.spacing import longest_terms, suited_tokenizer
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.evaluation.baseline_trivial import (
    candidate_answer,
    label_answer,
    label_set_answer,
    number_answer,
    text_answers,
)
from lmtasks.evaluation.outcome import (
    UNLIKELY,
    Answered,
    AnswerRows,
    answered_likelihood,
    certain,
)
from lmtasks.evaluation.retrieval import ScoreCorpus, over_corpus
from lmtasks.evaluation.rolling import likelihood_of
from lmtasks.records import Floats, HeadInput, Ints, Row, softmax_log
from lmtasks.task.kinds import head_input, scored_text
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


AT_ONCE = 2000
"""Rows whose terms are in memory together."""

CELLS = 4_000_000
"""Of the table of asked rows by training rows that is in memory at a time."""

PENALTIES: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(-4, 5))
"""Of ridge regression, that are tried: 0.01 to 100, two a decade."""
K1, B = 1.2, 0.75
"""Of BM25: how soon a repeated term counts no more, and how much a long text loses."""
ONE_AT_A_TIME = 2000
FOLDS = 5

Known = TypeVar("Known")

AS_LIKELY = 1e-5
"""Log-probabilities nearer than this are equal."""


def linear_fit(family: str) -> Callable[[Task, Sequence[Row], int], AnswerRows]:
    """The fit of a linear family with its own defaults.

    Args:
        family: `tfidf`, `naive-bayes` or `svm`.
    """

    def fit(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
        return _fit_linear(family, task, train)

    return fit


def _fit_linear(family: str, task: Task, train: Sequence[Row]) -> AnswerRows:
    """Fit on the training rows; nothing else is looked at.

    Raises:
        UsageError: the training rows have one label only, or no words.
    """
    inputs = [head_input(task, row, row_number=number) for number, row in enumerate(train)]
    labelled = [(given, given.label) for given in inputs if given.label is not None]
    sizes = FITTED[family].sizes
    assert isinstance(sizes, TermSizes)  # as the table has it
    try:
        texts = [text for given in inputs for text in _texts(given)]
        tokenizer = learn_tokenizer(suited_tokenizer(FITTED[family].tokenizer, [texts]), texts)
        rows = [_ids(given, tokenizer) for given, _ in labelled]
        classifier = fit_classifier(
            family,
            rows,
            np.array([label for _, label in labelled], dtype=np.int64),
            classes=len(task.labels),
            vocabulary=tokenizer.vocabulary,
            skipped=tuple({token for token in (tokenizer.bos, tokenizer.eos, tokenizer.pad) if token is not None}),
            longest=sizes.ngrams or longest_terms(rows, tokenizer=tokenizer),
            least=sizes.least,
            strength=sizes.strength,
        )
    except UsageError as error:
        raise UsageError(f"task {task.name}: {error}") from error

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        asked = [head_input(task, row, row_number=number) for number, row in enumerate(rows)]
        found: list[Answered] = []
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            logits = classifier.logits([_ids(given, tokenizer) for given in part])
            scores = np.maximum(softmax_log(logits), UNLIKELY)
            found += [label_answer(task, given, row.tolist()) for given, row in zip(part, scores, strict=True)]
        return found

    return answer


def labels_fit(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """Logistic regression over the TF-IDF of the family `tfidf`, for each label by itself, one against the rest; a
    label that all training rows have, or none, is answered so.

    Raises:
        UsageError: the training rows have no words.
    """
    given = [head_input(task, row, row_number=number) for number, row in enumerate(train)]
    kept = [(each, each.labels) for each in given if each.labels is not None]
    terms = _Terms(task, [each for each, _ in kept])
    table = np.zeros((len(kept), len(task.labels)), dtype=np.int64)
    for row, (_, labels) in enumerate(kept):
        table[row, list(labels)] = 1
    weights, bias = np.zeros((terms.table.shape[1], len(task.labels))), np.zeros(len(task.labels))
    for label, column in enumerate(table.T):
        weights[:, label], bias[label] = terms.logistic(column)

    def scores(part: Sequence[HeadInput]) -> Floats:
        found: Floats = np.clip(terms.of(part) @ weights + bias, UNLIKELY, -UNLIKELY)
        return found

    return _in_parts(task, scores, lambda each, row: label_set_answer(task, each, row.tolist()))


def ridge_fit(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """Ridge regression over the TF-IDF of the family `tfidf`; the penalty is the best of `PENALTIES` on rows that are
    left out, one at a time or, of many rows, a fifth (scikit-learn's RidgeCV).

    Raises:
        UsageError: the training rows have no words.
    """
    from sklearn.linear_model import RidgeCV
    from threadpoolctl import threadpool_limits

    given = [head_input(task, row, row_number=number) for number, row in enumerate(train)]
    kept = [(each, each.number) for each in given if each.number is not None]
    terms = _Terms(task, [each for each, _ in kept])
    with threadpool_limits(limits=1):
        fitted = RidgeCV(alphas=PENALTIES, cv=_left_out(len(kept))).fit(terms.table, [number for _, number in kept])

    def numbers(part: Sequence[HeadInput]) -> Floats:
        found: Floats = fitted.predict(terms.of(part))[:, None]
        return found

    return _in_parts(task, numbers, lambda each, row: number_answer(each, float(row[0])))


def fit_bm25(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """BM25 of each candidate for the row's text, with k1 1.2 and b 0.75 (Robertson and Zaragoza 2009,
    https://doi.org/10.1561/1500000019); how rare a term is, and how long a candidate usually is, the candidates of the
    training rows say. Terms are words (Chinese: characters).
    """
    known = [text for number, row in enumerate(train) for text in head_input(task, row, row_number=number).candidates]
    if not known:
        raise UsageError(f"task {task.name}: BM25 needs training rows with candidates, and there are none.")
    terms = Bm25(list(dict.fromkeys(known)))

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        found = []
        for number, row in enumerate(rows):
            given = head_input(task, row, row_number=number)
            found.append(candidate_answer(task, given, terms.scores(given.first, given.candidates)))
        return found

    return answer


class Bm25:
    """Rareness of terms over texts, and the score of any text for another."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._tokenizer = learn_tokenizer(suited_tokenizer(FITTED["tfidf"].tokenizer, [texts]), texts)
        tokens = [self._tokens(text) for text in texts]
        self._rows_with = Counter(token for row in tokens for token in set(row))
        self._texts, self._usual = len(texts), max(1.0, sum(map(len, tokens)) / len(texts))

    def scores(self, asked: str, texts: Sequence[str]) -> list[float]:
        """Score each text for the one that is asked about."""
        wanted = set(self._tokens(asked))
        return [self._score(wanted, Counter(self._tokens(text))) for text in texts]

    def weights(self, texts: Sequence[str]) -> "csr_matrix":
        """Score of each text for each single token, (tokens, texts)."""
        from scipy.sparse import csr_matrix

        cells: list[tuple[int, int, float]] = []
        for place, text in enumerate(texts):
            counts = Counter(self._tokens(text))
            cells += [(token, place, self._score({token}, counts)) for token in sorted(counts)]
        tokens, places, values = zip(*cells, strict=True) if cells else ((), (), ())
        return csr_matrix((values, (tokens, places)), shape=(self._tokenizer.vocabulary, len(texts)))

    def asked(self, texts: Sequence[str]) -> "csr_matrix":
        """Which tokens each text has, (texts, tokens)."""
        from scipy.sparse import csr_matrix

        cells = [(place, token) for place, text in enumerate(texts) for token in sorted(set(self._tokens(text)))]
        rows, tokens = zip(*cells, strict=True) if cells else ((), ())
        return csr_matrix((np.ones(len(cells)), (rows, tokens)), shape=(len(texts), self._tokenizer.vocabulary))

    def _score(self, wanted: set[int], counts: Counter[int]) -> float:
        length = K1 * (1 - B + B * counts.total() / self._usual)
        return sum(
            self._rareness(token) * counts[token] * (K1 + 1) / (counts[token] + length)
            for token in sorted(wanted & counts.keys())
        )

    def _rareness(self, token: int) -> float:
        having = self._rows_with[token]
        return log(1 + (self._texts - having + 0.5) / (having + 0.5))

    def _tokens(self, text: str) -> list[int]:
        return [token for token in self._tokenizer.encode(text) if token != self._tokenizer.unknown]


def _left_out(rows: int) -> int | None:
    """None: one at a time, in closed form, which takes a table of rows by rows; of many rows a fifth at a time."""
    return None if rows <= ONE_AT_A_TIME else FOLDS


class _Terms:
    """The terms of training rows, as the family `tfidf` has them, and their TF-IDF."""

    def __init__(self, task: Task, given: Sequence[HeadInput]) -> None:
        sizes = FITTED["tfidf"].sizes
        assert isinstance(sizes, TermSizes)  # as the table has it
        self._strength = sizes.strength
        texts = [text for each in given for text in _texts(each)]
        try:
            self._tokenizer = learn_tokenizer(suited_tokenizer(FITTED["tfidf"].tokenizer, [texts]), texts)
            rows = self._rows(given)
            self._longest = sizes.ngrams or longest_terms(rows, tokenizer=self._tokenizer)
            self._known = known_terms(
                rows, longest=self._longest, vocabulary=self._tokenizer.vocabulary, least=sizes.least
            )
        except UsageError as error:
            raise UsageError(f"task {task.name}: {error}") from error
        counts = self._counts(rows)
        if not counts.nnz:
            raise UsageError(f"task {task.name}: TF-IDF needs training rows with words in them; these have none.")
        self._scale = inverse_frequencies(counts)
        self.table = tfidf(counts, self._scale)
        """(rows, terms)"""

    def of(self, given: Sequence[HeadInput]) -> "csr_matrix":
        """TF-IDF of other rows, (rows, terms)."""
        return tfidf(self._counts(self._rows(given)), self._scale)

    def logistic(self, column: Ints) -> tuple[Floats, float]:
        """Weights and bias of zeros and ones, one a row."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        if column.min() == column.max():
            return np.zeros(self.table.shape[1]), -UNLIKELY if column[0] else UNLIKELY
        with threadpool_limits(limits=1):
            fitted = LogisticRegression(C=self._strength, max_iter=1000).fit(self.table, column)
        return fitted.coef_[0], float(fitted.intercept_[0])

    def _rows(self, given: Sequence[HeadInput]) -> list[Ints]:
        own = {self._tokenizer.bos, self._tokenizer.eos, self._tokenizer.pad} - {None}
        return without(
            [_ids(each, self._tokenizer) for each in given], sorted(token for token in own if token is not None)
        )

    def _counts(self, rows: Sequence[Ints]) -> "csr_matrix":
        return term_counts(rows, terms=self._known, longest=self._longest, vocabulary=self._tokenizer.vocabulary)


def _in_parts(
    task: Task, compute: Callable[[Sequence[HeadInput]], Floats], make: Callable[[HeadInput, Floats], Answered]
) -> AnswerRows:
    """Answers to rows, `AT_ONCE` of them in memory together."""

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        asked = [head_input(task, row, row_number=number) for number, row in enumerate(rows)]
        return [
            make(each, found)
            for part in _parts(asked, AT_ONCE)
            for each, found in zip(part, compute(part), strict=True)
        ]

    return answer


def _texts(given: HeadInput) -> tuple[str, ...]:
    return (given.first,) if given.second is None else (given.first, given.second)


def _ids(given: HeadInput, tokenizer: Tokenizer) -> Ints:
    return np.array(tokenizer.encode_for_head(given.first, given.second).ids, dtype=np.int64)


def nearest_text(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The target of the nearest training row."""
    find = _index([_question(task, row, number) for number, row in enumerate(train)])

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        places = find([_question(task, row, number) for number, row in enumerate(rows)])
        targets = [build_prompt(task, train[place], row_number=place).target.strip() for place in places]
        return text_answers(task, rows, targets)

    return answer


def nearest_labels(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The labels of the nearest training row."""
    return _nearest(
        task,
        train,
        known=lambda given: given.labels,
        make=lambda asked, labels: label_set_answer(
            task, asked, [-UNLIKELY if place in labels else UNLIKELY for place in range(len(task.labels))]
        ),
    )


def nearest_number(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The number of the nearest training row."""
    return _nearest(task, train, known=lambda given: given.number, make=number_answer)


def _nearest(
    task: Task,
    train: Sequence[Row],
    *,
    known: Callable[[HeadInput], Known | None],
    make: Callable[[HeadInput, Known], Answered],
) -> AnswerRows:
    given = [head_input(task, row, row_number=number) for number, row in enumerate(train)]
    pairs = [(each, right) for each in given if (right := known(each)) is not None]
    find = _index([each.shown for each, _ in pairs])

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        asked = [head_input(task, row, row_number=number) for number, row in enumerate(rows)]
        places = find([each.shown for each in asked])
        return [make(each, pairs[place][1]) for each, place in zip(asked, places, strict=True)]

    return answer


def nearest_label(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The label of the nearest training row that has one."""
    return _nearest(
        task,
        train,
        known=lambda given: given.label,
        make=lambda asked, label: label_answer(task, asked, certain(label, len(task.labels))),
    )


def _question(task: Task, row: Row, number: int) -> str:
    return head_input(task, row, row_number=number, labelled=False).shown


class _TermIndex:
    """TF-IDF of texts: of other texts, and how like each is to them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._tokenizer = learn_tokenizer(suited_tokenizer(FITTED["tfidf"].tokenizer, [texts]), texts)
        known = self._encoded(texts)
        self._longest = longest_terms(known, tokenizer=self._tokenizer)
        self._terms = known_terms(known, longest=self._longest, vocabulary=self._tokenizer.vocabulary, least=1)
        counts = self._counts(known)
        self._scale = inverse_frequencies(counts)
        self._table = tfidf(counts, self._scale).T.tocsr()

    def of(self, texts: Sequence[str]) -> "csr_matrix":
        """(texts, terms), each row of length 1."""
        return tfidf(self._counts(self._encoded(texts)), self._scale)

    def likeness(self, asked: Sequence[str]) -> Iterator["csr_matrix"]:
        """Cosines (asked, texts), a part at a time."""
        for part in _parts(asked, max(1, CELLS // max(1, self._table.shape[1]))):
            yield self.of(part) @ self._table

    def _encoded(self, texts: Sequence[str]) -> list[Ints]:
        rows = [np.array(ids, dtype=np.int64) for ids in self._tokenizer.encode_many(texts)]
        return without(rows, [] if self._tokenizer.unknown is None else [self._tokenizer.unknown])

    def _counts(self, rows: Sequence[Ints]) -> "csr_matrix":
        return term_counts(rows, terms=self._terms, longest=self._longest, vocabulary=self._tokenizer.vocabulary)


def _index(texts: Sequence[str]) -> Callable[[Sequence[str]], list[int]]:
    """Texts -> what finds the nearest of them to each of others; of equals the first."""
    index = _TermIndex(texts)
    return lambda asked: [place for part in index.likeness(asked) for place in _largest(part)]


def cosine_fit(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The cosine of the TF-IDF of two texts; how rare a term is, the texts of the training rows say."""
    texts = [text for number, row in enumerate(train) for text in _texts(head_input(task, row, row_number=number))]
    if not texts:
        raise UsageError(f"task {task.name}: there are no training rows that could say which terms are rare.")
    index = _TermIndex(texts)

    def cosines(part: Sequence[HeadInput]) -> Floats:
        first, second = index.of([each.first for each in part]), index.of([each.second or "" for each in part])
        found: Floats = np.asarray(first.multiply(second).sum(axis=1), dtype=np.float64)
        return found

    return _in_parts(task, cosines, lambda each, row: number_answer(each, float(row[0])))


def cosine_of_corpus(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """Texts of the corpus by the cosine of their TF-IDF with the query's, by how rare terms are in the corpus."""

    def scorer(corpus: Sequence[str]) -> ScoreCorpus:
        index = _TermIndex(corpus)
        return lambda asked: (row for part in index.likeness(asked) for row in part.toarray())

    return over_corpus(task, scorer)


def bm25_of_corpus(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """Texts of the corpus by BM25, as `fit_bm25` has it, by how rare terms are in the corpus."""

    def scorer(corpus: Sequence[str]) -> ScoreCorpus:
        terms = Bm25(corpus)
        weights = terms.weights(corpus)
        return lambda asked: (
            row
            for part in _parts(asked, max(1, CELLS // len(corpus)))
            for row in (terms.asked(part) @ weights).toarray()
        )

    return over_corpus(task, scorer)


def _largest(likeness: "csr_matrix") -> list[int]:
    """The first column of the largest value of each row; 0 where all are 0."""
    likeness.sort_indices()
    bounds = likeness.indptr.tolist()
    return [
        int(likeness.indices[first + int(likeness.data[first:last].argmax())]) if last > first else 0
        for first, last in pairwise(bounds)
    ]


def _parts(items: Sequence[Known], size: int) -> Iterator[Sequence[Known]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def fit_ngram(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """Count the training rows.

    Raises:
        UsageError: they are too short for its order.
    """
    texts = [scored_text(task, row) for row in train]
    sizes = FITTED["ngram"].sizes
    assert isinstance(sizes, NgramSizes)  # as the table has it
    try:
        tokenizer = learn_tokenizer(FITTED["ngram"].text_tokenizer, texts)
        ends = end_tokens(tokenizer, lines=bool(sizes.lines))
        rows = [np.array([prefix_token(tokenizer), *ids], dtype=np.int64) for ids in _encoded(task, texts, tokenizer)]
        if task.windows.concatenate:
            rows = [np.concatenate([rows[0], *(row[1:] for row in rows[1:])])]
        counts = count_ngrams(rows, order=sizes.order, vocabulary=tokenizer.vocabulary, ends=ends)
        model = kneser_ney(counts, cutoffs=sizes.cutoffs, fallback=True)
    except UsageError as error:
        raise UsageError(f"task {task.name}: {error}") from error
    return lambda rows: [_answered(asked, tokenizer) for asked in _scored(task, rows, model, tokenizer)]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One text."""

    text: str
    context: str
    ids: tuple[int, ...]
    """Of the text alone."""
    tokens: int
    """That were scored; what stands between two texts counts to the one behind."""
    logprob: float
    greedy: bool


def _scored(task: Task, rows: Sequence[Row], model: Ngram, tokenizer: Tokenizer) -> Iterator[_Asked]:
    begun = model.read(model.start(1), np.array([[prefix_token(tokenizer)]]))[:, -1]
    if task.output_type == "loglikelihood":
        prompts = [build_prompt(task, row, row_number=number) for number, row in enumerate(rows)]
        pairs = encode_pairs(
            [(prompt.context, prompt.delimiter + prompt.target) for prompt in prompts],
            tokenizer=tokenizer,
            decodes=False,
        )
        for prompt, pair in zip(prompts, pairs, strict=True):
            state = model.read(model.start(1), np.array([pair.context_ids]))[:, -1]
            logprob, greedy, _ = _read(model, state, pair.target_ids)
            yield _Asked(
                text=prompt.target, context=prompt.context, ids=pair.target_ids, tokens=len(pair.target_ids),
                logprob=logprob, greedy=greedy,
            )  # fmt: skip
        return
    texts = [scored_text(task, row) for row in rows]
    state = begun
    between = len(tokenizer.encode(task.windows.between)) if task.windows.concatenate else 0
    for number, (text, ids) in enumerate(zip(texts, _encoded(task, texts, tokenizer), strict=True)):
        logprob, greedy, after = _read(model, state, ids)
        own = ids[between:] if number else ids
        yield _Asked(text=text, context="", ids=own, tokens=len(ids), logprob=logprob, greedy=greedy)
        state = after if task.windows.concatenate else begun


def _encoded(task: Task, texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[tuple[int, ...]]:
    """Tokens of each text; with what stands before it, where all are one text."""
    if not task.windows.concatenate:
        yield from encode_texts(texts, tokenizer=tokenizer)
        return
    between = tokenizer.encode(task.windows.between)
    for number, ids in enumerate(tokenizer.encode_many(texts)):
        yield (*(between if number else ()), *ids)


def _read(model: Ngram, state: Ints, ids: Sequence[int]) -> tuple[float, bool, Ints]:
    """Log-probability of tokens behind a state, whether each was the likeliest, and the state behind them."""
    tokens = np.array(ids, dtype=np.int64)
    if not len(tokens):
        return 0.0, True, state
    after = model.read(state, tokens[None])[0]
    states = np.concatenate([state, after[:-1]])
    logprobs = model.score(states, tokens)
    return float(logprobs.sum(dtype=np.float64)), bool((logprobs >= model.best(states) - AS_LIKELY).all()), after[-1:]


def _answered(asked: _Asked, tokenizer: Tokenizer) -> Answered:
    outcome = likelihood_of(
        asked.text, asked.ids, tokenizer=tokenizer, logprob=asked.logprob, tokens=asked.tokens, greedy=asked.greedy
    )
    return answered_likelihood(outcome, prompt=asked.context, text=asked.text)
