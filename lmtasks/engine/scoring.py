"""How likely given targets are, batch by batch.

Causal models read context and target as one row; encoder-decoders read the context with the encoder, and the target
behind their start token with the decoder. What is too long loses its left end, and says so. A row's last token is
scored, and never read.

What rows share is read once: beginnings of rows (`shared_rows.py`), sources of an encoder-decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from lmtasks.data.batches import pad
from lmtasks.engine.requests import OnAnswers, OnProgress, Scored, ScoreRequest
from lmtasks.engine.schedule import AnswerRouter, Budget, Distinct, distinct, run_batches, too_long
from lmtasks.engine.shared_rows import Run, TreeLimits, Unit, build_unit, common_prefixes, group_rows, shared_lengths
from lmtasks.errors import WorkError
from lmtasks.records import Floats, Ints, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.base import NOTHING_SHARED, DecodingState, Runtime
from lmtasks.runtime.memory import OutOfMemory


def score_rows(
    runtime: Runtime,
    requests: Sequence[ScoreRequest],
    *,
    budget: Budget,
    pad_id: int,
    on_progress: OnProgress | None,
    on_answers: OnAnswers[Scored] | None,
) -> list[Scored]:
    """Causal: a row may be one token longer than the model's input."""
    longest = runtime.model.max_length_tokens + 1
    rows = [(*request.context_ids, *request.target_ids)[-longest:] for request in requests]
    counts = [min(len(request.target_ids), len(row) - 1) for request, row in zip(requests, rows, strict=True)]
    plan = distinct(list(zip(rows, counts, strict=True)))

    def finish(index: int, answer: Scored) -> Scored:
        return replace(answer, truncated=len(requests[index].context_ids) + len(requests[index].target_ids) > longest)

    answers = AnswerRouter[Scored, Scored](
        plan, count=len(requests), finish=finish, on_progress=on_progress, on_answers=on_answers
    )
    asked = _sorted_rows(plan, rows, counts)
    wanted_from = [len(row) - len(targets) for row, targets in zip(asked.rows, asked.targets, strict=True)]
    # Whether rows may share is measured when there is something to share.
    near = any(saved > 1 and saved < len(row) for saved, row in zip(asked.shared[1:], asked.rows, strict=False))
    sharing = runtime.sharing if near else NOTHING_SHARED
    runs = [Run(start=0, stop=len(asked.rows), before=0)]
    if sharing.prefix:
        runs = common_prefixes([len(row) for row in asked.rows], wanted_from=wanted_from, shared=asked.shared)
    shape = TreeLimits(
        longest=sharing.longest_row,
        tokens=budget.tokens,
        rows=budget.rows,
        pairs_per_token=sharing.pairs_per_token,
    )
    scorer = _Scorer(runtime, asked, budget=budget, pad_id=pad_id, answers=answers)
    scorer.run([unit for run in runs if not run.before for unit in _units(asked, run, shape)], prefix_state=None)
    for run in runs:
        if run.before:
            prefix = _read_prefix(runtime, asked.rows[run.start][: run.before], pad_id=pad_id)
            scorer.run(_units(asked, run, shape), prefix_state=prefix, before=run.before)
    return answers.all()


