"""A task file and a plan to begin with, written after a look at the data: what is known stands there, and beside every
key why it does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median_low
from typing import Literal

import yaml

from lmtasks.errors import UsageError
from lmtasks.files import slug, write_files
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import Adaptation, ProbeFit
from lmtasks.task.identity import folded
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import Task
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks, own_rows

SPLITS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
LONG_TEXT = 2000
"""Characters of a median text that most models cut."""
UNEVEN = 10
"""Times as many rows as the rarest label has: the share of right answers then hides the rare ones."""
SHOWN_LABELS = 12
USES: Mapping[str, str] = {"train": "to learn from", "validation": "to choose by", "test": "to be scored"}
GATE_POINTS = 1.0
"""That rounding may cost a new plan's package on validation rows."""


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A task file that was written."""

    file: Path
    task: Task
    """As it was read from the data."""
    rows: Mapping[str, int]
    """Split to its rows; splits that the data did not have were made."""
    labels: Mapping[str, int]
    """Label to its training rows; empty: the task has none."""
    found: tuple[str, ...]
    """Sentences on what the data is."""
    notes: tuple[str, ...]
    """Sentences about the data that whoever scores on it will want to know."""


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    """A model of a new plan: used as it is, or a backbone that the plan adapts."""

    name: str
    """In the plan."""
    ref: str
    """A folder, a shipped name, a Hub id, a baseline, or a family that is made new."""
    adaptation: Adaptation | None = "full"
    """None: used as it is, by its own head or by prompts."""
    is_baseline: bool = False
    fit: ProbeFit = "steps"
    """Of a probe."""
    runtimes: tuple[Literal["torch", "onnx", "int8", "native"], ...] = ("torch", "onnx", "int8")
    """What it is compared in; `int8` is a package with a gate."""
    precision: str = ""
    """Of a package that is used as it is."""
    minutes: float | None = None
    """Of its training at most; None: as long as the rows ask for."""
    why: str = ""
    """Why it is adapted so, or not at all; a comment of the plan."""


SHIPPED = PlannedModel(name="mini", ref="lmtasks-mini", why="The backbone that comes along.")


@dataclass(frozen=True, kw_only=True)
class PlanSketch:
    """Contents of a new plan."""

    name: str
    question: str = "Which model is best for these tasks on this machine?"
    tasks: tuple[str, ...]
    """Names, patterns or files."""
    learnable: bool
    """Has any task training rows?"""
    models: tuple[PlannedModel, ...] = ()
    sample: int | None = None
    """Scored rows of a task at most."""
    seed: int = 1234
    timed: tuple[str, ...] = ()
    """Tasks that are timed; empty: all."""
    seconds: float = 1
    notes: tuple[str, ...] = field(default=())
    """Comments at the top."""


def new_task(name: str, choice: TaskRequest, *, out: Path, data: DataAccess, least_scored: int = 1) -> NewTask:
    """Write `out`/<name>.yaml over one's own data; of a single file a fifth of each label is set aside as test rows,
    and both parts are written beside it.

    Args:
        choice: `data` with the columns; nothing else of it counts.
        least_scored: rows to be scored at least.

    Raises:
        UsageError: the name is none, `out` exists, or the data makes no task, or too small a one.
        WorkError: nothing can be written there.
    """
    from lmtasks.data.splits import read_split

    check_name(name)
    if out.exists():
        raise UsageError(f"{out} exists already; give another --out.")
    if choice.data is None:
        raise UsageError("new task looks at data: give --data FILE or a folder with train.* and test.*.")
    _check_texts(choice)
    (task,) = chosen_tasks(replace(choice, name=name), use="both")
    read: dict[str, Sequence[Row]] = {
        split: _plain(task, read_split(task, split, options=data)) for split in SPLITS if split in task.sources
    }
    splits, repeated = _once_each(task, read)
    if len(splits["test"]) < least_scored or not splits.get("train"):
        raise UsageError(
            f"{choice.data} has {sum(map(len, read.values())):,} rows, of which {len(splits['test'])} would be scored: "
            f"on fewer than {least_scored} no difference between models can be shown. Label more of them; `lmtasks "
            "eval --data FILE` scores models on all rows of a file, which then learn from none."
        )
    training = splits.get("train", [])
    counts = Counter(str(row[task.inputs["label"]]) for row in training) if "label" in task.inputs else Counter[str]()
    written: dict[str, list[str]] = {
        f"{split}.jsonl": [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows]
        for split, rows in splits.items()
    }
    notes = (*repeated, *_notes(task, splits, counts))
    written[f"{name}.yaml"] = [_task_text(name, task, splits, notes, metrics=_metrics(task, counts))]
    out.mkdir(parents=True)
    write_files(out, written)
    return NewTask(
        file=out / f"{name}.yaml",
        task=task,
        rows={split: len(rows) for split, rows in splits.items()},
        labels=dict(counts.most_common()),
        found=_found(task, splits, counts, divided=choice.is_single, where=str(choice.data)),
        notes=notes,
    )


def new_plan(name: str, tasks: str, *, models: Sequence[str], out: Path) -> Path:
    """Write a plan that compares models on tasks, beside the shipped backbone and the rivals.

    Args:
        tasks: names or files, with commas between.
        models: folders, shipped names or Hub ids that are compared as they are.

    Raises:
        UsageError: the name is none, the file exists, or a task is not known.
        WorkError: nothing can be written there.
    """
    check_name(name)
    if out.exists():
        raise UsageError(f"{out} exists already; give another --out.")
    known = chosen_tasks(TaskRequest(tasks=tasks))
    learnable = any("train" in task.sources for task in known)
    given = tuple(
        PlannedModel(name=slug(ref) or ref, ref=ref, adaptation=None, runtimes=("torch",), why="As it is.")
        for ref in models
    )
    sketch = PlanSketch(
        name=name,
        tasks=tuple(each.strip() for each in tasks.split(",")),
        learnable=learnable,
        models=(*given, *((SHIPPED,) if learnable else ())),
        timed=(known[0].name,),
    )
    write_files(out.parent, {out.name: [plan_text(sketch)]})
    return out


def check_name(name: str) -> None:
    """Raises: UsageError: it is no name of a task or a plan."""
    if name != slug(name) or not name:
        raise UsageError(f"a name has letters, digits, - and _ alone, was {name!r}; {slug(name) or 'data'!r} would do.")


def _plain(task: Task, rows: Sequence[Row]) -> list[Row]:
    """The columns that the task reads."""
    columns = [column for column in task.inputs.values() if "{{" not in column]
    return [{column: row[column] for column in columns} for row in rows]


def _texts(task: Task, row: Row) -> tuple[str, ...]:
    """What is asked of a row, by which rows are told apart."""
    return tuple(folded(str(row[task.inputs[role]])) for role in ("text", "pair") if role in task.inputs)


def _check_texts(choice: TaskRequest) -> None:
    """Raises: UsageError: there are no rows, or their texts are none, or one."""
    rows, column, where = own_rows(choice), choice.text, choice.data
    if column not in rows[0]:
        return  # told with the columns that there are
    filled = [text for row in rows if (text := str("" if row[column] is None else row[column]).strip())]
    if not filled:
        raise UsageError(f"{where}: column {column!r} holds no text; name the column of the texts by --text.")
    if all(map(_is_number, filled)):
        raise UsageError(
            f"{where}: column {column!r} holds numbers ({filled[0]}, ...) and no texts; name the column of the texts "
            "by --text."
        )
    read = [name for name in (column, choice.pair) if name is not None and name in rows[0]]
    if len(rows) > 1 and len({tuple(folded(str(row[name])) for name in read) for row in rows}) == 1:
        raise UsageError(
            f"{where}: all {len(rows):,} texts of column {column!r} are equal, so that nothing can be learned from "
            "them; name the column of the texts by --text."
        )


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _once_each(task: Task, splits: Mapping[str, Sequence[Row]]) -> tuple[Mapping[str, Sequence[Row]], tuple[str, ...]]:
    """Rows that are no other's double, and stand in no split that is scored; and what was left out, in sentences."""
    answer = kind_of(task).answer_role
    scored: set[tuple[str, ...]] = set()
    kept: dict[str, Sequence[Row]] = {}
    labels: dict[tuple[str, ...], set[str]] = {}
    doubles, known = 0, Counter[str]()
    for split in reversed([name for name in SPLITS if name in splits]):  # test rows stay whatever else there is
        seen: set[tuple[str, ...]] = set()
        rows: list[Row] = []
        mine: set[tuple[str, ...]] = set()
        for row in splits[split]:
            texts = _texts(task, row)
            label = str(row[task.inputs[answer]]) if answer in task.inputs else ""
            labels.setdefault(texts, set()).add(label)
            if texts in scored:
                known[split] += 1
            elif (*texts, label) in seen:
                doubles += 1
            else:
                seen.add((*texts, label))
                mine.add(texts)
                rows.append(row)
        scored |= mine
        kept[split] = rows
    notes = []
    if doubles:
        verb = "row that says the same as another was" if doubles == 1 else "rows that say the same as others were"
        notes.append(f"{doubles:,} {verb} left out.")
    notes += [
        f"{count:,} {split} {'row was' if count == 1 else 'rows were'} left out, whose text stands among the rows that "
        f"are {'scored' if split == 'validation' else 'scored or judged'}, too."
        for split, count in known.items()
    ]
    several = sum(len(each) > 1 for each in labels.values())
    if several:
        notes.append(f"{several:,} {'text has' if several == 1 else 'texts have'} more than one answer.")
    return {split: kept[split] for split in SPLITS if split in kept}, tuple(notes)


