"""The runtime over emitted causal graphs: caches that grow, rows that come and go, states that share, and refusals."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from packed import package, padded, random_rows, runtime, score_all

import lmtasks.runtime.onnx.causal
import lmtasks.runtime.onnx.decoder
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest
from lmtasks.errors import UsageError, WorkError
from lmtasks.export.emit import export_model
from lmtasks.export.package import load_package
from lmtasks.records import Floats32, TokenBatch, TokenTargets
from lmtasks.runtime.memory import OutOfMemory
from lmtasks.runtime.onnx.causal import OnnxCausalRuntime
from lmtasks.runtime.onnx.decoder import Caches
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.open import open_runtime
from lmtasks.runtime.torch.capability_probes import branches_agree, prefix_agrees, slots_agree
from lmtasks.settings.generation import Decoding

NAMES = ("llama", "gpt2")
CLOSE = 2e-5

over_models = pytest.mark.parametrize("name", NAMES)


@cache
def causal(name: str, *, threads: int = 1) -> OnnxCausalRuntime:
    return OnnxCausalRuntime(Graphs(load_package(package(name)), threads=threads))


def alone(name: str, row: list[int]) -> Floats32:
    """What torch says behind a row."""
    logits: Floats32 = runtime("torch", name).prefill(padded([row]))[1][0]
    return logits


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory holds what would spoil every answer that it got into, and a cache grows at almost every step."""

    empty = Caches._empty

    def filled(self: Caches, name: str, *, rows: int, columns: int) -> Floats32:
        array = empty(self, name, rows=rows, columns=columns)
        array.fill(np.nan)
        return array

    monkeypatch.setattr(Caches, "_empty", filled)
    monkeypatch.setattr(lmtasks.runtime.onnx.decoder, "BLOCK", 2)
    monkeypatch.setattr(lmtasks.runtime.onnx.decoder, "GROWTH", 1.0)


@over_models
def test_it_shares_all_that_can_be_shared(name: str) -> None:
    ours = causal(name)
    assert ours.sharing.longest_row == ours.model.max_length_tokens
    assert ours.sharing.prefix
    assert branches_agree(ours)
    assert prefix_agrees(ours)


@over_models
@pytest.mark.parametrize("chunk", [512, 3])
def test_rows_come_and_go_in_caches_that_grow(
    name: str, chunk: int, noise: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmtasks.runtime.onnx.decoder, "CHUNK", chunk)
    ours = causal(name)
    assert slots_agree(ours, lambda: ours.slots(rows=3, length=12), joins=True)
    rows = random_rows(7, 1, 12, 4, 9, seed=5)
    slots = ours.slots(rows=3, length=25)
    written = [list(row) for row in rows]
    waiting, writing = list(range(3, 5)), [0, 1, 2]
    logits = slots.fill(padded(rows[:3], "left"))
    for step in range(24):
        for number, found in zip(writing, logits, strict=True):
            np.testing.assert_allclose(found, alone(name, written[number]), atol=CLOSE, rtol=1e-4)
        if step in (3, 4, 9, 15):
            gone = step % len(writing)
            slots.leave(gone)
            writing[gone] = writing[-1]
            writing.pop()
        if step in (6, 11):
            came = waiting.pop()
            logits = slots.fill(padded([rows[came]]))
            np.testing.assert_allclose(logits[0], alone(name, rows[came]), atol=CLOSE, rtol=1e-4)
            writing.append(came)
        new = np.arange(len(writing)) + 11 * step
        for number, token in zip(writing, new.tolist(), strict=True):
            written[number].append(token)
        logits = slots.step(new)
    assert max(map(len, written)) == 25  # a place was filled to its end


