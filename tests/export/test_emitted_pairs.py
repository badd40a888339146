"""Graphs of Marian, BART and T5: as torch, for several sources of different lengths, with and without beams."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest
import torch
from driving import Array, Decoding, Emitted, log_softmax, random_tokens, tiny_model
from packed import HEADS
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from lmtasks.export.checkpoint import CannotEmit, Checkpoint, checkpoint_of
from lmtasks.export.emitters.marian import MARIAN
from lmtasks.export.emitters.t5 import T5
from lmtasks.records import Floats32

CLOSE = 5e-4
"""With T5's unscaled products torch itself lies up to 1.6e-4 from double precision here; the graphs, 3.5e-4."""
START = 1
ENCODER_HEADS = tuple(head for head in HEADS if head.kind != "generation")
PAIR = {
    "vocab_size": 300,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "eos_token_id": 0,
    "decoder_start_token_id": START,
    "forced_eos_token_id": None,
}
TEXT = {
    "vocab_size": 300,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 1,
    "eos_token_id": 0,
    "decoder_start_token_id": START,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}


def _marian(**changed: object) -> PreTrainedModel:
    model = MarianMTModel(MarianConfig(**{**PAIR, **changed}))
    model.final_logits_bias.normal_()
    return model


def _bart(**changed: object) -> PreTrainedModel:
    return BartForConditionalGeneration(BartConfig(**{**PAIR, "bos_token_id": 2, **changed}))


def _bart_like(
    make: Callable[[PreTrainedConfig], PreTrainedModel], config: Callable[..., PreTrainedConfig], **changed: object
) -> PreTrainedModel:
    return make(config(**{**PAIR, "bos_token_id": 2, **changed}))


def _t5(**changed: object) -> PreTrainedModel:
    return T5ForConditionalGeneration(T5Config(**{**TEXT, **changed}))


MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "marian": lambda: _marian(scale_embedding=True, activation_function="swish"),
    "marian, two vocabularies": lambda: _marian(share_encoder_decoder_embeddings=False, decoder_vocab_size=250),
    "marian, one decoder layer": lambda: _marian(decoder_layers=1),
    "bart": lambda: _bart(scale_embedding=True),
    "mbart": lambda: _bart_like(MBartForConditionalGeneration, MBartConfig, scale_embedding=True),
    "pegasus": lambda: _bart_like(PegasusForConditionalGeneration, PegasusConfig, scale_embedding=True),
    "m2m100": lambda: _bart_like(
        M2M100ForConditionalGeneration, M2M100Config, pad_token_id=250, max_position_embeddings=260
    ),
    "t5": _t5,
    "t5, gated": lambda: _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=3),
}


def _emit(name: str) -> Callable[[Checkpoint], Mapping[str, object]]:
    return T5.emit if name.startswith("t5") else MARIAN.emit


@cache
def emitted(name: str) -> Emitted:
    return Emitted(name, tiny_model(name, MODELS[name], heads=ENCODER_HEADS), _emit(name))  # type: ignore[arg-type]


def tokens(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Rows that no vocabulary here is too small for."""
    return [[token % 240 + 2 for token in row] for row in random_tokens(*lengths, seed=seed)]


SOURCES = tokens(9, 1, 30, 4)
TARGETS = tokens(12, 12, 12, 12, seed=1)


def encoded(made: Emitted, sources: list[list[int]], side: str = "right") -> dict[str, Array]:
    """What the decoder is told of the sources."""
    width = max(map(len, sources))
    ids, mask = np.full((len(sources), width), 7, dtype=np.int64), np.zeros((len(sources), width), dtype=np.bool_)
    for number, row in enumerate(sources):
        at = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[number, at], mask[number, at] = row, True
    return {"source_mask": mask, **made.run("encoder", {"source_ids": ids, "source_mask": mask})}


def full_logits(made: Emitted, source: list[int], target: list[int]) -> Floats32:
    """torch's logits behind the start token and every token of one target, (T + 1, V)."""
    with torch.no_grad():
        given = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([[START, *target]])}
        logits: Floats32 = made.model.hf(**given, use_cache=False).logits[0].numpy()
    return logits


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_it_decodes_as_torch(name: str, side: str) -> None:
    """The start token, then steps; sources padded on either side."""
    made = emitted(name)
    wanted = [full_logits(made, source, target) for source, target in zip(SOURCES, TARGETS, strict=True)]
    decoding = Decoding(made, rows=len(SOURCES), capacity=16, source=encoded(made, SOURCES, side))
    found = decoding.append([[START]] * len(SOURCES))
    for step in range(12):
        for logits, expected in zip(found, wanted, strict=True):
            np.testing.assert_allclose(logits, expected[step], atol=CLOSE, rtol=CLOSE)
        found = decoding.append([[target[step]] for target in TARGETS])
    assert {cache_: value.data_ptr() for cache_, value in decoding.caches.items()} == decoding.places


