"""The frozen values that cross folder borders.

Axes, here and in every file: B batch, T time (tokens), D width, H heads, V vocabulary, C classes, N examples.
Log-probabilities are natural logarithms. Fractions (accuracy, F1) are 0-1; BLEU, chrF, TER and ROUGE are 0-100.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lmtasks.errors import UsageError
from lmtasks.settings.attention import ATTENTION_IN_WORDS, Attention
from lmtasks.settings.runtimes import Precision

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

Row = Mapping[str, object]
"""One row of a data set: column name to value, as `datasets` yields it."""

Json = Mapping[str, object]
"""What goes into a JSON file unchanged."""

TRAINING_ROWS = "training_rows.bin"
"""Fingerprints of the rows that a model learned from, in its folder and in packages of it; see `data.row_hashes`."""

CLASSICAL_BASELINES = frozenset(
    {
        *("tfidf", "svm", "naive-bayes", "ridge", "bm25", "tfidf-cosine", "nearest", "linear-tagger", "ngram"),
        "reweighted",
    }
)
"""Baselines that learn from the task's training rows, the state before language models."""
BOUND_BASELINES = frozenset({"oracle"})
"""Baselines that look at the right answers: bounds, and no rivals. All others are trivial."""


# --- outcomes: what answering one example yields, before any metric --------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice among labels or continuations was scored."""

    gold: tuple[int, ...]
    """Indices that are right (several when the data allows several)."""
    scores: tuple[float, ...]
    """Log-probability of each choice."""
    chars: tuple[int, ...]
    """Length of each choice in characters, without the delimiter before it."""
    bytes: tuple[int, ...]
    """Length of each choice in UTF-8 bytes."""
    greedy: tuple[bool, ...] = ()
    """Was each choice what greedy decoding yields? Empty for heads."""
    unconditional: tuple[float, ...] = ()
    """Log-probability of each choice behind no context, where `acc_mutual_info` needs it; else empty."""
    chosen: bool = True
    """Was one of them answered? Else the answer is none of them, and wrong whatever is right."""
    scored: bool = True
    """Were there scores? Else `scores` say what was chosen, and no more."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text was answered: a translation, a summary, an answer to a question, a label sequence."""

    references: tuple[str, ...]
    """Right answers; an empty tuple means that the question has no answer."""
    prediction: str
    source: str = ""
    """What the text was made from, for metrics that look at it."""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """A given text was scored."""

    logprob: float
    tokens: int
    words: int
    bytes: int
    greedy: bool = False
    unknown: int = 0
    """Of the tokens: those that stand for a text that they do not say (`<unk>`)."""
    altered: bool = False
    """Was the text changed before it was cut into tokens (small letters, stop words left out)?"""

    @property
    def is_coded(self) -> bool:
        """True where the log-probability is that of the text itself, whose words and bytes may then be counted."""
        return not self.unknown and not self.altered


@dataclass(frozen=True, kw_only=True)
class CustomValues:
    """A task's own code made the values of metrics."""

    values: Mapping[str, object]
    """Metric name to what its aggregation takes: a number, a pair (gold, answer), (log-probability, weight), ..."""
    makers: Mapping[str, str] = field(default_factory=dict)
    """Of values that a metric's own function made under other names than the metric's (`pass@1`): that metric's."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number was answered."""

    gold: float
    prediction: float
    """In the unit of `gold`."""


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """Each label was answered by itself: it holds, or it does not."""

    gold: tuple[int, ...]
    """Numbers of the labels that hold, in ascending order; any number of them, also none."""
    scores: tuple[float, ...]
    """Log-odds of each label."""

    @property
    def answered(self) -> tuple[int, ...]:
        """Labels that are more likely than not."""
        return tuple(place for place, score in enumerate(self.scores) if score > 0)


