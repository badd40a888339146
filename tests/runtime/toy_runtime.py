"""A runtime as another package brings it, in one file: every next token is as likely as any other."""

from dataclasses import dataclass, replace

import numpy as np

from lmtasks.records import Bools, Floats32, HeadSpec, Ints, ModelCard, RuntimeCard, TokenBatch
from lmtasks.runtime.base import DecodingState, RuntimeInfo, RuntimeOpener, RuntimeRequest
from lmtasks.runtime.driver import Driver, ScoreInput
from lmtasks.settings.runtimes import RuntimeSpec


@dataclass(frozen=True)
class ToyState(DecodingState):
    """How many tokens each row has read."""

    lengths: Ints


class ToyRuntime(Driver[ToyState]):
    """Knows nothing, and says so."""

    def __init__(self, model: ModelCard, *, device: str) -> None:
        card = RuntimeCard(runtime="toy", version="1", device=device, precision="fp32", threads=1, size_bytes=0)
        super().__init__(model, card, state_type=ToyState)

    def _predict(self, spec: HeadSpec, batch: TokenBatch) -> Floats32:
        return np.zeros((len(batch.ids), len(spec.labels)), dtype=np.float32)

    def _score(self, given: ScoreInput[ToyState]) -> tuple[Floats32, Bools]:
        count = len(given.targets.tokens)
        return np.full(count, -np.log(self.model.vocabulary), dtype=np.float32), np.ones(count, dtype=np.bool_)

    def _prefill(self, prompts: TokenBatch, lengths: Ints) -> tuple[ToyState, Floats32]:
        return ToyState(lengths), np.zeros((len(lengths), self.model.vocabulary), dtype=np.float32)

    def _step(self, state: ToyState, ids: Ints) -> tuple[ToyState, Floats32]:
        return ToyState(state.lengths + 1), np.zeros((len(ids), self.model.vocabulary), dtype=np.float32)

    def _reorder(self, state: ToyState, rows: Ints) -> ToyState:
        return ToyState(state.lengths[rows])


class ToyOpener(RuntimeOpener):
    """The runtime `toy`."""

    def info(self) -> RuntimeInfo:
        return RuntimeInfo(name="toy", about="a toy", version="1", devices=("cpu",), precisions=("fp32",))

    def open(self, request: RuntimeRequest) -> ToyRuntime:
        from lmtasks.model.store import card_of

        self.check(device=request.device, precision=request.precision)
        return ToyRuntime(card_of(request.ref), device=request.device)


TOY = RuntimeSpec(about="a toy", opener="toy_runtime:ToyOpener", folders="torch", devices=("cpu",), imports=())
BROKEN = replace(TOY, opener="no_such_module:Opener")
WRONG = replace(TOY, opener="toy_runtime:ToyState")
