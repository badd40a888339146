"""Answers that need no language model: the floor under every table, and a strong classical classifier.

Each baseline says which kinds of task it answers, and how. What it must learn, it learns from training rows alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import perf_counter

import lmtasks
from lmtasks.data.row_hashes import TrainingRows, hash_rows
from lmtasks.data.splits import TaskData
from lmtasks.errors import LmtasksError, UsageError, unknown
from lmtasks.evaluation import baseline_choice, baseline_text, baseline_tfidf
from lmtasks.evaluation.outcome import Answered, Way
from lmtasks.evaluation.solver import AskedWay, Asking, Report, Solved
from lmtasks.records import ModelCard, Progress, Row, RuntimeCard
from lmtasks.task.task import Kind, SplitName, Task

Answer = Callable[[Sequence[Row]], Sequence[Answered]]
Fit = Callable[[Task, Sequence[Row], int], Answer]
"""(task, training rows, seed) -> answers to the rows of the scored split, in their order."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One line of the table."""

    about: str
    """One line for people."""
    kinds: Mapping[Kind, Fit]
    """The kinds of task that it answers."""
    learns: bool = False
    """Does it look at training rows?"""


BASELINES: Mapping[str, Baseline] = {
    "majority": Baseline(
        about="the label, or the place of the choice, that is right most often in the training data",
        kinds={"classification": baseline_choice.majority_label, "multiple_choice": baseline_choice.majority_number},
        learns=True,
    ),
    "random": Baseline(
        about="a choice drawn with equal chances",
        kinds={"classification": baseline_choice.random_label, "multiple_choice": baseline_choice.random_choice},
    ),
    "longest-choice": Baseline(
        about="the choice with most characters", kinds={"multiple_choice": baseline_choice.longest_choice}
    ),
    "copy": Baseline(
        about="the source text as it is",
        kinds={
            "translation": baseline_text.copy,
            "summarization": baseline_text.copy,
            "generation": baseline_text.copy,
        },
    ),
    "lead-3": Baseline(about="the first three sentences of the source", kinds={"summarization": baseline_text.lead_3}),
    "empty": Baseline(
        about="no text at all; for questions: there is no answer",
        kinds={
            "span": baseline_text.empty,
            "translation": baseline_text.empty,
            "summarization": baseline_text.empty,
            "generation": baseline_text.empty,
        },
    ),
    "tfidf": Baseline(
        about="TF-IDF of word pairs (Chinese: up to three characters) and logistic regression, by scikit-learn",
        kinds={"classification": baseline_tfidf.fit_tfidf},
        learns=True,
    ),
}


WRITTEN: tuple[Kind, ...] = ("span", "translation", "summarization", "generation")
"""Kinds whose answers are texts."""


class BaselineSolver:
    """Answers with a baseline.

    Args:
        name: a line of `BASELINES`.

    Raises:
        UsageError: there is no such baseline.
    """

    def __init__(self, name: str) -> None:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES)
        self.name = name
        self._baseline = BASELINES[name]
        self.model = ModelCard(
            name=name,
            family=name,
            kind="baseline",
            adaptation="none",
            parameters=0,
            weights_hash=sha256(f"baseline {name}".encode()).hexdigest()[:16],
            tokenizer_hash="",
            max_length_tokens=0,
            vocabulary=0,
        )
        self.card = RuntimeCard(
            runtime="native",
            version=lmtasks.__version__,
            device="cpu",
            precision="none",
            threads=1,
            size_bytes=0,
        )

    def why_not(self, task: Task, *, way: AskedWay) -> str:
        """Why it does not answer the task, as a sentence; empty where it does."""
        if task.kind not in self._baseline.kinds:
            others = [name for name, baseline in BASELINES.items() if task.kind in baseline.kinds]
            reason = (
                "a text that is drawn at random is no floor"
                if self.name == "random" and task.kind in WRITTEN
                else f"it answers {_listed(self._baseline.kinds)}"
            )
            instead = f"{_listed(others)} {'does' if len(others) == 1 else 'do'}" if others else "no baseline does"
            return f"{self.name} does not answer {task.kind} tasks: {reason}; {instead}."
        if self._baseline.learns and "train" not in task.sources:
            return f"{self.name} learns from training data, and task {task.name} names none."
        if way != "auto":
            return f"{self.name} is a baseline: it answers neither by head nor by prompt."
        return ""

    def way(self, task: Task, *, way: AskedWay) -> Way:
        """`baseline`."""
        return "baseline"

    def needs(self, task: Task) -> frozenset[SplitName]:
        """The training split, for a baseline that learns."""
        return frozenset({"train"}) if self._baseline.learns else frozenset()

    def training_rows(self, task: Task, data: TaskData) -> TrainingRows | None:
        """Fingerprints of the rows that it learns from; None where a row has no text that it could be told by."""
        rows = data.train.rows if self._baseline.learns and data.train is not None else ()
        try:
            return TrainingRows(learned=hash_rows(task, rows).as_set())
        except LmtasksError:
            return None

    def solve(self, task: Task, data: TaskData, *, asking: Asking, report: Report) -> Solved:
        """Learn, then answer every row of the scored split; `seconds` is the answering.

        Raises:
            UsageError: it does not answer such tasks, or a split it needs was not opened.
        """
        why_not = self.why_not(task, way=asking.way)
        if not why_not and (data.test is None or (self._baseline.learns and data.train is None)):
            why_not = f"task {task.name}: a split that {self.name} needs was not opened."
        if why_not or data.test is None:
            raise UsageError(why_not)
        rows = data.test.rows
        report(Progress(stage=task.name, done=0, total=len(rows), unit="texts"))
        answer = self._baseline.kinds[task.kind](task, data.train.rows if data.train else (), asking.seed)
        started = perf_counter()
        examples = tuple(answer(rows))
        seconds = perf_counter() - started
        report(Progress(stage=task.name, done=len(rows), total=len(rows), unit="texts"))
        return Solved(examples=examples, truncated=0, seconds=seconds)


def _listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
