"""Samples: one line an example, with all that its outcome can be made from again.

    {"doc_id": 3, "doc": {...}, "prompt": "...", "target": "...", "raw": [-4.1, -6.0], "answer": "...",
     "metrics": {"acc": 1.0}, "hash": "...", "outcome": {"kind": "choice", "gold": [0], ...}}

`raw` is what came from the model: a text (a list of them where requests are repeated), the log-probabilities of all
choices, one log-probability. `filtered` stands where a task has filters, `made` where its own code made values.
`hash` is that of doc, prompt and target.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.pending import Finished
from lmtasks.files import AppendedFiles
from lmtasks.records import Choice, CustomValues, Json, Likelihood, Outcome, OutcomeKind, Text


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
        if task not in self._digests:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._digests[task] = hashlib.sha256()
        text = "".join(line_of(sample) for sample in samples)
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
    """The sample of one example."""
    answered = finished.answered
    asked = {
        "doc": plain(finished.example.row),
        "prompt": plain(answered.prompt),
        "target": _one_or_all(answered.target),
    }
    sample = {
        "doc_id": finished.example.doc_id,
        **asked,
        "raw": plain(answered.raw),
        "answer": answered.answer,
        "metrics": plain(values),
        "hash": hash_of(asked),
        "outcome": outcome_json(answered.outcome),
    }
    if answered.filtered:
        sample["filtered"] = plain(answered.filtered)
    if answered.made:
        sample["made"] = {name: plain(made.values) for name, made in answered.made.items()}
    return sample


def hash_of(sample: Json) -> str:
    """sha256 over what was asked: doc, prompt and target; 16 hex digits."""
    asked = {key: sample[key] for key in ("doc", "prompt", "target")}
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def outcome_json(outcome: Outcome) -> Json:
    """Fields of a sample that hold its outcome, beside `raw` and `target`."""
    return _WRITERS[type(outcome)](outcome)


def answered_of(sample: Json) -> Answered:
    """The answer that a sample was made from, without filters and without what the task's own code made.

    Raises:
        UsageError: the sample is of an older version, or damaged.
    """
    try:
        held = sample["outcome"]
        assert isinstance(held, Mapping)
        target = sample["target"]
        texts = tuple(map(str, target)) if isinstance(target, list) else (str(target),)
        prompt = sample["prompt"]
        return Answered(
            outcome=_READERS[held["kind"]](held, sample, texts),
            prompt=tuple(map(str, prompt)) if isinstance(prompt, list) else str(prompt),
            target=texts,
            raw=sample["raw"],
            answer=str(sample["answer"]),
        )
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"sample {sample.get('doc_id')} does not hold what its metrics can be computed from "
            f"({type(error).__name__}: {error}); run the evaluation again."
        ) from error


def raw_texts(sample: Json) -> list[str]:
    """Texts that the model wrote, one for each repeat."""
    raw = sample["raw"]
    return [str(text) for text in raw] if isinstance(raw, list) else [str(raw)]


def line_of(record: Json) -> str:
    """A record as one line of JSON."""
    return json.dumps(plain(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def plain(value: object) -> object:
    """A value as JSON can hold it: what JSON has no form for becomes text (dates, bytes, infinite numbers)."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)


def _one_or_all(texts: tuple[str, ...]) -> object:
    return texts[0] if len(texts) == 1 else list(texts)


def _choice_json(outcome: Outcome) -> Json:
    assert isinstance(outcome, Choice)
    return {
        "kind": "choice",
        "gold": list(outcome.gold),
        "chars": list(outcome.chars),
        "bytes": list(outcome.bytes),
        "greedy": list(outcome.greedy),
        "unconditional": list(outcome.unconditional),
    }


def _text_json(outcome: Outcome) -> Json:
    assert isinstance(outcome, Text)
    return {"kind": "text", "prediction": outcome.prediction, "source": outcome.source}


def _likelihood_json(outcome: Outcome) -> Json:
    assert isinstance(outcome, Likelihood)
    return {
        "kind": "likelihood",
        "tokens": outcome.tokens,
        "words": outcome.words,
        "bytes": outcome.bytes,
        "greedy": outcome.greedy,
        **({"unknown": outcome.unknown} if outcome.unknown else {}),
        **({"altered": True} if outcome.altered else {}),
    }


def _made_json(outcome: Outcome) -> Json:
    assert isinstance(outcome, CustomValues)
    return {"kind": "made", "values": plain(outcome.values)}


def _choice(held: Json, sample: Json, texts: tuple[str, ...]) -> Outcome:
    return Choice(
        gold=_ints(held["gold"]),
        scores=_floats(sample["raw"]),
        chars=_ints(held["chars"]),
        bytes=_ints(held["bytes"]),
        greedy=tuple(bool(flag) for flag in _list(held["greedy"])),
        unconditional=_floats(held["unconditional"]),
    )


def _text(held: Json, sample: Json, texts: tuple[str, ...]) -> Outcome:
    return Text(references=texts, prediction=str(held["prediction"]), source=str(held["source"]))


def _likelihood(held: Json, sample: Json, texts: tuple[str, ...]) -> Outcome:
    tokens, words, size = _ints([held["tokens"], held["words"], held["bytes"]])
    return Likelihood(
        logprob=float(str(sample["raw"])),
        tokens=tokens,
        words=words,
        bytes=size,
        greedy=bool(held["greedy"]),
        unknown=int(str(held.get("unknown", 0))),
        altered=bool(held.get("altered", False)),
    )


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    return value


def _ints(value: object) -> tuple[int, ...]:
    return tuple(int(str(item)) for item in _list(value))


def _floats(value: object) -> tuple[float, ...]:
    return tuple(float(str(item)) for item in _list(value))


_WRITERS: Mapping[type[Outcome], Callable[[Outcome], Json]] = {
    Choice: _choice_json,
    Text: _text_json,
    Likelihood: _likelihood_json,
    CustomValues: _made_json,
}
_READERS: Mapping[OutcomeKind, Callable[[Json, Json, tuple[str, ...]], Outcome]] = {
    "choice": _choice,
    "text": _text,
    "likelihood": _likelihood,
}
