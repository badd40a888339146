"""Metrics: per-example statistics apart from their aggregate, so that intervals and paired tests come for every one.

Every metric has a line in `METRICS`. Adding one is a builder in a file of its own, and a line there.

>>> METRICS["ter"].higher_is_better, METRICS["acc"].takes
(False, ('choice', 'likelihood'))
>>> from lmtasks.records import Likelihood
>>> metric = make_metric("byte_perplexity")
>>> statistics = metric.statistics([Likelihood(logprob=-4.0, tokens=2, words=1, bytes=8)] * 3)
>>> round(estimate(metric, statistics).value, 4)
1.6487
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from lmtasks.errors import UsageError, code_failed, unknown
from lmtasks.lm_eval_names import IMPLIED_AGGREGATION
from lmtasks.metric import (
    choice,
    classes,
    error_rate,
    label_sets,
    likelihood,
    match,
    numbers,
    squad,
    tags,
    text_overlap,
)
from lmtasks.metric.base import Formula, Metric, MetricSettings, Scale, concatenate, value_of
from lmtasks.metric.custom_aggregations import AGGREGATIONS, Aggregation, custom_formula
from lmtasks.metric.interval import Draws, estimate
from lmtasks.metric.lm_eval_aggregations import aggregation_input, formula_of_input, reaggregated_formula
from lmtasks.metric.paired import PairedResult, Verdict, compare, holm, verdict
from lmtasks.plugins import PluginTable
from lmtasks.records import Floats, Outcome, OutcomeKind

Builder = Callable[[MetricSettings], Formula]

NO_OPTIONS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One line of the table."""

    description: str
    """One line for people."""
    scale: Scale
    higher_is_better: bool = True
    build: Mapping[OutcomeKind, Builder]
    """How it is computed for each kind of outcome that it can score."""
    options: tuple[str, ...] = ()
    """The options that a task file may give it."""

    @property
    def takes(self) -> tuple[OutcomeKind, ...]:
        """The kinds of outcome that it can score; the first is meant where nobody says which."""
        return tuple(self.build)


def make_metric(
    name: str,
    *,
    takes: OutcomeKind | None = None,
    language: str = "en",
    labels: tuple[str, ...] = (),
    options: Mapping[str, object] = NO_OPTIONS,
    aggregation: str | Aggregation | None = None,
    higher_is_better: bool | None = None,
) -> Metric:
    """The metric of that name for a task.

    Args:
        takes: the kind of outcome to score. Without it, the first that the metric knows: `acc` then scores choices, and
            `exact_match` texts. With `custom_formula` the name may be any: it is the one that the task gave its values.
        language: of the texts, `en`, `zh` or another code, with or without a region (`en-GB`); only `squad_*` and
            `rouge*` look at it.
        labels: class names of the task, for `f1`, `macro_f1` and the like; its tags, for `entity_f1`.
        options: from the task file.
        aggregation: how the values of examples become one: a name of `AGGREGATIONS`, or a function of the list of them.
            Without it, what the name implies.
        higher_is_better: where the task says so itself.

    Raises:
        UsageError: the name, the kind, an option or the aggregation is unknown, or the metric does not fit the labels
            or the language.
    """
    if takes == "made":
        spec = METRICS.get(name) if aggregation in (None, IMPLIED_AGGREGATION.get(name, "mean")) else None
        return _metric(
            name, custom_formula(name, aggregation), takes="made", spec=spec, higher_is_better=higher_is_better
        )
    known = METRICS.get(name)
    kind = takes or (known.takes[0] if known is not None else "text")
    given_input = aggregation_input(name, kind)
    chosen = aggregation or IMPLIED_AGGREGATION.get(name, "mean")
    its_own = known is not None and kind in known.build
    if given_input is not None and (
        chosen != IMPLIED_AGGREGATION.get(name) if its_own else callable(chosen) or chosen in given_input.fits
    ):
        formula = formula_of_input(name, given_input, chosen)
        return _metric(name, formula, takes=kind, spec=None, higher_is_better=higher_is_better)
    spec = _fitting(name, kind, options=options)
    settings = MetricSettings(language=_primary(language), labels=labels, options=options)
    formula = _built(name, spec.build[kind], settings)
    if aggregation is not None and aggregation != formula.original:
        if formula.kind != "mean":
            own = formula.original or "its own formula"
            raise UsageError(f"{name} is aggregated by {own}; only means take another aggregation.")
        formula = reaggregated_formula(name, formula, aggregation)
        return _metric(name, formula, takes=kind, spec=None, higher_is_better=higher_is_better)
    return _metric(name, formula, takes=kind, spec=spec, higher_is_better=higher_is_better)


