"""A task file, or one's own data file, becomes a `Task` that is checked as a whole: it can be answered and scored."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.errors import UsageError, missing, unknown
from lmtasks.task.formats import SUFFIXES, builder_of
from lmtasks.task.kinds import KINDS, kind_of
from lmtasks.task.kinds.language_modelling import LANGUAGE_MODELLING
from lmtasks.task.task import SPLITS, HeldRows, Part, SplitName, Task
from lmtasks.task.templates import Place, Spec, check_syntax
from lmtasks.task.yaml_file import TaskYaml, read_task_yaml

if TYPE_CHECKING:
    from lmtasks.settings.data import OwnKind

EVERYWHERE = ("source", "references")
"""Roles of every kind: what baselines copy from; a column with all right answers."""
NOT_IN_NAMES = ",*?[]/\\\n\t "
ROWS = "rows"
"""Name of rows in memory, as a data set and as a task that nobody gave another name."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the rows of one's own data lie."""

    name: str
    shown: str
    builder: str
    splits: Collection[str]
    files: Mapping[str, str]
    folder: Path | None


def load_task(file: Path, *, trust_code: bool = False) -> Task:
    """Read, check and resolve one task file.

    Args:
        trust_code: allow `!function`, Python code beside the file. Nothing is run before a row needs it.

    Raises:
        UsageError: the file is missing, malformed, names an unknown key, makes no sense, or holds code.
    """
    return task_of(read_task_yaml(file), trust_code=trust_code)


def task_of(yaml: TaskYaml, *, trust_code: bool = False) -> Task:
    """The task of a file that was read, or of keys that a group makes of one.

    Raises:
        UsageError: as `load_task`.
    """
    from lmtasks.task.resolve import resolve
    from lmtasks.task.schema import check_keys, refuse_code, refuse_other_files

    refuse_other_files(yaml)
    if not trust_code:
        refuse_code(yaml)
    checked = check_keys(yaml)
    try:
        task = resolve(checked, path=yaml.file, base=yaml.file.resolve().parent)
        check_task(task)
    except UsageError as error:
        raise UsageError(f"{yaml.file}: {error}") from error
    return task


def own_task(
    *,
    data: Path | HeldRows,
    text: str,
    label: str | None,
    labels: Sequence[str] = (),
    numbered: bool = False,
    kind: "OwnKind" = "classification",
    pair: str | None = None,
    name: str | None = None,
    language: str = "en",
    encoding: str | None = None,
    use: Literal["score", "train", "both"] = "score",
) -> Task:
    """A task from one's own data, without a task file.

    With a label column it is of that kind, without one it is language modelling of the text column.

    Args:
        data: a file, a folder with `train.*`, `validation.*` and `test.*`, or rows in memory.
        text, label, pair: columns.
        kind: what the label column holds.
        labels: class names in the order of their numbers; the caller reads them off the label column.
        numbered: the label column holds their numbers, whatever they are called.
        name: of the task, and of a head that is adapted to it; the file's name without suffix if absent.
        encoding: of text files; None: found by their content.
        use: what the rows of a single file are for: all to be scored, or to be learned from; or both, and then a fifth
            of them is set aside to be scored (`data.held_out`).

    Raises:
        UsageError: the data is missing, of an unknown format, or the labels do not make two classes.
    """
    from lmtasks.task.resolve import resolve
    from lmtasks.task.schema import SourceFile, TaskFile

    divided = use == "both" and (data.is_single if isinstance(data, HeldRows) else data.is_file())
    splits = ("train", "test") if divided else ("train" if use == "train" else "test",)
    place = _held_place(data, splits=splits) if isinstance(data, HeldRows) else _file_place(data, splits=splits)
    columns = [text] if pair is None else [text, pair]
    shown = "\n".join("{{row[" + repr(column) + "]}}" for column in columns)
    known = KINDS[kind] if label is not None else LANGUAGE_MODELLING
    role = _label_role(label, labels, numbered=numbered) if label is not None else ""
    asks = ("\n类别：" if language == "zh" else "\nCategory:") if label is not None else ""
    file = TaskFile(
        task=name or place.name,
        about=f"your own data: {place.shown}",
        kind=known.name,
        language=language,
        dataset_path=place.builder,
        dataset_kwargs=({"data_files": place.files} if place.files else {})
        | ({} if encoding is None else {"encoding": encoding}),
        sources={split: SourceFile(split=split) for split in SPLITS if split in place.splits},
        inputs={"text": text} | ({known.answer_role: role} if role else {}) | ({"pair": pair} if pair else {}),
        labels=list(labels),
        doc_to_text=None if not known.prompted else shown + asks if asks else "",
        target_delimiter="" if language == "zh" else " ",
        metrics=list(known.metrics) or ["token_perplexity", "byte_perplexity", "bits_per_byte"],
    )
    task = resolve(file, path=None, base=place.folder, need_scored=use != "train")
    if isinstance(data, HeldRows):
        task = _over(data, task)
    if divided:
        task = _divided(task, texts=tuple(columns), label=label if known.answer == "label" else None)
    check_task(task)
    return task


