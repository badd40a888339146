"""Settings of trainings: the backbone that they start from, the loop's own settings, adaptation, adapters.

The plan's `training` and `lora`, the options of `adapt` and `pretrain`, and callers all set these same fields.
"""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from lmtasks.settings.attention import Attention
from lmtasks.settings.base import Setting, Settings, Several, refusal
from lmtasks.settings.bounds import COUNT, COUNT_OR_NONE, NOT_NEGATIVE, POSITIVE, SEED, SHARE, SHARE_BELOW_ONE, Bound
from lmtasks.settings.data import Encoding
from lmtasks.settings.runtimes import TorchPrecision

Adaptation = Literal["prompt", "probe", "full", "lora"]
Decay = Literal["cosine", "linear", "constant", "wsd"]
OptimizerName = Literal["adamw", "muon"]
Pooling = Literal["mean", "max", "first", "last"]
ProbeFit = Literal["steps", "logistic"]
NewHeads = Literal["logistic", "random"]
Words = Literal["auto", "yes", "no"]
Objective = Literal["causal", "masked", "mixed", "span-corruption"]
Role = Literal["attention", "feed-forward", "recurrent", "convolution", "other"]
ROLES: tuple[Role, ...] = get_args(Role)
EARLIER_ROLES: tuple[Role, ...] = ("attention", "feed-forward")
EARLIER_RANK = 16

PROPORTIONAL = "proportional"
TEMPERATURE = Bound(least=1, most=1000)
VOCABULARY = Bound(least=2, most=10**7, whole=True)
EPOCHS = Bound(least=0, above=True, most=10_000)
TOKENS_PER_BATCH = Bound(least=16, most=10**7, whole=True)
TEACHER_WEIGHT = 1.0
HIDDEN = Bound(least=0, most=1, above=True, below=True)

Minutes = Annotated[
    float | None,
    POSITIVE,
    Setting("Training time at most; the schedule follows it.", metavar="NUMBER", unit="minutes"),
]
TrainingRows = Annotated[
    int | None,
    COUNT,
    Setting(
        "Training rows of each task at most: nested by seed, each label with its share.", metavar="NUMBER", unit="rows"
    ),
]
Method = Annotated[
    Adaptation,
    Setting(
        "prompt (nothing moves), probe (heads alone), full (heads and backbone), lora (heads and adapters).",
        metavar="NAME",
    ),
]
FeatureCache = Annotated[
    str | None,
    Setting(
        "Where features of --method probe are kept, and not computed again; or off. Default: a file in your cache "
        "folder.",
        metavar="FILE",
    ),
]
Precision = Annotated[TorchPrecision, Setting("fp32 or bf16.", metavar="NAME")]


BOTH_WAYS = frozenset({"masked", "mixed", "span-corruption"})
"""Objectives of pretraining by which a token sees those behind it, in a part of the steps at least."""


def mixture_power(mixture: str) -> float:
    """The power of its rows that a task's share in a mixture goes by.

    >>> mixture_power("proportional"), mixture_power("uniform"), mixture_power("temperature=2")
    (1.0, 0.0, 0.5)

    Raises:
        PydanticCustomError: it is no mixture.
    """
    named = {PROPORTIONAL: 1.0, "uniform": 0.0}
    if mixture in named:
        return named[mixture]
    name, _, number = mixture.partition("=")
    try:
        temperature = float(number) if name == "temperature" else 0.0
    except ValueError:
        temperature = 0.0
    if not TEMPERATURE.holds(temperature):
        raise refusal(
            f"a mixture must be proportional, uniform or temperature=T with a T of 1 to 1000, was {mixture!r}."
        )
    return 1 / temperature


