"""N-best lists ranked again: a recogniser's scores and a language model's, weighed together.

    score = acoustic + a * language + b * log p(text) + c * number of words

The weights a, b and c are chosen on validation rows, by the task's first metric, over a grid: each in units of how much
its score differs within a list, so that one grid fits every recogniser and model. Of each point of the grid counts the
mean over itself and its neighbours: a few hundred rows have lucky points, and a plateau is none of them. Weights of 0
are on the grid: what does not help is left out.

Of equal hypotheses the recogniser's first one is taken. An empty hypothesis has no token that a model could score: it
has the least probability of its list, so that silence is worth no more than words.

Axes: N lists, M hypotheses of all lists, H hypotheses of the longest list, F scores, G points of the grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lmtasks.engine.requests import ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.baseline_trivial import main_scoring
from lmtasks.evaluation.custom_results import with_custom_values_of_outcome
from lmtasks.evaluation.outcome import Answered, AnswerRows, answered_text
from lmtasks.evaluation.prompt_requests import Prompted
from lmtasks.evaluation.protocols import ChoiceRows, Finished, Pending, Replies, ScoredExample
from lmtasks.metric import Metric, value_of
from lmtasks.metric.words import words
from lmtasks.records import Floats, Json, Row, Text
from lmtasks.task.kinds import kind_of
from lmtasks.task.kinds.rescoring import Hypothesis, hypotheses_of
from lmtasks.task.task import Task

CHOSEN_ON = 500
"""Validation rows that weights are chosen on, at most: the first ones."""
OF_SCORES = (0.0, *(2.0 ** (step / 2) for step in range(-6, 7)))
OF_WORDS = tuple(step / 4 for step in range(-8, 9, 1))
"""ScoreWeights that are tried, in units of how much each score differs within a list."""
POINTS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class ScoredList:
    """A row's hypotheses with all their scores."""

    hypotheses: tuple[Hypothesis, ...]
    references: tuple[str, ...]
    """Empty where nobody knows what was said."""
    model: tuple[float, ...] = ()
    """Log-probability of each by a language model; empty: none was asked."""
    where: str
    """The row, for messages."""

    @cached_property
    def features(self) -> Floats:
        """(hypotheses, F): acoustic, language, model, words; 0 for a score that nobody gives."""
        return np.array(
            [
                (each.acoustic, each.language or 0.0, self.model[place] if self.model else 0.0, len(words(each.text)))
                for place, each in enumerate(self.hypotheses)
            ],
            dtype=np.float64,
        )

    @property
    def has_language(self) -> bool:
        """Does the recogniser give a score of its own language model?"""
        return self.hypotheses[0].language is not None


@dataclass(frozen=True, kw_only=True)
class ScoreWeights:
    """The weights of a log-linear combination; that of the acoustic score is 1."""

    language: float
    model: float
    words: float
    rows: int
    """Validation rows that they were chosen on."""
    metric: str
    value: float
    """The metric on those rows with these weights."""
    first: float
    """The same with the recogniser's own answers."""

    def best(self, given: ScoredList) -> int:
        """The place of the hypothesis with the highest score; of equals the first."""
        weights = np.array((1.0, self.language, self.model, self.words))
        return int(np.argmax(given.features @ weights))

    @property
    def sentence(self) -> str:
        """The weights in words, with what they reach on the rows that chose them."""
        named = {"language": self.language, "model": self.model, "words": self.words}
        told = ", ".join(f"{name} {weight:.3g}" for name, weight in named.items() if weight)
        return (
            f"weights chosen on {self.rows} validation rows (there {self.metric} {self.value:.4g}, of the first "
            f"hypotheses {self.first:.4g}): acoustic 1{', ' + told if told else ''}"
        )


def choose_weights(lists: Sequence[ScoredList], *, metric: Metric) -> ScoreWeights:
    """The weights that are best on these lists.

    Raises:
        UsageError: there are none, or only some have the score of the recogniser's own language model.
    """
    if not lists:
        raise UsageError("there are no validation rows that weights of scores could be chosen on.")
    _check_scores(lists[0], lists[1:])
    features = _padded(lists)
    spread = _spreads(lists)
    tried = [
        OF_SCORES if lists[0].has_language else (0.0,),
        OF_SCORES if lists[0].model else (0.0,),
        OF_WORDS,
    ]
    axes = np.meshgrid(*tried, indexing="ij")
    scale = spread[0] / spread
    points = np.stack([np.ones(axes[0].size), *(axis.ravel() for axis in axes)], axis=1) * scale  # (G, F)
    statistics = [_statistics(each, metric) for each in lists]
    values = np.array([value_of(metric, each) for each in _chosen(features, points, statistics)])
    sign = 1.0 if metric.higher_is_better else -1.0
    smooth = _with_neighbours(values.reshape(axes[0].shape) * sign)
    best = int(np.argmax(smooth))
    return ScoreWeights(
        language=float(points[best, 1]),
        model=float(points[best, 2]),
        words=float(points[best, 3]),
        rows=len(lists),
        metric=metric.name,
        value=float(values[best]),
        first=value_of(metric, np.stack([each[0] for each in statistics])),
    )


