"""Protocols of evaluation: the engine that it asks, the solver (an engine over a model, or a baseline) that answers
tasks, and the examples that wait for replies; and how a task's settings reach the engine.

A request builder turns examples into requests, many at a time; once the replies are there, each `finish` makes answers
of them. `stream.py` carries requests of all tasks to the engine together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from lmtasks.data.row_hashes import TrainingRows
from lmtasks.data.splits import TaskData
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.decoding_settings import not_obeyed, resolve_decoding
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import Generated, GenerateRequest, OnProgress, Scored, ScoreRequest
from lmtasks.evaluation.outcome import Answered, Way
from lmtasks.records import NOT_KEPT, Floats32, Json, ModelCard, Report, Row, RuntimeCard
from lmtasks.results.scores import RivalChoice
from lmtasks.settings.generation import Decoding
from lmtasks.task.task import SplitName, Task

if TYPE_CHECKING:
    from lmtasks.task.prompt import Chat


AskedWay = Literal["auto", "head", "prompt"]
"""auto: by the model's head where it has a fitting one, else by prompt."""


class InferenceEngine(Protocol):
    """`lmtasks.engine.engine.Engine`, whatever its runtime's state."""

    tokenizer: Tokenizer

    @property
    def cached(self) -> Sequence[bool]:
        """For each request of the last call: was its answer known before? Empty: none was."""
        ...

    @property
    def model(self) -> ModelCard: ...

    @property
    def card(self) -> RuntimeCard: ...

    @property
    def max_length_tokens(self) -> int: ...

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None) -> list[Floats32]: ...

    def predict_heads(
        self, heads: Sequence[str], rows: Sequence[HeadRow], *, on_progress: OnProgress | None
    ) -> list[Floats32]:
        """As `predict`, each row for a head of its own; what is equal is read once for all heads."""
        ...

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None) -> list[Scored]: ...

    def generate(self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None) -> list[Generated]: ...


def decoding_of(settings: Decoding) -> Decoding:
    """A task's settings of generation as the engine reads them, with nothing of a model's own.

    Raises:
        UsageError: the engine cannot carry them out.
    """
    asked = replace(settings, seed=None, insists=False)
    asked.check()
    return asked


def decoding_for(model: ModelCard, settings: Decoding) -> Decoding:
    """A task's settings of generation, with the model's own length where that counts before them.

    lm-evaluation-harness 0.4.13 tells `generate` the task's length as `max_length`, and there a `max_new_tokens` of
    generation_config.json counts first, be it more or less; prompts are cut for the task's length. A person's length
    counts before both.
    """
    asked, own = decoding_of(settings), model.generation.max_new_tokens
    if own is None or settings.insists:
        return asked
    return replace(asked, max_new_tokens=own, room_tokens=settings.max_new_tokens)


def decoding_record(model: ModelCard, settings: Decoding) -> dict[str, object]:
    """Record of how a model writes a task's texts: all settings that hold, and what its generation_config.json sets and
    is not obeyed.
    """
    asked = decoding_for(model, settings)
    return {**resolve_decoding(asked, model).stored(), "not_obeyed": dict(not_obeyed(asked, model))}


def decoding_notes(model: ModelCard, task: str, settings: Decoding) -> list[str]:
    """Sentences on what a person would not expect of a model's own settings; mostly none."""
    notes = []
    missing = not_obeyed(decoding_for(model, settings), model)
    if NOT_KEPT in missing:
        notes.append(
            f"{model.name} was exported by a version that kept little of {NOT_KEPT}: texts are written as if it named "
            "forced and forbidden tokens alone; export the model again if it says more."
        )
    elif missing:
        notes.append(
            f"{model.name}: generation_config.json sets what is not obeyed here, so texts may differ from those of "
            f"transformers' generate: {', '.join(f'{name}={value}' for name, value in missing.items())}."
        )
    own = model.generation.max_new_tokens
    if own is not None and own != settings.max_new_tokens and not settings.insists:
        notes.append(
            f"{model.name}: answers to {task} have at most {own} tokens, as its generation_config.json says "
            f"(max_new_tokens), not {settings.max_new_tokens} as the task says, as in lm-evaluation-harness; "
            f"--gen-kwargs max_gen_toks={settings.max_new_tokens} counts before both."
        )
    return notes


