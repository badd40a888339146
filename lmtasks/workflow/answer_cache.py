"""Which file answers are kept in, and an engine with that memory.

Where speed is measured no cache is ever opened: `bench/` knows nothing of it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.installation import cache_folder
from lmtasks.settings.runtimes import is_cached

if TYPE_CHECKING:
    from lmtasks.evaluation.cache import ObservableEngine
    from lmtasks.evaluation.protocols import InferenceEngine

OFF = "off"
FILE = "answers.sqlite"
HASHES = "training-rows"


def cache_file(asked: str | None) -> Path | None:
    """The file that `--cache` means: None asks for the default, `off` for none.

    Raises:
        UsageError: it is no plain file, or another program's.
    """
    from lmtasks.evaluation.cache_store import check_place

    if asked == OFF:
        return None
    file = default_file() if asked is None else Path(asked).expanduser()
    if file.is_dir():
        raise UsageError(f"--cache takes a file, or {OFF}; {file} is a folder. Give {file / FILE}, say.")
    check_place(file, own_place=_is_own_place(file))
    return file


def default_file() -> Path:
    """`answers.sqlite` in the folder of what is kept between commands."""
    return cache_folder() / FILE


def hashes_folder(cache: Path | None) -> Path | None:
    """Where hashes of training rows are kept, beside the default file of answers; None where nothing is kept."""
    return None if cache is None else cache_folder() / HASHES


def _is_own_place(file: Path) -> bool:
    """Is it where lmtasks keeps its answers by itself?"""
    return file == default_file()


@contextmanager
def with_cache(engine: "ObservableEngine", *, folder: Path, cache: Path | None) -> "Iterator[InferenceEngine]":
    """The engine over the model or package in `folder`, which asks only for what `cache` lacks.

    None, or a precision whose answers depend on their neighbours in the batch: the engine as it is.
    """
    if cache is None or not is_cached(engine.card.precision):
        yield engine
        return
    from lmtasks.evaluation.cache import CachedAnswers
    from lmtasks.evaluation.cache_store import AnswerStore

    with closing(AnswerStore(cache, own_place=_is_own_place(cache))) as store:
        yield CachedAnswers(engine, store=store, artefact=settings_hash(folder)) if store.usable else engine


def settings_hash(folder: Path) -> str:
    """sha256 over everything in a model's or package's folder that says how it computes, but for its weights.

    A package's manifest holds the hash of every graph.
    """
    from lmtasks.export.package import MANIFEST
    from lmtasks.model.files import settings_files
    from lmtasks.model.store import tokenizer_folder

    files = [file for name in (MANIFEST, "model.json") if (file := folder / name).is_file()]
    digest = hashlib.sha256()
    for file in (*files, *settings_files(tokenizer_folder(folder))):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
