"""The prompt of one row: what a model reads, what it chooses from, and what is right.

The rules are lm-evaluation-harness 0.4.13's: description, then each worked example as question, delimiter, answer,
delimiter, then the question with nothing after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.task.roles import label_number, references_of, span_answers
from lmtasks.task.shots import pick_shots
from lmtasks.task.task import Task
from lmtasks.task.templates import Place, Wording, choices_of, question_of, target_of, text_of

__all__ = ["Prompt", "build_prompt", "pick_shots"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One row, ready to be asked."""

    context: str
    """What the model reads first."""
    delimiter: str
    """Stands between the context and an answer; empty where the target brings its own (loglikelihood)."""
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


def build_prompt(task: Task, row: Row, *, shots: Sequence[Row] = (), row_number: int | None = None) -> Prompt:
    """The prompt for a row, after worked examples.

    Args:
        row_number: for messages.

    Raises:
        UsageError: a template does not fit the row, the right answer is not among the choices, or the task holds
            parts that are not carried out yet.
    """
    task.require_supported()
    asked = task.templates.asked
    where = f"task {task.name}" if row_number is None else f"task {task.name}, row {row_number}"
    if task.output_type == "loglikelihood_rolling":
        text = _plain(target_of(asked, row=row, task=task.name))
        return Prompt(context="", delimiter="", choices=(), contexts=(), gold=(), target=text, references=(text,))
    if asked.question is None:
        raise UsageError(f"{where} has no doc_to_text, so it cannot be prompted; adapt a model with a head to it.")
    question = question_of(asked, row=row, task=task.name)
    choices = choices_of(asked, row=row, task=task.name)
    before = text_of(task.templates.description, row=row, place=Place(task=task.name, field="description"))
    before += "".join(_worked_example(task, shot) for shot in shots)
    prefix = _prefix(asked, row=row, task=task.name)
    if task.output_type == "multiple_choice":
        if isinstance(question, int):
            return _choices_in_context(task, row, before=before, choices=choices, gold=question, where=where)
        gold = _gold(task, row, choices=choices, where=where)
        return Prompt(
            context=before + _with_prefix(question, prefix, asked.target_delimiter),
            delimiter=asked.target_delimiter,
            choices=choices,
            contexts=(),
            gold=gold,
            target=choices[gold[0]],
            references=tuple(choices[number] for number in gold),
        )
    target, references = _answers(task, row, choices=choices)
    return Prompt(
        context=before + _with_prefix(str(question), prefix, asked.target_delimiter),
        delimiter="" if task.output_type == "loglikelihood" else asked.target_delimiter,
        choices=(),
        contexts=(),
        gold=(),
        target=target,
        references=references,
    )


def _choices_in_context(
    task: Task, row: Row, *, before: str, choices: tuple[str, ...], gold: int, where: str
) -> Prompt:
    """The question's template gave a number: the choices are the questions, and the same text follows each."""
    asked = task.templates.asked
    target = _plain(target_of(asked, row=row, task=task.name))
    prefix = _prefix(asked, row=row, task=task.name)
    return Prompt(
        context=before,
        delimiter=asked.target_delimiter,
        choices=choices,
        contexts=tuple(before + _with_prefix(choice, prefix, "") for choice in choices),
        gold=(_in_range(gold, choices=choices, where=where),),
        target=target,
        references=(target,),
    )


def _worked_example(task: Task, shot: Row) -> str:
    """Question, delimiter, answer, delimiter. An empty answer leaves the question alone, as in the original."""
    wording = task.templates.shot
    question = question_of(wording, row=shot, task=task.name)
    choices = choices_of(wording, row=shot, task=task.name)
    if isinstance(question, int):
        question, answer = choices[question], _plain(target_of(wording, row=shot, task=task.name))
    elif task.output_type == "multiple_choice":
        answer = choices[_gold(task, shot, choices=choices, where=f"task {task.name}, a worked example")[0]]
    else:
        answer = _answers(task, shot, choices=choices, wording=wording)[0]
    prefix = _prefix(wording, row=shot, task=task.name)
    delimiter = wording.target_delimiter
    if not answer:
        return _with_prefix(question, prefix, delimiter)
    if prefix:
        # Unlike the delimiter before an answer, those around a prefix stand only where no white space does.
        return question + _join_with(question, prefix, delimiter) + _joined(prefix, answer) + wording.fewshot_delimiter
    return question + delimiter + answer + wording.fewshot_delimiter


def _answers(
    task: Task, row: Row, *, choices: tuple[str, ...], wording: Wording | None = None
) -> tuple[str, tuple[str, ...]]:
    """The text to write, and all texts that are right."""
    wording = wording or task.templates.asked
    if task.kind == "span":
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
    texts = tuple(choices[item] if isinstance(item, int) and item < len(choices) else str(item) for item in listed)
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
    if isinstance(value, tuple):
        return tuple(_number(item, choices=choices, where=where) for item in value)
    return (_number(value, choices=choices, where=where),)


def _number(value: object, *, choices: tuple[str, ...], where: str) -> int:
    if isinstance(value, int):
        return _in_range(value, choices=choices, where=where)
    if str(value) in choices:
        return choices.index(str(value))
    shown = ", ".join(repr(choice[:40]) for choice in choices[:10])
    raise UsageError(f"{where}: the right answer {str(value)[:80]!r} is not among the choices {shown}.")


def _in_range(number: int, *, choices: tuple[str, ...], where: str) -> int:
    if not 0 <= number < len(choices):
        hidden = " (a split with hidden labels?)" if number == -1 else ""
        raise UsageError(
            f"{where}: the right choice must be a number from 0 to {len(choices) - 1}, was: {number}{hidden}."
        )
    return number


def _plain(value: str | int | tuple[object, ...]) -> str:
    return str(value[0]) if isinstance(value, tuple) and value else str(value)


def _prefix(wording: Wording, *, row: Row, task: str) -> str:
    return text_of(wording.prefix, row=row, place=Place(task=task, field="gen_prefix")) if wording.prefix else ""


def _with_prefix(question: str, prefix: str, delimiter: str) -> str:
    """The question, and how the answer begins."""
    return question + _join_with(question, prefix, delimiter) + prefix if prefix else question


def _join_with(before: str, after: str, delimiter: str) -> str:
    """The delimiter, if there is text on both sides and no white space at the joint."""
    return delimiter if before and after and not (before[-1].isspace() or after[0].isspace()) else ""


def _joined(before: str, after: str) -> str:
    return before + _join_with(before, after, " ") + after