def _fitting(name: str, kind: OutcomeKind, *, options: Mapping[str, object]) -> MetricSpec:
    """The line of the table, where the kind and the options fit it."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    spec = METRICS[name]
    if kind not in spec.build:
        fitting = sorted(other for other, line in METRICS.items() if kind in line.build)
        raise UsageError(f"{name} scores {' or '.join(spec.takes)}, not {kind}; for {kind} use {', '.join(fitting)}.")
    for option in options:
        if not spec.options:
            raise UsageError(f"{name} takes no options, was given {option!r}.")
        if option not in spec.options:
            raise unknown(f"option of {name}", option, spec.options)
    return spec


def _built(name: str, builder: Builder, settings: MetricSettings) -> Formula:
    """The formula; where code of another package fails, the error names that package."""
    package = METRICS.package(name)
    if not package:
        return builder(settings)
    what = f"metric {name} of {package}"

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        try:
            return formula.statistics(outcomes)
        except Exception as error:
            raise code_failed(what, error) from error

    try:
        formula = builder(settings)
    except Exception as error:
        raise code_failed(what, error) from error
    return replace(formula, statistics=statistics)


def _primary(language: str) -> str:
    """The language of a tag of BCP 47, without region or script.

    >>> _primary("en-GB"), _primary("zh_Hans_CN")
    ('en', 'zh')
    """
    return language.replace("_", "-").partition("-")[0].lower()


def _metric(
    name: str, formula: Formula, *, takes: OutcomeKind, spec: MetricSpec | None, higher_is_better: bool | None
) -> Metric:
    """A formula under a name; one that no table line describes is raw, and better when higher."""
    higher = spec.higher_is_better if spec is not None else formula.original not in LOWER_IS_BETTER
    return Metric(
        name=name,
        takes=takes,
        higher_is_better=higher if higher_is_better is None else higher_is_better,
        scale=spec.scale if spec is not None else "raw",
        signature=formula.signature,
        kind=formula.kind,
        statistics=formula.statistics,
        aggregate=formula.aggregate,
        per_example=formula.per_example,
        rate=formula.rate,
        weighted=formula.weighted,
        original=formula.original,
        skewed=formula.skewed,
        remarks=formula.remarks,
    )


def _of_pairs(name: str, settings: MetricSettings) -> Formula:
    """The mean of what `evaluation.minimal_pairs` makes of each pair."""
    del settings
    return custom_formula(name, None)


LOWER_IS_BETTER = frozenset({"perplexity", "weighted_perplexity", "bits_per_byte", "brier_score", "ter"})
"""Aggregations whose values are better when lower."""

_OWN: Mapping[str, MetricSpec] = {
    # choices
    "acc": MetricSpec(
        description="share of right answers (of a given text: is it what greedy decoding yields?)",
        scale="fraction",
        build={"choice": choice.accuracy, "likelihood": likelihood.greedy_accuracy},
    ),
    "acc_norm": MetricSpec(
        description="share of right answers, log-probability per character",
        scale="fraction",
        build={"choice": choice.accuracy_per_character},
    ),
    "acc_letters": MetricSpec(
        description="share of right answers, asked as letters (A, B, ...) that the model writes",
        scale="fraction",
        build={"choice": choice.accuracy_of_letters},
    ),
    "acc_bytes": MetricSpec(
        description="share of right answers, log-probability per byte",
        scale="fraction",
        build={"choice": choice.accuracy_per_byte},
    ),
    "acc_mutual_info": MetricSpec(
        description="share of right answers, log-probability that the context adds",
        scale="fraction",
        build={"choice": choice.accuracy_of_information},
    ),
    "f1": MetricSpec(
        description="F1 of label 1 of two, or the average over classes that an option names",
        scale="fraction",
        build={"choice": classes.binary_f1},
        options=classes.F1_OPTIONS,
    ),
    "macro_f1": MetricSpec(
        description="mean of the F1 of every class",
        scale="fraction",
        build={"choice": classes.macro_f1, "labels": label_sets.macro_f1},
    ),
    "micro_f1": MetricSpec(
        description="F1 over all classes together",
        scale="fraction",
        build={"choice": classes.micro_f1, "labels": label_sets.micro_f1},
    ),
    "weighted_f1": MetricSpec(
        description="mean of the F1 of every class, by how often it is true",
        scale="fraction",
        build={"choice": classes.weighted_f1},
    ),
    "mcc": MetricSpec(
        description="Matthews' correlation of answers and truth, -1 to 1",
        scale="fraction",
        build={"choice": classes.matthews},
    ),
    "brier_score": MetricSpec(
        description="squared distance of probabilities and truth, 0 to 2",
        scale="raw",
        higher_is_better=False,
        build={"choice": choice.brier_score},
    ),
    "ece": MetricSpec(
        description="expected calibration error, 0 to 1",
        scale="fraction",
        higher_is_better=False,
        build={"choice": choice.expected_calibration_error},
        options=choice.ECE_OPTIONS,
    ),
    # rankings of choices
    **{
        f"recall_{k}": MetricSpec(
            description=f"share of right choices among the {k} with the highest scores",
            scale="fraction",
            build={"choice": choice.recall_at(k), "ranks": choice.recall_at(k)},
        )
        for k in (1, 2, 5, 10, 100)
    },
    "mrr": MetricSpec(
        description="mean of one over the rank of the right choice",
        scale="fraction",
        build={"choice": choice.reciprocal_rank, "ranks": choice.reciprocal_rank},
    ),
    "ndcg_10": MetricSpec(
        description="discounted gain of right choices among the first ten, of the most that there could be",
        scale="fraction",
        build={"choice": choice.discounted_gain, "ranks": choice.discounted_gain},
    ),
    # sets of labels
    "lrap": MetricSpec(
        description="label-ranking average precision: of the labels that rank as high as a right one, the right share",
        scale="fraction",
        build={"labels": label_sets.ranking_precision},
    ),
    "subset_acc": MetricSpec(
        description="share of rows whose labels are all right, none missing and none too many",
        scale="fraction",
        build={"labels": label_sets.subset_accuracy},
    ),
    # numbers
    "pearson": MetricSpec(
        description="linear correlation of answers and right numbers, -1 to 1",
        scale="fraction",
        build={"number": numbers.pearson},
    ),
    "spearman": MetricSpec(
        description="correlation of the ranks of answers and right numbers, -1 to 1",
        scale="fraction",
        build={"number": numbers.spearman},
    ),
    "mae": MetricSpec(
        description="mean absolute error, in the unit of the task",
        scale="raw",
        higher_is_better=False,
        build={"number": numbers.absolute_error},
    ),
    "rmse": MetricSpec(
        description="root of the mean squared error, in the unit of the task",
        scale="raw",
        higher_is_better=False,
        build={"number": numbers.squared_error},
    ),
    # texts
    "exact_match": MetricSpec(
        description="share of answers equal to a reference (of choices: greedy decoding yields a right one)",
        scale="fraction",
        build={"text": match.exact_match, "choice": choice.exact_match},
        options=match.OPTIONS,
    ),
    "sql_match": MetricSpec(
        description="share of queries equal to a reference, whatever their case, blanks, quotes and aliases",
        scale="fraction",
        build={"text": match.sql_match},
    ),
    "entity_f1": MetricSpec(
        description="F1 of tagged entities, type and both borders (conlleval)",
        scale="fraction",
        build={"text": tags.entity_f1},
    ),
    "role_f1": MetricSpec(
        description="F1 of a predicate's arguments, type and all borders (srl-eval of CoNLL-2005: V left out)",
        scale="fraction",
        build={"text": tags.role_f1},
    ),
    "tag_acc": MetricSpec(description="share of right tags", scale="fraction", build={"text": tags.tag_accuracy}),
    "squad_em": MetricSpec(
        description="exact match by the SQuAD 2.0 script (zh: CMRC 2018)",
        scale="fraction",
        build={"text": squad.squad_em},
    ),
    "squad_f1": MetricSpec(
        description="overlap with the nearest reference by the SQuAD 2.0 script (zh: CMRC 2018)",
        scale="fraction",
        build={"text": squad.squad_f1},
    ),
    **{
        f"squad_{part}_{name}": MetricSpec(
            description=f"{about} of questions {which} answer alone, as the script's {shown}_{name}",
            scale="fraction",
            build={"text": squad.part_of(whole, answered=part == "hasans")},
        )
        for part, shown, which in (("hasans", "HasAns", "with an"), ("noans", "NoAns", "without an"))
        for name, about, whole in (("em", "exact match", squad.squad_em), ("f1", "overlap", squad.squad_f1))
    },
    "bleu": MetricSpec(description="sacrebleu, 13a tokenizer", scale="points", build={"text": text_overlap.bleu}),
    "bleu_zh": MetricSpec(
        description="sacrebleu, Chinese tokenizer", scale="points", build={"text": text_overlap.bleu_zh}
    ),
    "chrf": MetricSpec(description="character n-gram F", scale="points", build={"text": text_overlap.chrf}),
    "chrf++": MetricSpec(
        description="character and word n-gram F", scale="points", build={"text": text_overlap.chrf_plus_plus}
    ),
    "ter": MetricSpec(
        description="translation edit rate",
        scale="points",
        higher_is_better=False,
        build={"text": text_overlap.ter},
    ),
    "wer": MetricSpec(
        description="word error rate: edits over right words, as jiwer counts",
        scale="fraction",
        higher_is_better=False,
        build={"text": error_rate.wer},
        options=error_rate.OPTIONS,
    ),
    "cer": MetricSpec(
        description="character error rate: edits over right characters, as jiwer counts",
        scale="fraction",
        higher_is_better=False,
        build={"text": error_rate.cer},
        options=error_rate.OPTIONS,
    ),
    "rouge1": MetricSpec(description="F of shared words", scale="points", build={"text": text_overlap.rouge1}),
    "rouge2": MetricSpec(description="F of shared word pairs", scale="points", build={"text": text_overlap.rouge2}),
    "rougeL": MetricSpec(
        description="F of the longest common subsequence", scale="points", build={"text": text_overlap.rouge_l}
    ),
    "rougeLsum": MetricSpec(
        description="rougeL, sentence by sentence", scale="points", build={"text": text_overlap.rouge_l_sum}
    ),
    "distinct_1": MetricSpec(
        description="share of distinct words in an answer", scale="fraction", build={"text": match.distinct_1}
    ),
    "distinct_2": MetricSpec(
        description="share of distinct word pairs in an answer", scale="fraction", build={"text": match.distinct_2}
    ),
    "repetition": MetricSpec(
        description="share of 4-grams in an answer that are repeats",
        scale="fraction",
        higher_is_better=False,
        build={"text": match.repetition},
    ),
    # pairs of texts
    "preference": MetricSpec(
        description="share of pairs whose first text is likelier; 0.5: none is preferred",
        scale="fraction",
        build={"made": partial(_of_pairs, "preference")},
    ),
    "preference_gap": MetricSpec(
        description="log-probability of the first text minus that of the second, in nats; 0: none is preferred",
        scale="raw",
        build={"made": partial(_of_pairs, "preference_gap")},
    ),
    "label_gap": MetricSpec(
        description="probability of the task's last label for the first text minus that for the second; 0: none",
        scale="raw",
        build={"made": partial(_of_pairs, "label_gap")},
    ),
    "distance": MetricSpec(
        description="how far a classifier's probabilities of two texts lie apart (total variation)",
        scale="fraction",
        higher_is_better=False,
        build={"made": partial(_of_pairs, "distance")},
    ),
    "answers_differ": MetricSpec(
        description="share of pairs that a classifier gives two different labels",
        scale="fraction",
        higher_is_better=False,
        build={"made": partial(_of_pairs, "answers_differ")},
    ),
    # given texts
    "token_perplexity": MetricSpec(
        description="perplexity per token (not comparable across tokenizers)",
        scale="raw",
        higher_is_better=False,
        build={"likelihood": likelihood.token_perplexity},
    ),
    "word_perplexity": MetricSpec(
        description="perplexity per word",
        scale="raw",
        higher_is_better=False,
        build={"likelihood": likelihood.word_perplexity},
    ),
    "byte_perplexity": MetricSpec(
        description="perplexity per UTF-8 byte",
        scale="raw",
        higher_is_better=False,
        build={"likelihood": likelihood.byte_perplexity},
    ),
    "bits_per_byte": MetricSpec(
        description="bits to encode one UTF-8 byte",
        scale="raw",
        higher_is_better=False,
        build={"likelihood": likelihood.bits_per_byte},
    ),
    "perplexity": MetricSpec(
        description="perplexity per document, whatever its length",
        scale="raw",
        higher_is_better=False,
        build={"likelihood": likelihood.document_perplexity},
    ),
}
METRICS = PluginTable(_OWN, group="lmtasks.metrics", kind=MetricSpec)


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
