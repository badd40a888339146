"""The contract of runtimes: every member of the ABC, over every driver. A driver that is missing here fails a test.

What a model says is compared with what the same driver says of single rows; that those are right is proved against
transformers in `test_runtimes.py`, and for families of our own in their drivers' tests.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from packed import model_folder, native_folder, package, padded, random_rows, runtime, score_all

from lmtasks.errors import UsageError
from lmtasks.export.package import load_package
from lmtasks.head import head_of
from lmtasks.model.store import load_model
from lmtasks.records import TokenBatch, TokenTargets
from lmtasks.runtime.align import every_next
from lmtasks.runtime.base import DecodingState, Runtime
from lmtasks.runtime.driver import Driver
from lmtasks.runtime.native import NativeRuntime
from lmtasks.runtime.onnx.causal import OnnxCausalRuntime
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.recurrent import OnnxRecurrentRuntime
from lmtasks.runtime.onnx.seq2seq import OnnxSeq2SeqRuntime
from lmtasks.runtime.onnx.traced import OnnxTracedRuntime
from lmtasks.runtime.open import open_runtime
from lmtasks.runtime.openvino.graphs import OpenVinoRuntime
from lmtasks.runtime.torch.capability_probes import branches_agree, prefix_agrees, slots_agree
from lmtasks.runtime.torch.own_families import OwnFamilyRuntime
from lmtasks.runtime.torch.transformer import TorchRuntime

CLOSE = 1e-4
ROWS = random_rows(6, 2, 9, 4)


def compiled() -> Runtime:
    """What is traced is tested; turning it into machine code takes a minute, and is torch's own work."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
        return open_runtime(model_folder("llama"), runtime="torch-compile", threads=1)


OPENED: Mapping[str, tuple[type[Runtime], Callable[[], Runtime]]] = {
    "torch causal": (TorchRuntime, lambda: runtime("torch", "llama")),
    "torch encoder": (TorchRuntime, lambda: runtime("torch", "bert")),
    "torch encoder-decoder": (TorchRuntime, lambda: runtime("torch", "marian")),
    "torch-compile": (TorchRuntime, compiled),
    **{f"torch {name}": (TorchRuntime, functools.partial(runtime, "torch", name)) for name in ("gpt2", "bart", "t5")},
    "own recurrent": (OwnFamilyRuntime, lambda: runtime("torch", "gru")),
    "own encoder": (OwnFamilyRuntime, lambda: runtime("torch", "cnn")),
    "onnx causal": (OnnxCausalRuntime, lambda: runtime("onnx", "llama")),
    "onnx encoder": (OnnxTracedRuntime, lambda: runtime("onnx", "bert")),
    "onnx traced": (OnnxTracedRuntime, lambda: runtime("onnx", "blenderbot")),
    "onnx encoder-decoder": (OnnxSeq2SeqRuntime, lambda: runtime("onnx", "marian")),
    "onnx gpt2": (OnnxCausalRuntime, lambda: runtime("onnx", "gpt2")),
    "onnx bart": (OnnxSeq2SeqRuntime, lambda: runtime("onnx", "bart")),
    "onnx t5": (OnnxSeq2SeqRuntime, lambda: runtime("onnx", "t5")),
    "onnx recurrent": (OnnxRecurrentRuntime, lambda: runtime("onnx", "gru")),
    "openvino encoder": (OpenVinoRuntime, lambda: runtime("openvino", "bert")),
    "native": (NativeRuntime, lambda: open_runtime(native_folder(), runtime="native")),
}
"""Every driver with every kind of model that it runs, and every kind of positions."""
HEADS_ALONE = ("torch encoder", "own encoder", "onnx encoder", "openvino encoder")
WRITING = tuple(name for name in OPENED if name not in HEADS_ALONE)

COMPILED_FIRST = ("onnx traced", "torch-compile")
"""torch's exporter and compiler take seconds."""


NEEDS_OPENVINO = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def _marked(names: Iterable[str]) -> list[object]:
    def marks(name: str) -> list[pytest.MarkDecorator]:
        slow = [pytest.mark.slow] if name in COMPILED_FIRST else []
        return [*slow, NEEDS_OPENVINO] if name.startswith("openvino") else slow

    return [pytest.param(name, marks=marks(name)) for name in names]


over_all = pytest.mark.parametrize("name", _marked(OPENED))
over_writing = pytest.mark.parametrize("name", _marked(WRITING))


