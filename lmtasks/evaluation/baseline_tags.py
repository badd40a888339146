"""Baselines that tag words: each word's commonest tag, and a linear model over a window of words.

The model reads the words around a word, the letters that it begins and ends with, its shape, and the tag before it; the
answer is the sequence with the best sum (Viterbi), and what it learns from are whole sentences: the averaged structured
perceptron (Collins 2002, https://aclanthology.org/W02-1001). Where the training rows keep to a scheme (IOB2, BILOU,
...), so do the answers. While it learns, a wrong tag is taken to be better than it is, by a margin, so that the right
ones come to be ahead by it.

Axes: N words of all rows, C tags, H hashed features.

>>> features(["Fly", "to", "Rome"], 1)[:4]
['w=to', 'w-1=fly', 'w-2=', 'w+1=rome']
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, AnswerRows, answered_text
from lmtasks.records import Bools, Floats, Floats32, HeadInput, Ints, Row
from lmtasks.tag_scheme import FORBIDDEN, best_path, row_scheme, transitions
from lmtasks.task.kinds import head_input
from lmtasks.task.task import Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


HASHED = 1 << 18
"""H: features share so many weights by a hash, whatever words there are, so that memory stays flat."""
MARGIN = 10.0
EPOCHS = 8
"""Times that a sentence is learned from; chosen on validation rows of snips_slots, atis_slots, wnut_17 and conll2000,
as the margin."""
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
    """The linear model.

    Raises:
        UsageError: the training rows have one tag only, or no words.
    """
    given = [each for each in _inputs(task, train) if each.tokens]
    seen = {tag for each in given for tag in each.tags}
    if len(seen) < 2:
        raise UsageError(
            f"linear-tagger needs training rows with at least two tags; those of task {task.name} have {len(seen)}."
        )
    tags = [each.tags for each in given]
    follows = transitions(task.labels, task.scheme or row_scheme(task.labels, tags))
    tagger = _learned(_hashed(given), tags, follows=follows)

    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        found: list[Answered] = []
        asked = list(_inputs(task, rows))
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            found += [_answered(task, each, tagged) for each, tagged in zip(part, tagger.tags(part), strict=True)]
        return found

    return answer


@dataclass(frozen=True, kw_only=True)
class _Tagger:
    words: Floats32
    """(H, C)"""
    between: Floats
    """(C + 1, C): of a tag behind another; C stands for the beginning of the sentence."""
    follows: Bools
    """(C + 1, C + 1): may the second tag stand behind the first? C: the borders of the sentence."""
    unseen: Ints
    """Tags that no training row has, and no answer."""

    def tags(self, sentences: Sequence[HeadInput]) -> Iterator[list[int]]:
        """The tags of each sentence."""
        if not any(sentence.tokens for sentence in sentences):
            yield from ([] for _ in sentences)
            return
        table, start = _hashed(sentences), 0
        for sentence in sentences:
            end = start + len(sentence.tokens)
            yield self.best(table, start, end) if sentence.tokens else []
            start = end

    def best(self, table: "csr_matrix", start: int, end: int, *, right: Sequence[int] | None = None) -> list[int]:
        """The tags of the words from `start` to `end` of a table (N, H).

        Args:
            right: the right tags, which get no margin; None: nothing does.
        """
        places = table.indptr[start : end + 1]
        weighted = self.words[table.indices[places[0] : places[-1]]] * table.data[places[0] : places[-1], None]
        scores = np.add.reduceat(weighted, places[:-1] - places[0], axis=0).astype(np.float64)
        if right is not None:
            scores += MARGIN
            scores[np.arange(end - start), list(right)] -= MARGIN
        scores[:, self.unseen] = FORBIDDEN
        return best_path(scores, self.follows, between=self.between)


def _learned(table: "csr_matrix", rows: Sequence[Sequence[int]], *, follows: Bools) -> _Tagger:
    """The averaged perceptron of words (N, H) and their tags.

    The mean of all weights that there were is the last ones less what each change was early (Daume 2006, figure 2.3).
    """
    count = len(follows) - 1
    tagger = _Tagger(
        words=np.zeros((HASHED, count), dtype=np.float32),
        between=np.zeros((count + 1, count)),
        follows=follows,
        unseen=np.setdiff1d(np.arange(count), [tag for row in rows for tag in row]),
    )
    words, between = np.zeros_like(tagger.words), np.zeros_like(tagger.between)  # each change times when it was made
    starts = np.cumsum([0, *map(len, rows)])
    order, steps = np.random.default_rng(0), 1  # one name has one number, whatever the seed
    for _ in range(EPOCHS):
        for number in order.permutation(len(rows)).tolist():
            start, wanted = int(starts[number]), list(rows[number])
            found = tagger.best(table, start, start + len(wanted), right=wanted)
            steps += 1
            if found == wanted:
                continue
            for place, (right, wrong) in enumerate(zip(wanted, found, strict=True)):
                if right != wrong:
                    own = slice(table.indptr[start + place], table.indptr[start + place + 1])
                    features_, values = table.indices[own], table.data[own]
                    for tag, change in ((right, values), (wrong, -values)):
                        tagger.words[features_, tag] += change
                        words[features_, tag] += steps * change
            for path, change in ((wanted, 1.0), (found, -1.0)):
                pair = ([count, *path[:-1]], path)
                np.add.at(tagger.between, pair, change)
                np.add.at(between, pair, steps * change)
    return replace(
        tagger,
        words=tagger.words - words / np.float32(steps),
        between=tagger.between - between / steps,
    )


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


def _features(given: HeadInput, place: int) -> list[str]:
    found = features(given.tokens, place)
    if given.predicate is not None:
        found += role_features(given.tokens, place, predicate=given.predicate)
    return found


def _shape(token: str) -> str:
    """`McDonald-12` -> `XxXx-9`."""
    marks = re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", re.sub(r"\d", "9", token))
    return re.sub(r"(.)\1+", r"\1", marks)


def role_features(tokens: Sequence[str], place: int, *, predicate: int) -> list[str]:
    """Features of a word as an argument of another one.

    >>> role_features(["ann", "rang", "me"], 2, predicate=1)[:3]
    ['p=rang', 'p=rang>', 'far=+1']
    """
    word, side = tokens[predicate].lower(), "<" if place < predicate else ">" if place > predicate else "="
    far = f"far={place - predicate:+d}" if abs(place - predicate) < 5 else f"far={side}"
    between = tokens[min(place, predicate) + 1 : max(place, predicate)]
    commas = min(sum(not any(map(str.isalnum, token)) for token in between), 2)
    here = tokens[place].lower()
    before = tokens[predicate - 1].lower() if predicate else ""
    behind = tokens[predicate + 1].lower() if predicate + 1 < len(tokens) else ""
    return [
        f"p={word}",
        f"p={word}{side}",
        far,
        f"p={word} {far}",
        f"p={word} w={here}",
        f"{side} w={here}",
        f"{side} ends={here[-3:]}",
        f"p-ends={word[-3:]} {far}",
        f"{side} marks={commas} {far}",
        f"p-1={before} {far}",
        f"p+1={behind} {far}",
        f"p-1={before} w={here} {side}",
    ]


def _hashed(sentences: Sequence[HeadInput]) -> "csr_matrix":
    """(N, H)"""
    from sklearn.feature_extraction import FeatureHasher

    names = (_features(given, place) for given in sentences for place in range(len(given.tokens)))
    found: csr_matrix = FeatureHasher(HASHED, input_type="string", dtype=np.float32).transform(names)
    return found  # each word has some: `np.add.reduceat` of `_Tagger` relies on it


def _inputs(task: Task, rows: Sequence[Row]) -> Iterator[HeadInput]:
    for number, row in enumerate(rows):
        yield head_input(task, row, row_number=number)


def _answered(task: Task, given: HeadInput, tags: Sequence[int]) -> Answered:
    text = " ".join(task.labels[tag] for tag in tags)
    wanted = (" ".join(task.labels[tag] for tag in given.tags),)
    return answered_text(text, prediction=text, prompt=given.first, references=wanted, source=given.first)
