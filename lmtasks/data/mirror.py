"""Local files of each split: in a local mirror of the Hub, a folder, one file, or beside a task file.

<data_root>/stanfordnlp/sst2/validation.parquet              split `validation` of `stanfordnlp/sst2`
<data_root>/allenai/openbookqa/main/test.parquet             the same with the configuration `main`
<folder>/data/train-00000-of-00002.parquet, ...              as `hf download --repo-type dataset` leaves it
tasks/mine/task.yaml with `data_files: {train: train.csv}`   files beside the task file

A mirror may lack a data set and have one that stands in for it, with other rows (`task/aliases.py`): `with_stand_ins`.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmtasks.errors import UsageError, missing, unknown
from lmtasks.settings.data import DataAccess
from lmtasks.task.aliases import stand_in
from lmtasks.task.describe import with_fields
from lmtasks.task.formats import BUILDERS, SUFFIXES, Format
from lmtasks.task.task import ReaderOptions, Source, SplitName, Task

# As `datasets` reads file names: a split may go by these names, and may be cut into shards.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SHARD = re.compile(r"-\d{4,5}(?:-of-\d{4,5})?(?:-[0-9a-f]{8,})?$")
WORDS = re.compile(r"[^A-Za-z0-9]+")
# Files that lie in data set folders and hold no rows.
NO_DATA = frozenset({"readme", "license", "licence", "dataset_info", "dataset_infos", "dataset_dict", "state"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LocalSet:
    """A data set that lies on this machine."""

    where: str
    """Folder or file, for people."""
    splits: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Split name to its files, in order."""
    only: tuple[Path, ...] = ()
    """The files of a set that is not divided into splits; they stand for any split name."""
    form: Format | None = None
    """How files without a known suffix are written."""
    reading: ReaderOptions | None = None
    """How they are read, where the task says so."""

    def files(self, split: str) -> tuple[Path, ...]:
        """The files of one split, under its own name or one that means the same (`dev`, `valid`: validation).

        Raises:
            UsageError: no such split; names those that there are.
        """
        if self.only:
            return self.only
        if split in self.splits:
            return self.splits[split]
        wanted = next((names for names in OTHER_NAMES.values() if split in names), ())
        exact = [name for name in wanted if name in self.splits]
        inside = [name for name in self.splits if set(wanted) & set(WORDS.split(name.lower()))]
        for names in (exact, inside):
            if len(names) == 1:
                return self.splits[names[0]]
        raise unknown(f"split of {self.where}", split, self.splits)


def find_local(source: Source, *, options: DataAccess) -> LocalSet | None:
    """The local files of a source; None when it can only come from the Hub, or is in memory.

    Searched in this order: files that the task names (`data_files` under a format's name), the mirror, a file or
    folder (relative to the task file, or without one to the working folder).

    Raises:
        UsageError: the mirror or a named file or folder does not exist, or has no data in it.
    """
    if source.held is not None:
        return None
    if source.path in BUILDERS:
        return _named_files(source, folder=(source.base or Path()) / (source.data_dir or ""))
    return _in_mirror(source, options.data_root) or _in_folder(source)


def names_of(files: object) -> tuple[str, ...]:
    """The files of one split, as `data_files` gives them: a name, or a list of names."""
    if isinstance(files, Sequence) and not isinstance(files, str):
        return tuple(str(name) for name in files)
    return () if files is None else (str(files),)


