"""`generation_kwargs` as lm-evaluation-harness reads them."""

from collections.abc import Mapping

from lmtasks.errors import UsageError, unknown
from lmtasks.task.task import Generation

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
    "num_beams",
    "length_penalty",
    "repetition_penalty",
    "seed",
)
HARMLESS = ("use_cache", "pad_token_id")
"""Settings of how transformers computes, which change no answer."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("min_new_tokens", "min_length", "max_length", "early_stopping", "num_return_sequences"),
        "is a setting of transformers that no runtime here carries out; max_gen_toks bounds the length, repeats asks "
        "several times",
    ),
    **dict.fromkeys(
        ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "typical_p", "penalty_alpha"),
        "is a setting of transformers that no runtime here carries out; repetition_penalty, top_k, top_p and min_p are "
        "there",
    ),
    **dict.fromkeys(
        ("num_beam_groups", "diversity_penalty"), "belongs to group beam search, which no runtime here carries out"
    ),
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), "is a setting of servers; repetition_penalty is there"),
    "think_end_token": "cuts off what a model thinks; a filter of filter_list (regex) does that here",
}
"""Settings that lm-evaluation-harness passes on to transformers and servers: leaving them out would change answers."""


def generation_of(kwargs: Mapping[str, object] | None, *, delimiter: str) -> Generation:
    """The settings. Without `until`, answers end at `delimiter`.

    Raises:
        UsageError: a key is unknown or not carried out, or a value is out of range.
    """
    given = kwargs or {}
    for key in given:
        if key in REFUSED:
            raise UsageError(f"generation_kwargs.{key} {REFUSED[key]}.")
        if key not in CARRIED_OUT and key not in HARMLESS:
            raise unknown("key of generation_kwargs", key, CARRIED_OUT)
    length = next((given[key] for key in LENGTH_KEYS if given.get(key) is not None), 256)
    seed = given.get("seed")
    return Generation(
        max_new_tokens=int(_number("max_gen_toks", length, at_least=1)),
        stop=_stops(given.get("until"), delimiter=delimiter),
        temperature=_temperature(given),
        top_k=int(_number("top_k", given.get("top_k", 0), at_least=0)),
        top_p=_number("top_p", given.get("top_p", 1.0), at_least=0, at_most=1),
        min_p=_number("min_p", given.get("min_p", 0.0), at_least=0, at_most=1),
        num_beams=int(_number("num_beams", given.get("num_beams", 1), at_least=1)),
        length_penalty=_number("length_penalty", given.get("length_penalty", 1.0), at_least=float("-inf")),
        repetition_penalty=_number("repetition_penalty", given.get("repetition_penalty", 1.0), at_least=0),
        seed=None if seed is None else int(_number("seed", seed, at_least=0)),
    )


def _stops(until: object, *, delimiter: str) -> tuple[str, ...]:
    if until is None:
        return (delimiter,) if delimiter else ()
    if isinstance(until, str):
        return (until,) if until else ()
    if isinstance(until, list):
        return tuple(str(stop) for stop in until if stop)
    raise UsageError(f"generation_kwargs.until must be a text or a list of texts, was: {until!r}.")


def _temperature(given: Mapping[str, object]) -> float:
    """`do_sample: false` means greedy whatever the temperature; `do_sample: true` alone means temperature 1."""
    sample = given.get("do_sample")
    stated = given.get("temperature")
    temperature = _number("temperature", 0.0 if stated is None else stated, at_least=0)
    if sample is None:
        return temperature
    if str(sample).lower() not in ("true", "false"):
        raise UsageError(f"generation_kwargs.do_sample must be true or false, was: {sample!r}.")
    if str(sample).lower() == "false":
        return 0.0
    return 1.0 if stated is None else temperature


def _number(key: str, value: object, *, at_least: float, at_most: float = float("inf")) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise UsageError(f"generation_kwargs.{key} must be a number, was: {value!r}.") from None
    if not at_least <= number <= at_most:
        limit = f"at least {at_least}" if at_most == float("inf") else f"between {at_least} and {at_most}"
        raise UsageError(f"generation_kwargs.{key} must be {limit}, was: {value!r}.")
    return number
