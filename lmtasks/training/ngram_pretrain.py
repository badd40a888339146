"""Text to a model that counts it once: the same documents, tokens and held-out texts as `pretrain` has."""

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import numpy as np

from lmtasks.data.continuation import end_tokens
from lmtasks.data.corpus import TokenizedCorpus, tokenize_corpus
from lmtasks.data.documents import Document, survey
from lmtasks.errors import UsageError
from lmtasks.model.closed_form import FITTED, FittedModel, Ngram, NgramSizes, parse_fitted, save_fitted
from lmtasks.records import Progress
from lmtasks.training.closed_form import fit_text, fitted_card
from lmtasks.training.heldout import HeldOut
from lmtasks.training.pretrain import corpus_tokenizer


def count_text(
    *,
    corpora: Sequence[Iterable[Document]],
    family: str,
    vocabulary: int,
    seed: int,
    out: Path,
    report: Callable[[Progress], None],
    tokenizer_folder: Path | None = None,
) -> tuple[HeldOut, ...]:
    """Count all documents that are not held out, write the model folder `out`, and score those that are.

    Args:
        family: `ngram:order=5`.
        vocabulary: tokens to learn, when no `tokenizer_folder` is given.

    Raises:
        UsageError: the family predicts no tokens, or the text is too short for it.
    """
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
    scores = held_out_scores(model, tokens, unknown=tokenizer.unknown)
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


def held_out_scores(
    model: Ngram, corpora: Sequence[TokenizedCorpus], *, unknown: int | None = None
) -> tuple[HeldOut, ...]:
    """Scores of the model on the held-out documents, source by source; as for other models, a source's first
    token is only read."""
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
