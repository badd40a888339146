"""Families of our own: embeddings of tokens, and how a backbone is written to its folder.

What transformers folders say in config.json too (vocab_size, eos_token_id, decoder_start_token_id) has the same names.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from lmtasks.backbone.base import Backbone
from lmtasks.backbone.sizes import FAMILY, Sizes, Vocabulary


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
