"""Continuations: greedy, drawn, with beams; stop strings, streaming."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from fake_runtime import FakeRuntime

from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.beam import beam_rows
from lmtasks.engine.decode import EncodedPrompt, TokenStep
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import Generated, GenerateRequest, ScoreRequest, TokenEvent
from lmtasks.engine.rows_together import RowsTogether
from lmtasks.errors import UsageError, WorkError
from lmtasks.settings.generation import Decoding

TOKENIZER = train_byte_bpe(["a cat sat", "a hat"], vocabulary=265)
SPECIAL = (0, 1, 2)
END = TOKENIZER.encode("<|endoftext|>")[0]
# A small alphabet makes stop strings likely; byte tokens of these letters.
LETTERS = [TOKENIZER.encode(letter)[0] for letter in "abc \n"]
OTHERS = [token for token in range(TOKENIZER.vocabulary) if token not in (*LETTERS, END)]


def fake(**settings: object) -> FakeRuntime:
    given: dict[str, object] = {"sharpness": 1.5, **settings}
    return FakeRuntime(vocabulary=TOKENIZER.vocabulary, **given)  # type: ignore[arg-type]


def engine(runtime: FakeRuntime, **limits: int) -> Engine:
    return Engine(runtime, TOKENIZER, **limits)  # type: ignore[arg-type]


def requests(settings: Decoding, count: int = 12) -> list[GenerateRequest]:
    chooser = random.Random(3)
    return [
        GenerateRequest(
            prompt_ids=tuple(chooser.randrange(3, 200) for _ in range(chooser.randrange(1, 9))), settings=settings
        )
        for _ in range(count)
    ]


SETTINGS = {
    "greedy": Decoding(max_new_tokens=12),
    "penalty": Decoding(max_new_tokens=12, repetition_penalty=1.5),
    "drawn": Decoding(max_new_tokens=12, temperature=0.9, top_k=50, top_p=0.9),
    "beams": Decoding(max_new_tokens=8, num_beams=3),
    "stops": Decoding(max_new_tokens=12, temperature=1.0, stop=("ab", " \n")),
    "beams with stops": Decoding(max_new_tokens=8, num_beams=3, stop=("ab", " \n")),
}


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_answers_do_not_depend_on_batch_or_order(settings: Decoding, kind: str) -> None:
    asked = [replace(request, number=number) for number, request in enumerate(requests(settings))]
    banned = OTHERS if settings.stop else ()
    alone = engine(fake(kind=kind, banned=banned), rows_per_batch=1).generate(asked)
    assert engine(fake(kind=kind, banned=banned)).generate(asked) == alone
    assert engine(fake(kind=kind, banned=banned), tokens_per_batch=60).generate(asked) == alone
    assert engine(fake(kind=kind, banned=banned)).generate(asked[::-1])[::-1] == alone
    assert engine(fake(kind=kind, banned=banned), rows_per_batch=3).generate(asked) == alone
    assert engine(fake(kind=kind, banned=banned, keeps_slots=False), rows_per_batch=3).generate(asked) == alone
    assert engine(fake(kind=kind, banned=banned, callers=2), rows_per_batch=3).generate(asked) == alone


@pytest.mark.parametrize("callers", [1, 2])
def test_the_number_of_texts_written_together_is_chosen_and_changes_no_text(
    callers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(Decoding(max_new_tokens=20), count=150)
    alone = engine(fake(banned=[END]), rows_per_batch=1).generate(asked)
    runtime = fake(banned=[END], callers=callers)
    monkeypatch.setattr(RowsTogether, "took", _measured(RowsTogether.took))
    chooses = engine(runtime)
    assert chooses.generate(asked) == alone
    assert chooses.rows_together(28) == 32
    assert set(runtime.calls.steps) >= {16, 32, 64}
    runtime.calls.steps.clear()
    assert chooses.generate(asked) == alone
    assert max(runtime.calls.steps) == 32  # what was found out holds
    assert chooses.rows_together(1000) == 8  # longer texts are others, and memory has room for fewer
    assert engine(runtime, rows_per_batch=5).rows_together(28) == 5


def _measured(took: Callable[[RowsTogether, int, float], None]) -> Callable[[RowsTogether, int, float], None]:
    """Of 32 rows a row's token is cheapest, and of 64 hardly cheaper."""
    seconds = {16: 0.16, 32: 0.2, 64: 0.39}
    return lambda choice, rows, _: took(choice, rows, seconds.get(rows, 1.0))


