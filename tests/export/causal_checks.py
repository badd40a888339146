"""What every emitted causal model must do, whatever its architecture. Each check is called by a test per model."""

import numpy as np
import torch
from driving import Array, Decoding, Emitted, full_logits, log_softmax, packed_rows, random_tokens

from lmtasks.records import Floats32

CLOSE = 1e-4
CAPACITY = 48


def check_decoding(emitted: Emitted) -> None:
    """Prompts of 9, 1, 4 and 33 tokens, padded right, then steps: as torch has it for each row alone."""
    rows = random_tokens(9 + 12, 1 + 12, 4 + 12, 33 + 12)
    wanted = [full_logits(emitted.model, row) for row in rows]
    decoding = Decoding(emitted, rows=len(rows), capacity=CAPACITY)
    found = decoding.append([row[:-12] for row in rows])
    for step in range(12, 0, -1):
        for logits, expected in zip(found, wanted, strict=True):
            np.testing.assert_allclose(logits, expected[-step - 1], atol=CLOSE, rtol=CLOSE)
        found = decoding.append([[row[-step]] for row in rows])
    assert {name: value.data_ptr() for name, value in decoding.caches.items()} == decoding.places


def check_one_row(emitted: Emitted) -> None:
    """Batch 1, from one token to the longest that the model takes."""
    longest = emitted.model.card.max_length_tokens
    (row,) = random_tokens(longest)
    wanted = full_logits(emitted.model, row)
    for first in (1, 2, longest - 1, longest):
        decoding = Decoding(emitted, rows=1, capacity=longest)
        found = decoding.append([row[:first]])
        np.testing.assert_allclose(found[0], wanted[first - 1], atol=CLOSE, rtol=CLOSE)
        for at in range(first, min(first + 3, longest)):
            found = decoding.append([[row[at]]])
            np.testing.assert_allclose(found[0], wanted[at], atol=CLOSE, rtol=CLOSE)


def check_chunks(emitted: Emitted) -> None:
    """Rows may come in pieces of different lengths, in one batch with rows that are further, or stand still."""
    rows = random_tokens(20, 14, 9)
    wanted = [full_logits(emitted.model, row) for row in rows]
    decoding = Decoding(emitted, rows=3, capacity=CAPACITY)
    for pieces in ((7, 0, 4), (1, 9, 0), (12, 5, 5)):
        before = decoding.lengths.copy()
        found = decoding.append([row[at : at + piece] for row, at, piece in zip(rows, before, pieces, strict=True)])
        for row, (piece, at) in enumerate(zip(pieces, decoding.lengths, strict=True)):
            if piece:
                np.testing.assert_allclose(found[row], wanted[row][at - 1], atol=CLOSE, rtol=CLOSE)
    assert decoding.lengths.tolist() == [20, 14, 9]


def check_scores(emitted: Emitted) -> None:
    """Several continuations behind each context in one row; places that several targets share are computed once."""
    contexts = random_tokens(11, 3)
    texts = [random_tokens(4, 1, 6, seed=1), random_tokens(2, 5, seed=2)]
    ids, positions, bias = packed_rows(contexts, texts)
    wanted, index, targets, expected = _wanted(emitted, contexts, texts, columns=ids.shape[1])
    assert len(wanted) < len(targets)  # the last token of a context is behind several continuations
    rows, columns = ids.shape
    found = emitted.run(
        "score",
        {
            "ids": ids,
            "positions": positions,
            "bias": bias,
            "new": np.full(rows, columns, dtype=np.int32),
            "seqlens_k": np.full(rows, columns - 1, dtype=np.int32),
            "total_sequence_length": np.array(columns, dtype=np.int32),
            "wanted": wanted,
            "index": index,
            "targets": targets,
            **emitted.empty_past("score", rows),
        },
    )
    np.testing.assert_allclose(found["logprob"], expected[:, 0], atol=CLOSE, rtol=CLOSE)
    np.testing.assert_array_equal(found["greedy"], expected[:, 1].astype(np.bool_))
    assert found["greedy"].any()
    assert not found["greedy"].all()