@cache
def opened(name: str) -> Runtime:
    return OPENED[name][1]()


def rows_of(ours: Runtime) -> list[list[int]]:
    """Tokens that the model knows."""
    return [[token % ours.model.vocabulary for token in row] for row in ROWS]


def source_of(ours: Runtime, rows: list[list[int]]) -> TokenBatch | None:
    return padded(rows) if ours.model.kind == "encoder-decoder" else None


def test_every_driver_and_every_member_stands_here() -> None:
    def drivers(kind: type[Runtime]) -> Iterator[type[Runtime]]:
        for child in kind.__subclasses__():
            if child.__module__.startswith("lmtasks."):
                yield from ([] if child.__abstractmethods__ else [child])
                yield from drivers(child)

    assert set(drivers(Driver)) == {driver for driver, _ in OPENED.values()}
    members = {name for name in {**vars(Runtime), **Runtime.__annotations__} if not name.startswith("_")}
    assert members == {
        *("model", "card", "sharing", "predict", "predict_heads", "score", "prefill", "step", "reorder", "slots"),
        "next_logprobs",
        *("for_concurrent_calls", "reading_callers", "measures_callers", "free_bytes", "close"),
    }


@over_all
def test_the_cards_name_model_and_runtime(name: str) -> None:
    ours = opened(name)
    assert isinstance(ours, OPENED[name][0])
    assert ours.card.runtime == ("torch" if name.startswith("own") else name.split()[0])
    assert (ours.card.device, ours.card.precision, ours.card.threads) == ("cpu", "fp32", 1)
    assert ours.card.size_bytes > 0
    assert ours.card.version
    assert ours.model.vocabulary > 0


@over_all
def test_heads_answer_for_rows_as_for_each_alone(name: str) -> None:
    ours = opened(name)
    rows = rows_of(ours)
    for spec in (spec for spec in ours.model.heads if spec.predicts):
        kind = head_of(spec)
        alone = [ours.predict(spec.name, padded([row]))[0] for row in rows]
        for side in ("right", "left"):
            batch = padded(rows, side)
            found = ours.predict(spec.name, batch)
            for number, wanted in enumerate(alone):
                mine = found[number][batch.mask[number]] if kind.per_token else found[number]
                np.testing.assert_allclose(mine, wanted, atol=CLOSE)
            if kind.per_token:
                assert (found[~batch.mask] == kind.padding).all()


@over_all
def test_several_heads_answer_as_each_alone(name: str) -> None:
    ours = opened(name)
    heads = [spec.name for spec in ours.model.heads if spec.predicts]
    batch = padded(rows_of(ours))
    if not heads:
        return
    for head, found in zip(heads, ours.predict_heads(heads, batch), strict=True):
        np.testing.assert_allclose(found, ours.predict(head, batch), atol=1e-6)
    with pytest.raises(UsageError):
        ours.predict_heads([*heads, "nothing"], batch)


@over_all
def test_a_wrong_head_or_batch_is_refused(name: str) -> None:
    ours = opened(name)
    assert isinstance(ours, Driver)
    rows = padded(rows_of(ours))
    with pytest.raises(UsageError, match="unknown head 'nothing'"):
        ours.predict("nothing", rows)
    none = TokenBatch(ids=np.zeros((0, 3), dtype=np.int64), mask=np.zeros((0, 3), dtype=np.bool_))
    hollow = TokenBatch(ids=np.zeros((2, 3), dtype=np.int64), mask=np.array([[True] * 3, [False] * 3]))
    for spec in ours.model.heads:
        if not spec.predicts:
            with pytest.raises(UsageError, match=f"head '{spec.name}' of .* writes text"):
                ours.predict(spec.name, rows)
            continue
        with pytest.raises(UsageError, match="a batch of no rows"):
            ours.predict(spec.name, none)
        if not ours.heads_read_empty_rows:
            with pytest.raises(UsageError, match="row 1 of a batch of 2 has no tokens"):
                ours.predict(spec.name, hollow)
            continue
        # A vocabulary of words may know none of a text; its neighbours are answered as if it were not there.
        first = TokenBatch(ids=hollow.ids[:1], mask=hollow.mask[:1])
        wanted = ours.predict(spec.name, first)[0]
        np.testing.assert_allclose(ours.predict(spec.name, hollow)[0], wanted, atol=CLOSE)
    if name in WRITING:
        for batch, message in ((none, "a batch of no rows"), (hollow, "row 1 of a batch of 2 has no tokens")):
            with pytest.raises(UsageError, match=message):
                ours.prefill(batch)