def _check_scores(first: ScoredList, others: Sequence[ScoredList]) -> None:
    odd = next((each for each in others if each.has_language != first.has_language), None)
    if odd is not None:
        has, lacks = (odd, first) if odd.has_language else (first, odd)
        raise UsageError(
            f"{lacks.where}: its hypotheses have no score 'language', and those of {has.where} have; weights hold for "
            "lists with the same scores."
        )


def _padded(lists: Sequence[ScoredList]) -> Floats:
    """(N, H, F), not a number behind the last hypothesis of a list."""
    longest = max(len(each.hypotheses) for each in lists)
    found = np.full((len(lists), longest, 4), np.nan)
    for place, each in enumerate(lists):
        found[place, : len(each.hypotheses)] = each.features
    return found


def _spreads(lists: Sequence[ScoredList]) -> Floats:
    """(F,) how much each score differs within a list; 1 for one that never does."""
    inner = np.concatenate([each.features - each.features.mean(axis=0) for each in lists])
    found: Floats = np.sqrt(np.square(inner).mean(axis=0))
    return np.where(found > 0, found, 1.0)


def _chosen(features: Floats, points: Floats, statistics: Sequence[Floats]) -> list[Floats]:
    """For each point (N, K), the statistics of the hypotheses that it chooses."""
    longest = features.shape[1]
    table = np.zeros((len(statistics), longest, statistics[0].shape[1]))
    for place, each in enumerate(statistics):
        table[place, : len(each)] = each
    rows = np.arange(len(statistics))
    found: list[Floats] = []
    for start in range(0, len(points), POINTS_AT_ONCE):
        scores = features @ points[start : start + POINTS_AT_ONCE].T  # (N, H, G)
        places = np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=1)
        found += [table[rows, places[:, point]] for point in range(places.shape[1])]
    return found


def _with_neighbours(values: Floats) -> Floats:
    from scipy.ndimage import uniform_filter

    found: Floats = uniform_filter(values, size=3, mode="nearest")
    return found


def _statistics(given: ScoredList, metric: Metric) -> Floats:
    """(hypotheses, K)."""
    return metric.statistics([Text(references=given.references, prediction=each.text) for each in given.hypotheses])


def _text_metric(task: Task) -> Metric:
    metric = main_scoring(task).metric
    if metric.takes != "text":
        raise UsageError(
            f"task {task.name}: weights of scores are chosen by the task's first metric, and {metric.name} is made by "
            "the task's own code; name wer or cer first."
        )
    return metric


def scored_list(task: Task, row: Row, *, where: str, labelled: bool = True, model: Sequence[float] = ()) -> ScoredList:
    """A row's list.

    Args:
        labelled: with what was said.

    Raises:
        UsageError: as `hypotheses_of`, or the reference is missing.
    """
    references = kind_of(task).read(task, row, where=where, labelled=True).answers if labelled else ()
    return ScoredList(
        hypotheses=hypotheses_of(task, row, where=where), references=references, model=tuple(model), where=where
    )


