"""Text to backbone: learn a tokenizer, train on full windows by an objective, save a folder."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from lmtasks.data.corpus import WindowSampler, tokenize_corpus
from lmtasks.data.documents import CorpusFacts, Document, survey
from lmtasks.data.tokenizer import MASK, Tokenizer, load_tokenizer, train_byte_bpe
from lmtasks.data.vectors import read_vectors
from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.held_out import HELD_OUT_PER_MILLE, held_out
from lmtasks.model.create import Backbone, Vocabulary, check_window, kind_of_family, new_language_model
from lmtasks.model.verify import write_checksums
from lmtasks.records import Progress
from lmtasks.settings.training import TEACHER_WEIGHT, TrainingSettings
from lmtasks.training.attention import use_blocks, use_default
from lmtasks.training.card import PretrainingRecord, model_card
from lmtasks.training.checkpoint import CURVE, RECORD, begun_from, copy_start, load_start, replace_folder
from lmtasks.training.curve import LOG, Record, read_log, thinned
from lmtasks.training.heldout import HeldOut, held_out_scores, overall, read_reference_scores, sample_text
from lmtasks.training.loop import Trained, train
from lmtasks.training.objectives import (
    ObjectiveModule,
    make_batch,
    marks_of,
    objective_for,
    objective_loss,
    share_hidden,
)
from lmtasks.training.stepping import Batch, measured_work
from lmtasks.training.teacher import Lessons, Taught, TeacherModule, begin_embeddings, prepare_lessons
from lmtasks.training.validation import Validation

TOKENIZER_SAMPLE_BYTES = 24_000_000
"""Text that the vocabulary is learned from; each corpus gives its share of the windows, or all that it has."""
BEGIN_TOKENS = 12
"""Characters of a row that people are to find again."""
VALIDATION_WINDOWS = 8
"""Windows of each source that an evaluation during the training looks at, a prefix."""


def pretrain(
    *,
    corpora: Sequence[Iterable[Document]],
    weights: Sequence[float] | None,
    family: str,
    vocabulary: int,
    window: int,
    settings: TrainingSettings,
    out: Path,
    report: Callable[[Progress], None],
    objective_name: str | None = None,
    hidden: float | None = None,
    tokenizer_folder: Path | None = None,
    teacher: Path | None = None,
    teacher_weight: float = TEACHER_WEIGHT,
    embeddings: Path | None = None,
    start: Path | None = None,
    cool_now: bool = False,
    beside: Path | None = None,
    device: str = "cpu",
    complete: Callable[[Path], None] = lambda folder: None,
) -> tuple[Trained, tuple[HeldOut, ...]]:
    """Train a backbone and write it to `out` as a transformers folder; work in progress lies in `out`.work.

    Args:
        corpora: documents, gone through several times.
        weights: share of the training windows that each corpus gets; None: by its bytes.
        family: `llama:width=256,layers=6`.
        vocabulary: tokens to learn, when no `tokenizer_folder` is given.
        window: tokens per row.
        objective_name: what is learned; None: what suits the family.
        hidden: share of the tokens that an objective hides; None: 0.15 by those that hide some.
        teacher: vectors of the text's passages that pooled hidden states are pulled towards, in every part of a step
            that is read both ways.
        teacher_weight: of that, beside the objective.
        embeddings: vectors of the vocabulary's tokens that their embeddings begin at.
        start: where to begin: the work folder of another training (its checkpoint, optimizer and step are taken), or
            a backbone folder (its weights and tokenizer are). Looked at once; then `out`.work goes on by itself.
        cool_now: with `start`, the cool-down begins at its step, and `settings.steps` follow from that.
        beside: folder of a counted model of the same text; the card shows its held-out scores too.
        complete: adds to the folder what else belongs into it, before it gets its name.

    Raises:
        UsageError: too little text, a share that is none, or a start or checkpoint that does not fit.
    """
    state = PartialState(cpu=device == "cpu")
    work = out.with_name(out.name + ".work")
    check_window(family, window)
    name, objective = objective_for(objective_name, kind=kind_of_family(family), family=family)
    share = share_hidden(hidden, name)
    vectors = read_vectors(teacher) if teacher is not None else None
    token_vectors = read_vectors(embeddings) if embeddings is not None else None
    compared = read_reference_scores(beside) if beside is not None else None
    if start is not None:
        with state.main_process_first():
            begun = copy_start(start, work)
        if cool_now:
            settings = settings.but({"steps": begun + settings.cooldown_steps})
    facts = tuple(survey(corpus, corpus=number) for number, corpus in enumerate(corpora))
    weights = weights or [float(fact.bytes) for fact in facts]
    with state.main_process_first():  # the others then find it all made
        tokenizer = corpus_tokenizer(
            corpora,
            facts,
            weights=weights,
            vocabulary=vocabulary,
            special=objective.marks(window, share),
            given=tokenizer_folder,
            work=work,
            report=report,
        )
        tokens = [
            tokenize_corpus(
                corpus, facts=fact, tokenizer=tokenizer, seed=settings.seed, folder=work / "tokens", report=report
            )
            for corpus, fact in zip(corpora, facts, strict=True)
        ]
    marks = marks_of(tokenizer, objective, window=window, share=share)
    if not any(corpus.held_out for corpus in tokens):
        raise UsageError(
            f"of {sum(fact.documents for fact in facts)} documents none was drawn for evaluation "
            f"({HELD_OUT_PER_MILLE} in 1,000 are); give at least 1,000 documents, or cut long ones into paragraphs."
        )
    backbone = new_language_model(
        family,
        Vocabulary(
            size=tokenizer.vocabulary,
            bos=tokenizer.bos,
            eos=tokenizer.eos,
            pad=tokenizer.pad,
            mask=tokenizer.raw.token_to_id(MASK),
        ),
        seed=settings.seed,
    )
    begun_tokens = None
    if token_vectors is not None:
        begun_tokens = Taught(
            encoder=token_vectors.encoder,
            vectors=token_vectors.hash,
            passages=begin_embeddings(backbone, token_vectors, tokenizer, name=str(embeddings)),
        )
    load_start(work, backbone, special=objective.marks(window, share))
    if settings.compile:
        use_blocks(backbone)
    names = [" + ".join(source.source for source in fact.sources) for fact in facts]
    sampler = WindowSampler(
        [corpus.train for corpus in tokens], weights=weights, window=window, seed=settings.seed, names=names
    )
    count = settings.batch_rows // settings.accumulate
    lessons = None
    if vectors is not None:
        if not any(part.both_ways for part in (objective, *objective.turns)):
            raise UsageError(
                f"a teacher is learned from text that is read both ways, and the objective {name} reads none."
            )
        backbone.check_attention("both")  # asked here, and known in a compiled step
        with state.main_process_first():
            lessons = prepare_lessons(
                vectors,
                corpora,
                name=str(teacher),
                tokenizer=tokenizer,
                tokens=count * window,
                seed=settings.seed,
                folder=work / "tokens",
                report=report,
            )
    if objective.turns:
        _check_turns(backbone, name, len(objective.turns), settings.accumulate)

    def batch_at(step: int, part: int) -> Batch:
        first = step * settings.batch_rows + part * count
        learned = objective.for_part(part)
        batch = make_batch(
            [
                learned.row(row, marks, np.random.default_rng((settings.seed, number)))
                for number, row in enumerate(sampler.rows(first, count), start=first)
            ]
        )
        if lessons is None or not learned.both_ways:
            return batch
        return batch | lessons.batch(step * settings.accumulate + part)

    def name_batch(step: int) -> str:
        numbers = range(step * settings.batch_rows, (step + 1) * settings.batch_rows)
        sources = ", ".join(dict.fromkeys(names[sampler.place(number)[0]] for number in numbers))
        begin = tokenizer.decode(sampler.rows(numbers[0], 1)[0, :BEGIN_TOKENS].tolist())
        return f"rows {numbers[0]} to {numbers[-1]} (from {sources}; the first begins {begin!r})"

    texts = [ids for corpus in tokens for _, _, ids in corpus.held_out]
    turns = itertools.count()

    def validate() -> Validation:
        scores = held_out_scores(
            backbone,
            tokens,
            objective=objective,
            marks=marks,
            window=window,
            limit=VALIDATION_WINDOWS,
            unknown=tokenizer.unknown,
        )
        text = np.asarray(texts[next(turns) % len(texts)], dtype=np.int64)
        shown = sample_text(backbone, text, objective=objective, marks=marks, tokenizer=tokenizer)
        report(Progress(stage="sample", done=1, total=1, unit="text", note=shown))
        parts = {score.source: overall([score]) for score in scores}
        for other in objective.turns[1:]:  # of what is hidden, in nats a token
            masked = held_out_scores(
                backbone, tokens, objective=other, marks=marks, window=window, limit=VALIDATION_WINDOWS
            )
            parts["hidden tokens"] = overall(masked)
        if (apart := _from_teacher(learner, lessons)) is not None:
            parts["teacher"] = apart
        return Validation(value=overall(scores), parts=parts)

    torch.manual_seed(settings.seed)
    learner = ObjectiveModule(
        backbone,
        objective,
        None if lessons is None else TeacherModule(backbone.traits.width, lessons),
        weight=teacher_weight,
    )
    trained = train(
        module=learner,
        loss=objective_loss,
        batch_at=batch_at,
        settings=settings,
        folder=work,
        data_key=_key(
            tokenizer,
            f"{name} {share}" if marks.spans else name,
            family,
            window,
            weights,
            [len(corpus.train) for corpus in tokens],
            "" if token_vectors is None else f" {token_vectors.hash}",
        ),
        teacher_key="" if vectors is None else f"{vectors.hash} {teacher_weight}",
        validate=validate if settings.evaluate_every else None,
        higher_is_better=False,
        report=report,
        device=device,
        name_batch=name_batch,
        work=measured_work(
            learner.to(state.device),
            {name: tensor[:1].to(state.device) for name, tensor in batch_at(0, 0).items()},
            rows=settings.batch_rows,
            tokens_per_row=window,
            bf16=settings.precision == "bf16",
            processes=state.num_processes,
        ),
    )
    use_default(backbone)
    held = held_out_scores(backbone, tokens, objective=objective, marks=marks, window=window, unknown=tokenizer.unknown)
    begun_with = begun_from(work)
    record = PretrainingRecord(
        objective=name,
        hidden=share if marks.spans else None,
        family=family,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        vocabulary=tokenizer.vocabulary,
        window=window,
        weights=tuple(weights),
        settings=settings,
        steps=trained.steps,
        seconds=trained.seconds,
        stopped=trained.stopped,
        tokens_seen=trained.steps * settings.batch_rows * window,
        tokens_available=tuple(len(corpus.train) for corpus in tokens),
        sources=tuple(source for fact in facts for source in fact.sources),
        held_out=held,
        begun_from=begun_with.name if begun_with else None,
        before=begun_with.record if begun_with else None,
        beside=compared,
        teacher=None
        if vectors is None or lessons is None
        else Taught(
            encoder=vectors.encoder,
            vectors=vectors.hash,
            passages=lessons.passages,
            weight=teacher_weight,
            held_out=_from_teacher(learner, lessons),
        ),
        embeddings=begun_tokens,
    )
    if state.is_main_process:
        curve = thinned(read_log(work / LOG))
        if begun_with and begun_with.stages:
            curve = [*begun_with.curve, *({**point, "stage": begun_with.stages + 1} for point in curve)]
        _save(backbone, tokenizer, record, curve, out, complete=complete)
    state.wait_for_everyone()
    return trained, held


def is_pretrained(out: Path, *, family: str, window: int, settings: TrainingSettings) -> bool:
    """Does `out` hold a backbone that was trained so?"""
    try:
        record = parse_json((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    asked = {"family": family, "window": window, "settings": settings.stored()}
    return isinstance(record, dict) and json.loads(json.dumps(asked)) == {name: record.get(name) for name in asked}


def _check_turns(backbone: Backbone, name: str, turns: int, accumulate: int) -> None:
    """Raises: UsageError: the parts of a step do not come out even, or the backbone cannot be read both ways."""
    if accumulate % turns:
        raise UsageError(f"{name} has {turns} turns, so --accumulate must be a multiple of that, was {accumulate}.")
    ids = torch.arange(4)[None] % backbone.traits.vocabulary
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % backbone.traits.vocabulary
    with torch.no_grad():
        places = torch.tensor([[1]])
        if torch.equal(backbone.fill(ids, places), backbone.fill(other, places)):
            raise UsageError(
                f"{backbone.traits.family} attends to earlier tokens alone; {name} needs one that can do both."
            )


@torch.no_grad()
def _from_teacher(learner: ObjectiveModule, lessons: Lessons | None) -> float | None:
    """One minus the mean cosine to the teacher over held-out passages; None: there is no teacher, or there are none."""
    judged = None if lessons is None else lessons.judged()
    if judged is None or learner.teacher is None:
        return None
    device = next(learner.parameters()).device
    loss: torch.Tensor = learner.teacher(learner.backbone, {name: each.to(device) for name, each in judged.items()})
    return float(loss)


def _key(
    tokenizer: Tokenizer,
    objective: str,
    family: str,
    window: int,
    weights: Sequence[float],
    sizes: Sequence[int],
    embeddings: str,
) -> str:
    return f"{tokenizer.hash} {objective} {family} {window} {list(weights)} {list(sizes)}{embeddings}"


def corpus_tokenizer(
    corpora: Sequence[Iterable[Document]],
    facts: Sequence[CorpusFacts],
    *,
    weights: Sequence[float],
    vocabulary: int,
    special: Sequence[str],
    given: Path | None,
    work: Path,
    report: Callable[[Progress], None],
) -> Tokenizer:
    """The tokenizer that was given, or was learned before in `work`, or is learned now from a sample of the text;
    with the special tokens that it lacks.

    Raises:
        UsageError: the text supports no such vocabulary.
    """
    if given is not None or (work / "tokenizer.json").is_file():
        return load_tokenizer(given or work).with_special(special)
    report(Progress(stage="learn the vocabulary", done=0, total=1, unit="tokenizer"))
    sample = (
        document.text
        for corpus, fact, weight in zip(corpora, facts, weights, strict=True)
        for document in corpus
        if _drawn(document.text, TOKENIZER_SAMPLE_BYTES * weight / sum(weights) / max(1, fact.bytes))
    )
    tokenizer = train_byte_bpe(sample, vocabulary=vocabulary, special=special)
    if tokenizer.vocabulary < vocabulary:
        raise UsageError(
            f"the text supports a vocabulary of {tokenizer.vocabulary:,} tokens, fewer than the {vocabulary:,} asked "
            f"for; give --vocabulary {tokenizer.vocabulary} or less, or more text."
        )
    work.mkdir(parents=True, exist_ok=True)
    tokenizer.save(work)
    report(Progress(stage="learn the vocabulary", done=1, total=1, unit="tokenizer"))
    return tokenizer


def _drawn(text: str, share: float) -> bool:
    """Is this document one of the share that the vocabulary is learned from? By its content, in any order."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return int(digest[8:16], 16) < share * 2**32 and not held_out(text)


def _save(
    backbone: Backbone,
    tokenizer: Tokenizer,
    record: PretrainingRecord,
    curve: Sequence[Record],
    out: Path,
    *,
    complete: Callable[[Path], None],
) -> None:
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    backbone.to(torch.bfloat16).save(aside)
    tokenizer.save(aside)
    (aside / RECORD).write_text(json.dumps(record.json(), indent=2) + "\n", encoding="utf-8")
    (aside / "README.md").write_text(model_card(out.name, record, curve), encoding="utf-8")
    (aside / CURVE).write_text("".join(json.dumps(point) + "\n" for point in curve), encoding="utf-8")
    complete(aside)
    write_checksums(aside)
    replace_folder(aside, out)