@pytest.mark.parametrize("name", HEADS_ALONE)
def test_an_encoder_predicts_no_tokens(name: str) -> None:
    ours = opened(name)
    read, targets = every_next(padded(rows_of(ours)))
    for call in (lambda: ours.prefill(read), lambda: ours.score(read, targets)):
        with pytest.raises(UsageError, match="answers by heads alone; it predicts no tokens"):
            call()
    assert ours.slots(rows=2, length=8) is None
    assert (ours.sharing.longest_row, ours.sharing.prefix) == (0, False)


@over_writing
@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_are_scored_as_each_alone(name: str, side: str) -> None:
    ours = opened(name)
    rows = rows_of(ours)
    together = score_all(ours, padded(rows, side), source_of(ours, rows))
    for number, row in enumerate(rows):
        alone = score_all(ours, padded([row]), source_of(ours, [row]))
        first = 0 if side == "right" else 9 - len(row)
        place = slice(first, first + len(row) - 1)
        np.testing.assert_allclose(together.logprobs[number, place], alone.logprobs[0], atol=CLOSE)
        np.testing.assert_array_equal(together.greedy[number, place], alone.greedy[0])


@over_writing
def test_any_token_may_be_a_target_also_behind_the_last_column(name: str) -> None:
    """Together all tokens behind a place have probability one."""
    ours = opened(name)
    row = rows_of(ours)[:1]
    every = np.arange(ours.model.vocabulary)
    for column in (0, len(row[0]) - 1):
        targets = TokenTargets(rows=np.zeros_like(every), columns=np.full_like(every, column), tokens=every)
        found = ours.score(padded(row), targets, source=source_of(ours, row))
        assert np.exp(found.logprobs.astype(np.float64)).sum() == pytest.approx(1, abs=1e-4)
        assert found.greedy[found.logprobs.argmax()]


@over_writing
def test_a_score_that_cannot_be_is_refused(name: str) -> None:
    ours = opened(name)
    rows = rows_of(ours)
    batch, source = padded(rows), source_of(ours, rows)
    nothing = TokenTargets(rows=np.zeros(0, dtype=np.int64), columns=np.zeros(0, dtype=np.int64), tokens=np.zeros(0))
    assert ours.score(batch, nothing, source=source).logprobs.shape == (0,)
    behind_padding = TokenTargets(rows=np.array([1]), columns=np.array([5]), tokens=np.array([3]))
    with pytest.raises(UsageError, match="a target follows a column that is padding"):
        ours.score(batch, behind_padding, source=source)
    target = TokenTargets(rows=np.array([0]), columns=np.array([1]), tokens=np.array([3]))
    if source is None:
        with pytest.raises(UsageError, match="is a causal model; it reads no source"):
            ours.score(batch, target, source=batch)
    else:
        with pytest.raises(UsageError, match="scores targets behind a source, none was given"):
            ours.score(batch, target)


@over_writing
def test_rows_share_what_the_runtime_says_and_nothing_else(name: str) -> None:
    ours = opened(name)
    rows = rows_of(ours)
    batch, target = padded(rows), TokenTargets(rows=np.array([0]), columns=np.array([1]), tokens=np.array([3]))
    if ours.sharing.longest_row:
        assert branches_agree(ours)
    else:
        with pytest.raises(UsageError, match="cannot branch in"):
            ours.score(batch, target, subtree_end=np.full(batch.ids.shape, 9), source=source_of(ours, rows))
    state, _ = ours.prefill(padded(rows[:1]))
    if ours.sharing.prefix:
        assert prefix_agrees(ours)
    else:
        with pytest.raises(UsageError, match="cannot continue a state in"):
            ours.score(batch, target, prefix_state=state, source=source_of(ours, rows))


@over_writing
@pytest.mark.parametrize("side", ["right", "left"])
def test_steps_say_what_the_score_says(name: str, side: str) -> None:
    ours = opened(name)
    prompts = rows_of(ours)
    state, logits = ours.prefill(padded(prompts, side))
    chosen, seen = [], []
    for _ in range(4):
        chosen.append(logits.argmax(axis=1))
        seen.append(logits - logits.max(axis=1, keepdims=True))
        state, logits = ours.step(state, chosen[-1])
    start = ours.model.decoder_start
    starts = prompts if start is None else [[start]] * len(prompts)
    written = [first + new.tolist() for first, new in zip(starts, np.stack(chosen, axis=1), strict=True)]
    scores = score_all(ours, padded(written), source_of(ours, prompts))
    for number, first in enumerate(starts):
        place = slice(len(first) - 1, len(first) + 3)
        stepped = [-np.log(np.exp(each[number].astype(np.float64)).sum()) for each in seen]
        np.testing.assert_allclose(scores.logprobs[number, place], stepped, atol=CLOSE)
        assert scores.greedy[number, place].all()


