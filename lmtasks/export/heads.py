"""The graph of all heads: one pass of the backbone, one output a head."""

from typing import TYPE_CHECKING

from lmtasks.export.examples import LENGTH, ids_input, mask_input
from lmtasks.export.trace import Input, Traceable

if TYPE_CHECKING:
    from lmtasks.model.model import Model


def heads_graph(model: "Model") -> Traceable | None:
    """ids, mask[, types], (B, T) -> `head.<name>` for each head; None for a model without heads that predict."""
    from torch import Tensor, nn

    names = tuple(spec.name for spec in model.card.heads if spec.predicts)
    own = frozenset(spec.name for spec in model.card.heads if spec.pooling == "own")
    if not names:
        return None

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            ids, mask, *rest = given
            types = rest[0] if rest else None
            hidden = None if own.issuperset(names) else self.model.encode(ids, mask, types)
            return tuple(
                self.model.head_logits(name, ids, mask, types) if name in own else self.model.head(name)(hidden, mask)
                for name in names
            )

    inputs: list[Input] = [
        ids_input("ids", vocabulary=model.card.vocabulary, columns=LENGTH, axis="length"),
        mask_input("mask", columns=LENGTH, axis="length"),
    ]
    if model.backbone.traits.takes_types:
        inputs.append(ids_input("types", vocabulary=2, columns=LENGTH, axis="length"))
    return Traceable(module=Heads(), inputs=tuple(inputs), outputs=tuple(f"head.{name}" for name in names))