@pytest.mark.parametrize("rows", [1, 2, 12, 30])
def test_what_memory_has_room_for_is_remembered(rows: int) -> None:
    """Rows that did not fit are not tried again, whether somebody asked for them or the engine chose them."""
    asked = requests(Decoding(max_new_tokens=12), count=60)
    plenty = engine(fake(banned=[END])).generate(asked)
    runtime = fake(banned=[END], most_tokens=rows * 20)
    tight = engine(runtime)
    assert tight.generate(asked) == plenty
    refused = runtime.calls.refused
    assert tight.generate(asked) == plenty
    assert runtime.calls.refused <= max(1, refused)


def test_rows_that_wait_take_the_places_of_those_that_are_finished() -> None:
    settings = [Decoding(max_new_tokens=new) for new in (2, 12, 3, 12, 2, 5, 1, 9)]
    asked = [GenerateRequest(prompt_ids=(5 + number, 6), settings=each) for number, each in enumerate(settings)]
    joining, waiting = fake(banned=[END]), fake(banned=[END], keeps_slots=False)
    assert engine(joining, rows_per_batch=4).generate(asked) == engine(waiting, rows_per_batch=4).generate(asked)
    assert joining.calls.joined > 0
    assert sum(joining.calls.steps) == sum(waiting.calls.steps) == sum(each.max_new_tokens - 1 for each in settings)
    assert len(joining.calls.steps) <= len(waiting.calls.steps)


def test_uneven_lengths_need_fewer_steps_than_batch_after_batch() -> None:
    # One row in four is long: batch after batch, three places of four stand empty while it is written.
    asked = [
        GenerateRequest(
            prompt_ids=(5 + number, 6), settings=Decoding(max_new_tokens=40, stop=() if number % 4 == 0 else ("a",))
        )
        for number in range(32)
    ]
    only_a = [token for token in range(TOKENIZER.vocabulary) if token != LETTERS[0]]
    joining, waiting = (fake(banned=only_a, keeps_slots=keeps) for keeps in (True, False))
    assert engine(joining, rows_per_batch=4).generate(asked) == engine(waiting, rows_per_batch=4).generate(asked)
    assert sum(joining.calls.steps) == sum(waiting.calls.steps)
    assert len(joining.calls.steps) < 0.5 * len(waiting.calls.steps)


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
@pytest.mark.parametrize("keeps_slots", [True, False])
@pytest.mark.parametrize("name", ["greedy", "stops", "beams"])
@pytest.mark.parametrize("room", [24, 40, 70])
def test_no_answer_and_no_event_is_lost_where_memory_runs_out(
    kind: str, keeps_slots: bool, name: str, room: int
) -> None:
    asked = [replace(request, number=number) for number, request in enumerate(requests(SETTINGS[name]))]
    settings: dict[str, object] = {
        "kind": kind,
        "keeps_slots": keeps_slots,
        "banned": OTHERS if name == "stops" else (),
    }
    alone = engine(fake(**settings), rows_per_batch=1).generate(asked)
    events: list[TokenEvent] = []
    said: list[str] = []
    small = fake(most_tokens=room, **settings)
    answers = Engine(small, TOKENIZER, tokens_per_batch=1000, warn=said.append).generate(asked, on_token=events.append)
    assert answers == alone
    assert small.calls.refused > 0
    assert len(said) == 1
    for number, answer in enumerate(answers):
        mine = [event for event in events if event.request == number]
        assert "".join(event.text for event in mine) == answer.text
        assert [event.step for event in mine] == sorted({event.step for event in mine})
    assert len([event for event in events if event.stopped]) == len(asked)


def test_a_prompt_that_does_not_fit_alone_is_named_by_its_length() -> None:
    with pytest.raises(WorkError, match="a single row of 8 tokens does not fit into memory"):
        engine(fake(most_tokens=7)).generate(requests(Decoding(max_new_tokens=4)))


