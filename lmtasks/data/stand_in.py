"""A local mirror may lack a data set and have one that stands in for it, with other rows: `task/aliases.py`."""

import logging
from dataclasses import replace

from lmtasks.data.mirror import find_local
from lmtasks.data.options import DataOptions
from lmtasks.task.aliases import stand_in
from lmtasks.task.resolve import with_fields
from lmtasks.task.task import Source, SplitName, Task

log = logging.getLogger(__name__)


def with_stand_ins(task: Task, *, options: DataOptions) -> Task:
    """The task, reading what the mirror has instead where it lacks what the task names.

    Without a mirror, and where the mirror has the data set itself, it is the same task. Otherwise its fields say what
    is read instead of what, and its hash is another one.

    Raises:
        UsageError: the mirror, or a file that the task names, is not there.
    """
    sources: dict[SplitName, Source] = {name: _there(source, options) for name, source in task.sources.items()}
    shots = None if task.shots is None else _there(task.shots, options)
    if sources == dict(task.sources) and shots == task.shots:
        return task
    for told in sorted({source.stands_for for source in (*sources.values(), shots) if source and source.stands_for}):
        log.warning("task %s: %s lacks %s; it is read instead", task.name, options.data_root, told)
    return with_fields(replace(task, sources=sources, shots=shots))


def _there(source: Source, options: DataOptions) -> Source:
    instead = stand_in(source)
    if instead is None or options.data_root is None or find_local(source, options=options) is not None:
        return source
    if find_local(instead, options=options) is None:
        return source
    return instead
