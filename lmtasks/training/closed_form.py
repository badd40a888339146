"""Models of families that are fitted at once (`backbone/closed_form.py`): to rows of tasks, or to plain text with the
same documents, tokens and held-out texts as `pretrain` has."""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.data.continuation import end_tokens
from lmtasks.data.corpus import TokenizedCorpus, tokenize_corpus
from lmtasks.data.documents import Document, survey
from lmtasks.data.examples import HeadExamples, TrainingExample
from lmtasks.data.spacing import longest_terms
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.model.closed_form import (
    FITTED,
    NO_LIMIT,
    Classifier,
    FittedModel,
    Ngram,
    NgramClasses,
    NgramSizes,
    TermSizes,
    count_ngrams,
    fit_classifier,
    kneser_ney,
    parse_fitted,
    save_fitted,
)
from lmtasks.records import Ints, ModelCard, Progress, Report

if TYPE_CHECKING:
    from lmtasks.training.heldout import HeldOut


def fit_model(
    family: str,
    heads: Sequence[HeadExamples],
    *,
    tokenizer: Tokenizer,
    name: str,
    text_heads: frozenset[str] = frozenset(),
    report: Report,
) -> FittedModel:
    """Fit a model to the training rows of its heads.

    Args:
        family: `ngram:order=5`.
        name: what the model will be called.
        text_heads: those that ask how likely a text is; they need no head, since the model itself says it.

    Raises:
        UsageError: the family cannot be one of the heads, or the rows teach it nothing.
    """
    kind, sizes = parse_fitted(family)
    for head in heads:
        if head.head.kind not in FITTED[kind].serves:
            raise UsageError(
                f"{kind} cannot be adapted to {head.head.name!r}, a {head.head.kind} head: "
                f"{FITTED[kind].why_not_others}; it serves {' and '.join(FITTED[kind].serves)}."
            )
        if not head.train and not head.text:
            raise UsageError(f"task {head.head.name!r} has no training rows; adapt needs a train split.")
    ends = end_tokens(tokenizer, lines=isinstance(sizes, NgramSizes) and bool(sizes.lines))
    fitted: dict[str, Classifier | NgramClasses] = {}
    labelled = [head for head in heads if head.head.predicts]
    if isinstance(sizes, TermSizes) and not sizes.ngrams:
        rows = [_ids(example) for head in labelled for example in head.train]
        sizes = replace(sizes, ngrams=longest_terms(rows, tokenizer=tokenizer))
    for number, head in enumerate(labelled):
        report(Progress(stage="fit", done=number, total=len(heads), unit="heads", note=head.head.name))
        rows = [_ids(example) for example in head.train]
        labels = np.array([example.targets[0] for example in head.train])
        if isinstance(sizes, NgramSizes):
            fitted[head.head.name] = _class_models(
                head, rows, labels, sizes, vocabulary=tokenizer.vocabulary, ends=ends
            )
        else:
            fitted[head.head.name] = _linear(
                kind, head, rows, labels, sizes, vocabulary=tokenizer.vocabulary, ends=ends
            )
    texts = [row for head in heads if not head.head.predicts for row in _texts(head)]
    text = None
    if texts and isinstance(sizes, NgramSizes):
        report(Progress(stage="fit", done=len(labelled), total=len(heads), unit="heads", note="n-grams of the text"))
        text = fit_text(texts, sizes, vocabulary=tokenizer.vocabulary, ends=ends)
    report(Progress(stage="fit", done=len(heads), total=len(heads), unit="heads"))
    specs = tuple(replace(head.head, pooling="mean") for head in heads if head.head.name not in text_heads)
    card = fitted_card(kind, name=name, tokenizer=tokenizer, predicts=text is not None)
    return FittedModel(card=replace(card, heads=specs), sizes=sizes, ends=ends, text=text, heads=fitted)


def fit_text(rows: Sequence[Ints], sizes: NgramSizes, *, vocabulary: int, ends: tuple[int, ...]) -> Ngram:
    """The n-gram model of rows of text.

    Raises:
        UsageError: the text is too short for the order or the vocabulary.
    """
    counts = count_ngrams(rows, order=sizes.order, vocabulary=vocabulary, ends=ends)
    return kneser_ney(counts, cutoffs=sizes.cutoffs, fallback=bool(sizes.fallback))


