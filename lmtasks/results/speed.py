"""speed/<variant>.json of a run, and what `lmtasks bench` writes: what a variant takes in time and memory.

Times are in milliseconds where a name says so, else in seconds; throughputs in units a second.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from lmtasks.records import Json, RuntimeCard
from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, Whole
from lmtasks.results.cell import Variant
from lmtasks.results.scores import Interval

SERVER = "endpoint"
"""The runtime of a variant that is a server's address."""
Samples = tuple[Annotated[float, Strict()], ...]
"""Measured times, in order."""


class Percentiles(StoredModel):
    """Milliseconds; None where there are too few samples."""

    p50: Number | None
    p90: Number | None
    p95: Number | None = None
    """Records before the open loop have none."""
    p99: Number | None
    n: Whole


class MachineLimits(StoredModel):
    """Limits of the machine, with so many threads."""

    device: str = "cpu"
    threads: Whole
    read_gb_per_s: Number | None = None
    read_gb_per_s_by_mb: Mapping[str, Number] = Field(default_factory=dict)
    """By the size of what is read, in MiB."""
    copy_gb_per_s: Number | None = None
    gemm_gflop_per_s: Number | None = None
    """Of the matrix product in fp32."""
    gemm: Mapping[str, Number] = Field(default_factory=dict)
    """GFLOP/s of the matrix product, by precision."""
    gemm_by: Mapping[str, str] = Field(default_factory=dict)
    """The library that is fastest at it."""
    gemm_size: Whole | None = None
    """Rows and columns of the matrices."""


class PassRecord(StoredModel):
    """Passes of a call over the model that are alike."""

    count: int | float
    bytes: int | float
    """To read."""
    operations: int | float
    """Additions and multiplications."""


class LimitShare(StoredModel):
    """How near a timing comes to what the machine allows."""

    share: Number
    """Least time over measured time; 1 is the limit itself."""
    bound: str
    """`memory` or `arithmetic`: which of both takes longer."""
    how: str
    """How it was computed, with the numbers."""
    of: str
    """`a step` of a streamed text, or `a call`."""


class BilledTokens(StoredModel):
    """Tokens of a request as a server bills them, on average."""

    read: Number
    written: Number


class Timing(StoredModel):
    """One task at one batch size: one call after the other."""

    task: str
    kind: str
    """`head`, `score` or `generate`."""
    batch_size: Whole
    length: Whole = 0
    """Tokens of every request; 0: as the task's rows have them."""
    unit: str
    """Of `throughput`."""
    new_tokens: Whole = 0
    read_tokens: tuple[Whole, ...] = ()
    """Tokens to read, of each request."""
    requests_per_example: Number = 1.0
    latency_ms: Percentiles
    ttft_ms: Percentiles | None = None
    """To the first token; None where no text was streamed."""
    itl_ms: Percentiles | None = None
    """From token to token."""
    throughput: Number
    examples_per_s: Number | None = None
    """What all variants have in common, whatever they ask for an example; None where an older record does not tell."""
    throughput_ci95: Interval | None
    warm_up_calls: Whole = 0
    settled: Flag = True
    """Did the median settle while warming up?"""
    warm_up_ms: Samples = ()
    raw_ms: Samples = ()
    """Of every call; published records hold none."""
    raw_units: tuple[Whole, ...] = ()
    """What each call did, in `unit` without the second."""
    raw_ttft_ms: Samples = ()
    raw_itl_ms: Samples = ()
    note: str = ""
    flags: tuple[str, ...] = ()
    """What disturbed the machine meanwhile."""
    passes: Annotated[tuple[PassRecord, ...] | None, SPARSE] = None
    """The least that a call has to do, where the files of the model tell."""
    rounds: Samples = ()
    """Examples a second in each round."""
    limit: LimitShare | None = None
    """None where it is not known."""
    rows_together: Annotated[Whole, SPARSE] = 0
    """Texts that each caller of the engine wrote together, as it found best: it was handed `batch_size` of them at
    once; 0: it did not choose."""
    billed: Annotated[BilledTokens | None, SPARSE] = None
    """Of a server that tells them."""

    @property
    def shape(self) -> str:
        """For people: `batch 16`, or `batch 48, 32 together` where the engine chose."""
        together = f", {self.rows_together} together" if self.rows_together else ""
        return f"batch {self.batch_size}{together}"

    @property
    def examples_ci95(self) -> tuple[float, float] | None:
        """The interval of the throughput, in examples a second."""
        if self.throughput_ci95 is None or self.examples_per_s is None or not self.throughput:
            return None
        low, high = self.throughput_ci95
        return low * self.examples_per_s / self.throughput, high * self.examples_per_s / self.throughput


class LoadTiming(StoredModel):
    """One task under a load: requests come by a schedule."""

    task: str
    kind: str = ""
    length: Whole = 0
    rate: Number
    """Requests a second."""
    arrival: str
    seed: Whole = 0
    batching: str
    rows: Whole = 0
    """Answered at once, at most."""
    requests: Whole = 0
    answered: Whole = 0
    latency_ms: Percentiles
    ttft_ms: Percentiles | None = None
    itl_ms: Percentiles | None = None
    seconds: Number = 0.0
    busy_seconds: Number = 0.0
    busy_share: Number
    raw_latency_ms: Samples = ()
    raw_ttft_ms: Samples = ()
    raw_itl_ms: Samples = ()
    note: str = ""
    flags: tuple[str, ...] = ()
    failed: Annotated[Whole, SPARSE] = 0
    """Requests that a server refused or lost; they are not answered."""
    goodput_per_s: Annotated[Number | None, SPARSE] = None
    """Requests a second that were answered within all limits of `--require` on latencies; None: it has none."""

    @property
    def shape(self) -> str:
        """For people: `20 requests/s`."""
        return f"{self.rate:g} requests/s"


