"""Features of a backbone that stands still: the states that a head reads of each row, computed once and kept.

A head that answers a text once reads one pooled state, (1, D): a text of one token, which every pooling leaves as it
is, so that the head itself computes over it. A head that answers each token reads all states of the row, (T, D).

What is kept stands under a hash of all that it depends on: weights, configuration, device, precision, versions, the
head's attention and pooling, and the row's token ids, which tokenizer, texts and longest input have made.
Ten probes over the same rows, with other seeds, labels, strengths or fewer rows, pass through the backbone once.

Axes: B batch, T time (tokens of a row), D width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lmtasks.data.batches import plan_batches
from lmtasks.data.examples import TrainingExample
from lmtasks.head import head_of
from lmtasks.head.base import IGNORED
from lmtasks.head.module import pooled
from lmtasks.model.model import Model
from lmtasks.model.state_keys import state_key, states_scope
from lmtasks.records import Floats32, HeadSpec, Progress
from lmtasks.settings.runtimes import TorchPrecision
from lmtasks.training.stepping import Batch

TOKENS_AT_ONCE = 4096
"""Of a batch that the backbone reads."""
HELD_BYTES = 2 * 2**30
"""Features of a head's rows that are held in memory."""


class KeptBytes(Protocol):
    """Bytes by key, kept between commands (`evaluation.cache_store.ByteStore`)."""

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those that it has of these."""
        ...

    def put(self, answers: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep these; what is there already stays."""
        ...


class FeatureReader:
    """Reads rows with a backbone that stands still; `computed` and `found` count them, `seconds` is what that took.

    Args:
        model: on the device where it computes.
        kept: where features are found and left; None: each row is read anew.
        precision: of the products; features are fp32 in any case.
    """

    def __init__(self, model: Model, *, kept: KeptBytes | None, precision: TorchPrecision) -> None:
        self._model, self._kept = model, kept
        self._device = next(model.parameters()).device
        self._bf16 = precision == "bf16"
        self.width = model.backbone.traits.width
        self.computed, self.found, self.seconds = 0, 0, 0.0
        self._scope = states_scope(
            model, weights=model.card.weights_hash, device=self._device.type, precision=precision
        )

    def lengths(self, head: str, rows: Sequence[TrainingExample]) -> list[int]:
        """How many states a head of the model reads of each row."""
        per_token = head_of(self._model.spec(head)).per_token
        return [len(row.ids) if per_token else 1 for row in rows]

    def read(
        self,
        head: str,
        rows: Sequence[TrainingExample],
        *,
        report: Callable[[int], None] = lambda done: None,
    ) -> tuple[Floats32, ...]:
        """The features that a head of the model reads of each row, (1, D) or (T, D).

        Args:
            report: called with how many rows are done.
        """
        began = perf_counter()
        spec = self._model.spec(head)
        kind = self._model.card.kind
        keys = [state_key(self._scope, spec, kind=kind, ids=row.ids, types=row.types) for row in rows]
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        known = {} if self._kept is None else self._kept.get(list(first))
        found = {key: np.frombuffer(value, dtype=np.float32).reshape(-1, self.width) for key, value in known.items()}
        missing = [place for key, place in first.items() if key not in found]
        done = len(rows) - len(missing)
        report(done)
        for places in plan_batches([len(rows[place].ids) for place in missing], tokens_per_batch=TOKENS_AT_ONCE):
            batch = [missing[place] for place in places]
            fresh = self._computed(spec, [rows[place] for place in batch])
            pairs = [(keys[place], states) for place, states in zip(batch, fresh, strict=True)]
            found.update(pairs)
            if self._kept is not None:
                self._kept.put([(key, states.tobytes()) for key, states in pairs if np.isfinite(states).all()])
            done += len(batch)
            report(done)
        self.computed, self.found = self.computed + len(missing), self.found + len(rows) - len(missing)
        self.seconds += perf_counter() - began
        return tuple(found[key] for key in keys)

    @torch.no_grad()
    def _computed(self, spec: HeadSpec, rows: Sequence[TrainingExample]) -> list[Floats32]:
        batch = collate(rows, pad_id=self._model.backbone.traits.pad)
        ids, mask = batch["ids"].to(self._device), batch["mask"].to(self._device)
        types = batch["types"].to(self._device) if "types" in batch else None
        self._model.backbone.eval()
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16):
            hidden = self._model.encode(ids, mask, types, attention=spec.attention).float()
        if head_of(spec).per_token:
            return [_numbers(states[real]) for states, real in zip(hidden, mask, strict=True)]
        return [_numbers(state[None]) for state in pooled(hidden, mask, spec.pooling)]


class FeatureRows:
    """The features of a head's rows: held in memory, or, where they would take too much of it, read batch by batch.

    Args:
        report: told while they are read.
    """

    def __init__(
        self,
        reader: FeatureReader,
        head: str,
        rows: Sequence[TrainingExample],
        *,
        report: Callable[[Progress], None],
    ) -> None:
        self.rows = rows
        self.lengths = reader.lengths(head, rows)
        self.width = reader.width
        self._reader, self._head = reader, head
        self._held: Sequence[Floats32] | None = None
        if 4 * sum(self.lengths) * self.width <= HELD_BYTES:
            progress = Progress(stage=f"read {head}", done=0, total=len(rows), unit="rows")
            self._held = reader.read(head, rows, report=lambda done: report(replace(progress, done=done)))

    def states(self, places: Sequence[int]) -> Sequence[Floats32]:
        """The features of these rows, (1, D) or (T, D) each."""
        if self._held is None:
            return self._reader.read(self._head, [self.rows[place] for place in places])
        return [self._held[place] for place in places]

    def batch(self, places: Sequence[int]) -> Batch:
        """These rows as padded tensors: states (B, T, D), mask (B, T), targets, and the tokens themselves, (B, S)."""
        states = self.states(places)
        lengths = np.array([len(each) for each in states])
        mask = np.arange(max(1, lengths.max())) < lengths[:, None]
        padded = np.zeros((*mask.shape, self.width), dtype=np.float32)
        padded[mask] = np.concatenate(states)
        ids = [self.rows[place].ids for place in places]
        return {
            "states": torch.from_numpy(padded),
            "mask": torch.from_numpy(mask),
            "targets": _padded([self.rows[place].targets for place in places], IGNORED),
            "ids": _padded(ids, 0),
            "ids_mask": _padded([(1,) * len(row) for row in ids], 0).bool(),
        }


def collate(examples: Sequence[TrainingExample], *, pad_id: int) -> Batch:
    """Examples as padded tensors: ids, mask, targets (and types, decoder_ids with decoder_mask where they are used)."""
    batch = {
        "ids": _padded([example.ids for example in examples], pad_id),
        "mask": _padded([(1,) * len(example.ids) for example in examples], 0).bool(),
        "targets": _padded([example.targets for example in examples], IGNORED),
    }
    if examples[0].types:
        batch["types"] = _padded([example.types for example in examples], 0)
    if examples[0].decoder_ids:
        batch["decoder_ids"] = _padded([example.decoder_ids for example in examples], pad_id)
        batch["decoder_mask"] = _padded([(1,) * len(example.decoder_ids) for example in examples], 0).bool()
    return batch


def _numbers(states: Tensor) -> Floats32:
    found: Floats32 = np.ascontiguousarray(states.cpu().numpy())
    return found


def _padded(rows: Sequence[Sequence[int] | Sequence[float]], fill: int) -> Tensor:
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
