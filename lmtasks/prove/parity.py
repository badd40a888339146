"""Proof that a package answers as its model does in torch, in fp32.

Compared are the logits of every head, the log-probability of every token of given texts, and the next-token logits
of every step of a greedy continuation (of torch's own tokens, so that one near tie does not hide what follows), with
rows dropped and repeated on the way; and, in fp32, the tokens that the package writes greedily, each held against what
torch, which reads them in one pass, takes for the likeliest there. What must hold stands in `compare.py`.

A proof has a budget of time. What is not expected to fit into it is left out, and named in the proof; what every proof
has (`LEAST`, and the continuation) is made in any case.

Inputs are real texts in the shapes where exports go wrong: from one token to the longest that the model takes; one row
and several; padding on either side, and between tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.export.emit import graph_operators
from lmtasks.export.emitters.architecture import missing_operators
from lmtasks.export.package import Operators, load_package
from lmtasks.head import head_of
from lmtasks.prove.compare import RULES, Logits, Scores, check_logits, check_scores
from lmtasks.records import Floats, Floats32, HeadSpec, Ints, Progress, TokenBatch, TokenTargets, softmax_log
from lmtasks.results.proof import Check, ProofRecord, Rule
from lmtasks.runtime.align import every_next
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.open import open_runtime
from lmtasks.settings.runtimes import MADE_FOR, Precision

LONGEST_TOKENS = 1024
"""Models that take more are checked up to here."""
TEXTS = 6
"""So many texts stand in one batch."""
Side = Literal["left", "right", "between"]
UNDECIDED = 1e-4
"""Where a token lies within this of torch's likeliest, either is right, and what follows is not compared."""
LEAST = frozenset({"one token", "texts padded right"})
"""Cases of every proof, whatever they take: each graph answers, alone and in a batch."""
CONTINUATION = "continuation"
STEP_TOKENS = 48
"""A step of writing reads all weights: before one was timed it is taken for as long as so many tokens of a case."""
TOLD_STEPS = 16
"""So often, in steps, is told how far writing is."""
GREEDY_STEPS = 512
STEPS = 32
"""Tokens that are continued; fewer where a model takes fewer than twice as many."""
TARGET_TOKENS = 24
"""Length of the longest target that an encoder-decoder is asked to score."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch of a proof."""

    name: str
    rows: tuple[tuple[int, ...], ...]
    side: Side
    """Where the shorter rows are padded; between: behind every token."""

    @property
    def batch(self) -> TokenBatch:
        """The rows as a batch, (B, T); the second half of each has the other segment id."""
        longest, step = max(map(len, self.rows)), 2 if self.side == "between" else 1
        shape = (len(self.rows), step * longest)
        ids, types = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.bool_)
        for number, row in enumerate(self.rows):
            start = longest - len(row) if self.side == "left" else 0
            places = start + step * np.arange(len(row))
            ids[number, places], mask[number, places] = row, True
            types[number, places[(len(row) + 1) // 2 :]] = 1
        return TokenBatch(ids=ids, mask=mask, types=types)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The proof of one package."""

    precision: Precision
    rule: Rule
    checks: tuple[Check, ...]
    texts: int
    torch: str
    runtime: str
    """That the package was proved in."""
    version: str
    """Of it."""
    operators: Operators
    """How often each stands in each graph."""
    wanted: Operators
    """How often some must, by the model's shape."""
    cases: int
    """Of a whole proof."""
    seconds: float
    budget_seconds: float | None
    not_proved: tuple[str, ...]
    """Cases for which the budget had no room."""

    @property
    def ok(self) -> bool:
        """Did every comparison hold?"""
        return all(check.ok for check in self.checks) and not self.missing

    @property
    def missing(self) -> str:
        """The first operator that does not stand there as often as it must, in words; empty: none."""
        return missing_operators(self.wanted, self.operators)

    @property
    def max_difference(self) -> float:
        """The largest difference of all."""
        return max((check.max_difference for check in self.checks), default=0.0)

    @property
    def record(self) -> ProofRecord:
        """As parity.json holds it."""
        return ProofRecord(
            ok=self.ok,
            max_difference=self.max_difference,
            precision=self.precision,
            rule=self.rule,
            checks=self.checks,
            texts=self.texts,
            torch=self.torch,
            onnxruntime=self.version if self.runtime == MADE_FOR else "",
            openvino=self.version if self.runtime == "openvino" else "",
            operators=_by_name(self.operators),
            wanted=_by_name(self.wanted),
            cases=self.cases,
            seconds=round(self.seconds, 1),
            budget_seconds=self.budget_seconds,
            not_proved=self.not_proved,
        )


class ProofClock:
    """Times what comparisons take, to tell what the next ones will, and whether the budget has room for them.

    >>> clock = ProofClock(10.0, now=iter([0.0, 4.0, 4.0, 4.0]).__next__)
    >>> clock.took(4.0, tokens=100)
    >>> clock.has_room(100), clock.has_room(200)
    (True, False)

    Args:
        budget_seconds: None: all the time that it takes.
        now: seconds.
    """

    def __init__(self, budget_seconds: float | None, *, now: Callable[[], float] = perf_counter) -> None:
        self.budget_seconds = budget_seconds
        self._now = now
        self._began = now()
        self._per_token: float | None = None

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._now() - self._began

    def took(self, seconds: float, *, tokens: int) -> None:
        """A comparison of so many tokens. The fastest counts: the first ones load graphs, and compile products."""
        each = seconds / tokens
        self._per_token = each if self._per_token is None else min(each, self._per_token)

    def expected(self, tokens: int) -> float:
        """Seconds for so many tokens; 0 as long as nobody knows."""
        return tokens * (self._per_token or 0.0)

    def has_room(self, tokens: int) -> bool:
        """Is a comparison of so many tokens expected to end in time?"""
        budget = self.budget_seconds
        return budget is None or self.seconds + self.expected(tokens) <= budget

    def left(self, tokens: int) -> float | None:
        """Seconds that are expected for so many tokens more, no more than the budget has; None: nobody knows."""
        if self._per_token is None:
            return None
        expected = self.expected(tokens)
        return expected if self.budget_seconds is None else max(0.0, min(expected, self.budget_seconds - self.seconds))


def check_parity(
    package_folder: Path,
    model_folder: Path,
    *,
    texts: Sequence[str],
    threads: int | None = None,
    force: bool = False,
    budget_seconds: float | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Parity:
    """Compare a package with the model that it was made from.

    Args:
        texts: real ones; some of different lengths are enough.
        force: also in a precision that the processor emulates.
        budget_seconds: for the comparisons, of which those that every proof has are made in any case; None: for all.

    Raises:
        UsageError: no text, or a folder that does not hold what it should.
        WorkError: a graph cannot be run at all.
    """
    package = load_package(package_folder)
    operators = graph_operators(package)
    rows = read_rows(texts, tokenizer=package_folder / "tokenizer.json")
    rule, longest = RULES[package.precision], package.model.max_length_tokens
    reference = open_runtime(model_folder, runtime="torch", precision="fp32", threads=threads)
    exported = open_runtime(
        package_folder,
        runtime=package.runtime,
        device=package.device,
        precision=package.precision,
        threads=threads,
        force=force,
    )
    cases = proof_cases(rows, longest=longest)
    heads = {f"head.{head.name}": head for head in package.model.heads if head.predicts}
    writes = package.model.kind != "encoder"
    steps = min(STEPS, longest // 2) if writes else 0
    # Rounded weights write other tokens by design.
    greedy_steps = min(GREEDY_STEPS, longest) if writes and package.precision == "fp32" else 0
    total = len(cases) + bool(steps) + bool(greedy_steps)
    logits: dict[str, list[Logits]] = {graph: [] for graph in heads}
    scores: list[Scores] = []
    greedy: list[Check] = []
    not_proved: list[str] = []
    clock = ProofClock(budget_seconds)
    written = STEP_TOKENS * (3 * steps + greedy_steps)

    def told(done: int, note: str, *, seconds_left: float | None) -> None:
        told_of = Progress(stage="proof", done=done, total=total, unit="cases", note=note, is_even=False)
        report(replace(told_of, seconds_left=seconds_left))

    try:
        for done, case in enumerate(cases):
            to_come = sum(each.batch.ids.size for each in cases[done:]) + written
            told(done, case.name, seconds_left=clock.left(to_come))
            tokens, began = case.batch.ids.size, clock.seconds
            if case.name not in LEAST and not clock.has_room(tokens):
                not_proved.append(case.name)
                continue
            for graph, head in heads.items():
                logits[graph].append(_predicted(reference, exported, case, head))
            if writes:
                scores.append(_scored(reference, exported, case, decoder_start=package.model.decoder_start))
            clock.took(clock.seconds - began, tokens=tokens)
        if steps:
            told(len(cases), CONTINUATION, seconds_left=clock.left(written))
            given = prompts(rows, longest=longest, steps=steps)
            logits["decoder"] = _continued(reference, exported, given, steps=steps)
        if greedy_steps:

            def go_on(step: int, seconds: float) -> bool:
                """Is there time for one more? `seconds`: that those so far took."""
                if step % TOLD_STEPS == 0:
                    to_come = greedy_steps - step
                    left = to_come * seconds / step if step else clock.left(STEP_TOKENS * to_come)
                    told(total - 1, f"{step} of {greedy_case(greedy_steps)}", seconds_left=left)
                return clock.has_room(step + 1)  # torch reads them all behind the last one

            found = check_greedy(
                reference,
                exported,
                prompt=rows[0][0],
                steps=greedy_steps,
                start=package.model.decoder_start,
                go_on=go_on,
            )
            greedy += [found] if found.numbers or not found.ok else []
            if found.case != greedy_case(greedy_steps):
                not_proved.append(greedy_case(greedy_steps))
        report(Progress(stage="proof", done=total, total=total, unit="cases", is_even=False))
    finally:
        reference.close()
        exported.close()
    checks = [check for graph, answers in logits.items() for check in check_logits(graph, answers, rule=rule)]
    return Parity(
        precision=package.precision,
        rule=rule,
        checks=(*checks, *(check_scores(scores, rule=rule) if scores else ()), *greedy),
        texts=len(texts),
        torch=reference.card.version,
        runtime=package.runtime,
        version=exported.card.version,
        operators=operators,
        wanted=package.operators,
        cases=total,
        seconds=clock.seconds,
        budget_seconds=budget_seconds,
        not_proved=tuple(not_proved),
    )


def read_rows(texts: Sequence[str], *, tokenizer: Path) -> tuple[tuple[int, ...], ...]:
    """The texts as token ids.

    Args:
        tokenizer: a `tokenizer.json`.

    Raises:
        UsageError: no text has any token.
    """
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(tokenizer))
    raw.no_padding()
    raw.no_truncation()
    rows = tuple(tuple(item.ids) for item in raw.encode_batch(list(texts)) if item.ids)
    if not rows:
        raise UsageError("a proof needs texts to compare the answers on, and none was given.")
    return rows


def proof_cases(rows: Sequence[tuple[int, ...]], *, longest: int) -> tuple[Case, ...]:
    """The batches on which heads and scores are compared.

    >>> [(case.name, [len(row) for row in case.rows]) for case in proof_cases([(5, 6, 7), (8, 9)], longest=4)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('one token', [1]), ('two tokens', [2]), ('one text', [3]), ('texts padded right', [3, 2, 4]),
     ('texts padded left', [3, 2, 4]), ('texts with holes', [3, 2, 4]), ('longest', [4]),
     ('one below the longest', [3])]
    """
    longest = min(longest, LONGEST_TOKENS)
    stream = endless(rows, longest)
    texts = tuple(row[:longest] for row in rows[:TEXTS])
    mixed = (*texts, stream[: min(longest, 2 * max(map(len, texts)))])
    return (
        Case(name="one token", rows=(stream[:1],), side="right"),
        Case(name="two tokens", rows=(stream[:2],), side="right"),
        Case(name="one text", rows=texts[:1], side="right"),
        Case(name="texts padded right", rows=mixed, side="right"),
        Case(name="texts padded left", rows=mixed, side="left"),
        Case(name="texts with holes", rows=mixed, side="between"),
        Case(name="longest", rows=(stream[:longest],), side="right"),
        Case(name="one below the longest", rows=(stream[: longest - 1],), side="right"),
    )


def prompts(rows: Sequence[tuple[int, ...]], *, longest: int, steps: int) -> tuple[tuple[int, ...], ...]:
    """Prompts of different lengths, short enough for `steps` more tokens."""
    room = max(1, min(longest, LONGEST_TOKENS) - steps)
    stream = endless(rows, room)
    return tuple(stream[:length] for length in (min(room, 9), 1, min(room, 4), min(room, 33)))


def endless(rows: Sequence[tuple[int, ...]], length: int) -> tuple[int, ...]:
    """The texts behind each other, again and again, up to `length` tokens."""
    joined = tuple(token for row in rows for token in row)
    return (joined * (length // len(joined) + 1))[:length]


def greedy_case(steps: int) -> str:
    """The name of a whole greedy text of so many tokens."""
    return f"{steps} greedy tokens"


def check_greedy(
    reference: Runtime,
    exported: Runtime,
    *,
    prompt: int,
    steps: int,
    start: int | None = None,
    go_on: Callable[[int, float], bool] = lambda step, seconds: True,
) -> Check:
    """The greedy text that the package writes behind a prompt of one token: is it torch's, up to the first tie?

    Torch reads the text in one pass, and says of each token whether it is the likeliest behind those before it. As long
    as all are, they are what torch writes itself.

    Args:
        steps: tokens to write.
        start: what the decoder of an encoder-decoder reads first.
        go_on: with the number of tokens that are written, and the seconds that they took: may one more be?
    """
    batch = TokenBatch(ids=np.array([[prompt]]), mask=np.ones((1, 1), dtype=np.bool_))
    tokens: list[int] = []
    said: list[float] = []
    began = perf_counter()
    state, logits = exported.prefill(batch)
    while len(tokens) < steps and go_on(len(tokens), perf_counter() - began):
        if tokens:
            state, logits = exported.step(state, np.array(tokens[-1:]))
        tokens.append(int(logits[0].argmax()))
        said.append(float(softmax_log(logits)[0, tokens[-1]]))
    right, undecided, distance = _read_greedy(reference, batch, tokens, said, start=start)
    return Check(
        graph="decoder",
        case=greedy_case(steps) if len(tokens) == steps else f"{len(tokens)} of {greedy_case(steps)}",
        numbers=right,
        max_difference=float(distance.max(initial=0.0)),
        mean_difference=float(distance.mean()) if distance.size else 0.0,
        cosine=None,
        agreement=right / max(1, len(tokens)),
        open_choices=int(undecided),
        ok=(right == len(tokens) or undecided) and bool(np.isfinite(distance).all()),
    )


def _read_greedy(
    reference: Runtime, prompt: TokenBatch, tokens: Sequence[int], said: Sequence[float], *, start: int | None
) -> tuple[int, bool, Floats]:
    """Of the tokens that a package wrote: how many are torch's, up to the first that is not; is that one a tie; and how
    far log-probabilities lie apart until there."""
    if not tokens:
        return 0, False, np.zeros(0)
    first, source = (int(prompt.ids[0, 0]), None) if start is None else (start, prompt)
    ids = np.array([[first, *tokens[:-1]]])
    read = TokenBatch(ids=ids, mask=np.ones(ids.shape, dtype=np.bool_))
    places = np.arange(len(tokens))
    targets = TokenTargets(rows=np.zeros_like(places), columns=places, tokens=np.array(tokens))
    scores = reference.score(read, targets, source=source)
    wrong = np.flatnonzero(~scores.greedy)
    right, undecided = int(wrong[0]) if len(wrong) else len(tokens), False
    if len(wrong):
        every = np.arange(reference.model.vocabulary)
        there = TokenTargets(rows=np.zeros_like(every), columns=np.full_like(every, right), tokens=every)
        best = float(reference.score(read, there, source=source).logprobs.max())
        undecided = best - float(scores.logprobs[right]) < UNDECIDED
    distance = np.abs(scores.logprobs[:right].astype(np.float64) - np.array(said[:right]))
    return right, undecided, np.where(np.isfinite(distance), distance, np.inf)


def _by_name(operators: Operators) -> dict[str, Mapping[str, int]]:
    return {str(graph): counts for graph, counts in operators.items()}


def _predicted(reference: Runtime, exported: Runtime, case: Case, head: HeadSpec) -> Logits:
    kind, batch = head_of(head), case.batch
    wanted, found = (kind.choices(runtime.predict(head.name, batch), batch.mask) for runtime in (reference, exported))
    return Logits(case=case.name, wanted=wanted, found=found, chosen=not kind.vectors)


def _scored(reference: Runtime, exported: Runtime, case: Case, *, decoder_start: int | None) -> Scores:
    batch, source = case.batch, None
    if decoder_start is not None:
        targets = [(decoder_start, *endless(case.rows, min(len(row), TARGET_TOKENS))) for row in case.rows]
        batch, source = Case(name=case.name, rows=tuple(targets), side=case.side).batch, case.batch
    read, wanted = every_next(batch)
    return Scores(
        case=case.name,
        wanted=reference.score(read, wanted, source=source),
        found=exported.score(read, wanted, source=source),
    )


def _continued(reference: Runtime, exported: Runtime, rows: tuple[tuple[int, ...], ...], *, steps: int) -> list[Logits]:
    right = Case(name="prompts padded right", rows=rows, side="right")
    left = Case(name="prompts padded left", rows=rows, side="left")
    wanted, tokens = _continue(reference, right.batch, None, steps=steps)
    return [
        Logits(case=case.name, wanted=wanted, found=_continue(exported, case.batch, tokens, steps=steps)[0])
        for case in (right, left)
    ]


def _continue(
    runtime: Runtime, batch: TokenBatch, tokens: Sequence[Ints] | None, *, steps: int
) -> tuple[tuple[Floats32, ...], list[Ints]]:
    """Logits (B, V) of each step, and the tokens that were appended: those given, or the most likely ones."""
    state, logits = runtime.prefill(batch)
    seen, appended = [logits], []
    for step in range(steps - 1):
        if step == steps // 4:  # as decoding does: rows change places, one is repeated, one is dropped
            last = len(logits) - 1
            order = np.array([last, last, *range(1, last)][: last + 1])
            state, logits = runtime.reorder(state, order), logits[order]
        chosen: Ints = logits.argmax(axis=1) if tokens is None else tokens[step]
        state, logits = runtime.step(state, chosen)
        seen.append(logits)
        appended.append(chosen)
    return tuple(seen), appended