def test_greedy_takes_the_most_likely_token_each_time() -> None:
    runtime = fake()
    answers = engine(runtime).generate(requests(Decoding(max_new_tokens=5)))
    scored = engine(runtime).score(
        [
            ScoreRequest(context_ids=request.prompt_ids, target_ids=answer.ids)
            for request, answer in zip(requests(Decoding()), answers, strict=True)
            if answer.ids
        ]
    )
    assert all(each.greedy for each in scored)


def test_equal_requests_run_once_unless_they_are_drawn() -> None:
    one = GenerateRequest(prompt_ids=(5, 6), settings=Decoding(max_new_tokens=6))
    runtime = fake()
    answers = engine(runtime).generate([one, one, one])
    assert len(runtime.calls.rows) == 1
    assert answers[0] == answers[1] == answers[2]
    drawn = replace(one, settings=Decoding(max_new_tokens=6, temperature=1.0))
    assert len({answer.ids for answer in engine(fake()).generate([drawn] * 6)}) > 1
    same = engine(fake()).generate([replace(drawn, number=4)] * 6)
    assert len({answer.ids for answer in same}) == 1
    other_seed = engine(fake()).generate([replace(drawn, number=4, seed=2)])
    assert other_seed[0].ids != same[0].ids


@pytest.mark.parametrize("keeps_slots", [True, False])
def test_finished_rows_leave_the_batch(keeps_slots: bool) -> None:
    runtime = fake(banned=OTHERS, keeps_slots=keeps_slots)
    answers = engine(runtime).generate(requests(Decoding(max_new_tokens=6, temperature=1.0)))
    assert {answer.stopped for answer in answers} == {"end", "length"}
    assert (runtime.calls.reorders > 0) is not keeps_slots
    # Every step was spent on rows that were still written.
    needed = sum(len(answer.ids) - (answer.stopped == "length") for answer in answers)
    assert sum(runtime.calls.steps) == needed
    assert all(END not in answer.ids for answer in answers)


def test_stop_strings_cut_the_text_across_token_borders() -> None:
    stops = ("ba", "\n", "c a")
    free = engine(fake(banned=[*OTHERS, END])).generate(requests(Decoding(max_new_tokens=30, temperature=1.0)))
    stopped = engine(fake(banned=[*OTHERS, END])).generate(
        requests(Decoding(max_new_tokens=30, temperature=1.0, stop=stops))
    )
    assert {answer.stopped for answer in stopped} >= {"stop"}
    for whole, cut in zip(free, stopped, strict=True):
        first = min((whole.text.index(stop) for stop in stops if stop in whole.text), default=None)
        assert cut.text == whole.text[:first]
        assert (cut.stopped == "stop") == (first is not None)
        assert cut.ids == whole.ids[: len(cut.ids)]
        if first is not None:  # not one token more than the stop string needs
            assert not any(stop in TOKENIZER.decode(cut.ids[:-1]) for stop in stops)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_events_join_to_the_answers(settings: Decoding) -> None:
    asked = [*requests(settings), requests(settings)[0]]
    asked = [replace(request, number=min(number, 11) % 11) for number, request in enumerate(asked)]
    events: list[TokenEvent] = []
    told: list[int] = []
    runtime = fake(banned=OTHERS if settings.stop else ())
    answers = engine(runtime, rows_per_batch=5).generate(asked, on_token=events.append, on_progress=told.append)
    assert told[-1] == len(asked)
    for number, answer in enumerate(answers):
        mine = [event for event in events if event.request == number]
        assert "".join(event.text for event in mine) == answer.text
        assert [event.stopped for event in mine] == [None] * (len(mine) - 1) + [answer.stopped]
        assert [event.step for event in mine] == sorted(event.step for event in mine)
    quiet = engine(fake(banned=OTHERS if settings.stop else ())).generate(asked)
    assert quiet == answers


