"""`generation_kwargs` as lm-evaluation-harness reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from lmtasks.errors import UsageError, unknown
from lmtasks.files import parse_json
from lmtasks.settings.generation import Decoding
from lmtasks.task.task import Task

LENGTH_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the same thing; where several are given the first wins."""
CARRIED_OUT = (
    *LENGTH_KEYS,
    "until",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "num_beams",
    "length_penalty",
    "early_stopping",
    "renormalize_logits",
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "min_length",
    "min_new_tokens",
    "seed",
)
HARMLESS = ("use_cache", "pad_token_id")
"""Settings of how transformers computes, which change no answer."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("max_length", "num_return_sequences"),
        "is a setting of transformers that no runtime here carries out; max_gen_toks bounds the length, repeats asks "
        "several times",
    ),
    "penalty_alpha": "is a setting of transformers that no runtime here carries out; repetition_penalty, top_k, top_p "
    "and typical_p are there",
    **dict.fromkeys(
        ("num_beam_groups", "diversity_penalty"), "belongs to group beam search, which no runtime here carries out"
    ),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), "is a setting of servers; repetition_penalty is there"),
    **dict.fromkeys(
        (
            *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias"),
            *("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"),
        ),
        "is read from the model's generation_config.json alone",
    ),
    "think_end_token": "cuts off what a model thinks; a filter of filter_list (regex) does so, or --think-end-token",
}
"""Settings that lm-evaluation-harness passes on to transformers and servers: leaving them out would change answers."""


def generation_of(kwargs: Mapping[str, object] | None, *, delimiter: str) -> Decoding:
    """The settings of a task file. Without `until`, answers end at `delimiter`.

    Raises:
        UsageError: a key is unknown or not carried out, or a value is out of range.
    """
    return changed(Decoding(stop=(delimiter,) if delimiter else ()), kwargs or {})


def with_generation(tasks: Sequence[Task], kwargs: Mapping[str, object]) -> tuple[Task, ...]:
    """The tasks with these settings instead of their files'; those that write no text stay as they are.

    Their hashes stay, too: how a model writes is no part of what it is asked. Results tell it as `decoding`.

    Raises:
        UsageError: a wrong setting, or no task writes any text.
    """
    if not kwargs:
        return tuple(tasks)
    if all(task.output_type != "generate_until" for task in tasks):
        names = ", ".join(task.name for task in tasks)
        raise UsageError(
            f"settings of generation ({', '.join(kwargs)}) change nothing: no text is written for {names}."
        )
    return tuple(
        replace(task, generation=_insisted(task.generation, kwargs)) if task.output_type == "generate_until" else task
        for task in tasks
    )


def read_kwargs(text: str, *, what: str = "settings of generation") -> Mapping[str, object]:
    """Settings as a person types them: names and values, or a JSON object where a value holds a comma.

    >>> read_kwargs("num_beams=4,length_penalty=0.6")
    {'num_beams': '4', 'length_penalty': '0.6'}
    >>> read_kwargs('{"until": [",", "."]}')
    {'until': [',', '.']}

    Raises:
        UsageError: neither.
    """
    if text.lstrip().startswith("{"):
        try:
            return dict(parse_json(text))
        except ValueError as error:
            raise UsageError(f"{what} are no JSON object ({error}): {text!r}.") from None
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for name, sign, _ in pairs:
        if not sign:
            raise UsageError(
                f"{what} are names and values with commas between (NAME=VALUE,NAME=VALUE), or a JSON object; "
                f"{name.strip()!r} has no value."
            )
    return {name.strip(): value.strip() for name, _, value in pairs}


def changed(settings: Decoding, given: Mapping[str, object]) -> Decoding:
    """The settings, those that are given in place of their own.

    Raises:
        UsageError: a key is unknown or not carried out, or a value is out of range.
    """
    for key in given:
        if key in REFUSED:
            raise UsageError(f"generation_kwargs.{key} {REFUSED[key]}.")
        if key not in CARRIED_OUT and key not in HARMLESS:
            raise unknown("key of generation_kwargs", key, CARRIED_OUT)
    length = next((given[key] for key in LENGTH_KEYS if given.get(key) is not None), settings.max_new_tokens)
    seed = given.get("seed", settings.seed)

    def real(key: str, own: float | None, *, at_least: float, at_most: float = float("inf")) -> float | None:
        value = given.get(key)
        return own if value is None else _number(key, value, at_least=at_least, at_most=at_most)

    def whole(key: str, own: int | None, *, at_least: int) -> int | None:
        value = given.get(key)
        return own if value is None else _whole(key, value, at_least=at_least)

    def truth(key: str, own: bool | None) -> bool | None:
        return _truth(key, given.get(key), own=own)

    return Decoding(
        max_new_tokens=_whole("max_gen_toks", length, at_least=1),
        stop=_stops(given.get("until"), own=settings.stop),
        temperature=_temperature(given, own=settings.temperature),
        top_k=whole("top_k", settings.top_k, at_least=0),
        top_p=real("top_p", settings.top_p, at_least=0, at_most=1),
        min_p=real("min_p", settings.min_p, at_least=0, at_most=1),
        top_h=real("top_h", settings.top_h, at_least=0, at_most=1),
        typical_p=real("typical_p", settings.typical_p, at_least=0, at_most=1),
        epsilon_cutoff=real("epsilon_cutoff", settings.epsilon_cutoff, at_least=0, at_most=1),
        eta_cutoff=real("eta_cutoff", settings.eta_cutoff, at_least=0, at_most=1),
        num_beams=whole("num_beams", settings.num_beams, at_least=1),
        length_penalty=real("length_penalty", settings.length_penalty, at_least=float("-inf")),
        early_stopping=_early_stopping(given.get("early_stopping"), own=settings.early_stopping),
        renormalize_logits=_truth(
            "renormalize_logits", given.get("renormalize_logits"), own=settings.renormalize_logits
        ),
        repetition_penalty=real("repetition_penalty", settings.repetition_penalty, at_least=0),
        encoder_repetition_penalty=real("encoder_repetition_penalty", settings.encoder_repetition_penalty, at_least=0),
        no_repeat_ngram_size=whole("no_repeat_ngram_size", settings.no_repeat_ngram_size, at_least=0),
        encoder_no_repeat_ngram_size=whole(
            "encoder_no_repeat_ngram_size", settings.encoder_no_repeat_ngram_size, at_least=0
        ),
        min_length=whole("min_length", settings.min_length, at_least=0),
        min_new_tokens=whole("min_new_tokens", settings.min_new_tokens, at_least=0),
        seed=None if seed is None else _whole("seed", seed, at_least=0),
        insists=settings.insists,
    )


def _insisted(settings: Decoding, given: Mapping[str, object]) -> Decoding:
    """The settings, changed by a person, whose length counts before that of the model."""
    insists = any(given.get(key) is not None for key in LENGTH_KEYS)
    return replace(changed(settings, given), insists=settings.insists or insists)


def _stops(until: object, *, own: tuple[str, ...]) -> tuple[str, ...]:
    if until is None:
        return own
    if isinstance(until, str):
        return (until,) if until else ()
    if isinstance(until, list):
        return tuple(str(stop) for stop in until if stop)
    raise UsageError(f"generation_kwargs.until must be a text or a list of texts, was: {until!r}.")


def _temperature(given: Mapping[str, object], *, own: float | None) -> float | None:
    """`do_sample: false` means greedy whatever the temperature; `do_sample: true` alone means the model's, or 1."""
    sample = _truth("do_sample", given.get("do_sample"), own=None)
    stated = given.get("temperature")
    if sample is False:
        return 0.0
    if stated is not None:
        return _number("temperature", stated, at_least=0)
    return None if sample and own == 0 else own


