"""Any transformers checkpoint as a backbone: causal, encoder or encoder-decoder.

The backbone owns the language-model projection, often tied to its embeddings. Positions are counted over real
tokens only, so that padding may stand on either side wherever the architecture takes explicit positions.

A causal one can be read both ways, pass by pass, over the same weights: what a pretrained decoder knows serves better
to label texts and words once each token sees those behind it, too (BehnamGhader et al. 2024, arXiv:2404.05961).
Folders of earlier versions say it in their configuration, `is_causal: false`, and are encoders.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
)
from transformers.utils.logging import disable_progress_bar

from lmtasks.backbone.base import WHY_NOT, Backbone, Kind, Projection, Traits
from lmtasks.backbone.lora_targets import linear_places
from lmtasks.backbone.sizes import NO_LIMIT
from lmtasks.errors import UsageError
from lmtasks.files import reading
from lmtasks.settings.attention import Attention
from lmtasks.settings.training import Role

LOADERS: Mapping[str, type] = {
    "": AutoModel,
    "classification": AutoModelForSequenceClassification,
    "tagging": AutoModelForTokenClassification,
    "span": AutoModelForQuestionAnswering,
    "causal": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
OWN_HEADS: Mapping[str, str] = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "tagging",
    "ForQuestionAnswering": "span",
}
CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")
FILLING: Mapping[str, str] = {"bert": "cls", "eurobert": "lm_head"}
"""Name of the module that makes logits where tokens are hidden, by model_type."""
FEW_TOKENS = 8
"""By which a module is asked for its layers."""
POSITIONS_AFTER_PADDING = frozenset(
    {
        *("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "markuplm", "mpnet"),
        *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    }
)
"""Families that count positions from padding_idx + 1."""
ROWS_BEFORE_POSITIONS: Mapping[str, int] = {"mra": 2, "nystromformer": 2, "yoso": 2}
"""Rows of the table of positions before a text's first one, by model_type; max_position_embeddings counts none."""


