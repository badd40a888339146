"""Does a package answer as its model does in torch, in fp32?

What is compared: the logits of every head, the log-probability of every token of given texts, and the next-token logits
of every step of a greedy continuation (of torch's own tokens, so that one near tie does not hide what follows), with
rows dropped and repeated on the way.

fp32 must agree to 1e-3 in every number, and in every token that torch's two best logits do not leave open by as much.
Rounded weights answer differently by design. Shares of equal answers depend on how decided a model is (on an untrained
head they say nothing), so they are recorded, and what must hold is that the answer is still the same answer with some
noise: a cosine of at least 0.9 between the logits, each row centred (noise under half of the signal), and at most
0.3 nats of mean difference in log-probability. The accidents that are known of rounding, saturated products and outlier
channels, miss these by far; a sound rounding stays above 0.99, and below 0.1 nats. Whether a task's score
suffers is the question of the quality gate, not of this proof.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lmtasks.export.package import Precision, load_package
from lmtasks.prove.cases import Case, endless, prompts, proof_cases, read_rows
from lmtasks.records import Bools, Floats, Floats32, HeadSpec, Ints, Json, ModelCard, Progress, TokenBatch
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.open import open_runtime

STEPS = 32
"""Tokens that are continued."""
TARGET_TOKENS = 24
"""Length of the longest target that an encoder-decoder is asked to score."""
NO_HEADS: tuple[HeadSpec, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What must hold in one precision; None: recorded only."""

    max_difference: float | None = None
    """Of any logit or log-probability."""
    least_cosine: float | None = None
    """Between logits, each row centred."""
    most_mean_difference: float | None = None
    """Of log-probabilities, in nats."""


ROUNDED = Rule(least_cosine=0.9, most_mean_difference=0.3)
RULES: Mapping[Precision, Rule] = {"fp32": Rule(max_difference=1e-3), "int8": ROUNDED, "int8-tensor": ROUNDED}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison."""

    graph: str
    """`head.<name>`, `score` or `decoder`."""
    case: str
    numbers: int
    """How many were compared."""
    max_difference: float
    mean_difference: float
    cosine: float | None
    """Of logits; None for log-probabilities."""
    agreement: float
    """Share of equal choices: labels, first and last tokens of a span, most likely next tokens."""
    open_choices: int
    """Choices that differ where torch's two best lie within the rule's difference: a tie, broken otherwise."""
    ok: bool


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The proof of one package."""

    precision: Precision
    rule: Rule
    checks: tuple[Check, ...]
    texts: int
    torch: str
    onnxruntime: str

    @property
    def ok(self) -> bool:
        """Did every comparison hold?"""
        return all(check.ok for check in self.checks)

    @property
    def max_difference(self) -> float:
        """The largest difference of all."""
        return max((check.max_difference for check in self.checks), default=0.0)

    def json(self) -> Json:
        """For `parity.json`."""
        return {"ok": self.ok, "max_difference": self.max_difference, **asdict(self)}