class BackboneChoice(Settings):
    """The backbone that an adaptation starts from: one that is there, or a family that is made new."""

    backbone: Annotated[
        str,
        Setting(
            "Folder, shipped name, Hub id with @revision; or a family to train from nothing: cnn:width=128.",
            metavar="MODEL",
        ),
    ]
    tokenizer: Annotated[
        str | None,
        Setting(
            "Of a new family: words:10000, bpe:8000, characters, ... (`lmtasks list tokenizers`), or a folder.",
            metavar="KIND:SIZE",
        ),
    ] = None
    """None: what suits the family."""
    vectors: Annotated[
        Path | None,
        Setting("Word vectors (word2vec or GloVe text) that a new family starts from.", metavar="FILE"),
    ] = None
    from_scratch: Annotated[
        bool, Setting("Take shape and tokenizer of the backbone, and begin with random weights.")
    ] = False
    attention: Annotated[
        Attention | None,
        Setting(
            "How heads for labels, tags and spans read: causal, or both (ways); default: both where the backbone was "
            "pretrained so. What writes text reads causally.",
            metavar="NAME",
        ),
    ] = None
    """None: both ways over an encoder, and over a causal backbone that was pretrained so; else causally."""


class LoraSettings(Settings):
    """Adapters.

    The defaults are those that Biderman et al. 2024 ("LoRA learns less and forgets less",
    https://arxiv.org/abs/2405.09673, section 6) end with: all matrices of attention and feed-forward layers, rank 16,
    alpha twice the rank; here they are never more than 5 % of the backbone unasked. The dropout is that of Dettmers et
    al. 2023 (https://arxiv.org/abs/2305.14314, appendix A).
    """

    rank: Annotated[
        int | None,
        COUNT,
        Setting(
            "Rank of the adapters of --method lora; default: 16, and less where they would hold more than 5 % of the "
            "backbone's numbers.",
            metavar="NUMBER",
        ),
    ] = None
    alpha: Annotated[
        float | None,
        POSITIVE,
        Setting("Their strength, which is divided by the rank; default: twice the rank.", metavar="NUMBER"),
    ] = None
    dropout: Annotated[
        float,
        SHARE_BELOW_ONE,
        Setting("Share of their input that is left out while they learn.", metavar="NUMBER", unit="share"),
    ] = 0.05
    points: Annotated[
        tuple[Role, ...],
        Several,
        Field(min_length=1),
        Setting(
            "Where they stand, commas between: attention, feed-forward, recurrent, convolution, other; default: "
            "everywhere between embeddings and output.",
            metavar="ROLES",
        ),
    ] = ROLES
    """Roles of the matrices that get an adapter."""

    def stored(self) -> dict[str, object]:
        """As a model's folder has held it since its first schema; where nobody asked for a rank or roles, what these
        defaults were then. Rank and matrices that a model got stand in its record beside it."""
        points = EARLIER_ROLES if self.points == ROLES else self.points
        return {**self.model_dump(), "rank": EARLIER_RANK if self.rank is None else self.rank, "points": points}


class ProbeSettings(Settings):
    """A probe: heads over a backbone that stands still."""

    fit: Annotated[
        ProbeFit,
        Setting(
            "Of --method probe: steps (trained as any model) or logistic (logistic regression, for labels and tags).",
            metavar="NAME",
        ),
    ] = "steps"
    strength: Annotated[
        float | None,
        POSITIVE,
        Setting(
            "C of logistic regression, weaker a penalty the larger it is; default: chosen on validation rows, or where "
            "they are few on parts of the training rows.",
            metavar="NUMBER",
        ),
    ] = None

    @model_validator(mode="after")
    def _check_strength(self) -> Self:
        if self.strength is not None and self.fit != "logistic":
            raise refusal(f"a strength belongs to the logistic fit, was {self.fit}.")
        return self