@dataclass(frozen=True, kw_only=True)
class RankTie:
    """Texts that score as one right text does: their order says nothing, so that a value is the mean over all orders,
    and a score that is the same for all texts is as good as chance."""

    above: int
    """Texts that score higher."""
    size: int
    """Texts that score as high, the right one among them."""
    right: int
    """Of these: the right ones."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Texts of a corpus were put in order; of the order only where the right ones stand."""

    ties: tuple[RankTie, ...]
    """One for each right text."""
    count: int
    """Texts of the corpus."""


Outcome = Choice | Text | Likelihood | Quantity | LabelSet | Ranks | CustomValues
OutcomeKind = Literal["choice", "text", "likelihood", "number", "labels", "ranks", "made"]


# --- what a head reads ---------------------------------------------------------------------------------------------


PREDICATE_MARKS = ("»", "«")
"""Before and behind a predicate: rare in texts, and single tokens of the vocabularies of BERT."""


@dataclass(frozen=True, kw_only=True)
class HeadInput:
    """One row as a head reads it. A kind of task says which of these it fills (`lmtasks/task/kinds/`)."""

    first: str
    """The text, the question, or the words with blanks between."""
    second: str | None = None
    """The other text of a pair; the context of a question."""
    label: int | None = None
    answers: tuple[str, ...] = ()
    """The right texts."""
    starts: tuple[int, ...] = ()
    """Where each answer begins in `second`, in characters; -1 where it is not in there."""
    tokens: tuple[str, ...] = ()
    """The words that are tagged."""
    predicate: int | None = None
    """The place of the word whose arguments are tagged, marked in `first`."""
    tags: tuple[int, ...] = ()
    """The number of each word's label."""
    candidates: tuple[str, ...] = ()
    """The texts of which one is the best; `label` is its number."""
    labels: tuple[int, ...] | None = None
    """The numbers of all labels that hold, in ascending order."""
    number: float | None = None
    prefixes: tuple[str, str] = ("", "")
    """What an encoder was trained to read before a question, and before what may answer it (`HeadSpec`)."""
    scheme: str = ""
    """What tags may follow each other, a line of `tag_scheme.RULES`; empty: what the labels alone say."""

    @property
    def marked_tokens(self) -> tuple[str, ...]:
        """The words, the predicate between its marks.

        >>> HeadInput(first="", tokens=("ann", "rang", "me"), predicate=1).marked_tokens
        ('ann', '»', 'rang', '«', 'me')
        """
        if self.predicate is None:
            return self.tokens
        before, behind = self.tokens[: self.predicate], self.tokens[self.predicate + 1 :]
        return (*before, PREDICATE_MARKS[0], self.tokens[self.predicate], PREDICATE_MARKS[1], *behind)

    @property
    def shown(self) -> str:
        """The text that is read, for people."""
        return self.first if self.second is None else f"{self.first}\n{self.second}"


@dataclass(frozen=True, kw_only=True)
class EncodedText:
    """One text, or a pair of texts, as tokens."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    """Where each token stands in its text, in characters, end exclusive; (0, 0) for added tokens."""
    sequences: tuple[int, ...]
    """0: first text, 1: second text, -1: an added token."""
    types: tuple[int, ...]
    """Segment ids as the tokenizer gives them."""


# --- scores ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric's value with its uncertainty."""

    value: float
    stderr: float | None
    ci95: tuple[float, float] | None
    higher_is_better: bool
    scale: Literal["fraction", "points", "raw"]
    """fraction: 0-1; points: 0-100; raw: perplexity, bits, nats, counts."""
    signature: str
    """The conditions under which the value is comparable (tokenizer, smoothing, version, ...)."""


# --- batches, and what a runtime yields ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Token ids of B rows, padded to T. `mask` is True at real tokens; padding may stand on either side."""

    ids: Ints
    """(B, T)"""
    mask: Bools
    """(B, T)"""
    types: Ints | None = None
    """(B, T) segment ids for encoders that were trained with them (BERT); None: all zero."""


