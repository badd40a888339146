"""Metrics: per-example statistics apart from their aggregate, so that intervals and paired tests come for every one.

>>> from lmtasks.records import Likelihood
>>> metric = make_metric("byte_perplexity")
>>> statistics = metric.statistics([Likelihood(logprob=-4.0, tokens=2, words=1, bytes=8)] * 3)
>>> round(estimate(metric, statistics).value, 4)
1.6487
"""

from lmtasks.metric.base import Formula, Metric, MetricSettings, concatenate, value_of
from lmtasks.metric.custom_aggregations import AGGREGATIONS, Aggregation
from lmtasks.metric.interval import Draws, estimate
from lmtasks.metric.paired import PairedResult, Verdict, compare, holm, verdict
from lmtasks.metric.table import METRICS, MetricSpec, make_metric

__all__ = [
    "AGGREGATIONS",
    "METRICS",
    "Aggregation",
    "Draws",
    "Formula",
    "Metric",
    "MetricSettings",
    "MetricSpec",
    "PairedResult",
    "Verdict",
    "compare",
    "concatenate",
    "estimate",
    "holm",
    "make_metric",
    "value_of",
    "verdict",
]
