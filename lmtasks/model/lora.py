"""Low-rank adapters (LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685) that learn beside a backbone's matrices.

Beside a matrix W a product alpha / rank * B A of two narrow ones learns, and W stays as it is. peft puts them in.
"""

from typing import TYPE_CHECKING

from lmtasks.backbone.lora_targets import matching, points_pattern
from lmtasks.errors import UsageError
from lmtasks.model.adapters import Adapter
from lmtasks.settings.training import LoraSettings

if TYPE_CHECKING:
    from lmtasks.model.model import Model

NAME = "default"
"""What peft calls an adapter that has no name."""


def check_lora(model: "Model", settings: LoraSettings) -> None:
    """That a model can carry these adapters.

    Raises:
        UsageError: its family has no adapt points, or the rank is above that of a matrix.
    """
    traits = model.backbone.traits
    if not traits.adapt_points:
        raise UsageError(
            f"a {traits.family} backbone has no adapt points for lora: {traits.why_no_points}; use full or probe."
        )
    modules = dict(model.hf.named_modules())
    names = matching(points_pattern(traits.adapt_points, settings.points), tuple(modules))
    if not names:
        raise UsageError(
            f"no layer of {model.card.name} ({traits.family}) plays the role of {' or '.join(settings.points)}."
        )
    narrow = min(names, key=lambda name: min(_shape(modules[name])))
    most = min(_shape(modules[narrow]))
    if settings.rank > most:
        raise UsageError(
            f"the rank of adapters must be at most {most}, the smaller side of {narrow}, was {settings.rank}."
        )


def add_lora(model: "Model", settings: LoraSettings) -> None:
    """Put adapters into the backbone, in place; all of its own weights stand still from now on."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    check_lora(model, settings)
    pattern = points_pattern(model.backbone.traits.adapt_points, settings.points)
    modules = dict(model.hf.named_modules())
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank if settings.alpha is None else settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=pattern,
        # GPT-2 keeps its matrices the other way round
        fan_in_fan_out=isinstance(modules[matching(pattern, tuple(modules))[0]], Conv1D),
    )
    inject_adapter_in_model(config, model.hf, adapter_name=NAME)


def take_lora(model: "Model", *, base_name: str) -> Adapter:
    """The adapters that `add_lora` put in, as they are now."""
    from peft import get_peft_model_state_dict

    written = model.hf.peft_config[NAME].to_dict()  # type: ignore[index, union-attr, operator]
    content = {name: value for name, value in written.items() if value is not None}
    listed = {name: sorted(value) if isinstance(value, set) else value for name, value in content.items()}
    tensors = get_peft_model_state_dict(model.hf, adapter_name=NAME)
    return Adapter(
        config={**listed, "base_model_name_or_path": base_name, "inference_mode": True},
        tensors={name: tensor.detach().cpu() for name, tensor in tensors.items()},
    )


def _shape(module: object) -> tuple[int, ...]:
    return tuple(module.weight.shape)  # type: ignore[attr-defined]
