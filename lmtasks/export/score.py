"""The graph that scores given texts. The logits of all positions, (B, T, V), never leave it."""

from typing import TYPE_CHECKING

from lmtasks.export.examples import LENGTH, SOURCE, ids_input, mask_input
from lmtasks.export.trace import Traceable

if TYPE_CHECKING:
    from torch import Tensor

    from lmtasks.model.model import Model


def score_graph(model: "Model") -> Traceable:
    """[source_ids, source_mask (B, S),] ids, mask (B, T) -> logprobs, greedy (B, T - 1).

    The last column is scored, and never read, so a text may be one token longer than the model takes.
    """
    from torch import Tensor, nn

    class Score(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
            *source, ids, mask = given
            read, real = ids[:, :-1], mask[:, :-1]
            if source:
                called = {
                    "input_ids": source[0],
                    "attention_mask": source[1].long(),
                    "decoder_input_ids": read,
                    "decoder_attention_mask": real.long(),
                }
            else:
                called = self.model.transformer.inputs(read, real)
            return _scores(self.model.hf(**called, use_cache=False).logits, ids[:, 1:])

    inputs = [
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="length"),
        mask_input("mask", columns=LENGTH, axis="length"),
    ]
    if model.card.kind == "encoder-decoder":
        inputs = [
            ids_input("source_ids", vocabulary=model.card.vocabulary, columns=SOURCE, axis="source"),
            mask_input("source_mask", columns=SOURCE, axis="source"),
            *inputs,
        ]
    return Traceable(module=Score(), inputs=tuple(inputs), outputs=("logprobs", "greedy"))


def _scores(logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
    # Written out: `logsumexp` becomes ReduceLogSumExp, which takes 15 times as long in onnxruntime.
    best = logits.amax(-1)
    given = logits.gather(2, targets[:, :, None])[:, :, 0]
    rest = (logits - best[:, :, None]).exp().sum(-1).log()
    return given - best - rest, given >= best
