"""The prompt of one row: what a model reads, what it chooses from, and what is right.

The rules are lm-evaluation-harness 0.4.13's (`api/utils.py`, `build_qa_turn` and `fewshot_context` of `api/task.py`):
description, then each worked example as question, delimiter, answer, delimiter, then the question with nothing behind.
These turns are one text, or messages that a chat template writes.

>>> turns = [*answered("2+2?", "4", wording=SPACED), *asked("3+3?", prefix="", delimiter=" ")]
>>> plain(turns)
'2+2? 4\\n\\n3+3?'
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.roles import label_number, references_of, span_answers
from lmtasks.task.task import Task
from lmtasks.task.templates import Place, Wording, choices_of, question_of, target_of, text_of

SPACED = Wording(question=None, target=None, choices=None, prefix=None, target_delimiter=" ", fewshot_delimiter="\n\n")
"""The delimiters that a task file has unless it says otherwise."""
WHY_REFUSED = "no answer could be right, and counting it as wrong (as lm-evaluation-harness does) would hide the fault"


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


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One row, ready to be asked."""

    context: str
    """What the model reads first."""
    delimiter: str
    """Stands between the context and an answer; empty where the target brings its own (loglikelihood), and in a chat
    unless the answer's beginning is given."""
    choices: tuple[str, ...]
    """The texts to choose from, without the delimiter; empty where there is no choice."""
    contexts: tuple[str, ...]
    """One context a choice where the choices stand in the context and `target` follows each (Winogrande); `choices`
    then still holds their texts, whose lengths `acc_norm` divides by. Empty everywhere else."""
    gold: tuple[int, ...]
    """Which choices are right."""
    target: str
    """The text that is right; for rolling likelihoods the text that is scored."""
    references: tuple[str, ...]
    """All texts that are right; none means that the question has no answer."""


def build_prompt(
    task: Task,
    row: Row,
    *,
    shots: Sequence[Row] = (),
    row_number: int | None = None,
    chat: Chat | None = None,
    system: str | None = None,
) -> Prompt:
    """The prompt for a row, after worked examples.

    Args:
        row_number: for messages.
        chat: write the prompt as a chat.
        system: an instruction before everything else; a chat has its own.

    Raises:
        UsageError: a template does not fit the row, or the right answer is not among the choices.
    """
    wording = task.templates.asked
    where = f"task {task.name}" if row_number is None else f"task {task.name}, row {row_number}"
    if task.output_type == "loglikelihood_rolling":
        text = _plain(target_of(wording, row=row, task=task.name))
        return Prompt(context="", delimiter="", choices=(), contexts=(), gold=(), target=text, references=(text,))
    if wording.question is None:
        raise UsageError(f"{where} has no doc_to_text, so it cannot be prompted; adapt a model with a head to it.")
    question = question_of(wording, row=row, task=task.name)
    choices = choices_of(wording, row=row, task=task.name)
    before = _before(task, row, shots, system=system if chat is None else chat.system)
    prefix = _prefix(wording, row=row, task=task.name)
    delimiter = _delimiter(task, chat)
    if isinstance(question, int) and task.output_type == "multiple_choice":
        # The choices are the questions, and the same text follows each.
        each = [asked(choice, prefix=prefix, delimiter="") for choice in choices]
        target = _plain(target_of(wording, row=row, task=task.name))
        return Prompt(
            context=written(before, None),
            delimiter=delimiter,
            choices=choices,
            contexts=tuple(written([*before, *turns], chat) for turns in each),
            gold=(_in_range(question, choices=choices, where=where),),
            target=target,
            references=(target,),
        )
    context = written([*before, *asked(str(question), prefix=prefix, delimiter=wording.target_delimiter)], chat)
    if task.output_type == "multiple_choice":
        gold = _gold(task, row, choices=choices, where=where)
        return Prompt(
            context=context,
            delimiter=delimiter,
            choices=choices,
            contexts=(),
            gold=gold,
            target=choices[gold[0]],
            references=tuple(choices[number] for number in gold),
        )
    target, references = _answers(task, row, choices=choices)
    return Prompt(
        context=context, delimiter=delimiter, choices=(), contexts=(), gold=(), target=target, references=references
    )


def _before(task: Task, row: Row, shots: Sequence[Row], *, system: str | None) -> list[Turn]:
    """What stands before the question: instruction, description, worked examples."""
    description = text_of(task.templates.description, row=row, place=Place(task=task.name, field="description"))
    turns = system_turn(system, description, delimiter=task.fewshot_delimiter)
    for shot in shots:
        turns += _worked_example(task, shot)
    return turns