def _file_place(data: Path, *, splits: Sequence[str]) -> _Place:
    files = _own_files(data, splits=splits)
    builders = {builder_of(file.suffix) for file in files.values()}
    if len(builders) > 1:
        raise UsageError(f"{data} mixes formats ({', '.join(sorted(builders))}); give files of one format.")
    return _Place(
        name=data.stem,
        shown=data.name,
        builder=builders.pop(),
        splits=files,
        files={split: file.name for split, file in files.items()},
        folder=next(iter(files.values())).resolve().parent,
    )


def _held_place(data: HeldRows, *, splits: Sequence[str]) -> _Place:
    return _Place(name=ROWS, shown=str(data), builder=ROWS, splits=data.splits or splits, files={}, folder=None)


def _over(rows: HeldRows, task: Task) -> Task:
    """The task with every split of it in memory."""
    from lmtasks.task.describe import with_fields

    sources = {split: replace(source, held=rows) for split, source in task.sources.items()}
    shots = None if task.shots is None else replace(task.shots, held=rows)
    return with_fields(replace(task, sources=sources, shots=shots))


def _label_role(label: str, labels: Sequence[str], *, numbered: bool) -> str:
    """The column; where it holds numbers of classes that are called by other numbers, a template that names them."""
    if not numbered or all(name == str(number) for number, name in enumerate(labels) if name.isdecimal()):
        return label
    cell = f"row[{label!r}]"
    return f"{{{{ {list(labels)!r}[{cell}] if {cell} is not none and {cell} >= 0 else '' }}}}"


def _divided(task: Task, *, texts: tuple[str, ...], label: str | None) -> Task:
    from lmtasks.task.describe import with_fields

    uses: Mapping[SplitName, Literal["train", "test"]] = {"train": "train", "test": "test"}
    parts = {split: Part(use=use, texts=texts, label=label) for split, use in uses.items()}
    sources = {split: replace(task.sources[split], part=part) for split, part in parts.items()}
    return with_fields(replace(task, sources=sources, shots=sources["train"]))


def _own_files(data: Path, *, splits: Sequence[str]) -> dict[str, Path]:
    if data.is_dir():
        found = {split: _one_file(data, split) for split in SPLITS}
        files = {str(split): file for split, file in found.items() if file is not None}
        if not files:
            raise UsageError(f"{data} holds no train, validation or test file ({', '.join(SUFFIXES)}).")
        return files
    if not data.is_file():
        raise missing("data file", data, hint="check its path")
    if data.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{data} is of no known format; known by suffix: {', '.join(SUFFIXES)}.")
    return dict.fromkeys(splits, data)


def _one_file(folder: Path, split: str) -> Path | None:
    found = sorted(file for file in folder.glob(f"{split}.*") if file.suffix.lower() in SUFFIXES)
    if len(found) > 1:
        raise UsageError(f"{folder} holds several files for {split}: {', '.join(file.name for file in found)}.")
    return found[0] if found else None


