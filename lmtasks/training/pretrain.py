"""Text to backbone: learn a tokenizer, train a causal language model on full windows, save a transformers folder."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lmtasks.data.corpus import (
    HELD_OUT_PER_MILLE,
    Document,
    TokenizedCorpus,
    WindowSampler,
    held_out,
    tokenize_corpus,
)
from lmtasks.data.tokenizer import Tokenizer, load_tokenizer, train_byte_bpe
from lmtasks.errors import UsageError
from lmtasks.model.create import Backbone, Vocabulary, check_window, new_language_model
from lmtasks.records import Progress
from lmtasks.training.card import HeldOut, PretrainingRecord, model_card, source_facts
from lmtasks.training.checkpoint import replace_folder
from lmtasks.training.attention import use_blocks, use_default
from lmtasks.training.loop import Batch, Trained, Validation, train
from lmtasks.training.objectives import next_token_loss
from lmtasks.training.settings import TrainingSettings
from lmtasks.training.starting import copy_start, load_start

TOKENIZER_SAMPLE_BYTES = 24_000_000
"""Text that the vocabulary is learned from; each corpus gives its share of the windows, or all that it has."""
VALIDATION_WINDOWS = 8
"""Windows of each source that an evaluation during the training looks at, a prefix."""


def pretrain(
    *,
    corpora: Sequence[Sequence[Document]],
    weights: Sequence[float],
    family: str,
    vocabulary: int,
    window: int,
    settings: TrainingSettings,
    out: Path,
    report: Callable[[Progress], None],
    tokenizer_folder: Path | None = None,
    start: Path | None = None,
    cool_now: bool = False,
    device: str = "cpu",
) -> tuple[Trained, tuple[HeldOut, ...]]:
    """Train a backbone and write it to `out` as a transformers folder; work in progress lies in `out`.work.

    Args:
        corpora: documents, one sequence a corpus.
        weights: share of the training windows that each corpus gets.
        family: `llama:width=256,layers=6`.
        vocabulary: tokens to learn, when no `tokenizer_folder` is given.
        window: tokens per row.
        start: where to begin: the work folder of another training (its checkpoint, optimizer and step are taken), or
            a backbone folder (its weights and tokenizer are). Looked at once; then `out`.work goes on by itself.
        cool_now: with `start`, the cool-down begins at its step, and `settings.steps` follow from that.

    Raises:
        UsageError: too little text, or a start or checkpoint that does not fit.
    """
    work = out.with_name(out.name + ".work")
    check_window(family, window)
    if start is not None:
        begun = copy_start(start, work)
        if cool_now:
            settings = replace(settings, steps=begun + settings.cooldown_steps)
    tokenizer = _tokenizer(
        corpora, weights=weights, vocabulary=vocabulary, given=tokenizer_folder, work=work, report=report
    )
    tokens = [
        tokenize_corpus(corpus, tokenizer=tokenizer, seed=settings.seed, folder=work / "tokens", report=report)
        for corpus in corpora
    ]
    if not any(corpus.held_out for corpus in tokens):
        raise UsageError(
            f"of {sum(map(len, corpora))} documents none was drawn for evaluation ({HELD_OUT_PER_MILLE} in 1,000 are); "
            "give at least 1,000 documents, or cut long ones into paragraphs."
        )
    module = new_language_model(
        family,
        Vocabulary(size=tokenizer.vocabulary, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad),
        seed=settings.seed,
    )
    load_start(work, module)
    if settings.compile:
        use_blocks(module)
    sampler = WindowSampler([corpus.train for corpus in tokens], weights=weights, window=window, seed=settings.seed)
    rows = settings.batch_rows // settings.accumulate

    def batch_at(step: int, part: int) -> Batch:
        return {"ids": torch.from_numpy(sampler.rows(step * settings.batch_rows + part * rows, rows))}

    def validate() -> Validation:
        scores = _all_scores(module, tokens, window=window, limit=VALIDATION_WINDOWS)
        value = sum(s.bits_per_byte * s.bytes for s in scores) / sum(s.bytes for s in scores)
        return Validation(value=value, parts={score.source: score.bits_per_byte for score in scores})

    trained = train(
        module=module,
        loss=next_token_loss,
        batch_at=batch_at,
        settings=settings,
        folder=work,
        data_key=f"{tokenizer.hash} {family} {window} {list(weights)} {[len(corpus.train) for corpus in tokens]}",
        validate=validate if settings.evaluate_every else None,
        higher_is_better=False,
        report=report,
        device=device,
    )
    use_default(module)
    held = _all_scores(module, tokens, window=window, limit=None)
    record = PretrainingRecord(
        family=family,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        vocabulary=tokenizer.vocabulary,
        window=window,
        weights=tuple(weights),
        settings=settings,
        steps=trained.steps,
        seconds=trained.seconds,
        stopped=trained.stopped,
        tokens_seen=trained.steps * settings.batch_rows * window,
        tokens_available=tuple(len(corpus.train) for corpus in tokens),
        sources=source_facts(corpora),
        held_out=held,
    )
    _save(module, tokenizer, record, out)
    return trained, held


@torch.no_grad()
def held_out_scores(module: nn.Module, corpus: TokenizedCorpus, *, window: int, limit: int | None) -> list[HeldOut]:
    """Held-out loss by source over disjoint windows, the first `limit` of each source (None: all)."""
    module.eval()
    scores = []
    for source, size, tokens in corpus.held_out:
        ids = np.asarray(tokens, dtype=np.int64)
        nats, count = 0.0, 0
        for number, start in enumerate(range(0, len(ids) - 1, window)):
            if limit is not None and number >= limit:
                break
            row = torch.from_numpy(ids[start : start + window + 1][None])
            nats += float(next_token_loss(module, {"ids": row.to(_device(module))})) * (row.shape[1] - 1)
            count += row.shape[1] - 1
        share = size * count / max(1, len(ids) - 1)
        scores.append(
            HeldOut(
                source=source,
                bytes=round(share),
                tokens=count,
                token_perplexity=math.exp(nats / max(1, count)),
                bits_per_byte=nats / math.log(2) / max(1.0, share),
            )
        )
    return scores


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _all_scores(
    module: nn.Module, tokens: Sequence[TokenizedCorpus], *, window: int, limit: int | None
) -> tuple[HeldOut, ...]:
    return tuple(score for corpus in tokens for score in held_out_scores(module, corpus, window=window, limit=limit))


def _tokenizer(
    corpora: Sequence[Sequence[Document]],
    *,
    weights: Sequence[float],
    vocabulary: int,
    given: Path | None,
    work: Path,
    report: Callable[[Progress], None],
) -> Tokenizer:
    if given is not None or (work / "tokenizer.json").is_file():
        return load_tokenizer(given or work)
    report(Progress(stage="learn the vocabulary", done=0, total=1, unit="tokenizer"))
    sample: list[str] = []
    for corpus, weight in zip(corpora, weights, strict=True):
        size = 0
        for index in np.random.default_rng(0).permutation(len(corpus)):
            if size > TOKENIZER_SAMPLE_BYTES * weight / sum(weights):
                break
            if not held_out(corpus[index].text):
                sample.append(corpus[index].text)
                size += len(corpus[index].text.encode())
    tokenizer = train_byte_bpe(sample, vocabulary=vocabulary)
    if tokenizer.vocabulary < vocabulary:
        raise UsageError(
            f"the text supports a vocabulary of {tokenizer.vocabulary:,} tokens, fewer than the {vocabulary:,} asked "
            f"for; give --vocabulary {tokenizer.vocabulary} or less, or more text."
        )
    work.mkdir(parents=True, exist_ok=True)
    tokenizer.save(work)
    report(Progress(stage="learn the vocabulary", done=1, total=1, unit="tokenizer"))
    return tokenizer


def _save(module: Backbone, tokenizer: Tokenizer, record: PretrainingRecord, out: Path) -> None:
    aside = out.with_name(out.name + ".part")
    aside.mkdir(parents=True, exist_ok=True)
    module.to(torch.bfloat16).save(aside)
    tokenizer.save(aside)
    (aside / "pretraining.json").write_text(json.dumps(record.json(), indent=2) + "\n", encoding="utf-8")
    (aside / "README.md").write_text(model_card(out.name, record), encoding="utf-8")
    replace_folder(aside, out)