def _worked_example(task: Task, shot: Row) -> list[Turn]:
    wording = task.templates.shot
    question = question_of(wording, row=shot, task=task.name)
    choices = choices_of(wording, row=shot, task=task.name)
    answer: str | None
    if isinstance(question, int) and task.output_type == "multiple_choice":
        question, answer = choices[question], _plain(target_of(wording, row=shot, task=task.name)) or None
    elif task.output_type == "multiple_choice":
        answer = _right_choice(task, shot, choices=choices)
    else:
        answer = _answers(task, shot, choices=choices, wording=wording)[0] or None
    return answered(str(question), answer, wording=wording, prefix=_prefix(wording, row=shot, task=task.name))


def _right_choice(task: Task, shot: Row, *, choices: tuple[str, ...]) -> str | None:
    """A worked example's answer: the choice of that number; a text stands for itself, among the choices or not."""
    wording, where = task.templates.shot, f"task {task.name}, a worked example"
    if wording.target is None:
        return choices[label_number(task, shot, where=where)]
    value = target_of(wording, row=shot, task=task.name)
    first = value[0] if isinstance(value, tuple) and value else value
    if isinstance(first, int):
        return choices[_in_range(first, choices=choices, where=where)]
    return str(first) or None


def _delimiter(task: Task, chat: Chat | None) -> str:
    """What stands between the context and an answer. In a chat the template has ended the context, unless the file
    gives the answer's beginning; the original looks at the end of that as it is written in the file."""
    wording = task.templates.asked
    if task.output_type == "loglikelihood":
        return ""
    if chat is None or (wording.prefix and not wording.prefix[-1].isspace()):
        return wording.target_delimiter
    return ""


def _answers(
    task: Task, row: Row, *, choices: tuple[str, ...], wording: Wording | None = None
) -> tuple[str, tuple[str, ...]]:
    """The text to write, and all texts that are right."""
    wording = wording or task.templates.asked
    if "answers" in task.inputs:
        references = span_answers(task, row).texts
        target = references[0] if references else task.no_answer
        if wording.target is not None:
            target = _plain(target_of(wording, row=row, task=task.name))
        return target, references
    references = references_of(task, row)
    if wording.target is None:
        if not references:
            raise UsageError(f"task {task.name}: a row has no references.")
        return references[0], references
    value = target_of(wording, row=row, task=task.name)
    listed = value if isinstance(value, tuple) else (value,)
    texts = tuple(choices[item] if isinstance(item, int) and 0 <= item < len(choices) else str(item) for item in listed)
    if not texts:
        raise UsageError(f"task {task.name}: doc_to_target yields an empty list.")
    return texts[0], references or texts


def _gold(task: Task, row: Row, *, choices: tuple[str, ...], where: str) -> tuple[int, ...]:
    if not choices:
        raise UsageError(f"{where}: doc_to_choice yields no choices.")
    wording = task.templates.asked
    if wording.target is None:
        return (label_number(task, row, where=where),)
    value = target_of(wording, row=row, task=task.name)
    if value == ():
        raise UsageError(f"{where}: doc_to_target yields an empty list; {WHY_REFUSED}.")
    if isinstance(value, tuple):
        return tuple(_number(item, choices=choices, where=where) for item in value)
    return (_number(value, choices=choices, where=where),)


def _number(value: object, *, choices: tuple[str, ...], where: str) -> int:
    if isinstance(value, int):
        return _in_range(value, choices=choices, where=where)
    if str(value) in choices:
        return choices.index(str(value))
    shown = ", ".join(repr(choice[:40]) for choice in choices[:10])
    raise UsageError(f"{where}: the right answer {str(value)[:80]!r} is not among the choices {shown}; {WHY_REFUSED}.")


def _in_range(number: int, *, choices: tuple[str, ...], where: str) -> int:
    if not 0 <= number < len(choices):
        hidden = " (a split with hidden labels?)" if number == -1 else ""
        raise UsageError(
            f"{where}: the right choice must be a number from 0 to {len(choices) - 1}, was: {number}{hidden}; "
            f"{WHY_REFUSED}."
        )
    return number


def _plain(value: str | int | tuple[object, ...]) -> str:
    return str(value[0]) if isinstance(value, tuple) and value else str(value)


def _prefix(wording: Wording, *, row: Row, task: str) -> str:
    return text_of(wording.prefix, row=row, place=Place(task=task, field="gen_prefix")) if wording.prefix else ""


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