class AdaptTraining(Settings):
    """Length, pace and rows of an adaptation: `training` of a plan's model."""

    epochs: Annotated[
        float | None,
        EPOCHS,
        Setting(
            "Passes over the training rows; default: 4, and more where they are few, so that there are steps enough.",
            metavar="NUMBER",
        ),
    ] = None
    """None: see `training.pace`."""
    minutes: Minutes = None
    rows: TrainingRows = None
    learning_rate: Annotated[
        float | None, POSITIVE, Setting("Peak learning rate; default: by the model's size.", metavar="NUMBER")
    ] = None
    """None: chosen by the size of what moves, see `training.adapt_plan.default_learning_rate`."""
    tokens_per_batch: Annotated[
        int | None,
        TOKENS_PER_BATCH,
        Setting(
            "Tokens of a training batch; default: 2048, and at most 16 rows where they are few, 32 for tags.",
            metavar="NUMBER",
            unit="tokens",
        ),
    ] = None
    window: Annotated[
        int,
        COUNT,
        Setting(
            "Tokens that a recurrent model learns from at once in a running text.", metavar="NUMBER", unit="tokens"
        ),
    ] = 35
    weight_decay: Annotated[float, NOT_NEGATIVE, Setting("Of AdamW, for matrices.", metavar="NUMBER")] = 0.05
    label_smoothing: Annotated[
        float,
        SHARE_BELOW_ONE,
        Setting(
            "Of a right answer, that all answers divide; 0.1 is usual in translation.", metavar="SHARE", unit="share"
        ),
    ] = 0.0
    """Not of spans."""
    evaluations: Annotated[
        int | None,
        COUNT,
        Setting(
            "How often the validation rows are looked at; kept are the latest weights that they do not show to be "
            "worse than earlier ones. Default: 8 times, more seldom and fewer of them where that would take more than "
            "half the time of learning.",
            metavar="NUMBER",
        ),
    ] = None
    patience: Annotated[
        int,
        COUNT_OR_NONE,
        Setting(
            "Evaluations in a row shown to be worse than an earlier one before it stops; 0: it never does.",
            metavar="NUMBER",
            unit="evaluations",
        ),
    ] = 3
    precision: Precision = "fp32"
    calibrate: Annotated[
        bool,
        Setting(
            "Afterwards, fit a temperature on validation rows, so that probabilities of labels and tags say how often "
            "they are right."
        ),
    ] = False
    pooling: Annotated[
        Pooling | None,
        Setting(
            "State of a text that a label is read from: mean or max of its tokens, first (CLS) or last; default: the "
            "family's.",
            metavar="NAME",
        ),
    ] = None
    query_prefix: Annotated[
        str | None,
        Setting(
            "Of similarity and retrieval: what the encoder was trained to read before a question, e5: 'query: '; "
            "default: what the checkpoint's own files say.",
            metavar="TEXT",
        ),
    ] = None
    text_prefix: Annotated[
        str | None,
        Setting("And before a text that is looked for, e5: 'passage: '; default: as above.", metavar="TEXT"),
    ] = None
    new_heads: Annotated[
        NewHeads | None,
        Setting(
            "Weights that new heads begin with: random, or logistic (regression over the backbone as it was, for "
            "labels and tags; then all weights learn but those of words); default: logistic where a trained backbone "
            "has few rows, for labels of texts at most 10,000.",
            metavar="NAME",
        ),
    ] = None
    """Not of a probe."""
    words: Annotated[
        Words,
        Setting(
            "For labels of texts, weights of tokens and pairs of neighbours beside those of the backbone's states: "
            "yes, no, or auto (where a head is found by, or begins with, logistic regression).",
            metavar="NAME",
        ),
    ] = "auto"
    mixture: Annotated[
        str,
        Setting(
            "Of several tasks, rows in a pass: proportional (all rows of each), uniform (equally many of each), or "
            "temperature=T (by rows to the power 1/T; 2 is usual).",
            metavar="NAME",
        ),
    ] = PROPORTIONAL

    @field_validator("words", mode="before")
    @classmethod
    def _as_yaml_has_it(cls, value: object) -> object:
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value  # `words: no` without quotes

    @field_validator("mixture")
    @classmethod
    def _check_mixture(cls, value: str) -> str:
        mixture_power(value)
        return value


