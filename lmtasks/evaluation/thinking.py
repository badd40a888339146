"""What a model thinks before it answers: the answer begins behind a token (`--think-end-token`).

As in lm-evaluation-harness 0.4.13 (`postprocess_generated_text`, and its vLLM backend): behind the last such token,
without the white space there, and stop strings count from there on, since a thought may hold them. A text without the
token is the answer whole.

>>> behind("Is it 3? No.\\n\\n</think>\\n\\n4\\n\\nNext", token="</think>", stops=("\\n\\n",))
'4'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.requests import Generated
from lmtasks.errors import UsageError
from lmtasks.records import Json
from lmtasks.task.task import Task


def behind(text: str, *, token: str, stops: Sequence[str]) -> str:
    """The answer in a text: behind the last token, before the first stop string there."""
    answer = text.split(token)[-1].lstrip()
    for stop in stops:
        answer = answer.split(stop)[0]
    return answer


def check_thinking(tasks: Sequence[Task], *, token: str, settings: Mapping[str, object]) -> None:
    """Hold a think-end token, and the variables of a chat template, against what is asked.

    Raises:
        UsageError: no text is written, or thoughts would be scored as answers.
    """
    writes = any(task.output_type == "generate_until" for task in tasks)
    if token and not writes:
        names = ", ".join(task.name for task in tasks)
        raise UsageError(f"--think-end-token changes nothing: no text is written for {names}.")
    if settings.get("enable_thinking") is True and writes and not token:
        raise UsageError(
            "enable_thinking=true lets a model think before it answers, and its thoughts would be scored; say with "
            "--think-end-token where they end (</think>)."
        )


def not_there(token: str) -> str:
    """What a reader must know of a text without the token."""
    return f"no {token!r} (--think-end-token) stands in what was written, so that all of it is the answer"


@dataclass(frozen=True, kw_only=True)
class ThinkEnd:
    """The end of a model's thoughts, for one task."""

    token: str
    """Its text."""
    stops: tuple[str, ...]
    """The task's stop strings."""
    token_id: int | None = None
    """Where it is a special token, which no decoded text holds."""
    tokenizer: Tokenizer

    def written(self, generated: Generated) -> str:
        """All that a model wrote, the token among it."""
        if self.token_id is None or self.token_id not in generated.ids:
            return generated.text
        last = len(generated.ids) - 1 - generated.ids[::-1].index(self.token_id)
        before, after = generated.ids[:last], generated.ids[last + 1 :]
        return self.tokenizer.decode(before) + self.token + self.tokenizer.decode(after)

    def answer(self, written: str) -> str:
        """What counts of it."""
        return behind(written, token=self.token, stops=self.stops)

    def told(self, decoding: Json) -> Json:
        """Settings of generation as they are recorded: the engine itself is told of no stop strings."""
        return {**decoding, "stop": self.stops, "think_end_token": self.token}


def think_end(given: str, *, stops: tuple[str, ...], tokenizer: Tokenizer) -> ThinkEnd | None:
    """What `--think-end-token` means for a model; None where nothing is given.

    Args:
        given: a text, or the number of a token.

    Raises:
        UsageError: it is the number of no token.
    """
    if not given:
        return None
    if given.isdecimal():
        number = int(given)
        token = tokenizer.decode([number], skip_special=False) if number < tokenizer.vocabulary else ""
        if not token:
            raise UsageError(
                f"--think-end-token {given} is the number of no token: the model has {tokenizer.vocabulary}; give the "
                "token's text, as '</think>'."
            )
        return ThinkEnd(token=token, stops=stops, token_id=number, tokenizer=tokenizer)
    known = tokenizer.raw.token_to_id(given)
    special = known is not None and not tokenizer.decode([known])
    return ThinkEnd(token=given, stops=stops, token_id=known if special else None, tokenizer=tokenizer)
