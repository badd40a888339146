"""Baselines that write without thinking: the source, its first sentences, nothing."""

from collections.abc import Callable, Sequence
from functools import cache

import regex

from lmtasks.errors import UsageError
from lmtasks.evaluation.custom_results import with_custom_values_of_outcome
from lmtasks.evaluation.outcome import Answered, AnswerRows, answered_text
from lmtasks.evaluation.pending import Finished, ScoredExample
from lmtasks.evaluation.scoring import TaskMetric, scorings_for
from lmtasks.metric.base import value_of
from lmtasks.records import Row
from lmtasks.task.kinds import baseline_source, kind_of
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
