"""Trivial baselines: the commonest choice, a drawn one, the longest one; the source, its first sentences, no text."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from math import log, tanh
from statistics import fmean

import regex

from lmtasks.data.rows import fingerprint
from lmtasks.engine.sampling import draw
from lmtasks.errors import UsageError
from lmtasks.evaluation.custom_results import with_custom_values_of_outcome
from lmtasks.evaluation.outcome import (
    Answered,
    AnswerRows,
    answered_choice,
    answered_labels,
    answered_number,
    answered_text,
    asks_without_context,
    certain,
)
from lmtasks.evaluation.protocols import Finished, ScoredExample
from lmtasks.evaluation.scoring import TaskMetric, scorings_for
from lmtasks.metric.base import value_of
from lmtasks.metric.words import words
from lmtasks.records import Choice, HeadInput, LabelSet, Quantity, Row
from lmtasks.task.kinds import baseline_source, head_input, kind_of
from lmtasks.task.prompt import Prompt, build_prompt
from lmtasks.task.task import Task

LEAD = 3
CHOSEN_ON = 500
"""Validation rows that tell how many characters are best."""
LEAST_CHARACTERS = 4
PATIENCE = 4
"""The search for more characters ends once so many lengths in a row, each half as long again, were no better."""

_SENTENCE = regex.compile(
    r"""(?V1)
    .+?                               # as little as possible, up to
    (?: [。！？…]+[”’」』）]* | # the end of a Chinese sentence, its quotation mark included,
        [[\p{STerm}]--[.!?．。！？]]+["'”’)]* | # or of one whose mark ends nothing else (danda, Urdu's full stop, ...),
        [.!?]+["'”’)]* (?=\s|$)       # or of another one, white space behind it,
      | \n+                           # or of a line (a turn of a dialogue),
      | $ )
    """,
    regex.VERBOSE | regex.DOTALL,
)


def copy(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The source as it is."""
    return _texts(task, lambda source: source)


def lead_3(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The source's first three sentences."""
    return _texts(task, lambda source: first_sentences(source, count=LEAD))


def lead_chars(task: Task, rows: Sequence[Row], seed: int) -> AnswerRows:
    """The source's first characters: as many as are best on these rows, by the task's main metric."""
    known = rows[:CHOSEN_ON]
    sources = [baseline_source(task, row) for row in known]
    sign = 1.0 if main_scoring(task).metric.higher_is_better else -1.0

    @cache
    def order(count: int) -> float:
        """Larger is better."""
        answers = text_answers(task, known, [first_characters(source, count=count) for source in sources])
        return sign * main_value(task, known, answers)

    longest = max([LEAST_CHARACTERS, *map(len, sources)])
    coarse = [LEAST_CHARACTERS]
    while coarse[-1] < longest and max(coarse, key=order) in coarse[-PATIENCE:]:
        coarse.append(min(longest, coarse[-1] * 3 // 2))
    best = max(coarse, key=order)
    finer = range(best * 2 // 3, min(longest, best * 3 // 2) + 1, max(1, best // 12))
    chosen = max([best, *finer], key=order) if known else best
    return _texts(task, lambda source: first_characters(source, count=chosen))


def empty(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """Nothing."""
    return _texts(task, lambda source: "")


def first_characters(text: str, *, count: int) -> str:
    """The first characters of a text.

    >>> first_characters(" It was 3.5 km.", count=7)
    'It was'
    """
    return text.strip()[:count].rstrip()


def first_sentences(text: str, *, count: int) -> str:
    """The first sentences of a text, or lines where it is a dialogue.

    >>> first_sentences("It was 3.5 km. We walked! Why? No bus came.", count=3)
    'It was 3.5 km. We walked! Why?'
    >>> first_sentences("他说：“走吧！”我们走了。天黑了。", count=2)
    '他说：“走吧！”我们走了。'
    >>> first_sentences("यह दिन है। वह रात है। हम गए।", count=2)
    'यह दिन है। वह रात है।'
    """
    end = 0
    for number, sentence in enumerate(_SENTENCE.finditer(text.strip())):
        if number == count:
            break
        end = sentence.end()
    return text.strip()[:end].strip()


def text_answers(task: Task, rows: Sequence[Row], predictions: Sequence[str]) -> list[Answered]:
    """Texts as answers to rows."""
    found: list[Answered] = []
    for number, (row, prediction) in enumerate(zip(rows, predictions, strict=True)):
        prompt, references = kind_of(task).shown(task, row, row_number=number)
        source = baseline_source(task, row)
        found.append(
            answered_text(prediction, prediction=prediction, prompt=prompt, references=references, source=source)
        )
    return found


def _texts(task: Task, write: Callable[[str], str]) -> AnswerRows:
    return lambda rows: text_answers(task, rows, [write(baseline_source(task, row)) for row in rows])


def main_scoring(task: Task) -> TaskMetric:
    """The first metric of the task, of a baseline's answers.

    Raises:
        UsageError: it names none.
    """
    scorings = scorings_for(task)
    if not scorings:
        raise UsageError(f"task {task.name} names no metric that a choice could be made by.")
    return scorings[0]


def main_value(task: Task, rows: Sequence[Row], answers: Sequence[Answered]) -> float:
    """That metric of the answers to these rows, with what the task's own code makes of them."""
    scoring = main_scoring(task)
    finished = [
        with_custom_values_of_outcome(
            Finished(example=ScoredExample(doc_id=number, row=row), answered=answer, truncated=False), task
        )
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]
    return value_of(scoring.metric, scoring.metric.statistics([scoring.outcome_of(each.answered) for each in finished]))


def majority_label(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The commonest label; the scores are the logarithms of the labels' shares (each seen once more than it was)."""
    counts = [1] * len(task.labels)
    for number, row in enumerate(train):
        label = head_input(task, row, row_number=number).label
        if label is not None:
            counts[label] += 1
    scores = [log(count / sum(counts)) for count in counts]
    return _labels(task, lambda row: scores)


def majority_labels(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The commonest set of labels, of equally common ones the smallest; the log-odds of each label are those of its
    share (each seen once more than it was, and once more not), moved to the side of 0 on which the set has it."""
    sets = [
        labels for labels in (_input(task, row, place).labels for place, row in enumerate(train)) if labels is not None
    ]
    commonest = min(Counter(sets).items(), key=lambda found: (-found[1], len(found[0]), found[0]))[0] if sets else ()
    counts = Counter(label for labels in sets for label in labels)
    odds = [log((counts[place] + 1) / (len(sets) - counts[place] + 1)) for place in range(len(task.labels))]
    # Into (-1, 1) by the hyperbolic tangent, which keeps the order of the labels within the set and without.
    scores = [1 + tanh(odd) if place in commonest else tanh(odd) - 1 for place, odd in enumerate(odds)]
    return lambda rows: [label_set_answer(task, _input(task, row, place), scores) for place, row in enumerate(rows)]


def mean_number(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The mean of the training rows' numbers."""
    numbers = [
        number for number in (_input(task, row, place).number for place, row in enumerate(train)) if number is not None
    ]
    if not numbers:
        raise UsageError(f"task {task.name}: there are no training rows that a mean could be of.")
    answer = fmean(numbers)
    return lambda rows: [number_answer(_input(task, row, place), answer) for place, row in enumerate(rows)]


def candidate_answer(task: Task, given: HeadInput, scores: Sequence[float]) -> Answered:
    """An answer to a row that brings its choices along, from a score of each."""
    gold = () if given.label is None else (given.label,)
    outcome = _outcome(task, scores, texts=given.candidates, gold=gold)
    return answered_choice(outcome, prompt=given.shown, choices=given.candidates)


def label_set_answer(task: Task, given: HeadInput, scores: Sequence[float]) -> Answered:
    """An answer to a row with any number of labels, from the log-odds of each."""
    outcome = LabelSet(gold=given.labels or (), scores=tuple(scores))
    return answered_labels(outcome, prompt=given.shown, labels=task.labels)


def shared_words(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The share of the words of two texts that both have (Chinese: characters)."""
    del train, seed

    def share(given: HeadInput) -> float:
        first, second = set(words(given.first)), set(words(given.second or ""))
        return len(first & second) / max(1, len(first | second))

    return lambda rows: [
        number_answer(each, share(each)) for each in (_input(task, row, n) for n, row in enumerate(rows))
    ]


def number_answer(given: HeadInput, prediction: float) -> Answered:
    """An answer to a row with a number."""
    gold = float("nan") if given.number is None else given.number
    return answered_number(Quantity(gold=gold, prediction=prediction), prompt=given.shown)


def _input(task: Task, row: Row, number: int) -> HeadInput:
    return head_input(task, row, row_number=number)


def random_label(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """A label for each row, drawn by the seed and what stands in the row."""
    return _labels(task, lambda row: certain(_drawn(len(task.labels), seed, row), len(task.labels)))


def majority_number(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The commonest place of the right choice; where a row has fewer choices, the commonest that it has."""
    counts = Counter(
        gold for number, row in enumerate(train) for gold in build_prompt(task, row, row_number=number).gold
    )

    def commonest(prompt: Prompt, row: Row) -> int:
        return max(range(len(prompt.choices)), key=lambda choice: (counts[choice], -choice))

    return _choices(task, commonest)


def random_choice(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """A choice for each row, drawn by the seed and what stands in the row."""
    return _choices(task, lambda prompt, row: _drawn(len(prompt.choices), seed, row))


def longest_choice(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """The choice with most characters; of equals the first."""
    return _choices(
        task, lambda prompt, row: max(range(len(prompt.choices)), key=lambda place: len(prompt.choices[place]))
    )


def label_answer(task: Task, given: HeadInput, scores: Sequence[float]) -> Answered:
    """An answer to a classification row, from the log-probability of each label."""
    return answered_choice(
        _outcome(task, scores, texts=task.labels, gold=() if given.label is None else (given.label,)),
        prompt=given.shown,
        choices=task.labels,
    )


def _labels(task: Task, scores: Callable[[Row], Sequence[float]]) -> AnswerRows:
    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        return [
            label_answer(task, head_input(task, row, row_number=number), scores(row)) for number, row in enumerate(rows)
        ]

    return answer


def _choices(task: Task, choose: Callable[[Prompt, Row], int]) -> AnswerRows:
    def answer(rows: Sequence[Row]) -> Sequence[Answered]:
        found: list[Answered] = []
        for number, row in enumerate(rows):
            prompt = build_prompt(task, row, row_number=number)
            if not prompt.choices:
                raise UsageError(f"task {task.name}, row {number}: there are no choices.")
            scores = certain(choose(prompt, row), len(prompt.choices))
            outcome = _outcome(task, scores, texts=prompt.choices, gold=prompt.gold)
            found.append(answered_choice(outcome, prompt=prompt.contexts or prompt.context, choices=prompt.choices))
        return found

    return answer


def _outcome(task: Task, scores: Sequence[float], *, texts: Sequence[str], gold: Sequence[int]) -> Choice:
    return Choice(
        gold=tuple(gold),
        scores=tuple(scores),
        chars=tuple(len(text) for text in texts),
        bytes=tuple(len(text.encode()) for text in texts),
        unconditional=(0.0,) * len(texts) if asks_without_context(task) else (),
    )


def _drawn(count: int, seed: int, row: Row) -> int:
    """By the row itself, not its number: neither `--limit` nor the number of processes shifts the draws."""
    return int(draw(seed=seed, number=int(fingerprint([row]), 16), step=0) * count)
