"""Every family of the table, small, with random weights that differ enough to see a fault."""

import torch

from lmtasks.backbone.base import Backbone
from lmtasks.backbone.family import FAMILIES, new_backbone
from lmtasks.backbone.sizes import Vocabulary

VOCABULARY = Vocabulary(size=50, bos=0, eos=0, pad=1)
TRANSFORMERS = ("llama", "gpt2", "bert", "eurobert", "transformer", "bart", "t5")
OWN = tuple(name for name in FAMILIES if name not in TRANSFORMERS)
SETTINGS = {
    "average": "average:width=8,buckets=100",
    "cnn": "cnn:width=8,filters=6",
    **{name: f"{name}:width=8,layers=2" for name in OWN if name not in ("average", "cnn")},
    **{name: f"{name}:width=8,layers=1,heads=2,inner=12,context=32" for name in TRANSFORMERS},
}


def small(name: str, *, seed: int = 0) -> Backbone:
    """A small backbone of that family, in evaluation mode."""
    torch.manual_seed(seed)
    made = new_backbone(SETTINGS[name], VOCABULARY).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:  # Marian's positions are fixed
                parameter.normal_(0.0, 0.3)
    return made
