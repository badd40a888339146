"""Numbers for people: formatted here and nowhere else.

>>> value(0.8131, "fraction"), value(31.27, "points"), value(14.268, "raw")
('81.3', '31.3', '14.27')
>>> uncertainty(0.8131, (0.787, 0.8392), "fraction"), uncertainty(14.27, (13.9, 15.1), "raw")
('±2.6', '[13.90, 15.10]')
>>> milliseconds(0.62), milliseconds(12.34), milliseconds(1234.0)
('0.62 ms', '12.3 ms', '1.23 s')
>>> size(13_400_000), rate(1234.5), ratio(2.314), duration(200)
('13.4 MB', '1,230', '2.31×', '3 min 20 s')
"""

import math

from lmtasks.metric.base import Scale
from lmtasks.results.scores import RivalChoice
from lmtasks.results.speed import LimitShare, MachineLimits, SpeedRecord

POINTS = 100.0
EVEN = 0.1
"""An interval is written as ± while its halves differ by less than this share of its width."""
MISSING = "–"


SMALL = 0.05
"""Differences below it would be none with one decimal."""


def in_points(number: float, scale: Scale) -> float:
    """Fractions in points (0-100); anything else as it is."""
    return POINTS * number if scale == "fraction" else number


def value(number: float, scale: Scale) -> str:
    """A metric's value: points with one decimal, a raw value with as many as its size calls for."""
    shown = in_points(number, scale)
    return _decimals(shown, 1 if scale != "raw" else raw_decimals(shown))


def uncertainty(number: float, ci95: tuple[float, float] | None, scale: Scale) -> str:
    """`±2.6` where the interval is even around the value, `[low, high]` where it is not; empty where it is unknown."""
    if ci95 is None or not math.isfinite(number):
        return ""
    centre, low, high = (in_points(end, scale) for end in (number, *ci95))
    places = 1 if scale != "raw" else raw_decimals(centre)
    if abs((high - centre) - (centre - low)) <= EVEN * (high - low):
        return f"±{_decimals((high - low) / 2, places)}"
    return f"[{_decimals(low, places)}, {_decimals(high, places)}]"


def difference(points: float, scale: Scale = "points") -> str:
    """A difference with its sign, in points or in the metric's unit; in a unit of its own also a small one is told.

    >>> difference(-0.04), difference(-2.35), difference(116672.5), difference(-0.0123, "raw")
    ('+0.0', '−2.4', '+116,672.5', '−0.012')
    """
    places = (
        1 if scale != "raw" or not points or abs(points) >= SMALL else min(4, 1 - math.floor(math.log10(abs(points))))
    )
    return f"{round(points, places) + 0.0:+,.{places}f}".replace("-", "−")


def effect(size: float) -> str:
    """An effect size with its sign."""
    return f"{size:+.2f}".replace("-", "−")


def milliseconds(ms: float | None) -> str:
    """A latency in three digits."""
    if ms is None:
        return MISSING
    return f"{_digits(ms / 1000)} s" if ms >= 1000 else f"{_digits(ms)} ms"


def duration(seconds: float, *, whole: bool = False) -> str:
    """A longer time; `whole`: of an estimate, in seconds, at least one."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s" if whole else f"{_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(bytes_: float) -> str:
    """Bytes, in powers of 1,000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= factor:
            return f"{_digits(bytes_ / factor)} {unit}"
    return f"{bytes_:.0f} B"


def rate(per_second: float) -> str:
    """A throughput in three digits."""
    return _digits(per_second)


def rate_uncertainty(per_second: float, ci95: tuple[float, float] | None) -> str:
    """The larger half of a throughput's interval."""
    return "" if ci95 is None else f"±{_digits(max(per_second - ci95[0], ci95[1] - per_second))}"


def ratio(times: float | None) -> str:
    """How many times as much."""
    return MISSING if times is None else f"{_digits(times)}×"


