"""Samples: a line of samples-<task>.jsonl each, with all that an example's outcome can be made from again; and beside
them the words that moved some answers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, ValidationError

from lmtasks.errors import UsageError
from lmtasks.files import first_line, parse_json
from lmtasks.records import Json
from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, Whole, wrong_field


class ChoiceOutcome(StoredModel):
    """A choice was scored; its log-probabilities are the sample's `raw`. One entry a choice in each."""

    kind: Literal["choice"] = "choice"
    gold: tuple[Whole, ...]
    """Numbers of the right choices."""
    chars: tuple[Whole, ...]
    bytes: tuple[Whole, ...]
    greedy: tuple[Flag, ...]
    """Empty for heads."""
    unconditional: tuple[Number, ...]
    """Log-probability behind no context, where a metric needs it."""
    chosen: Annotated[Flag, SPARSE] = True
    """Was one of them answered? Else the answer is none of them."""
    place: Annotated[Whole | None, SPARSE] = None
    """The number of the choice that was answered, where `raw` is a text, since there were no scores."""


class TextOutcome(StoredModel):
    """A text was answered; the right ones are the sample's `target`."""

    kind: Literal["text"] = "text"
    prediction: str
    source: str


class LikelihoodOutcome(StoredModel):
    """A given text was scored; its log-probability is the sample's `raw`."""

    kind: Literal["likelihood"] = "likelihood"
    tokens: Whole
    words: Whole
    bytes: Whole
    greedy: Flag
    unknown: Annotated[Whole, SPARSE] = 0
    altered: Annotated[Flag, SPARSE] = False


class NumberOutcome(StoredModel):
    """A number was answered; it is the sample's `raw`."""

    kind: Literal["number"] = "number"
    gold: Number


class LabelsOutcome(StoredModel):
    """Each label was answered by itself; their log-odds are the sample's `raw`."""

    kind: Literal["labels"] = "labels"
    gold: tuple[Whole, ...]
    """Numbers of the labels that hold."""


class StoredTie(StoredModel):
    """Where one right text stands among those of a corpus."""

    above: Whole
    """Texts that score higher."""
    size: Whole
    """Texts that score as high, the right one among them."""
    right: Whole
    """Of these: the right ones."""


class RanksOutcome(StoredModel):
    """A corpus was put in order; `raw` are the scores of the first texts, and where each stands in the corpus."""

    kind: Literal["ranks"] = "ranks"
    ties: tuple[StoredTie, ...]
    """One for each right text."""
    count: Whole
    """Texts of the corpus."""


class CustomOutcome(StoredModel):
    """A task's own code made the values of metrics."""

    kind: Literal["made"] = "made"
    values: Json


class SampleRecord(StoredModel):
    """One example with its answer."""

    doc_id: Whole
    doc: Json
    """The row."""
    prompt: str | tuple[str, ...]
    """Several where each choice has a context of its own."""
    target: str | tuple[str, ...]
    """The right answer, or all of them."""
    raw: object
    """What came from the model: a text (a list of them where requests are repeated), the log-probabilities of all
    choices, the log-odds of all labels, one log-probability, one number, or [place, score] of the first texts."""
    answer: str
    """What was made of it; empty where a given text was scored."""
    metrics: Mapping[str, Number]
    hash: str
    """sha256 over doc, prompt and target, 16 hex digits."""
    outcome: Annotated[
        ChoiceOutcome | TextOutcome | LikelihoodOutcome | NumberOutcome | LabelsOutcome | RanksOutcome | CustomOutcome,
        Discriminator("kind"),
    ]
    filtered: Annotated[Json, SPARSE] = Field(default_factory=dict)
    """Filter to what it left of the answers."""
    made: Annotated[Mapping[str, Json], SPARSE] = Field(default_factory=dict)
    """Filter to the values that the task's own code made."""

    @property
    def targets(self) -> tuple[str, ...]:
        """All right answers."""
        return (self.target,) if isinstance(self.target, str) else self.target


class StoredWord(StoredModel):
    """A word of an example that was left out."""

    word: str
    column: str
    """Of the row."""
    start: Whole
    """Its first character in the column's text; of a list of words its place among them."""
    change: Number
    """Of labels: the answer's probability with the word less that without, -1 to 1. Of tags: how many other words have
    another tag without it."""
    moved: Annotated[tuple[str, ...], SPARSE] = ()
    """Without the word: the other label, or `WORD: TAG -> TAG` of each word that has another tag."""


class ExplainedSample(StoredModel):
    """The words that moved the answer to one example, each left out in turn."""

    doc_id: Whole
    answer: str
    probability: Annotated[Number | None, SPARSE] = None
    """Of the answer; None: of tags."""
    words: tuple[StoredWord, ...]
    """In the order of the text."""
    left: Annotated[Whole, SPARSE] = 0
    """Words behind the first ones, which were not left out."""


class WordsRecord(StoredFile):
    """words-TASK.json beside samples, words/CELL.json of a run: of some samples the words that moved their answers."""

    remedy: ClassVar[str] = "delete it; the same command again computes the words once more."

    samples_checksum: str
    """Of the file of samples that they are of."""
    asked: tuple[Whole, ...]
    """`doc_id` of the examples that words were asked of."""
    rows: tuple[ExplainedSample, ...] = ()
    reason: Annotated[str, SPARSE] = ""
    """Why there are none; empty where there are."""


def read_sample_file(file: Path) -> Iterator[SampleRecord]:
    """The samples of a file, one by one.

    Raises:
        UsageError: a line is no sample.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            yield parse_sample(line, file=file, number=number)


def parse_sample(line: bytes, *, file: Path, number: int) -> SampleRecord:
    """The sample of one line.

    Args:
        file, number: where it stands, for the error.

    Raises:
        UsageError: it is none.
    """
    try:
        return SampleRecord.model_validate(parse_json(line.decode("utf-8", "surrogatepass")))
    except ValidationError as error:
        raise _damaged(file, number, wrong_field(error)) from error
    except ValueError as error:
        raise _damaged(file, number, first_line(error)) from error


def _damaged(file: Path, number: int, why: str) -> UsageError:
    return UsageError(f"{file}, line {number} is damaged: {why.rstrip('.')}; run the evaluation again.")
