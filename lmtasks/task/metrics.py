"""Which metrics a task asks for.

Our `metrics`, else lm-evaluation-harness' `metric_list`, else what the kind or the output type implies.
"""

from collections.abc import Mapping

from lmtasks.errors import UsageError
from lmtasks.task.functions import FunctionRef
from lmtasks.task.schema import MetricLine, TaskFile
from lmtasks.task.task import Kind, MetricUse, OutputType

OF_OUTPUT: Mapping[OutputType, tuple[str, ...]] = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}
"""lm-evaluation-harness' defaults."""

OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("acc", "macro_f1"),
    "span": ("squad_em", "squad_f1"),
    "summarization": ("rouge1", "rouge2", "rougeL"),
}
"""Defaults of kinds that a file has to name itself. Translation has none: its metric depends on the language."""

AGGREGATION: Mapping[str, str] = {
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
    "byte_perplexity": "weighted_perplexity",
    "bits_per_byte": "bits_per_byte",
    "f1": "f1",
    "mcc": "matthews_corrcoef",
    "bleu": "bleu",
    "chrf": "chrf",
    "chrf++": "chrf++",
    "ter": "ter",
}
"""The aggregation that each metric's name already means; `mean` for all others."""


def metrics_of(file: TaskFile, *, kind: Kind, output_type: OutputType) -> tuple[tuple[MetricUse, ...], tuple[str, ...]]:
    """The metrics, and what of `metric_list` is not carried out yet.

    Raises:
        UsageError: the list is empty, or a metric is named twice.
    """
    not_yet: tuple[str, ...] = ()
    if file.metrics is not None:
        uses = [
            MetricUse(name=wish) if isinstance(wish, str) else MetricUse(name=wish.name, options=wish.options)
            for wish in file.metrics
        ]
    elif file.metric_list is not None:
        uses = [_use(line) for line in file.metric_list]
        # Custom scoring makes its own metrics, and is itself listed as not carried out.
        not_yet = () if file.process_results else tuple(reason for line in file.metric_list for reason in _open(line))
    else:
        implied = OF_KIND.get(kind) if file.kind is not None else None
        uses = [MetricUse(name=name) for name in implied or OF_OUTPUT[output_type]]
    names = [use.name for use in uses]
    if not names:
        raise UsageError(f"task {file.task} has no metrics; name at least one.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"task {file.task} names the metric {twice[0]} twice.")
    return tuple(uses), not_yet


def _use(line: MetricLine) -> MetricUse:
    name = line.metric.qualified.rpartition(".")[2] if isinstance(line.metric, FunctionRef) else line.metric
    return MetricUse(name=name, options=dict(line.model_extra or {}))


def _open(line: MetricLine) -> list[str]:
    """What of one entry would change its value and is not carried out."""
    if isinstance(line.metric, FunctionRef):
        return [f"metric_list (!function {line.metric.qualified})"]
    if line.hf_evaluate:
        return [f"metric_list ({line.metric} from the package evaluate)"]
    if isinstance(line.aggregation, FunctionRef):
        return [f"metric_list (aggregation !function {line.aggregation.qualified})"]
    if line.aggregation not in (None, AGGREGATION.get(line.metric, "mean")):
        return [f"metric_list ({line.metric} aggregated by {line.aggregation})"]
    return []
