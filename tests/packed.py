"""Tiny models and their packages, each made once for all tests of a run, also where several processes share them:
exporting takes seconds a graph."""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tiny import ARCHITECTURES, TEXTS, tiny_tokenizer

from lmtasks.backbone.family import new_backbone
from lmtasks.backbone.sizes import Vocabulary
from lmtasks.data.continuation import end_tokens
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.export.ranges import CalibrationRow
from lmtasks.model.closed_form import FittedModel, NgramClasses, NgramSizes, save_fitted
from lmtasks.model.store import load_model, save_model
from lmtasks.prove.export import export_and_prove
from lmtasks.records import Bools, Floats32, HeadSpec, TokenBatch
from lmtasks.runtime.align import every_next
from lmtasks.runtime.base import Runtime
from lmtasks.runtime.open import open_runtime
from lmtasks.settings.runtimes import MADE_FOR, package_label, runs_packages
from lmtasks.training.closed_form import fit_text, fitted_card

HEADS = (
    HeadSpec(name="mood", kind="classification", labels=("bad", "fair", "good"), pooling="last"),
    HeadSpec(name="topic", kind="classification", labels=("sport", "art"), pooling="mean"),
    HeadSpec(name="find", kind="span"),
    HeadSpec(name="tag", kind="tagging", labels=("O", "B", "I")),
    HeadSpec(name="say", kind="generation"),
)
PREDICTING = tuple(head.name for head in HEADS if head.kind != "generation")
OWN: Mapping[str, str] = {
    "bilstm": "bilstm:width=16,layers=2",
    "bigru": "bigru:width=16,layers=1",
    "cnn": "cnn:width=12,filters=8,widths=1+2+5",
    "average": "average:width=12,buckets=100",
}
"""Families of our own, as `lmtasks adapt` makes them."""
WRITING_OWN: Mapping[str, str] = {
    "rnn": "rnn:width=16,layers=1",
    "lstm": "lstm:width=16,layers=2",
    "gru": "gru:width=16,layers=2",
}
"""Language models of our own families, as `lmtasks pretrain` makes them."""
HIGHEST = HeadSpec(name="high", kind="classification", labels=("low", "high"), pooling="max")
"""What families of our own take besides."""
WITH_HEADS = ("llama", "bert", "modernbert", *OWN, *WRITING_OWN)
PAIRS = ("marian", "bart", "t5", "blenderbot")
"""Encoder-decoders."""
TRACED = frozenset({"blenderbot"})
"""No graphs are built for them: torch's exporter traces them, which takes ten times as long."""
LANGUAGE_MODELS = ("llama", "gpt2", *PAIRS)
VOCABULARY = 290
_RANDOM = np.random.default_rng(7)
CALIBRATION = tuple(
    CalibrationRow(ids=tuple(_RANDOM.integers(2, VOCABULARY, int(_RANDOM.integers(3, 20))).tolist()))
    for _ in range(120)
)
"""What stands for real rows, of `int8-static`."""
CATS_AND_DOGS = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a dog saw a cat on the mat",
    "a cat saw the dog sat",
] * 3
ONE_LAYER: Mapping[str, Mapping[str, int]] = {
    "llama": {"num_hidden_layers": 1},
    "bert": {"num_hidden_layers": 1},
    **{name: {"encoder_layers": 1, "decoder_layers": 1, "num_hidden_layers": 1} for name in ("marian", "blenderbot")},
}
"""Export takes as long as there are layers; the others keep their two, so that mixing up layers is found."""