class TransformerBackbone(Backbone):
    """A transformers module behind the words of lmtasks.

    Args:
        hf: the transformers module, with a language-model projection if its kind has one.
        traits: from `traits_of`.
    """

    def __init__(self, hf: nn.Module, traits: Traits) -> None:
        super().__init__()
        self.hf = hf
        self.traits = traits
        self._projects: bool | None = None
        self._ahead: bool | None = None
        self._turns: bool | None = None
        self.takes_positions = "position_ids" in inspect.signature(hf.forward).parameters
        self.first_position = _first_position(hf.config)  # type: ignore[arg-type]

    def inputs(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> dict[str, Tensor]:
        """Arguments of the transformers module, for ids and mask (B, T)."""
        called = {"input_ids": ids, "attention_mask": mask.long()}
        if self.takes_positions:
            called["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0) + self.first_position
        if types is not None and self.traits.takes_types:
            called["token_type_ids"] = types
        return called

    def encode(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Last hidden states, (B, T) -> (B, T, D); of the encoder, for an encoder-decoder."""
        if self.traits.kind == "encoder-decoder":
            hidden: Tensor = self.hf.get_encoder()(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # type: ignore[operator]
            return hidden
        return self._encoded(ids, mask, types)

    def read(
        self, ids: Tensor, mask: Tensor, types: Tensor | None = None, *, attention: Attention | None = None
    ) -> Tensor:
        """See `Backbone`."""
        if attention is not None:
            self.check_attention(attention)
        if attention == "both" and self.traits.kind == "causal":
            return self._encoded(ids, mask, types, turned=True)
        return self.encode(ids, mask, types)

    @property
    def adapted(self) -> nn.Module:
        """See `Backbone`."""
        return self.hf

    def adapt_places(self) -> Mapping[str, Role]:
        """See `Backbone`."""
        device = self.embeddings().weight.device
        ids = torch.arange(FEW_TOKENS, device=device)[None] % self.traits.vocabulary
        mask = torch.ones_like(ids, dtype=torch.bool)
        if self.traits.kind == "encoder-decoder":
            return linear_places(self.hf, lambda: self.decoded(ids, mask, ids))
        return linear_places(self.hf, lambda: self.encode(ids, mask))

    @property
    def attention(self) -> Attention:
        """See `Backbone`. A body without a language-model head may be causal all the same."""
        return "both" if self._sees_ahead() else "causal"

    def why_not(self, attention: Attention) -> str:
        """See `Backbone`. Whether it can be turned is asked of the module itself, once, with a few tokens."""
        if attention == self.attention or (attention == "both" and self._can_turn()):
            return ""
        if attention == "causal":
            return WHY_NOT["causal"]
        if self.traits.kind == "encoder":
            return (
                "its config.json names a body without a language-model head, which is read as it is; give the folder "
                "of the whole causal model."
            )
        return (
            f"{self.traits.family} shows a token those before it alone, whatever it is asked for; take a causal "
            "backbone of another family (Llama, Qwen, Mistral, Gemma, GPT-2 and others read as they are asked)."
        )

    def _encoded(self, ids: Tensor, mask: Tensor, types: Tensor | None, *, turned: bool = False) -> Tensor:
        """Hidden states of the body, read as it reads by itself, or `turned` both ways.

        transformers puts `is_causal` in the place of the configuration's, for this one pass and for all of its masks.
        """
        called: dict[str, object] = {**self.inputs(ids, mask, types)}
        if self.traits.kind == "causal":
            called["use_cache"] = False
        if turned:
            called["is_causal"] = False
        hidden: Tensor = self.hf.base_model(**called).last_hidden_state  # type: ignore[operator]
        return hidden

    def _sees_ahead(self) -> bool:
        """Do its early tokens see the late ones by themselves?"""
        if self._ahead is None:
            kind = self.traits.kind
            self._ahead = kind == "encoder-decoder" or (kind == "encoder" and self._first_sees_last())
        return self._ahead

    def _can_turn(self) -> bool:
        """Do its early tokens see the late ones where it is asked for that?"""
        if self._turns is None:
            takes = inspect.signature(self.hf.base_model.forward).parameters.values()  # type: ignore[union-attr]
            open_ended = any(each.kind is each.VAR_KEYWORD or each.name == "is_causal" for each in takes)
            self._turns = self.traits.kind == "causal" and open_ended and self._first_sees_last(turned=True)
        return self._turns

    @torch.no_grad()
    def _first_sees_last(self, *, turned: bool = False) -> bool:
        weight = self.embeddings().weight
        ids = torch.arange(3, device=weight.device)[None] % self.traits.vocabulary
        other = ids.clone()
        other[0, -1] = (ids[0, -1] + 1) % self.traits.vocabulary
        mask = torch.ones_like(ids, dtype=torch.bool)
        training = self.hf.training
        self.hf.eval()
        first, second = (self._encoded(each, mask, None, turned=turned)[0, 0] for each in (ids, other))
        self.hf.train(training)
        return not torch.equal(first, second)

    def projection(self) -> Projection | None:
        """See `Backbone`. Whether the logits are one product is asked of the module itself, once, with a few tokens."""
        layer = self.hf.get_output_embeddings()  # type: ignore[operator]
        if not isinstance(layer, nn.Linear):
            return None
        bias = layer.bias if layer.bias is not None else getattr(self.hf, "final_logits_bias", None)
        found = Projection(weight=layer.weight, bias=None if bias is None else bias.flatten())
        if self._projects is None:
            self._projects = self._says(found)
        return found if self._projects else None

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Backbone`."""
        called = {"input_ids": ids} if mask is None else self.inputs(ids, mask)
        logits: Tensor = self.hf(**called, use_cache=False).logits
        return logits

    def fill(self, ids: Tensor, places: Tensor) -> Tensor:
        """See `Backbone`. Most of a row is not asked for, and a third of a small model's work is its vocabulary."""
        if self.traits.kind == "causal":
            return self._fill_causally(ids, places)
        name = FILLING.get(self.traits.family, "")
        if self.hf.base_model is self.hf or not name:
            return super().fill(ids, places)
        hidden: Tensor = self.hf.base_model(input_ids=ids).last_hidden_state  # type: ignore[operator]
        logits: Tensor = self.hf.get_submodule(name)(
            hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[2]))
        )
        return logits

    def _fill_causally(self, ids: Tensor, places: Tensor) -> Tensor:
        # Layers hand what they are called with to attention, and full rows of one text need no mask.
        called = {"input_ids": ids, "use_cache": False, "is_causal": False}
        hidden: Tensor = self.hf.base_model(**called).last_hidden_state  # type: ignore[operator]
        return self.project(hidden.gather(1, (places - 1)[..., None].expand(-1, -1, hidden.shape[2])))

    def decoded(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """See `Backbone`."""
        both = self.hf.base_model
        hidden: Tensor
        if both is not self.hf:
            called = {"input_ids": ids, "attention_mask": mask.long(), "decoder_input_ids": decoder_ids}
            hidden = both(**called, use_cache=False).last_hidden_state  # type: ignore[operator]
            return hidden
        # T5 has no module that gives its decoder's hidden states, and scales them where its embeddings are tied.
        called = {"encoder_hidden_states": self.encode(ids, mask), "encoder_attention_mask": mask.long()}
        hidden = self.hf.get_decoder()(input_ids=decoder_ids, **called, use_cache=False).last_hidden_state  # type: ignore[operator]
        scaled = getattr(self.hf.config, "scale_decoder_outputs", False)
        return hidden * self.traits.width**-0.5 if scaled else hidden

    def decode(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """See `Backbone`."""
        logits: Tensor = self.hf(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=decoder_ids).logits
        return logits

    def embeddings(self) -> nn.Embedding:
        """See `Backbone`."""
        found: nn.Embedding = self.hf.get_input_embeddings()  # type: ignore[operator]
        return found

    def save(self, folder: Path) -> None:
        """See `Backbone`."""
        self.hf.save_pretrained(folder)  # type: ignore[operator]

    def own_logits(self, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        """Logits of the checkpoint's own task head: (B, C), (B, T, C), or (B, T, 2) for start and end."""
        output = self.hf(**self.inputs(ids, mask, types))
        if self.traits.own_head == "span":
            return torch.stack([output.start_logits, output.end_logits], dim=-1)
        logits: Tensor = output.logits
        return logits

    def _says(self, projection: Projection) -> bool:
        """Are the module's logits those of this projection?"""
        ids = torch.arange(3, device=projection.weight.device)[None] % self.traits.vocabulary
        mask = torch.ones_like(ids, dtype=torch.bool)
        training = self.hf.training
        self.hf.eval()
        with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):  # 16 bits would tell nothing apart
            if self.traits.kind == "encoder-decoder":
                own, ours = self.decode(ids, mask, ids), projection(self.decoded(ids, mask, ids))
            else:
                own, ours = self(ids, mask), projection(self.encode(ids, mask))
        self.hf.train(training)
        return torch.allclose(own, ours, rtol=1e-4, atol=1e-4)


def load_transformer(folder: Path, *, weights: Path | None = None) -> TransformerBackbone:
    """Load a transformers folder in fp32.

    Args:
        weights: the folder whose weights are read; None: `folder` itself.

    Raises:
        UsageError: no configuration, no weights, or weights that do not fit the configuration.
    """
    disable_progress_bar()  # progress is a callback here, and loading is quick
    config = read_config(folder)
    traits = traits_of(config)
    loader = LOADERS[traits.own_head or (traits.kind if traits.kind != "encoder" else "")]
    with reading(f"the model in {folder}"):
        try:
            hf, info = loader.from_pretrained(  # type: ignore[attr-defined]
                str(weights or folder),
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
            )
        except (UnpicklingError, EOFError) as error:  # what torch advises then would run whatever code the file holds
            raise UsageError(
                f"the weights in {weights or folder} hold more than tensors, or are damaged, and no other pickle is "
                "opened. Copy the model again, or save it as safetensors where it came from (save_pretrained)."
            ) from error
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise UsageError(
            f"the model in {folder} lacks {len(missing)} weights, the first is {missing[0]!r}; "
            f"its config.json asks for {type(hf).__name__}: give the folder that belongs to these weights."
        )
    hf.eval()
    return TransformerBackbone(hf, traits)


def transformer_like(folder: Path) -> TransformerBackbone:
    """The shape of a transformers folder in fp32, with random weights; a checkpoint's own task head is left out.

    Raises:
        UsageError: no configuration, or one that cannot be built.
    """
    config = read_config(folder)
    loader = LOADERS[kind] if (kind := traits_of(config).kind) != "encoder" else LOADERS[""]
    try:
        hf = loader.from_config(config, dtype=torch.float32)  # type: ignore[attr-defined]
    except ValueError as error:
        raise UsageError(f"the model in {folder} cannot be built anew: {_first_line(error)}") from error
    config.architectures = [type(hf).__name__]
    return TransformerBackbone(hf.eval(), traits_of(config))


def read_config(folder: Path) -> PreTrainedConfig:
    """The transformers configuration of a folder."""
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} is no model: it has no config.json.")
    with reading(f"{folder}/config.json"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        traits_of(config)
    return config


def traits_of(config: PreTrainedConfig) -> Traits:
    """Facts of the backbone that a configuration describes."""
    architecture = (config.architectures or [""])[0]
    ending = next((name for name in OWN_HEADS if architecture.endswith(name)), "")
    own = OWN_HEADS.get(ending, "")
    causal = architecture.endswith(CAUSAL_ENDINGS) or (not architecture and config.model_type in {"gpt2", "llama"})
    kind: Kind = "encoder-decoder" if config.is_encoder_decoder and not own else "causal" if causal else "encoder"
    labels: dict[int, str] = dict(config.id2label or {}) if own in {"classification", "tagging"} else {}  # type: ignore[assignment]
    return Traits(
        kind=kind,
        family=config.model_type,
        own_head=own,
        own_labels=tuple(labels[index] for index in sorted(labels)),
        width=int(config.hidden_size),
        vocabulary=int(config.vocab_size),
        max_length_tokens=_longest(config),
        takes_types=int(getattr(config, "type_vocab_size", 0) or 0) > 1,
        pad=int(config.pad_token_id or 0),
        by_transformers=True,
    )


def _longest(config: PreTrainedConfig) -> int:
    """Longest input; a configuration that states None, or no number of positions (XLNet: -1), has no limit."""
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
    stated = [getattr(config, name) for name in names if hasattr(config, name)]
    found = [int(value) for value in stated if value is not None and value > 0]
    if not found:
        # T5 states nothing: it has relative positions and no limit, and 512 is what it was trained on.
        return NO_LIMIT if stated else 512
    return found[0] - _first_behind_padding(config)


def _first_position(config: PreTrainedConfig) -> int:
    """The position of a text's first token."""
    return ROWS_BEFORE_POSITIONS.get(config.model_type, _first_behind_padding(config))


def _first_behind_padding(config: PreTrainedConfig) -> int:
    return int(config.pad_token_id or 0) + 1 if config.model_type in POSITIONS_AFTER_PADDING else 0


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
