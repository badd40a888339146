"""The log of a training: one JSON object a step. Read back, cut, and thinned for people."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmtasks.files import aside, parse_json

LOG = "training.jsonl"
"""Its name in the folder of a training, and in that of the model that came of it."""
POINTS = 400
"""Points of a thinned curve, evaluations not counted."""

Record = Mapping[str, object]


def read_log(file: Path) -> list[Record]:
    """The last record of every step, in their order; a line that was cut off by a kill is left out."""
    found: dict[int, Record] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                record = parse_json(line)
            except json.JSONDecodeError:
                continue
            found[int(record["step"])] = record
    return [found[step] for step in sorted(found)]


def cut_log(file: Path, *, step: int) -> None:
    """Leave out what stands behind a step: a training that goes on from there writes it again."""
    if file.is_file():
        kept = [record for record in read_log(file) if int(str(record["step"])) <= step]
        with aside(file) as part:
            part.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")


def thinned(records: Sequence[Record]) -> list[Record]:
    """About `POINTS` records, each with the mean loss since the one before it; every evaluation is kept."""
    every = max(1, -(-len(records) // POINTS))
    kept: list[Record] = []
    losses: list[float] = []
    for number, record in enumerate(records, start=1):
        if "loss" not in record:  # judged before the first step
            kept.append(record)
            continue
        losses.append(float(str(record["loss"])))
        if number % every == 0 or number == len(records) or "validation" in record:
            kept.append({**record, "loss": round(sum(losses) / len(losses), 5)})
            losses = []
    return kept
