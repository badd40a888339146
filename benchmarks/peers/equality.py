"""Two answers to the same request, number by number.

Bounds: a request's log-probability 1e-4 (beyond the rounding of a sum in single precision); metrics 1e-9, perplexities
and what is made of log-probabilities 1e-5 of the value; standard errors 1e-9 of the value, those of log-probabilities
1e-5; texts equal, but for a first difference where the two best tokens lie within 1e-4.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOGPROB = 1e-4
EXACT = 1e-9
RELATIVE = 1e-5
SINGLE = 2.0**-23
"""Of a number in single precision, what it may be off by. The sum over a long document has an ulp of 2e-4 there."""
FROM_LOGPROBS = frozenset(
    {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "token_perplexity", "brier_score"}
)
"""Metrics that inherit the last bits of log-probabilities; others count or compare texts."""

NearTie = Callable[[str, str, str], float | None]
"""(prompt, one text, another) -> the gap between the two best tokens where they part, if that can be found out."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One thing that should be equal."""

    job: str
    task: str
    what: str
    """`prompts`, `log-probabilities`, `texts`, a metric's name, or `stderr of` it."""
    n: int
    """Things compared."""
    worst: float
    """Largest difference, in the unit of the bound."""
    bound: float
    detail: str = ""
    """Values, or the first place where they differ."""

    @property
    def equal(self) -> bool:
        """Is the difference within the bound?"""
        return self.worst <= self.bound


def compare(
    job: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], *, near_tie: NearTie | None = None
) -> list[Compared]:
    """All tasks of one job.

    Args:
        job: its name.
        theirs: lm-evaluation-harness' answer to it.
        ours: lmtasks' answer to it.
        near_tie: how to judge texts that differ; None: they may not.
    """
    found: list[Compared] = []
    for task, samples in theirs["samples"].items():
        found += _samples(job, task, samples, ours["samples"].get(task, []), near_tie)
        found += compare_metrics(job, task, theirs["results"][task], ours["results"].get(task, {}))
    for group, values in theirs.get("groups", {}).items():
        found += compare_metrics(job, group, values, ours.get("groups", {}).get(group, {}))
    return found


def _samples(
    job: str, task: str, theirs: Sequence[Any], ours: Sequence[Any], near_tie: NearTie | None
) -> Iterator[Compared]:
    if len(theirs) != len(ours):
        yield Compared(
            job=job,
            task=task,
            what="documents",
            n=len(theirs),
            worst=math.inf,
            bound=0,
            detail=f"{len(theirs)} there, {len(ours)} here",
        )
        return
    unequal = [number for number, (a, b) in enumerate(zip(theirs, ours, strict=True)) if not _same_prompts(a, b)]
    shown = ""
    if unequal:
        first = unequal[0]
        shown = f"document {first}: {theirs[first]['prompts'][0]!r} there, {ours[first]['prompts'][0]!r} here"
    yield Compared(
        job=job, task=task, what="prompts", n=len(theirs), worst=float(len(unequal)), bound=0, detail=shown[:600]
    )
    kinds = {type(_flat(each["replies"])[0]) for each in theirs if _flat(each["replies"])}
    if kinds == {str}:
        yield _texts(job, task, theirs, ours, near_tie)
    else:
        yield _logprobs(job, task, theirs, ours)


def _same_prompts(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Where every request has the same prompt, one side may name it once."""
    a, b = distinct_prompts(one["prompts"]), distinct_prompts(other["prompts"])
    return a == b or (b == [""] and len(a) == 1)  # a rolling text is no prompt here


def distinct_prompts(prompts: Sequence[str]) -> list[str]:
    """A document's prompts, equal ones once, and without the empty ones of `acc_mutual_info` behind them.

    >>> distinct_prompts(["a", "a", "", ""])
    ['a']
    >>> distinct_prompts([""])
    ['']
    """
    found = list(dict.fromkeys(prompts))
    return [found[0], *(prompt for prompt in found[1:] if prompt)]


def _logprobs(job: str, task: str, theirs: Sequence[Any], ours: Sequence[Any]) -> Compared:
    worst, rounding, n, detail = 0.0, 0.0, 0, ""
    for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        a, b = [_logprob(each) for each in _flat(one["replies"])], [_logprob(each) for each in _flat(other["replies"])]
        n += len(a)
        if len(a) != len(b):
            worst, detail = math.inf, f"document {number}: {a} there, {b} here"
            continue
        for x, y in zip(a, b, strict=True):
            # What counts is how far they are apart beyond what their sum in single precision leaves open.
            if not detail or abs(x - y) - abs(x) * SINGLE > worst - rounding:
                worst, rounding = abs(x - y), abs(x) * SINGLE
                detail = f"document {number}: {x!r} there, {y!r} here"
    return Compared(
        job=job, task=task, what="log-probabilities", n=n, worst=worst, bound=LOGPROB + rounding, detail=detail
    )


def _texts(job: str, task: str, theirs: Sequence[Any], ours: Sequence[Any], near_tie: NearTie | None) -> Compared:
    worst, n, detail = 0.0, 0, ""
    for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        a, b = list(map(str, _flat(one["replies"]))), list(map(str, _flat(other["replies"])))
        n += len(a)
        if len(a) != len(b):
            worst, detail = math.inf, f"document {number}: {len(a)} texts there, {len(b)} here"
            continue
        for x, y in zip(a, b, strict=True):
            if x != y:
                gap = near_tie(str(one["prompts"][0]), x, y) if near_tie is not None else None
                gap = math.inf if gap is None else gap
                if gap > worst or not detail:
                    worst, detail = max(worst, gap), f"document {number}: {x!r} there, {y!r} here, gap {gap:.3g}"
    return Compared(job=job, task=task, what="texts", n=n, worst=worst, bound=LOGPROB, detail=detail[:400])


def compare_metrics(job: str, task: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[Compared]:
    for key, one in theirs.items():
        name, _, pipeline = key.partition(",")
        other = ours.get(key, ours.get(name))
        if other is None:
            yield Compared(
                job=job, task=task, what=key, n=1, worst=math.inf, bound=0, detail=f"not here; here are: {list(ours)}"
            )
            continue
        relative = name in FROM_LOGPROBS
        bound = RELATIVE if relative else EXACT
        shown = name if pipeline == "none" else key
        yield Compared(
            job=job,
            task=task,
            what=shown,
            n=1,
            worst=_gap(one["value"], other["value"], relative=relative),
            bound=bound,
            detail=f"{one['value']!r} there, {other['value']!r} here",
        )
        if one["stderr"] is not None:
            gap = math.inf if other["stderr"] is None else _gap(one["stderr"], other["stderr"], relative=True)
            yield Compared(
                job=job,
                task=task,
                what=f"stderr of {shown}",
                n=1,
                worst=gap,
                bound=bound,
                detail=f"{one['stderr']!r} there, {other['stderr']!r} here",
            )


def _gap(one: float, other: float, *, relative: bool) -> float:
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    gap = abs(one - other)
    return gap / max(abs(one), abs(other)) if relative else gap


def _flat(replies: Any) -> list[Any]:
    """`[[[-1.5, False]], [[-2.0, True]]]`, `[[-1.5]]`, `[["a", "b"]]`, `[-1.5, -2.0]` or `"a"` as a list of answers."""
    if isinstance(replies, str | float | int):
        return [replies]
    if len(replies) == 2 and isinstance(replies[1], bool):
        return [replies]
    return [answer for reply in replies for answer in _flat(reply)]


def _logprob(answer: Any) -> float:
    return float(answer[0] if isinstance(answer, list) else answer)
