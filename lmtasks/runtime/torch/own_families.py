"""The driver over PyTorch for families of our own: those that decode with a state of their own, and encoders.

A state is a tuple of tensors whose first axis is the rows (`lmtasks.backbone.base`), so one way of picking, repeating
and joining rows serves every family. Rows are right-padded.

Axes: B batch, T time, S target tokens or source tokens, D width, V vocabulary.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmtasks.model.model import Decodes, Model, State
from lmtasks.records import Bools, Floats32, HeadSpec, Ints, TokenBatch
from lmtasks.runtime.base import DecodingState
from lmtasks.runtime.driver import FixedStateDriver, ScoreInput
from lmtasks.runtime.memory import memory_errors
from lmtasks.runtime.torch.device import DTYPES, TorchDevice, beside, to_numpy, torch_card, torch_precision

PIECE_TOKENS = 4096
"""Long rows are read in pieces of so many columns over all rows together."""
LOGITS_BYTES = 8 * 2**20
"""So much memory may the logits of one piece take while scoring."""


@dataclass(frozen=True)
class OwnState(DecodingState):
    """A family's own state of each row."""

    parts: State
    """(B, ...) each"""


class OwnFamilyRuntime(FixedStateDriver[OwnState]):
    """A model of our own families in PyTorch.

    Args:
        model: taken over: it is moved, and cast to the precision.
        size_bytes: of its files, for the card.
        threads: None: as many as the process may use.
        compiled: run it through torch.compile.

    Raises:
        UsageError: a precision that it cannot compute in.
    """

    def __init__(
        self,
        model: Model,
        *,
        size_bytes: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        card = torch_card(device=device, precision=precision, threads=threads, compiled=compiled, size_bytes=size_bytes)
        super().__init__(model.card, card, state_type=OwnState)
        self._device = TorchDevice(device, threads=card.threads)
        self._model = model.eval().to(device=device, dtype=DTYPES[torch_precision(precision)])
        self._decoder = model.decoder
        self._heads: Callable[..., list[Tensor]] = model.heads_logits
        self._next: Callable[[State, Tensor, Tensor], tuple[Tensor, State]] | None = (
            None if self._decoder is None else self._decoder.next
        )
        if compiled:
            self._heads = torch.compile(self._heads, dynamic=True)
            self._next = None if self._next is None else torch.compile(self._next, dynamic=True)

    def over(self, model: Model, choose: Callable[[], None], *, size_bytes: int, numbers: int) -> "OwnFamilyRuntime":
        """The same for another model over the same backbone; see `TorchDevice.choose`."""
        other = self.copied_for(model.card, beside(self.card, size_bytes=size_bytes, numbers=numbers))
        dtype = DTYPES[torch_precision(self.card.precision)]
        other._model = model.to(self._device.device, dtype).eval()
        other._device, other._heads = copy.copy(self._device), model.heads_logits
        other._device.choose = choose
        return other

    @property
    def predicts_tokens(self) -> bool:
        """See `Driver`."""
        return self._decoder is not None

    def join(self, first: OwnState, second: OwnState) -> OwnState:
        """The rows of two states, of a causal model."""
        with memory_errors("joining rows"), self._device.computing():
            return OwnState(tuple(torch.cat(parts) for parts in zip(first.parts, second.parts, strict=True)))

    def free_bytes(self) -> int:
        """See `Runtime`."""
        return self._device.free_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        del self._model, self._heads, self._next, self._decoder

    def _predict(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        (logits,) = self._predict_heads((spec,), batch)
        return logits

    def _predict_heads(self, specs: Sequence[HeadSpec], batch: TokenBatch) -> list[Floats32]:
        return self._device.heads_logits(self._heads, [spec.name for spec in specs], batch)

    def _score(self, given: ScoreInput[OwnState]) -> tuple[Floats32, Bools]:
        targets = given.targets
        logprobs = np.zeros(len(targets.rows), dtype=np.float32)
        greedy = np.zeros(len(targets.rows), dtype=np.bool_)
        rows, length = given.rows.ids.shape
        with self._device.computing():
            ids, mask = self._device.tensor(given.rows.ids), self._device.tensor(given.rows.mask)
            state = self._state_before(ids, mask, given)
            every = max(1, PIECE_TOKENS // rows)
            for first in range(0, length, every):
                part = slice(first, first + every)
                hidden, state = self._read(state, ids[:, part], mask[:, part])
                (mine,) = np.nonzero((targets.columns >= first) & (targets.columns < first + every))
                if len(mine):
                    columns = self._device.tensor(targets.columns[mine] - first)
                    cells = hidden[self._device.tensor(targets.rows[mine]), columns]
                    logprobs[mine], greedy[mine] = self._score_cells(cells, targets.tokens[mine])
        return logprobs, greedy

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[OwnState, Floats32]:
        rows = len(lengths)
        with self._device.computing():
            ids, mask = self._device.tensor(prompts.ids), self._device.tensor(prompts.mask)
            state = self._writer.start(ids, mask)
            if self.model.kind == "encoder-decoder":
                ids = torch.full((rows, 1), self._first, device=ids.device)
                mask = torch.ones_like(ids, dtype=torch.bool)
            hidden, state = self._read(state, ids, mask)
            last = hidden[torch.arange(rows, device=ids.device), mask.sum(1) - 1]
            return OwnState(state), to_numpy(self._logits(last))

    def _step(self, state: OwnState, ids: Ints) -> tuple[OwnState, Floats32]:
        with self._device.computing():
            new = self._device.tensor(ids)[:, None]
            hidden, after = self._read(state.parts, new, torch.ones_like(new, dtype=torch.bool))
            return OwnState(after), to_numpy(self._logits(hidden[:, 0]))

    def _reorder(self, state: OwnState, rows: Ints) -> OwnState:
        with self._device.computing():
            index = self._device.tensor(rows)
            return OwnState(tuple(part[index] for part in state.parts))

    @property
    def _writer(self) -> Decodes:
        assert self._decoder is not None  # asked for tokens, which it predicts
        return self._decoder

    @property
    def _first(self) -> int:
        assert self.model.decoder_start is not None  # every encoder-decoder's card has it
        return self.model.decoder_start

    def _state_before(self, ids: Tensor, mask: Tensor, given: ScoreInput[OwnState]) -> State:
        """The state before the first column of each row."""
        if given.prefix_state is not None:
            return tuple(part.expand(len(ids), *part.shape[1:]) for part in given.prefix_state.parts)
        if given.source is None:
            return self._writer.start(ids, mask)
        state = self._writer.start(self._device.tensor(given.source.ids), self._device.tensor(given.source.mask))
        if given.source_rows is None:
            return state
        index = self._device.tensor(given.source_rows)
        return tuple(part[index] for part in state)

    def _read(self, state: State, ids: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        assert self._next is not None
        return self._next(state, ids, mask)

    def _score_cells(self, cells: Tensor, tokens: Ints) -> tuple[Floats32, Bools]:
        """Log-probability of each token behind its cell, (S, D), and "no other is more likely there", (S,)."""
        given = self._device.tensor(tokens)
        every = max(1, LOGITS_BYTES // (4 * self.model.vocabulary))
        logprobs, greedy = [], []
        for first in range(0, len(cells), every):
            logits = self._logits(cells[first : first + every])
            own = logits.gather(1, given[first : first + every, None])[:, 0]
            logprobs.append(own - logits.logsumexp(1))
            greedy.append(own >= logits.amax(1))
        return torch.cat(logprobs).cpu().numpy(), torch.cat(greedy).cpu().numpy()

    def _logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V) in fp32."""
        return self._writer.project(hidden).float()
