"""Small models through the engine, beside plain onnxruntime over the same package and torch's packed sequences: what
our own Python costs where a model answers in a quarter of a millisecond.

    python benchmarks/bench_small_models.py [--families bilstm,bigru] [--rounds 5] [--rows 256] [--prepare]

One by one: a text a call, for heads of every kind. Batch 1 and 32: all texts in one call. Plain onnxruntime is a loop
of anybody's over `InferenceSession.run`, in each thread layout; the best of them counts. All take turns, in an order
that is drawn for each round; ratios are of medians. Weights are random, rows are of 4 to 60 tokens. Packages are made
once, in runs/small-models (`--prepare`: and no more).
"""

import argparse
import random
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from lmtasks.backbone.family import new_backbone
from lmtasks.backbone.sizes import Vocabulary
from lmtasks.bench.machine import machine
from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.engine import Engine
from lmtasks.export.emit import export_model
from lmtasks.head.base import EncodedRow
from lmtasks.model.store import load_model, save_model
from lmtasks.records import HeadSpec
from lmtasks.runtime.open import open_runtime

ROOT = Path(__file__).parent.parent
WORDS, WIDTH, THREADS, TEXT = 20_000, 208, 2, "classification"
LABELS = tuple(f"label {number}" for number in range(8))
HEADS = (
    HeadSpec(name=TEXT, kind="classification", labels=LABELS, pooling="max"),
    HeadSpec(name="multi_label", kind="multi_label", labels=LABELS),
    HeadSpec(name="regression", kind="regression"),
    HeadSpec(name="ranking", kind="ranking"),
    HeadSpec(name="embedding", kind="embedding", width=WIDTH),
    HeadSpec(name="span", kind="span"),
    HeadSpec(name="tagging", kind="tagging", labels=("O", "B-a", "I-a")),
    HeadSpec(name="semantic_roles", kind="semantic_roles", labels=("O", "B-V", "I-V")),
)
Rows = Sequence[tuple[int, ...]]
Way = Callable[[], object]


def make_packages(family: str, folder: Path) -> Mapping[str, Path]:
    """A package for each head, over one random backbone, by name; what is there is not made again."""
    packages = {head.name: folder / f"{head.name}-onnx" for head in HEADS}
    if all(package.is_dir() for package in packages.values()):
        return packages
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    tokenizer = train_byte_bpe(["the river runs past the old mill to the sea"], vocabulary=270)
    backbone = new_backbone(f"{family}:width={WIDTH}", Vocabulary(size=WORDS, bos=0, eos=0, pad=1))
    backbone.save(folder / "backbone")
    tokenizer.save(folder / "backbone")
    for head in HEADS:
        model = load_model(folder / "backbone")
        model.add_heads([head])
        save_model(model, folder / head.name, provenance={"made": "for a race"})
        aside = folder / "part"
        aside.mkdir()
        export_model(folder / head.name, out=aside, precision="fp32", report=lambda progress: None)
        aside.rename(packages[head.name])
    return packages


