"""Samples of scored examples: made of answers, kept or written as they come, and made into answers again.

    {"doc_id": 3, "doc": {...}, "prompt": "...", "target": "...", "raw": [-4.1, -6.0], "answer": "...",
     "metrics": {"acc": 1.0}, "hash": "...", "outcome": {"kind": "choice", "gold": [0], ...}}

`results.sample` describes each field.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, best_choice, certain
from lmtasks.evaluation.protocols import Finished
from lmtasks.files import AppendedFiles
from lmtasks.records import Choice, CustomValues, Json, LabelSet, Likelihood, Outcome, Quantity, Ranks, RankTie, Text
from lmtasks.results.base import StoredModel, plain
from lmtasks.results.sample import (
    ChoiceOutcome,
    CustomOutcome,
    LabelsOutcome,
    LikelihoodOutcome,
    NumberOutcome,
    RanksOutcome,
    SampleRecord,
    StoredTie,
    TextOutcome,
)


class Samples(Protocol):
    """Takes samples as they come."""

    def add(self, task: str, samples: Sequence[Json]) -> None:
        """More samples of a task, in the order of its examples."""
        ...

    def drop(self, task: str) -> None:
        """The task failed: forget its samples."""
        ...


class NoSamples:
    """Takes none."""

    def add(self, task: str, samples: Sequence[Json]) -> None:
        """Nothing."""

    def drop(self, task: str) -> None:
        """Nothing."""


class KeptSamples:
    """Keeps them in memory."""

    def __init__(self) -> None:
        self.of: dict[str, list[Json]] = {}

    def add(self, task: str, samples: Sequence[Json]) -> None:
        """Keep more."""
        self.of.setdefault(task, []).extend(samples)

    def drop(self, task: str) -> None:
        """Keep none of this task."""
        self.of.pop(task, None)


class SampleFiles:
    """Writes them to `<folder>/<name>.part`, to be renamed when everything else is there too.

    Args:
        folder: is made when the first sample comes.
        name: a task's file in it.
    """

    def __init__(self, folder: Path, *, name: Callable[[str], str]) -> None:
        self._folder = folder
        self._name = name
        self._files = AppendedFiles()
        self._digests: dict[str, hashlib._Hash] = {}
        """By the tasks that have samples."""

    def add(self, task: str, samples: Sequence[Json]) -> None:
        """Write more."""
        self.add_lines(task, [line_of(sample) for sample in samples])

    def add_lines(self, task: str, lines: Sequence[str]) -> None:
        """Write more, which are lines already."""
        if task not in self._digests:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._digests[task] = hashlib.sha256()
        text = "".join(lines)
        self._digests[task].update(text.encode("utf-8", "surrogatepass"))
        self._files.append(self._aside(task), text)

    def drop(self, task: str) -> None:
        """Write no more of this task, and remove what there is."""
        if self._digests.pop(task, None) is not None:
            self._files.forget(self._aside(task))

    def drop_all(self) -> None:
        """Remove everything that was not renamed."""
        for task in list(self._digests):
            self.drop(task)

    def checksums(self) -> Mapping[str, str]:
        """The files that `rename` makes, each with the checksum of what was written."""
        return {self._name(task): digest.hexdigest() for task, digest in self._digests.items()}

    def rename(self) -> None:
        """Put every file in its place."""
        self._files.close()
        for task in list(self._digests):
            self._aside(task).replace(self._folder / self._name(task))
            del self._digests[task]

    def _aside(self, task: str) -> Path:
        return self._folder / f"{self._name(task)}.part"


@contextmanager
def sample_files(folder: Path, *, name: Callable[[str], str]) -> Iterator[SampleFiles]:
    """`SampleFiles` of which nothing half-written is left, however this ends."""
    files = SampleFiles(folder, name=name)
    try:
        yield files
    finally:
        files.drop_all()


def sample_of(finished: Finished, values: Mapping[str, float]) -> Json:
    """The sample of one example, ready for JSON."""
    answered = finished.answered
    asked: dict[str, object] = {
        "doc": plain(finished.example.row),
        "prompt": answered.prompt,
        "target": answered.target[0] if len(answered.target) == 1 else answered.target,
    }
    return SampleRecord.model_validate(
        {
            "doc_id": finished.example.doc_id,
            **asked,
            "raw": answered.raw,
            "answer": answered.answer,
            "metrics": values,
            "hash": hash_of(asked),
            "outcome": _OUTCOMES[type(answered.outcome)](answered.outcome),
            "filtered": answered.filtered,
            "made": {name: made.values for name, made in answered.made.items()},
        }
    ).content()


def hash_of(asked: Mapping[str, object]) -> str:
    """sha256 over what was asked: doc, prompt and target; 16 hex digits."""
    text = json.dumps(
        {key: asked[key] for key in ("doc", "prompt", "target")},
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_unchanged(sample: SampleRecord) -> bool:
    """Is what was asked still what the sample's hash was made of?"""
    return sample.hash == hash_of({"doc": sample.doc, "prompt": sample.prompt, "target": sample.target})


def answered_of(sample: SampleRecord) -> Answered:
    """The answer that a sample was made from, without filters and without what the task's own code made.

    Raises:
        UsageError: its outcome does not fit its raw answer, or was made by code of the task file.
    """
    try:
        return Answered(
            outcome=_outcome(sample),
            prompt=sample.prompt,
            target=sample.targets,
            raw=sample.raw,
            answer=sample.answer,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"sample {sample.doc_id} does not hold what its metrics can be computed from ({error}); run the evaluation "
            "again."
        ) from error