def _metrics(task: Task, counts: Counter[str]) -> Sequence[str]:
    """The main one first."""
    names = [use.name for use in task.metrics]
    if _is_uneven(counts) and "macro_f1" in names:
        return ["macro_f1", *(name for name in names if name != "macro_f1")]
    return names


def _is_uneven(counts: Counter[str]) -> bool:
    return bool(counts) and min(counts.values()) * UNEVEN < max(counts.values())


def _found(
    task: Task, splits: Mapping[str, Sequence[Row]], counts: Counter[str], *, divided: bool, where: str
) -> tuple[str, ...]:
    """What the data is, for whoever gave it."""
    rows = [row for split in splits.values() for row in split]
    lengths = [len(str(row[task.inputs["text"]])) for row in rows]
    read = " and ".join(repr(task.inputs[role]) for role in ("text", "pair") if role in task.inputs)
    found = [
        f"{where}: {len(rows):,} rows; column{'s' if 'pair' in task.inputs else ''} {read} "
        f"{'hold' if 'pair' in task.inputs else 'holds'} text in the language {task.language}, "
        f"{median_low(lengths):,} characters in the middle and {max(lengths):,} at most."
    ]
    answer = task.inputs.get(kind_of(task).answer_role)
    if counts:
        shown = [f"{label} ({count:,})" for label, count in counts.most_common(SHOWN_LABELS)]
        more = f" and {len(counts) - SHOWN_LABELS} more" if len(counts) > SHOWN_LABELS else ""
        found.append(f"Column {answer!r} holds {len(counts)} labels, with training rows: {', '.join(shown)}{more}.")
    elif task.labels:
        found.append(f"Column {answer!r} holds lists of {len(task.labels)} labels: {', '.join(task.labels)}.")
    elif answer is not None and kind_of(task).answer == "number":
        numbers = sorted(float(str(row[answer])) for row in rows if _is_number(row[answer]))
        found.append(f"Column {answer!r} holds numbers from {numbers[0]:g} to {numbers[-1]:g}.")
    told = [f"{len(splits[split]):,} {use}" for split, use in USES.items() if split in splits]
    how = "a fifth of each label, drawn by the texts alone, is set aside" if divided else "as the files divide them"
    found.append(f"Rows {', '.join(told)} ({how}).")
    return tuple(found)