def count_text(
    *,
    corpora: Sequence[Iterable[Document]],
    family: str,
    vocabulary: int,
    seed: int,
    out: Path,
    report: Callable[[Progress], None],
    tokenizer_folder: Path | None = None,
) -> "tuple[HeldOut, ...]":
    """Count all documents that are not held out, write the model folder `out`, and score those that are.

    Args:
        family: `ngram:order=5`.
        vocabulary: tokens to learn, when no `tokenizer_folder` is given.

    Raises:
        UsageError: the family predicts no tokens, or the text is too short for it.
    """
    from lmtasks.training.pretrain import corpus_tokenizer

    kind, sizes = parse_fitted(family)
    if not isinstance(sizes, NgramSizes):
        raise UsageError(f"{kind} predicts no tokens, so text alone teaches it nothing; use ngram.")
    work = out.with_name(out.name + ".work")
    facts = tuple(survey(corpus, corpus=number) for number, corpus in enumerate(corpora))
    tokenizer = corpus_tokenizer(
        corpora,
        facts,
        weights=[float(fact.bytes) for fact in facts],
        vocabulary=vocabulary,
        special=(),
        given=tokenizer_folder,
        work=work,
        report=report,
    )
    tokens = [
        tokenize_corpus(corpus, facts=fact, tokenizer=tokenizer, seed=seed, folder=work / "tokens", report=report)
        for corpus, fact in zip(corpora, facts, strict=True)
    ]
    count = sum(len(corpus.train) for corpus in tokens)
    report(Progress(stage="count", done=0, total=count, unit="tokens"))
    began = perf_counter()
    ends = end_tokens(tokenizer, lines=bool(sizes.lines))
    rows = [np.asarray(corpus.train, dtype=np.int64) for corpus in tokens]
    model = fit_text(rows, sizes, vocabulary=tokenizer.vocabulary, ends=ends)
    seconds = perf_counter() - began
    report(Progress(stage="count", done=count, total=count, unit="tokens"))
    scores = _ngram_scores(model, tokens, unknown=tokenizer.unknown)
    fitted = FittedModel(
        card=fitted_card(kind, name=out.name, tokenizer=tokenizer, predicts=True), sizes=sizes, ends=ends, text=model
    )
    provenance = {
        "backbone": family,
        "about": FITTED[kind].about,
        "cleaning": list(tokenizer.cleaning),
        "tokens": count,
        "ngrams": [len(level.keys) for level in model.levels],
        "seconds": round(seconds, 3),
        "sources": [asdict(source) for fact in facts for source in fact.sources],
        "held_out": [asdict(score) for score in scores],
    }
    aside, part = out.with_name(out.name + ".new"), out.with_name(out.name + ".part")
    for folder in (aside, part):
        shutil.rmtree(folder, ignore_errors=True)
    aside.mkdir()
    tokenizer.save(aside)
    save_fitted(fitted, part, tokenizer=aside, provenance=provenance)
    part.rename(out)
    shutil.rmtree(aside)
    return scores


def fitted_card(family: str, *, name: str, tokenizer: Tokenizer, predicts: bool) -> ModelCard:
    """The card of a model that was fitted; what is known of its files is added when they are written."""
    return ModelCard(
        name=name,
        family=family,
        kind="causal" if predicts else "encoder",
        adaptation="full",
        parameters=0,
        weights_hash="",
        tokenizer_hash="",
        max_length_tokens=NO_LIMIT,
        vocabulary=tokenizer.vocabulary,
    )


def fitting_record(heads: Sequence[HeadExamples]) -> Mapping[str, object]:
    """Facts of the rows that are kept beside a model."""
    return {
        head.head.name: {
            "rows": len(head.train),
            "tokens": len(head.text) or sum(len(example.ids) for example in head.train),
            "truncated": head.truncated,
            "fingerprint": sha256(head.fingerprint.encode()).hexdigest()[:16],
        }
        for head in heads
    }


def _ids(example: TrainingExample) -> Ints:
    return np.array(example.ids, dtype=np.int64)


def _linear(
    family: str,
    head: HeadExamples,
    rows: Sequence[Ints],
    labels: Ints,
    sizes: object,
    *,
    vocabulary: int,
    ends: tuple[int, ...],
) -> Classifier:
    assert isinstance(sizes, TermSizes)  # the other families of the table
    try:
        return fit_classifier(
            family,
            rows,
            labels,
            classes=len(head.head.labels),
            vocabulary=vocabulary,
            skipped=ends,
            longest=sizes.ngrams,
            least=sizes.least,
            strength=sizes.strength,
        )
    except UsageError as error:
        raise UsageError(f"task {head.head.name}: {error}") from error


def _class_models(
    head: HeadExamples,
    rows: Sequence[Ints],
    labels: Ints,
    sizes: NgramSizes,
    *,
    vocabulary: int,
    ends: tuple[int, ...],
) -> NgramClasses:
    counts = Counter(labels.tolist())
    models = []
    for number, label in enumerate(head.head.labels):
        mine = [row for row, own in zip(rows, labels, strict=True) if own == number]
        if not mine:
            raise UsageError(
                f"task {head.head.name}: no training row is {label!r}, and its n-gram model needs some; give more rows."
            )
        try:
            models.append(fit_text(mine, sizes, vocabulary=vocabulary, ends=ends))
        except UsageError as error:
            raise UsageError(f"task {head.head.name}, class {label!r}: {error}") from error
    prior = np.log([counts[number] / len(labels) for number in range(len(models))]).astype(np.float32)
    return NgramClasses(models=tuple(models), prior=prior)


def _texts(head: HeadExamples) -> list[Ints]:
    """The rows of a head as whole texts; a row's last token is only its last target."""
    if head.text:
        return [np.array(head.text, dtype=np.int64)]
    return [np.array((*example.ids, example.targets[-1]), dtype=np.int64) for example in head.train]


def _ngram_scores(
    model: Ngram, corpora: Sequence[TokenizedCorpus], *, unknown: int | None = None
) -> "tuple[HeldOut, ...]":
    """Scores of the model on the held-out documents, source by source; as for other models, a source's first
    token is only read."""
    from lmtasks.training.heldout import HeldOut

    found = []
    for corpus in corpora:
        for source, size, tokens in corpus.held_out:
            ids = np.asarray(tokens, dtype=np.int64)
            if len(ids) < 2:
                continue
            states = model.read(model.start(1), ids[None])[0, :-1]
            nats = -float(model.score(states, ids[1:]).sum(dtype=np.float64))
            found.append(
                HeldOut(
                    source=source,
                    bytes=size,
                    tokens=len(ids) - 1,
                    token_perplexity=math.exp(nats / (len(ids) - 1)),
                    bits_per_byte=None
                    if unknown is not None and (ids == unknown).any()
                    else nats / math.log(2) / max(1, size),
                )
            )
    return tuple(found)
