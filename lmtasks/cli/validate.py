"""`lmtasks validate`: checks task files and plans, and says what each would do. Nothing is computed or written."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.tasks import data_options
from lmtasks.errors import LmtasksError, UsageError

if TYPE_CHECKING:
    from lmtasks.data.options import DataOptions
    from lmtasks.data.rows import Rows
    from lmtasks.records import Row
    from lmtasks.task.task import Source, Task

PEEK_ROWS = 20
"""Rows that are fetched from the Hub to look at; of local data every row is checked."""
LONGEST = 400
"""Characters of an example that are shown."""
LABELS = 12
EACH_ROW_ASKS: Mapping[str, str] = {
    "loglikelihood": "1 likelihood",
    "loglikelihood_rolling": "1 likelihood (more for a long text)",
    "generate_until": "1 text",
}


def command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Task files and plans; names of shipped ones do as well.")
    ],
    data_root: options.DataRoot = None,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Check task files and plans, and say what each would do."""
    data = data_options(data_root=data_root, offline=offline, token=token)
    failures: list[LmtasksError] = []
    for number, file in enumerate(files):
        if number:
            print()
        try:
            _validate(file, data, trust_code=trust_code)
        except LmtasksError as error:
            if len(files) == 1:
                raise
            print(f"lmtasks: {error}", file=sys.stderr)
            failures.append(error)
    if failures:
        raise UsageError(f"{len(failures)} of {len(files)} files are wrong.")


def _validate(ref: str, data: DataOptions, *, trust_code: bool) -> None:
    from lmtasks.task.index import default_index

    if _is_plan(ref):
        _plan(ref, trust_code=trust_code)
        return
    for number, task in enumerate(default_index().find(ref, trust_code=trust_code)):
        if number:
            print()
        _task(task, data)


def _is_plan(ref: str) -> bool:
    """A plan says so in its first level; a name that is a shipped plan's and no task's is one too."""
    from lmtasks.suite.plan import shipped_plans
    from lmtasks.task.index import default_index
    from lmtasks.task.yaml_file import read_task_yaml

    if Path(ref).is_file():
        return bool({"plan", "variants"} & set(read_task_yaml(Path(ref)).keys))
    return ref in shipped_plans() and ref not in default_index().names()


def _task(task: Task, data: DataOptions) -> None:
    from lmtasks.evaluation.outcome import metrics_for

    print(
        f"task {task.name}: {task.kind}, {task.language}, hash {task.hash}" + (f" ({task.file})" if task.file else "")
    )
    if task.about:
        print(f"  {task.about}")
    if task.kind == "tagging":
        metrics = tuple(use.name for use in task.metrics)
    else:
        metrics = tuple(metric.name for metric in metrics_for(task, "prompt"))
    print(f"  metrics: {', '.join(metrics)}")
    if task.inputs:
        print(f"  a head reads: {', '.join(f'{role} from {column!r}' for role, column in task.inputs.items())}")
    if task.labels:
        more = f", ... ({len(task.labels)})" if len(task.labels) > LABELS else ""
        print(f"  labels: {', '.join(task.labels[:LABELS])}{more}")
    for split, source in task.sources.items():
        _split(task, split, source, data)


def _split(task: Task, split: str, source: Source, data: DataOptions) -> None:
    from lmtasks.data.mirror import find_local
    from lmtasks.data.rows import open_rows

    local = find_local(source, options=data) is not None
    what = f"  {'scored' if split == 'test' else split} ({source.split} of {_named(source)}):"
    if not local and data.offline:
        print(f"{what} not on this machine, not looked at (--offline)")
        return
    rows = open_rows(source, options=data, limit=None if local else PEEK_ROWS)
    counted = f"{len(rows.rows)} rows" if local else f"its first {len(rows.rows)} rows looked at"
    print(f"{what} {counted}, {rows.where}")
    print(f"    columns: {', '.join(rows.rows[0])}")
    for number, row in enumerate(rows.rows):
        _check_row(task, row, number)
    if split == "test":
        _example(task, rows)


def _check_row(task: Task, row: Row, number: int) -> None:
    """A label out of range, a missing value or a template that fails on a row is said now, with the row's number."""
    from lmtasks.task.head_input import head_input
    from lmtasks.task.prompt import build_prompt

    if task.templates.asked.question is not None or task.output_type == "loglikelihood_rolling":
        build_prompt(task, row, row_number=number)
    head_input(task, row, row_number=number)


def _example(task: Task, rows: Rows) -> None:
    from lmtasks.task.prompt import build_prompt

    if task.templates.asked.question is None and task.output_type != "loglikelihood_rolling":
        print("    no prompt (doc_to_text); a model answers with a head that was adapted to the task")
        return
    prompt = build_prompt(task, rows.rows[0], row_number=0)
    asks = EACH_ROW_ASKS.get(task.output_type, f"{len(prompt.choices)} likelihoods")
    print(f"    asked by prompt, a row asks for {asks}; {_decoding(task)}the first row:")
    _shown("prompt", prompt.context)
    for context in prompt.contexts:
        _shown("or", context)
    _shown("right", f"{prompt.delimiter}{prompt.target}")
    if prompt.choices and not prompt.contexts:
        print(f"      choices: {', '.join(repr(choice) for choice in prompt.choices[:LABELS])}")


def _decoding(task: Task) -> str:
    if task.output_type != "generate_until":
        return ""
    stops = ", ".join(repr(stop) for stop in task.generation.stop) or "nothing"
    return f"at most {task.generation.max_new_tokens} tokens, ended by {stops}; "


def _shown(name: str, text: str) -> None:
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
    print(f"      {name}: {cut!r}")


def _plan(ref: str, *, trust_code: bool) -> None:
    from lmtasks.suite.plan import find_plan, load_plan
    from lmtasks.task.index import default_index

    file = find_plan(ref)
    plan = load_plan(file)
    tasks = default_index().find(",".join(plan.tasks), trust_code=trust_code)
    print(f"plan {plan.plan}, hash {plan.hash} ({file})")
    if plan.question:
        print(f"  {plan.question}")
    print(f"  tasks: {_names([task.name for task in tasks])}")
    for name, model in plan.models.items():
        where = ",".join(model.tasks)
        trained = default_index().find(where, trust_code=trust_code) if where else tasks
        learned = [task.name for task in trained if "train" in task.sources]
        how = "used as it is" if model.adaptation == "prompt" else f"{model.adaptation}, on {_names(learned)}"
        print(f"  model {name}: {model.backbone}, {how}")
    cells = 0
    for variant in plan.variants:
        answered = len(variant.tasks) or len(tasks)
        cells += answered * len(plan.seeds)
        what = (
            ", ".join(variant.baseline) or f"{variant.model} on {variant.runtime} {variant.device} {variant.precision}"
        )
        print(f"  variant {variant.name}: {what}, {answered} tasks")
    seeds = f", seeds {', '.join(map(str, plan.seeds))}" if len(plan.seeds) > 1 else ""
    limit = f", the first {plan.limit} rows of each task" if plan.limit else ""
    speed = ", then speed, a process for each variant" if plan.bench else ""
    print(f"  {cells} cells{seeds}{limit}{speed}")


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:LABELS])}{f', ... ({len(names)})' if len(names) > LABELS else ''}"


def _named(source: Source) -> str:
    if source.data_files:
        return str(source.data_files.get(source.split, source.path))
    return f"{source.path}/{source.name}" if source.name else source.path
