"""Names of metrics and aggregations in lm-evaluation-harness 0.4.13, and what it does with them.

`metric/` computes them, `task/` reads them in task files; neither may import the other.
"""

from collections.abc import Mapping

IMPLIED_AGGREGATION: Mapping[str, str] = {
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
"""The aggregation of a metric that names none; `mean` for all others."""

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
"""Every aggregation."""

PASSED_ON = frozenset(
    {
        "acc",
        "acc_norm",
        "acc_bytes",
        "acc_mutual_info",
        "f1",
        "mcc",
        "brier_score",
        "likelihood",
        "perplexity",
        "word_perplexity",
        "byte_perplexity",
        "bits_per_byte",
        "bleu",
        "chrf",
        "chrf++",
        "ter",
        "bypass",
    }
)
"""Metrics whose function returns its argument: of a text [right answer, answer]."""
