"""Which metrics a task asks for.

Our `metrics`, else lm-evaluation-harness' `metric_list` (`metric_list.py`), else what the kind or the output type
implies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lmtasks.errors import UsageError
from lmtasks.lm_eval_names import IMPLIED_AGGREGATION
from lmtasks.task.kinds import TaskKind
from lmtasks.task.metric_list import listed_metrics
from lmtasks.task.schema import TaskFile
from lmtasks.task.task import MetricUse, OutputType

OF_OUTPUT: Mapping[OutputType, tuple[str, ...]] = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}
"""lm-evaluation-harness' defaults."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of a task."""

    uses: tuple[MetricUse, ...]
    notes: tuple[str, ...] = ()
    """What the file asks for and does not get, one sentence each."""


def metrics_of(file: TaskFile, *, kind: TaskKind, output_type: OutputType) -> Metrics:
    """The metrics.

    Raises:
        UsageError: the list is empty, a metric is named twice, or one of them cannot be carried out.
    """
    notes: tuple[str, ...] = ()
    if file.metrics is not None:
        uses = [
            MetricUse(name=wish) if isinstance(wish, str) else MetricUse(name=wish.name, options=wish.options)
            for wish in file.metrics
        ]
    elif file.metric_list is not None:
        listed = listed_metrics(file, output_type=output_type)
        uses, notes = list(listed.uses), listed.notes
    else:
        implied = kind.metrics if file.kind is not None else ()
        uses = [MetricUse(name=name) for name in implied or OF_OUTPUT[output_type]]
    if file.process_results is not None:
        uses = [replace(use, aggregation=use.aggregation or IMPLIED_AGGREGATION.get(use.name, "mean")) for use in uses]
    names = [use.name for use in uses]
    if not names:
        raise UsageError(f"task {file.task} has no metrics; name at least one.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"task {file.task} names the metric {twice[0]} twice.")
    return Metrics(uses=tuple(uses), notes=notes)
