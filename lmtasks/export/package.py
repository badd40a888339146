"""An exported model on disk. Reading one needs neither torch nor transformers.

package.json              the model's card, precision, graphs, emitter, the hash of every other file, and its own
score.onnx, decoder.onnx, encoder.onnx, heads.onnx, heads_both.onnx    the graphs that its kind of model has (below)
weights.bin               the weights of all graphs, equal ones once
tokenizer.json, tokenizer_config.json, ...            its tokenizer, chat templates included
parity.json               the proof that it computes what the model computes
training_rows.bin         fingerprints of the rows that the model learned from, where they are known
gate.json                 what rounding costs on the tasks that it was measured on, where that was asked for

Graphs traced from torch, rows padded on the right (prompts of a decoder on the left, so that the last column is every
row's last token; `runtime/` brings any padding into that form). B rows, T and N tokens, P cached tokens, S source, V
vocabulary:

heads       ids, mask[, types] (B, T) -> the logits of every head, each an output of its own
heads_both  the same, of those heads that a causal backbone reads both ways for
score       ids, mask (B, T) -> log-probability (B, T - 1) of each next token, and whether it is the most likely one
encoder     the source (B, S) and the decoder's start token (B, 1) -> next-token logits (B, V) and caches
decoder     new tokens (B, N), mask (B, P + N), caches of P tokens -> next-token logits (B, V), caches of P + N

The inputs of graphs that were built block by block stand in `emitters/decoder.py`, `seq2seq.py` and `recurrent.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from lmtasks.checksums import FIELD, is_whole, sealed
from lmtasks.errors import UsageError
from lmtasks.files import parse_json, read_object, write_json
from lmtasks.model.files import tokenizer_files
from lmtasks.model.weights import digest_of
from lmtasks.records import TRAINING_ROWS, HeadSpec, Json, ModelCard, card_from_json
from lmtasks.settings.runtimes import MADE_FOR, PRECISIONS, RUNTIMES, Precision, RuntimeName, package_runtimes

SCHEMA = 1
MANIFEST = "package.json"
PARITY = "parity.json"
GATE = "gate.json"
WEIGHTS = "weights.bin"
READ = (WEIGHTS, PARITY, GATE, TRAINING_ROWS)
"""Files that are read beside the graphs and the tokenizer's, where they are there. Others may lie in the folder; nobody
looks at them."""
EMITTED = "emitted:"
"""How the emitter of a package begins whose graphs were built block by block; all others were traced."""
TRACED = "traced-2"
"""How that of the others begins. Changes whenever tracing or quantizing may yield other numbers."""
REVISED: Mapping[Precision, str] = MappingProxyType({"w8": "; w8 2"})
"""Precisions whose rounding was changed once, and what the label of an emitter has behind it since: answers of packages
from before are other ones. They still run."""

GraphName = Literal["heads", "heads_both", "score", "encoder", "decoder"]
Operators = Mapping[GraphName, Mapping[str, int]]
"""How often operators stand in graphs."""
NOTHING_WANTED: Operators = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """A file of a package as it was written."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Package:
    """An exported model."""

    folder: Path
    model: ModelCard
    precision: Precision
    graphs: Mapping[GraphName, str]
    """Which graphs there are, and the file of each."""
    emitter: str
    """Name and version of what made the graphs: part of what identifies an answer."""
    files: Mapping[str, FileFacts]
    operators: Operators = field(default_factory=dict)
    """How often some must stand in each graph, by the model's shape; empty for traced graphs."""
    parity: Json = field(default_factory=dict)
    """The proof; empty while a package is being made."""
    gate: Json = field(default_factory=dict)
    """The cost of rounding, and what stayed in fp32 for that; empty where nobody asked."""
    runtime: RuntimeName = MADE_FOR
    """The runtime that it was exported for and proved in; no other one opens it."""

    @property
    def device(self) -> str:
        """The device on which it was proved, and runs unless somebody says otherwise."""
        return RUNTIMES[self.runtime].packages[self.precision][0]

    @property
    def emitted(self) -> bool:
        """Were its graphs built block by block, not traced from torch?"""
        return self.emitter.startswith(EMITTED)

    @property
    def emitter_name(self) -> str:
        """Which emitter built its graphs, without the version; empty where they were traced."""
        return self.emitter.removeprefix(EMITTED).partition(" ")[0] if self.emitted else ""

    @property
    def size_bytes(self) -> int:
        """Bytes of the graphs and their weights on disk."""
        names = {*self.graphs.values(), WEIGHTS}
        return sum(facts.size_bytes for name, facts in self.files.items() if name in names)


def heads_graph(model: ModelCard, head: HeadSpec) -> GraphName:
    """The graph that a head stands in: of those that a causal backbone reads both ways for, another one."""
    return "heads_both" if model.kind == "causal" and head.attention == "both" else "heads"


