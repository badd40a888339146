"""The model card of a pretrained backbone, from the record of its training: data, terms, cost, held-out scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from lmtasks.data.corpus import Document
from lmtasks.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """One source of pretraining text; its name says the terms, as the data set states them."""

    source: str
    corpus: int
    """Place of its corpus in the command."""
    documents: int
    bytes: int
    """UTF-8, held-out documents included."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well the backbone predicts the held-out documents of one source."""

    source: str
    bytes: int
    tokens: int
    token_perplexity: float
    bits_per_byte: float


@dataclass(frozen=True, kw_only=True)
class PretrainingRecord:
    """What `pretraining.json` holds."""

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


def source_facts(corpora: Sequence[Sequence[Document]]) -> tuple[SourceFacts, ...]:
    """Documents and bytes of every source."""
    found = []
    for number, corpus in enumerate(corpora):
        documents = Counter(document.source for document in corpus)
        sizes: Counter[str] = Counter()
        for document in corpus:
            sizes[document.source] += len(document.text.encode())
        found += [
            SourceFacts(source=source, corpus=number, documents=documents[source], bytes=sizes[source])
            for source in documents
        ]
    return tuple(found)


def model_card(name: str, record: PretrainingRecord) -> str:
    """The card as Markdown, with the header that the Hub reads."""
    settings = record.settings
    available = " + ".join(f"{count:,}" for count in record.tokens_available)
    shares = " : ".join(f"{share:g}" for share in record.weights)
    sources = "\n".join(f"| {fact.source} | {fact.documents:,} | {fact.bytes / 1e6:.2f} |" for fact in record.sources)
    held = "\n".join(
        f"| {score.source} | {score.bytes:,} | {score.token_perplexity:.2f} | {score.bits_per_byte:.4f} |"
        for score in record.held_out
    )
    total_bytes = sum(score.bytes for score in record.held_out)
    overall = sum(score.bits_per_byte * score.bytes for score in record.held_out) / max(1, total_bytes)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---
# {name}

A causal language model, `{record.family}`: {record.parameters:,} parameters, a byte-level BPE
vocabulary of {record.vocabulary:,} tokens, trained on windows of {record.window} tokens. Weights in bf16; a plain
transformers folder. It is a small backbone to be adapted, not an assistant: what it writes by itself is neither
true nor safe to rely on.

## Training

| | |
|---|---|
| steps | {record.steps:,} of {settings.batch_rows} windows, ended by {record.stopped} |
| tokens seen | {record.tokens_seen:,}; the corpora hold {available} |
| wall-clock training time | {record.seconds / 60:.1f} minutes |
| optimizer | AdamW, weight decay {settings.weight_decay:g} |
| peak learning rate | {settings.learning_rate:g} ({settings.decay}) |
| precision, seed | {settings.precision}, {settings.seed} |
| corpora mixed, by windows | {shares} |

`pretraining.json` has all settings.

## Data and terms

Names of sources carry their terms, as the data set states them. Weights learned from text under CC BY-SA are derived
from it as far as the law of the reader's country says so.

| source | documents | MB |
|---|--:|--:|
{sources}

## Held-out text

Documents that were never trained on (5 in 1,000, chosen by the hash of their text), in disjoint windows.
Over all of them: {overall:.4f} bits per byte.

| source | bytes | perplexity per token | bits per byte |
|---|--:|--:|--:|
{held}
"""
