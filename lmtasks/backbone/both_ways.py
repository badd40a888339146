"""A causal backbone whose layers attend both ways: the encoder of the same weights.

What a pretrained decoder knows serves to label texts and words better once each token sees those behind it, too
(BehnamGhader et al. 2024, https://arxiv.org/abs/2404.05961). Llama's weights are, name by name, those of EuroBERT
(https://arxiv.org/abs/2503.05500), an encoder that transformers and every tool over it can load.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import EuroBertConfig, PreTrainedConfig

from lmtasks.backbone.transformer import read_config, traits_of
from lmtasks.errors import UsageError


def both_ways(folder: Path) -> PreTrainedConfig:
    """The configuration of the encoder that reads the weights of a causal backbone's folder.

    Raises:
        UsageError: the backbone is not causal, or no encoder of its shape is known.
    """
    config = read_config(folder)
    traits = traits_of(config)
    if traits.kind != "causal":
        raise UsageError(
            f"{folder.name} is no causal language model ({type(config).__name__}, read as {traits.kind}); "
            "attention both ways is something to give to those alone."
        )
    if traits.family not in ENCODERS:
        raise UsageError(
            f"no encoder is known that has the weights of {traits.family}, of which {folder.name} is; "
            f"attention both ways can be had for: {', '.join(ENCODERS)}."
        )
    return ENCODERS[traits.family](config)


def _eurobert(config: PreTrainedConfig) -> PreTrainedConfig:
    # Nobody asks the adapted encoder for hidden tokens, and Llama's vocabulary has no token that hides.
    kept = {name: value for name, value in config.to_dict().items() if name not in CAUSAL_SETTINGS}
    return EuroBertConfig(**kept, architectures=["EuroBertModel"], mask_token_id=config.pad_token_id)


CAUSAL_SETTINGS = frozenset({"architectures", "model_type", "use_cache", "transformers_version"})
ENCODERS: Mapping[str, Callable[[PreTrainedConfig], PreTrainedConfig]] = {"llama": _eurobert}
"""By model_type of the causal backbone."""
