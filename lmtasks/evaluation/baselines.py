"""Answers that need no language model: the floor under every table, and what was there before.

Each baseline says which kinds of task it answers, and how. What it must learn, it learns from training rows alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import perf_counter
from typing import Literal

from lmtasks.data.row_hashes import TrainingRows, hash_rows
from lmtasks.data.splits import TaskData, has_validation
from lmtasks.errors import LmtasksError, UsageError
from lmtasks.evaluation import (
    baseline_fitted,
    baseline_tags,
    baseline_trivial,
    minimal_pairs,
    rescoring,
    retrieval,
)
from lmtasks.evaluation.outcome import AnswerRows, Way
from lmtasks.evaluation.protocols import AskedWay, PromptContext, Solved
from lmtasks.named_table import NamedTable
from lmtasks.records import BOUND_BASELINES, CLASSICAL_BASELINES, ModelCard, Progress, Report, Row, RuntimeCard
from lmtasks.task.kinds import KINDS, AnswerForm, kind_of
from lmtasks.task.task import SplitName, Task
from lmtasks.version import __version__

Fit = Callable[[Task, Sequence[Row], int], AnswerRows]
"""(task, rows that it learns from, seed) -> answers to the rows of the scored split, in their order."""
Group = Literal["trivial", "classical", "bound"]
"""trivial: hardly looks at what is asked; classical, bound: see `records`."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One line of the table. Which kinds of task it suits, they say themselves (`TaskKind.baselines`)."""

    name: str
    about: str
    """One line for people."""
    answers: Mapping[AnswerForm, Fit]
    """How it answers, by the form of the answer."""
    learns: SplitName | None = None
    """The split whose rows it looks at: it learns from training rows, and makes a choice on validation rows."""
    unlearned: tuple[AnswerForm, ...] = ()
    """Forms of answers that it gives without having looked at any."""
    version: int = 1
    """Another one where its answers changed: what an older one was scored with is not found again."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of task that it answers."""
        return tuple(name for name, kind in KINDS.items() if self.name in kind.baselines)

    def learns_for(self, task: Task) -> SplitName | None:
        """The split that it looks at for a task."""
        return None if kind_of(task).answer in self.unlearned else self.learns


def _in_pairs(fit: Fit) -> Fit:
    """The same for pairs of texts, by the classification task that they are asked of."""
    return lambda task, rows, seed: minimal_pairs.in_pairs(
        task, fit(minimal_pairs.classifying_task(task), [minimal_pairs.labelled_row(task, row) for row in rows], seed)
    )


