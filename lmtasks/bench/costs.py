"""The price of answers: of a server by tokens (`--price IN,OUT`), of a machine by the hour (`--price-hour`).

A price for tokens is of a million of them, read and written. An answer of a task counts all that is asked for it: four
requests for a choice among four. Tokens are those that the server bills, where it tells them (`usage`), else those that
were sent. A price by the hour is of the whole machine: an answer costs its core-seconds' share of it; on a GPU the
machine is taken as busy while it answers. No currency is meant where none is named.

>>> parse_token_price("0.15, 0.60 USD")
TokenPrice(read=0.15, written=0.6, currency='USD')
>>> parse_hour_price("1.2")
HourPrice(price=1.2, currency='')
"""

import re
from dataclasses import dataclass
from statistics import fmean

from lmtasks.errors import UsageError
from lmtasks.results.speed import CostRecord, SpeedRecord, Timing

NUMBER = r"(\d+(?:\.\d+)?)"
CURRENCY = r"(?:\s*([^\W\d_]{1,8}|[$€£¥]))?"
TOKENS = re.compile(rf"^\s*{NUMBER}\s*,\s*{NUMBER}{CURRENCY}\s*$")
HOUR = re.compile(rf"^\s*{NUMBER}{CURRENCY}\s*$")
ANSWERS = 1000
"""A price is of so many."""
A_MILLION = 1_000_000
AN_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class TokenPrice:
    """The price of a million tokens."""

    read: float
    written: float
    currency: str = ""


@dataclass(frozen=True, kw_only=True)
class HourPrice:
    """The price of an hour of the machine, with all its cores."""

    price: float
    currency: str = ""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices that answers are reckoned with."""

    tokens: TokenPrice | None = None
    hour: HourPrice | None = None


NO_PRICES = Prices()


def parse_token_price(text: str) -> TokenPrice:
    """`IN,OUT`, with a currency behind it or without.

    Raises:
        UsageError: it is no pair of numbers.
    """
    found = TOKENS.match(text)
    if found is None:
        raise UsageError(
            f"--price is IN,OUT: what a million tokens cost that are read, and that are written, as 0.15,0.60 or "
            f"'0.15,0.60 USD'; was {text!r}."
        )
    return TokenPrice(read=float(found[1]), written=float(found[2]), currency=found[3] or "")


def parse_hour_price(text: str) -> HourPrice:
    """A number, with a currency behind it or without.

    Raises:
        UsageError: it is none.
    """
    found = HOUR.match(text)
    if found is None:
        raise UsageError(f"--price-hour is what an hour of this machine costs, as 1.20 or '1.20 USD'; was {text!r}.")
    return HourPrice(price=float(found[1]), currency=found[2] or "")


def parse_prices(*, tokens: str, hour: str) -> Prices:
    """Both prices as options have them; empty: not given.

    Raises:
        UsageError: one is no price.
    """
    return Prices(tokens=parse_token_price(tokens) if tokens else None, hour=parse_hour_price(hour) if hour else None)


def priced(record: SpeedRecord, prices: Prices) -> SpeedRecord:
    """The record with the cost of 1,000 answers to each task, at the largest batch; of a server by tokens, of anything
    else by the hour. None where no price is given that suits it."""
    largest: dict[str, Timing] = {}
    for timing in record.timings:
        if timing.task not in largest or timing.batch_size > largest[timing.task].batch_size:
            largest[timing.task] = timing
    found = (
        _by_tokens(record, timing, prices.tokens) if record.is_server else _by_hour(record, timing, prices.hour)
        for timing in largest.values()
    )
    return record.model_copy(update={"costs": tuple(each for each in found if each is not None)})


def _by_tokens(record: SpeedRecord, timing: Timing, price: TokenPrice | None) -> CostRecord | None:
    if price is None:
        return None
    billed = timing.billed
    runtime = record.runtime
    if billed is None and (runtime is None or runtime.options.get("asked") != "token ids"):
        return None  # nobody knows its tokens
    read = billed.read if billed is not None else fmean(timing.read_tokens or (0,))
    written = billed.written if billed is not None else float(timing.new_tokens)
    asked = timing.requests_per_example
    per_answer = asked * (read * price.read + written * price.written) / A_MILLION
    whose = "as the server bills them" if billed is not None else "as they were sent"
    return CostRecord(
        task=timing.task,
        per_1000=ANSWERS * per_answer,
        currency=price.currency,
        how=f"{_number(asked * read)} tokens read and {_number(asked * written)} written an answer, {whose}",
    )


def _by_hour(record: SpeedRecord, timing: Timing, price: HourPrice | None) -> CostRecord | None:
    if price is None or not timing.examples_per_s:
        return None
    seconds = 1 / timing.examples_per_s
    cores = record.machine.get("cores_usable")
    threads = record.threads or 1
    if record.variant.device == "cpu" and isinstance(cores, int) and cores >= threads:
        seconds *= threads / cores
        how = f"{threads / timing.examples_per_s:.4g} core-seconds an answer on {cores} cores"
    else:
        how = f"{seconds:.4g} s of the machine an answer"
    return CostRecord(
        task=timing.task,
        per_1000=ANSWERS * seconds * price.price / AN_HOUR,
        currency=price.currency,
        how=f"{how}, at batch {timing.batch_size}",
    )


def _number(value: float) -> str:
    """
    >>> _number(1234.5), _number(12.345678)
    ('1,234', '12.35')
    """
    return f"{value:,.0f}" if value >= ANSWERS else f"{value:.4g}"