def ratio_interval(times: float, ci95: tuple[float, float] | None) -> str:
    """How many times as much, with its interval.

    >>> ratio_interval(2.314, (2.25, 2.38)), ratio_interval(1.0, None)
    ('2.31× [2.25, 2.38]', '1.00×')
    """
    return ratio(times) if ci95 is None else f"{ratio(times)} [{_digits(ci95[0])}, {_digits(ci95[1])}]"


def price(value: float, currency: str) -> str:
    """A price with four digits that count.

    >>> price(0.123456, "USD"), price(12.0, "")
    ('0.1235 USD', '12')
    """
    return f"{value:.4g} {currency}".strip()


def layout(speed: SpeedRecord) -> str:
    """How a variant uses the processor: threads inside a step, and callers beside each other where a runtime has any:
    `2 callers × 1 thread`."""
    runtime = speed.runtime
    threads = (runtime.threads if runtime else None) or speed.variant.threads or 1
    inside = f"{threads} {'thread' if threads == 1 else 'threads'}"
    callers = runtime.options.get("callers", "1") if runtime else "1"
    return inside if callers == "1" else f"{callers} callers × {inside}"


def of_limit(limit: LimitShare | None) -> str:
    """How near a timing comes to what the machine allows; empty where that is unknown.

    >>> of_limit(LimitShare(share=0.917, bound="memory", how="", of="a step"))
    '92 % of memory bandwidth'
    """
    if limit is None:
        return ""
    what = "memory bandwidth" if limit.bound == "memory" else "the matrix product"
    return f"{100 * limit.share:.0f} % of {what}"


def limits(measured: MachineLimits) -> str:
    """Limits of a machine, in one line."""
    products = [f"{name} {_digits(rate)}" for name, rate in measured.gemm.items()]
    reads = MISSING if measured.read_gb_per_s is None else _digits(measured.read_gb_per_s)
    return (
        f"{measured.threads} {'thread' if measured.threads == 1 else 'threads'}: reads {reads} GB/s from memory; "
        f"matrix product of {measured.gemm_size}: {', '.join(products)} GFLOP/s"
    )


def small(number: float) -> str:
    """A small difference: two digits, with a power of ten where they would stand far behind the point."""
    return f"{number:.2g}".replace("e-0", "e-")


def share(part: float) -> str:
    """A share of 1 in percent; never rounded up to all."""
    percent = 100 * part
    return "100 %" if part >= 1 else f"{min(percent, 99.99):.2f} %"


def near_one(number: float) -> str:
    """A cosine."""
    return f"{number:.5f}"


def count(number: int) -> str:
    """A whole number with thousands apart."""
    return f"{number:,}"


def raw_decimals(number: float) -> int:
    """Decimals of perplexities and the like: 3 below 2, 2 below 100, then 1."""
    return 3 if abs(number) < 2 else 2 if abs(number) < 100 else 1


def _decimals(number: float, places: int) -> str:
    if math.isnan(number):
        return "n/a"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    text = f"{number:,.{places}f}"
    return text.replace("-", "−") if float(f"{number:.{places}f}") else f"{0:.{places}f}"


def _digits(number: float) -> str:
    """Three significant digits, at most two decimals, thousands apart, no exponent."""
    if not math.isfinite(number):
        return _decimals(number, 1)
    if number == 0:
        return "0"
    rounded = float(f"{number:.3g}")
    places = min(2, max(0, 2 - math.floor(math.log10(abs(rounded)))))
    return f"{rounded:,.{places}f}"


def choice(rival: RivalChoice | None) -> str:
    """Why a rival stands for a task: what all had on the rows that chose it; empty where there was no choice."""
    if rival is None or len(rival.scores) < 2:
        return ""
    had = ", ".join(f"{name} {value(score, rival.scale)}" for name, score in rival.scores.items())
    rows = "validation rows" if rival.on == "validation" else "scored rows, as there are no validation rows"
    return f"{rival.chosen} is the best of {had} ({rival.metric} of {rival.rows} {rows})"
