"""Counts the task files of lm-evaluation-harness that lmtasks carries out, and says why it refuses the others.

Run it where both are installed (lm-eval 0.4.13 for the count in docs/decisions.md):

python tests/task/lm_eval_count.py [FOLDER]

Each task file of the folder (lm_eval's own without one) is read as `eval --trust-code` reads it, its metrics are built
with the functions that it names, and so is everything else of it that runs before the first row. No data is fetched.
No test imports this file: the environment of the tests has no lm-eval.
"""

import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from lmtasks.errors import LmtasksError
from lmtasks.evaluation.scoring import scorings_for
from lmtasks.task.functions import FunctionRef
from lmtasks.task.groups import is_group
from lmtasks.task.load import task_of
from lmtasks.task.scan import yaml_files
from lmtasks.task.task import Task
from lmtasks.task.yaml_file import TaskYaml, read_task_yaml

EXAMPLES = 3
"""Files to name for each reason."""


def main(folder: Path) -> None:
    """Count and print."""
    refused: dict[str, list[str]] = defaultdict(list)
    names: set[str] = set()
    count = 0
    for yaml in _task_files(folder):
        count += 1
        names.add(str(yaml.keys["task"]))
        why = _why_refused(yaml)
        if why:
            refused[_reason(why, folder=folder)].append(f"{yaml.file.relative_to(folder)}: {why}")
    total = sum(map(len, refused.values()))
    print(f"{count} task files, {len(names)} names; {total} files refused")
    for reason, files in sorted(refused.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(files)} x {reason}")
        for line in files[:EXAMPLES]:
            print(f"    {line}")


def _task_files(folder: Path) -> Iterator[TaskYaml]:
    for file in yaml_files([folder]):
        yaml = read_task_yaml(file)
        if isinstance(yaml.keys.get("task"), str) and not is_group(yaml.keys):
            yield yaml


def _why_refused(yaml: TaskYaml) -> str:
    try:
        task = task_of(yaml, trust_code=True)
        scorings_for(task)
        for function in _functions(task):
            function.load()
    except LmtasksError as error:
        return str(error)
    return ""


def _functions(task: Task) -> Iterator[FunctionRef]:
    """All code that the task names."""
    asked, shot = task.templates.asked, task.templates.shot
    for value in (
        task.process_docs,
        task.process_results,
        task.shot_docs,
        task.shot_samples,
        task.shot_sampler,
        *(getattr(wording, name) for wording in (asked, shot) for name in ("question", "target", "choices")),
        *(use.function for use in task.metrics),
        *(step.function for pipeline in task.filters for step in pipeline.steps),
        *(value for pipeline in task.filters for step in pipeline.steps for value in step.options.values()),
        *(source.made_by.function for source in task.sources.values() if source.made_by is not None),
    ):
        if isinstance(value, FunctionRef):
            yield value


def _reason(why: str, *, folder: Path) -> str:
    """The sentence without what differs from file to file."""
    short = why.replace(str(folder), "")
    short = re.sub(r"^\S+\.ya?ml(:\d+)?: ", "", short)
    short = re.sub(r"\btask \S+", "task T", short)
    short = re.sub(r"!function \S+", "!function F", short)
    return re.sub(r"\S*/\S+\.py", "FILE", short)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        spec = importlib.util.find_spec("lm_eval")
        if spec is None or not spec.submodule_search_locations:
            sys.exit("lm_eval is not installed here; give its folder of tasks.")
        main(Path(spec.submodule_search_locations[0]) / "tasks")
