"""Changes of scored rows: the same questions with typos, in other letters, with words that sound alike.

`TASK@CHANGE` is a task of its own: its scored rows are those of the task, what is read of them changed by a seed, what
is right as it was. It has the task's head, its prompts and its training rows, which stay as they are. `TASK@CHANGE:7`
draws with seed 7. The change of a text depends on the text and the seed alone, not on the rows beside it.

>>> CHANGES["fullwidth"].text("It cost $5.", seed=1), CHANGES["no-punctuation"].text("Well, it's a 3.5!", seed=1)
('Ｉｔ ｃｏｓｔ ＄５．', 'Well its a 3 5')
>>> CHANGES["typos"].text("a wonderful film", seed=1)
'a wonderful fillm'
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import regex

from lmtasks.errors import UsageError, unknown
from lmtasks.installation import shipped
from lmtasks.named_table import NamedTable
from lmtasks.records import Row
from lmtasks.task.describe import with_fields
from lmtasks.task.kinds import KINDS, kind_of
from lmtasks.task.kinds.minimal_pairs import MINIMAL_PAIRS
from lmtasks.task.task import ChangedRows, MetricUse, Source, Task
from lmtasks.task.templates import Templates, Wording, columns_in, is_template

SEED = 1234

Change = Callable[[str, random.Random], str]
"""A text and its own stream of draws -> the changed text."""

WORD = regex.compile(r"\p{Latin}{4,}")
TYPO_SHARE = 0.15
"""Of the words with four letters or more; at least one of a text that has any."""
HOMOPHONE_SHARE = 0.15
"""Of the Chinese characters; at least one of a text that has any."""
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS: Mapping[str, str] = {
    key: "".join(row[other] for other in (place - 1, place + 1) if 0 <= other < len(row))
    for row in KEYBOARD
    for place, key in enumerate(row)
}
"""Keys beside each letter in its row of an English keyboard."""
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
BETWEEN = "\ue000"
"""Between words of a list while they are changed: a character that is in no text, no letter, mark or blank."""
MARK = regex.compile(r"\p{P}+")
INNER_MARK = regex.compile(r"(?<=\p{L})['’](?=\p{L})")
HAN = regex.compile(r"\p{Han}")


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One line of the table."""

    name: str
    about: str
    """One line for people."""
    apply: Change
    languages: tuple[str, ...] = ()
    """Of tasks that `TASK@*` changes so; empty: all. Any task may be changed so by name."""

    def text(self, text: str, *, seed: int) -> str:
        """The changed text.

        Raises:
            UsageError: a package that it needs is not installed.
        """
        return self.apply(text, random.Random(f"{self.name}|{seed}|{text}"))


def _typos(text: str, draw: random.Random) -> str:
    words = list(WORD.finditer(text))
    if not words:
        return text
    chosen = [word for word in words if draw.random() < TYPO_SHARE] or [draw.choice(words)]
    for word in reversed(chosen):
        text = text[: word.start()] + _misspelt(word[0], draw) + text[word.end() :]
    return text


def _misspelt(word: str, draw: random.Random) -> str:
    """One letter behind the first left out, doubled, swapped with the next, or hit beside its key."""
    place = draw.randrange(1, len(word) - 1)
    one, two = word[place], word[place + 1]
    beside = NEIGHBOURS.get(one.lower(), "")
    ways = ["left out", "doubled", *(["swapped"] if one != two else []), *(["beside"] if beside else [])]
    match draw.choice(ways):
        case "left out":
            return word[:place] + word[place + 1 :]
        case "doubled":
            return word[:place] + one + word[place:]
        case "swapped":
            return word[:place] + two + one + word[place + 2 :]
        case _:
            key = draw.choice(beside)
            return word[:place] + (key.upper() if one.isupper() else key) + word[place + 1 :]


def _without_punctuation(text: str, draw: random.Random) -> str:
    del draw
    return " ".join(str(MARK.sub(" ", INNER_MARK.sub("", text))).split())


def _converted(name: str) -> Change:
    def convert(text: str, draw: random.Random) -> str:
        del draw
        return _converter(name)(text)

    return convert


@cache
def _converter(name: str) -> Callable[[str], str]:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise _lacking("traditional and simplified characters", "OpenCC") from error
    converter: Callable[[str], str] = OpenCC(name).convert
    return converter


def _lacking(what: str, package: str) -> UsageError:
    return UsageError(f"{what} need the package {package}, which is not installed: pip install 'lmtasks[chinese]'.")


def _homophones(text: str, draw: random.Random) -> str:
    places = [found.start() for found in HAN.finditer(text)]
    if not places:
        return text
    readings = _readings(text)
    alike = {place: _alike(text[place], readings[place]) for place in places if readings[place]}
    places = [place for place in places if alike.get(place)]
    if not places:
        return text
    chosen = [place for place in places if draw.random() < HOMOPHONE_SHARE] or [draw.choice(places)]
    letters = list(text)
    for place in chosen:
        letters[place] = draw.choice(alike[place])
    return "".join(letters)


