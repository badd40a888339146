"""Rivals that a model must beat: of several baselines, on each task the one that is best on its validation rows.

The scored rows choose nothing: the choice is made on validation rows, a seeded part of the training rows where a task
has none. A task without either is the one exception: there the best on the scored rows stands, which no rival can beat,
and the record says so (`on`).

Where only one of them fits a task there is no choice: `scores` is empty and `rows` 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lmtasks.data.row_hashes import TrainingRows
from lmtasks.data.splits import TaskData, has_validation
from lmtasks.errors import LmtasksError, UsageError, unknown
from lmtasks.evaluation.baseline_trivial import main_scoring, main_value
from lmtasks.evaluation.baselines import BASELINES, BaselineSolver, group_of, rows_seen, weights_hash
from lmtasks.evaluation.outcome import AnswerRows, Way
from lmtasks.evaluation.prepare import first_rows
from lmtasks.evaluation.protocols import AskedWay, PromptContext, Solved
from lmtasks.records import ModelCard, Progress, Report, RuntimeCard
from lmtasks.results.scores import RivalChoice
from lmtasks.task.task import SplitName, Task

GROUPS: Mapping[str, str] = {
    "trivial": "the best of the trivial answers on the validation rows",
    "classical": "the best of what was there before language models, on the validation rows",
}
"""Names that stand for several baselines, with what they are."""
CHOSEN_ON = 1000
"""Validation rows that a choice is made on, at most."""


def baseline_names(wanted: Sequence[str]) -> tuple[str, ...]:
    """The baselines that names and groups stand for, each once.

    >>> baseline_names(["lead-3", "classical"])[:4]
    ('lead-3', 'tfidf', 'svm', 'naive-bayes')

    Raises:
        UsageError: there is no such baseline or group, or one that has seen the answers stands among others.
    """
    found: list[str] = []
    for name in wanted:
        if name not in BASELINES and name not in GROUPS:
            raise unknown("baseline", name, [*BASELINES, *GROUPS])
        found += [name] if name in BASELINES else [key for key in BASELINES if group_of(key) == name]
    names = tuple(dict.fromkeys(found))
    bound = next((name for name in names if group_of(name) == "bound"), None)
    if bound is not None and len(names) > 1:
        raise UsageError(f"{bound} has seen the right answers, so it is no rival among others; name it alone.")
    return names


class RivalSolver:
    """Answers each task with the best of several baselines.

    Args:
        wanted: lines of `BASELINES`, or names of groups.
        rows: training rows that they will be given at most; None: all. What learned from others is found by no name.

    Raises:
        UsageError: there is no such baseline or group.
    """

    def __init__(self, wanted: Sequence[str], *, rows: int | None = None) -> None:
        self.name = "/".join(wanted)
        self._names = baseline_names(wanted)
        self._solvers = [BaselineSolver(name) for name in self._names]
        first = self._solvers[0]
        self.model: ModelCard = replace(
            first.model, name=self.name, family=self.name, weights_hash=weights_hash(self._names, rows=rows)
        )
        self.card: RuntimeCard = first.card

    def why_not(self, task: Task, *, way: AskedWay) -> str:
        """Why none of them answers the task, as a sentence; empty where one does."""
        if self._fitting(task, way):
            return ""
        reasons = {solver.name: solver.why_not(task, way=way) for solver in self._solvers}
        near = [reason for name, reason in reasons.items() if task.kind in BASELINES[name].kinds]
        if len(reasons) == 1 or near:
            return (near or list(reasons.values()))[0]
        others = [name for name, line in BASELINES.items() if task.kind in line.kinds]
        instead = f"; {', '.join(others)} do." if len(others) > 1 else f"; {others[0]} does." if others else "."
        return f"{self.name} does not answer {task.kind} tasks{instead}"

    def way(self, task: Task, *, way: AskedWay) -> Way:
        """`baseline`."""
        return "baseline"

    def needs(self, task: Task) -> frozenset[SplitName]:
        """The splits that they learn from; and the validation rows, where there are some and a choice is to be made."""
        fitting = self._fitting(task, "auto")
        needed = frozenset[SplitName]().union(*(solver.needs(task) for solver in fitting))
        return needed | {"validation"} if len(fitting) > 1 and has_validation(task) else needed

    def training_rows(self, task: Task, data: TaskData) -> TrainingRows | None:
        """Fingerprints of the rows that one of them learns from, and of those that the choice is made on."""
        return rows_seen(task, data, splits=self.needs(task))

    def card_of(self, rival: RivalChoice) -> ModelCard:
        """The card of what a record says was chosen: named for it, and found again as the choice among all of them."""
        return replace(self.model, family=rival.chosen)

    def solve(self, task: Task, data: TaskData, *, prompt_context: PromptContext, report: Report) -> Solved:
        """Choose, then answer every row of the scored split.

        Raises:
            UsageError: none of them answers the task, or teaches itself anything.
        """
        why_not = self.why_not(task, way=prompt_context.way)
        if why_not or data.test is None:
            raise UsageError(why_not or f"task {task.name}: the scored split was not opened.")
        fitting = self._fitting(task, prompt_context.way)
        chosen, rival = fitting[0], self._record(fitting[0], task)
        learned: dict[str, AnswerRows] = {}
        if len(fitting) > 1:
            chosen, rival = self._choose(
                fitting, task, data, prompt_context=prompt_context, report=report, learned=learned
            )
        solved = chosen.solve(
            task, data, prompt_context=prompt_context, report=report, learned=learned.get(chosen.name)
        )
        return replace(solved, rival=rival if len(self._names) > 1 else None)

    def _fitting(self, task: Task, way: AskedWay) -> list[BaselineSolver]:
        return [solver for solver in self._solvers if not solver.why_not(task, way=way)]

    def _choose(
        self,
        fitting: Sequence[BaselineSolver],
        task: Task,
        data: TaskData,
        *,
        prompt_context: PromptContext,
        report: Report,
        learned: dict[str, AnswerRows],
    ) -> tuple[BaselineSolver, RivalChoice]:
        """The best one, and the record of the choice; `learned` gets what it has learned."""
        known = first_rows(data.validation or data.test, CHOSEN_ON)
        assert known is not None  # the caller looked
        metric = main_scoring(task).metric
        best: tuple[float, BaselineSolver] | None = None
        scores: dict[str, float] = {}
        failed: dict[str, str] = {}
        for number, solver in enumerate(fitting):
            progress = Progress(stage=task.name, done=number, total=len(fitting), unit="rivals", note=solver.name)
            report(progress)
            try:
                answer = solver.learned(task, data, prompt_context=prompt_context)
                scores[solver.name] = main_value(task, known.rows, answer(known.rows))
            except LmtasksError as error:
                failed[solver.name] = str(error)
                continue
            order = scores[solver.name] if metric.higher_is_better else -scores[solver.name]
            if best is None or order > best[0]:
                best = order, solver
                learned.clear()
                learned[solver.name] = answer
        if best is None:
            raise UsageError(next(iter(failed.values())))
        return best[1], self._record(best[1], task).model_copy(
            update={
                "on": "validation" if data.validation is not None else "test",
                "rows": len(known.rows),
                "scores": scores,
                "failed": failed,
            }
        )

    def _record(self, chosen: BaselineSolver, task: Task) -> RivalChoice:
        scoring = main_scoring(task)
        return RivalChoice(
            chosen=chosen.name,
            group=group_of(chosen.name),
            metric=scoring.name,
            scale=scoring.metric.scale,
            on="",
            rows=0,
            scores={},
            failed={},
        )