@over_writing
def test_states_are_reordered_and_continued_more_than_once(name: str) -> None:
    ours = opened(name)
    prompts = rows_of(ours)
    state, logits = ours.prefill(padded(prompts))
    state, _ = ours.step(state, logits.argmax(axis=1))
    moved, _ = ours.step(ours.reorder(state, np.array([3, 0, 0])), np.array([4, 5, 6]))
    moved, found = ours.step(ours.reorder(moved, np.array([2, 1])), np.array([7, 8]))
    alone, first = ours.prefill(padded(prompts[:1]))
    alone, _ = ours.step(alone, first.argmax(axis=1))
    for place, (second, third) in enumerate(((6, 7), (5, 8))):
        other, _ = ours.step(alone, np.array([second]))
        np.testing.assert_allclose(found[place], ours.step(other, np.array([third]))[1][0], atol=CLOSE, rtol=1e-4)


@over_writing
def test_the_state_of_another_runtime_is_refused(name: str) -> None:
    class Strange(DecodingState):
        pass

    ours = opened(name)
    for call in (lambda: ours.step(Strange(), np.array([1])), lambda: ours.reorder(Strange(), np.array([0]))):
        with pytest.raises(UsageError, match=r"a decoding state of another runtime \(Strange\)"):
            call()


@over_writing
def test_slots_say_what_rows_alone_say(name: str) -> None:
    ours = opened(name)
    slots = ours.slots(rows=3, length=12)
    if slots is None:
        assert name == "onnx traced"
        return
    again = lambda: ours.slots(rows=3, length=12) or slots  # noqa: E731
    assert slots_agree(ours, again, joins=slots.joins)
    assert slots.joins or ours.model.kind == "encoder-decoder"
    with pytest.raises(ValueError, match="place"):
        again().fill(padded(random_rows(2, 2, 2, 2)))


@over_writing
def test_a_runtime_for_concurrent_calls_continues_its_states(name: str) -> None:
    ours = opened(name)
    if name.startswith("onnx"):
        driver = OPENED[name][0]
        folder = package(name_of(name))
        ours = driver(Graphs(load_package(folder), threads=2))  # type: ignore[call-arg]
        assert ours.card.callers == 2
    other = ours.for_concurrent_calls()
    assert other.card.threads * ours.reading_callers <= ours.card.threads
    assert (other is ours) is (ours.reading_callers == 1)
    rows = rows_of(ours)
    state, logits = ours.prefill(padded(rows))
    new = logits.argmax(axis=1)
    np.testing.assert_allclose(other.step(state, new)[1], ours.step(state, new)[1], atol=CLOSE, rtol=1e-4)
    if ours is not opened(name):
        ours.close()


def name_of(name: str) -> str:
    """The model that an onnx driver runs here."""
    models = {"causal": "llama", "traced": "blenderbot", "encoder-decoder": "marian", "recurrent": "gru"}
    return models.get(name.removeprefix("onnx "), name.removeprefix("onnx "))


@over_all
def test_free_memory_is_known(name: str) -> None:
    free = opened(name).free_bytes()
    assert free is not None
    assert free > 0


def test_a_closed_runtime_holds_no_weights() -> None:
    closed: list[tuple[Runtime, str]] = [
        (TorchRuntime(load_model(model_folder("llama")), threads=1), "_model"),
        (OwnFamilyRuntime(load_model(model_folder("gru")), threads=1), "_model"),
        (open_runtime(native_folder(), runtime="native"), "_text"),
    ]
    for ours, holds in closed:
        assert hasattr(ours, holds)
        ours.close()
        assert not hasattr(ours, holds)
    graphs = Graphs(load_package(package("llama")), threads=2)
    ours = OnnxCausalRuntime(graphs)
    ours.prefill(padded(ROWS))
    ours.for_concurrent_calls().prefill(padded(ROWS))
    ours.close()
    assert not graphs._sessions
    assert not graphs.for_concurrent_calls()._sessions