class Plain:
    """onnxruntime over a package, as anybody would use it."""

    def __init__(self, package: Path, head: str) -> None:
        file = package / "heads.onnx"
        self._output = [f"head.{head}"]
        self._sessions = {threads: self._session(file, threads) for threads in (1, THREADS)}
        self._pool = ThreadPoolExecutor(THREADS)

    def one_by_one(self, rows: Rows, *, threads: int) -> None:
        """A call after the other."""
        for row in rows:
            self._run([row], threads)

    def batches(self, rows: Rows, *, size: int, threads: int) -> None:
        """Of rows as they stand, longest first: one after the other, or by callers of one thread each."""
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        if threads == 1:
            list(self._pool.map(partial(self._run, threads=1), parts))
        else:
            for part in parts:
                self._run(part, threads)

    def _run(self, rows: Rows, threads: int) -> None:
        ids = np.ones((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=np.bool_)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = row, True
        self._sessions[threads].run(self._output, {"ids": ids, "mask": mask})

    @staticmethod
    def _session(file: Path, threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


class Packed:
    """torch.nn's layers over packed sequences, with the shape of the model, in each thread layout."""

    def __init__(self, family: str) -> None:
        kind: type[torch.nn.RNNBase] = torch.nn.LSTM if family == "bilstm" else torch.nn.GRU
        self._table = torch.nn.Embedding(WORDS, WIDTH)
        self._layers = kind(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
        self._output = torch.nn.Linear(WIDTH, len(LABELS))
        self._pool = ThreadPoolExecutor(THREADS)

    def batches(self, rows: Rows, *, size: int, callers: int) -> None:
        """Of rows as they stand, longest first."""
        torch.set_num_threads(THREADS // callers)
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        list(self._pool.map(self._run, parts) if callers > 1 else map(self._run, parts))

    @torch.inference_mode()
    def _run(self, rows: Rows) -> None:
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        packed = pack_padded_sequence(self._table(ids), torch.tensor([len(row) for row in rows]), batch_first=True)
        hidden, _ = pad_packed_sequence(self._layers(packed)[0], batch_first=True, padding_value=float("-inf"))
        self._output(hidden.amax(1))


def medians(ways: Mapping[str, Way], *, rounds: int) -> dict[str, float]:
    """Seconds of each way, all taking turns; a first turn of each warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    draw = random.Random(0)
    for number in range(rounds + 1):
        for name in draw.sample(list(ways), len(ways)):
            began = perf_counter()
            ways[name]()
            if number:
                seconds[name].append(perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def race(family: str, packages: Mapping[str, Path], *, count: int, rounds: int) -> None:
    """Print the rates and ratios of one family."""
    draw = np.random.default_rng(0)
    lengths = sorted(np.clip(draw.lognormal(3.0, 0.55, count), 4, 60).astype(int).tolist(), reverse=True)
    rows: Rows = [tuple(draw.integers(2, WORDS, length).tolist()) for length in lengths]
    encoded = [EncodedRow(ids=row, types=(0,) * len(row), truncated=False) for row in rows]
    packed = Packed(family)
    for head, package in packages.items():
        runtime = open_runtime(package, runtime="onnx", threads=THREADS)
        plain, tokenizer = Plain(package, head), train_byte_bpe(["a"], vocabulary=260)

        def alone(engine: Engine, head: str = head) -> None:
            for row in encoded:
                engine.predict(head, [row])

        ways: dict[str, Way] = {
            "engine, one by one": partial(alone, Engine(runtime, tokenizer)),
            **{
                f"plain, one by one, threads {threads}": partial(plain.one_by_one, rows, threads=threads)
                for threads in (1, THREADS)
            },
        }
        for size in (1, 32) if head == TEXT else ():
            ways[f"engine, batch {size}"] = partial(
                Engine(runtime, tokenizer, rows_per_batch=size).predict, head, encoded
            )
            for threads in (1, THREADS):
                ways[f"plain, batch {size}, threads {threads}"] = partial(
                    plain.batches, rows, size=size, threads=threads
                )
                ways[f"packed, batch {size}, callers {threads}"] = partial(
                    packed.batches, rows, size=size, callers=threads
                )
        found = medians(ways, rounds=rounds)
        for name, seconds in found.items() if head == TEXT else ():
            print(f"{family:7} {head:15} {name:32} {count / seconds:8.0f} texts/s")
        for work in ("one by one", "batch 1", "batch 32"):
            for peer in ("plain", "packed"):
                theirs = [seconds for name, seconds in found.items() if name.startswith(f"{peer}, {work},")]
                if theirs:
                    ratio = min(theirs) / found[f"engine, {work}"]
                    print(f"{family:7} {head:15} {work:10} engine / {peer:6} {ratio:6.2f}")
        runtime.close()


def main() -> None:
    """Race all families that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="bilstm,bigru")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--prepare", action="store_true", help="make the packages, and stop")
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for family in options.families.split(","):
        packages = make_packages(family, ROOT / "runs" / "small-models" / family)
        if not options.prepare:
            race(family, packages, count=options.rows, rounds=options.rounds)


if __name__ == "__main__":
    main()