@pytest.mark.parametrize("name", ["marian", "bart", "t5"])
def test_beams_of_a_source_share_its_keys_and_values(name: str) -> None:
    """Three rows a source, which read it at different lengths of their own; some wait."""
    made = emitted(name)
    sources, targets = SOURCES[:2], tokens(9, 5, 7, 2, 8, 6, seed=2)
    wanted = [full_logits(made, sources[number // 3], target) for number, target in enumerate(targets)]
    decoding = Decoding(made, rows=6, capacity=16, source=encoded(made, sources))
    rows = [[START, *target] for target in targets]
    for pieces in ((4, 1, 5, 3, 2, 1), (1, 1, 1, 0, 1, 1), (4, 4, 2, 0, 5, 3)):
        before = decoding.lengths.copy()
        found = decoding.append([row[at : at + piece] for row, at, piece in zip(rows, before, pieces, strict=True)])
        for row, (piece, at) in enumerate(zip(pieces, decoding.lengths, strict=True)):
            if piece:
                np.testing.assert_allclose(found[row], wanted[row][at - 1], atol=CLOSE, rtol=CLOSE)


@pytest.mark.parametrize("name", MODELS)
def test_it_scores_as_torch(name: str) -> None:
    """Two targets a source; places that are wanted twice are computed once."""
    made = emitted(name)
    sources, targets = SOURCES[:2], tokens(6, 3, 1, 5, seed=3)
    columns = 6
    ids = np.full((4, columns), 7, dtype=np.int64)
    places, expected, asked = [], [], []
    for number, target in enumerate(targets):
        ids[number, : len(target)] = [START, *target[:-1]]
        scores = log_softmax(full_logits(made, sources[number // 2], target))
        best = int(scores[0].argmax())
        for at, token in [*enumerate(target), (0, best)]:
            places.append(number * columns + at)
            asked.append(token)
            expected.append((scores[at, token], scores[at, token] >= scores[at].max()))
    wanted, index = np.unique(np.array(places), return_inverse=True)
    found = made.run(
        "score",
        {
            "ids": ids,
            "positions": np.tile(np.arange(columns), (4, 1)),
            "new": np.full(4, columns, dtype=np.int32),
            "seqlens_k": np.full(4, columns - 1, dtype=np.int32),
            "total_sequence_length": np.array(columns, dtype=np.int32),
            "wanted": wanted,
            "index": index.astype(np.int64),
            "targets": np.array(asked),
            **made.empty_past("score", 4),
            **encoded(made, sources),
        },
    )
    np.testing.assert_allclose(found["logprob"], [logprob for logprob, _ in expected], atol=CLOSE, rtol=CLOSE)
    assert found["greedy"].tolist() == [bool(greedy) for _, greedy in expected]


@pytest.mark.parametrize("name", ["marian", "bart", "t5"])
def test_heads_read_the_encoder(name: str) -> None:
    made = emitted(name)
    width = max(map(len, SOURCES))
    ids, mask = np.full((4, width), 7, dtype=np.int64), np.zeros((4, width), dtype=np.bool_)
    for number, row in enumerate(SOURCES):
        ids[number, : len(row)], mask[number, : len(row)] = row, True
    found = made.run("heads", {"ids": ids, "mask": mask})
    for head in made.model.card.heads:
        for number, row in enumerate(SOURCES):
            with torch.no_grad():
                given = torch.tensor([row])
                alone = made.model.head_logits(head.name, given, torch.ones_like(given, dtype=torch.bool))[0].numpy()
            logits = found[f"head.{head.name}"][number]
            answer = logits if head.kind == "classification" else logits[: len(row)]
            np.testing.assert_allclose(answer, alone, atol=CLOSE, rtol=CLOSE)


def test_operators_of_a_layer() -> None:
    """As they are built, and as onnxruntime carries them out: nothing is fused into what is slower."""
    marian, fewer = emitted("marian"), emitted("marian, one decoder layer")
    layer = {"Gemm": 6, "Reshape": 4, "GroupQueryAttention": 1, "MultiHeadAttention": 1, "LayerNormalization": 3}
    added = {**layer, "Add": 3}
    built, run = marian.layer(fewer, "decoder")
    assert {kind: count for kind, count in built.items() if kind in added} == added
    assert {kind: count for kind, count in run.items() if kind in added} == added


def test_the_table_is_stored_once() -> None:
    for name in ("marian", "t5"):
        made = emitted(name)
        weights = sum(parameter.numel() for parameter in made.model.parameters()) * 4
        assert (made.folder / "weights.bin").stat().st_size < 1.15 * weights  # alignment


def test_narrow_heads_are_refused() -> None:
    model = tiny_model("t5, narrow", lambda: _t5(d_kv=12), heads=())
    with pytest.raises(CannotEmit, match="its heads have a width of 12; attention takes multiples of 8"):
        T5.emit(checkpoint_of(model))


def test_another_kind_of_use_is_refused() -> None:
    from dataclasses import replace

    for name in ("marian", "t5"):
        given = checkpoint_of(emitted(name).model)
        with pytest.raises(CannotEmit, match="it is used as causal; as an encoder-decoder it is built"):
            _emit(name)(replace(given, card=replace(given.card, kind="causal")))