def score_pairs(
    runtime: Runtime,
    requests: Sequence[ScoreRequest],
    *,
    budget: Budget,
    pad_id: int,
    start: int,
    on_progress: OnProgress | None,
    on_answers: OnAnswers[Scored] | None,
) -> list[Scored]:
    """Encoder-decoder: the encoder reads the context, the decoder `start` and the target. A source is read once in a
    batch, and its targets stand together."""
    longest = runtime.model.max_length_tokens
    sources = [request.context_ids[-longest:] for request in requests]
    targets = [request.target_ids[-longest:] for request in requests]
    plan = distinct(list(zip(sources, targets, strict=True)))

    def finish(index: int, answer: Scored) -> Scored:
        request = requests[index]
        return replace(answer, truncated=max(len(request.context_ids), len(request.target_ids)) > longest)

    answers = AnswerRouter[Scored, Scored](
        plan, count=len(requests), finish=finish, on_progress=on_progress, on_answers=on_answers
    )
    firsts = plan.firsts  # in the order of their sources, then of their targets
    rows = [np.array((start, *targets[index][:-1]), dtype=np.int64) for index in firsts]
    asked = _Asked(
        indices=firsts,
        rows=rows,
        targets=[np.array(targets[index], dtype=np.int64) for index in firsts],
        shared=shared_lengths(rows),
        sources=[sources[index] for index in firsts],
    )
    # Targets of one source: one that begins another one stands in its row, and one-token targets all in the same.
    read = [sources[index] for index in firsts]
    borders = [0, *(n for n in range(1, len(firsts)) if read[n] != read[n - 1]), len(firsts)]
    shape = TreeLimits(longest=0, tokens=budget.tokens, rows=None)
    units = [
        unit
        for one, two in pairwise(borders)
        if one < two
        for unit in _units(asked, Run(start=one, stop=two, before=0), shape)
    ]
    scorer = _Scorer(runtime, asked, budget=budget, pad_id=pad_id, answers=answers)
    scorer.run(units, prefix_state=None)
    return answers.all()


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Different rows, sorted, so that those which begin alike are neighbours."""

    indices: Sequence[int]
    """The request that each one is."""
    rows: Sequence[Ints]
    """Tokens that are read."""
    targets: Sequence[Ints]
    """Tokens that are to follow the last columns."""
    shared: Sequence[int]
    """How many first tokens each shares with the one before it."""
    sources: Sequence[tuple[int, ...]] | None = None


class _Scorer:
    """Runs units in batches, and gives the answers."""

    def __init__(
        self,
        runtime: Runtime,
        asked: _Asked,
        *,
        budget: Budget,
        pad_id: int,
        answers: AnswerRouter[Scored, Scored],
    ) -> None:
        self._runtime = runtime
        self._asked = asked
        self._budget = budget
        self._pad_id = pad_id
        self._answers = answers

    def run(self, units: Sequence[Unit], *, prefix_state: DecodingState | None, before: int = 0) -> None:
        """Score units of rows, all behind a state of `before` tokens where there is one."""

        def split(unit: Unit) -> Sequence[Unit]:
            alone = [number for number, _ in unit.members]
            return [
                build_unit(self._asked.rows, [number], shared=self._asked.shared, before=before) for number in alone
            ]

        run_batches(
            units,
            size=self._size,
            unshared=lambda unit: max(unit.unshared, self._source_length(unit)),
            split=split,
            budget=self._budget,
            run=lambda batch, concurrent: self._score(batch, prefix_state=prefix_state, concurrent=concurrent),
            give=lambda batch, found: self._answers.give(found),
            callers=self._runtime.reading_callers,
            choice=self._budget.choice if self._runtime.measures_callers else None,
        )

    def _size(self, unit: Unit) -> int:
        return max(len(unit.ids), self._source_length(unit))

    def _source_length(self, unit: Unit) -> int:
        return 0 if self._asked.sources is None else len(self._asked.sources[unit.members[0][0]])

    def _score(
        self, units: Sequence[Unit], *, prefix_state: DecodingState | None, concurrent: bool
    ) -> list[tuple[int, Scored]]:
        members = [(row, *member) for row, unit in enumerate(units) for member in unit.members]
        targets = [self._asked.targets[number] for _, number, _ in members]
        wanted = TokenTargets(
            rows=np.repeat([row for row, _, _ in members], [len(target) for target in targets]),
            columns=np.concatenate(
                [columns[-len(target) :] for (_, _, columns), target in zip(members, targets, strict=True)]
            ),
            tokens=np.concatenate(targets),
        )
        batch = pad([unit.ids for unit in units], pad_id=self._pad_id)
        source, source_rows = self._source_of(units)
        subtree_end = None
        if any(unit.branches for unit in units):
            subtree_end = np.zeros_like(batch.ids)
            for row, unit in enumerate(units):
                subtree_end[row, : len(unit.ids)] = unit.subtree_end
        runtime = self._runtime.for_concurrent_calls() if concurrent else self._runtime
        scores = runtime.score(
            batch, wanted, subtree_end=subtree_end, prefix_state=prefix_state, source=source, source_rows=source_rows
        )
        ends = accumulate(len(target) for target in targets)
        return [
            (self._asked.indices[number], _scored(scores, slice(end - len(target), end)))
            for (_, number, _), target, end in zip(members, targets, ends, strict=True)
        ]

    def _source_of(self, units: Sequence[Unit]) -> tuple[TokenBatch | None, Ints | None]:
        """Each different source of the batch once, and which one each row belongs to."""
        if self._asked.sources is None:
            return None, None
        mine = [self._asked.sources[unit.members[0][0]] for unit in units]
        place = {source: number for number, source in enumerate(dict.fromkeys(mine))}
        return pad(list(place), pad_id=self._pad_id), np.array([place[source] for source in mine])


def _sorted_rows(plan: Distinct, rows: Sequence[tuple[int, ...]], counts: Sequence[int]) -> _Asked:
    """Of a causal model: all but the last token of each different row."""
    read = {index: np.array(rows[index][:-1], dtype=np.int64) for index in plan.firsts}
    # Compared as bytes, which is the order of the tokens, and a hundred times as fast.
    indices = sorted(plan.firsts, key=lambda index: read[index].astype(">i8").tobytes())
    ordered = [read[index] for index in indices]
    return _Asked(
        indices=indices,
        rows=ordered,
        targets=[np.array(rows[index][len(rows[index]) - counts[index] :], dtype=np.int64) for index in indices],
        shared=shared_lengths(ordered),
    )


def _units(asked: _Asked, run: Run, shape: TreeLimits) -> list[Unit]:
    numbers = range(run.start, run.stop)
    lengths = [len(row) for row in asked.rows]
    groups = group_rows(lengths, numbers, shared=asked.shared, before=run.before, shape=shape)
    return [build_unit(asked.rows, group, shared=asked.shared, before=run.before) for group in groups]


def _read_prefix(runtime: Runtime, prefix: Ints, *, pad_id: int) -> DecodingState:
    try:
        return runtime.prefill(pad([prefix.tolist()], pad_id=pad_id))[0]
    except OutOfMemory:
        error: WorkError = too_long(len(prefix))
    raise error


def _scored(scores: TokenScores, part: slice) -> Scored:
    logprobs: Floats = scores.logprobs[part].astype(np.float64)
    return Scored(
        logprob=float(logprobs.sum()),
        greedy=bool(scores.greedy[part].all()),
        token_logprobs=tuple(logprobs.tolist()),
    )
