"""Parts that families of our own share: their base class, which writes a backbone to its folder; embeddings of tokens;
recurrent cells by name, one way and both, with real lengths and variational dropout.

Settings that transformers folders have in config.json too (vocab_size, eos_token_id, decoder_start_token_id) have the
same names here.

Axes: B batch, T time, D width.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lmtasks.backbone.base import Backbone, State
from lmtasks.backbone.lora_targets import own_places
from lmtasks.backbone.sizes import FAMILY, Sizes, Vocabulary
from lmtasks.settings.training import Role

CELLS: Mapping[str, Callable[[int, int], nn.RNNBase]] = {
    "rnn": lambda given, width: nn.RNN(given, width, batch_first=True),
    "lstm": lambda given, width: nn.LSTM(given, width, batch_first=True),
    "gru": lambda given, width: nn.GRU(given, width, batch_first=True),
}
"""One layer, one way; (width of what it reads, its own)."""


class OwnBackbone(Backbone):
    """A backbone of one of these families.

    Args:
        sizes: its settings.
        vocabulary: of its tokenizer.
    """

    tokens: "TokenEmbedding"

    def __init__(self, sizes: Sizes, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._sizes, self._vocabulary = sizes, vocabulary

    def embeddings(self) -> nn.Embedding:
        """See `Backbone`."""
        return self.tokens

    def adapt_places(self) -> Mapping[str, Role]:
        """See `Backbone`."""
        return own_places(self)

    def save(self, folder: Path) -> None:
        """See `Backbone`. A tensor that stands in two places is written once."""
        from safetensors.torch import save_model

        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = self._vocabulary
        config: dict[str, object] = {
            FAMILY: self.traits.family,
            "sizes": asdict(self._sizes),
            "vocab_size": vocabulary.size,
            "bos_token_id": vocabulary.bos,
            "eos_token_id": vocabulary.eos,
            "pad_token_id": vocabulary.pad,
        }
        if self.traits.kind == "encoder-decoder":
            config["decoder_start_token_id"] = vocabulary.pad
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_model(self, str(folder / "model.safetensors"))


class TokenEmbedding(nn.Embedding):
    """(B, T) ids -> (B, T, D).

    Args:
        scale: values begin uniform between -scale and scale.
        dropout: share of the vocabulary that reads as zero in a training step, wherever it stands; the other words are
            larger for it (Gal and Ghahramani 2016; Merity et al. 2018, https://arxiv.org/abs/1708.02182, section 4.3).
    """

    def __init__(self, vocabulary: Vocabulary, width: int, *, scale: float, dropout: float) -> None:
        super().__init__(vocabulary.size, width)
        self.dropout = dropout
        nn.init.uniform_(self.weight, -scale, scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of the words that are not dropped."""
        vectors = super().forward(ids)
        if not self.training or not self.dropout:
            return vectors
        kept = torch.bernoulli(vectors.new_full((self.num_embeddings, 1), 1 - self.dropout)) / (1 - self.dropout)
        return vectors * kept[ids]

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The same, and zeros where the mask is False, whatever stands there."""
        vectors: Tensor = self(ids)
        return vectors * mask.unsqueeze(-1).to(vectors.dtype)


def even_scale(width: int) -> float:
    """Where uniform values must lie for vectors of length 1 on average; 0.1 at a width of 300, as in Zaremba et al.
    (2014)."""
    return float((3.0 / width) ** 0.5)


class BothWays(nn.Module):
    """Layers that read right-padded rows forward and back, (B, T, D) -> (B, T, D); half of D for each way.

    Args:
        cell: `lstm` or `gru`.
    """

    def __init__(self, cell: str, *, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cell, self.side, self.dropout = cell, width // 2, dropout
        self.forth = nn.ModuleList(CELLS[cell](width, self.side) for _ in range(layers))
        self.back = nn.ModuleList(CELLS[cell](width, self.side) for _ in range(layers))
        for layer in (*self.forth, *self.back):
            start_small(layer, scale=width**-0.5)

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and mask (B, T) -> (B, T, D)."""
        places = reversal(mask)
        zero = tuple(given.new_zeros(len(given), self.side) for _ in range(parts_of(self.cell)))
        hidden = same_for_all_times(given, self.dropout, self.training)
        for forth, back in zip(self.forth, self.back, strict=True):
            one, _ = run(forth, hidden, zero, None)  # type: ignore[arg-type]
            other, _ = run(back, moved(hidden, places), zero, None)  # type: ignore[arg-type]
            hidden = torch.cat([one, moved(other, places)], dim=-1)
            hidden = same_for_all_times(hidden, self.dropout, self.training)
        return hidden


def parts_of(cell: str) -> int:
    """Tensors in a state: an LSTM keeps a memory beside its output."""
    return 2 if cell == "lstm" else 1


def run(layer: nn.RNNBase, given: Tensor, state: State, mask: Tensor | None) -> tuple[Tensor, State]:
    """Run a layer over rows, (B, T, D), each part of the state (B, D).

    Args:
        mask: (B, T), right-padded: the state is that behind each row's last token. None: no row is padded, or nobody
            reads the state.
    """
    hx = tuple(part.unsqueeze(0).contiguous() for part in state)
    own = hx if len(hx) > 1 else hx[0]
    if mask is None or bool(mask.all()):
        hidden, after = layer(given, own)
    else:
        lengths = mask.sum(1)
        packed = pack_padded_sequence(given, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        packed_output, after = layer(packed, own)
        hidden, _ = pad_packed_sequence(packed_output, batch_first=True, total_length=given.shape[1])
        after = _kept(after, own, lengths > 0)
    return hidden, tuple(part[0] for part in (after if isinstance(after, tuple) else (after,)))


def reversal(mask: Tensor) -> Tensor:
    """Where each token goes when every right-padded row is read backwards, (B, T); padding stays where it is.

    >>> reversal(torch.tensor([[True, True, True, False]])).tolist()
    [[2, 1, 0, 3]]
    """
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - places, places)


def moved(values: Tensor, places: Tensor) -> Tensor:
    """(B, T, D) in another order, (B, T)."""
    return values.gather(1, places.unsqueeze(-1).expand_as(values))


def to_the_right(mask: Tensor) -> tuple[Tensor, Tensor] | None:
    """For rows with padding on the left: where each column comes from when it stands on the right, and back again.
    None: no row has any."""
    if bool(mask[:, 0].all()):
        return None
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)
    return order, torch.argsort(order, dim=1)


def same_for_all_times(values: Tensor, share: float, training: bool) -> Tensor:
    """Dropout that draws one mask a row, (B, T, D): what is dropped once is dropped at all times (Gal and Ghahramani
    2016, https://arxiv.org/abs/1512.05287)."""
    if not training or not share:
        return values
    keep = torch.full((values.shape[0], 1, values.shape[2]), 1 - share, device=values.device, dtype=values.dtype)
    return values * (torch.bernoulli(keep) / (1 - share))


def start_small(module: nn.Module, *, scale: float) -> None:
    """Uniform weights between -scale and scale, zeros for biases; the gates that forget begin open."""
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            nn.init.uniform_(parameter, -scale, scale)
        else:
            nn.init.zeros_(parameter)
            if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                with torch.no_grad():
                    parameter[module.hidden_size : 2 * module.hidden_size] = 1.0


def _kept(after: State | Tensor, before: State | Tensor, read: Tensor) -> State:
    """A row that had no token keeps its state."""
    pairs = zip(_tuple(after), _tuple(before), strict=True)
    return tuple(torch.where(read[None, :, None], new, old) for new, old in pairs)


def _tuple(state: State | Tensor) -> State:
    return state if isinstance(state, tuple) else (state,)