BASELINES: NamedTable[Baseline] = NamedTable(
    "baseline",
    Baseline(
        name="majority",
        about="the label, the set of labels, the place of the choice, or the tag of a word that is right most often in "
        "the training data",
        answers={
            "label": baseline_trivial.majority_label,
            "labels": baseline_trivial.majority_labels,
            "pair": _in_pairs(baseline_trivial.majority_label),
            "choice": baseline_trivial.majority_number,
            "tags": baseline_tags.majority_tags,
        },
        learns="train",
    ),
    Baseline(
        name="mean",
        about="the mean of the training data's numbers",
        answers={"number": baseline_trivial.mean_number},
        learns="train",
    ),
    Baseline(
        name="random",
        about="a choice, or an order of texts, drawn with equal chances",
        answers={
            "label": baseline_trivial.random_label,
            "choice": baseline_trivial.random_choice,
            "ranks": retrieval.random_order,
            "pair": _in_pairs(baseline_trivial.random_label),
        },
    ),
    Baseline(
        name="longest-choice",
        about="the choice with most characters",
        answers={"choice": baseline_trivial.longest_choice},
    ),
    Baseline(name="copy", about="the source text as it is", answers={"text": baseline_trivial.copy}),
    Baseline(name="lead-3", about="the first three sentences of the source", answers={"text": baseline_trivial.lead_3}),
    Baseline(
        name="lead-chars",
        about="the first characters of the source, as many as are best on validation rows",
        answers={"text": baseline_trivial.lead_chars},
        learns="validation",
    ),
    Baseline(
        name="empty",
        about="no text at all; for questions: there is no answer",
        answers={"text": baseline_trivial.empty},
    ),
    Baseline(
        name="tfidf",
        about="TF-IDF of words and pairs (Chinese: up to three characters), logistic regression; as the family tfidf; "
        "of several labels each against the rest",
        answers={
            "label": baseline_fitted.linear_fit("tfidf"),
            "labels": baseline_fitted.labels_fit,
            "pair": _in_pairs(baseline_fitted.linear_fit("tfidf")),
        },
        learns="train",
        version=2,
    ),
    Baseline(
        name="svm",
        about="the same terms, a linear support vector machine; as the family svm",
        answers={
            "label": baseline_fitted.linear_fit("svm"),
            "pair": _in_pairs(baseline_fitted.linear_fit("svm")),
        },
        learns="train",
    ),
    Baseline(
        name="naive-bayes",
        about="counts of the same terms, multinomial naive Bayes; as the family naive-bayes",
        answers={
            "label": baseline_fitted.linear_fit("naive-bayes"),
            "pair": _in_pairs(baseline_fitted.linear_fit("naive-bayes")),
        },
        learns="train",
    ),
    Baseline(
        name="ridge",
        about="ridge regression over the same terms",
        answers={"number": baseline_fitted.ridge_fit},
        learns="train",
    ),
    Baseline(
        name="bm25",
        about="BM25 of each candidate for the row's text, words by how rare they are in the training data, or in the "
        "corpus that is looked in",
        answers={"choice": baseline_fitted.fit_bm25, "ranks": baseline_fitted.bm25_of_corpus},
        learns="train",
        unlearned=("ranks",),
    ),
    Baseline(
        name="shared-words",
        about="the share of the words of two texts that both have (Chinese: characters)",
        answers={"number": baseline_trivial.shared_words},
    ),
    Baseline(
        name="tfidf-cosine",
        about="the cosine of the TF-IDF of two texts, terms by how rare they are in the training data, or in the "
        "corpus that is looked in",
        answers={"number": baseline_fitted.cosine_fit, "ranks": baseline_fitted.cosine_of_corpus},
        learns="train",
        unlearned=("ranks",),
    ),
    Baseline(
        name="nearest",
        about="the answer of the training row that is most like the asked one, by TF-IDF",
        answers={
            "label": baseline_fitted.nearest_label,
            "labels": baseline_fitted.nearest_labels,
            "number": baseline_fitted.nearest_number,
            "text": baseline_fitted.nearest_text,
            "pair": _in_pairs(baseline_fitted.nearest_label),
        },
        learns="train",
    ),
    Baseline(
        name="linear-tagger",
        about="an averaged perceptron over windows of words and pairs of tags, the best sequence (Viterbi)",
        answers={"tags": baseline_tags.fit_tagger},
        learns="train",
        version=2,
    ),
    Baseline(
        name="ngram",
        about="n-grams of the training text over byte-level BPE; as the family ngram",
        answers={"likelihood": baseline_fitted.fit_ngram},
        learns="train",
    ),
    Baseline(
        name="first-best",
        about="the recogniser's own answer, the first hypothesis of its list",
        answers={"hypothesis": rescoring.first_best},
    ),
    Baseline(
        name="reweighted",
        about="the best hypothesis by the recogniser's own scores, weighed as is best on validation rows",
        answers={"hypothesis": rescoring.reweighted},
        learns="validation",
    ),
    Baseline(
        name="oracle",
        about="the hypothesis that is nearest to what was said: no ranking of the same lists can be better",
        answers={"hypothesis": rescoring.oracle},
    ),
)


def group_of(name: str) -> Group:
    """The group of a line of `BASELINES`."""
    return "classical" if name in CLASSICAL_BASELINES else "bound" if name in BOUND_BASELINES else "trivial"


