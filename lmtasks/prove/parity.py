"""Proof that a package answers as its model does in torch, in fp32.

Compared are the logits of every head, the log-probability of every token of given texts, and the next-token logits
of every step of a greedy continuation (of torch's own tokens, so that one near tie does not hide what follows), with
rows dropped and repeated on the way; and, in fp32, the tokens that each writes behind its own. What must
hold stands in `compare.py`.

Inputs are real texts in the shapes where exports go wrong: from one token to the longest that the model takes; one row
and several; padding on either side, and between tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lmtasks.errors import UsageError
from lmtasks.export.emit import graph_operators
from lmtasks.export.emitters.architecture import missing_operators
from lmtasks.export.package import Operators, load_package
from lmtasks.head import head_of
from lmtasks.prove.compare import RULES, Logits, Scores, check_logits, check_scores
from lmtasks.records import Floats32, HeadSpec, Ints, Progress, TokenBatch
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
"""Where torch's two best logits lie within this, either is right, and what follows is not compared."""
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
        )


def check_parity(
    package_folder: Path,
    model_folder: Path,
    *,
    texts: Sequence[str],
    threads: int | None = None,
    force: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Parity:
    """Compare a package with the model that it was made from.

    Args:
        texts: real ones; some of different lengths are enough.
        force: also in a precision that the processor emulates.

    Raises:
        UsageError: no text, or a folder that does not hold what it should.
        WorkError: a graph cannot be run at all.
    """
    package = load_package(package_folder)
    operators = graph_operators(package)
    rows = read_rows(texts, tokenizer=package_folder / "tokenizer.json")
    rule = RULES[package.precision]
    reference = open_runtime(model_folder, runtime="torch", precision="fp32", threads=threads)
    exported = open_runtime(
        package_folder,
        runtime=package.runtime,
        device=package.device,
        precision=package.precision,
        threads=threads,
        force=force,
    )
    cases = proof_cases(rows, longest=package.model.max_length_tokens)
    heads = {f"head.{head.name}": head for head in package.model.heads if head.predicts}
    logits: dict[str, list[Logits]] = {graph: [] for graph in heads}
    scores: list[Scores] = []
    greedy: list[Check] = []
    try:
        for done, case in enumerate(cases):
            report(Progress(stage="proof", done=done, total=len(cases) + 1, unit="cases", note=case.name))
            for graph, head in heads.items():
                logits[graph].append(_predicted(reference, exported, case, head))
            if package.model.kind != "encoder":
                scores.append(_scored(reference, exported, case, decoder_start=package.model.decoder_start))
        if package.model.kind != "encoder":
            report(Progress(stage="proof", done=len(cases), total=len(cases) + 1, unit="cases", note="continuation"))
            steps = min(STEPS, package.model.max_length_tokens // 2)
            given = prompts(rows, longest=package.model.max_length_tokens, steps=steps)
            logits["decoder"] = _continued(reference, exported, given, steps=steps)
            if package.precision == "fp32":  # rounded weights write other tokens by design
                longest = min(GREEDY_STEPS, package.model.max_length_tokens)
                greedy.append(check_greedy(reference, exported, prompt=rows[0][0], steps=longest))
        report(Progress(stage="proof", done=len(cases) + 1, total=len(cases) + 1, unit="cases"))
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


def check_greedy(reference: Runtime, exported: Runtime, *, prompt: int, steps: int) -> Check:
    """Greedy continuations of a prompt of one token, each by its own tokens, up to the first that differ.

    Args:
        steps: tokens to write.
    """
    batch = TokenBatch(ids=np.array([[prompt]]), mask=np.ones((1, 1), dtype=np.bool_))
    (mine, wanted), (theirs, found) = reference.prefill(batch), exported.prefill(batch)
    differences: list[float] = []
    written, undecided = 0, False
    for step in range(steps):
        token = wanted.argmax(axis=1)
        if int(found.argmax()) != int(token[0]):
            best = np.sort(wanted[0].astype(np.float64))[-2:]
            undecided = bool(best[1] - best[0] < UNDECIDED)
            break
        difference = np.abs(wanted - found)
        differences.append(float(np.where(np.isfinite(difference), difference, np.inf).max()))
        written = step + 1
        if written < steps:
            mine, wanted = reference.step(mine, token)
            theirs, found = exported.step(theirs, token)
    return Check(
        graph="decoder",
        case=f"{steps} greedy tokens",
        numbers=written,
        max_difference=max(differences, default=0.0),
        mean_difference=float(np.mean(differences)) if differences else 0.0,
        cosine=None,
        agreement=written / steps,
        open_choices=int(undecided),
        ok=written == steps or undecided,
    )


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
