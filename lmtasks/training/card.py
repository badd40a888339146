"""The model card of a pretrained backbone, from the record of its training: data, terms, cost, held-out scores."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lmtasks.data.documents import SourceFacts
from lmtasks.settings.training import TrainingSettings
from lmtasks.training.curve import Record
from lmtasks.training.heldout import HeldOut, ReferenceScores, overall
from lmtasks.training.objectives import OBJECTIVES
from lmtasks.training.teacher import Taught


@dataclass(frozen=True, kw_only=True)
class PretrainingRecord:
    """Record of a pretraining, as `pretraining.json` holds it."""

    objective: str
    hidden: float | None
    """Share of the tokens that the objective hides; None: it hides none."""
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
    """Tokens of each corpus."""
    sources: tuple[SourceFacts, ...]
    held_out: tuple[HeldOut, ...]
    begun_from: str | None = None
    """The backbone whose weights it began with."""
    before: Mapping[str, object] | None = None
    """That one's own record, where it has one."""
    beside: ReferenceScores | None = None
    teacher: Taught | None = None
    embeddings: Taught | None = None

    def json(self) -> Mapping[str, object]:
        """Ready for JSON."""
        return {**asdict(self), "settings": self.settings.stored()}


OPTIMIZERS: Mapping[str, str] = {"adamw": "AdamW", "muon": "Muon for matrices between layers, AdamW for the rest"}
PIPELINES: Mapping[str, str] = {
    "causal": "text-generation",
    "masked": "fill-mask",
    "mixed": "text-generation",
    "span-corruption": "text2text-generation",
}
"""The Hub's name for the use of a backbone, by its objective."""


CURVE_ROWS = 12
"""Evaluations that the card shows, evenly spread."""


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """One training of those that follow each other, each from the weights of the one before."""

    objective: str
    steps: int
    tokens: int
    seconds: float
    rows: Sequence[str]
    """Its column of the card's table, from the top."""


STAGE_ROWS = (
    "objective",
    "steps",
    "tokens seen",
    "wall-clock training time",
    "optimizer",
    "peak learning rate",
    "precision, seed",
)


def model_card(name: str, record: PretrainingRecord, curve: Sequence[Record]) -> str:
    """The card as Markdown, with the header that the Hub reads.

    Args:
        curve: thinned; where stages follow each other, each point names its own (`stage`, from 1).
    """
    stages = _stages(record.json())
    coded = any(score.bits_per_byte is not None for score in record.held_out)
    unit = "bits per byte" if coded else "nats per token that is asked for"
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

{_training(record, stages)}

`pretraining.json` has all settings.

## Curve

Loss in nats per token of the training; {unit} of the first windows of each held-out source. `curve.jsonl` has more.

| tokens seen | loss | held-out |
|--:|--:|--:|
{_points(stages, curve)}

## Data and terms

Names of sources carry their terms, as the data set states them. Weights learned from text under CC BY-SA are derived
from it as far as the law of the reader's country says so. Sources that were mixed as one have their tokens and their
share of the windows in one row; shares are those of the last stage.

{_sources(record)}

## Held-out text

Documents that were never trained on (5 in 1,000, chosen by the hash of their text), in disjoint windows.
Over all of them: {overall(record.held_out):.4f} {unit}{_overall_beside(record)}.

{_held_out(record)}
"""


def _sources(record: PretrainingRecord) -> str:
    """Table of the text: a corpus's tokens and share stand in the row of its first source."""
    rows = ["| source | documents | MB | tokens | windows |", "|---|--:|--:|--:|--:|"]
    told: set[int] = set()
    for fact in record.sources:
        mixed = ["", ""]
        if fact.corpus not in told:
            share = record.weights[fact.corpus] / sum(record.weights)
            mixed = [f"{record.tokens_available[fact.corpus]:,}", f"{share:.1%}"]
        told.add(fact.corpus)
        rows.append(f"| {' | '.join((fact.source, f'{fact.documents:,}', f'{fact.bytes / 1e6:.2f}', *mixed))} |")
    return "\n".join(rows)


def _stages(record: Mapping[str, Any]) -> tuple[_Stage, ...]:
    """Stages that a record, as `pretraining.json` holds it, and those before it tell of; the oldest first."""
    settings = record["settings"]
    hidden = record.get("hidden")
    stage = _Stage(
        objective=record["objective"],
        steps=record["steps"],
        tokens=record["tokens_seen"],
        seconds=record["seconds"],
        rows=(
            record["objective"] + (f", {hidden:.0%} hidden" if hidden else ""),
            f"{record['steps']:,} of {settings['batch_rows']} windows of {record['window']:,}, "
            f"ended by {record['stopped']}",
            f"{record['tokens_seen']:,}",
            f"{record['seconds'] / 60:.1f} minutes",
            f"{OPTIMIZERS[settings['optimizer']]}, weight decay {settings['weight_decay']:g}",
            f"{settings['learning_rate']:g} ({settings['decay']})",
            f"{settings['precision']}, {settings['seed']}",
        ),
    )
    before = record.get("before")
    return (*(_stages(before) if before else ()), stage)