def _truth(key: str, value: object, *, own: bool | None) -> bool | None:
    if value is None:
        return own
    if str(value).lower() not in ("true", "false"):
        raise UsageError(f"generation_kwargs.{key} must be true or false, was: {value!r}.")
    return str(value).lower() == "true"


def _early_stopping(value: object, *, own: bool | Literal["never"] | None) -> bool | Literal["never"] | None:
    if str(value).lower() == "never":
        return "never"
    if value is not None and str(value).lower() not in ("true", "false"):
        raise UsageError(f"generation_kwargs.early_stopping must be true, false or never, was: {value!r}.")
    return own if value is None else str(value).lower() == "true"


def _whole(key: str, value: object, *, at_least: int) -> int:
    number = _number(key, value, at_least=at_least)
    if not number.is_integer():
        raise UsageError(f"generation_kwargs.{key} must be a whole number, was: {value!r}.")
    return int(number)


def _number(key: str, value: object, *, at_least: float, at_most: float = float("inf")) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise UsageError(f"generation_kwargs.{key} must be a number, was: {value!r}.") from None
    if not at_least <= number <= at_most:
        limit = f"at least {at_least}" if at_most == float("inf") else f"between {at_least} and {at_most}"
        raise UsageError(f"generation_kwargs.{key} must be {limit}, was: {value!r}.")
    return number