IN_STEPS = (
    *("epochs", "minutes", "learning_rate", "tokens_per_batch", "window", "weight_decay", "label_smoothing"),
    *("evaluations", "patience", "mixture"),
)
"""Settings of an adaptation that say nothing where no step is taken."""


class AdaptSettings(AdaptTraining):
    """Settings of an adaptation."""

    method: Method = "full"
    device: str = "cpu"
    seed: Annotated[int, SEED] = 1234
    lora: LoraSettings | None = None
    """None: its defaults, where the method is `lora`."""
    probe: ProbeSettings | None = None
    """None: its defaults, where the method is `probe`."""

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.lora is not None and self.method != "lora":
            raise refusal(f"rank, alpha, dropout and points of adapters belong to the method lora, was {self.method}.")
        if self.probe is not None and self.method != "probe":
            raise refusal(f"fit and strength belong to the method probe, was {self.method}.")
        if self.new_heads is not None and self.method == "probe":
            raise refusal("new heads of a probe are all that it learns: its fit says how, and not new heads.")
        if self.words == "yes" and self.method == "prompt":
            raise refusal("words are weights of a head, and the method prompt learns none; use probe, full or lora.")
        if self.words == "yes" and self.method == "probe" and (self.probe is None or self.probe.fit != "logistic"):
            raise refusal("weights of words are found by logistic regression: a probe has them by its fit logistic.")
        if self.words == "yes" and self.new_heads == "random":
            raise refusal("weights of words are found by logistic regression: new heads cannot begin random with them.")
        if self.probe is not None and self.probe.fit == "logistic":
            for name in IN_STEPS:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise refusal(
                        f"{name.replace('_', ' ')} is about training by steps, and logistic regression takes none; "
                        "leave it out, or use the fit by steps."
                    )
        return self

    def stored(self) -> dict[str, object]:
        """As a model's folder has held it since its first schema, in that order; `rows` stand beside it, and what came
        later is left out where nobody set it."""
        later = {name for name in ("probe", "pooling", "calibrate", "new_heads") if not getattr(self, name)}
        later |= {name for name in ("query_prefix", "text_prefix") if getattr(self, name) is None}
        later |= {"mixture"} if self.mixture == PROPORTIONAL else set()
        later |= {"words"} if self.words == "auto" else set()
        stored = {"method": self.method, **self.model_dump(exclude={"method", "rows", *later})}
        return stored if self.lora is None else {**stored, "lora": self.lora.stored()}


Steps = Annotated[int, COUNT, Setting("Optimizer steps at most.", metavar="NUMBER", unit="steps")]
BatchRows = Annotated[int, COUNT, Setting("Rows per optimizer step.", metavar="NUMBER", unit="rows")]
"""Over all accumulated parts and all processes."""
Accumulate = Annotated[
    int, COUNT, Setting("Parts that the rows of a step are cut into; processes share them.", metavar="NUMBER")
]
LearningRate = Annotated[float, POSITIVE, Setting("Peak learning rate.", metavar="NUMBER")]
EvaluateEvery = Annotated[
    int,
    COUNT_OR_NONE,
    Setting("Steps between evaluations on held-out text.", metavar="NUMBER", unit="steps"),
]
CheckpointEvery = Annotated[int, COUNT, Setting("Steps between checkpoints.", metavar="NUMBER", unit="steps")]


