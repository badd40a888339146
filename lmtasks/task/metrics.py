"""Which metrics a task asks for.

Our `metrics`, else lm-evaluation-harness' `metric_list`, else what the kind or the output type implies.
"""

from collections.abc import Mapping
from dataclasses import replace

from lmtasks.errors import UsageError, unknown
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
    "tagging": ("entity_f1", "tag_acc"),
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
    "brier_score": "brier_score",
    "bypass": "bypass",
}
"""The aggregation that each metric's name already means; `mean` for all others."""

AGGREGATIONS = (
    "mean",
    "nanmean",
    "median",
    "perplexity",
    "weighted_perplexity",
    "bits_per_byte",
    "f1",
    "matthews_corrcoef",
    "bleu",
    "chrf",
    "chrf++",
    "ter",
    "brier_score",
    "bypass",
)
"""Every aggregation of lm-evaluation-harness 0.4.13."""


def metrics_of(file: TaskFile, *, kind: Kind, output_type: OutputType) -> tuple[MetricUse, ...]:
    """The metrics.

    Raises:
        UsageError: the list is empty, a metric is named twice, or one of them cannot be carried out.
    """
    if file.metrics is not None:
        uses = [
            MetricUse(name=wish) if isinstance(wish, str) else MetricUse(name=wish.name, options=wish.options)
            for wish in file.metrics
        ]
    elif file.metric_list is not None:
        uses = [_use(line, file, output_type=output_type) for line in file.metric_list]
    else:
        implied = OF_KIND.get(kind) if file.kind is not None else None
        uses = [MetricUse(name=name) for name in implied or OF_OUTPUT[output_type]]
    if file.process_results is not None:
        uses = [replace(use, aggregation=use.aggregation or AGGREGATION.get(use.name, "mean")) for use in uses]
    names = [use.name for use in uses]
    if not names:
        raise UsageError(f"task {file.task} has no metrics; name at least one.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"task {file.task} names the metric {twice[0]} twice.")
    return tuple(uses)


def _use(line: MetricLine, file: TaskFile, *, output_type: OutputType) -> MetricUse:
    function = line.metric if isinstance(line.metric, FunctionRef) else None
    name = line.metric if isinstance(line.metric, str) else line.metric.name
    made = file.process_results is not None
    # Of other output types the harness calls no metric's function, so that it does not matter whose it is; and its own
    # exact_match is that package's.
    if line.hf_evaluate and not made and output_type == "generate_until" and name != "exact_match":
        raise UsageError(
            f"task {file.task}: hf_evaluate asks for the metric {name} from the package evaluate, which fetches and "
            "runs code of others; take it out to use ours of that name, or score in process_results."
        )
    if function is not None and output_type != "generate_until" and not made:
        raise UsageError(
            f"task {file.task}: the metric !function {function.qualified} would never be called: lm-evaluation-harness "
            f"calls metrics for generate_until alone, this task is {output_type}; score in process_results."
        )
    aggregation = line.aggregation
    if isinstance(aggregation, str) and aggregation not in AGGREGATIONS:
        raise unknown(f"aggregation of the metric {name} of task {file.task}", aggregation, AGGREGATIONS)
    implied = AGGREGATION.get(name, "mean")
    if function is not None and not made:
        aggregation = aggregation or implied
    elif aggregation == implied:
        aggregation = None
    return MetricUse(
        name=name,
        options=dict(line.model_extra or {}),
        function=None if made else function,
        aggregation=aggregation,
        higher_is_better=line.higher_is_better,
    )
