"""A task file and a plan to begin with, written after a look at the data: what is known stands there, and beside every
key why it does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from lmtasks.errors import UsageError
from lmtasks.files import slug, write_files
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.kinds import kind_of
from lmtasks.task.task import Task
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks

SPLITS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
LONG_TEXT = 2000
"""Characters of a median text that most models cut."""


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A task file that was written."""

    file: Path
    rows: Mapping[str, int]
    """Split to its rows; splits that the data did not have were made."""
    labels: Mapping[str, int]
    """Label to its training rows; empty: the task has none."""
    notes: tuple[str, ...]
    """Sentences about the data that whoever scores on it will want to know."""


def new_task(name: str, choice: TaskRequest, *, out: Path, data: DataAccess) -> NewTask:
    """Write `out`/<name>.yaml over one's own data; of a single file a fifth of each label is set aside as test rows,
    and both parts are written beside it.

    Args:
        choice: `data` with the columns; nothing else of it counts.

    Raises:
        UsageError: the name is none, `out` exists, or the data makes no task.
        WorkError: nothing can be written there.
    """
    from lmtasks.data.splits import read_split

    _check_name(name)
    if out.exists():
        raise UsageError(f"{out} exists already; give another --out.")
    if choice.data is None:
        raise UsageError("new task looks at data: give --data FILE or a folder with train.* and test.*.")
    (task,) = chosen_tasks(replace(choice, name=name), use="both")
    splits: dict[str, list[Row]] = {
        split: _plain(task, read_split(task, split, options=data)) for split in SPLITS if split in task.sources
    }
    training = splits.get("train", [])
    counts = Counter(str(row[task.inputs["label"]]) for row in training) if "label" in task.inputs else Counter[str]()
    written: dict[str, list[str]] = {
        f"{split}.jsonl": [json.dumps(row, ensure_ascii=False) + "\n" for row in rows] for split, rows in splits.items()
    }
    notes = _notes(task, splits, counts)
    written[f"{name}.yaml"] = [_task_text(name, task, splits, notes)]
    out.mkdir(parents=True)
    write_files(out, written)
    return NewTask(
        file=out / f"{name}.yaml",
        rows={split: len(rows) for split, rows in splits.items()},
        labels=dict(counts.most_common()),
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
    _check_name(name)
    if out.exists():
        raise UsageError(f"{out} exists already; give another --out.")
    known = chosen_tasks(TaskRequest(tasks=tasks))
    learnable = [task.name for task in known if "train" in task.sources]
    text = _plan_text(name, tasks.split(","), known, learnable=bool(learnable), models=models)
    write_files(out.parent, {out.name: [text]})
    return out


def _check_name(name: str) -> None:
    if name != slug(name) or not name:
        raise UsageError(f"a name has letters, digits, - and _ alone, was {name!r}; {slug(name)!r} would do.")


def _plain(task: Task, rows: Sequence[Row]) -> list[Row]:
    """The columns that the task reads."""
    columns = [column for column in task.inputs.values() if "{{" not in column]
    return [{column: row[column] for column in columns} for row in rows]


def _notes(task: Task, splits: Mapping[str, Sequence[Row]], counts: Counter[str]) -> tuple[str, ...]:
    column = task.inputs["text"]
    test, train = splits.get("test", ()), {str(row[column]) for row in splits.get("train", ())}
    notes: list[str] = []
    known = sum(str(row[column]) in train for row in test)
    if known:
        notes.append(f"{known} of {len(test)} test texts stand among the training texts, too.")
    lengths = sorted(len(str(row[column])) for row in test)
    if lengths and lengths[len(lengths) // 2] > LONG_TEXT:
        notes.append(f"half of the texts have more than {LONG_TEXT:,} characters: most models cut them.")
    if counts and min(counts.values()) * 10 < max(counts.values()):
        rarest = min(counts, key=lambda label: counts[label])
        notes.append(
            f"the label {rarest!r} has {counts[rarest]} of {sum(counts.values())} training rows: macro_f1 says more "
            "than acc."
        )
    return tuple(notes)


def _task_text(name: str, task: Task, splits: Mapping[str, Sequence[Row]], notes: Sequence[str]) -> str:
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
        parts += [
            "# In the order of their numbers, where rows hold numbers.",
            _yaml({"labels": list(task.labels)}),
            "# What a model that is only prompted reads; heads that are adapted read the text alone.",
            _yaml({"doc_to_text": _prompt(task), "target_delimiter": "" if task.language == "zh" else " "}),
        ]
    parts += ["# The first one is the main one.", _yaml({"metrics": [use.name for use in task.metrics]})]
    return "\n".join(part.rstrip() for part in parts) + "\nmetadata: {version: 1}\n"


def _prompt(task: Task) -> str:
    """As the prompt of --data is."""
    shown = "\n".join("{{row[" + repr(task.inputs[role]) + "]}}" for role in ("text", "pair") if role in task.inputs)
    return shown + ("\n类别：" if task.language == "zh" else "\nCategory:")


def _plan_text(
    name: str, asked: Sequence[str], tasks: Sequence[Task], *, learnable: bool, models: Sequence[str]
) -> str:
    variants: list[dict[str, object]] = [{"name": "trivial", "baseline": "trivial"}]
    if learnable:
        variants.append({"name": "classical", "baseline": "classical"})
    for model in models:
        variants.append({"name": slug(model) or model, "model": model, "runtime": "torch"})
    if learnable:
        variants += [
            {"name": "mini torch", "model": "mini", "runtime": "torch"},
            {"name": "mini onnx", "model": "mini", "runtime": "onnx"},
            {"name": "mini int8", "model": "mini", "runtime": "onnx", "precision": "int8"},
        ]
    parts = [
        f"# A plan of lmtasks: `lmtasks validate {name}.yaml` says what it would do, `lmtasks run` does it.",
        _yaml({"plan": name, "question": "Which model is best for these tasks on this machine?"}),
        f"# {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}: names, patterns or files.",
        _yaml({"tasks": [each.strip() for each in asked]}),
    ]
    if learnable:
        parts += [
            "# Models that the plan makes: a backbone, adapted to all tasks that have training rows.",
            _yaml({"models": {"mini": {"backbone": "lmtasks-mini", "adaptation": "full", "training": {"epochs": 4}}}}),
        ]
    parts += [
        "# What is compared, the first model being what others are held to. Baselines: `lmtasks list baselines`.",
        _yaml({"variants": variants}),
        "# Seeds: several give every trained model an interval over trainings, too.",
        _yaml({"seeds": [1234]}),
        "# Speed of every model on rows of these tasks; null: none is measured.",
        _yaml({"bench": {"tasks": [task.name for task in tasks][:1], "rows": 32, "seconds": 1}}),
    ]
    return "\n".join(part.rstrip() for part in parts) + "\n"


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
