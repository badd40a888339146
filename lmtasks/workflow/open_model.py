"""A folder to an engine that answers: the runtime that suits it, and its tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.records import ModelCard

if TYPE_CHECKING:
    from lmtasks.engine.engine import Engine


def runtime_for(folder: Path, *, wanted: str | None) -> str:
    """The runtime that was asked for, else what the folder is made for: onnx for a package, native for a model that is
    fitted at once, torch for any other."""
    from lmtasks.export.package import is_package
    from lmtasks.model.closed_form import fitted_family

    if wanted or is_package(folder):
        return wanted or "onnx"
    return "torch" if fitted_family(folder) is None else "native"


@contextmanager
def open_engine(
    folder: Path,
    *,
    runtime: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    rows_per_batch: int | None = None,
) -> "Iterator[Engine]":
    """The model or package in a folder, loaded; its memory is given back at the end.

    Args:
        runtime: None: what the folder is made for.
        precision: None: fp32 in torch, the package's own in onnx.
        threads: None: as many as the process may use.
        rows_per_batch: rows of a batch at most; None: as many as the memory has room for, and are of use.

    Raises:
        UsageError: the folder does not suit the runtime, the device or the precision, or has no tokenizer.
        WorkError: it cannot be loaded.
    """
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.engine.engine import Engine
    from lmtasks.model.store import tokenizer_folder
    from lmtasks.runtime.open import open_runtime

    tokenizer = load_tokenizer(tokenizer_folder(folder))  # first: a missing one is found without loading weights
    opened = open_runtime(
        folder, runtime=runtime_for(folder, wanted=runtime), device=device, precision=precision, threads=threads
    )
    try:
        yield Engine(
            opened,
            tokenizer,
            rows_per_batch=rows_per_batch,
        )
    finally:
        opened.close()


def card_in(folder: Path) -> ModelCard:
    """The card of the model or package in a folder; its weights are hashed, not loaded.

    Raises:
        UsageError: the folder holds neither, or a part of it is missing or damaged.
    """
    from lmtasks.export.package import is_package, load_package
    from lmtasks.model.store import card_of

    return load_package(folder).model if is_package(folder) else card_of(folder)
