"""`filter_list`: from the texts that a model wrote to the answers that are scored.

A pipeline's steps run over the answers to all requests of a task: `answers[i]` are those to request i, one for each
repeat. The meanings are those of lm-evaluation-harness 0.4.13 (its folder `filters/`).

>>> steps = (FilterStep(function="regex", options={"regex_pattern": "answer is ([0-9]+)"}),)
>>> apply_filters(FilterPipeline(name="get", steps=steps), [["The answer is 12."], ["I pass."]], [{}, {}])
[['12'], ['[invalid]']]
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.records import Row
from lmtasks.task.functions import FunctionRef
from lmtasks.task.task import FilterPipeline, FilterStep
from lmtasks.timed_regex import TimedPattern, timed

PATTERN = r"#### (\-?[0-9\.\,]+)"
"""GSM8K's, the default."""
FALLBACK = "[invalid]"
TAGGED = re.compile(r"\('([^']*)', '([^']*)'\)")
LABELS: Mapping[str, str] = {
    "person": "PER",
    "location": "LOC",
    "organization": "ORG",
    "counties": "LOC",
    "places": "LOC",
    "people": "PER",
    "persons": "PER",
    "company": "ORG",
    "country": "LOC",
    "continent": "LOC",
    "time": "DATE",
    "date": "DATE",
    "per": "PER",
    "loc": "LOC",
    "org": "ORG",
}
"""What models call a label, before a colon."""
ENTITIES = re.compile(r"\b(PER|LOC|ORG|DATE):\s*([^$]+)")
Answers = Sequence[object]
"""The answers to one request: texts, until a step makes numbers or lists of them."""
Options = Mapping[str, object]
REFUSED: Mapping[str, str] = {
    "decontaminate": "yields no answers in lm-evaluation-harness 0.4.13, where it is unfinished; take it out",
}


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """The answers to one request behind a pipeline."""

    answers: tuple[object, ...]
    reduced: bool
    """Did a step choose one answer? lm-evaluation-harness then hands on the answer, and else the list."""

    @property
    def handed(self) -> object:
        """The value that lm-evaluation-harness hands to `process_results` and metrics."""
        return self.answers[0] if self.reduced else list(self.answers)


@dataclass(frozen=True, kw_only=True)
class FilterSpec:
    """A filter of the table."""

    about: str
    run: Callable[[Answers, Row, Options], Answers]
    options: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    reduces: bool = False
    """Is one answer chosen?"""