@dataclass(frozen=True, kw_only=True)
class TokenTargets:
    """Next tokens to be scored, S of them. A place may be asked for several tokens."""

    rows: Ints
    """(S,) rows of the batch."""
    columns: Ints
    """(S,) columns of the batch: the token follows what stands there, and what that column sees."""
    tokens: Ints
    """(S,)"""


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """Log-probabilities of the wanted tokens."""

    logprobs: Floats32
    """(S,)"""
    greedy: Bools
    """(S,): was no token more likely?"""


WRITING_HEAD = "generation"
"""The kind of the heads without weights, whose answers are texts by the backbone's own projection."""


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A head without its weights: what a package or a runtime must know to answer with it."""

    name: str
    """The head's name in its model: the name of the task that it was adapted to."""
    kind: str
    """A line of `lmtasks.head.HEADS`."""
    labels: tuple[str, ...] = ()
    """Class names in the order of the logits; empty for heads without classes."""
    pooling: Literal["mean", "last", "first", "max", "own"] = "mean"
    """Which hidden state a head reads that answers a text once; `own`: the checkpoint's own classifier."""
    attention: Attention | None = None
    """How the backbone reads for it; None: as it reads by itself. A head that writes is never read both ways."""
    scheme: str = ""
    """Of a tagging head, the scheme that its training rows keep to, a line of `tag_scheme.RULES`; empty: not known."""
    mean: float = 0.0
    """Of the numbers of the training rows, where the head answers with one: what its logit 0 stands for."""
    deviation: float = 1.0
    """Of those numbers: what a logit counts in."""
    width: int = 0
    """D of the vectors, where the head answers with one."""
    query_prefix: str = ""
    """Of a head that answers with a vector: what stands before a text that asks, or is as good as any other."""
    text_prefix: str = ""
    """And what before one that is looked for."""
    words: int = 0
    """N-grams of tokens that have weights of their own beside those of the backbone's states."""

    @property
    def predicts(self) -> bool:
        """True where it has logits of its own. A generation head has none: the backbone's projection writes its
        answers.
        """
        return self.kind != WRITING_HEAD


@dataclass(frozen=True, kw_only=True)
class TokenRules:
    """Tokens that a checkpoint's generation settings force or forbid, whatever they score."""

    first: int | None = None
    """`forced_bos_token_id`: what stands behind a single token (the decoder's start)."""
    last: tuple[int, ...] = ()
    """`forced_eos_token_id`: one of these is the last token that may be written."""
    never: tuple[int, ...] = ()
    """`suppress_tokens`, and `bad_words_ids` of one token."""
    never_first: tuple[int, ...] = ()
    """`begin_suppress_tokens`: not the first new token."""
    never_behind: tuple[tuple[int, ...], ...] = ()
    """`bad_words_ids` of several tokens: not the last of them behind the others."""


