import math

import pytest

from lmtasks.report import format as show


@pytest.mark.parametrize(
    ("number", "scale", "shown"),
    [
        (0.8131, "fraction", "81.3"),
        (0.0, "fraction", "0.0"),
        (-0.0002, "fraction", "0.0"),
        (-0.12, "fraction", "−12.0"),
        (99.96, "points", "100.0"),
        (1.2345, "raw", "1.234"),
        (14.268, "raw", "14.27"),
        (1234.56, "raw", "1,234.6"),
        (math.inf, "raw", "∞"),
        (math.nan, "raw", "n/a"),
    ],
)
def test_values(number: float, scale: str, shown: str) -> None:
    assert show.value(number, "fraction" if scale == "fraction" else "points" if scale == "points" else "raw") == shown


def test_an_even_interval_is_plus_minus_and_an_uneven_one_has_two_ends() -> None:
    assert show.uncertainty(0.5, (0.45, 0.55), "fraction") == "±5.0"
    assert show.uncertainty(0.99, (0.95, 1.0), "fraction") == "[95.0, 100.0]"
    assert show.uncertainty(20.0, (19.1, 20.98), "points") == "±0.9"
    assert show.uncertainty(0.5, None, "fraction") == ""
    assert show.uncertainty(math.inf, (1.0, 2.0), "raw") == ""


@pytest.mark.parametrize(
    ("ms", "shown"), [(0.0621, "0.06 ms"), (9.999, "10.0 ms"), (999.0, "999 ms"), (61_234.0, "61.2 s"), (None, "–")]
)
def test_latencies(ms: float | None, shown: str) -> None:
    assert show.milliseconds(ms) == shown


def test_sizes_times_and_rates() -> None:
    assert show.size(999) == "999 B"
    assert show.size(1_234_000_000) == "1.23 GB"
    assert show.duration(7265) == "2 h 1 min"
    assert show.rate(123_456) == "123,000"
    assert show.rate(0) == "0"
    assert show.rate_uncertainty(100.0, (90.0, 105.0)) == "±10.0"
    assert show.ratio(None) == "–"
    assert show.difference(-2.37) == "−2.4"