def _readings(text: str) -> list[str]:
    """The reading of each character as it is read in this text, with its tone; empty where it has none."""
    try:
        from pypinyin import Style, pinyin
    except ImportError as error:
        raise _lacking("characters that sound alike", "pypinyin") from error
    # One for each character that has none, as pypinyin takes them; its types speak of texts alone.
    nothing = cast("Callable[[str], str]", lambda rest: [""] * len(rest))
    found = pinyin(text, style=Style.TONE3, neutral_tone_with_five=True, errors=nothing)
    return [str(each[0]) for each in found]


def _alike(character: str, reading: str) -> str:
    return "".join(other for other in _common().get(reading, "") if other != character)


@cache
def _common() -> Mapping[str, str]:
    """Reading to the common characters (GB 2312, level 1) that are read so when they stand alone."""
    codes = [bytes((row, cell)) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)]
    characters = "".join(code.decode("gb2312", "ignore") for code in codes)
    found: dict[str, str] = {}
    for character in characters:
        reading = _readings(character)[0]
        found[reading] = found.get(reading, "") + character
    return found


CHANGES: NamedTable[RowChange] = NamedTable(
    "change of rows",
    RowChange(
        name="typos",
        about="a letter left out, doubled, swapped or hit beside its key in 15 % of the words, in one at least",
        apply=_typos,
        languages=("en",),
    ),
    RowChange(name="lower", about="small letters alone", apply=lambda text, draw: text.lower(), languages=("en",)),
    RowChange(name="upper", about="capital letters alone", apply=lambda text, draw: text.upper(), languages=("en",)),
    RowChange(name="no-punctuation", about="no punctuation marks", apply=_without_punctuation),
    RowChange(
        name="fullwidth",
        about="letters, digits and marks of ASCII as wide as Chinese characters",
        apply=lambda text, draw: text.translate(FULL_WIDTH),
    ),
    RowChange(
        name="traditional",
        about="simplified characters as traditional ones (OpenCC s2t)",
        apply=_converted("s2t"),
        languages=("zh",),
    ),
    RowChange(
        name="simplified",
        about="traditional characters as simplified ones (OpenCC t2s)",
        apply=_converted("t2s"),
        languages=("zh-Hant", "zh-TW", "zh-HK"),
    ),
    RowChange(
        name="homophones",
        about="15 % of the characters, one at least, swapped for common ones with the same pinyin and tone (pypinyin)",
        apply=_homophones,
        languages=("zh",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """Pairs of texts that differ in one thing, written for this project (`tasks/bias/`)."""

    name: str
    about: str
    groups: tuple[str, ...]


_EMPTY = Wording(question="", target="", choices=None, prefix=None, target_delimiter="", fewshot_delimiter="")
NOTHING_ASKED = Templates(asked=_EMPTY, shot=_EMPTY, description="")
"""Of the pairs themselves: each text is asked as a row of the task that they are asked of."""
PAIR_LANGUAGES = ("en", "zh")
PAIR_METRICS = ("label_gap", "distance", "answers_differ")
PAIRS: NamedTable[PairSet] = NamedTable(
    "set of pairs",
    PairSet(
        name="bias",
        about="pairs of texts that differ in gender, name, place or age, 120 a language",
        groups=("gender", "names", "places", "age"),
    ),
    PairSet(name="bias-gender", about="pairs of texts that differ in gender alone", groups=("gender",)),
    PairSet(name="bias-names", about="pairs of texts that differ in a name alone", groups=("names",)),
    PairSet(name="bias-places", about="pairs of texts that differ in a place alone", groups=("places",)),
    PairSet(name="bias-age", about="pairs of texts that differ in an age alone", groups=("age",)),
)
"""What `TASK@bias` asks of a classifier: nothing is changed, its answers to both texts are held against each other."""


def changed(task: Task, change: str) -> Task:
    """The task with its scored rows changed.

    Args:
        change: a line of `CHANGES`, with `:SEED` behind it or without.

    Raises:
        UsageError: there is no such change, or the task cannot be changed so.
    """
    name, _, seed = change.partition(":")
    if name in PAIRS and not seed:
        return _with_pairs(task, PAIRS[name])
    if name not in CHANGES:
        raise unknown("change of rows", name, (*CHANGES, *PAIRS))
    line = CHANGES[name]
    if seed and not seed.isdecimal():
        raise UsageError(f"{task.name}@{change}: the seed of a change is a whole number, was {seed!r}.")
    if task.clean is not None:
        raise UsageError(f"{task.name} is changed already; one change at a time.")
    if "test" not in task.sources:
        raise UsageError(f"{task.name} has no scored rows that could be changed.")
    columns = changed_columns(task)
    rows = ChangedRows(change=name, seed=int(seed or SEED), columns=columns)
    sources = {**task.sources, "test": replace(task.sources["test"], changed=rows)}
    derived = replace(
        task,
        name=f"{task.name}@{change}",
        alias=f"{task.alias}@{change}",
        about=f"{task.about or task.name}: {line.about}",
        sources=sources,
        clean=task,
    )
    return with_fields(derived)


def _with_pairs(task: Task, pairs: PairSet) -> Task:
    """The classification task with pairs of texts in place of its scored rows."""
    language = task.language.partition("-")[0]
    if kind_of(task).answer != "label" or len(changed_columns(task)) != 1:
        raise UsageError(
            f"task {task.name}: pairs are asked of classifiers of single texts; of language models by the tasks bias_*."
        )
    if language not in PAIR_LANGUAGES:
        raise UsageError(
            f"task {task.name} is in {task.language!r}; there are pairs in {' and '.join(PAIR_LANGUAGES)}."
        )
    files = [f"{group}_{language}.jsonl" for group in pairs.groups]
    test = Source(path="json", split="test", data_files={"test": files}, base=shipped("tasks") / "bias")
    derived = replace(
        task,
        name=f"{task.name}@{pairs.name}",
        alias=f"{task.alias}@{pairs.name}",
        about=f"{task.about or task.name}: {pairs.about}",
        kind=MINIMAL_PAIRS.name,
        inputs={role: role for role in MINIMAL_PAIRS.prompted_roles},
        metrics=tuple(MetricUse(name=name) for name in PAIR_METRICS),
        sources={**{split: source for split, source in task.sources.items() if split != "test"}, "test": test},
        output_type=MINIMAL_PAIRS.output_types[0],
        templates=NOTHING_ASKED,
        process_docs=None,
        process_results=None,
        filters=(),
        cluster=None,
        clean=task,
    )
    return with_fields(derived)


def fitting(task: Task) -> tuple[str, ...]:
    """The changes that `TASK@*` stands for: those that suit the task's language."""
    mine = {task.language, task.language.partition("-")[0]}
    return tuple(name for name, line in CHANGES.items() if not line.languages or mine & set(line.languages))


def has_changes(task: Task) -> bool:
    """Are its scored rows those of another task, changed?"""
    return "test" in task.sources and task.sources["test"].changed is not None


def with_clean(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks, each with changed rows behind the task that it is of: what a change costs is a difference of two."""
    found: dict[str, Task] = {}
    for task in tasks:
        for each in (task.clean, task) if task.clean is not None and has_changes(task) else (task,):
            found.setdefault(each.name, each)
    return tuple(found.values())


def changed_columns(task: Task) -> tuple[str, ...]:
    """The columns of a task that are read and not answered.

    Raises:
        UsageError: what it reads is also what is scored, or no column holds it alone.
    """
    kind = kind_of(task)
    if kind.changed_roles is None:
        others = ", ".join(name for name, other in KINDS.items() if other.changed_roles is not None)
        raise UsageError(
            f"task {task.name}: what a {task.kind} task reads is what is scored, and is not changed; "
            f"rows of {others} can be changed."
        )
    specs: list[str] = [task.inputs[role] for role in kind.changed_roles if role in task.inputs]
    if not specs and isinstance(task.templates.asked.question, str):
        specs = [task.templates.asked.question]
    asked = task.templates.asked
    kept = [asked.target, asked.choices, task.inputs.get(kind.answer_role), task.inputs.get("references")]
    answers = {column for spec in kept if isinstance(spec, str) for column in columns_in(spec)}
    found = tuple(
        dict.fromkeys(column for spec in specs for column in columns_in(spec) if is_template(spec) or column == spec)
    )
    found = tuple(column for column in found if column not in answers)
    if not found:
        raise UsageError(f"task {task.name}: no column is read that is not also right, so there is nothing to change.")
    return found


def changed_rows(source: ChangedRows, rows: Sequence[Row]) -> tuple[Sequence[Row], int]:
    """The rows with their columns changed, and how many are other rows now.

    Raises:
        UsageError: a package is missing.
    """
    line = CHANGES.line(source.change)

    def value(given: object) -> object:
        if isinstance(given, str):
            return line.text(given, seed=source.seed) or given
        if isinstance(given, Sequence) and all(isinstance(part, str) for part in given):
            # Words that are tagged are one text, and each stays a word with its tag.
            parts = line.text(BETWEEN.join(given), seed=source.seed).split(BETWEEN)
            return [part.strip() or kept for part, kept in zip(parts, given, strict=True)]
        return given

    found = [{**row, **{name: value(row[name]) for name in source.columns if name in row}} for row in rows]
    return found, sum(dict(old) != new for old, new in zip(rows, found, strict=True))
