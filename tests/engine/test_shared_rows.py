"""Rows that share their beginnings."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from fake_runtime import FakeRuntime

from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import Scored, ScoreRequest
from lmtasks.engine.shared_rows import TreeLimits, build_unit, common_prefixes, group_rows, shared_lengths
from lmtasks.errors import WorkError
from lmtasks.records import Ints
from lmtasks.runtime.base import NOTHING_SHARED, Sharing

TOKENIZER = train_byte_bpe(["a cat sat", "a hat"], vocabulary=265)
SHARINGS = {
    "nothing": NOTHING_SHARED,
    "rows": Sharing(longest_row=4000),
    "rows and prefixes": Sharing(longest_row=4000, prefix=True),
}


def fake(**settings: object) -> FakeRuntime:
    return FakeRuntime(vocabulary=TOKENIZER.vocabulary, max_length=4000, **settings)  # type: ignore[arg-type]


def engine(runtime: FakeRuntime, **limits: int) -> Engine:
    return Engine(runtime, TOKENIZER, **limits)  # type: ignore[arg-type]


def tokens(count: int, *, seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(3, 200, count).tolist())


def questions(
    count: int, *, shots: int = 0, context: int = 20, choices: Sequence[int] = (3, 4, 2, 4)
) -> list[ScoreRequest]:
    """Questions with several choices behind each, all behind the same worked examples. Nothing else is shared."""
    before = tokens(shots, seed=99)
    return [
        ScoreRequest(
            context_ids=(*before, 3 + number, *tokens(context - 1 + number % 5, seed=number)),
            target_ids=(200 + choice, *tokens(length - 1, seed=1000 * number + choice)),
        )
        for number in range(count)
        for choice, length in enumerate(choices)
    ]


def mixed() -> list[ScoreRequest]:
    """Choices, one-token choices, two contexts before one text, duplicates, rows that begin others."""
    options = [ScoreRequest(context_ids=(*tokens(9, seed=1), 7 + each), target_ids=(5, 6, 8)) for each in range(2)]
    letters = [ScoreRequest(context_ids=tokens(30, seed=2), target_ids=(40 + letter,)) for letter in range(4)]
    growing = [ScoreRequest(context_ids=tokens(4, seed=3), target_ids=tokens(40, seed=4)[:end]) for end in (1, 9, 40)]
    inner = [ScoreRequest(context_ids=(*tokens(4, seed=3), *tokens(40, seed=4)[:5]), target_ids=(77, 78))]
    return [*questions(9), *options, *letters, *growing, *inner, *options[:1], *questions(40, shots=80)]


def close(one: Sequence[Scored], two: Sequence[Scored]) -> None:
    assert [each.greedy for each in one] == [each.greedy for each in two]
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(first.token_logprobs, second.token_logprobs, atol=1e-5)


@pytest.mark.parametrize("sharing", SHARINGS.values(), ids=SHARINGS.keys())
@pytest.mark.parametrize("limits", [{"rows_per_batch": 1}, {"rows_per_batch": 3}, {"tokens_per_batch": 200}, {}])
def test_answers_do_not_depend_on_what_is_shared(sharing: Sharing, limits: dict[str, int]) -> None:
    requests = mixed()
    alone = [engine(fake(sharing=NOTHING_SHARED)).score([request])[0] for request in requests]
    close(engine(fake(sharing=sharing), **limits).score(requests), alone)
    order = random.Random(0).sample(range(len(requests)), len(requests))
    shuffled = engine(fake(sharing=sharing), **limits).score([requests[index] for index in order])
    close(shuffled, [alone[index] for index in order])


def computed(runtime: FakeRuntime) -> int:
    return sum(map(len, runtime.calls.rows))


def test_a_context_is_read_once_for_all_its_choices() -> None:
    plain, shared = fake(sharing=NOTHING_SHARED), fake()
    requests = questions(50, context=60)
    close(engine(plain).score(requests), engine(shared).score(requests))
    assert computed(plain) == sum(len(each.context_ids) + len(each.target_ids) - 1 for each in requests)
    # 62 tokens of context and 9 of choices, instead of four times 64.
    assert computed(shared) == sum(len(each.context_ids) for each in requests[::4]) + 50 * (2 + 3 + 1 + 3)
    assert shared.calls.cells == 50 * (1 + 2 + 3 + 1 + 3)  # of the first tokens of all choices, one place


def test_examples_before_all_questions_are_read_once() -> None:
    shared = fake()
    requests = questions(60, shots=300)
    engine(shared).score(requests)
    behind = sum(len(each.context_ids) - 300 for each in requests[::4]) + 60 * (2 + 3 + 1 + 3)
    assert computed(shared) == 300 + behind


def test_one_token_choices_are_one_place() -> None:
    shared = fake(sharing=NOTHING_SHARED)
    requests = [ScoreRequest(context_ids=tokens(30, seed=2), target_ids=(letter,)) for letter in (40, 41, 42, 43)]
    engine(shared).score(requests)
    assert (computed(shared), shared.calls.cells) == (30, 1)


def test_windows_of_a_long_text_share_nothing_and_are_not_slowed() -> None:
    shared = fake()
    windows = [
        ScoreRequest(
            context_ids=(1,) if number == 0 else tokens(1, seed=number), target_ids=tokens(50, seed=-number - 1 & 999)
        )
        for number in range(15)
    ]
    engine(shared).score(windows)
    assert computed(shared) == 15 * 50
    assert {rows for rows, _ in shared.calls.batches} == {15}


def test_shared_rows_take_no_more_room_than_the_rows_alone() -> None:
    for rows in (1, 2, 16):
        runtime = fake()
        requests = questions(40, shots=30)
        longest = max(len(each.context_ids) + len(each.target_ids) - 1 for each in requests)
        engine(runtime, rows_per_batch=rows).score(requests)
        assert all(one * two <= rows * longest for one, two in runtime.calls.batches)


@pytest.mark.parametrize("sharing", SHARINGS.values(), ids=SHARINGS.keys())
def test_no_answer_is_lost_where_memory_runs_out(sharing: Sharing) -> None:
    requests, said = questions(30, shots=60), list[str]()
    small = fake(sharing=sharing, most_tokens=120)
    close(Engine(small, TOKENIZER, warn=said.append).score(requests), engine(fake()).score(requests))
    assert small.calls.refused > 0
    assert len(said) == 1


def test_a_row_that_does_not_fit_alone_is_named_by_its_length() -> None:
    with pytest.raises(WorkError, match="a single row of 26 tokens does not fit"):
        engine(fake(most_tokens=25)).score([ScoreRequest(context_ids=tokens(24, seed=1), target_ids=(5, 6, 7))])


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
def test_sources_are_read_once_for_all_their_targets(kind: str) -> None:
    runtime = fake(kind=kind)
    requests = questions(10, choices=(1, 1, 1, 1))
    close(engine(runtime).score(requests), [engine(fake(kind=kind)).score([each])[0] for each in requests])
    assert computed(runtime) == sum(len(each.context_ids) for each in requests[::4]) + (10 if kind != "causal" else 0)


# --- the parts ------------------------------------------------------------------------------------------------------


def ancestors(subtree_end: Ints, column: int) -> list[int]:
    return [before for before in range(column + 1) if subtree_end[before] > column]


def test_a_unit_holds_every_row_and_no_token_twice() -> None:
    chooser = random.Random(0)
    for _ in range(50):
        rows = [np.array([chooser.randrange(2) for _ in range(chooser.randrange(1, 9))]) for _ in range(8)]
        rows.sort(key=lambda row: row.tolist())
        shared = shared_lengths(rows)
        before = min(map(len, rows)) - 1 if all(row[0] == rows[0][0] for row in rows) else 0
        before = min(before, 1)
        unit = build_unit(rows, range(len(rows)), shared=shared, before=before)
        for number, columns in unit.members:
            assert unit.ids[columns].tolist() == rows[number][before:].tolist()
            if len(columns):
                assert ancestors(unit.subtree_end, int(columns[-1])) == columns.tolist()
        assert len(unit.ids) == len({tuple(row[:end]) for row in rows for end in range(before + 1, len(row) + 1)})


def test_a_row_joins_only_where_it_saves_more_than_it_costs() -> None:
    shape = TreeLimits(longest=10_000, tokens=10_000, rows=None)

    def groups(lengths: list[int], shared: int) -> list[list[int]]:
        common = [0] + [shared] * (len(lengths) - 1)
        return group_rows(lengths, range(len(lengths)), shared=common, before=0, shape=shape)

    assert len(groups([120] * 4, 110)) == 1
    assert len(groups([500] * 4, 1)) == 4  # a common start token is not worth a row of 2,000
    assert 5 < len(groups([100] * 100, 20)) < 100  # rows grow until attention costs what is saved
    assert len(groups([100] * 100, 0)) == 100


def test_prefixes_inside_each_other_are_chosen_by_what_they_save() -> None:
    # Two subjects behind a description of 50 tokens, each with examples of 400 tokens, and 60 questions of 30.
    shared = [0, *[450] * 59, 50, *[450] * 59]
    runs = common_prefixes([480] * 120, wanted_from=[470] * 120, shared=shared)
    assert [(run.start, run.stop, run.before) for run in runs] == [(0, 60, 450), (60, 120, 450)]
    # Without examples of their own, the description is what is shared.
    runs = common_prefixes([80] * 120, wanted_from=[70] * 120, shared=[0, *[50] * 119])
    assert [(run.start, run.stop, run.before) for run in runs] == [(0, 120, 50)]
    # What is wanted must stand behind the prefix, and a handful of rows is no reason for one.
    assert common_prefixes([480] * 60, wanted_from=[20] * 60, shared=[0, *[450] * 59])[0].before == 0
    assert common_prefixes([480] * 4, wanted_from=[470] * 4, shared=[0, 450, 450, 450])[0].before == 0
    assert common_prefixes([], wanted_from=[], shared=[]) == []