def check_task(task: Task) -> None:
    """Refuse a task that cannot be answered or scored.

    Raises:
        UsageError: the first fault found, with what is allowed.
    """
    _check_name(task)
    _check_outputs(task)
    _check_inputs(task)
    _check_labels(task)
    _check_prompt(task)
    for place, template in _all_templates(task):
        check_syntax(template, place=place)


def _check_name(task: Task) -> None:
    bad = [mark for mark in NOT_IN_NAMES if mark in task.name]
    if bad or not task.name or task.name.startswith("."):
        raise UsageError(
            f"a task's name becomes a name of folders and stands in lists, so it has no blanks, commas, slashes or "
            f"* ? [ ], and no dot in front, was: {task.name!r}."
        )


def _check_outputs(task: Task) -> None:
    allowed = kind_of(task).output_types
    if task.output_type not in allowed:
        raise UsageError(
            f"task {task.name}: kind {task.kind} goes with output_type {' or '.join(allowed)}, was: {task.output_type}."
        )


def _check_inputs(task: Task) -> None:
    kind = kind_of(task)
    needed = (*kind.roles, *kind.prompted_roles)
    roles = (*needed, *kind.optional_roles, *EVERYWHERE)
    for role in task.inputs:
        if role not in roles:
            raise unknown(f"role in inputs of task {task.name} ({task.kind})", role, roles)
    missing = [role for role in needed if role not in task.inputs]
    if missing:
        raise UsageError(
            f"task {task.name}: kind {task.kind} needs inputs with {', '.join(needed)}; "
            f"{' and '.join(missing)} not given."
        )


def _check_labels(task: Task) -> None:
    kind = kind_of(task)
    if not kind.labelled:
        if task.labels:
            raise UsageError(f"task {task.name}: kind {task.kind} has no labels; take them out, or change the kind.")
        return
    if len(task.labels) < 2:
        raise UsageError(f"task {task.name}: kind {task.kind} needs at least two labels, has {len(task.labels)}.")
    twice = sorted({label for label in task.labels if task.labels.count(label) > 1})
    if twice:
        raise UsageError(f"task {task.name} has the label {twice[0]!r} twice.")
    choices = task.templates.asked.choices
    if kind.answer == "label" and isinstance(choices, tuple) and len(choices) != len(task.labels):
        raise UsageError(
            f"task {task.name}: doc_to_choice has {len(choices)} texts for {len(task.labels)} labels; "
            "give one for each label, in the same order."
        )


def _check_prompt(task: Task) -> None:
    """What a prompt is made of must be there, unless a head can answer without it."""
    asked, kind = task.templates.asked, kind_of(task)
    if not kind.prompted and asked.question is not None:
        raise UsageError(
            f"task {task.name}: kind {task.kind} is answered by a head alone; take doc_to_text out, or change the kind."
        )
    if kind.roles:
        return
    missing = []
    if asked.question is None:
        missing.append("doc_to_text")
    if asked.target is None and "references" not in task.inputs:
        roles = "".join(f"inputs: {{{role}: ...}} or " for role in kind.optional_roles)
        missing.append(f"{roles}doc_to_target")
    if asked.choices is None and task.output_type == "multiple_choice":
        missing.append("doc_to_choice")
    if missing:
        raise UsageError(f"task {task.name}: kind {task.kind} needs {', '.join(missing)}.")


def _all_templates(task: Task) -> Iterator[tuple[Place, str]]:
    def place(field: str) -> Place:
        return Place(task=task.name, field=field)

    yield place("description"), task.description
    for role, template in task.inputs.items():
        yield place(f"inputs.{role}"), template
    for prefix, wording in (("", task.templates.asked), ("fewshot_config.", task.templates.shot)):
        specs: Mapping[str, Spec] = {
            "doc_to_text": wording.question,
            "doc_to_target": wording.target,
            "doc_to_choice": wording.choices,
            "gen_prefix": wording.prefix,
        }
        for field, spec in specs.items():
            if isinstance(spec, str):
                yield place(prefix + field), spec
