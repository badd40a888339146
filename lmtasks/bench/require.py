"""`--require`: what a variant must fulfil to be used in production.

>>> [str(each) for each in parse_requirements("p95_ms<=50@20rps, drop <= 1")]
['p95_ms<=50@20rps', 'drop<=1']
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lmtasks.bench.percentile import PERCENTILES
from lmtasks.errors import UsageError, unknown

PART = re.compile(r"^([a-z]\w*)\s*(<=|>=)\s*(\d+(?:\.\d+)?)(?:\s*@\s*(\d+(?:\.\d+)?)\s*rps)?$")
FORM = "write NAME<=NUMBER, for a latency under load NAME<=NUMBER@RATErps, with commas between"
QUANTITIES: Mapping[str, str] = {
    **{f"p{p}_ms": "latency of an answer" for p in PERCENTILES},
    **{f"ttft_p{p}_ms": "time to the first token" for p in PERCENTILES},
    **{f"itl_p{p}_ms": "time from token to token" for p in PERCENTILES},
    "examples_per_s": "throughput at the best batch size",
    "tokens_per_s": "new tokens at the best batch size, of tasks that write",
    "drop": "points of the main metric lost against the first variant",
    "peak_mb": "peak memory of the process, imported libraries among it",
    "disk_mb": "size of what was loaded",
    "load_s": "loading, to the first answers",
    "cold_s": "imports, opening and the first answer",
}
"""What can be required."""
AT_LEAST: Mapping[str, tuple[str, str]] = {
    "examples_per_s": ("examples/s", "examples_per_s"),
    "tokens_per_s": ("tokens/s", "throughput"),
}
"""Of these a variant must have so much, in which unit, and the field of a timing that tells; of everything else at most
so much."""
LATENCY = re.compile(r"^(ttft_|itl_|)p(\d+)_ms$")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One part of --require."""

    name: str
    at_most: bool
    limit: float
    rate: float | None = None
    """Requests a second under which a latency is meant; None: one request after the other."""

    @property
    def latency(self) -> tuple[str, int] | None:
        """Which latency (empty: of the answer; `ttft_`, `itl_`), and its percentile; None for anything else."""
        found = LATENCY.match(self.name)
        return (found[1], int(found[2])) if found else None

    def __str__(self) -> str:
        rate = "" if self.rate is None else f"@{self.rate:g}rps"
        return f"{self.name}{'<=' if self.at_most else '>='}{self.limit:g}{rate}"


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """The parts of --require, checked.

    Raises:
        UsageError: a part is malformed, names nothing that is measured, or points the wrong way.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"--require was empty; {FORM}. Known: {', '.join(QUANTITIES)}.")
    return tuple(_parse(part) for part in parts)


def _parse(part: str) -> Requirement:
    found = PART.match(part)
    if found is None:
        raise UsageError(f"--require: {part!r} is no requirement; {FORM}.")
    name, sign, limit, rate = found.groups()
    latency = LATENCY.match(name)
    if name not in QUANTITIES and latency is None:
        raise unknown("requirement", name, QUANTITIES)
    if latency is not None and int(latency[2]) not in PERCENTILES:
        raise UsageError(
            f"--require: {name} is not measured; percentiles are {', '.join(f'p{each}' for each in PERCENTILES)}."
        )
    at_most = name not in AT_LEAST
    if (sign == "<=") != at_most:
        way = "at most" if at_most else "at least"
        raise UsageError(
            f"--require: {name} is wanted {way} so large, write {name}{'<=' if at_most else '>='}{limit}, not {part!r}."
        )
    if rate is not None and latency is None:
        raise UsageError(f"--require: only a latency is measured under a load, so {name} takes no @{rate}rps.")
    if rate is not None and float(rate) == 0:
        raise UsageError(f"--require: {part!r} asks for 0 requests a second; use a rate above 0.")
    return Requirement(name=name, at_most=at_most, limit=float(limit), rate=None if rate is None else float(rate))
