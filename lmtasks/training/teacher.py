"""Passages whose vectors a sentence encoder has made: what a backbone's pooled hidden states are pulled towards.

The backbone reads a passage both ways, the mean of its last hidden states goes through one matrix of the teacher's
own, which is thrown away at the end, and is to point where the teacher's vector points (LEAF, arXiv:2509.12539, learns
so from a black box and without labels). Vectors of sentence encoders lie in a narrow cone: their mean is taken off.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lmtasks.data.corpus import take_turns
from lmtasks.data.documents import Document, passages
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.data.vectors import EmbeddingModel, Vectors, text_key
from lmtasks.errors import UsageError
from lmtasks.files import aside
from lmtasks.head.module import pooled
from lmtasks.held_out import held_out
from lmtasks.model.create import Backbone
from lmtasks.records import Ints, Progress
from lmtasks.training.stepping import Batch


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Record of a teacher, as `pretraining.json` holds it."""

    encoder: EmbeddingModel
    vectors: str
    """Hash of the vectors."""
    passages: int
    """That were learned from; of token embeddings the tokens."""
    weight: float | None = None
    """Beside the objective's nats; None: of token embeddings, which only begin there."""
    held_out: float | None = None
    """One minus the mean cosine over passages of held-out documents, at the end."""


LENGTHS = (16, 32, 64, 128)
"""Tokens that passages are padded to, so that few shapes are compiled; a longer passage is read as far as the last."""
JUDGED = 512
"""Held-out passages that an evaluation looks at."""
TOKENS, MASK, TARGETS = "teacher_ids", "teacher_mask", "teacher_targets"
"""Names in a batch, beside those of the objective."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """N passages of about one length."""

    ids: NDArray[np.uint16 | np.uint32]
    """(N, T), padded."""
    lengths: NDArray[np.int64]
    """(N,) real tokens."""
    targets: NDArray[np.float16]
    """(N, D)"""

    def batch(self, rows: Ints) -> dict[str, Tensor]:
        real = np.arange(self.ids.shape[1]) < self.lengths[rows][:, None]
        return {
            TOKENS: torch.from_numpy(self.ids[rows].astype(np.int64)),
            MASK: torch.from_numpy(real),
            TARGETS: torch.from_numpy(self.targets[rows].astype(np.float32)),
        }


class Lessons:
    """Passages with their teacher's vectors, in batches of equal cost.

    Args:
        groups: passages to learn from, by length; at least one.
        judged: passages of held-out documents; None: there are none.
        tokens: of a batch, padding counted.
    """

    def __init__(self, groups: Sequence[_Group], judged: _Group | None, *, tokens: int, seed: int) -> None:
        self.width = int(groups[0].targets.shape[1])
        self.passages = sum(len(group.lengths) for group in groups)
        self._groups, self._judged, self._tokens, self._seed = groups, judged, tokens, seed
        self._orders: dict[tuple[int, int], Ints] = {}
        sizes = np.asarray([group.ids.size for group in groups], dtype=np.float64)
        self._shares = sizes / sizes.sum()

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number` of an endless stream, in which the passages of a length come anew once all were seen."""
        which, before = take_turns(number, self._shares)
        group = self._groups[which]
        count = max(1, self._tokens // group.ids.shape[1])
        places = np.arange(before * count, (before + 1) * count)
        rows = [self._order(which, int(place) // len(group.lengths))[place % len(group.lengths)] for place in places]
        return group.batch(np.asarray(rows))

    def judged(self) -> dict[str, Tensor] | None:
        """Passages that nothing is learned from; None: no vector is one of a held-out document."""
        if self._judged is None:
            return None
        return self._judged.batch(np.arange(min(len(self._judged.lengths), JUDGED)))

    def _order(self, which: int, epoch: int) -> Ints:
        if (which, epoch) not in self._orders:
            draw = np.random.default_rng((self._seed, which, epoch))
            self._orders = {key: order for key, order in self._orders.items() if key != (which, epoch - 2)}
            self._orders[which, epoch] = draw.permutation(len(self._groups[which].lengths))
        return self._orders[which, epoch]


class TeacherModule(nn.Module):
    """The matrix from a backbone's pooled hidden states to a teacher's vectors.

    Args:
        width: of the backbone.
        lessons: of the teacher.
    """

    def __init__(self, width: int, lessons: Lessons) -> None:
        super().__init__()
        self.teacher_projection = nn.Linear(width, lessons.width)

    def forward(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Mean of one minus the cosine between what was pooled and the targets, 0 to 2."""
        mask = batch[MASK]
        hidden = backbone.read(batch[TOKENS], mask, attention="both")
        found = self.teacher_projection(pooled(hidden, mask, "mean"))
        return 1 - functional.cosine_similarity(found.float(), batch[TARGETS], dim=-1).mean()


def prepare_lessons(
    vectors: Vectors,
    corpora: Sequence[Iterable[Document]],
    *,
    name: str,
    tokenizer: Tokenizer,
    tokens: int,
    seed: int,
    folder: Path,
    report: Callable[[Progress], None],
) -> Lessons:
    """Find the texts of vectors again in the documents that are trained on, and tokenize them; kept in `folder`.

    Args:
        name: of the vectors, for people.
        tokens: of a batch.

    Raises:
        UsageError: the documents hold no text, or too few, that a vector belongs to.
    """
    file = folder / f"{vectors.hash}-{tokenizer.hash}.npz"
    if not file.is_file():
        made = _find(vectors, corpora, tokenizer=tokenizer, report=report)
        if not len(made.places):
            cut = f"passages of {vectors.encoder.passages} bytes" if vectors.encoder.passages else "whole texts"
            raise UsageError(
                f"none of the {len(vectors.keys):,} vectors in {name} belongs to a text of --data (they are of {cut}); "
                "make them from the same documents: lmtasks embed --data TEXT --passages 400."
            )
        folder.mkdir(parents=True, exist_ok=True)
        with aside(file) as part, part.open("wb") as opened:
            np.savez(opened, ids=made.ids, ends=made.ends, places=made.places, held=made.held)
    with np.load(file) as stored:
        found = _Found(ids=stored["ids"], ends=stored["ends"], places=stored["places"], held=stored["held"])
    learned = ~found.held
    values = vectors.values[found.places].astype(np.float32)
    values -= values[learned].mean(0) if learned.any() else 0
    targets = (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)).astype(np.float16)
    longest = np.asarray(LENGTHS)[np.searchsorted(LENGTHS, found.lengths)]
    groups = [_group(found, targets, (longest == length) & learned, length, tokenizer.pad) for length in LENGTHS]
    judged = _group(found, targets, found.held, LENGTHS[-1], tokenizer.pad) if found.held.any() else None
    filled = [each for each in groups if len(each.lengths)]
    if not filled:
        raise UsageError(f"all texts that the vectors in {name} belong to stand in held-out documents; give more.")
    return Lessons(filled, judged, tokens=tokens, seed=seed)


def token_texts(tokenizer: Tokenizer) -> dict[int, str]:
    """Text of each token that says something by itself: not the special ones, and no part of a character."""
    special = {token.content for token in tokenizer.raw.get_added_tokens_decoder().values()}
    texts: dict[int, str] = {}
    for token, index in tokenizer.raw.get_vocab(with_added_tokens=True).items():
        text = tokenizer.decode([index]).strip()
        if token not in special and "\ufffd" not in text and any(map(str.isalnum, text)):
            texts[index] = text
    return texts


@torch.no_grad()
def begin_embeddings(backbone: Backbone, vectors: Vectors, tokenizer: Tokenizer, *, name: str) -> int:
    """Let token embeddings begin at a teacher's vectors of the tokens' texts; tokens without one keep what they have.

    The vectors are turned to their main axes and weighed by how rare a token is (the logarithm of its place in the
    vocabulary, as Model2Vec does); all of them together are as large as those that they replace.

    Args:
        name: of the vectors, for people.

    Returns:
        how many tokens have one.

    Raises:
        UsageError: fewer than half of the tokens that say something have a vector.
    """
    texts, places = token_texts(tokenizer), {key: place for place, key in enumerate(vectors.keys)}
    found = {index: places[key] for index, text in texts.items() if (key := text_key(text)) in places}
    if 2 * len(found) < len(texts):
        raise UsageError(
            f"{name} holds vectors of {len(found):,} of {len(texts):,} tokens that say something; make them of this "
            "vocabulary: lmtasks embed --vocabulary FOLDER."
        )
    ids = torch.tensor(sorted(found))
    values = torch.from_numpy(vectors.values[[found[int(index)] for index in ids]].astype(np.float32))
    values = values - values.mean(0)
    axes = torch.linalg.svd(values, full_matrices=False).Vh
    weight = backbone.embeddings().weight
    turned = values @ axes[: weight.shape[1]].T * torch.log(2.0 + ids)[:, None]
    turned = functional.pad(turned, (0, weight.shape[1] - turned.shape[1]))  # of a narrow teacher the rest stays empty
    weight[ids] = (turned * (weight[ids].std() / turned.std())).to(weight)
    return len(found)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """N texts that vectors belong to, tokenized, one behind the other."""

    ids: NDArray[np.uint16 | np.uint32]
    ends: NDArray[np.int64]
    """(N,)"""
    places: NDArray[np.int64]
    """(N,) rows of the vectors."""
    held: NDArray[np.bool_]
    """(N,) Is its document held out?"""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens that are read."""
        return np.minimum(np.diff(self.ends, prepend=0), LENGTHS[-1])


def _group(found: _Found, targets: NDArray[np.float16], chosen: NDArray[np.bool_], length: int, pad: int) -> _Group:
    rows = np.flatnonzero(chosen)
    starts = np.concatenate([[0], found.ends])
    lengths = found.lengths[rows]
    padded = np.full((len(rows), length), pad, dtype=found.ids.dtype)
    for number, row in enumerate(rows):
        padded[number, : lengths[number]] = found.ids[starts[row] : starts[row] + lengths[number]]
    return _Group(ids=padded, lengths=lengths, targets=targets[rows])


def _find(
    vectors: Vectors,
    corpora: Sequence[Iterable[Document]],
    *,
    tokenizer: Tokenizer,
    report: Callable[[Progress], None],
) -> _Found:
    left = {key: place for place, key in enumerate(vectors.keys)}
    limit, total = vectors.encoder.passages, len(left)
    texts: list[str] = []
    places: list[int] = []
    held: list[bool] = []
    for corpus in corpora:
        for document in corpus:
            apart = held_out(document.text)
            for text in passages(document.text, limit=limit) if limit else (document.text,):
                place = left.pop(text_key(text), None)
                if place is not None:
                    texts.append(text)
                    places.append(place)
                    held.append(apart)
                    if len(texts) % 10_000 == 0:
                        report(Progress(stage="find the vectors' texts", done=len(texts), total=total, unit="texts"))
    encoded = [tokenizer.encode_for_head(text).ids for text in texts]  # as a head will read them
    kept = [number for number, ids in enumerate(encoded) if ids]
    dtype = np.uint16 if tokenizer.vocabulary <= 2**16 else np.uint32
    return _Found(
        ids=np.asarray([token for number in kept for token in encoded[number]], dtype=dtype),
        ends=np.cumsum([len(encoded[number]) for number in kept], dtype=np.int64),
        places=np.asarray([places[number] for number in kept], dtype=np.int64),
        held=np.asarray([held[number] for number in kept], dtype=np.bool_),
    )