@dataclass(frozen=True, kw_only=True)
class ChoiceRows:
    """Validation rows that a choice is made on while a task is answered, with the task that reads them."""

    task: Task
    rows: Sequence[Row]


@dataclass(frozen=True, kw_only=True)
class PromptContext:
    """Settings by which a task's prompts are made."""

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
    choice: ChoiceRows | None = None
    """Where a kind chooses something whenever it is answered."""
    seed: int = 1234
    """Of worked examples, sampling and random answers."""
    ranked: int = 10
    """Texts of a corpus of which an answer tells place and score."""


@dataclass(frozen=True, kw_only=True)
class Solved:
    """The answers to all rows of a task's scored split, in their order."""

    examples: tuple[Answered, ...]
    truncated: int
    """Examples of which something was cut off to fit the model."""
    cut: tuple[bool, ...] = ()
    """Of each example, whether it is one of them; where an engine answered."""
    seconds: float
    """For answering, with the model loaded and the data ready."""
    cached: int = 0
    """Requests whose answers were known before; with any, `seconds` says nothing about speed."""
    decoding: Json | None = None
    """Settings of generation, where texts were generated."""
    rival: RivalChoice | None = None
    """Which of several baselines answered, and what all had on the rows that chose it (`rivals.py`)."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Metrics of the task that these answers have no value of, each with the reason."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the answers, in sentences."""
    given: Json | None = None
    """Where the answers were there: whose they are, and what was found in them."""


class Solver(Protocol):
    """Answers tasks."""

    @property
    def model(self) -> ModelCard:
        """The model that answers."""
        ...

    @property
    def card(self) -> RuntimeCard:
        """The runtime that computes."""
        ...

    def why_not(self, task: Task, *, way: AskedWay) -> str:
        """Why it cannot answer the task, as a sentence; empty where it can."""
        ...

    def way(self, task: Task, *, way: AskedWay) -> Way:
        """The way, by head or by prompt, in which it will answer a task."""
        ...

    def needs(self, task: Task) -> frozenset[SplitName]:
        """The splits that it reads besides the scored one."""
        ...

    def training_rows(self, task: Task, data: TaskData) -> TrainingRows | None:
        """Fingerprints of the rows that it learned from or was chosen on; None: not known."""
        ...

    def solve(self, task: Task, data: TaskData, *, prompt_context: PromptContext, report: Report) -> Solved:
        """Answer every row of the scored split."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredExample:
    """One row of the scored split."""

    doc_id: int
    """Its place in the split: what shots and draws are keyed by, however the split is cut."""
    row: Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Replies:
    """The engine's replies to one `Pending`, in the order of its requests."""

    scored: Sequence[Scored] = ()
    generated: Sequence[Generated] = ()
    logits: Sequence[Floats32] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """An example with its answer."""

    example: ScoredExample
    answered: Answered
    truncated: bool
    """Was something cut off to fit the model?"""
    remarks: tuple[str, ...] = ()
    """What a reader must know of the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """Requests that wait for replies."""

    doc_id: int
    """The example that they are about, for messages."""
    score: Sequence[ScoreRequest] = ()
    generate: Sequence[GenerateRequest] = ()
    predict: Sequence[HeadRow] = ()
    head: str = ""
    """Answers `predict`."""
    cut: int = 0
    """Requests of which something was cut off before; the engine says itself what it cuts off."""
    shared: bool = False
    """Do answers of other examples hang on these replies?"""
    finish: Callable[[Replies], Sequence[Finished]]
    """Usually one answer; several or none where examples share requests."""

    @property
    def size(self) -> int:
        """Number of requests."""
        return len(self.score) + len(self.generate) + len(self.predict)


class RequestBuilder(Protocol):
    """Makes requests from a task's examples. It may keep something from one call to the next, and gives the rest at the
    end.
    """

    @property
    def decoding(self) -> Json | None:
        """Settings of generation, where texts are generated."""
        ...

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """The requests of these examples, in their order.

        Raises:
            UsageError: the task does not fit a row, or the model.
        """
        ...

    def end(self) -> Sequence[Pending]:
        """The requests that are left after the last example."""
        ...
