"""The turns of a prompt, and the two ways to write them: one text, or what a chat template makes of messages.

The rules are lm-evaluation-harness 0.4.13's (`api/utils.py`, `build_qa_turn` and `fewshot_context` of `api/task.py`).

>>> turns = [*answered("2+2?", "4", wording=SPACED), *asked("3+3?", prefix="", delimiter=" ")]
>>> plain(turns)
'2+2? 4\\n\\n3+3?'
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from lmtasks.task.templates import Wording

SPACED = Wording(question=None, target=None, choices=None, prefix=None, target_delimiter=" ", fewshot_delimiter="\n\n")
"""The delimiters that a task file has unless it says otherwise."""


class Message(TypedDict):
    """One message, as chat templates read it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, kw_only=True)
class Chat:
    """How prompts become chats."""

    apply: Callable[[Sequence[Message], bool], str]
    """(messages, does the answer begin after them?) to the text that a model reads: the tokenizer's chat template.
    Where the answer does not begin, the last message is its beginning and is left open."""
    multiturn: bool = False
    """Worked examples as turns of their own; else all stands in one message of the user."""
    system: str | None = None
    """The system instruction; the task's description is put behind it."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A message, and what stands behind it where prompts are one text."""

    role: Literal["system", "user", "assistant"]
    text: str
    delimiter: str = ""


def system_turn(instruction: str | None, description: str, *, delimiter: str) -> list[Turn]:
    """The instruction and the task's description. Nothing stands between them and what follows."""
    text = joined(instruction or "", description, delimiter=delimiter)
    return [Turn(role="system", text=text)] if text else []


def answered(question: str, answer: str | None, *, wording: Wording, prefix: str = "") -> list[Turn]:
    """A worked example. Without an answer the question stands alone, and nothing follows it."""
    if answer is None:
        return asked(question, prefix=prefix, delimiter=wording.target_delimiter)
    # Unlike the delimiter before an answer, those around a prefix stand only where no white space does.
    between = between_texts(question, prefix, wording.target_delimiter) if prefix else wording.target_delimiter
    return [
        Turn(role="user", text=question, delimiter=between),
        Turn(role="assistant", text=joined(prefix, answer, delimiter=" "), delimiter=wording.fewshot_delimiter),
    ]


def asked(question: str, *, prefix: str, delimiter: str) -> list[Turn]:
    """The question, and how its answer begins where that is given."""
    if not prefix:
        return [Turn(role="user", text=question)]
    between = between_texts(question, prefix, delimiter)
    return [Turn(role="user", text=question, delimiter=between), Turn(role="assistant", text=prefix)]


def written(turns: Sequence[Turn], chat: Chat | None) -> str:
    """The text that a model reads."""
    if chat is None:
        return plain(turns)
    turns = turns if chat.multiturn else _one_turn(turns)
    messages = [Message(role=turn.role, content=turn.text) for turn in turns]
    return chat.apply(messages, turns[-1].role != "assistant")


def plain(turns: Sequence[Turn]) -> str:
    """All turns as one text."""
    return "".join(turn.text + turn.delimiter for turn in turns)


def _one_turn(turns: Sequence[Turn]) -> list[Turn]:
    """System, one message of the user with all that was said, and how the answer begins."""
    system = [turn for turn in turns[:1] if turn.role == "system"]
    begun = [turn for turn in turns[-1:] if turn.role == "assistant"]
    middle = list(turns[len(system) : len(turns) - len(begun)])
    middle[-1] = replace(middle[-1], delimiter="")
    return [*system, Turn(role="user", text=plain(middle)), *begun]


def between_texts(before: str, after: str, delimiter: str) -> str:
    """The delimiter, if there is text on both sides and no white space at the joint."""
    return delimiter if before and after and not (before[-1].isspace() or after[0].isspace()) else ""


def joined(before: str, after: str, *, delimiter: str) -> str:
    """Two texts with the delimiter between them, by the rule of `between_texts`."""
    return before + between_texts(before, after, delimiter) + after
