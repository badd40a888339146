"""Training rows become batches: which rows stand in which step, and how they are padded."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from lmtasks.data.batches import plan_batches
from lmtasks.data.examples import HeadExamples, TrainingExample
from lmtasks.head.base import IGNORED

NO_WINDOWS: Mapping[int, int] = MappingProxyType({})


def plan_steps(
    heads: Sequence[HeadExamples],
    *,
    epochs: float,
    tokens_per_batch: int,
    seed: int,
    windows: Mapping[int, int] = NO_WINDOWS,
) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """(head, rows) of every batch of the training, batches of all heads mixed; a pure function of its arguments.

    Args:
        windows: for each head that learns from a running text the number of its windows, which stay in order; such a
            head's "rows" are the number of one window.
    """
    import numpy as np

    steps: list[tuple[int, tuple[int, ...]]] = []
    whole = int(np.ceil(epochs))
    for epoch in range(whole):
        batches: list[tuple[int, tuple[int, ...]]] = []
        for number, head in enumerate(heads):
            if number in windows:
                batches += [(number, (window,)) for window in range(windows[number])]
                continue
            lengths = [len(example.ids) + len(example.decoder_ids) for example in head.train]
            plan = plan_batches(lengths, tokens_per_batch=tokens_per_batch, seed=seed + epoch * 1009 + number)
            batches += [(number, rows) for rows in plan]
        order = np.random.default_rng((seed, epoch)).permutation(len(batches))
        share = 1.0 if epoch + 1 < whole else epochs - (whole - 1)
        mixed = [batches[index] for index in order]
        for number in windows:
            in_order = iter(range(windows[number]))
            mixed = [(head, (next(in_order),) if head == number else rows) for head, rows in mixed]
        steps += mixed[: max(1, round(share * len(batches)))]
    return tuple(steps)


def collate(examples: Sequence[TrainingExample], *, pad_id: int) -> Mapping[str, Tensor]:
    """Examples as padded tensors: ids, mask, targets (and types, decoder_ids where they are used)."""
    batch = {
        "ids": _padded([example.ids for example in examples], pad_id),
        "mask": _padded([(1,) * len(example.ids) for example in examples], 0).bool(),
        "targets": _padded([example.targets for example in examples], IGNORED),
    }
    if examples[0].types:
        batch["types"] = _padded([example.types for example in examples], 0)
    if examples[0].decoder_ids:
        batch["decoder_ids"] = _padded([example.decoder_ids for example in examples], pad_id)
    return batch


def judged(examples: Sequence[TrainingExample]) -> int:
    """How many targets the mean loss of these examples is over."""
    return sum(target >= 0 for example in examples for target in example.targets)


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
