"""How a checkpoint writes texts where nobody says otherwise: its generation_config.json.

As in transformers 5: generation_config.json alone counts where it is there, else config.json, in which older
checkpoints have these settings. Ids that the vocabulary does not have mean nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from lmtasks.errors import UsageError
from lmtasks.files import read_object
from lmtasks.records import GenerationSettings, TokenRules

TOKEN_SETTINGS = frozenset(
    (
        *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    )
)
"""Settings that name tokens: the rules below, and what starts, ends and fills a text."""
OBEYED = frozenset(field.name for field in fields(GenerationSettings)) | TOKEN_SETTINGS
NO_MATTER = frozenset(
    (
        # What is given to whoever calls `generate`, and what the file is.
        *("return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores", "output_logits"),
        *("transformers_version", "_from_model_config", "_commit_hash", "_original_object_hash"),
        # How it is computed: caches, compilation, and tokens that are guessed first and then checked.
        *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "low_memory", "prefill_chunk_size"),
        *("compile_config", "disable_compile", "continuous_batching_config", "use_mtp", "is_assistant"),
        *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
        *("prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind"),
        *("target_lookbehind", "assistant_ensemble_weight", "speculation_type"),
        # Whoever asks says how long an answer may be, as lm-evaluation-harness does; NaN is refused.
        *("max_length", "remove_invalid_values"),
    )
)
"""Settings that change no text here."""
UNSET: Mapping[str, object] = {
    "do_sample": False,
    "max_time": None,
    "stop_strings": None,
    "token_healing": False,
    "guidance_scale": 1,
    "watermarking_config": None,
    "num_return_sequences": 1,
    "penalty_alpha": None,
    "dola_layers": None,
    "num_beam_groups": 1,
    "diversity_penalty": 0,
    "constraints": None,
    "force_words_ids": None,
}
"""Settings of transformers 5.23 that are not carried out here, each with the value that means nothing."""


@dataclass(frozen=True, kw_only=True)
class OwnGeneration:
    """The settings of a checkpoint for how it writes."""

    settings: GenerationSettings
    unheeded: Mapping[str, str]
    """What it says besides, and is not carried out here: names, and values as JSON."""


def settings_file(folder: Path) -> Path:
    """The file that says how the checkpoint in a folder writes."""
    file = folder / "generation_config.json"
    return file if file.is_file() else folder / "config.json"


def read_settings(file: Path) -> Mapping[str, object]:
    """The content of a settings file; empty where there is none.

    Raises:
        UsageError: it is damaged.
    """
    return read_object(file)


def read_generation(folder: Path, *, vocabulary: int) -> OwnGeneration:
    """The settings of the checkpoint in a folder.

    Raises:
        UsageError: a file is damaged, or a setting is not what it can be.
    """
    file = settings_file(folder)
    found = {name: value for name, value in read_settings(file).items() if value is not None}
    try:
        settings = GenerationSettings(
            max_new_tokens=_whole(found, "max_new_tokens"),
            temperature=_real(found, "temperature"),
            top_h=_real(found, "top_h"),
            top_k=_whole(found, "top_k"),
            top_p=_real(found, "top_p"),
            min_p=_real(found, "min_p"),
            typical_p=_real(found, "typical_p"),
            epsilon_cutoff=_real(found, "epsilon_cutoff"),
            eta_cutoff=_real(found, "eta_cutoff"),
            num_beams=_whole(found, "num_beams"),
            length_penalty=_real(found, "length_penalty"),
            early_stopping=_early_stopping(found),
            renormalize_logits=_truth(found, "renormalize_logits"),
            repetition_penalty=_real(found, "repetition_penalty"),
            encoder_repetition_penalty=_real(found, "encoder_repetition_penalty"),
            no_repeat_ngram_size=_whole(found, "no_repeat_ngram_size"),
            encoder_no_repeat_ngram_size=_whole(found, "encoder_no_repeat_ngram_size"),
            min_length=_whole(found, "min_length"),
            min_new_tokens=_whole(found, "min_new_tokens"),
            exponential_decay_length_penalty=_decay(found),
            sequence_bias=_bias(found, vocabulary=vocabulary),
        )
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return OwnGeneration(settings=settings, unheeded=_unheeded(found, whole=file.name == "generation_config.json"))


def _unheeded(found: Mapping[str, object], *, whole: bool) -> Mapping[str, str]:
    """Args: whole: is every name a setting of generation, and one that nobody knows told as well?"""
    return {
        name: json.dumps(value, ensure_ascii=False)
        for name, value in found.items()
        if name not in OBEYED | NO_MATTER and (value != UNSET[name] if name in UNSET else whole)
    }


def _whole(found: Mapping[str, object], name: str) -> int | None:
    value = found.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise UsageError(f"{name} must be a whole number, was {value!r}.")
    return value


def _real(found: Mapping[str, object], name: str) -> float | None:
    value = found.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UsageError(f"{name} must be a number, was {value!r}.")
    return None if value is None else float(value)


def _truth(found: Mapping[str, object], name: str) -> bool | None:
    value = found.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, was {value!r}.")
    return value


def _early_stopping(found: Mapping[str, object]) -> bool | Literal["never"] | None:
    value = found.get("early_stopping")
    if value == "never":
        return "never"
    if value is not None and not isinstance(value, bool):
        raise UsageError(f'early_stopping must be true, false or "never", was {value!r}.')
    return value


def _decay(found: Mapping[str, object]) -> tuple[int, float] | None:
    value = found.get("exponential_decay_length_penalty")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise UsageError(f"exponential_decay_length_penalty must be a start and a factor, was {value!r}.")
    start, factor = _whole({"its start": value[0]}, "its start"), _real({"its factor": value[1]}, "its factor")
    if start is None or factor is None:
        raise UsageError(f"exponential_decay_length_penalty must be a start and a factor, was {value!r}.")
    return start, factor


def _bias(found: Mapping[str, object], *, vocabulary: int) -> tuple[tuple[tuple[int, ...], float], ...] | None:
    value = found.get("sequence_bias")
    if value is None:
        return None
    refused = UsageError(
        f"sequence_bias must be a list of token ids below {vocabulary} with a number each, [[[7, 8], -2.0]], "
        f"was {value!r}."
    )
    biases: list[tuple[tuple[int, ...], float]] = []
    for pair in value if isinstance(value, list) else [None]:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], list) or not pair[0]:
            raise refused
        ids, bias = tuple(each for each in pair[0] if type(each) is int and 0 <= each < vocabulary), pair[1]
        if len(ids) < len(pair[0]) or isinstance(bias, bool) or not isinstance(bias, int | float):
            raise refused
        biases.append((ids, float(bias)))
    return tuple(dict(biases).items())


def read_rules(folder: Path, *, vocabulary: int) -> TokenRules:
    """The rules of the checkpoint in a folder.

    Raises:
        UsageError: a file is damaged, or a setting is neither a token id nor a list of them.
    """
    file = settings_file(folder)
    found = dict(read_settings(file))
    if file.name == "config.json" and found.get(
        "force_bos_token_to_be_generated"
    ):  # so BART's oldest checkpoints say it
        found["forced_bos_token_id"] = found.get("bos_token_id")

    def ids(name: str, given: object) -> tuple[int, ...]:
        listed: list[object] = list(given) if isinstance(given, list) else [] if given is None else [given]
        numbers = [each for each in listed if isinstance(each, int) and not isinstance(each, bool)]
        if len(numbers) < len(listed):
            raise UsageError(f"{name} in {file} must be a token id or a list of them, was {given!r}.")
        return tuple(each for each in numbers if 0 <= each < vocabulary)

    banned = found.get("bad_words_ids")
    words = [ids("bad_words_ids", word) for word in banned] if isinstance(banned, list) else []
    ends = ids("eos_token_id", found.get("eos_token_id"))
    # transformers takes no notice of a banned end token by itself.
    single = tuple(word[0] for word in words if len(word) == 1 and word[0] not in ends)
    return TokenRules(
        first=next(iter(ids("forced_bos_token_id", found.get("forced_bos_token_id"))), None),
        last=ids("forced_eos_token_id", found.get("forced_eos_token_id")),
        never=tuple(dict.fromkeys((*ids("suppress_tokens", found.get("suppress_tokens")), *single))),
        never_first=ids("begin_suppress_tokens", found.get("begin_suppress_tokens")),
        never_behind=tuple(word for word in words if len(word) > 1),
    )
