"""Which layers does rounding hurt most?

For each layer the package with that one rounded, and nothing else, answers a few hundred rows, and its answers are held
against those in fp32: the mean difference of log-probabilities, of a head's choices or of a text's next tokens. That
tells layers apart where a score on so few rows, which counts whole answers, would not.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmtasks.export.layers import Keep, WeightGroup, joined_layers, keep_of
from lmtasks.export.package import load_package
from lmtasks.head import head_of
from lmtasks.records import Floats, Progress, TokenBatch, softmax_log
from lmtasks.runtime.align import every_next
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.open import open_runtime

ROWS = 200
"""Over all tasks."""
LONGEST_TOKENS = 192
ROWS_AT_ONCE = 16
MOST_LAYERS = 40
"""Where a model has more, neighbours are judged together."""

Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Requests of one task to a model."""

    rows: tuple[Tokens, ...]
    """Rows for a head; texts to score; sources of an encoder-decoder."""
    head: str | None
    """None: a text's next tokens are scored."""
    types: tuple[Tokens, ...] = ()
    """Segment ids of the rows; empty where there are none."""
    targets: tuple[Tokens, ...] = ()
    """What the decoder of an encoder-decoder is to write, one for each row."""


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A layer, and what rounding it alone does."""

    layer: WeightGroup
    damage: float
    """Mean difference of log-probabilities, in nats; infinite where they are no numbers."""


def rank_layers(
    layers: Sequence[WeightGroup],
    *,
    base: Path,
    aside: Path,
    make: Callable[[Path, Keep], None],
    probes: Sequence[Probe],
    threads: int | None,
    report: Callable[[Progress], None],
) -> tuple[Damaged, ...]:
    """The layers, joined where they are many, those that hurt most first.

    Args:
        base: the fp32 package.
        aside: a folder that may be made, and is gone afterwards.
        make: writes a package into an empty folder, some of its layers kept.
    """
    judged = joined_layers(layers, most=MOST_LAYERS)
    wanted = _answers(base, probes, threads=threads)
    found = []
    try:
        for number, layer in enumerate(judged):
            report(Progress(stage="rank the layers", done=number, total=len(judged), unit="layers", note=layer.name))
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            make(aside, keep_of([other for other in judged if other is not layer]))
            answers = _answers(aside, probes, threads=threads)
            found.append(Damaged(layer=layer, damage=_distance(wanted, answers)))
        report(Progress(stage="rank the layers", done=len(judged), total=len(judged), unit="layers"))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return tuple(sorted(found, key=lambda each: -each.damage))


def _distance(wanted: Sequence[Floats], found: Sequence[Floats]) -> float:
    means = [float(np.abs(one - two).mean()) for one, two in zip(wanted, found, strict=True) if one.size]
    return sum(mean if np.isfinite(mean) else np.inf for mean in means) / max(1, len(means))


def _answers(package: Path, probes: Sequence[Probe], *, threads: int | None) -> list[Floats]:
    """Log-probabilities of each probe, in one row."""
    made = load_package(package)
    runtime = open_runtime(package, runtime=made.runtime, device=made.device, threads=threads, force=True)
    try:
        return [_answered(runtime, probe) for probe in probes]
    finally:
        runtime.close()


def _answered(runtime: Runtime, probe: Probe) -> Floats:
    longest = min(LONGEST_TOKENS, runtime.model.max_length_tokens)
    order = sorted(range(len(probe.rows)), key=lambda place: len(probe.rows[place]))
    parts: list[Floats] = []
    for start in range(0, len(order), ROWS_AT_ONCE):
        places = order[start : start + ROWS_AT_ONCE]
        batch = _batch(probe.rows, probe.types, places, longest=longest)
        if probe.head is not None:
            parts.append(_choices(runtime, probe.head, batch))
        elif probe.targets:
            first = runtime.model.decoder_start
            assert first is not None  # targets are an encoder-decoder's
            begun = [(first, *probe.targets[place]) for place in places]
            read, wanted = every_next(_batch(begun, (), range(len(begun)), longest=longest))
            parts.append(runtime.score(read, wanted, source=batch).logprobs.astype(np.float64))
        else:
            parts.append(runtime.score(*every_next(batch)).logprobs.astype(np.float64))
    return np.concatenate(parts) if parts else np.zeros(0)


def _choices(runtime: Runtime, head: str, batch: TokenBatch) -> Floats:
    """Log-probabilities of all that a head chooses from."""
    spec = next(spec for spec in runtime.model.heads if spec.name == head)
    tables = head_of(spec).choices(runtime.predict(head, batch), batch.mask)
    return np.concatenate([softmax_log(table).ravel() for table in tables])


def _batch(rows: Sequence[Tokens], types: Sequence[Tokens], places: Sequence[int], *, longest: int) -> TokenBatch:
    """Some rows, cut and padded on the right."""
    kept = [rows[place][:longest] for place in places]
    shape = (len(kept), max(map(len, kept)))
    ids, kinds = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.bool_)
    for number, (place, row) in enumerate(zip(places, kept, strict=True)):
        ids[number, : len(row)], mask[number, : len(row)] = row, True
        if types:
            kinds[number, : len(row)] = types[place][:longest]
    return TokenBatch(ids=ids, mask=mask, types=kinds)
