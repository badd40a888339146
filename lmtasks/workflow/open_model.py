"""A folder to an engine that answers: the runtime that suits it, its tokenizer, and the file in which answers are kept.

Where speed is measured no cache is ever opened: `bench/` knows nothing of it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.installation import cache_folder
from lmtasks.records import ModelCard
from lmtasks.settings.runtimes import is_cached

if TYPE_CHECKING:
    from lmtasks.engine.engine import Engine
    from lmtasks.evaluation.cache import ObservableEngine
    from lmtasks.evaluation.cache_store import ByteStore
    from lmtasks.evaluation.protocols import InferenceEngine

OFF = "off"
ANSWERS, FEATURES = "answers.sqlite", "features.sqlite"
FEATURE_PAGE_BYTES = 16_384
"""A pooled state of 384 numbers takes 1.5 KB."""
HASHES = "training-rows"


def runtime_for(folder: Path, *, wanted: str | None) -> str:
    """The runtime that was asked for, else what the folder is made for: a package's own, native for a model that is
    fitted at once, torch for any other."""
    from lmtasks.export.package import is_package, load_package
    from lmtasks.model.closed_form import fitted_family

    if wanted or is_package(folder):
        return wanted or load_package(folder).runtime
    return "torch" if fitted_family(folder) is None else "native"


@contextmanager
def open_engine(
    folder: Path,
    *,
    runtime: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
    rows_per_batch: int | None = None,
) -> "Iterator[Engine]":
    """The model or package in a folder, loaded; its memory is given back at the end.

    Args:
        runtime: None: what the folder is made for.
        precision: None: fp32 in torch, a package's own.
        threads: None: as many as the process may use.
        force: also in a precision that the processor emulates.
        rows_per_batch: rows of a batch at most; None: as many as the memory has room for, and are of use.

    Raises:
        UsageError: the folder does not suit the runtime, the device or the precision, or has no tokenizer.
        WorkError: it cannot be loaded.
    """
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.engine.engine import Engine
    from lmtasks.model.files import tokenizer_folder
    from lmtasks.runtime.open import open_runtime

    tokenizer = load_tokenizer(tokenizer_folder(folder))  # first: a missing one is found without loading weights
    opened = open_runtime(
        folder,
        runtime=runtime_for(folder, wanted=runtime),
        device=device,
        precision=precision,
        threads=threads,
        force=force,
    )
    try:
        yield Engine(
            opened,
            tokenizer,
            rows_per_batch=rows_per_batch,
        )
    finally:
        opened.close()


@contextmanager
def open_engines(
    folders: Sequence[Path],
    *,
    runtime: str | None = None,
    device: str = "cpu",
    precision: str | None = None,
    threads: int | None = None,
    force: bool = False,
    rows_per_batch: int | None = None,
) -> "Iterator[tuple[Engine, ...]]":
    """Several models over one backbone, which is in memory once; each is asked for itself, one at a time. Of one folder
    the engine of `open_engine`.

    Raises:
        UsageError: as `open_engine`, or they stand over different backbones.
        WorkError: they cannot be loaded.
    """
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.engine.engine import Engine
    from lmtasks.model.files import tokenizer_folder
    from lmtasks.runtime.open import open_runtimes

    if len(folders) == 1:
        with open_engine(
            folders[0],
            runtime=runtime,
            device=device,
            precision=precision,
            threads=threads,
            force=force,
            rows_per_batch=rows_per_batch,
        ) as engine:
            yield (engine,)
        return
    tokenizers = [load_tokenizer(tokenizer_folder(folder)) for folder in folders]
    wanted = runtime_for(folders[0], wanted=runtime)
    opened = open_runtimes(folders, runtime=wanted, device=device, precision=precision, threads=threads, force=force)
    try:
        yield tuple(
            Engine(each, tokenizer, rows_per_batch=rows_per_batch)
            for each, tokenizer in zip(opened, tokenizers, strict=True)
        )
    finally:
        for each in opened:
            each.close()


def card_in(folder: Path) -> ModelCard:
    """The card of the model or package in a folder; its weights are hashed, not loaded.

    Raises:
        UsageError: the folder holds neither, or a part of it is missing or damaged.
    """
    from lmtasks.export.package import is_package, load_package
    from lmtasks.model.store import card_of

    return load_package(folder).model if is_package(folder) else card_of(folder)


@contextmanager
def with_cache(engine: "ObservableEngine", *, folder: Path | None, cache: Path | None) -> "Iterator[InferenceEngine]":
    """The engine over the model or package in `folder`, which asks only for what `cache` lacks.

    None, or a precision whose answers depend on their neighbours in the batch: the engine as it is.

    Args:
        folder: None: a server's, whose card holds all that is known of it.
    """
    if cache is None or not is_cached(engine.card.precision):
        yield engine
        return
    from lmtasks.evaluation.cache import CachedAnswers
    from lmtasks.evaluation.cache_store import ByteStore

    with closing(ByteStore(cache, own_place=is_own_place(cache))) as store:
        artefact = "" if folder is None else settings_hash(folder)
        yield CachedAnswers(engine, store=store, artefact=artefact) if store.usable else engine


def cache_file(asked: str | None, *, name: str = ANSWERS) -> Path | None:
    """The file that `--cache` means: None asks for the default, `off` for none.

    Args:
        name: of the default file.

    Raises:
        UsageError: it is no plain file, or another program's.
    """
    from lmtasks.evaluation.cache_store import check_place

    if asked == OFF:
        return None
    file = default_file(name) if asked is None else Path(asked).expanduser()
    if file.is_dir():
        raise UsageError(f"--cache takes a file, or {OFF}; {file} is a folder. Give {file / name}, say.")
    check_place(file, own_place=is_own_place(file))
    return file


def default_file(name: str = ANSWERS) -> Path:
    """A file in the folder of what is kept between commands."""
    return cache_folder() / name


@contextmanager
def kept_features(cache: Path | None) -> "Iterator[ByteStore | None]":
    """The file in which features of probes are kept; None: none is."""
    if cache is None:
        yield None
        return
    from lmtasks.evaluation.cache_store import ByteStore

    with closing(ByteStore(cache, own_place=is_own_place(cache), page_bytes=FEATURE_PAGE_BYTES)) as store:
        yield store


def hashes_folder(cache: Path | None) -> Path | None:
    """Where hashes of training rows are kept, beside the default file of answers; None where nothing is kept."""
    return None if cache is None else cache_folder() / HASHES


def features_file(cache: Path | None) -> Path | None:
    """Where features of probes are kept, beside the default file of answers; None where nothing is kept."""
    return None if cache is None else default_file(FEATURES)


def settings_hash(folder: Path) -> str:
    """sha256 over everything in a model's or package's folder that says how it computes, but for its weights.

    A package's manifest holds the hash of every graph.
    """
    from lmtasks.export.package import MANIFEST
    from lmtasks.model.files import settings_files, tokenizer_folder

    files = [file for name in (MANIFEST, "model.json") if (file := folder / name).is_file()]
    digest = hashlib.sha256()
    for file in (*files, *settings_files(tokenizer_folder(folder))):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def is_own_place(file: Path) -> bool:
    """Is it where lmtasks keeps answers or features by itself?"""
    return file in (default_file(ANSWERS), default_file(FEATURES))
