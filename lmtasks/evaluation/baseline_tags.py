"""Baselines that tag words: each word's commonest tag, and a linear classifier over a window of words.

The classifier reads the words around a word, the letters that it begins and ends with, its shape, and the two tags
before it; it tags from left to right, each time the best tag that may follow (greedy), as Ratnaparkhi's tagger (1996,
https://aclanthology.org/W96-0213) without its beam. Where the training rows keep to a scheme (IOB2, BILOU, ...), so do
the answers.

Axes: N words of all rows, C tags, H hashed features.

>>> features(["Fly", "to", "Rome"], 1)[:4]
['w=to', 'w-1=fly', 'w-2=', 'w+1=rome']
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, AnswerRows, answered_text
from lmtasks.metric.tags import INSIDE, OUTSIDE
from lmtasks.records import Bools, Floats, HeadInput, Ints, Row
from lmtasks.task.kinds import head_input
from lmtasks.task.task import Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


HASHED = 1 << 18
"""H: features share so many weights by a hash, whatever words there are, so that memory stays flat."""
STRENGTH = 0.3
"""C of scikit-learn's LinearSVC."""
TOLERANCE = 0.01
"""Of its steps; with 0.0001 its answers on SNIPS are as good."""
BROKEN = 0.01
"""Share of inside tags that may follow a wrong one in training rows, which then still keep to the scheme."""
AT_ONCE = 2000
"""Rows whose features are in memory together."""


