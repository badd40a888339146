"""One label for every word; also about one word of the sentence, the predicate: who did what to whom.

A row of semantic roles is one predicate of a sentence. What is read has it marked (`» rang «`); the marks have no tags.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from lmtasks.errors import UsageError
from lmtasks.records import HeadInput, Row
from lmtasks.tag_scheme import SchemeName, broken_rows, label_schemes, row_scheme
from lmtasks.task.kinds.base import HeadTaskKind
from lmtasks.task.roles import role_value, row_list, text_list
from lmtasks.task.task import Task
from lmtasks.task.templates import is_template


class TaggingKind(HeadTaskKind):
    """Rows with the roles tokens and tags, lists of the same length."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """`tokens` with `tags`; `first` is the words with blanks between."""
        tokens = text_list(task, row, role="tokens", where=where)
        tags = _tags(task, row, where=where) if labelled else ()
        if labelled and len(tags) != len(tokens):
            raise UsageError(f"{where}: {len(tokens)} tokens but {len(tags)} tags.")
        text = " ".join(tokens)
        return HeadInput(first=text, tokens=tokens, tags=tags, scheme=task.scheme or "")

    def target(self, task: Task, row: Row) -> str:
        """The list of tags as it is written down."""
        return str(role_value(task, row, role="tags"))

    def scheme(self, task: Task, rows: Sequence[Row]) -> SchemeName | None:
        """The one that the task names, else the one that the rows keep to."""
        where = f"task {task.name}"
        return task.scheme or row_scheme(task.labels, [_tags(task, row, where=where) for row in rows])

    def remarks(self, task: Task, rows: Sequence[Row], *, where: str) -> Sequence[str]:
        """Tags that break the scheme, by their rows."""
        tags = [_known_tags(task, row) for row in rows] if task.scheme or label_schemes(task.labels) else []
        scheme = task.scheme or row_scheme(task.labels, tags)
        expected: SchemeName = scheme if scheme != "none" else next(iter(label_schemes(task.labels)), "none")
        broken = dict(broken_rows(task.labels, tags, scheme=expected)) if task.scheme != "none" else {}
        if not broken:
            return ()
        some = row_list(list(broken))
        first = f"{next(iter(broken.values()))} in row {next(iter(broken)) + 1}"
        if scheme == "none":
            return (
                f"{where}: the tags of {some} break {expected.upper()}, to which their letters would belong ({first}); "
                "as many do so that no scheme is held.",
            )
        return (f"{where}: the tags of {some} break {scheme.upper()} ({first}); they are scored as they stand.",)

    def blank_answer(self, task: Task, row: Row) -> object:
        """The first label for each word.

        Raises:
            UsageError: the row has no list of words.
        """
        return [task.labels[0]] * len(text_list(task, row, role="tokens", where=f"task {task.name}"))


class SemanticRolesKind(TaggingKind):
    """Rows with the roles tokens, predicate (the place of a word, counted from 0) and tags."""

    def read(self, task: Task, row: Row, *, where: str, labelled: bool) -> HeadInput:
        """As of tagging, and the place of the predicate; `first` is the words with the predicate between marks."""
        given = super().read(task, row, where=where, labelled=labelled)
        place = _place(task, role_value(task, row, role="predicate"), words=len(given.tokens), where=where)
        marked = replace(given, predicate=place)
        return replace(marked, first=" ".join(marked.marked_tokens))

    def asked_rows(self, task: Task, row: Row) -> Sequence[Row]:
        """One for each predicate, where a list of them is given."""
        places = _several(task, row)
        return (row,) if places is None else [{**row, task.inputs["predicate"]: place} for place in places]

    def answer_of(self, task: Task, row: Row, answers: Sequence[str]) -> str:
        """A list of JSON where predicates are a list, each with its place, its word and the tags."""
        places = _several(task, row)
        if places is None:
            return answers[0]
        words = text_list(task, row, role="tokens", where=f"task {task.name}")
        told = [
            {"predicate": place, "word": words[int(str(place))], "tags": answer}
            for place, answer in zip(places, answers, strict=True)
        ]
        return json.dumps(told, ensure_ascii=False)


def _tags(task: Task, row: Row, *, where: str) -> tuple[int, ...]:
    value = role_value(task, row, role="tags")
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UsageError(f"{where}: {task.inputs['tags']!r} (inputs.tags) must be a list, was: {str(value)[:60]!r}.")
    return tuple(_tag(task, tag, where=where) for tag in value)


@lru_cache(maxsize=64)
def _places(labels: tuple[str, ...]) -> Mapping[str, int]:
    """Label to its number."""
    return {label: number for number, label in enumerate(labels)}


def _known_tags(task: Task, row: Row) -> tuple[int, ...]:
    """The tags of a row; none where it does not fit the task, which is told where it is used."""
    try:
        return _tags(task, row, where="")
    except UsageError:
        return ()


def _tag(task: Task, tag: object, *, where: str) -> int:
    if isinstance(tag, str) and tag in (places := _places(task.labels)):
        return places[tag]
    number = int(tag) if isinstance(tag, float) and tag.is_integer() else tag
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(task.labels):
        return number
    raise UsageError(f"{where}: the tag {tag!r} is none of the labels of the task ({', '.join(task.labels[:20])}).")


def _several(task: Task, row: Row) -> Sequence[object] | None:
    """The predicates of a row that was typed; None: it has one, not a list."""
    if is_template(task.inputs["predicate"]):
        return None
    value = role_value(task, row, role="predicate")
    return None if isinstance(value, str) or not isinstance(value, Sequence) else value


def _place(task: Task, value: object, *, words: int, where: str) -> int:
    """
    Raises:
        UsageError: it is no place of a word of the sentence.
    """
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, str) and number.strip().isdecimal():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(
            f"{where}: {task.inputs['predicate']!r} (inputs.predicate) is the place of a word, counted from 0, was: "
            f"{str(value)[:60]!r}."
        )
    if not 0 <= number < words:
        raise UsageError(
            f"{where}: the predicate {number} is no place of a sentence of {words} words; places are counted from 0."
        )
    return number


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
SEMANTIC_ROLES = SemanticRolesKind(
    name="semantic_roles",
    about="one label for every word, about one word that is marked: who did what to whom",
    answer="tags",
    head="semantic_roles",
    output_types=("generate_until",),
    roles=("tokens", "predicate", "tags"),
    answer_role="tags",
    metrics=("role_f1", "tag_acc"),
    baselines=("majority", "linear-tagger"),
    in_words=True,
)