class TrainingSettings(Settings):
    """One training, as the loop takes it. Steps are optimizer steps."""

    steps: Steps
    minutes: Minutes = None
    """Stop after this much training time, if the steps are not done; the learning rate then follows the clock,
    but for `wsd`, whose rate follows steps alone."""
    batch_rows: BatchRows
    accumulate: Accumulate = 1
    """Parts save memory."""
    learning_rate: LearningRate
    warmup: Annotated[float, SHARE] = 0.05
    """Share of the training in which the learning rate rises; not for `wsd`."""
    decay: Annotated[
        Decay,
        Setting("cosine, linear, constant or wsd (warm-up, stable, cool-down).", option="--schedule", metavar="NAME"),
    ] = "cosine"
    floor: Annotated[float, SHARE] = 0.1
    """Learning rate at the end, as a share of its peak."""
    warmup_steps: Annotated[
        int,
        COUNT_OR_NONE,
        Setting("With wsd: first steps, in which the rate rises.", option="--warmup", metavar="NUMBER", unit="steps"),
    ] = 200
    cooldown_steps: Annotated[
        int,
        COUNT_OR_NONE,
        Setting(
            "With wsd: last steps, in which the rate falls; behind --start: all steps from there.",
            option="--cooldown",
            metavar="NUMBER",
            unit="steps",
        ),
    ] = 0
    """`wsd`: steps before `steps` in which the learning rate falls; 0: it stays up."""
    optimizer: Annotated[OptimizerName, Setting("adamw or muon.", metavar="NAME")] = "adamw"
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.1
    betas: tuple[Annotated[float, SHARE_BELOW_ONE], Annotated[float, SHARE_BELOW_ONE]] = (0.9, 0.95)
    clip: Annotated[float, POSITIVE] = 1.0
    precision: Precision = "fp32"
    compile: Annotated[bool, Setting("Compile the model and its loss first.")] = False
    evaluate_every: EvaluateEvery = 0
    """0: only at the end."""
    patience: Annotated[int, COUNT_OR_NONE] = 0
    """Stop after so many evaluations without a better one; 0: never."""
    checkpoint_every: CheckpointEvery = 200
    seed: Annotated[int, SEED] = 1234

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.batch_rows % self.accumulate:
            raise refusal(
                f"the batch must be a multiple of accumulate, was {self.batch_rows} rows in {self.accumulate} parts."
            )
        if not 0 <= self.cooldown_steps <= self.steps:
            raise refusal(f"the cool-down must be 0 to {self.steps} steps, was {self.cooldown_steps}.")
        if self.cooldown_steps and self.decay != "wsd":
            raise refusal(f"a cool-down belongs to the schedule wsd, was {self.decay}.")
        return self

    def stored(self) -> dict[str, object]:
        """As a backbone's folder has held it since its first schema, in that order, which a hash goes by."""
        first = ("steps", "learning_rate", "batch_rows", "accumulate", "minutes")
        return {**{name: getattr(self, name) for name in first}, **self.model_dump()}


class PretrainSettings(TrainingSettings):
    """A training of a backbone on text, with the defaults that suit it."""

    steps: Steps = 100_000
    batch_rows: BatchRows = 16
    accumulate: Accumulate = 4
    learning_rate: LearningRate = 3e-3
    evaluate_every: EvaluateEvery = 200
    checkpoint_every: CheckpointEvery = 100


