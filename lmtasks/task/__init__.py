"""A task file becomes a checked `Task`; a task and a row become a prompt, or the input of a head.

>>> from lmtasks.task import build_prompt, default_index
>>> task, = default_index().find("starter_translation_en_zh")
>>> build_prompt(task, {"en": "Good night.", "zh": "晚安。"}).context
'Good night.\\n中文：'
"""

from lmtasks.task.fewshot import ShotStream, lm_eval_shots, pick_shots
from lmtasks.task.filters import FILTERS, Filtered, apply_filters, filter_answers
from lmtasks.task.groups import Group, GroupMetric
from lmtasks.task.hooks import call_metric, call_process_results, process_rows, shot_pool
from lmtasks.task.index import TaskEntry, TaskIndex, default_index
from lmtasks.task.kinds import KINDS, TaskKind, baseline_source, head_input, kind_of, scored_text
from lmtasks.task.load import load_task, own_task
from lmtasks.task.prompt import Chat, Message, Prompt, build_prompt
from lmtasks.task.task import SPLITS, MetricUse, OutputType, Source, SplitName, Task

__all__ = [
    "FILTERS",
    "KINDS",
    "SPLITS",
    "Chat",
    "Filtered",
    "Group",
    "GroupMetric",
    "Message",
    "MetricUse",
    "OutputType",
    "Prompt",
    "ShotStream",
    "Source",
    "SplitName",
    "Task",
    "TaskEntry",
    "TaskIndex",
    "TaskKind",
    "apply_filters",
    "baseline_source",
    "build_prompt",
    "call_metric",
    "call_process_results",
    "default_index",
    "filter_answers",
    "head_input",
    "kind_of",
    "lm_eval_shots",
    "load_task",
    "own_task",
    "pick_shots",
    "process_rows",
    "scored_text",
    "shot_pool",
]