def check_scores_behind_a_past(emitted: Emitted) -> None:
    """What the decoder has read may stand before the rows that are scored."""
    (prefix,) = random_tokens(8, seed=3)
    texts = random_tokens(6, 4, seed=4)
    decoding = Decoding(emitted, rows=1, capacity=len(prefix))
    decoding.append([prefix])
    past: dict[str, Array] = {name: np.repeat(value.numpy(), 2, axis=0) for name, value in decoding.caches.items()}
    columns, before = 5, len(prefix)
    ids = np.full((2, columns), 7, dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text) - 1] = text[:-1]
    found = emitted.run(
        "score",
        {
            "ids": ids,
            "positions": np.tile(before + np.arange(columns), (2, 1)),
            "bias": np.zeros((2, 1, columns, before + columns), dtype=np.float32),  # attention is causal by itself
            "new": np.full(2, columns, dtype=np.int32),
            "seqlens_k": np.full(2, before + columns - 1, dtype=np.int32),
            "total_sequence_length": np.array(before + columns, dtype=np.int32),
            "wanted": np.array([0, 3, columns, columns + 1]),
            "index": np.arange(4),
            "targets": np.array([texts[0][1], texts[0][4], texts[1][1], texts[1][2]]),
            **past,
        },
    )
    scores = [log_softmax(full_logits(emitted.model, [*prefix, *text])) for text in texts]
    places = ((0, 0), (0, 3), (1, 0), (1, 1))
    expected = [scores[row][before + at, texts[row][at + 1]] for row, at in places]
    np.testing.assert_allclose(found["logprob"], expected, atol=CLOSE, rtol=CLOSE)


def check_heads(emitted: Emitted) -> None:
    """Every head's answer for rows padded right is torch's answer for each row alone."""
    rows = random_tokens(9, 1, 17)
    ids, mask = np.full((3, 17), 7, dtype=np.int64), np.zeros((3, 17), dtype=np.bool_)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, True
    found = emitted.run("heads", {"ids": ids, "mask": mask})
    assert list(found) == [f"head.{head.name}" for head in emitted.model.card.heads]
    for head in emitted.model.card.heads:
        logits = found[f"head.{head.name}"]
        for number, row in enumerate(rows):
            alone = _head(emitted, head.name, row)
            given = logits[number] if head.kind == "classification" else logits[number, : len(row)]
            np.testing.assert_allclose(given, alone, atol=CLOSE, rtol=CLOSE)
        if head.kind == "span":
            assert (logits[~mask] == -1e4).all()


def _head(emitted: Emitted, name: str, row: list[int]) -> Floats32:
    with torch.no_grad():
        ids = torch.tensor([row])
        logits: Floats32 = emitted.model.head_logits(name, ids, torch.ones_like(ids, dtype=torch.bool))[0].numpy()
    return logits


def _wanted(
    emitted: Emitted, contexts: list[list[int]], texts: list[list[list[int]]], *, columns: int
) -> tuple[Array, Array, Array, Floats32]:
    """Distinct places, each target's place among them, targets, and what torch says: (log-probability, greedy)."""
    places: list[int] = []
    targets: list[int] = []
    expected: list[tuple[float, bool]] = []
    for row, (context, group) in enumerate(zip(contexts, texts, strict=True)):
        at = len(context)
        best = int(full_logits(emitted.model, context)[-1].argmax())
        for text in (*group, [best]):
            scores = log_softmax(full_logits(emitted.model, [*context, *text]))
            for step, token in enumerate(text):
                places.append(row * columns + (len(context) - 1 if step == 0 else at + step - 1))
                targets.append(token)
                behind = scores[len(context) - 1 + step]
                expected.append((float(behind[token]), bool(behind[token] >= behind.max())))
            at += len(text) - 1
    distinct, index = np.unique(np.array(places), return_inverse=True)
    return distinct, index.astype(np.int64), np.array(targets), np.array(expected, dtype=np.float32)