class PretrainText(Settings):
    """The text that a backbone is pretrained on, and what becomes of it: family, objective, tokens, windows."""

    data: Annotated[
        tuple[str, ...], Setting("A file, a folder of a data set, or a Hub id; repeatable.", metavar="TEXT")
    ]
    text: Annotated[str, Setting("Column that holds the text.", metavar="COLUMN")] = "text"
    encoding: Encoding = None
    weights: Annotated[
        str, Setting("Share of each --data in training, as 0.6,0.4; default: by size.", metavar="SHARES")
    ] = ""
    mix: Annotated[
        tuple[str, ...], Setting("Share of each source (column source); repeatable.", metavar="SOURCE=SHARE")
    ] = ()
    start: Annotated[
        Path | None,
        Setting("Begin from a backbone, or from the .work folder of another training.", metavar="FOLDER"),
    ] = None
    beside: Annotated[
        Path | None,
        Setting("Folder of an ngram backbone of the same text, to show its scores in the card.", metavar="FOLDER"),
    ] = None
    backbone: Annotated[str, Setting("Family and sizes.", metavar="FAMILY")] = "llama:width=256,layers=6,inner=640"
    objective: Annotated[
        Objective | None,
        Setting("causal, masked, mixed or span-corruption; default: what suits the family.", metavar="NAME"),
    ] = None
    hidden: Annotated[
        float | None,
        HIDDEN,
        Setting(
            "Of the tokens, that masked, mixed and span-corruption hide; default: 0.15.",
            option="--hide",
            metavar="SHARE",
            unit="share",
        ),
    ] = None
    teacher: Annotated[
        Path | None,
        Setting(
            "Vectors of passages of the text (`lmtasks embed`) that pooled hidden states are pulled towards.",
            metavar="FILE",
        ),
    ] = None
    embeddings: Annotated[
        Path | None,
        Setting("Vectors of the tokens (`lmtasks embed --vocabulary`) that their embeddings begin at.", metavar="FILE"),
    ] = None
    teacher_weight: Annotated[
        float, POSITIVE, Setting("Of the teacher, beside the objective's nats.", metavar="NUMBER")
    ] = TEACHER_WEIGHT
    vocabulary: Annotated[int, VOCABULARY, Setting("Tokens to learn.", metavar="NUMBER", unit="tokens")] = 10_240
    tokenizer: Annotated[Path | None, Setting("Folder of a tokenizer to use instead.", metavar="FOLDER")] = None
    window: Annotated[int, COUNT, Setting("Tokens per training row.", metavar="NUMBER", unit="tokens")] = 512


class EmbedText(Settings):
    """Texts, and the encoder or the program that makes vectors of them."""

    data: Annotated[
        tuple[str, ...], Setting("A file, a folder of a data set, or a Hub id; repeatable.", metavar="TEXT")
    ] = ()
    text: Annotated[str, Setting("Column that holds the text.", metavar="COLUMN")] = "text"
    encoding: Encoding = None
    vocabulary: Annotated[
        Path | None,
        Setting("Instead of --data: folder of a tokenizer, whose tokens are the texts.", metavar="FOLDER"),
    ] = None
    model: Annotated[
        str | None,
        Setting("Encoder: a model folder, a shipped name, or a Hub id with @revision.", metavar="MODEL"),
    ] = None
    command: Annotated[
        str | None,
        Setting(
            "Instead: a program that reads a JSON string a line and prints a JSON list of numbers a line.",
            metavar="COMMAND",
        ),
    ] = None
    passages: Annotated[
        int | None,
        COUNT,
        Setting(
            "Cut documents into passages of whole sentences, of so many UTF-8 bytes at most.",
            metavar="NUMBER",
            unit="bytes",
        ),
    ] = None
    """None: a text is read whole, as far as the encoder reads."""
    count: Annotated[
        int | None,
        COUNT,
        Setting("Texts at most; drawn by their content, a larger number keeps a smaller one's.", metavar="NUMBER"),
    ] = None
    prefix: Annotated[str, Setting("Put before each text, as E5 has it: 'query: '.", metavar="TEXT")] = ""
    pooling: Annotated[
        Pooling | None,
        Setting("State of a text: mean or max of its tokens, first (CLS) or last.", metavar="NAME"),
    ] = None
    """None: the family's own."""
    attention: Annotated[
        Attention | None,
        Setting(
            "How a causal backbone reads: causal or both (ways); default: both ways where it was pretrained so.",
            metavar="NAME",
        ),
    ] = None
    max_length: Annotated[
        int | None, COUNT, Setting("Tokens of a text that are read; default: 512.", metavar="NUMBER", unit="tokens")
    ] = None
    precision: Precision = "fp32"
    note: Annotated[
        str,
        Setting(
            "Terms of the encoder and what it was tuned on; the card of what learns from it says so.", metavar="TEXT"
        ),
    ] = ""
