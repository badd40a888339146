"""Texts to vectors: a sentence encoder, or a program of somebody's own, reads each text once."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmtasks.data.vectors import EmbeddingModel, read_vectors, text_key, write_vectors
from lmtasks.errors import UsageError, WorkError
from lmtasks.files import first_line, locked, parse_json
from lmtasks.processor import INSTRUCTIONS
from lmtasks.records import Progress

if TYPE_CHECKING:
    from lmtasks.settings.data import DataAccess
    from lmtasks.settings.training import EmbedText

AT_ONCE = 4096
"""Texts between two files of the work folder; a program is called once for so many."""
TOKENS_AT_ONCE = 4096
"""Of a batch that an encoder reads, padding counted."""
LONGEST_TOKENS = 512
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""N texts -> (N, D), each row of length one."""


@dataclass(frozen=True, kw_only=True)
class EmbedRequest:
    """Texts, and who is to make vectors of them."""

    text: EmbedText
    out: Path
    """File of the vectors."""
    device: str = "cpu"
    data: DataAccess


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A file of vectors."""

    count: int
    width: int
    known: int
    """Of the texts, those whose vectors an earlier try had left."""


def embed_texts(request: EmbedRequest, *, report: Callable[[Progress], None]) -> Embedded | None:
    """Write the vectors of the texts to the request's file; None where the same request has written them before.

    Work in progress lies in `out`.work: the same request goes on from there.

    Raises:
        UsageError: no texts, no encoder, or `out` holds other vectors.
        WorkError: the program fails, or prints anything but one list of numbers a text.
    """
    asked, out = request.text, request.out
    if (asked.model is None) == (asked.command is None):
        raise UsageError("vectors come from an encoder (--model) or from a program (--command); give one of them.")
    texts = _texts(request, report=report)
    if not texts:
        raise UsageError(f"{', '.join(asked.data)}: there is no text to make vectors of.")
    encoder, encode = (
        _program(asked) if asked.command is not None else open_encoder(asked, device=request.device, data=request.data)
    )
    if out.exists():
        there = read_vectors(out)
        if there.encoder == encoder and set(there.keys) == set(texts):
            return None
        raise UsageError(f"{out} holds vectors of other texts, or of another encoder; give another --out.")
    work = out.with_name(out.name + ".work")
    found: dict[bytes, NDArray[np.float16]] = {}
    with locked(out):
        work.mkdir(parents=True, exist_ok=True)
        for file in sorted(work.glob("*.safetensors")):
            part = read_vectors(file)
            if part.encoder != encoder:
                raise UsageError(f"{work} was begun with another encoder; give another --out, or delete it.")
            found.update((key, value) for key, value in zip(part.keys, part.values, strict=True) if key in texts)
        known = len(found)
        progress = Progress(stage="embed", done=known, total=len(texts), unit="texts")
        report(progress)
        width = None if not found else len(next(iter(found.values())))
        missing = [key for key in texts if key not in found]
        for first in range(0, len(missing), AT_ONCE):
            keys = missing[first : first + AT_ONCE]
            values = encode([texts[key] for key in keys])
            if width is not None and values.shape[1] != width:
                raise WorkError(f"{encoder.name} yields {values.shape[1]} numbers a text now, and {width} before.")
            width = values.shape[1]
            fresh = dict(zip(keys, values.astype(np.float16), strict=True))
            write_vectors(work / f"{keys[0].hex()}.safetensors", encoder=encoder, vectors=fresh)
            found.update(fresh)
            report(Progress(stage="embed", done=len(found), total=len(texts), unit="texts"))
        write_vectors(out, encoder=encoder, vectors=found)
        shutil.rmtree(work)
    return Embedded(count=len(found), width=width or 0, known=known)


def _texts(request: EmbedRequest, *, report: Callable[[Progress], None]) -> Mapping[bytes, str]:
    """Texts by their keys, ascending; of more than are asked for those with the smallest keys, so that a larger
    number keeps what a smaller one had."""
    from lmtasks.data.documents import passages, read_documents
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.training.teacher import token_texts

    asked = request.text
    if (asked.vocabulary is None) == (not asked.data):
        raise UsageError("texts come from --data or are the tokens of a --vocabulary; give one of them.")
    if asked.vocabulary is not None:
        return {text_key(text): text for text in token_texts(load_tokenizer(asked.vocabulary)).values()}
    found: dict[bytes, str] = {}
    for each in asked.data:
        documents = read_documents(each, column=asked.text, options=request.data, encoding=asked.encoding)
        for read, document in enumerate(documents, start=1):
            for text in passages(document.text, limit=asked.passages) if asked.passages else (document.text,):
                found[text_key(text)] = text
            if read % 1000 == 0:
                report(Progress(stage="read the texts", done=read, total=read, unit="documents"))
    return {key: found[key] for key in sorted(found)[: asked.count]}


def open_encoder(asked: EmbedText, *, device: str, data: DataAccess) -> tuple[EmbeddingModel, Encode]:
    """The model that is asked for, loaded, and how it makes vectors of texts.

    Raises:
        UsageError: no such model, a precision that the processor lacks, or attention that the model has not.
    """
    import torch

    from lmtasks.data.batches import pad, plan_batches
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.head.module import pooled
    from lmtasks.model.resolve import resolve
    from lmtasks.model.store import load_model
    from lmtasks.training.schedule import computes_bf16
    from lmtasks.workflow.new_backbone import pretrained_both_ways

    assert asked.model is not None
    if asked.precision == "bf16" and not computes_bf16(device):
        raise UsageError(f"precision bf16 needs a processor with {INSTRUCTIONS['bf16'].names}; use --precision fp32.")
    folder = resolve(asked.model, offline=data.offline, token=data.token)
    model = load_model(folder)
    model.to(device)
    traits, tokenizer = model.backbone.traits, load_tokenizer(model.folder)
    attention = asked.attention or ("both" if traits.kind == "causal" and pretrained_both_ways(folder) else None)
    if attention is not None:
        model.backbone.check_attention(attention)
    longest = min(asked.max_length or LONGEST_TOKENS, traits.max_length_tokens)
    pooling = asked.pooling or traits.pooling
    encoder = EmbeddingModel(
        name=model.card.name,
        hash=f"{model.card.weights_hash} {tokenizer.hash}",
        pooling=pooling,
        attention=attention,
        prefix=asked.prefix,
        max_length=longest,
        passages=asked.passages,
        note=asked.note,
    )

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [tokenizer.encode_for_head(asked.prefix + text) for text in texts]
        ids = [row.ids[:longest] or (traits.pad,) for row in rows]
        values = np.zeros((len(texts), traits.width), dtype=np.float32)
        for places in plan_batches([len(row) for row in ids], tokens_per_batch=TOKENS_AT_ONCE):
            batch = pad([ids[place] for place in places], pad_id=traits.pad)
            tokens, mask = (torch.from_numpy(each).to(device) for each in (batch.ids, batch.mask))
            with (
                torch.inference_mode(),
                torch.autocast(device, dtype=torch.bfloat16, enabled=asked.precision == "bf16"),
            ):
                hidden = model.encode(tokens, mask, attention=attention)
            values[list(places)] = pooled(hidden.float(), mask, pooling).cpu().numpy()
        return _of_length_one(values, name=encoder.name)

    return encoder, encode


def _program(asked: EmbedText) -> tuple[EmbeddingModel, Encode]:
    """A program that reads one JSON string a line and prints one JSON list of numbers a line."""
    assert asked.command is not None
    command = shlex.split(asked.command)
    if not command or shutil.which(command[0]) is None:
        raise UsageError(f"--command must begin with a program, was {asked.command!r}.")
    encoder = EmbeddingModel(
        name=asked.command,
        hash="",
        pooling="command",
        prefix=asked.prefix,
        passages=asked.passages,
        note=asked.note,
    )

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        lines = "".join(json.dumps(asked.prefix + text) + "\n" for text in texts)
        done = subprocess.run(command, input=lines, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it printed no error"]
            raise WorkError(f"{asked.command} ended with {done.returncode}: {said[-1]}")
        rows = list(_numbers(done.stdout, name=encoder.name))
        if len(rows) != len(texts):
            raise WorkError(
                f"{asked.command} printed {len(rows)} lines for {len(texts)} texts; it is to print one list of numbers "
                "for each line that it reads."
            )
        return _of_length_one(np.asarray(rows, dtype=np.float32), name=encoder.name)

    return encoder, encode


def _numbers(printed: str, *, name: str) -> Iterator[list[float]]:
    width = None
    for number, line in enumerate(printed.splitlines(), start=1):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise WorkError(f"{name}, line {number} of what it printed, is no JSON: {first_line(error)}") from error
        if not isinstance(row, list) or not row or not all(isinstance(item, int | float) for item in row):
            raise WorkError(f"{name}, line {number} of what it printed, is no list of numbers.")
        if width is not None and len(row) != width:
            raise WorkError(f"{name}, line {number} of what it printed, has {len(row)} numbers; the first has {width}.")
        width = len(row)
        yield [float(item) for item in row]


def _of_length_one(values: NDArray[np.float32], *, name: str) -> NDArray[np.float32]:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not all(map(math.isfinite, lengths[:, 0].tolist())):
        raise WorkError(f"{name} yields numbers that are not finite.")
    found: NDArray[np.float32] = values / np.maximum(lengths, 1e-12)
    return found