NO_RULES = TokenRules()


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Settings of generation, by the names of transformers' `generate`; None: not given.

    A model has them from its generation_config.json, a task from its `generation_kwargs`, which lie on top.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_h: float | None = None
    """Draw among the most likely tokens that together have at most this share of the distribution's entropy
    (Potraghloo et al. 2025, https://arxiv.org/abs/2509.02510)."""
    top_k: int | None = None
    """Draw among the k most likely tokens; 0: all."""
    top_p: float | None = None
    """Draw among the most likely tokens that together reach this probability."""
    min_p: float | None = None
    """Draw among the tokens with at least this share of the most likely one's probability."""
    typical_p: float | None = None
    """Draw among the tokens whose information is nearest to the entropy, which together reach this probability
    (Meister et al. 2022, https://arxiv.org/abs/2202.00666)."""
    epsilon_cutoff: float | None = None
    """Draw among the tokens with at least this probability."""
    eta_cutoff: float | None = None
    """The same with a cutoff that sinks with the entropy (Hewitt et al. 2022, https://arxiv.org/abs/2210.15191)."""
    num_beams: int | None = None
    length_penalty: float | None = None
    """A beam's score is its log-probability over its length (tokens, the end token counted) to this power."""
    early_stopping: bool | Literal["never"] | None = None
    """When a beam search ends: True once `num_beams` texts are finished, False once the most likely unfinished text, as
    long as it is, scores no better than the worst of them, "never" once none can."""
    renormalize_logits: bool | None = None
    """Make log-probabilities of a beam's scores again once all else has changed them."""
    repetition_penalty: float | None = None
    """Above 1, tokens that stood before become less likely (Keskar et al. 2019, https://arxiv.org/abs/1909.05858)."""
    encoder_repetition_penalty: float | None = None
    """Above 1, tokens of the source (a causal model's prompt) become more likely."""
    no_repeat_ngram_size: int | None = None
    """So many tokens in a row stand only once; 0: as often as the model likes."""
    encoder_no_repeat_ngram_size: int | None = None
    """So many tokens in a row are never those of the source (a causal model's prompt)."""
    min_length: int | None = None
    """No end before so many tokens, a causal model's prompt or a decoder's start counted."""
    min_new_tokens: int | None = None
    """No end before so many new tokens; where it is given, `min_length` counts nothing."""
    exponential_decay_length_penalty: tuple[int, float] | None = None
    """(start, factor): behind so many new tokens an end becomes more likely with each one."""
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] | None = None
    """Added to a token's score where it would complete the sequence."""

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                limits = f"at least {least}" if most == inf else f"between {least} and {most}"
                raise UsageError(f"{name} must be {limits}, was {value}.")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} must be above 0, was {value}.")