def apply_filters(pipeline: FilterPipeline, answers: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[list[str]]:
    """The filtered answers to each request, as texts: one after `take_first`, else as many as the steps leave.

    Args:
        answers: to each request, one for each repeat.
        rows: of the requests.

    Raises:
        UsageError: a step needs what the rows lack, or more repeats than there are.
        WorkError: a filter of the task's own failed.
    """
    return [[_text(answer) for answer in each.answers] for each in filter_answers(pipeline, answers, rows)]


def filter_answers(pipeline: FilterPipeline, answers: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[Filtered]:
    """`apply_filters` with values as the steps made them, which a task's own code may want: numbers, lists of tags.

    Raises:
        UsageError, WorkError: as `apply_filters`.
    """
    found = [Filtered(answers=tuple(each), reduced=False) for each in answers]
    for step in pipeline.steps:
        if isinstance(step.function, FunctionRef) or step.function == "custom":
            found = _custom(pipeline, step, found, rows)
        else:
            found = _step(pipeline, step, found, rows)
    return found


def check_filters(pipelines: Sequence[FilterPipeline], *, task: str) -> None:
    """Refuse filters and options that there are not.

    Raises:
        UsageError: naming the pipeline, the filter and what is allowed.
    """
    names = [pipeline.name for pipeline in pipelines]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"task {task}: filter_list names the pipeline {twice[0]!r} twice.")
    for pipeline in pipelines:
        for step in pipeline.steps:
            if not isinstance(step.function, FunctionRef):
                _check_step(step, where=f"filter_list ({pipeline.name}) of task {task}")


def _check_step(step: FilterStep, *, where: str) -> None:
    name = str(step.function)
    if name in REFUSED:
        raise UsageError(f"{where}: the filter {name} {REFUSED[name]}.")
    if name not in FILTERS:
        raise unknown(f"filter in {where}", name, FILTERS)
    line = FILTERS[name]
    for option in step.options:
        if option not in line.options:
            raise unknown(f"option of the filter {name} in {where}", option, line.options)
    missing = [option for option in line.needed if option not in step.options]
    if missing:
        raise UsageError(f"{where}: the filter {name} needs {', '.join(missing)}.")
    for option, value in step.options.items():
        why = WRONG.get(option, lambda _: "")(value)
        if why:
            raise UsageError(f"{where}: {option} of the filter {name} {why}, was: {value!r}.")


def _step(pipeline: FilterPipeline, step: FilterStep, found: Sequence[Filtered], rows: Sequence[Row]) -> list[Filtered]:
    line = FILTERS[str(step.function)]
    results: list[Filtered] = []
    for each, row in zip(found, rows, strict=True):
        try:
            answers = line.run(each.answers, row, step.options)
        except UsageError as error:
            raise UsageError(f"filter {step.function} of {pipeline.name}: {error}") from error
        # One chosen answer stays one whatever follows; the original would go on with its single characters.
        results.append(Filtered(answers=tuple(answers), reduced=each.reduced or line.reduces))
    return results


def _custom(
    pipeline: FilterPipeline, step: FilterStep, found: Sequence[Filtered], rows: Sequence[Row]
) -> list[Filtered]:
    """The task's own filter: (answers to all requests, rows) to the answers to all requests.

    `custom` names a function; a class in place of a filter's name is made with the step's options and has `apply`.
    """
    given = step.options.get("filter_fn") if step.function == "custom" else step.function
    if not isinstance(given, FunctionRef):
        raise UsageError(f"filter custom of {pipeline.name} needs filter_fn: !function module.name.")
    answers = [each.handed for each in found]
    documents = [dict(row) for row in rows]
    if step.function == "custom":
        yielded = given.call(answers, documents)
    else:
        try:
            yielded = given.load()(**step.options).apply(answers, documents)  # type: ignore[attr-defined]
        except (Exception, SystemExit) as error:
            raise given.failed(error) from error
    results = list(yielded) if isinstance(yielded, Iterable) and not isinstance(yielded, str) else []
    if len(results) != len(rows):
        raise WorkError(
            f"!function {given.qualified}, a filter of {pipeline.name}, must yield answers to each of {len(rows)} "
            f"requests, yielded {len(results)}."
        )
    return [
        Filtered(answers=tuple(each), reduced=False)
        if isinstance(each, list | tuple)
        else Filtered(answers=(each,), reduced=True)
        for each in results
    ]


def _text(answer: object) -> str:
    return answer if isinstance(answer, str) else "" if answer is None else str(answer)


def _of_each(change: Callable[[str], str]) -> Callable[[Answers, Row, Options], Answers]:
    return lambda answers, _row, _options: [change(_text(answer)) for answer in answers]


def _take_first(answers: Answers, _row: Row, _options: Options) -> Answers:
    return answers[:1]


def _take_first_k(answers: Answers, _row: Row, options: Options) -> Answers:
    wanted = int(str(options["k"]))
    if len(answers) < wanted:
        raise UsageError(f"k is {wanted}, but each request has {len(answers)} answers; raise the task's repeats.")
    return answers[:wanted]


def _majority_vote(answers: Answers, _row: Row, _options: Options) -> Answers:
    """The most frequent answer; of equally frequent ones the first."""
    return [Counter(map(_text, answers)).most_common(1)[0][0]]


def _map(answers: Answers, _row: Row, options: Options) -> Answers:
    mapping, otherwise = options.get("mapping_dict"), options.get("default_value")
    return [mapping.get(answer, otherwise) if isinstance(mapping, Mapping) else otherwise for answer in answers]


def _pattern_fault(value: object) -> str:
    patterns = value if isinstance(value, list) else [value]
    try:
        for pattern in patterns:
            timed(str(pattern))
    except re.error as error:
        return f"is no regular expression ({error})"
    return ""


def _whole_fault(value: object) -> str:
    return "" if isinstance(value, int) and not isinstance(value, bool) else "must be a whole number"


def _count_fault(value: object) -> str:
    return _whole_fault(value) or ("" if int(str(value)) > 0 else "must be at least 1")


def regex(answers: Sequence[object], _row: Row, options: Mapping[str, object]) -> list[object]:
    """Match number `group_select` of each answer, without white space around it; of several groups in it the first
    that is not empty. Where nothing matches, `fallback`."""
    pattern, select, fallback = _settings(options)
    results: list[object] = []
    for answer in answers:
        found = _match(pattern, answer, select=select)
        results.append(fallback if found is None else found)
    return results


def multi_choice_regex(answers: Sequence[object], row: Row, options: Mapping[str, object]) -> list[object]:
    """A letter in parentheses for each answer: what the pattern finds; else the letter of the choice whose text
    stands in the answer, the longest first; else the letter after a colon; else `fallback`.

    Raises:
        UsageError: the row has no column `choices`.
    """
    choices = row.get("choices")
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        raise UsageError("it needs a column choices with a list of texts; process_docs can make one.")
    pattern, select, fallback = _settings(options)
    letters = [chr(ord("A") + number) for number in range(len(choices))]
    texts = [_ignoring(str(choice).strip(), options) for choice in choices]
    of_text = {text: f"({letter})" for text, letter in zip(texts, letters, strict=True)}
    by_text = timed("|".join(sorted(map(re.escape, texts), key=len, reverse=True)))
    by_letter = timed(rf":[\s]*({'|'.join(letters)})")
    results: list[object] = []
    for answer in answers:
        written = answer if isinstance(answer, str) else ""
        found = _match(pattern, written, select=select)
        if not found:
            inside = _match(by_text, _ignoring(written, options), select=select)
            found = of_text.get(inside, inside) if inside else None
        if not found:
            letter = _match(by_letter, written, select=select)
            found = f"({letter})" if letter else None
        results.append(found or fallback)
    return results


def part_of_speech(answers: Sequence[object], _row: Row, options: Mapping[str, object]) -> list[object]:
    """The list of tags of each answer, which is a list of pairs or writes one down. Its pattern is not looked at, as
    in the original."""
    fallback = options.get("fallback") or ["invalid"]
    results: list[object] = []
    for answer in answers:
        pairs = TAGGED.findall(answer) if isinstance(answer, str) else answer
        tags = [pair[1] for pair in pairs] if isinstance(pairs, list | tuple) else []
        results.append(tags or fallback)
    return results


def _settings(options: Mapping[str, object]) -> tuple[TimedPattern, int, str]:
    return (
        timed(str(options.get("regex_pattern", PATTERN))),
        int(str(options.get("group_select", 0))),
        str(options.get("fallback", FALLBACK)),
    )


def _match(pattern: TimedPattern, answer: object, *, select: int) -> str | None:
    """One of the matches in a text; None where it has not so many, where the original would stop the whole run."""
    found = pattern.findall(answer) if isinstance(answer, str) else []
    if not -len(found) <= select < len(found):
        return None
    match = found[select]
    if isinstance(match, tuple):
        filled = [group for group in match if group]
        if not filled:
            return None
        match = filled[0]
    return match.strip()


def _ignoring(text: str, options: Mapping[str, object]) -> str:
    """The text without what is not to be looked at."""
    ignored = options.get("regexes_to_ignore")
    for pattern in ignored if isinstance(ignored, list) else []:
        text = timed(str(pattern)).sub("", text)
    if options.get("ignore_case"):
        text = text.lower()
    return text.translate(_punctuation()) if options.get("ignore_punctuation") else text


@cache
def _punctuation() -> Mapping[int, None]:
    """All punctuation of Unicode."""
    marks = (mark for mark in range(sys.maxunicode) if unicodedata.category(chr(mark)).startswith("P"))
    return dict.fromkeys(marks)


def format_span(text: str) -> str:
    """`label: entity $ label: entity`, in lower case; the entity "none" is left out."""
    named = text.lower()
    for said, label in LABELS.items():
        named = re.sub(rf"\b{said}\s*:", f"{label}:", named)
    named = named.replace("$$", "$").rstrip("$").replace("\n", "$").strip()
    return " $ ".join(
        f"{label.lower()}: {entity.strip()}"
        for label, entities in ENTITIES.findall(named)
        for entity in entities.split(",")
        if entity.strip() != "none"
    )


FILTERS: Mapping[str, FilterSpec] = {
    "regex": FilterSpec(
        about="the part of a text that a pattern finds",
        run=regex,
        options=("regex_pattern", "group_select", "fallback"),
    ),
    "multi_choice_regex": FilterSpec(
        about="the letter of a choice: by a pattern, else by the text of a choice (column choices), else by `: A`",
        run=multi_choice_regex,
        options=(
            "regex_pattern",
            "group_select",
            "fallback",
            "ignore_case",
            "ignore_punctuation",
            "regexes_to_ignore",
        ),
    ),
    "regex_pos": FilterSpec(
        about="the list of tags in a text of pairs ('token', 'TAG')",
        run=part_of_speech,
        options=("regex_pattern", "group_select", "fallback"),
    ),
    "remove_whitespace": FilterSpec(about="white space around a text goes", run=_of_each(str.strip)),
    "lowercase": FilterSpec(about="lower case", run=_of_each(str.lower)),
    "uppercase": FilterSpec(about="upper case", run=_of_each(str.upper)),
    "map": FilterSpec(
        about="a text becomes what a table says; what it lacks becomes default_value",
        run=_map,
        options=("mapping_dict", "default_value"),
    ),
    "format_span": FilterSpec(about="named entities as `per: ... $ loc: ...`", run=_of_each(format_span)),
    "take_first": FilterSpec(about="the first answer of all repeats", run=_take_first, reduces=True),
    "take_first_k": FilterSpec(
        about="the first k answers of all repeats", run=_take_first_k, options=("k",), needed=("k",)
    ),
    "majority_vote": FilterSpec(about="the most frequent answer of all repeats", run=_majority_vote),
    "custom": FilterSpec(
        about="the task's own function (--trust-code)",
        run=_take_first,
        options=("filter_fn",),
        needed=("filter_fn",),
    ),
}
"""Every filter of lm-evaluation-harness 0.4.13 that yields answers."""


WRONG: Mapping[str, Callable[[object], str]] = {
    "regex_pattern": _pattern_fault,
    "regexes_to_ignore": lambda value: "" if value is None else _pattern_fault(value),
    "group_select": _whole_fault,
    "k": _count_fault,
    "mapping_dict": lambda value: "" if isinstance(value, Mapping) else "must be a mapping of texts to values",
    "filter_fn": lambda value: "" if isinstance(value, FunctionRef) else "must be !function module.name",
}
"""What is wrong with an option's value; an empty text where nothing is."""
