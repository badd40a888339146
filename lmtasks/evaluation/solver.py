"""What answers tasks: an engine over a model, or a baseline. Evaluation knows no more of them than this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from lmtasks.data.row_hashes import TrainingRows
from lmtasks.data.splits import TaskData
from lmtasks.evaluation.outcome import Answered, Way
from lmtasks.records import Json, ModelCard, Progress, Row, RuntimeCard
from lmtasks.task.task import SplitName, Task

if TYPE_CHECKING:
    from lmtasks.task.prompt import Chat

AskedWay = Literal["auto", "head", "prompt"]
"""auto: by the model's head where it has a fitting one, else by prompt."""

Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class PromptContext:
    """How a task is to be asked."""

    way: AskedWay = "auto"
    num_fewshot: int = 0
    """Worked examples before a prompt; a head gets none."""
    shot_pool: Sequence[Row] = ()
    """Where they are drawn from."""
    drawn: Sequence[tuple[Row, ...]] = ()
    """Worked examples that are drawn already, for each row of the split; empty: a row's are drawn when it is asked."""
    chat: "Chat | None" = None
    """The model's chat template; the system instruction stands in it."""
    system: str | None = None
    """The system instruction of a prompt that is no chat."""
    think_end_token: str = ""
    """The answer begins behind it; empty: at once."""
    seed: int = 1234
    """Of worked examples, sampling and random answers."""


@dataclass(frozen=True, kw_only=True)
class Solved:
    """The answers to all rows of a task's scored split, in their order."""

    examples: tuple[Answered, ...]
    truncated: int
    """Examples of which something was cut off to fit the model."""
    seconds: float
    """For answering, with the model loaded and the data ready."""
    cached: int = 0
    """Requests whose answers were known before; with any, `seconds` says nothing about speed."""
    decoding: Json | None = None
    """Settings of generation, where texts were generated."""
    rival: Json | None = None
    """Which of several baselines answered, and what all had on the rows that chose it (`rivals.py`)."""


class Solver(Protocol):
    """Answers tasks."""

    @property
    def model(self) -> ModelCard:
        """What answers."""
        ...

    @property
    def card(self) -> RuntimeCard:
        """What computes."""
        ...

    def why_not(self, task: Task, *, way: AskedWay) -> str:
        """Why it cannot answer the task, as a sentence; empty where it can."""
        ...

    def way(self, task: Task, *, way: AskedWay) -> Way:
        """How it will answer a task that it can answer."""
        ...

    def needs(self, task: Task) -> frozenset[SplitName]:
        """The splits that it reads besides the scored one."""
        ...

    def training_rows(self, task: Task, data: TaskData) -> TrainingRows | None:
        """Fingerprints of the rows that it learned from or was chosen on; None: not known."""
        ...

    def solve(self, task: Task, data: TaskData, *, asking: PromptContext, report: Report) -> Solved:
        """Answer every row of the scored split."""
        ...
