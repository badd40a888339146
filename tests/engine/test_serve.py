"""Texts that come while others are being written."""

from collections.abc import Sequence

import pytest
from test_generate import END, engine, fake, requests

from lmtasks.engine.requests import GenerateRequest, TokenEvent
from lmtasks.errors import UsageError
from lmtasks.settings.generation import Decoding

SETTINGS = Decoding(max_new_tokens=12)
LENGTH = 32


class Arrivals:
    """Gives some requests at a time, at every so many-th question, or when nothing is being written."""

    def __init__(self, asked: Sequence[GenerateRequest], *, at_once: int, every: int) -> None:
        self.left, self.at_once, self.every, self.count = list(asked), at_once, every, 0

    def __call__(self, idle: bool) -> list[GenerateRequest] | None:
        self.count += 1
        if not self.left:
            return None
        if not idle and self.count % self.every:
            return []
        coming, self.left = self.left[: self.at_once], self.left[self.at_once :]
        return coming


@pytest.mark.parametrize(("at_once", "every", "rows"), [(1, 3, 4), (5, 2, 3), (12, 1, 16), (1, 50, 2)])
def test_answers_are_those_of_generate_whoever_joins(at_once: int, every: int, rows: int) -> None:
    asked = requests(SETTINGS)
    expected = engine(fake(banned=[END])).generate(asked)
    runtime, heard = fake(banned=[END]), dict[int, list[TokenEvent]]()
    engine(runtime).serve(
        Arrivals(asked, at_once=at_once, every=every),
        rows=rows,
        length=LENGTH,
        on_token=lambda event: heard.setdefault(event.request, []).append(event),
    )
    assert ["".join(event.text for event in heard[number]) for number in range(len(asked))] == [
        answer.text for answer in expected
    ]
    for events in heard.values():
        assert [event.step for event in events] == list(range(12))
        assert [event.stopped for event in events] == [None] * 11 + ["length"]
    assert max(runtime.calls.steps) <= rows
    if (at_once, every) == (1, 3):
        assert runtime.calls.joined > 0


def test_what_cannot_be_served_is_refused() -> None:
    hear = print
    assert engine(fake()).joins()
    assert not engine(fake(keeps_slots=False)).joins()
    with pytest.raises(UsageError, match="native cannot let texts of fake join others"):
        engine(fake(keeps_slots=False)).serve(lambda idle: None, rows=1, length=LENGTH, on_token=hear)
    beams = GenerateRequest(prompt_ids=(3,), settings=Decoding(max_new_tokens=4, num_beams=2))
    long = GenerateRequest(prompt_ids=(3,) * 30, settings=Decoding(max_new_tokens=4))
    for wrong in (beams, long):
        with pytest.raises(UsageError, match="request 0 has beams, or more than the 32 tokens of a place"):
            engine(fake()).serve(Arrivals([wrong], at_once=1, every=1), rows=1, length=LENGTH, on_token=hear)


def test_nothing_that_comes_is_nothing_that_is_written() -> None:
    runtime = fake()
    engine(runtime).serve(lambda idle: None, rows=2, length=LENGTH, on_token=print)
    assert runtime.calls.steps == []
