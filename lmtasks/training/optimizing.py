"""Which optimizer moves which weights.

`muon` (Jordan et al., 2024, "Muon: an optimizer for hidden layers") moves the matrices between the layers by an
orthogonalized momentum, with steps as large as AdamW's (Liu et al., 2025, "Muon is scalable for LLM training");
embeddings, projections to the vocabulary, norms and biases stay with AdamW.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lmtasks.settings.training import TrainingSettings

EMBEDDING_PARTS = frozenset({"lm_head", "classifier", "decoder_predictions"})
"""Modules by the last part of their name that project to a vocabulary or to labels, tied or not."""


def make_optimizers(module: nn.Module, settings: TrainingSettings) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of a module; together they hold every weight that moves, once."""
    free = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    hidden = _hidden_matrices(module, free) if settings.optimizer == "muon" else {}
    rest = [parameter for name, parameter in free.items() if name not in hidden]
    groups = [
        {"params": [item for item in rest if item.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [item for item in rest if item.dim() < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
    if not hidden:
        return (adamw,)
    muon = torch.optim.Muon(
        list(hidden.values()),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return (adamw, muon)


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """The rate of the next step."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def optimizer_tensors(module: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of the optimizers, named `KEY:PARAMETER`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{key}:{names[parameter]}": torch.as_tensor(value).detach().cpu().contiguous()
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(
    module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], saved: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` took."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    states: dict[str, dict[str, Tensor]] = {}
    for entry, tensor in saved.items():
        key, _, name = entry.partition(":")
        states.setdefault(name, {})[key] = tensor
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if names[parameter] in states:
                    # In one pass, AdamW counts its steps where the parameter is.
                    optimizer.state[parameter] = {
                        key: tensor.to(parameter.device) for key, tensor in states[names[parameter]].items()
                    }


def _hidden_matrices(module: nn.Module, free: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Weights of linear layers that lie between layers: not those that meet a vocabulary."""
    embeddings = {id(item.weight) for item in module.modules() if isinstance(item, nn.Embedding)}
    linear = {
        f"{name}.weight"
        for name, item in module.named_modules()
        if isinstance(item, nn.Linear) and name.rpartition(".")[2] not in EMBEDDING_PARTS
    }
    return {name: item for name, item in free.items() if name in linear and id(item) not in embeddings}