RANGES: Mapping[str, tuple[float, float]] = {
    "max_new_tokens": (1, inf),
    "temperature": (0, inf),
    "top_h": (0, 1),
    "top_k": (0, inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "epsilon_cutoff": (0, 1),
    "eta_cutoff": (0, 1),
    "num_beams": (1, inf),
    "no_repeat_ngram_size": (0, inf),
    "encoder_no_repeat_ngram_size": (0, inf),
    "min_length": (0, inf),
    "min_new_tokens": (0, inf),
}
"""What settings of generation may be."""
POSITIVE = ("top_h", "top_p", "typical_p", "repetition_penalty", "encoder_repetition_penalty")


GENERATION_DEFAULTS = GenerationSettings(
    top_k=50,
    top_p=1.0,
    min_p=0.0,
    typical_p=1.0,
    epsilon_cutoff=0.0,
    eta_cutoff=0.0,
    num_beams=1,
    length_penalty=1.0,
    early_stopping=False,
    renormalize_logits=False,
    repetition_penalty=1.0,
    encoder_repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    encoder_no_repeat_ngram_size=0,
    min_length=0,
)
"""What `generate` of transformers 5 does where neither its caller nor the model says otherwise."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Identity of a model, with no weights in it."""

    name: str
    """As a person calls it: the folder's name, or the Hub id."""
    family: str
    """transformers' model_type (`llama`, `bert`, ...), or a baseline's name."""
    kind: Literal["causal", "encoder", "encoder-decoder", "baseline", "answers"]
    """`answers`: nobody is asked; what some system answered stands in a file."""
    adaptation: Literal["prompt", "probe", "full", "lora", "none"]
    parameters: int
    weights_hash: str
    """sha256 over the weights' values, 16 hex digits; equal weights, equal hash."""
    tokenizer_hash: str
    max_length_tokens: int
    vocabulary: int
    heads: tuple[HeadSpec, ...] = ()
    decoder_start: int | None = None
    """What the decoder of an encoder-decoder reads first; None for other models."""
    ends: tuple[int, ...] = ()
    """Tokens that end a text, as the checkpoint says; empty where it leaves that to the tokenizer."""
    rules: TokenRules = NO_RULES
    generation: GenerationSettings = GenerationSettings()
    """How it writes texts where nobody says otherwise: its generation_config.json."""
    unheeded: Mapping[str, str] = field(default_factory=dict)
    """Settings of generation_config.json that are not carried out here, each with its value as JSON."""
    vectors: HeadSpec | None = None
    """The head by which it answers with vectors though nobody has adapted one; None: it has none, or is a package
    without it."""

    @property
    def attention(self) -> Attention:
        """How its backbone reads by itself; an encoder-decoder's encoder, of which heads stand behind."""
        return "causal" if self.kind == "causal" else "both"

    @property
    def answering(self) -> tuple[HeadSpec, ...]:
        """Its heads, and the one that nobody has adapted."""
        return self.heads if self.vectors is None else (*self.heads, self.vectors)

    def attention_of(self, head: HeadSpec) -> Attention:
        """How its backbone reads for a head."""
        return head.attention or self.attention


NOT_KEPT = "generation_config.json"
"""Stands among `unheeded` where a package is older than `ModelCard.generation`: nobody knows what the file said."""


def card_from_json(content: Mapping[str, Any]) -> ModelCard:
    """The inverse of `dataclasses.asdict` for a card, after a way through JSON.

    Raises:
        KeyError, TypeError, ValueError: it is no card.
    """
    vectors = content.get("vectors")
    heads, own_vectors = (
        tuple(HeadSpec(**{**head, "labels": tuple(head["labels"])}) for head in listed)
        for listed in (content["heads"], [] if vectors is None else [vectors])
    )
    strange = [head for head in (*heads, *own_vectors) if head.attention not in (None, *ATTENTION_IN_WORDS)]
    if strange:
        raise ValueError(f"head {strange[0].name!r} reads {strange[0].attention!r}, which is no attention")
    given = content.get("rules") or {}  # older files have none
    rules = TokenRules(
        first=given.get("first"),
        last=tuple(given.get("last", ())),
        never=tuple(given.get("never", ())),
        never_first=tuple(given.get("never_first", ())),
        never_behind=tuple(map(tuple, given.get("never_behind", ()))),
    )
    own = dict(content.get("generation") or {})
    if own.get("exponential_decay_length_penalty") is not None:
        own["exponential_decay_length_penalty"] = tuple(own["exponential_decay_length_penalty"])
    if own.get("sequence_bias") is not None:
        own["sequence_bias"] = tuple((tuple(ids), bias) for ids, bias in own["sequence_bias"])
    settings = GenerationSettings(**own)
    unheeded = content.get("unheeded") or {}
    if "generation" not in content and content["kind"] in ("causal", "encoder-decoder"):
        unheeded = {NOT_KEPT: "unknown"}
    read = {
        "heads": heads,
        "vectors": next(iter(own_vectors), None),
        "ends": tuple(content["ends"]),
        "rules": rules,
        "generation": settings,
    }
    return ModelCard(**{**content, **read, "unheeded": unheeded})


@dataclass(frozen=True, kw_only=True)
class RuntimeCard:
    """Runtime of an answer: recorded with every score and every timing."""

    runtime: str
    """A line of `RUNTIMES` in `settings/runtimes.py`, or the name of one that another package brings."""
    version: str
    device: str
    precision: Precision | Literal["none"]
    threads: int
    size_bytes: int
    """Bytes on disk of what was loaded."""
    options: Mapping[str, str] = field(default_factory=dict)
    callers: int = 1
    """Where there is work for several calls, so many run beside each other, each on its share of the threads."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of long work; `cli/` draws it. Units: `done` of `total` `unit`."""

    stage: str
    done: int
    total: int
    unit: str = "items"
    note: str = ""
    seconds_left: float | None = None
    """Where whoever works knows better than that what is to come takes as long as what was done."""
    is_even: bool = True
    """Do its parts take alike, so that their rate says how long the others take?"""
    finished: str = ""
    """A line on a piece that was finished just now; it stays where bars pass."""


Report = Callable[[Progress], None]
"""Called while work goes on."""


def softmax_log(logits: NDArray[np.floating], axis: int = -1) -> Floats:
    """Log-softmax in float64. Shapes are kept."""
    shifted = logits.astype(np.float64) - np.max(logits, axis=axis, keepdims=True).astype(np.float64)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return result
