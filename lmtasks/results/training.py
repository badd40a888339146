"""Looks at the validation rows of a training, as its log has them (`models/<model>/training.jsonl`), or as a published
folder keeps them (`training/<model>.jsonl`), a line each:

    {"step": 26, "losses": {"sst2": 0.41}, "validation": 0.81, "validation_losses": {"sst2": 0.47}}
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean

from lmtasks.files import parse_json


@dataclass(frozen=True, kw_only=True)
class TrainingLook:
    """One look at the validation rows: losses by what is learned, in nats or as its head counts."""

    step: int
    losses: Mapping[str, float]
    """Mean over the training steps since the look before; empty before the first step."""
    validation: float | None
    """The 0-1 score that the kept weights are chosen by."""
    kept: bool | None
    """Were the weights kept, so far as was known then? None in logs of earlier versions."""
    validation_losses: Mapping[str, float]
    """Empty in logs of earlier versions."""


def read_looks(run_folder: Path) -> Mapping[str, tuple[TrainingLook, ...]]:
    """The looks of every training, by the model's folder; of the last, unfinished line of a log nothing is read."""
    files = {file.parent.name: file for file in sorted(run_folder.glob("models/*/training.jsonl"))}
    files |= {file.stem: file for file in sorted(run_folder.glob("training/*.jsonl"))}
    found = {name: tuple(_looks(file)) for name, file in files.items()}
    return {name: looks for name, looks in found.items() if looks}


def lines_of(looks: Sequence[TrainingLook]) -> str:
    """Looks as a published folder keeps them."""
    return "".join(
        json.dumps(
            {
                "step": look.step,
                "losses": {name: round(loss, 5) for name, loss in look.losses.items()},
                "validation": look.validation,
                "validation_losses": dict(look.validation_losses),
                **({} if look.kept is None else {"kept": look.kept}),
            }
        )
        + "\n"
        for look in looks
    )


def _looks(file: Path) -> Iterator[TrainingLook]:
    steps: dict[str, list[float]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = parse_json(line)
        except ValueError:  # cut off by a kill
            continue
        if "losses" in record:  # a look already
            yield _look(record, record["losses"])
            continue
        if "loss" in record:  # before the first step there is none
            steps.setdefault(str(record.get("head", "")), []).append(float(str(record["loss"])))
        if "validation" in record:
            yield _look(record, {name: fmean(losses) for name, losses in steps.items()})
            steps = {}


def _look(record: Mapping[str, object], losses: object) -> TrainingLook:
    validation, parts, kept = (record.get(name) for name in ("validation", "validation_losses", "kept"))
    return TrainingLook(
        step=int(str(record["step"])),
        losses=_numbers(losses),
        validation=None if validation is None else float(str(validation)),
        validation_losses=_numbers(parts),
        kept=None if kept is None else bool(kept),
    )


def _numbers(values: object) -> Mapping[str, float]:
    found = values if isinstance(values, Mapping) else {}
    return {str(name): number for name, value in found.items() if isfinite(number := float(str(value)))}