def is_package(folder: Path) -> bool:
    """Is this the folder of an exported model?"""
    return (folder / MANIFEST).is_file()


def load_package(folder: Path) -> Package:
    """Read a package and check every file of it against its hash.

    Raises:
        UsageError: no package, one of another version, or a file that is missing or was altered.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UsageError(
            f"{folder} is no exported model: it has no {MANIFEST}. "
            f"Make one with `lmtasks export --model MODEL --out {folder}`."
        )
    try:
        content = parse_json(manifest.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise UsageError(
                f"{folder} was made by another version (schema {content['schema']}, this one reads {SCHEMA}); "
                "export the model again."
            )
        files = {name: FileFacts(**facts) for name, facts in content["files"].items()}
        model = card_from_json(content["model"])
        precision: Precision = content["precision"]
        if precision not in PRECISIONS:
            raise UsageError(
                f"{folder} was made by another version: it is in {precision!r}, and this one reads "
                f"{', '.join(PRECISIONS)}; export the model again."
            )
        runtime = str(content.get("runtime", MADE_FOR))
        if runtime not in package_runtimes() or precision not in RUNTIMES[runtime].packages:
            raise UsageError(
                f"{folder} was made by another version: it is for {runtime!r} in {precision}, and this one reads "
                f"packages for {', '.join(package_runtimes())}; export the model again."
            )
        graphs: dict[GraphName, str] = dict(content["graphs"])
        emitter = str(content["emitter"])
        operators: Operators = dict(content.get("operators", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{manifest} is damaged ({error}); export the model again.") from error
    for name, facts in files.items():
        _check_file(folder / name, facts)
    tokenizers = [file.relative_to(folder).as_posix() for file in tokenizer_files(folder)]
    for name in (*graphs.values(), *READ, *tokenizers):
        if name not in files and (name in graphs.values() or (folder / name).is_file()):
            raise UsageError(
                f"{manifest} was altered: it has no hash of {name}, which belongs to a package; "
                "copy the package again, or export the model again."
            )
    if not is_whole(content):
        raise UsageError(
            f"{manifest} is damaged: it is not what was written (its checksum differs); copy the package again, or "
            "export the model again."
        )
    return Package(
        folder=folder,
        model=model,
        precision=precision,
        graphs=graphs,
        emitter=emitter,
        files=files,
        operators=operators,
        parity=_read(folder / PARITY),
        gate=_read(folder / GATE),
        runtime=runtime,
    )


def write_manifest(
    folder: Path,
    *,
    model: ModelCard,
    precision: Precision,
    graphs: Mapping[GraphName, str],
    emitter: str,
    operators: Operators = NOTHING_WANTED,
    runtime: RuntimeName = MADE_FOR,
) -> None:
    """Write `package.json` over the files that lie in `folder` now; the caller renames the folder into place."""
    top = [item for item in folder.iterdir() if item.is_file() and item.name != MANIFEST]
    names = sorted({file.relative_to(folder).as_posix() for file in (*top, *tokenizer_files(folder))})
    content = {
        "schema": SCHEMA,
        "model": asdict(model),
        "precision": precision,
        **({} if runtime == MADE_FOR else {"runtime": runtime}),
        "emitter": emitter,
        "operators": {graph: dict(counts) for graph, counts in operators.items()},
        "graphs": dict(graphs),
        "files": {name: asdict(_facts(folder / name)) for name in names},
    }
    write_json(folder / MANIFEST, sealed(content), indent=2)


def write_proofs(folder: Path, *, parity: Json, gate: Json | None = None) -> None:
    """Put the proof, and the gate's record where there is one, into a package that is being made."""
    package = load_package(folder)
    write_json(folder / PARITY, sealed(parity), indent=2)
    if gate is not None:
        write_json(folder / GATE, sealed(gate), indent=2)
    write_manifest(
        folder,
        model=package.model,
        precision=package.precision,
        graphs=package.graphs,
        emitter=package.emitter,
        operators=package.operators,
        runtime=package.runtime,
    )


def _facts(file: Path) -> FileFacts:
    return FileFacts(sha256=digest_of(file).hash, size_bytes=file.stat().st_size)


def _check_file(file: Path, facts: FileFacts) -> None:
    if not file.is_file():
        raise UsageError(f"the package in {file.parent} lacks {file.name}; copy it again, or export the model again.")
    if file.stat().st_size != facts.size_bytes or _facts(file).sha256 != facts.sha256:
        raise UsageError(
            f"{file} is not the file that was exported (its hash differs); "
            "copy the package again, or export the model again."
        )


def _read(file: Path) -> dict[str, Any]:
    content = read_object(file)
    content.pop(FIELD, None)  # the manifest vouches for the file
    return content