def test_a_long_prompt_is_cut_on_the_left_and_counted() -> None:
    runtime = fake(max_length=10)
    settings = Decoding(max_new_tokens=4)
    long = GenerateRequest(prompt_ids=tuple(range(3, 12)), settings=settings)
    short = GenerateRequest(prompt_ids=tuple(range(6, 12)), settings=settings)
    answers = engine(runtime).generate([long, short])
    assert [answer.truncated for answer in answers] == [True, False]
    assert answers[0].ids == answers[1].ids
    assert runtime.calls.rows == [tuple(range(6, 12))]


def test_what_cannot_be_continued() -> None:
    with pytest.raises(UsageError, match="takes 10 tokens in all, prompt and answer; use at most 9"):
        engine(fake(max_length=10)).generate(requests(Decoding(max_new_tokens=10)))
    with pytest.raises(UsageError, match="takes 10 tokens in all; use at most 10"):
        engine(fake(max_length=10, kind="encoder-decoder")).generate(requests(Decoding(max_new_tokens=11)))
    with pytest.raises(UsageError, match="prompt of no tokens"):
        engine(fake()).generate([GenerateRequest(prompt_ids=(), settings=Decoding())])


# --- beams, on a vocabulary of five tokens of which one ends a text -----------------------------------------------


def best_by_brute_force(runtime: FakeRuntime, prompt: tuple[int, ...], *, longest: int, penalty: float) -> list[int]:
    """Score every text of letters, ended or at full length, and take the best."""
    allowed = [token for token in (*LETTERS[:3], END)]
    texts = [
        text
        for length in range(1, longest + 1)
        for text in product(allowed, repeat=length)
        if END not in text[:-1] and (text[-1] == END or length == longest)
    ]
    asked = [ScoreRequest(context_ids=prompt, target_ids=text) for text in texts]
    scored = engine(runtime, tokens_per_batch=100_000).score(asked)
    scores = [each.logprob / len(text) ** penalty for each, text in zip(scored, texts, strict=True)]
    best = texts[int(np.argmax(scores))]
    return [token for token in best if token != END]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_find_the_best_text(seed: int, penalty: float) -> None:
    banned = [token for token in range(TOKENIZER.vocabulary) if token not in (*LETTERS[:3], END)]
    runtime = fake(seed=seed, banned=banned, sharpness=1.0)
    settings = Decoding(max_new_tokens=4, num_beams=200, length_penalty=penalty)
    prompts = [(5, 6), (7,), (9, 10, 11)]
    answers = engine(runtime).generate([GenerateRequest(prompt_ids=each, settings=settings) for each in prompts])
    for prompt, answer in zip(prompts, answers, strict=True):
        assert list(answer.ids) == best_by_brute_force(runtime, prompt, longest=4, penalty=penalty)


def test_more_beams_find_no_worse_texts() -> None:
    def mean_score(answers: list[Generated]) -> float:
        pairs = zip(requests(Decoding()), answers, strict=True)
        asked = [ScoreRequest(context_ids=request.prompt_ids, target_ids=answer.ids) for request, answer in pairs]
        return float(np.mean([each.logprob for each in engine(runtime).score(asked)]))

    runtime = fake(banned=[END])
    scores = [
        mean_score(engine(runtime).generate(requests(Decoding(max_new_tokens=6, num_beams=beams))))
        for beams in (1, 2, 8)
    ]
    assert scores[0] < scores[1] <= scores[2]


def test_one_beam_is_greedy() -> None:
    runtime = fake(banned=OTHERS)
    asked = requests(Decoding(max_new_tokens=10, length_penalty=0.0))
    steps: dict[int, TokenStep] = {}
    beam_rows(
        runtime,
        [
            EncodedPrompt(ids=request.prompt_ids, seen=request.prompt_ids, settings=request.settings, seed=0, number=0)
            for request in asked
        ],
        pad_id=TOKENIZER.pad,
        decode=TOKENIZER.decode,
        ends=frozenset({END}),
        on_step=lambda step: steps.update({step.row: step}),
    )
    greedy = engine(runtime).generate(asked)
    found = [steps[row].answer for row in range(len(asked))]
    assert [(each.ids, each.text, each.stopped) for each in found if each] == [
        (each.ids, each.text, each.stopped) for each in greedy
    ]
