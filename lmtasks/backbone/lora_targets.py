"""Where adapters can stand: the matrices of a transformers family by the role that they play.

A role is a pattern for the end of a module's name. `output.dense` of BERT stands in its attention and in its
feed-forward layer, so that a list of names would not do.
"""

import re
from collections.abc import Mapping, Sequence

from lmtasks.settings.training import Role

AdaptPoints = Mapping[Role, str]

_LLAMA: AdaptPoints = {
    "attention": r"self_attn\.[qkvo]_proj",
    "feed-forward": r"mlp\.(?:gate|up|down)_proj",
}
_BART: AdaptPoints = {
    "attention": r"(?:self|encoder)_attn\.(?:[qkv]|out)_proj",
    "feed-forward": r"fc[12]",
}
_BERT: AdaptPoints = {
    "attention": r"attention\.(?:self\.(?:query|key|value)|output\.dense)",
    "feed-forward": r"layer\.\d+\.(?:intermediate|output)\.dense",
}
_T5: AdaptPoints = {
    "attention": r"(?:SelfAttention|EncDecAttention)\.[qkvo]",
    "feed-forward": r"DenseReluDense\.(?:wi|wi_0|wi_1|wo)",
}

ADAPT_POINTS: Mapping[str, AdaptPoints] = {
    "eurobert": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gpt2": {"attention": r"attn\.c_(?:attn|proj)", "feed-forward": r"mlp\.c_(?:fc|proj)"},
    "gpt_neox": {
        "attention": r"attention\.(?:query_key_value|dense)",
        "feed-forward": r"mlp\.dense_(?:h_to_4h|4h_to_h)",
    },
    "opt": _BART,
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": {"attention": r"attention\.[qkv]_lin|attention\.out_lin", "feed-forward": r"ffn\.lin[12]"},
    "modernbert": {"attention": r"attn\.W(?:qkv|o)", "feed-forward": r"mlp\.W[io]"},
    "marian": _BART,
    "bart": _BART,
    "mbart": _BART,
    "pegasus": _BART,
    "t5": _T5,
    "mt5": _T5,
}
"""By transformers' model_type."""


def points_pattern(points: AdaptPoints, roles: Sequence[Role]) -> str:
    r"""A pattern that the whole name of a module matches if it plays one of these roles.

    >>> points_pattern({"attention": r"attn\.q"}, ["attention"])
    '(?:.*\\.)?(?:attn\\.q)'
    """
    return rf"(?:.*\.)?(?:{'|'.join(points[role] for role in roles)})"


def matching(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names that the pattern matches, whole."""
    return tuple(name for name in names if re.fullmatch(pattern, name))