def splits_in(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """The splits whose files lie in a folder, in its `data` folder, or in a folder of the split's own name."""
    found: dict[str, list[Path]] = {}
    for file in _data_files(folder) + _data_files(folder / "data"):
        found.setdefault(SHARD.sub("", file.stem), []).append(file)
    if not found:
        for inner in sorted(path for path in folder.glob("*/") if path.name in set().union(*OTHER_NAMES.values())):
            found[inner.name] = _data_files(inner)
    order = list(SUFFIXES)
    splits: dict[str, tuple[Path, ...]] = {}
    for name, files in sorted(found.items()):
        best = min((file.suffix.lower() for file in files), key=order.index, default="")
        splits[name] = tuple(file for file in files if file.suffix.lower() == best)
    return {name: files for name, files in splits.items() if files}


def _named_files(source: Source, *, folder: Path) -> LocalSet | None:
    if not source.data_files and source.data_dir is not None:
        splits = splits_in(folder)
        if not splits:
            raise UsageError(f"{folder} (dataset_kwargs.data_dir) holds no data files.")
        return LocalSet(where=str(folder), splits=splits, form=BUILDERS.get(source.path))
    if not source.data_files:
        raise UsageError(f"the data set is given as {source.path!r}, a file format; name its files in data_files.")
    if any("://" in name for files in source.data_files.values() for name in names_of(files)):
        return None
    splits = {split: _resolve(files, folder=folder) for split, files in source.data_files.items()}
    where = str(folder) if str(folder) != "." else ", ".join(str(file) for files in splits.values() for file in files)
    return LocalSet(where=where, splits=splits, form=BUILDERS.get(source.path))


def _resolve(files: object, *, folder: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    for name in names_of(files):
        path = folder / Path(name).expanduser()
        matches = sorted(path.parent.glob(path.name)) if any(mark in path.name for mark in "*?[") else [path]
        if not matches:
            raise UsageError(f"no data file matches {path}; check data_files.")
        found += matches
    return tuple(found)


def _in_mirror(source: Source, root: Path | None) -> LocalSet | None:
    if root is None:
        return None
    if not root.is_dir():
        raise UsageError(f"the data root {root} is not a folder; give the folder of a local mirror of the Hub.")
    if Path(source.path).is_absolute() or source.path.startswith("."):
        return None
    folder = root / source.path / (source.data_dir or "")
    return _folder(source, folder) if folder.is_dir() else None


def _in_folder(source: Source) -> LocalSet | None:
    if "://" in source.path:
        return None
    given = Path(source.path).expanduser()
    path = given if source.base is None else source.base / given
    if path.is_file():
        return LocalSet(where=str(path), only=(path,))
    if path.is_dir():
        found = _folder(source, path / (source.data_dir or ""))
        if found is None:
            raise UsageError(f"{path} holds no data files; files may be {', '.join(SUFFIXES)}, named after splits.")
        return found
    looks_local = given.is_absolute() or source.path.startswith((".", "~")) or len(given.parts) > 2
    if looks_local or given.suffix.lower() in SUFFIXES:
        raise missing("file or folder", path, hint="check the path of the data")
    return None


def _folder(source: Source, folder: Path) -> LocalSet | None:
    """The data set in a folder, with the configuration that the source names; None where the folder has it not."""
    if source.data_files:
        return _named_files(source, folder=folder)
    if source.name is not None and (folder / source.name).is_dir():
        splits = splits_in(folder / source.name)
        return LocalSet(where=str(folder / source.name), splits=splits) if splits else None
    splits = splits_in(folder)
    if splits:
        return LocalSet(where=str(folder), splits=splits)
    inner = {path.name: splits_in(path) for path in sorted(folder.glob("*/")) if splits_in(path)}
    if source.name is not None or not inner:
        return None
    name = "default" if "default" in inner else next(iter(inner))
    if len(inner) > 1 and name != "default":
        raise UsageError(
            f"{folder} has the configurations {', '.join(inner)}; name one of them (dataset_name) for {source.path}."
        )
    return LocalSet(where=str(folder / name), splits=inner[name])


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and path.stem.lower() not in NO_DATA and path.is_file()
    ]


def with_stand_ins(task: Task, *, options: DataAccess) -> Task:
    """The task, reading what the mirror has instead where it lacks what the task names.

    Without a mirror, and where the mirror has the data set itself, it is the same task. Otherwise its fields say what
    is read instead of what, and its hash is another one.

    Raises:
        UsageError: the mirror, or a file that the task names, is not there.
    """
    sources: dict[SplitName, Source] = {name: _available(source, options) for name, source in task.sources.items()}
    shots = None if task.shots is None else _available(task.shots, options)
    if sources == dict(task.sources) and shots == task.shots:
        return task
    for missing_set in sorted(
        {source.stands_for for source in (*sources.values(), shots) if source and source.stands_for}
    ):
        log.warning("task %s: %s lacks %s; it is read instead", task.name, options.data_root, missing_set)
    return with_fields(replace(task, sources=sources, shots=shots))


def _available(source: Source, options: DataAccess) -> Source:
    instead = stand_in(source)
    if instead is None or options.data_root is None or find_local(source, options=options) is not None:
        return source
    if find_local(instead, options=options) is None:
        return source
    return instead