@over_models
def test_a_state_may_be_continued_again_whatever_became_of_it(name: str, noise: None) -> None:
    ours, rows = causal(name), random_rows(5, 2, 9, 3, seed=2)
    first, logits = ours.prefill(padded(rows, "left"))
    for found, row in zip(logits, rows, strict=True):
        np.testing.assert_allclose(found, alone(name, row), atol=CLOSE, rtol=1e-4)

    def check(state: object, told: list[list[int]], token: int) -> object:
        """Continue a state by tokens from `token` on, and compare with what was told to it so far."""
        new = token + np.arange(len(told))
        after, answers = ours.step(state, new)  # type: ignore[arg-type]
        for answer, row, last in zip(answers, told, new.tolist(), strict=True):
            np.testing.assert_allclose(answer, alone(name, [*row, last]), atol=CLOSE, rtol=1e-4)
        return after

    check(first, rows, 20)
    check(first, rows, 30)  # the first one had its place; this one gets its own
    order = np.array([2, 2, 0, 3])
    moved = ours.reorder(first, order)
    after = check(moved, [rows[row] for row in order], 40)
    check(moved, [rows[row] for row in order], 50)
    check(first, rows, 60)
    del first, moved  # now nobody else needs its cache, and rows are moved in it
    told = [[*rows[row], 40 + place] for place, row in enumerate(order.tolist())]
    for step, order in enumerate(([3, 0, 3], [2, 1, 1, 0], [0], [0, 0, 0, 0, 0])):
        after = ours.reorder(after, np.array(order))  # type: ignore[arg-type]
        told = [told[row] for row in order]
        again = check(after, told, 70 + 10 * step)
        check(after, told, 7 + step)
        after, told = again, [[*row, 70 + 10 * step + place] for place, row in enumerate(told)]


