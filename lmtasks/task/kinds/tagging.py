"""One label for every word."""

from collections.abc import Sequence

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import role_value, text_list
from lmtasks.task.task import Task


class TaggingKind(HeadTaskKind):
    """Rows with the roles tokens and tags, lists of the same length."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`tokens` with `tags`; `first` is the words with blanks between."""
        tokens = text_list(task, row, role="tokens", where=where)
        tags = _tags(task, row, where=where) if labelled else ()
        if labelled and len(tags) != len(tokens):
            raise UsageError(f"{where}: {len(tokens)} tokens but {len(tags)} tags.")
        text = " ".join(tokens)
        return HeadInput(first=text, tokens=tokens, tags=tags)

    def target(self, task: Task, row: Row) -> str:
        """The list of tags as it is written down."""
        return str(role_value(task, row, role="tags"))

    def blank_answer(self, task: Task, row: Row) -> object:
        """The first label for each word.

        Raises:
            UsageError: the row has no list of words.
        """
        return [task.labels[0]] * len(text_list(task, row, role="tokens", where=f"task {task.name}"))


def _tags(task: Task, row: Row, *, where: str) -> tuple[int, ...]:
    value = role_value(task, row, role="tags")
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{where}: {task.inputs['tags']!r} (inputs.tags) must be a list, was: {str(value)[:60]!r}.")
    return tuple(_tag(task, tag, where=where) for tag in value)


def _tag(task: Task, tag: object, *, where: str) -> int:
    if isinstance(tag, str) and tag in task.labels:
        return task.labels.index(tag)
    number = int(tag) if isinstance(tag, float) and tag.is_integer() else tag
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(task.labels):
        return number
    raise UsageError(f"{where}: the tag {tag!r} is none of the labels of the task ({', '.join(task.labels[:20])}).")


TAGGING = TaggingKind(
    name="tagging",
    about="one label for every word",
    answer="tags",
    head="tagging",
    output_types=("generate_until",),
    roles=("tokens", "tags"),
    answer_role="tags",
    metrics=("entity_f1", "tag_acc"),
    baselines=("majority", "linear-tagger"),
    in_words=True,
    changed_roles=("tokens",),
)
