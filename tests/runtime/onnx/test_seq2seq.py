"""The runtime over emitted encoder-decoders: sources that are read once, beams that stay in place, rows that come and
go, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packed import model_folder, package, padded, random_rows, runtime
from tiny import ARCHITECTURES, TEXTS, tiny_tokenizer

import lmtasks.runtime.onnx.decoder
import lmtasks.runtime.onnx.seq2seq
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.export.package import load_package
from lmtasks.prove.export import export_and_prove
from lmtasks.prove.parity import check_parity
from lmtasks.records import Floats32, TokenBatch, TokenTargets
from lmtasks.runtime.memory import OutOfMemory
from lmtasks.runtime.onnx.decoder import Caches
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.runtime.onnx.seq2seq import OnnxSeq2SeqRuntime
from lmtasks.runtime.onnx.seq2seq_rows import Seq2SeqRows, Sources
from lmtasks.runtime.torch.capability_probes import slots_agree
from lmtasks.settings.generation import Decoding

NAMES = ("marian", "bart", "t5")
CLOSE = 1e-4
SOURCES = random_rows(6, 11, 1, 8, seed=1)

over_models = pytest.mark.parametrize("name", NAMES)


def pairs(name: str) -> OnnxSeq2SeqRuntime:
    return OnnxSeq2SeqRuntime(Graphs(load_package(package(name)), threads=1))


def alone(name: str, source: list[int], tokens: list[int]) -> Floats32:
    """What torch says behind the start token and these, by one source."""
    ours = runtime("torch", name)
    state, logits = ours.prefill(padded([source]))
    for token in tokens:
        state, logits = ours.step(state, np.array([token]))
    row: Floats32 = logits[0]
    return row


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


def moves(random: np.random.Generator, sources: list[int], width: int) -> Iterator[NDArray[np.int64]]:
    """Parents of beams, within their sources: kept, repeated, exchanged; now and then a source leaves."""
    for step in range(14):
        if step in (5, 9):
            sources = [source for source in sources if source != sources[step % 2]]
            yield np.concatenate([np.arange(width) + source * width for source in sources])
            sources = list(range(len(sources)))
            continue
        yield np.concatenate([random.integers(0, width, width) + source * width for source in sources])


@over_models
@pytest.mark.parametrize("width", [2, 4])
def test_beams_of_a_source_stay_with_it(name: str, width: int, noise: None) -> None:
    ours, random = pairs(name), np.random.default_rng(width)
    state, _ = ours.prefill(padded(SOURCES, "left"))
    state = ours.reorder(state, np.repeat(np.arange(4), width))
    told: list[tuple[int, list[int]]] = [(source, []) for source in range(4) for _ in range(width)]
    for parents in moves(random, [0, 1, 2, 3], width):
        new = random.integers(2, 250, len(parents))
        told = [
            (told[parent][0], [*told[parent][1], token]) for parent, token in zip(parents, new.tolist(), strict=True)
        ]
        if len(told[0][1]) > 1:
            state = ours.reorder(state, parents)
        else:  # the first tokens are all behind the one row that a source had
            told = [(number // width, [int(token)]) for number, token in enumerate(new)]
        state, logits = ours.step(state, new)
        for row in (0, len(told) // 2, len(told) - 1):
            np.testing.assert_allclose(logits[row], alone(name, SOURCES[told[row][0]], told[row][1]), atol=CLOSE)


@over_models
def test_any_order_of_rows_is_followed(name: str, noise: None) -> None:
    """Numbers of rows that differ by source, rows that exchange places, and states that are continued again."""
    ours = pairs(name)
    first, _ = ours.prefill(padded(SOURCES))
    orders = ([3, 0, 0], [2, 1, 0], [1, 1, 2, 0], [0, 1, 2, 3], [3, 1], [1, 1, 0, 0], [2, 0, 1, 3])
    told: list[tuple[int, list[int]]] = [(source, []) for source in range(4)]
    state, kept = first, []
    for step, order in enumerate(orders):
        new = np.arange(len(order)) + 20 * (step + 1)
        state = ours.reorder(state, np.array(order))
        told = [(told[row][0], [*told[row][1], token]) for row, token in zip(order, new.tolist(), strict=True)]
        kept.append((state, [(source, tokens[:-1]) for source, tokens in told]))
        state, logits = ours.step(state, new)
        for found, (source, tokens) in zip(logits, told, strict=True):
            np.testing.assert_allclose(found, alone(name, SOURCES[source], tokens), atol=CLOSE)
    for again, before in kept:
        new = np.arange(len(before)) + 7
        _, logits = ours.step(again, new)
        for found, (source, tokens), token in zip(logits, before, new.tolist(), strict=True):
            np.testing.assert_allclose(found, alone(name, SOURCES[source], [*tokens, token]), atol=CLOSE)


def test_beams_copy_no_more_than_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[tuple[int, int]] = []
    move = Caches.move

    def counted(self: Caches, source: int, target: int, *, columns: int, first: int = 0) -> None:
        copied.append((first, columns))
        move(self, source, target, columns=columns, first=first)

    monkeypatch.setattr(Caches, "move", counted)
    ours = pairs("marian")
    state, _ = ours.prefill(padded(SOURCES[:2]))
    state = ours.reorder(state, np.repeat(np.arange(2), 3))
    state, _ = ours.step(state, np.arange(2, 8))
    shared = state.shared
    sources = [array.ctypes.data for array in shared.sources.arrays.values()]
    expected: list[tuple[int, int]] = []
    for parents, more in (
        ([0, 1, 2, 3, 4, 5], []),  # everybody lives on
        ([2, 1, 0, 5, 3, 4], []),
        ([0, 0, 1, 3, 4, 5], [(1, 4)]),  # the start token's column is equal in all rows of a source
        ([0, 2, 0, 3, 4, 5], [(4, 5)]),  # two children of one row part behind it
    ):
        state = ours.reorder(state, np.array(parents))
        state, _ = ours.step(state, np.arange(2, 8))
        expected += more
        assert copied == expected
    assert state.shared is shared
    assert [array.ctypes.data for array in shared.sources.arrays.values()] == sources


@over_models
def test_rows_come_and_go_whatever_the_lengths_of_their_sources(name: str, noise: None) -> None:
    ours = pairs(name)
    assert ours.slots(rows=3, length=9).joins
    assert slots_agree(ours, lambda: ours.slots(rows=3, length=12), joins=True)
    sources = random_rows(5, 9, 3, 14, 1, seed=4)
    slots = ours.slots(rows=3, length=20)
    told: dict[int, list[int]] = {number: [] for number in range(5)}
    waiting, writing = [4, 3], [0, 1, 2]
    logits = slots.fill(padded(sources[:3], "left"))
    for step in range(12):
        for number, found in zip(writing, logits, strict=True):
            np.testing.assert_allclose(found, alone(name, sources[number], told[number]), atol=CLOSE)
        if step in (2, 5, 7):
            gone = step % len(writing)
            slots.leave(gone)
            writing[gone] = writing[-1]
            writing.pop()
        if step in (3, 6):
            came = waiting.pop()
            (found,) = slots.fill(padded([sources[came]]))
            np.testing.assert_allclose(found, alone(name, sources[came], []), atol=CLOSE)
            writing.append(came)
        new = np.arange(len(writing)) + 11 * step + 2
        for number, token in zip(writing, new.tolist(), strict=True):
            told[number].append(token)
        logits = slots.step(new)


def test_slots_begin_anew_when_all_have_left() -> None:
    ours = pairs("marian")
    slots = ours.slots(rows=2, length=4)
    for sources in (SOURCES[:2], SOURCES[2:]):
        for found, source in zip(slots.fill(padded(sources)), sources, strict=True):
            np.testing.assert_allclose(found, alone("marian", source, []), atol=CLOSE)
        slots.leave(0)
        slots.leave(0)
    with pytest.raises(ValueError, match="2 places, of which 0 are in use, cannot take 4 more"):
        slots.fill(padded(SOURCES))
    slots.fill(padded(SOURCES[:1]))
    for _ in range(3):
        slots.step(np.array([5]))
    with pytest.raises(ValueError, match="a place holds 4 tokens"):
        slots.step(np.array([5]))


@over_models
@pytest.mark.parametrize("most", [128 * 2**20, 1])
def test_targets_of_a_source_are_scored_with_one_reading(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources with one, two and three targets, in no order; and the encoder sees each once."""
    package(name)  # its proof reads sources, too
    monkeypatch.setattr(lmtasks.runtime.onnx.seq2seq, "LOGITS_BYTES", most)
    read: list[int] = []
    count = lmtasks.runtime.onnx.seq2seq.read_sources

    def counted(graphs: Graphs, batch: TokenBatch) -> Sources:
        read.append(len(batch.ids))
        return count(graphs, batch)

    monkeypatch.setattr(lmtasks.runtime.onnx.seq2seq, "read_sources", counted)
    targets = padded(random_rows(4, 7, 2, 5, 3, 6, 9, seed=8))
    of = np.array([2, 0, 2, 3, 2, 0, 1])
    rows, columns = np.nonzero(targets.mask)
    wanted = TokenTargets(rows=rows, columns=columns, tokens=(rows * 31 + columns * 7) % 250)
    both = [runtime(kind, name) if kind == "torch" else pairs(name) for kind in ("torch", "onnx")]
    expected, found = (
        each.score(targets, wanted, source=padded(SOURCES), source_rows=of)
        for each in both  # type: ignore[attr-defined]
    )
    assert read == [4]
    np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=CLOSE)
    assert found.greedy.tolist() == expected.greedy.tolist()