def test_rows_that_are_kept_lie_still(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, moves = causal("llama"), list[tuple[int, int]]()
    move = Caches.move

    def counted(self: Caches, source: int, target: int, *, columns: int) -> None:
        moves.append((source, target))
        move(self, source, target, columns=columns)

    monkeypatch.setattr(Caches, "move", counted)
    monkeypatch.setattr(Caches, "picked", None)
    state, _ = ours.prefill(padded(random_rows(5, 2, 9, 3)))
    state = ours.reorder(state, np.array([3, 1, 1, 0]))
    state, _ = ours.step(state, np.arange(4))
    assert moves == [(1, 2)]
    state = ours.reorder(state, np.array([3, 0]))
    state, _ = ours.step(state, np.arange(2))
    assert moves == [(1, 2), (3, 1)]  # the last row stood behind the first two


@over_models
def test_a_prefix_is_read_where_it_lies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows behind one state, with trees in them, in one row or in several."""
    ours = causal(name)
    (prefix,) = random_rows(20, seed=8)
    rows = random_rows(9, 4, 1, 12, 7, 3, seed=9)
    state, _ = ours.prefill(padded([prefix]))
    subtree_end = np.zeros((6, 12), dtype=np.int64)
    for number, row in enumerate(rows):
        subtree_end[number, : len(row)] = len(row)
    subtree_end[3, 4:8] = 8  # columns 4 to 7 are a branch of their own; 8 to 11 stand behind 0 to 3
    members = [*rows[:3], rows[3][:8], *rows[4:]]
    asked = [(row, column) for row, member in enumerate(members) for column in range(len(member))]
    asked += [(3, column) for column in range(8, 12)]
    other = [*rows[3][:4], *rows[3][8:]]
    wanted = sevens(asked)
    answers = []
    for most in (512, 10):
        monkeypatch.setattr(lmtasks.runtime.onnx.causal, "PACKED_TOKENS", most)
        answers.append(ours.score(padded(rows), wanted, subtree_end=subtree_end, prefix_state=state))
    np.testing.assert_allclose(answers[0].logprobs, answers[1].logprobs, atol=CLOSE)
    place_of = {cell: number for number, cell in enumerate(asked)}
    for number, member in enumerate([*members, other]):
        whole = [*prefix, *member, 7]
        for at in range(len(member)):
            row, column = (3, at if at < 4 else at + 4) if number == 6 else (number, at)
            logits = alone(name, whole[: len(prefix) + at + 1]).astype(np.float64)
            expected = logits[7] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
            assert answers[0].logprobs[place_of[row, column]] == pytest.approx(expected, abs=CLOSE)


def sevens(cells: list[tuple[int, int]]) -> TokenTargets:
    """Token 7 behind places."""
    rows, columns = zip(*cells, strict=True)
    return TokenTargets(rows=np.array(rows), columns=np.array(columns), tokens=np.full(len(cells), 7))


def test_scoring_in_small_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = padded(random_rows(9, 2, 17, 5))
    whole = score_all(causal("gpt2"), rows)
    monkeypatch.setattr(lmtasks.runtime.onnx.causal, "LOGITS_BYTES", 1)
    np.testing.assert_allclose(score_all(causal("gpt2"), rows).logprobs, whole.logprobs, atol=CLOSE)


@over_models
def test_what_does_not_suit_is_said(name: str) -> None:
    ours = causal(name)
    long, short = random_rows(66, 3)
    too_long = r"a row has 65 tokens, but .* takes 64; cut it"
    with pytest.raises(UsageError, match=too_long):
        ours.prefill(padded([long[:65], short]))
    if ours.model.heads:
        with pytest.raises(UsageError, match=too_long):
            ours.predict("mood", padded([long[:65], short]))
    with pytest.raises(UsageError, match=too_long):
        score_all(ours, padded([long]))  # its last token is not read
    state, _ = ours.prefill(padded([long[:64], short]))
    with pytest.raises(UsageError, match=too_long):
        ours.step(state, np.array([1, 2]))
    none = TokenBatch(ids=np.zeros((0, 3), dtype=np.int64), mask=np.zeros((0, 3), dtype=np.bool_))
    with pytest.raises(UsageError, match="a batch of no rows was given"):
        ours.prefill(none)
    hollow = TokenBatch(ids=np.zeros((2, 3), dtype=np.int64), mask=np.array([[True] * 3, [False] * 3]))
    with pytest.raises(UsageError, match="row 1 of a batch of 2 has no tokens"):
        ours.prefill(hollow)
    with pytest.raises(UsageError, match="is a causal model; it reads no source"):
        ours.score(padded([short]), sevens([(0, 1)]), source=padded([short]))


def test_a_cache_that_cannot_grow_fails_its_request_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory ends at some number of bytes: rows are written in smaller groups, and come out the same."""
    folder = package("llama")
    tokenizer = load_tokenizer(folder)
    asked = [
        GenerateRequest(prompt_ids=tuple(row), settings=Decoding(max_new_tokens=40))
        for row in random_rows(9, 2, 17, 5, 11, 3)
    ]
    plain = Engine(causal("llama"), tokenizer, ends=frozenset()).generate(asked)
    monkeypatch.setattr(lmtasks.runtime.onnx.decoder, "BLOCK", 8)
    room, refused = 3_000, list[int]()
    empty = Caches._empty

    def limited(self: Caches, name: str, *, rows: int, columns: int) -> Floats32:
        array = empty(self, name, rows=rows, columns=columns)
        if array.size > room:
            refused.append(array.size)
            raise MemoryError
        return array

    monkeypatch.setattr(Caches, "_empty", limited)
    said: list[str] = []
    engine = Engine(causal("llama"), tokenizer, ends=frozenset(), warn=said.append)
    assert engine.generate(asked) == plain
    assert refused
    assert len(said) == 1
    assert "memory ran out" in said[0]
    room = 500
    with pytest.raises(WorkError, match=r"a single row of .* tokens does not fit into memory"):
        engine.generate(asked)
    room = 3_000
    assert engine.generate(asked) == plain
    caches = Caches({"key": (2, 8)}, rows=2, columns=4)
    caches.arrays["key"][:] = 3
    with pytest.raises(OutOfMemory, match="making room for 2 rows of 512 tokens"):
        caches.grow(rows=2, columns=512, most=512, kept=2)
    assert caches.columns == 4
    assert (caches.arrays["key"] == 3).all()


@pytest.mark.slow  # a model of real size
def test_the_shipped_model_writes_torchs_512_tokens(tmp_path: Path) -> None:
    """Prompts from one token up; a first difference only where torch's two best lie within 1e-4."""
    folder = Path(lmtasks.__file__).parent / "backbone" / "presets" / "lmtasks-mini"
    export_model(folder, out=tmp_path, precision="fp32", report=lambda progress: None)
    ours = open_runtime(tmp_path, runtime="onnx", threads=1)
    theirs = open_runtime(folder, runtime="torch", threads=1)
    start = padded([[load_tokenizer(folder).encode("The")[0]]])
    (one, wanted), (two, found) = theirs.prefill(start), ours.prefill(start)
    for step in range(512):
        token = wanted.argmax(axis=1)
        if found.argmax() != token[0]:
            best = np.sort(wanted[0])[-2:]
            assert best[1] - best[0] < 1e-4
            break
        if step < 511:
            (one, wanted), (two, found) = theirs.step(one, token), ours.step(two, token)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["int8", "int8-tensor", "w8", "int4"])
def test_every_precision_is_proved_and_rows_stand_for_themselves(name: str, precision: str) -> None:
    folder = package(name, precision)  # fails where the proof does
    assert load_package(folder).parity["ok"]
    ours = open_runtime(folder, runtime="onnx", threads=1)
    rows = random_rows(9, 2, 17, 5)
    together = ours.prefill(padded(rows))[1]
    if precision != "int8-tensor":
        for row, logits in zip(rows, together, strict=True):
            np.testing.assert_allclose(ours.prefill(padded([row]))[1][0], logits, atol=2e-3)