def _notes(task: Task, splits: Mapping[str, Sequence[Row]], counts: Counter[str]) -> tuple[str, ...]:
    column = task.inputs["text"]
    test = splits.get("test", ())
    notes: list[str] = []
    lengths = sorted(len(str(row[column])) for row in test)
    if lengths and lengths[len(lengths) // 2] > LONG_TEXT:
        notes.append(f"half of the texts have more than {LONG_TEXT:,} characters: most models cut them.")
    if _is_uneven(counts):
        rarest = min(counts, key=lambda label: counts[label])
        notes.append(
            f"the label {rarest!r} has {counts[rarest]} of {sum(counts.values())} training rows: macro_f1, which "
            "counts every label alike, is the main metric."
        )
    return tuple(notes)


def _task_text(
    name: str, task: Task, splits: Mapping[str, Sequence[Row]], notes: Sequence[str], *, metrics: Sequence[str]
) -> str:
    kind = kind_of(task)
    files = {split: f"{split}.jsonl" for split in splits}
    parts = [
        f"# A task of lmtasks. `lmtasks validate {name}.yaml` checks it against its data and shows a prompt.",
        *(f"# Mind: {note}" for note in notes),
        _yaml({"task": name, "about": task.about}),
        f"# The kind says how it is answered: {kind.about}.",
        _yaml({"kind": task.kind, "language": task.language}),
        "# Rows lie beside this file, a JSON object a line; a Hub id may stand in place of json.",
        _yaml({"dataset_path": "json", "dataset_kwargs": {"data_files": files}}),
        _yaml({f"{'training' if split == 'train' else split}_split": split for split in splits}).rstrip(),
        "# Which column is what.",
        _yaml({"inputs": {role: column for role, column in task.inputs.items() if "{{" not in column}}),
    ]
    if task.labels:
        parts += ["# In the order of their numbers, where rows hold numbers.", _yaml({"labels": list(task.labels)})]
    if task.labels and kind.prompted:
        parts += [
            "# What a model that is only prompted reads; heads that are adapted read the text alone.",
            _yaml({"doc_to_text": _prompt(task), "target_delimiter": "" if task.language == "zh" else " "}),
        ]
    parts += ["# The first one is the main one.", _yaml({"metrics": list(metrics)})]
    return "\n".join(part.rstrip() for part in parts) + "\nmetadata: {version: 1}\n"


def _prompt(task: Task) -> str:
    """As the prompt of --data is."""
    shown = "\n".join("{{row[" + repr(task.inputs[role]) + "]}}" for role in ("text", "pair") if role in task.inputs)
    return shown + ("\n类别：" if task.language == "zh" else "\nCategory:")


def plan_text(sketch: PlanSketch) -> str:
    """The plan's file, a comment beside every key."""
    adapted = [model for model in sketch.models if model.adaptation is not None]
    parts = [
        f"# A plan of lmtasks: `lmtasks validate {sketch.name}.yaml` says what it would do, `lmtasks run` does it.",
        *(f"# {note}" for note in sketch.notes),
        _yaml({"plan": sketch.name, "question": sketch.question}),
        f"# {len(sketch.tasks)} {'task' if len(sketch.tasks) == 1 else 'tasks'}: names, patterns or files.",
        _yaml({"tasks": list(sketch.tasks)}),
    ]
    if adapted:
        parts.append(
            "# Models that the plan makes: a backbone, adapted to all tasks that have training rows. `training` holds "
            "what\n# `lmtasks adapt` has options for; what is not said follows from the rows."
        )
        parts.append("models:")
        for model in adapted:
            parts += [f"  # {model.why}"] if model.why else []
            parts.append(f"  {model.name}:{_value(_model_plan(model))}")
    parts += [
        "# What is compared, the first model being what others are held to. Baselines: `lmtasks list baselines`.",
        "variants:",
        *_variants(sketch),
    ]
    if sketch.sample is not None:
        parts += [
            "# Scored rows at most, drawn by the seed, each label with its share.",
            _yaml({"sample": sketch.sample}),
        ]
    parts += [
        "# Seeds: several give every trained model an interval over trainings, too.",
        _yaml({"seeds": [sketch.seed]}),
        "# Speed of every model on rows of these tasks; null: none is measured.",
        _yaml(
            {
                "bench": {
                    **({"tasks": list(sketch.timed)} if sketch.timed else {}),
                    "rows": 32,
                    "seconds": sketch.seconds,
                }
            }
        ),
    ]
    return "\n".join(part.rstrip() for part in parts) + "\n"


def _model_plan(model: PlannedModel) -> Mapping[str, object]:
    fitted = model.runtimes == ("native",) or model.fit == "logistic"  # takes no steps
    return {
        "backbone": model.ref,
        "adaptation": model.adaptation,
        **({"probe": {"fit": model.fit}} if model.fit == "logistic" else {}),
        **({} if fitted or model.minutes is None else {"training": {"minutes": model.minutes}}),
    }


def _variants(sketch: PlanSketch) -> list[str]:
    lines = ["  - {name: trivial, baseline: trivial}"]
    lines += ["  - {name: classical, baseline: classical}"] if sketch.learnable else []
    for model in sketch.models:
        if model.adaptation is None:
            lines += [f"  # {model.why}"] if model.why else []
        lines += [f"  -{_value(each)}" for each in _variants_of(model)]
    return lines


def _variants_of(model: PlannedModel) -> list[Mapping[str, object]]:
    if model.is_baseline:
        return [{"name": model.name, "baseline": model.ref}]
    known = model.ref if model.adaptation is None else model.name
    own = model.runtimes[0] if model.adaptation is None else ""
    rounded = {"runtime": "onnx", "precision": "int8", "max_drop": GATE_POINTS}
    return [
        {
            "name": model.name if runtime == own else f"{model.name} {runtime}",
            "model": known,
            **(rounded if runtime == "int8" else {"runtime": runtime}),
            **({"precision": model.precision} if model.precision else {}),
        }
        for runtime in model.runtimes
    ]


def _yaml(content: Mapping[str, object]) -> str:
    """A key a line; of a list of mappings a line each."""
    return "".join(f"{key}:{_value(value)}\n" for key, value in content.items())


def _value(value: object) -> str:
    if isinstance(value, str):
        return (
            " " + json.dumps(value, ensure_ascii=False)
            if "\n" in value or yaml.safe_load(value) != value
            else f" {value}"
        )
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "".join(f"\n  -{_value(each)}" for each in value)
    dumped = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=10_000, default_flow_style=True)
    return " " + dumped.removesuffix("...\n").strip()
