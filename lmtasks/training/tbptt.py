"""Training on one running text with the state carried from batch to batch: truncated backpropagation through time.

The text is cut into B streams of equal length; batch number n holds window n of every stream, and begins with the
states that batch n - 1 ended with (as in Zaremba et al. 2014, https://arxiv.org/abs/1409.2329). The states are buffers
of what is trained, so that a checkpoint has them and a resumed training goes on with them.

Axes: B streams, T tokens of a window.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lmtasks.data.examples import HeadExamples
from lmtasks.errors import UsageError
from lmtasks.head import head_of
from lmtasks.head.generation import GENERATION, projected_loss
from lmtasks.model.model import Model
from lmtasks.records import Ints

VALIDATION_STREAMS = 16
"""The validation text is read in so many streams; only their first tokens lack what stood before."""


class Streams:
    """A running text as windows of B streams.

    Args:
        ids: the whole text, (N,).
        rows: B.
        window: T; the last window may be shorter.

    Raises:
        UsageError: the text is shorter than two tokens a stream.
    """

    def __init__(self, ids: Sequence[int], *, rows: int, window: int) -> None:
        length = (len(ids) - 1) // rows
        if length < 1:
            raise UsageError(
                f"a text of {len(ids)} tokens cannot be cut into {rows} streams; use fewer tokens per batch."
            )
        text: Ints = np.asarray(ids[: rows * length + 1], dtype=np.int64)
        self._read = text[:-1].reshape(rows, length)
        self._next = text[1:].reshape(rows, length)
        self._window = window

    def __len__(self) -> int:
        return -(-self._read.shape[1] // self._window)

    def batch(self, number: int) -> Mapping[str, Tensor]:
        """Window `number` of every stream: ids and targets, (B, T), and the number."""
        part = slice(number * self._window, (number + 1) * self._window)
        return {
            "ids": torch.from_numpy(self._read[:, part].copy()),
            "targets": torch.from_numpy(self._next[:, part].copy()),
            "window": torch.tensor(number),
        }


def written_loss(model: Model, hidden: Tensor, targets: Tensor, *, smoothing: float) -> Tensor:
    """The loss of a generation head by the hidden states (B, T, D) of a model with a projection, in nats.

    Raises:
        UsageError: the model makes its logits itself.
    """
    projection = model.projection()
    if projection is None:
        raise UsageError(f"{model.card.name} ({model.card.family}) makes its logits itself; take the loss of them.")
    return projected_loss(hidden, targets, projection.weight, projection.bias, smoothing=smoothing)


def streams_of(head: HeadExamples, *, tokens_per_batch: int, window: int) -> Streams | None:
    """The training text of a head that learns from one; None for all others."""
    if not head.text:
        return None
    return Streams(head.text, rows=max(1, tokens_per_batch // window), window=window)


class TbpttModule(nn.Module):
    """A model with the states that it carries, one for each head that learns from a running text.

    Args:
        smoothing: share of a right answer that all answers divide.
    """

    def __init__(self, model: Model, streams: Mapping[int, Streams], *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing
        self._parts: dict[int, int] = {}
        for number, stream in streams.items():
            ids = stream.batch(0)["ids"]
            state = model.carried(ids)
            self._parts[number] = len(state)
            for part, values in enumerate(state):
                self.register_buffer(f"carried_{number}_{part}", values.detach().clone())

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a batch of one head, in nats; of a part of a batch, times the share that it has in the batch."""
        loss = self._loss(batch)
        return loss * batch["share"] if "share" in batch else loss

    def _loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        number = int(batch["head"])
        spec = self.model.card.heads[int(batch["place"])]
        if "window" in batch:
            return self._text_loss(number, batch)
        if not spec.predicts and self.model.projection() is not None:
            hidden = self.model.written(batch["ids"], batch["mask"], batch.get("decoder_ids"))
            return written_loss(self.model, hidden, batch["targets"], smoothing=self.smoothing)
        logits = self.model(
            batch["ids"],
            batch["mask"],
            spec.name,
            types=batch.get("types"),
            decoder_ids=batch.get("decoder_ids"),
            decoder_mask=batch.get("decoder_mask"),
        )
        return head_of(spec).loss(logits, batch["targets"], smoothing=self.smoothing)

    def _text_loss(self, number: int, batch: Mapping[str, Tensor]) -> Tensor:
        names = [f"carried_{number}_{part}" for part in range(self._parts[number])]
        before = tuple(getattr(self, name).clone() for name in names)  # the buffers change before the gradients are
        if int(batch["window"]) == 0:
            before = tuple(torch.zeros_like(part) for part in before)
        hidden, after = self.model.carry(before, batch["ids"])
        for name, values in zip(names, after, strict=True):
            getattr(self, name).copy_(values.detach())
        return written_loss(self.model, hidden, batch["targets"], smoothing=self.smoothing)


@torch.no_grad()
def score_text(model: Model, text: Sequence[int], *, window: int = 256) -> tuple[float, int]:
    """Nats of a running text, and how many tokens were predicted."""
    rows = max(1, min(VALIDATION_STREAMS, (len(text) - 1) // 2))
    streams = Streams(text, rows=rows, window=window)
    device = next(model.parameters()).device
    nats, count = 0.0, 0
    state = None
    for number in range(len(streams)):
        batch = {name: tensor.to(device) for name, tensor in streams.batch(number).items()}
        state = model.carried(batch["ids"]) if state is None else state
        hidden, state = model.carry(state, batch["ids"])
        more, tokens = GENERATION.judged(model.backbone.project(hidden), batch["targets"])
        nats, count = nats + more, count + tokens
    return nats, count
