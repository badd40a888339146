"""Opens a variant for timing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmtasks.bench.spec import SpeedSpec
from lmtasks.bench.workload import TimedEngine
from lmtasks.records import ModelCard, RuntimeCard
from lmtasks.runtime.op_costs import OpCosts, traffic_of

Graph = Literal["heads", "score", "decoder"]
"""Which pass over the model answers."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """An engine with the identity of what it runs."""

    engine: TimedEngine
    model: ModelCard
    card: RuntimeCard
    traffic: Callable[[Graph], OpCosts | None] = lambda graph: None
    """What a pass must at least read and multiply; None where nobody knows."""


def open_variant(spec: SpeedSpec) -> Answering:
    """Load the model or package of a spec.

    No token ends a text, so that every generation runs to its full length: a variant whose weights were rounded must
    not look faster because it stops earlier. Batches are the engine's own, as when it answers for a score.

    Raises:
        UsageError: the folder, the runtime, the device or the precision is wrong.
        WorkError: the model cannot be loaded.
    """
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.engine.engine import Engine
    from lmtasks.runtime.open import open_runtime

    runtime = open_runtime(
        spec.ref, runtime=spec.runtime, device=spec.device, precision=spec.precision, threads=spec.threads
    )
    tokenizer = load_tokenizer(tokenizer_folder(spec.ref))
    return Answering(
        engine=Engine(runtime, tokenizer, ends=frozenset()),
        model=runtime.model,
        card=runtime.card,
        traffic=lambda graph: traffic_of(spec.ref, graph=graph, precision=spec.precision),
    )


def tokenizer_folder(ref: Path) -> Path:
    """Where `tokenizer.json` lies: in a package or transformers folder itself, in a model folder's `backbone/`."""
    inner = ref / "backbone"
    return inner if not (ref / "tokenizer.json").is_file() and (inner / "tokenizer.json").is_file() else ref