class BaselineSolver:
    """Answers with a baseline.

    Args:
        name: a line of `BASELINES`.

    Raises:
        UsageError: there is no such baseline.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._baseline = BASELINES.line(name)
        self.model = ModelCard(
            name=name,
            family=name,
            kind="baseline",
            adaptation="none",
            parameters=0,
            weights_hash=weights_hash([name]),
            tokenizer_hash="",
            max_length_tokens=0,
            vocabulary=0,
        )
        self.card = RuntimeCard(
            runtime="native",
            version=__version__,
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
                if self.name == "random" and kind_of(task).answer == "text"
                else f"it answers {_listed(self._baseline.kinds)}"
            )
            instead = f"{_listed(others)} {'does' if len(others) == 1 else 'do'}" if others else "no baseline does"
            return f"{self.name} does not answer {task.kind} tasks: {reason}; {instead}."
        if kind_of(task).answer == "pair" and task.clean is None:
            return f"{self.name} is no language model: pairs are asked of a classifier as TASK@bias."
        if self._baseline.learns_for(task) == "train" and "train" not in task.sources:
            return f"{self.name} learns from training data, and task {task.name} names none."
        if self._baseline.learns_for(task) == "validation" and not has_validation(task):
            return f"{self.name} makes a choice on validation data, and task {task.name} has none."
        if way != "auto":
            return f"{self.name} is a baseline: it answers neither by head nor by prompt."
        return ""

    def way(self, task: Task, *, way: AskedWay) -> Way:
        """`baseline`."""
        return "baseline"

    def needs(self, task: Task) -> frozenset[SplitName]:
        """The split that the baseline learns from."""
        split = self._baseline.learns_for(task)
        return frozenset() if split is None else frozenset({split})

    def training_rows(self, task: Task, data: TaskData) -> TrainingRows | None:
        """Fingerprints of the rows that it learns from, or makes a choice on; None where they cannot be told apart."""
        return rows_seen(task, data, splits=self.needs(task))

    def learned(self, task: Task, data: TaskData, *, prompt_context: PromptContext) -> AnswerRows:
        """Learn from the task's data.

        Raises:
            UsageError: it does not answer such tasks, the split it needs was not opened, or teaches it nothing.
        """
        why_not = self.why_not(task, way=prompt_context.way)
        split = self._baseline.learns_for(task)
        known = None if split is None else data.train if split == "train" else data.validation
        if not why_not and split is not None and known is None:
            why_not = f"task {task.name}: a split that {self.name} needs was not opened."
        if why_not:
            raise UsageError(why_not)
        return self._baseline.answers[kind_of(task).answer](task, known.rows if known else (), prompt_context.seed)

    def solve(
        self,
        task: Task,
        data: TaskData,
        *,
        prompt_context: PromptContext,
        report: Report,
        learned: AnswerRows | None = None,
    ) -> Solved:
        """Learn, then answer every row of the scored split; `seconds` is the answering.

        Args:
            learned: what it has learned from these data already.

        Raises:
            UsageError: as `learned`.
        """
        if data.test is None:
            raise UsageError(f"task {task.name}: the scored split was not opened.")
        rows = data.test.rows
        report(Progress(stage=task.name, done=0, total=len(rows), unit="texts"))
        answer = learned or self.learned(task, data, prompt_context=prompt_context)
        started = perf_counter()
        examples = tuple(answer(rows))
        seconds = perf_counter() - started
        report(Progress(stage=task.name, done=len(rows), total=len(rows), unit="texts"))
        return Solved(examples=examples, truncated=0, seconds=seconds)


def rows_seen(task: Task, data: TaskData, *, splits: frozenset[SplitName]) -> TrainingRows | None:
    """Fingerprints of training rows that are learned from, and of validation rows that a choice is made on; None where
    a row has no text that it could be told by."""
    train = data.train.rows if "train" in splits and data.train is not None else ()
    validation = data.validation.rows if "validation" in splits and data.validation is not None else ()
    try:
        return TrainingRows(learned=hash_rows(task, train).as_set(), chosen=hash_rows(task, validation).as_set())
    except LmtasksError:
        return None


def weights_hash(names: Sequence[str], *, rows: int | None = None) -> str:
    """Hash in place of weights: another one where the baselines' answers changed, or where one learns from other
    training rows.
    """
    parts = [name if BASELINES[name].version == 1 else f"{name} {BASELINES[name].version}" for name in names]
    if rows is not None and any(BASELINES[name].learns == "train" for name in names):
        parts.append(f"{rows} rows by label")
    return sha256(f"baseline {'/'.join(parts)}".encode()).hexdigest()[:16]


def _listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