@cache
def place() -> Path:
    """A folder that is removed when the tests end."""
    folder = tempfile.mkdtemp(prefix="lmtasks-packed-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def shared() -> Path:
    """The folder that all processes of this test run share; `place()` where nobody made one."""
    return Path(os.environ["LMTASKS_TESTS_SHARED"]) if "LMTASKS_TESTS_SHARED" in os.environ else place()


@contextmanager
def made_once(name: str) -> Iterator[Path]:
    """A path in the shared folder, held against other processes: make it, unless it is there."""
    with (shared() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared() / name


@cache
def model_folder(name: str, seed: int = 0) -> Path:
    """A random model; those `WITH_HEADS` with heads of every kind."""
    with made_once(f"{name}-{seed}") as plain:
        if not plain.exists():
            _save_checkpoint(name, seed, plain)
    if name not in WITH_HEADS:
        return plain
    with made_once(f"{name}-{seed}-heads") as folder:
        if not folder.exists():
            model = load_model(plain)
            torch.manual_seed(seed)
            model.add_heads((*HEADS, HIGHEST) if name in OWN or name in WRITING_OWN else HEADS)
            with torch.no_grad():
                for parameter in model.heads.parameters():
                    parameter.normal_(0.0, 0.3)
            save_model(model, folder, provenance={"made": "by a test"})
    return folder


def package(name: str, precision: str = "fp32", made_for: str = MADE_FOR) -> Path:
    """The model of seed 0 exported for a runtime and proved there."""
    base = None if (precision, made_for) == ("fp32", MADE_FOR) else package(name)
    with made_once(f"{name}-{package_label(made_for, precision)}.package") as out:
        if not out.exists():
            export_and_prove(
                model_folder(name),
                out=out,
                precision=precision,
                texts=TEXTS,
                report=lambda progress: None,
                base=base,
                threads=1,
                rows=CALIBRATION if precision == "int8-static" else (),
                runtime=made_for,
            )
    return out


@cache
def runtime(kind: str, name: str, precision: str = "fp32") -> Runtime:
    """`torch`, `onnx` or `openvino` over a tiny model, open until the tests end."""
    folder = package(name, precision, kind) if runs_packages(kind) else model_folder(name)
    return open_runtime(folder, runtime=kind, precision=precision, threads=1)


def native_folder() -> Path:
    """An n-gram model with a head of two classes: texts of cats, and of dogs."""
    with made_once("native") as place_:
        if not place_.exists():
            _save_fitted(place_)
    return place_ / "model"


def random_rows(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Rows of random tokens."""
    random = np.random.default_rng(seed)
    return [random.integers(2, VOCABULARY, length).tolist() for length in lengths]


def padded(rows: list[list[int]], side: str = "right") -> TokenBatch:
    """Rows as a batch; what stands at padded places is some token, which must not matter."""
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.full(shape, 7, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for number, row in enumerate(rows):
        place_ = slice(0, len(row)) if side == "right" else slice(shape[1] - len(row), shape[1])
        ids[number, place_], mask[number, place_] = row, True
    return TokenBatch(ids=ids, mask=mask)


@dataclass(frozen=True)
class NextScores:
    """Of every token of a batch behind those before it, (B, T - 1) in the batch's layout; 0 and False elsewhere."""

    logprobs: Floats32
    greedy: Bools


def score_all(runtime: Runtime, batch: TokenBatch, source: TokenBatch | None = None) -> NextScores:
    """Score whole rows."""
    read, wanted = every_next(batch)
    scores = runtime.score(read, wanted, source=source)
    shape = (batch.ids.shape[0], batch.ids.shape[1] - 1)
    found = NextScores(logprobs=np.zeros(shape, dtype=np.float32), greedy=np.zeros(shape, dtype=np.bool_))
    found.logprobs[wanted.rows, wanted.columns] = scores.logprobs
    found.greedy[wanted.rows, wanted.columns] = scores.greedy
    return found


def _save_checkpoint(name: str, seed: int, folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    if name in OWN or name in WRITING_OWN:
        backbone = new_backbone(
            {**OWN, **WRITING_OWN}[name], Vocabulary(size=tokenizer.vocabulary, bos=0, eos=0, pad=1)
        )
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.normal_(0.0, 0.4)
        backbone.save(folder)
        tokenizer.save(folder)
        return
    model = ARCHITECTURES[name](tokenizer.vocabulary, 64)
    if name in ONE_LAYER:
        model.config.update(dict(ONE_LAYER[name]))
        kept = {"add_pooling_layer": False} if name == "bert" else {}
        model = type(model)(model.config, **kept)
    with torch.no_grad():  # larger than transformers' own start, so that different inputs give different answers
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    tokenizer.save(folder)


def _save_fitted(folder: Path) -> None:
    folder.mkdir()
    tokenizer = learn_tokenizer("words:50", CATS_AND_DOGS)
    tokenizer.save(folder)
    ends, sizes = end_tokens(tokenizer, lines=True), NgramSizes(order=3, fallback=1)
    rows = [np.array([*tokenizer.encode(text), tokenizer.eos]) for text in CATS_AND_DOGS]
    models = [fit_text(part, sizes, vocabulary=tokenizer.vocabulary, ends=ends) for part in (rows[::4], rows[2::4])]
    card = fitted_card("ngram", name="small", tokenizer=tokenizer, predicts=True)
    head = HeadSpec(name="which", kind="classification", labels=("sat", "saw"))
    model = FittedModel(
        card=replace(card, heads=(head, HeadSpec(name="say", kind="generation"))),
        sizes=sizes,
        ends=ends,
        text=fit_text(rows, sizes, vocabulary=tokenizer.vocabulary, ends=ends),
        heads={"which": NgramClasses(models=tuple(models), prior=np.log([0.25, 0.75]).astype(np.float32))},
    )
    save_fitted(model, folder / "model", tokenizer=folder, provenance={"made": "here"})
