"""What a backbone makes of a text that it was never trained on: shown now and then while it learns."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.model.create import Backbone
from lmtasks.records import Ints
from lmtasks.training.objectives import Marks, Objective, make_batch

READ_TOKENS = 24
WRITTEN_TOKENS = 32
TEMPERATURE = 0.8


@torch.no_grad()
def sample_text(backbone: Backbone, text: Ints, *, objective: Objective, marks: Marks, tokenizer: Tokenizer) -> str:
    """A line: what was read, an arrow, what was written. The same weights give the same line."""
    backbone.eval()
    device = next(backbone.parameters()).device
    row = objective.row(text[: READ_TOKENS + 1], marks, np.random.default_rng(0))
    batch = {name: tensor.to(device) for name, tensor in make_batch([row]).items()}
    read, written = WRITERS[objective.kind](backbone, batch, marks)
    shown = [tokenizer.decode(ids, skip_special=False) for ids in (read, written)]
    return " -> ".join(" ".join(part.split()) for part in shown)


def _continue(backbone: Backbone, batch: Mapping[str, Tensor], marks: Marks) -> tuple[list[int], list[int]]:
    generator = torch.Generator().manual_seed(0)
    ids = batch["ids"][:, :READ_TOKENS]
    start = ids.shape[1]
    while ids.shape[1] < start + WRITTEN_TOKENS:
        scores = backbone(ids)[0, -1].float().cpu() / TEMPERATURE
        token = int(torch.multinomial(scores.softmax(-1), 1, generator=generator))
        if token == marks.end:
            break
        ids = torch.cat([ids, ids.new_tensor([[token]])], dim=1)
    return ids[0, :start].tolist(), ids[0, start:].tolist()


def _fill(backbone: Backbone, batch: Mapping[str, Tensor], marks: Marks) -> tuple[list[int], list[int]]:
    del marks
    best = backbone.fill(batch["ids"], batch["places"]).argmax(-1)
    filled = batch["ids"].scatter(1, batch["places"], best)
    return batch["ids"][0].tolist(), filled[0].tolist()


def _write(backbone: Backbone, batch: Mapping[str, Tensor], marks: Marks) -> tuple[list[int], list[int]]:
    ids = batch["ids"]
    written = ids.new_tensor([[marks.start]])
    while written.shape[1] <= WRITTEN_TOKENS:
        token = backbone.decode(ids, torch.ones_like(ids, dtype=torch.bool), written)[:, -1:].argmax(-1)
        if int(token) == marks.end:
            break
        written = torch.cat([written, token], dim=1)
    return ids[0].tolist(), written[0, 1:].tolist()


WRITERS = {"causal": _continue, "encoder": _fill, "encoder-decoder": _write}
