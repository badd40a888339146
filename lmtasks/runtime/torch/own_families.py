"""The primitives over PyTorch for families of our own: those that decode with a state of their own, and encoders.

A state is a tuple of tensors whose first axis is the rows (`lmtasks.backbone.base`), so one way of picking, repeating
and joining rows serves every family. Rows are right-padded.

Axes: B batch, T time, S wanted tokens or source tokens, D width, V vocabulary.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmtasks.cores import checked_threads
from lmtasks.errors import UsageError
from lmtasks.model.model import Decodes, Model, State
from lmtasks.records import Bools, Floats32, Ints, RuntimeCard, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.align import align
from lmtasks.runtime.base import NOTHING_SHARED, Sharing, Slots
from lmtasks.runtime.memory import free_host_bytes, keep_freed_memory, memory_errors
from lmtasks.runtime.state_slots import StateSlots
from lmtasks.runtime.torch.predict import DTYPES, checked_precision, predicted
from lmtasks.settings.runtimes import TorchPrecision

PIECE_TOKENS = 4096
"""Long rows are read in pieces of so many columns over all rows together."""
LOGITS_BYTES = 8 * 2**20
"""So much memory may the logits of one piece take while scoring."""


class StateRuntime:
    """A model of our own families in PyTorch.

    Args:
        model: taken over: it is moved, and cast to the precision.
        size_bytes: of its files, for the card.
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
        precision: TorchPrecision = "fp32",
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        dtype = DTYPES[checked_precision(precision)]
        if device == "cpu":
            keep_freed_memory()
        self.model = model.card
        self.card = RuntimeCard(
            runtime="torch-compile" if compiled else "torch",
            version=torch.__version__,
            device=device,
            precision=precision,
            threads=checked_threads(threads),
            size_bytes=size_bytes,
        )
        self._model = model.eval().to(device=device, dtype=dtype)
        self._device = device
        self._decodes = cast(Decodes, model.backbone) if model.backbone.traits.carries else None
        self._head: Callable[..., Tensor] = model.head_logits
        self._next: Callable[[State, Tensor, Tensor], tuple[Tensor, State]] | None = (
            None if self._decodes is None else self._decodes.next
        )
        if compiled:
            self._head = torch.compile(self._head, dynamic=True)
            self._next = None if self._next is None else torch.compile(self._next, dynamic=True)

    @property
    def sharing(self) -> Sharing:
        """See `Runtime`. A state stands for everything before it; rows do not branch."""
        return Sharing(longest_row=0, prefix=True) if self.model.kind == "causal" else NOTHING_SHARED

    def predict(self, head: str, batch: TokenBatch) -> Floats32:
        """See `Runtime`. Padded positions of a span head hold -1e4, of a tagging head 0."""
        spec = self._model.spec(head)
        with memory_errors(f"a head reads {len(batch.ids)} rows"), self._computing():
            return predicted(spec, batch, name=self.model.name, head=self._head, tensor=self._tensor)

    def score(
        self,
        batch: TokenBatch,
        wanted: TokenTargets,
        *,
        reach: Ints | None = None,
        behind: State | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        """See `Runtime`."""
        if reach is not None:
            raise UsageError(f"{self.model.name} reads tokens one after the other; its rows cannot branch.")
        logprobs = np.zeros(len(wanted.rows), dtype=np.float32)
        greedy = np.zeros(len(wanted.rows), dtype=np.bool_)
        if not len(logprobs):
            return TokenScores(logprobs=logprobs, greedy=greedy)
        aligned = align(batch, side="right")
        columns = aligned.columns_of(wanted)
        rows, length = aligned.batch.ids.shape
        with memory_errors(f"scoring {rows} rows of {length} tokens"), self._computing():
            ids, mask = self._tensor(aligned.batch.ids), self._tensor(aligned.batch.mask)
            state = self._before(ids, mask, behind=behind, source=source, source_rows=source_rows)
            every = max(1, PIECE_TOKENS // rows)
            for first in range(0, length, every):
                part = slice(first, first + every)
                hidden, state = self._read(state, ids[:, part], mask[:, part])
                (mine,) = np.nonzero((columns >= first) & (columns < first + every))
                if len(mine):
                    cells = hidden[self._tensor(wanted.rows[mine]), self._tensor(columns[mine] - first)]
                    logprobs[mine], greedy[mine] = self._judge(cells, wanted.tokens[mine])
        return TokenScores(logprobs=logprobs, greedy=greedy)

    def prefill(self, batch: TokenBatch) -> tuple[State, Floats32]:
        """See `Runtime`."""
        rows, length = batch.ids.shape
        with memory_errors(f"reading {rows} rows of {length} tokens"), self._computing():
            right = align(batch, side="right").batch
            ids, mask = self._tensor(right.ids), self._tensor(right.mask)
            state = self._writer.start(ids, mask)
            if self.model.kind == "encoder-decoder":
                ids = torch.full((rows, 1), self._first, device=self._device)
                mask = torch.ones_like(ids, dtype=torch.bool)
            hidden, state = self._read(state, ids, mask)
            last = hidden[torch.arange(rows, device=self._device), mask.sum(1) - 1]
            return state, _numpy(self._logits(last))

    def step(self, state: State, ids: Ints) -> tuple[State, Floats32]:
        """See `Runtime`."""
        with memory_errors(f"continuing {len(ids)} rows"), self._computing():
            new = self._tensor(ids)[:, None]
            hidden, after = self._read(state, new, torch.ones_like(new, dtype=torch.bool))
            return after, _numpy(self._logits(hidden[:, 0]))

    def reorder(self, state: State, rows: Ints) -> State:
        """See `Runtime`."""
        with memory_errors(f"moving {len(rows)} rows"), self._computing():
            index = self._tensor(rows)
            return tuple(part[index] for part in state)

    def slots(self, *, rows: int, length: int) -> Slots | None:
        """See `Runtime`. A state needs the same room however long its row is."""
        del length
        return StateSlots(self, rows=rows, joins=self.model.kind == "causal")

    def join(self, first: State, second: State) -> State:
        """The rows of two states, of a causal model."""
        with memory_errors("joining rows"), self._computing():
            return tuple(torch.cat(parts) for parts in zip(first, second, strict=True))

    def free_bytes(self) -> int:
        """See `Runtime`."""
        if torch.device(self.card.device).type == "cuda":
            return int(torch.cuda.mem_get_info(self.card.device)[0])
        return free_host_bytes()

    def close(self) -> None:
        """See `Runtime`."""
        del self._model, self._head, self._next, self._decodes

    @property
    def _writer(self) -> Decodes:
        if self._decodes is None:
            raise UsageError(f"{self.model.name} ({self.model.family}) answers by heads alone; it predicts no tokens.")
        return self._decodes

    @property
    def _first(self) -> int:
        assert self.model.decoder_start is not None  # every encoder-decoder's card has it
        return self.model.decoder_start

    def _before(
        self,
        ids: Tensor,
        mask: Tensor,
        *,
        behind: State | None,
        source: TokenBatch | None,
        source_rows: Ints | None,
    ) -> State:
        """The state before the first column of each row."""
        if behind is not None:
            return tuple(part.expand(len(ids), *part.shape[1:]) for part in behind)
        if source is None:
            return self._writer.start(ids, mask)
        right = align(source, side="right").batch
        state = self._writer.start(self._tensor(right.ids), self._tensor(right.mask))
        if source_rows is None:
            return state
        index = self._tensor(source_rows)
        return tuple(part[index] for part in state)

    def _read(self, state: State, ids: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        assert self._next is not None
        return self._next(state, ids, mask)

    def _judge(self, cells: Tensor, tokens: Ints) -> tuple[Floats32, Bools]:
        """Log-probability of each token behind its cell, (S, D), and "no other is more likely there", (S,)."""
        given = self._tensor(tokens)
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

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def _computing(self) -> torch.inference_mode:
        torch.set_num_threads(self.card.threads)
        return torch.inference_mode()


def _numpy(values: Tensor) -> Floats32:
    array: Floats32 = values.float().cpu().numpy()
    return array
