"""The model card of a pretrained backbone, from the record of its training: data, terms, cost, held-out scores."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from lmtasks.data.documents import SourceFacts
from lmtasks.training.curve import Record
from lmtasks.training.judging import HeldOut, overall
from lmtasks.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class PretrainingRecord:
    """What `pretraining.json` holds."""

    objective: str
    family: str
    parameters: int
    vocabulary: int
    window: int
    weights: tuple[float, ...]
    """Share of the training windows from each corpus."""
    settings: TrainingSettings
    steps: int
    seconds: float
    stopped: str
    tokens_seen: int
    tokens_available: tuple[int, ...]
    """Of each corpus."""
    sources: tuple[SourceFacts, ...]
    held_out: tuple[HeldOut, ...]

    def json(self) -> Mapping[str, object]:
        """Ready for JSON."""
        return asdict(self)


OPTIMIZERS: Mapping[str, str] = {"adamw": "AdamW", "muon": "Muon for matrices between layers, AdamW for the rest"}
PIPELINES: Mapping[str, str] = {
    "causal": "text-generation",
    "masked": "fill-mask",
    "span-corruption": "text2text-generation",
}
"""What the Hub calls the use of a backbone, by its objective."""


CURVE_ROWS = 12
"""Evaluations that the card shows, evenly spread."""


def model_card(name: str, record: PretrainingRecord, curve: Sequence[Record]) -> str:
    """The card as Markdown, with the header that the Hub reads."""
    settings = record.settings
    available = " + ".join(f"{count:,}" for count in record.tokens_available)
    shares = " : ".join(f"{share:g}" for share in record.weights)
    sources = "\n".join(f"| {fact.source} | {fact.documents:,} | {fact.bytes / 1e6:.2f} |" for fact in record.sources)
    held = "\n".join(
        f"| {score.source} | {score.bytes:,} | {score.token_perplexity:.2f} | {_bits(score)} |"
        for score in record.held_out
    )
    unit = "bits per byte" if record.objective == "causal" else "nats per token that is asked for"
    evaluated = [point for point in curve if "validation" in point]
    places = {round(n * (len(evaluated) - 1) / (CURVE_ROWS - 1)) for n in range(CURVE_ROWS)} if evaluated else set()
    tokens_per_step = record.tokens_seen // max(1, record.steps)
    points = "\n".join(
        f"| {int(str(point['step'])) * tokens_per_step:,} | {point['loss']} | {point['validation']} |"
        for point in (evaluated[place] for place in sorted(places))
    )
    return f"""---
library_name: transformers
pipeline_tag: {PIPELINES[record.objective]}
---
# {name}

A backbone, `{record.family}`, trained by the objective {record.objective}:
{record.parameters:,} parameters, a byte-level BPE vocabulary of {record.vocabulary:,} tokens, trained on
windows of {record.window} tokens. Weights in bf16; a plain
transformers folder. It is a small backbone to be adapted, not an assistant: what it writes by itself is neither
true nor safe to rely on.

## Training

| | |
|---|---|
| steps | {record.steps:,} of {settings.batch_rows} windows, ended by {record.stopped} |
| tokens seen | {record.tokens_seen:,}; the corpora hold {available} |
| wall-clock training time | {record.seconds / 60:.1f} minutes |
| optimizer | {OPTIMIZERS[settings.optimizer]}, weight decay {settings.weight_decay:g} |
| peak learning rate | {settings.learning_rate:g} ({settings.decay}) |
| precision, seed | {settings.precision}, {settings.seed} |
| corpora mixed, by windows | {shares} |

`pretraining.json` has all settings.

## Curve

Loss in nats per token of the training; {unit} of the first windows of each held-out source. `curve.jsonl` has more.

| tokens seen | loss | held-out |
|--:|--:|--:|
{points}

## Data and terms

Names of sources carry their terms, as the data set states them. Weights learned from text under CC BY-SA are derived
from it as far as the law of the reader's country says so.

| source | documents | MB |
|---|--:|--:|
{sources}

## Held-out text

Documents that were never trained on (5 in 1,000, chosen by the hash of their text), in disjoint windows.
Over all of them: {overall(record.held_out):.4f} {unit}.

| source | bytes | perplexity per token | bits per byte |
|---|--:|--:|--:|
{held}
"""


def _bits(score: HeldOut) -> str:
    return "-" if score.bits_per_byte is None else f"{score.bits_per_byte:.4f}"
