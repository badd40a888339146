"""`generation_kwargs` as lm-evaluation-harness reads them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lmtasks.errors import UsageError, unknown
from lmtasks.task.task import Generation, Task

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
    "think_end_token": "cuts off what a model thinks; a filter of filter_list (regex) does so, or --think-end-token",
}
"""Settings that lm-evaluation-harness passes on to transformers and servers: leaving them out would change answers."""


def generation_of(kwargs: Mapping[str, object] | None, *, delimiter: str) -> Generation:
    """The settings of a task file. Without `until`, answers end at `delimiter`.

    Raises:
        UsageError: a key is unknown or not carried out, or a value is out of range.
    """
    return changed(Generation(stop=(delimiter,) if delimiter else ()), kwargs or {})


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
        replace(task, generation=changed(task.generation, kwargs)) if task.output_type == "generate_until" else task
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
            return dict(json.loads(text))
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


def changed(settings: Generation, given: Mapping[str, object]) -> Generation:
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

    def number(key: str, own: float, *, at_least: float, at_most: float = float("inf")) -> float:
        return _number(key, given.get(key, own), at_least=at_least, at_most=at_most)

    return Generation(
        max_new_tokens=int(_number("max_gen_toks", length, at_least=1)),
        stop=_stops(given.get("until"), own=settings.stop),
        temperature=_temperature(given, own=settings.temperature),
        top_k=int(number("top_k", settings.top_k, at_least=0)),
        top_p=number("top_p", settings.top_p, at_least=0, at_most=1),
        min_p=number("min_p", settings.min_p, at_least=0, at_most=1),
        num_beams=int(number("num_beams", settings.num_beams, at_least=1)),
        length_penalty=number("length_penalty", settings.length_penalty, at_least=float("-inf")),
        repetition_penalty=number("repetition_penalty", settings.repetition_penalty, at_least=0),
        seed=None if seed is None else int(_number("seed", seed, at_least=0)),
    )


def _stops(until: object, *, own: tuple[str, ...]) -> tuple[str, ...]:
    if until is None:
        return own
    if isinstance(until, str):
        return (until,) if until else ()
    if isinstance(until, list):
        return tuple(str(stop) for stop in until if stop)
    raise UsageError(f"generation_kwargs.until must be a text or a list of texts, was: {until!r}.")


def _temperature(given: Mapping[str, object], *, own: float) -> float:
    """`do_sample: false` means greedy whatever the temperature; `do_sample: true` alone means temperature 1."""
    sample = given.get("do_sample")
    stated = given.get("temperature")
    temperature = _number("temperature", own if stated is None else stated, at_least=0)
    if sample is None:
        return temperature
    if str(sample).lower() not in ("true", "false"):
        raise UsageError(f"generation_kwargs.do_sample must be true or false, was: {sample!r}.")
    if str(sample).lower() == "false":
        return 0.0
    return 1.0 if stated is None and own == 0 else temperature


def _number(key: str, value: object, *, at_least: float, at_most: float = float("inf")) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise UsageError(f"generation_kwargs.{key} must be a number, was: {value!r}.") from None
    if not at_least <= number <= at_most:
        limit = f"at least {at_least}" if at_most == float("inf") else f"between {at_least} and {at_most}"
        raise UsageError(f"generation_kwargs.{key} must be {limit}, was: {value!r}.")
    return number