def majority_tags(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The commonest tag of each word; of an unknown word the commonest of all."""
    counts: dict[str, Counter[int]] = {}
    overall: Counter[int] = Counter()
    for given in _inputs(task, train):
        for token, tag in zip(given.tokens, given.tags, strict=True):
            counts.setdefault(token, Counter())[tag] += 1
            overall[tag] += 1
    commonest = max(overall, key=lambda tag: (overall[tag], -tag), default=0)
    best = {token: max(own, key=lambda tag: (own[tag], -tag)) for token, own in counts.items()}
    return lambda rows: [
        _answered(task, given, [best.get(token, commonest) for token in given.tokens]) for given in _inputs(task, rows)
    ]


def fit_tagger(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The linear classifier.

    Raises:
        UsageError: the training rows have one tag only, or no words.
    """
    from scipy.sparse import hstack
    from sklearn.svm import LinearSVC
    from threadpoolctl import threadpool_limits

    given = [each for each in _inputs(task, train) if each.tokens]
    tags = np.array([tag for each in given for tag in each.tags], dtype=np.int64)
    seen = np.unique(tags)
    if len(seen) < 2:
        raise UsageError(
            f"linear-tagger needs training rows with at least two tags; those of task {task.name} have {len(seen)}."
        )
    count = len(task.labels)
    before = [[count, count, *each.tags] for each in given]  # the tag C stands before a sentence
    table = hstack(
        [
            _hashed([each.tokens for each in given]),
            _one_hot([tag for row in before for tag in row[1:-1]], count + 1),
            _one_hot([tag for row in before for tag in row[:-2]], count + 1),
        ],
        format="csr",
    )
    with threadpool_limits(limits=1):
        fitted = LinearSVC(C=STRENGTH, tol=TOLERANCE, random_state=0).fit(table, tags)
    weights, bias = np.full((count, table.shape[1]), 0.0, dtype=np.float32), np.full(count, -np.inf)
    two = len(fitted.coef_) == 1  # scikit-learn keeps one row of weights for two classes: that of the second one
    weights[seen] = np.concatenate([-fitted.coef_, fitted.coef_]) if two else fitted.coef_
    bias[seen] = np.concatenate([-fitted.intercept_, fitted.intercept_]) if two else fitted.intercept_
    tagger = _Tagger(
        words=weights[:, :HASHED].T.copy(),
        last=weights[:, HASHED : HASHED + count + 1].T.astype(np.float64),
        last_but_one=weights[:, HASHED + count + 1 :].T.astype(np.float64),
        bias=bias,
        follows=_follows(task.labels, [each.tags for each in given]),
    )

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        found: list[Answered] = []
        asked = list(_inputs(task, rows))
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            found += [
                _answered(task, each, tagged)
                for each, tagged in zip(part, tagger.tags([each.tokens for each in part]), strict=True)
            ]
        return found

    return answer


@dataclass(frozen=True, kw_only=True)
class _Tagger:
    words: "np.ndarray[tuple[int, int], np.dtype[np.float32]]"
    """(H, C)"""
    last: Floats
    """(C + 1, C): of the tag before."""
    last_but_one: Floats
    """(C + 1, C)"""
    bias: Floats
    """(C,)"""
    follows: Bools
    """(C + 1, C + 1): may the second tag stand behind the first? C: the borders of the sentence."""

    def tags(self, sentences: Sequence[Sequence[str]]) -> Iterator[list[int]]:
        """The tags of each sentence."""
        if not any(sentences):
            yield from ([] for _ in sentences)
            return
        scores = np.asarray(_hashed(sentences) @ self.words) + self.bias
        start = 0
        for sentence in sentences:
            yield self._greedy(scores[start : start + len(sentence)])
            start += len(sentence)

    def _greedy(self, scores: Floats) -> list[int]:
        border = len(self.bias)
        found = [border, border]
        for place, own in enumerate(scores):
            allowed = self.follows[found[-1], :border]
            if place == len(scores) - 1:
                allowed = allowed & self.follows[:border, border]
            total = own + self.last[found[-1]] + self.last_but_one[found[-2]]
            open_ = np.where(allowed, total, -np.inf)
            found.append(int((open_ if np.isfinite(open_).any() else total).argmax()))
        return found[2:]


def features(tokens: Sequence[str], place: int) -> list[str]:
    """Features of the word at a place."""

    def word(offset: int) -> str:
        there = place + offset
        return tokens[there].lower() if 0 <= there < len(tokens) else ""

    token, here = tokens[place], word(0)
    return [
        f"w={here}",
        *(f"w{offset:+d}={word(offset)}" for offset in (-1, -2, 1, 2)),
        f"w-1,0={word(-1)} {here}",
        f"w0,1={here} {word(1)}",
        *(f"begins={here[:length]}" for length in (1, 2, 3) if length <= len(here)),
        *(f"ends={here[-length:]}" for length in (1, 2, 3, 4) if length <= len(here)),
        f"shape={_shape(token)}",
        *(
            f"shape{offset:+d}={_shape(tokens[place + offset])}"
            for offset in (-1, 1)
            if 0 <= place + offset < len(tokens)
        ),
    ]


def _shape(token: str) -> str:
    """`McDonald-12` -> `XxXx-9`."""
    marks = re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", re.sub(r"\d", "9", token))
    return re.sub(r"(.)\1+", r"\1", marks)


def _hashed(sentences: Sequence[Sequence[str]]) -> "csr_matrix":
    """(N, H)"""
    from sklearn.feature_extraction import FeatureHasher

    names = (features(tokens, place) for tokens in sentences for place in range(len(tokens)))
    found: csr_matrix = FeatureHasher(HASHED, input_type="string", dtype=np.float32).transform(names)
    return found


def _one_hot(numbers: Sequence[int], size: int) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    count = len(numbers)
    places: tuple[Ints, Ints] = (np.arange(count), np.array(numbers, dtype=np.int64))
    return csr_matrix((np.ones(count, dtype=np.float32), places), shape=(count, size))


def _follows(labels: Sequence[str], rows: Sequence[Sequence[int]]) -> Bools:
    """(C + 1, C + 1): which tag may stand behind which, so far as the training rows keep to it: what goes on an entity
    behind a part of the same one, and, where the scheme says so, nothing else behind a part that is not the last."""
    border = len(labels)
    parts = [_part(label) for label in labels] + [("O", "")]
    letters = {letter for letter, _ in parts}
    goes_on = np.array([[a[0] in "BI" and b[0] in "IE" and a[1] == b[1] for b in parts] for a in parts])
    inside = np.array([letter in "IE" for letter, _ in parts])
    unclosed = np.array([letter in "BI" for letter, _ in parts]) & ("E" in letters or "S" in letters)
    found = np.ones((border + 1, border + 1), dtype=np.bool_)
    before = np.array([tag for row in rows for tag in (border, *row)], dtype=np.int64)
    behind = np.array([tag for row in rows for tag in (*row, border)], dtype=np.int64)
    for rule in (inside[None, :] & ~goes_on, unclosed[:, None] & ~goes_on):
        asked = (inside[behind] if rule[border].any() else unclosed[before]).sum()
        if rule[before, behind].sum() <= BROKEN * asked:
            found &= ~rule
    return found


def _part(label: str) -> tuple[str, str]:
    """`L-LOC` -> (`E`, `LOC`); (`O`, ``) for what is no part of an entity."""
    letter, _, kind = label.partition("-")
    known = letter in INSIDE and (kind or label == letter) and label != OUTSIDE
    return (INSIDE[letter], kind) if known else ("O", "")


def _inputs(task: Task, rows: Sequence[Row]) -> Iterator[HeadInput]:
    for number, row in enumerate(rows):
        yield head_input(task, row, row_number=number)


def _answered(task: Task, given: HeadInput, tags: Sequence[int]) -> Answered:
    text = " ".join(task.labels[tag] for tag in tags)
    wanted = (" ".join(task.labels[tag] for tag in given.tags),)
    return answered_text(text, prediction=text, prompt=given.first, references=wanted, source=given.first)
