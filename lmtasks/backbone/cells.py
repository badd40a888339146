"""What the recurrent families share: cells by name, states with rows first, real lengths, variational dropout.

Axes: B batch, T time, D width.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lmtasks.backbone.base import State

CELLS: Mapping[str, Callable[[int, int], nn.RNNBase]] = {
    "rnn": lambda given, width: nn.RNN(given, width, batch_first=True),
    "lstm": lambda given, width: nn.LSTM(given, width, batch_first=True),
    "gru": lambda given, width: nn.GRU(given, width, batch_first=True),
}
"""One layer, one way; (width of what it reads, its own)."""


def parts_of(cell: str) -> int:
    """Tensors in a state: an LSTM keeps a memory beside what it says."""
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
        said, after = layer(packed, own)
        hidden, _ = pad_packed_sequence(said, batch_first=True, total_length=given.shape[1])
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