class TriedRateRecord(StoredModel):
    """One run of the search for the largest rate."""

    rate: Number
    value_ms: Number | None
    """The percentile; None: too few were answered to tell it."""
    held: Flag


class MaxRate(StoredModel):
    """The largest rate at which a latency held on a task (`--require 'p95_ms<=500@max'`)."""

    task: str
    name: str
    """Of the latency, as `p95_ms`."""
    limit_ms: Number
    rate: Number
    """Requests a second, the median of the rounds; 0: it held at none that was tried."""
    rounds: Samples
    tried: tuple[TriedRateRecord, ...]
    """Of all rounds."""


class CostRecord(StoredModel):
    """The cost of 1,000 answers to a task."""

    task: str
    per_1000: Number
    currency: str = ""
    """Empty: none was named."""
    how: str
    """How it was reckoned, with the numbers."""


class Artefact(StoredModel):
    """The model or package that was timed."""

    weights_hash: str = ""
    size_bytes: Whole


def _examples_a_second(content: dict[str, object]) -> dict[str, object]:
    """Records before December 2026 do not say how many choices a prompted example has: only a score is left open."""
    workloads = content.get("workloads")
    if not isinstance(workloads, list):
        return content
    return {**content, "workloads": [_with_examples(each) for each in workloads]}


def _with_examples(workload: object) -> object:
    if not isinstance(workload, dict) or workload.get("examples_per_s") is not None or workload.get("kind") == "score":
        return workload
    throughput, new_tokens = workload.get("throughput"), workload.get("new_tokens") or 1
    if not isinstance(throughput, int | float) or not isinstance(new_tokens, int):
        return workload
    return {**workload, "examples_per_s": throughput / max(1, new_tokens)}


class SpeedRecord(StoredFile):
    """Time and memory of one variant: times of rounds in alternation with others, and memory of a run of its own."""

    migrations = (_examples_a_second,)

    variant: Variant
    artefact: Artefact
    runtime: RuntimeCard | None = None
    machine: Json = Field(default_factory=dict)
    versions: Json = Field(default_factory=dict)
    threads: Whole | None = None
    import_seconds: Number
    open_seconds: Number | None = None
    first_seconds: Number | None = None
    """The first answer, once it is open."""
    load_seconds: Number
    disk_bytes_read: Whole | None = None
    workloads: tuple[Timing, ...] = ()
    loads: tuple[LoadTiming, ...] = ()
    max_rates: Annotated[tuple[MaxRate, ...], SPARSE] = ()
    costs: Annotated[tuple[CostRecord, ...], SPARSE] = ()
    """Where a price was given."""
    kernel_gflop_per_s: Samples = ()
    """Of the fixed kernel, in each round."""
    notes: tuple[str, ...] = ()
    peak_memory_bytes: Whole
    """Beyond the imports."""
    loading_memory_bytes: Whole | None = None
    import_memory_bytes: Whole = 0
    """Of the libraries, before anything is loaded."""
    rounds: Whole = 1
    alternated: Annotated[str, SPARSE] = ""
    """When the measurement began: records with the same were timed in alternation, and their rounds are pairs. Empty in
    records of earlier versions."""
    limits: MachineLimits | None = None

    @property
    def is_server(self) -> bool:
        """Was a server asked, whose memory and cores nobody here knows?"""
        return self.variant.runtime == SERVER

    @property
    def total_memory_bytes(self) -> int:
        """At the peak, the libraries that were imported among them: what a machine must have."""
        return self.import_memory_bytes + self.peak_memory_bytes

    @property
    def timings(self) -> tuple[Timing, ...]:
        """Timings of the rows' own lengths."""
        return tuple(timing for timing in self.workloads if not timing.length)

    @property
    def at_lengths(self) -> tuple[Timing, ...]:
        """Timings of requests that all have as many tokens."""
        return tuple(timing for timing in self.workloads if timing.length)


class VerdictRecord(StoredModel):
    """One requirement held against one variant."""

    requirement: str
    fulfilled: Flag
    said: str
    """The measured value, in words."""


class JudgedRecord(StoredModel):
    """A variant against all requirements."""

    variant: str
    fulfils: Flag
    """All of them?"""
    core_seconds: Number | None
    """An answer's cost; None where nothing was timed."""
    verdicts: tuple[VerdictRecord, ...]


class RequiredRecord(StoredFile):
    """required.json of a run: which variants fulfil what the plan requires."""

    require: str
    cheapest: str = ""
    """The variant that fulfils all at the least cost; empty where none does."""
    missed: str = ""
    """What keeps every variant from it; empty where one fulfils all."""
    judged: tuple[JudgedRecord, ...]


class RatioRecord(StoredModel):
    """How many times as much, over rounds."""

    value: Number
    """Geometric mean of the rounds' ratios."""
    ci95: Interval | None
    """None for a single round."""
    rounds: Samples


class SideBySideRecord(StoredModel):
    """One task at one batch size: a variant beside the first one."""

    variant: str
    base: str
    task: str
    batch_size: Whole
    length: Whole
    examples_per_s: Number
    """Median over rounds."""
    ratio: RatioRecord
    """Above 1 is faster."""
    verdict: Literal["faster", "slower", "no difference seen"]


class BenchRecord(StoredFile):
    """bench.json of `lmtasks bench`: variants side by side."""

    remedy: ClassVar[str] = "run the measurement again."
    current: ClassVar[int] = 2

    variants: tuple[SpeedRecord, ...] = Field(description="each with its own schema")
    side_by_side: tuple[SideBySideRecord, ...]
    require: str
    judged: tuple[JudgedRecord, ...]