class HypothesisRequests:
    """Builds the requests of n-best lists: of validation rows first, on which the weights are chosen.

    Args:
        choice: those rows; None: nothing can be answered, only asked.
    """

    decoding: Json | None = None

    def __init__(self, asked: Prompted, *, choice: ChoiceRows | None) -> None:
        self._asked = asked
        self._choice = choice
        self._lists: list[ScoredList] = []
        self._weights: ScoreWeights | None = None
        self._begun = False

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One request a hypothesis; before the first examples those of all validation rows."""
        found: list[Pending] = []
        if not self._begun:
            self._begun = True
            found += self._choosing()
        for example in examples:
            given = self._list_of(self._asked.task, example, what="row")
            found.append(self._pending(example, given, self._asked.task, finish=self._finisher(example, given)))
        return found

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _choosing(self) -> list[Pending]:
        choice = self._choice
        if choice is None:
            return []
        found: list[Pending] = []
        for number, row in enumerate(choice.rows[:CHOSEN_ON]):
            example = ScoredExample(doc_id=number, row=row)
            given = self._list_of(choice.task, example, what="validation row")
            found.append(replace(self._pending(example, given, choice.task, finish=self._noter(given)), shared=True))
        return found

    def _list_of(self, task: Task, example: ScoredExample, *, what: str) -> ScoredList:
        where = f"task {task.name}, {what} {example.doc_id}"
        return scored_list(task, example.row, where=where, labelled="references" in task.inputs)

    def _pending(
        self,
        example: ScoredExample,
        given: ScoredList,
        task: Task,
        *,
        finish: Callable[[ScoredList, bool], Sequence[Finished]],
    ) -> Pending:
        spoken = [each.text for each in given.hypotheses if each.text]
        context = self._context(example, task)
        pairs = self._asked.pairs([(context, text) for text in spoken])
        requests: list[ScoreRequest] = [
            self._asked.request(pair, example=example, what=f"the hypothesis {text!r}")
            for pair, text in zip(pairs, spoken, strict=True)
        ]

        def finished(replies: Replies) -> Sequence[Finished]:
            told = iter([each.logprob for each in replies.scored])
            logprobs = [next(told) if each.text else None for each in given.hypotheses]
            least = min((value for value in logprobs if value is not None), default=0.0)
            model = tuple(least if value is None else value for value in logprobs)
            return finish(replace(given, model=model), any(each.truncated for each in replies.scored))

        return Pending(doc_id=example.doc_id, score=requests, finish=finished)

    def _context(self, example: ScoredExample, task: Task) -> str:
        """What stands before a hypothesis: the task's own `doc_to_text`, mostly nothing, and worked examples."""
        prompts = self._asked.prompts
        return (prompts if task is prompts.task else replace(prompts, task=task)).of(example).context

    def _noter(self, given: ScoredList) -> Callable[[ScoredList, bool], Sequence[Finished]]:
        def note(scored: ScoredList, truncated: bool) -> Sequence[Finished]:
            self._lists.append(scored)
            return ()

        return note

    def _finisher(self, example: ScoredExample, given: ScoredList) -> Callable[[ScoredList, bool], Sequence[Finished]]:
        task = self._asked.task

        def finish(scored: ScoredList, truncated: bool) -> Sequence[Finished]:
            if self._weights is None:
                assert self._choice is not None  # the solver said that it cannot be answered
                self._weights = choose_weights(self._lists, metric=_text_metric(self._choice.task))
            _check_scores(self._lists[0], [scored])
            answered = answered_hypothesis(scored, self._weights.best(scored))
            answered = replace(answered, raw=list(scored.model))
            remarks = (self._weights.sentence,)
            found = Finished(example=example, answered=answered, truncated=truncated, remarks=remarks)
            return [with_custom_values_of_outcome(found, task)]

        return finish


def answered_hypothesis(given: ScoredList, place: int) -> Answered:
    """The hypothesis at a place as the answer to its row."""
    texts = [each.text for each in given.hypotheses]
    return answered_text(
        texts[place], prediction=texts[place], prompt="\n".join(texts), references=given.references, source=texts[0]
    )


def _ranked(task: Task, place: Callable[[ScoredList], int]) -> AnswerRows:
    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        lists = [scored_list(task, row, where=f"task {task.name}, row {number}") for number, row in enumerate(rows)]
        return [answered_hypothesis(each, place(each)) for each in lists]

    return answer


def first_best(task: Task, rows: Sequence[Row], seed: int) -> AnswerRows:
    """The recogniser's own answer."""
    return _ranked(task, lambda given: 0)


def reweighted(task: Task, rows: Sequence[Row], seed: int) -> AnswerRows:
    """The best by the recogniser's own scores, weighed as is best on these rows.

    Raises:
        UsageError: there are none, or the lists differ in the scores that they have.
    """
    lists = [
        scored_list(task, row, where=f"task {task.name}, validation row {number}")
        for number, row in enumerate(rows[:CHOSEN_ON])
    ]
    weights = choose_weights(lists, metric=_text_metric(task))

    def place(given: ScoredList) -> int:
        _check_scores(lists[0], [given])
        return weights.best(given)

    return _ranked(task, place)


def oracle(task: Task, rows: Sequence[Row], seed: int) -> AnswerRows:
    """The hypothesis that the task's first metric likes best, in view of what was said."""
    metric = _text_metric(task)
    sign = 1.0 if metric.higher_is_better else -1.0

    def place(given: ScoredList) -> int:
        return int(np.argmax(sign * metric.per_example(_statistics(given, metric))))

    return _ranked(task, place)
