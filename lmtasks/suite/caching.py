"""Which file answers are kept in, and an engine with that memory.

Where speed is measured no cache is ever opened: `bench/` knows nothing of it.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from lmtasks.evaluation.asked import Answers
    from lmtasks.evaluation.cache import Telling

OFF = "off"
FOLDER = "LMTASKS_CACHE"
"""Variable that names the folder of the default file."""
FILE = "answers.sqlite"

SETTINGS = ("config.json", "generation_config.json", "model.json", "head.json", "package.json")
"""What a model computes depends on these beside its weights; a package's manifest holds the hash of every graph."""


def cache_file(asked: str | None) -> Path | None:
    """The file that `--cache` means: None asks for the default, `off` for none.

    Raises:
        UsageError: it is a folder.
    """
    if asked == OFF:
        return None
    file = default_file() if asked is None else Path(asked).expanduser()
    if file.is_dir():
        raise UsageError(f"--cache takes a file, or {OFF}; {file} is a folder. Give {file / FILE}, say.")
    return file


def default_file() -> Path:
    """`answers.sqlite` in LMTASKS_CACHE, else in `lmtasks` in the folder that the system has for such files."""
    named = os.environ.get(FOLDER)
    return (Path(named).expanduser() if named else _system_folder() / "lmtasks") / FILE


@contextmanager
def remembering(engine: "Telling", *, folder: Path, cache: Path | None) -> "Iterator[Answers]":
    """The engine over the model or package in `folder`, which asks only for what `cache` lacks.

    None, or a precision whose answers depend on their neighbours in the batch: the engine as it is.
    """
    from lmtasks.evaluation.cache_key import DEPENDS_ON_NEIGHBOURS

    if cache is None or engine.card.precision in DEPENDS_ON_NEIGHBOURS:
        yield engine
        return
    from lmtasks.evaluation.cache import CachedAnswers
    from lmtasks.evaluation.cache_store import AnswerStore

    with closing(AnswerStore(cache)) as store:
        yield CachedAnswers(engine, store=store, artefact=settings_hash(folder)) if store.usable else engine


def settings_hash(folder: Path) -> str:
    """sha256 over everything in a model's or package's folder that says how it computes, but for its weights."""
    digest = hashlib.sha256()
    for file in sorted(file for name in SETTINGS for file in folder.rglob(name)):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _system_folder() -> Path:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