SETTINGS = {
    "greedy": Decoding(max_new_tokens=24),
    "beams": Decoding(max_new_tokens=24, num_beams=4),
    "short beams": Decoding(max_new_tokens=20, num_beams=3, length_penalty=0.2),
    "penalized beams": Decoding(max_new_tokens=16, num_beams=3, repetition_penalty=1.4),
    "stops": Decoding(max_new_tokens=24, num_beams=3, stop=("a", "the")),
}


@over_models
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_texts_are_those_of_torch(name: str, settings: Decoding) -> None:
    tokenizer = load_tokenizer(package(name))
    asked = [GenerateRequest(prompt_ids=tuple(row), settings=settings) for row in random_rows(3, 17, 1, 9, 30, seed=6)]
    wanted = Engine(runtime("torch", name), tokenizer).generate(asked)
    for rows in (None, 2, 1):
        assert Engine(runtime("onnx", name), tokenizer, rows_per_batch=rows).generate(asked) == wanted


@over_models
def test_choices_are_scored_as_by_torch(name: str) -> None:
    tokenizer = load_tokenizer(package(name))
    asked = [
        ScoreRequest(context_ids=tuple(source), target_ids=tuple(target))
        for number, source in enumerate(SOURCES)
        for target in random_rows(*range(1, number + 3), seed=number)
    ]
    wanted = Engine(runtime("torch", name), tokenizer).score(asked)
    found = Engine(runtime("onnx", name), tokenizer).score(asked)
    np.testing.assert_allclose([each.logprob for each in found], [each.logprob for each in wanted], atol=1e-3)
    assert [each.greedy for each in found] == [each.greedy for each in wanted]