def _training(record: PretrainingRecord, stages: Sequence[_Stage]) -> str:
    head = ["", *(f"stage {number}" if len(stages) > 1 else "" for number in range(1, len(stages) + 1))]
    named = zip(STAGE_ROWS, *(stage.rows for stage in stages), strict=True)
    rows = [head, ["---"] * len(head), *named]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if len(stages) > 1:
        tokens, minutes = sum(stage.tokens for stage in stages), sum(stage.seconds for stage in stages) / 60
        table = f"{table}\n\nIn all {tokens:,} tokens in {minutes:.1f} minutes."
    begun = (
        ""
        if record.begun_from is None or record.before is not None
        else f"\n\nIt began with the weights of {record.begun_from}."
    )
    return f"{table}{begun}{_attention(record.objective)}{_taught(record.json())}"


def _attention(objective: str) -> str:
    """A sentence on how heads read it, where it learned more than one way."""
    turns = OBJECTIVES[objective].turns
    if not any(part.both_ways for part in turns) or all(part.both_ways for part in turns):
        return ""
    return (
        "\n\nIt learned to read one way and both ways over the same weights: heads that label texts, tag words or find "
        "spans read both ways, those that write read causally, unless `adapt --attention` says otherwise."
    )


def _taught(record: Mapping[str, Any], *, last: bool = True) -> str:
    """Sentences on the teachers of all stages: what those were tuned on is no test of what learned from them.

    Args:
        last: no stage follows this one.
    """
    before = record.get("before")
    told = _taught(before, last=False) if before else ""
    if (began := record.get("embeddings")) is not None:
        told += (
            f"\n\nIts token embeddings began at vectors of {began['passages']:,} tokens' texts by {_encoder(began)}."
        )
    if (teacher := record.get("teacher")) is not None:
        stage = f" in stage {len(_stages(record))}" if before or not last else ""
        end = teacher["held_out"]
        judged = "" if end is None else f" (cosine on held-out passages at the end: {1 - end:.3f})"
        told += (
            f"\n\nThe mean of its last hidden states, read both ways, was pulled{stage} towards vectors of "
            f"{teacher['passages']:,} passages of the text by {_encoder(teacher)}, with the weight "
            f"{teacher['weight']:g} beside the objective{judged}."
        )
    return told


def _encoder(taught: Mapping[str, Any]) -> str:
    encoder = taught["encoder"]
    prefix = f", behind {encoder['prefix']!r}" if encoder["prefix"] else ""
    note = f" ({encoder['note']})" if encoder["note"] else ""
    return f"{encoder['name']}{note}, pooled by {encoder['pooling']}{prefix}"


def _points(stages: Sequence[_Stage], curve: Sequence[Record]) -> str:
    """Rows of the curve's table; tokens are counted through all stages, and those of another objective left out."""
    rows: list[str] = []
    seen = 0
    for number, stage in enumerate(stages, start=1):
        alike = PIPELINES[stage.objective] == PIPELINES[stages[-1].objective]
        own = [point for point in curve if alike and "validation" in point and point.get("stage", 1) == number]
        shown = max(2, round(CURVE_ROWS * stage.tokens / sum(each.tokens for each in stages)))
        places = {round(place * (len(own) - 1) / (shown - 1)) for place in range(shown)} if own else set()
        per_step = stage.tokens // max(1, stage.steps)
        rows += [
            f"| {seen + int(str(point['step'])) * per_step:,} | {point['loss']} | {point['validation']} |"
            for point in (own[place] for place in sorted(places))
        ]
        seen += stage.tokens
    return "\n".join(rows)


def _held_out(record: PretrainingRecord) -> str:
    head = ["source", "bytes", "perplexity per token"]
    rows = [[score.source, f"{score.bytes:,}", f"{score.token_perplexity:.2f}"] for score in record.held_out]
    if PIPELINES[record.objective] == PIPELINES["causal"]:
        head += ["bits per byte"]
        rows = [[*row, _bits(score)] for row, score in zip(rows, record.held_out, strict=True)]
    if record.beside is not None:
        head += [record.beside.family, "difference"]
        other = {score.source: score for score in record.beside.held_out}
        rows = [
            [*row, *_compared(score, other.get(score.source))] for row, score in zip(rows, record.held_out, strict=True)
        ]
    marks = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def _overall_beside(record: PretrainingRecord) -> str:
    if record.beside is None:
        return ""
    return f"; `{record.beside.family}`, counted on the same text: {overall(record.beside.held_out):.4f}"


def _compared(score: HeldOut, other: HeldOut | None) -> tuple[str, str]:
    """The other model's bits per byte, and how far from them this one's are."""
    if other is None or other.bits_per_byte is None or score.bits_per_byte is None:
        return ("-", "-")
    return (_bits(other), f"{score.bits_per_byte / other.bits_per_byte - 1:+.1%}")


def _bits(score: HeldOut) -> str:
    return "-" if score.bits_per_byte is None else f"{score.bits_per_byte:.4f}"
