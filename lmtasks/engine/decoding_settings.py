"""The settings of a text: the request's own, over those of the model, over transformers' defaults.

So lm-evaluation-harness writes: it gives a task's settings to `generate`, where they lie over generation_config.json.
Whether anything is drawn is the task's to say, there as here.

>>> card = ModelCard(name="m", family="llama", kind="causal", adaptation="prompt", parameters=0, weights_hash="",
...     tokenizer_hash="", max_length_tokens=64, vocabulary=9,
...     generation=GenerationSettings(repetition_penalty=1.1, top_k=20), unheeded={"do_sample": "true"})
>>> greedy = resolve_decoding(Decoding(), card)
>>> greedy.repetition_penalty, greedy.num_beams, greedy.top_k, not_obeyed(Decoding(), card)
(1.1, 1, 0, {'do_sample': 'true', 'top_k': '20'})
>>> resolve_decoding(Decoding(temperature=0.7, repetition_penalty=1.0), card).top_k
20
"""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from lmtasks.records import GENERATION_DEFAULTS, GenerationSettings, ModelCard
from lmtasks.settings.generation import Decoding

DRAWS: Mapping[str, object] = {
    "top_h": None,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
"""Settings that only draws have, each with the value that lets every token be drawn."""
BEAMS: Mapping[str, object] = {
    "num_beams": 1,
    "length_penalty": GENERATION_DEFAULTS.length_penalty,
    "early_stopping": GENERATION_DEFAULTS.early_stopping,
    "renormalize_logits": GENERATION_DEFAULTS.renormalize_logits,
}
"""Settings that only beams have, each with the value that it has without them."""


def resolve_decoding(decoding: Decoding, model: ModelCard) -> Decoding:
    """The settings that a model writes with, none of them left open but those that have no value without being given.

    What changes no text (beams' settings without beams) has one value, so that equal settings are equal.
    """
    own = model.generation
    given: dict[str, Any] = {}
    for name in (field.name for field in fields(GenerationSettings)):
        layers = (getattr(decoding, name), getattr(own, name), getattr(GENERATION_DEFAULTS, name))
        given[name] = next((value for value in layers if value is not None), None)
    if decoding.temperature is None and own.temperature is None:
        given["temperature"] = 1.0
    given["max_new_tokens"] = decoding.max_new_tokens
    if given["temperature"] > 0:
        given |= BEAMS
    else:
        given |= DRAWS
        given |= BEAMS if given["num_beams"] == 1 else {}
    if given["min_new_tokens"] is not None:
        given["min_length"] = 0
    return _replaced(decoding, given)


def not_obeyed(decoding: Decoding, model: ModelCard) -> Mapping[str, str]:
    """Settings of the model's generation_config.json that a text asked for so does not obey: names and values."""
    unheeded = dict(model.unheeded)
    own = model.generation
    if decoding.temperature == 0:
        if "do_sample" in unheeded:  # else no text of the model would be drawn, and its filters mean nothing
            unheeded |= {
                name: json.dumps(getattr(own, name))
                for name in ("temperature", *DRAWS)
                if getattr(own, name) is not None and getattr(own, name) != getattr(GENERATION_DEFAULTS, name)
            }
        return unheeded
    unheeded.pop("do_sample", None)
    if (own.num_beams or 1) > 1 and decoding.num_beams is None:
        unheeded["num_beams"] = str(own.num_beams)
    return unheeded


def _replaced(settings: Decoding, given: Mapping[str, Any]) -> Decoding:
    return replace(settings, **given)