@over_models
@pytest.mark.parametrize("precision", ["int8", "int8-tensor", "w8", "int4"])
def test_rounded_packages_pass_their_proof(name: str, precision: str, tmp_path: Path) -> None:
    """Weights as transformers starts them: where they are larger, as in the models above, T5 does not scale its
    products, and what 4 bits lose of them is as large as in no trained model."""
    torch.manual_seed(0)
    ARCHITECTURES[name](300, 64).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save(tmp_path / "model")
    out = tmp_path / precision
    export_and_prove(
        tmp_path / "model", out=out, precision=precision, texts=TEXTS, report=lambda progress: None, threads=1
    )
    assert load_package(out).parity["ok"] is True
    assert load_package(out).emitter.startswith("emitted:")


def test_a_proof_finds_a_damaged_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose sources were exchanged are noticed."""
    inputs = Sources.inputs

    def exchanged(self: Sources, *, first: int, count: int) -> object:
        return inputs(self.picked(np.roll(np.arange(self.count), 1)), first=first, count=count)

    assert check_parity(package("marian"), model_folder("marian"), texts=TEXTS, threads=1).ok
    monkeypatch.setattr(Sources, "inputs", exchanged)
    assert not check_parity(package("marian"), model_folder("marian"), texts=TEXTS, threads=1).ok


def test_memory_that_runs_out_leaves_the_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmtasks.runtime.onnx.decoder, "BLOCK", 2)
    ours = pairs("marian")
    state, _ = ours.prefill(padded(SOURCES))
    state, _ = ours.step(state, np.arange(4) + 2)

    def full(self: Caches, name: str, *, rows: int, columns: int) -> Floats32:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Caches, "_empty", full)
        with pytest.raises(OutOfMemory, match="making room for 4 rows of"):
            ours.step(state, np.arange(4) + 6)
    _, logits = ours.step(state, np.arange(4) + 6)
    for row in range(4):
        np.testing.assert_allclose(logits[row], alone("marian", SOURCES[row], [2 + row, 6 + row]), atol=CLOSE)


def test_what_is_refused() -> None:
    ours = pairs("marian")
    none = TokenBatch(ids=np.zeros((0, 1), dtype=np.int64), mask=np.zeros((0, 1), dtype=np.bool_))
    wanted = TokenTargets(rows=np.array([0]), columns=np.array([0]), tokens=np.array([5]))
    with pytest.raises(UsageError, match="a batch of no rows was given"):
        ours.prefill(none)
    with pytest.raises(UsageError, match=r"a row has 65 tokens, but .* takes 64"):
        ours.prefill(padded(random_rows(65)))
    with pytest.raises(UsageError, match="scores targets behind a source, none was given"):
        ours.score(padded(SOURCES), wanted)
    with pytest.raises(UsageError, match="cannot branch in onnx"):
        ours.score(padded(SOURCES), wanted, source=padded(SOURCES), subtree_end=np.zeros((4, 11), dtype=np.int64))
    state, _ = ours.prefill(padded(SOURCES[:1]))
    for token in range(63):
        state, _ = ours.step(state, np.array([token + 2]))
    with pytest.raises(UsageError, match="a row has 65 tokens"):
        ours.step(state, np.array([5]))


def test_a_cache_is_given_back_with_its_states() -> None:
    ours = pairs("marian")
    state, _ = ours.prefill(padded(SOURCES))
    rows: Seq2SeqRows = state.shared
    assert len(rows.states) == 1
    again = ours.reorder(state, np.array([1, 0]))
    assert len(rows.states) == 2
    del again
    assert len(rows.states) == 1
