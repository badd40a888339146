"""Steps of a training of several tasks: how many rows of each stand in a pass, and which of them in which batch.

A pass has as many rows as all tasks together. Each task has its share by its rows (`proportional`), all have the same
(`uniform`), or something between: by rows ** (1 / T) (`temperature=T`; Arivazhagan et al. 2019,
https://arxiv.org/abs/1907.05019; T5 mixes so). A task with a larger share than it has rows is read more than once in a
pass, one with a smaller share goes on in the next pass where it stopped.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from lmtasks.data.batches import plan_batches
from lmtasks.data.examples import HeadExamples
from lmtasks.settings.training import PROPORTIONAL, mixture_power

NO_WINDOWS: Mapping[int, int] = MappingProxyType({})


def rows_a_pass(counts: Sequence[int], mixture: str) -> tuple[int, ...]:
    """Rows of each task in a pass, one at least.

    >>> rows_a_pass([900, 100], "proportional"), rows_a_pass([900, 100], "uniform")
    ((900, 100), (500, 500))
    >>> rows_a_pass([900, 100], "temperature=2")
    (750, 250)
    """
    power = mixture_power(mixture)
    if power == 1:
        return tuple(counts)
    weights = np.array(counts, dtype=np.float64) ** power
    return tuple(max(1, round(float(share))) for share in sum(counts) * weights / weights.sum())


def plan_steps(
    heads: Sequence[HeadExamples],
    *,
    epochs: float,
    tokens_per_batch: int,
    seed: int,
    rows_at_once: Sequence[int | None] = (),
    windows: Mapping[int, int] = NO_WINDOWS,
    mixture: str = PROPORTIONAL,
) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """(head, rows) of every batch of the training, batches of all heads mixed; a pure function of its arguments.

    Args:
        rows_at_once: of a batch of each head at most; empty: as many as its tokens allow.
        windows: for each head that learns from a running text the number of its windows, which stay in order; such a
            head's "rows" are the number of one window.
        mixture: how many rows of each head stand in a pass.
    """
    wanted = rows_a_pass([len(head.train) for head in heads], mixture)
    steps: list[tuple[int, tuple[int, ...]]] = []
    whole = int(np.ceil(epochs))
    for epoch in range(whole):
        batches: list[tuple[int, tuple[int, ...]]] = []
        for number, head in enumerate(heads):
            if number in windows:
                batches += [(number, (window,)) for window in range(windows[number])]
                continue
            chosen = _rows_of_pass(len(head.train), wanted[number], number=epoch, seed=seed + number)
            lengths = [len(head.train[row].ids) + len(head.train[row].decoder_ids) for row in chosen]
            plan = plan_batches(
                lengths,
                tokens_per_batch=tokens_per_batch,
                seed=seed + epoch * 1009 + number,
                max_rows=rows_at_once[number] if rows_at_once else None,
            )
            batches += [(number, tuple(chosen[place] for place in places)) for places in plan]
        order = np.random.default_rng((seed, epoch)).permutation(len(batches))
        share = 1.0 if epoch + 1 < whole else epochs - (whole - 1)
        mixed = [batches[index] for index in order]
        for number in windows:
            in_order = iter(range(windows[number]))
            mixed = [(head, (next(in_order),) if head == number else rows) for head, rows in mixed]
        steps += mixed[: max(1, round(share * len(batches)))]
    return tuple(steps)


def _rows_of_pass(count: int, wanted: int, *, number: int, seed: int) -> Sequence[int]:
    """Rows of a pass, counted from 0, out of an endless sequence in which each row stands once before any stands again;
    where all are wanted, in their order."""
    if wanted == count:
        return range(count)
    first, last = number * wanted, (number + 1) * wanted
    rounds = range(first // count, -(-last // count))
    drawn = np.concatenate([np.random.default_rng((seed, each)).permutation(count) for each in rounds])
    begin = first - rounds.start * count
    return [int(row) for row in drawn[begin : begin + wanted]]
