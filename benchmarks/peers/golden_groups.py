"""Golden values of groups: tasks of golden cases put together, in the schema that both harnesses read."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from golden_files import write_case
from sides import Job

CHECKPOINT = "tiny-llama"
MEMBERS = ("topics", "feelings", "passages")
"""Cases of different sizes."""
GROUPS: Mapping[str, str] = {
    "by_size": "task: [topics, feelings]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n",
    "alike": "task: [topics, feelings]\naggregate_metric_list: [{metric: acc, weight_by_size: false}]\n",
    "of_groups": "task: [by_size, passages]\naggregate_metric_list:\n"
    "  - {metric: acc, weight_by_size: true}\n  - {metric: acc, weight_by_size: false}\n"
    "  - {metric: acc_norm, weight_by_size: true}\n",
}
"""Group files: by rows, by tasks, and a group in a group, where one metric is not every member's."""


def write_groups(cases: Mapping[str, Mapping[str, Any]], groups: Mapping[str, str], folder: Path) -> tuple[Job, ...]:
    """The members' task files and the group files, in one folder; a job for each group, since lm-evaluation-harness
    refuses a task that stands in two groups at once.

    Args:
        cases: the members by name.
        groups: group name -> YAML without `group`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [write_case(case, folder / name) for name, case in cases.items()]
    for name, text in groups.items():
        (folder / f"{name}.yaml").write_text(f"group: {json.dumps(name)}\n{text}", encoding="utf-8")
    return tuple(replace(jobs[0], name=name, task_folder=str(folder), tasks=(name,)) for name in groups)