def check_parity(
    package_folder: Path,
    model_folder: Path,
    *,
    texts: Sequence[str],
    threads: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Parity:
    """Compare a package with the model that it was made from.

    Args:
        texts: real ones; some of different lengths are enough.

    Raises:
        UsageError: no text, or a folder that does not hold what it should.
        WorkError: a graph cannot be run at all.
    """
    package = load_package(package_folder)
    rows = read_rows(texts, tokenizer=package_folder / "tokenizer.json")
    rule = RULES[package.precision]
    reference = open_runtime(model_folder, runtime="torch", precision="fp32", threads=threads)
    exported = open_runtime(package_folder, runtime="onnx", precision=package.precision, threads=threads)
    cases = proof_cases(rows, longest=package.model.max_length_tokens)
    checks: list[Check] = []
    try:
        for done, case in enumerate(cases):
            report(Progress(stage="proof", done=done, total=len(cases) + 1, unit="cases", note=case.name))
            checks += _heads(reference, exported, case, rule)
            if package.model.kind != "encoder":
                start = package.generation.decoder_start
                checks.append(_scores(reference, exported, case, rule, decoder_start=start))
        if package.model.kind != "encoder":
            report(Progress(stage="proof", done=len(cases), total=len(cases) + 1, unit="cases", note="continuation"))
            given = prompts(rows, longest=package.model.max_length_tokens, steps=STEPS)
            checks += _continuations(reference, exported, given, rule)
        report(Progress(stage="proof", done=len(cases) + 1, total=len(cases) + 1, unit="cases"))
    finally:
        reference.close()
        exported.close()
    return Parity(
        precision=package.precision,
        rule=rule,
        checks=tuple(checks),
        texts=len(texts),
        torch=reference.card.version,
        onnxruntime=exported.card.version,
    )


def _heads(reference: Runtime[object], exported: Runtime[object], case: Case, rule: Rule) -> list[Check]:
    checks = []
    for head in _predicting(reference.model):
        wanted, found = (runtime.predict(head.name, case.batch) for runtime in (reference, exported))
        if head.kind != "classification":
            # (B, T, C) -> real tokens; a span is chosen among the tokens of its row, the others among classes.
            parts = [
                (values[row][case.batch.mask[row]].T if head.kind == "span" else values[row][case.batch.mask[row]])
                for values in (wanted, found)
                for row in range(len(case.rows))
            ]
            half = len(parts) // 2
            checks.append(_compare(f"head.{head.name}", case.name, parts[:half], parts[half:], rule))
        else:
            checks.append(_compare(f"head.{head.name}", case.name, [wanted], [found], rule))
    return checks


def _scores(
    reference: Runtime[object], exported: Runtime[object], case: Case, rule: Rule, *, decoder_start: int | None
) -> Check:
    batch, source = case.batch, None
    if decoder_start is not None:
        targets = [(decoder_start, *endless(case.rows, min(len(row), TARGET_TOKENS))) for row in case.rows]
        batch, source = Case(name=case.name, rows=tuple(targets), side=case.side).batch, case.batch
    wanted, found = (runtime.score(batch, source) for runtime in (reference, exported))
    scored = batch.mask[:, 1:] & batch.mask[:, :-1]
    distance = np.abs(wanted.logprobs[scored].astype(np.float64) - found.logprobs[scored])
    largest, mean = _largest(distance), float(distance.mean()) if distance.size else 0.0
    return Check(
        graph="score",
        case=case.name,
        numbers=int(distance.size),
        max_difference=largest,
        mean_difference=mean,
        cosine=None,
        agreement=float((wanted.greedy[scored] == found.greedy[scored]).mean()) if distance.size else 1.0,
        open_choices=0,
        ok=_within(largest, rule.max_difference) and _within(mean, rule.most_mean_difference),
    )


def _continuations(
    reference: Runtime[object], exported: Runtime[object], rows: Sequence[tuple[int, ...]], rule: Rule
) -> list[Check]:
    checks = []
    wanted, tokens = _continue(reference, Case(name="", rows=tuple(rows), side="right").batch, None)
    for case in (
        Case(name="prompts padded right", rows=tuple(rows), side="right"),
        Case(name="prompts padded left", rows=tuple(rows), side="left"),
    ):
        found, _ = _continue(exported, case.batch, tokens)
        checks.append(_compare("decoder", case.name, wanted, found, rule))
    return checks


def _continue(
    runtime: Runtime[object], batch: TokenBatch, tokens: Sequence[Ints] | None
) -> tuple[list[Floats32], list[Ints]]:
    """Logits (B, V) of each step, and the tokens that were appended: those given, or the most likely ones."""
    state, logits = runtime.prefill(batch)
    seen, appended = [logits], []
    for step in range(STEPS - 1):
        chosen: Ints = logits.argmax(axis=1) if tokens is None else tokens[step]
        if step == STEPS // 4:  # as decoding does: rows change places, one is repeated, one is dropped
            order = np.array([len(chosen) - 1, *range(len(chosen) - 1)])
            order[1:2] = order[0]
            state, chosen = runtime.reorder(state, order), chosen if tokens is not None else chosen[order]
        state, logits = runtime.step(state, chosen)
        seen.append(logits)
        appended.append(chosen)
    return seen, appended


def _compare(graph: str, case: str, wanted: Sequence[Floats32], found: Sequence[Floats32], rule: Rule) -> Check:
    """Compare logits, each (rows, choices)."""
    distance = np.concatenate([np.abs(a.astype(np.float64) - b).ravel() for a, b in zip(wanted, found, strict=True)])
    equal = np.concatenate([a.argmax(axis=1) == b.argmax(axis=1) for a, b in zip(wanted, found, strict=True)])
    gaps = np.concatenate([_gap(a) for a in wanted])
    tied: Bools = ~equal & (gaps <= (rule.max_difference or 0.0))
    largest, cosine = _largest(distance), _cosine(wanted, found)
    decided = rule.max_difference is None or bool((equal | tied).all())
    return Check(
        graph=graph,
        case=case,
        numbers=int(distance.size),
        max_difference=largest,
        mean_difference=float(distance.mean()),
        cosine=cosine,
        agreement=float(equal.mean()),
        open_choices=int(tied.sum()),
        ok=decided and _within(largest, rule.max_difference) and cosine >= (rule.least_cosine or -1.0),
    )


def _gap(logits: Floats32) -> Floats:
    """How far the best choice of each row lies above the second, (rows, choices) -> (rows,)."""
    if logits.shape[1] < 2:
        return np.full(logits.shape[0], np.inf)
    best = np.sort(logits.astype(np.float64), axis=1)[:, -2:]
    gap: Floats = best[:, 1] - best[:, 0]
    return gap


def _cosine(wanted: Sequence[Floats32], found: Sequence[Floats32]) -> float:
    """Between all logits, each row centred: what a softmax sees of them."""
    one, two = (
        np.concatenate([(part - part.mean(axis=1, keepdims=True)).ravel() for part in parts]).astype(np.float64)
        for parts in (wanted, found)
    )
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    if size == 0.0:
        return 1.0 if np.array_equal(one, two) else 0.0
    return float(one @ two) / size


def _largest(distance: Floats) -> float:
    """The largest difference; a number that is not finite differs infinitely."""
    return float(np.where(np.isfinite(distance), distance, np.inf).max(initial=0.0))


def _within(value: float, most: float | None) -> bool:
    return most is None or value <= most


def _predicting(model: ModelCard) -> tuple[HeadSpec, ...]:
    return tuple(head for head in model.heads if head.kind != "generation")
