"""A task file becomes a checked `Task`; a task and a row become a prompt, or the input of a head.

>>> from lmtasks.task import build_prompt, default_index
>>> task, = default_index().find("starter_translation_en_zh")
>>> build_prompt(task, {"en": "Good night.", "zh": "晚安。"}).context
'Good night.\\n中文：'
"""

from lmtasks.task.head_input import HeadInput, baseline_source, head_input, scored_text
from lmtasks.task.index import TaskEntry, TaskIndex, default_index
from lmtasks.task.load import load_task, own_task
from lmtasks.task.prompt import Prompt, build_prompt, pick_shots
from lmtasks.task.task import KINDS, SPLITS, Generation, Kind, MetricUse, OutputType, Source, SplitName, Task

__all__ = [
    "KINDS",
    "SPLITS",
    "Generation",
    "HeadInput",
    "Kind",
    "MetricUse",
    "OutputType",
    "Prompt",
    "Source",
    "SplitName",
    "Task",
    "TaskEntry",
    "TaskIndex",
    "baseline_source",
    "build_prompt",
    "default_index",
    "head_input",
    "load_task",
    "own_task",
    "pick_shots",
    "scored_text",
]
