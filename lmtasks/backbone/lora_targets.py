"""Where adapters can stand: the matrices of a backbone, each with the role that it plays.

No architecture is listed. A linear layer of a module of transformers counts where the last hidden states follow from
what it yields, which is asked of the module itself with a few tokens: that leaves out embeddings, poolers, projections
to a vocabulary, and layers whose weights something else reads. Their role is read off their names.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lmtasks.settings.training import Role

_ATTENTION = re.compile(r"att(?:n|ention)|\.[qkvo]_proj$", re.IGNORECASE)
_FEED_FORWARD = re.compile(
    r"mlp|ffn|\.(?:gate|up|down)_proj$|feed_?forward|fc_?\d|DenseReluDense|\bff\b|(?:intermediate|output)\.dense|dense_(?:h_to_4h|4h_to_h)",
    re.IGNORECASE,
)
_EMBEDDINGS = re.compile(r"embed", re.IGNORECASE)
_KERNELS = re.compile(r"(?:mamba|mixer)\.out_proj$")
"""Fast kernels of state space models read its weight themselves."""
_NARROW = 4
"""A layer with a shorter side is a gate: no rank of it is low."""


def linear_places(module: nn.Module, read: Callable[[], Tensor]) -> Mapping[str, Role]:
    """Names of the linear layers that hidden states follow from, each with its role, in the order of the module.

    Args:
        read: runs the module over a few tokens and yields hidden states, (B, T, D).
    """
    from transformers.pytorch_utils import Conv1D

    names = {
        layer: name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | Conv1D)
        and min(layer.weight.shape) >= _NARROW
        and not (_EMBEDDINGS.search(name) or _KERNELS.search(name))
    }
    yielded: dict[str, list[Tensor]] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: yielded.setdefault(names[layer], []).append(output))
        for layer in names
    ]
    training = module.training
    module.eval()
    try:
        with torch.enable_grad():
            hidden = read()
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    called = [(name, output) for name, outputs in yielded.items() for output in outputs if output.requires_grad]
    # Of what layers yield and not of their weights, whose gradients would be as large as the module.
    gradients = torch.autograd.grad(hidden.sum(), [output for _, output in called], allow_unused=True)
    read_from = {name for (name, _), gradient in zip(called, gradients, strict=True) if gradient is not None}
    return {name: role_of(name) for name in names.values() if name in read_from}


def own_places(module: nn.Module) -> Mapping[str, Role]:
    """Names of the matrices of a family of our own, each with its role: input and hidden matrices of recurrent layers,
    filters (one matrix over all tokens that they look at), linear layers."""
    found: dict[str, Role] = {}
    for name, layer in module.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            if parameter.dim() < 2 or isinstance(layer, nn.Embedding):
                continue
            place = f"{name}.{own}" if name else own
            if isinstance(layer, nn.RNNBase):
                found[place] = "recurrent"
            elif isinstance(layer, nn.Conv1d):
                found[place] = "convolution"
            elif isinstance(layer, nn.Linear):
                found[place.removesuffix(".weight")] = role_of(name)
    return found


def role_of(name: str) -> Role:
    """The role of a linear layer, as its name says.

    >>> role_of("encoder.layer.0.attention.output.dense"), role_of("encoder.layer.0.output.dense"), role_of("mixer.in")
    ('attention', 'feed-forward', 'other')
    """
    if _ATTENTION.search(name):
        return "attention"
    return "feed-forward" if _FEED_FORWARD.search(name) else "other"