def as_stored(sample: SampleRecord) -> Answered:
    """The answer that a sample was made from, with the filtered answers and the values of the task's own code that
    stand in it.

    Raises:
        UsageError: its outcome does not fit its raw answer.
    """
    made = {name: CustomValues(values=values) for name, values in sample.made.items()}
    if isinstance(sample.outcome, CustomOutcome):
        return Answered(
            outcome=CustomValues(values=sample.outcome.values),
            prompt=sample.prompt,
            target=sample.targets,
            raw=sample.raw,
            answer=sample.answer,
            made=made,
            filtered=sample.filtered,
        )
    answered = answered_of(sample)
    scored: dict[str, Outcome] = {}
    for name, answers in sample.filtered.items():
        first = answers[0] if isinstance(answers, list) and answers else answers
        if isinstance(answered.outcome, Text):
            scored[name] = replace(answered.outcome, prediction=str(first) if first else "")
    if len(scored) == 1:
        scored = {"": next(iter(scored.values()))}
    return replace(answered, scored=scored, filtered=sample.filtered, made=made)


def raw_texts(sample: SampleRecord) -> list[str]:
    """Texts that the model wrote, one for each repeat."""
    return [str(text) for text in sample.raw] if isinstance(sample.raw, list) else [str(sample.raw)]


def line_of(record: Json) -> str:
    """A record as one line of JSON."""
    return json.dumps(plain(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _outcome(sample: SampleRecord) -> Outcome:
    match sample.outcome:
        case ChoiceOutcome() as held:
            return Choice(
                gold=held.gold,
                scores=_scores(sample.raw, held),
                chars=held.chars,
                bytes=held.bytes,
                greedy=held.greedy,
                unconditional=held.unconditional,
                chosen=held.chosen,
                scored=not isinstance(sample.raw, str),
            )
        case TextOutcome() as held:
            return Text(references=sample.targets, prediction=held.prediction, source=held.source)
        case LikelihoodOutcome() as held:
            (logprob,) = _numbers([sample.raw])
            return Likelihood(
                logprob=logprob,
                tokens=held.tokens,
                words=held.words,
                bytes=held.bytes,
                greedy=held.greedy,
                unknown=held.unknown,
                altered=held.altered,
            )
        case NumberOutcome() as held:
            (prediction,) = _numbers([sample.raw])
            return Quantity(gold=held.gold, prediction=prediction)
        case LabelsOutcome() as held:
            return LabelSet(gold=held.gold, scores=_numbers(sample.raw))
        case RanksOutcome() as held:
            ties = tuple(RankTie(above=each.above, size=each.size, right=each.right) for each in held.ties)
            return Ranks(ties=ties, count=held.count)
        case CustomOutcome():
            raise ValueError("code of the task file made its values")


def _scores(raw: object, held: ChoiceOutcome) -> tuple[float, ...]:
    """Log-probabilities; of an answer that was given without scores, those of somebody without doubt."""
    if isinstance(raw, str):
        return tuple(certain(-1 if held.place is None else held.place, len(held.chars)))
    return _numbers(raw)


def _numbers(raw: object) -> tuple[float, ...]:
    """Log-probabilities, infinite ones among them."""
    if not isinstance(raw, list):
        raise TypeError(f"expected a list, found {type(raw).__name__}")
    return tuple(float(value) for value in raw)


def _choice_outcome(outcome: Outcome) -> ChoiceOutcome:
    assert isinstance(outcome, Choice)
    return ChoiceOutcome(
        kind="choice",
        gold=outcome.gold,
        chars=outcome.chars,
        bytes=outcome.bytes,
        greedy=outcome.greedy,
        unconditional=outcome.unconditional,
        chosen=outcome.chosen,
        place=best_choice(outcome) if outcome.chosen and not outcome.scored else None,
    )


def _text_outcome(outcome: Outcome) -> TextOutcome:
    assert isinstance(outcome, Text)
    return TextOutcome(kind="text", prediction=outcome.prediction, source=outcome.source)


def _likelihood_outcome(outcome: Outcome) -> LikelihoodOutcome:
    assert isinstance(outcome, Likelihood)
    return LikelihoodOutcome(
        kind="likelihood",
        tokens=outcome.tokens,
        words=outcome.words,
        bytes=outcome.bytes,
        greedy=outcome.greedy,
        unknown=outcome.unknown,
        altered=outcome.altered,
    )


def _number_outcome(outcome: Outcome) -> NumberOutcome:
    assert isinstance(outcome, Quantity)
    return NumberOutcome(kind="number", gold=outcome.gold)


def _labels_outcome(outcome: Outcome) -> LabelsOutcome:
    assert isinstance(outcome, LabelSet)
    return LabelsOutcome(kind="labels", gold=outcome.gold)


def _ranks_outcome(outcome: Outcome) -> RanksOutcome:
    assert isinstance(outcome, Ranks)
    ties = tuple(StoredTie(above=each.above, size=each.size, right=each.right) for each in outcome.ties)
    return RanksOutcome(kind="ranks", ties=ties, count=outcome.count)


def _custom_outcome(outcome: Outcome) -> CustomOutcome:
    assert isinstance(outcome, CustomValues)
    return CustomOutcome(kind="made", values=outcome.values)


_OUTCOMES: Mapping[type[Outcome], Callable[[Outcome], StoredModel]] = {
    Choice: _choice_outcome,
    Text: _text_outcome,
    Likelihood: _likelihood_outcome,
    Quantity: _number_outcome,
    LabelSet: _labels_outcome,
    Ranks: _ranks_outcome,
    CustomValues: _custom_outcome,
}
