"""Rows from the Hugging Face Hub, through `datasets`; revision, token and HF_ENDPOINT as `huggingface_hub` reads them.

`datasets` is used where a data set is what it knows (its card's configurations, split patterns, shards, formats), for
that is a lot to know. What it refuses, a data set that is a loading script, has a copy in parquet that the Hub made
itself, in the branch `refs/convert/parquet`: those files are fetched by `huggingface_hub` and read as local ones.

Offline, what earlier runs have fetched is all that may be read. `datasets` keeps prepared data sets as
`<cache>/<owner>___<name>/<configuration>/<version>/<commit>`, `huggingface_hub` keeps files, and which commit a branch
or tag last was. Both switch to their caches only by a variable of the environment that is read when they are imported,
too early for an option; hence the search here.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lmtasks.data.local import read_local, split_parts
from lmtasks.data.mirror import SHARD, LocalSet, names_of
from lmtasks.data.table import HubTable, LazyRows
from lmtasks.errors import LmtasksError, UsageError, WorkError, unknown
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.formats import BUILDERS, SUFFIXES
from lmtasks.task.task import ReaderOptions, Source

if TYPE_CHECKING:
    from datasets import DatasetBuilder
    from huggingface_hub import CachedRepoInfo


CONVERTED = "refs/convert/parquet"
SCRIPT = "Dataset scripts are no longer supported"
"""How `datasets` begins its refusal."""
PARTIAL = "partial-"
"""Prefix of a split's folder in the converted branch when only its first 5 GB are there."""

log = logging.getLogger(__name__)


def read_hub(source: Source, *, options: DataAccess, limit: int | None) -> tuple[Sequence[Row], str]:
    """The rows of a split, at most `limit`, and where they came from.

    With a limit the rows are streamed, so that a large data set is not fetched for a few of them; without one the data
    set is fetched into the cache of `datasets` and stays there. Offline only what lies in the caches is read.

    Raises:
        UsageError: no such data set, configuration, revision or split; or it is not in the caches, offline.
        WorkError: the Hub could not be reached, now or when the same data set was asked for before.
    """
    name = f"{source.path}@{source.revision}"
    if name in options.unreachable:
        raise WorkError(options.unreachable[name])
    try:
        return _read(source, options=options, limit=limit)
    except WorkError as error:
        options.unreachable[name] = str(error)
        raise


def _read(source: Source, *, options: DataAccess, limit: int | None) -> tuple[Sequence[Row], str]:
    with _explained(source):
        if source.path in BUILDERS:
            return _read_addresses(source, options=options, limit=limit)
        if options.offline:
            return _read_cached(source, limit=limit)
        builder = _builder(source, options=options)
        if builder is None:
            return _read_converted(source, options=options, limit=limit)
        return _read_builder(builder, source, limit=limit)


def _builder(source: Source, *, options: DataAccess) -> "DatasetBuilder | None":
    """What reads the data set; None when it is a loading script, which `datasets` no longer runs, nor do we."""
    from datasets import load_dataset_builder

    try:
        return load_dataset_builder(
            source.path,
            source.name,
            data_dir=source.data_dir,
            data_files=None if source.data_files is None else dict(source.data_files),
            revision=source.revision,
            token=options.token,
            **reader_options(source.reading),
        )
    except RuntimeError as error:
        if not str(error).startswith(SCRIPT):
            raise
        return None


def reader_options(reading: ReaderOptions | None) -> dict[str, object]:
    """The options of a reader by their names in `datasets`."""
    if reading is None:
        return {}
    names = None if reading.column_names is None else list(reading.column_names)
    given = {
        "column_names": names,
        "delimiter": reading.delimiter,
        "field": reading.field,
        "encoding": reading.encoding,
    }
    header = {} if names is None else {"header": 0 if reading.header else None}
    return {**{name: value for name, value in given.items() if value is not None}, **header}


def _or_refuse_cache(builder: "DatasetBuilder", source: Source) -> tuple["DatasetBuilder", str]:
    """The builder, and how `where` ends. When the Hub fails `datasets` takes the newest thing in its cache, whatever
    its revision; only the same revision will do."""
    from datasets.packaged_modules.cache.cache import Cache

    if not isinstance(builder, Cache):
        return builder, ""
    same = cached_builder(source)
    if same is None:
        raise WorkError(
            f"data set {_name(source)} could not be fetched from the Hub, and the cache has only another revision of "
            "it. Check the network and HF_ENDPOINT, or read it from a local mirror with --data-root."
        )
    log.warning("%s could not be fetched from the Hub; read from the cache of an earlier run", _name(source))
    return same, ", cached"


def _read_builder(builder: "DatasetBuilder", source: Source, *, limit: int | None) -> tuple[Sequence[Row], str]:
    builder, cached = _or_refuse_cache(builder, source)
    where = _where(builder, source) + cached
    # Slices need to know how long the split is, and sums are several streams, so neither is streamed.
    if limit is not None and not cached and split_parts(source.split) == ((source.split, ""),):
        return [dict(row) for row in builder.as_streaming_dataset(split=source.split).take(limit)], where
    builder.download_and_prepare()
    return _prepared(builder, source, limit=limit), where


def _prepared(builder: "DatasetBuilder", source: Source, *, limit: int | None) -> Sequence[Row]:
    rows = LazyRows(HubTable(builder.as_dataset(split=source.split)))
    return rows if limit is None else rows[:limit]


def _read_cached(source: Source, *, limit: int | None) -> tuple[Sequence[Row], str]:
    files = cached_files(source, revision=CONVERTED)
    if files:
        local = _converted_set(source, files)
        return read_local(local, source.split, limit=limit)[0], f"{local.where}, cached"
    builder = cached_builder(source)
    if builder is None:
        raise UsageError(
            f"data set {_name(source)} is not on this machine, and --offline forbids to fetch it; run once without "
            f"--offline, or lay it under --data-root as {source.path}/<split>.parquet."
        )
    return _prepared(builder, source, limit=limit), f"{_where(builder, source)}, cached"


def _read_converted(source: Source, *, options: DataAccess, limit: int | None) -> tuple[Sequence[Row], str]:
    """Rows from the branch in which the Hub keeps a copy in parquet: `<configuration>/<split>/0000.parquet`."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    api = HfApi(token=options.token)
    try:
        names = api.list_repo_files(source.path, repo_type="dataset", revision=CONVERTED)
    except RevisionNotFoundError as error:
        raise UsageError(
            f"data set {source.path} is a loading script, which is not run, and the Hub has no copy of it in parquet "
            f"({CONVERTED}); lay its splits under --data-root as {source.path}/<split>.parquet."
        ) from error
    listed = _converted_set(source, {name: Path(name) for name in names})
    needed = {split: listed.files(split) for split, _ in split_parts(source.split)}
    fetched = {
        split: tuple(
            Path(api.hf_hub_download(source.path, file.as_posix(), repo_type="dataset", revision=CONVERTED))
            for file in files
        )
        for split, files in needed.items()
    }
    revision = f" (revision {source.revision} could not be kept)" if source.revision else ""
    log.warning("%s is a loading script; read from its branch %s instead%s", source.path, CONVERTED, revision)
    rows, _ = read_local(LocalSet(where=listed.where, splits=fetched), source.split, limit=limit)
    return rows, f"{listed.where}{revision}"


def _converted_set(source: Source, files: Mapping[str, Path]) -> LocalSet:
    """The splits of one configuration among the files of the converted branch, by their names there."""
    configurations: dict[str, dict[str, list[Path]]] = {}
    for name in sorted(files):
        parts = PurePosixPath(name)
        if parts.suffix != ".parquet" or len(parts.parts) < 2:
            continue
        # The first copies were named <configuration>/<data set>-<split>.parquet.
        own = SHARD.sub("", parts.stem).removeprefix(f"{source.path.split('/')[-1]}-")
        split = parts.parts[1] if len(parts.parts) > 2 else own
        if split.startswith(PARTIAL):
            log.warning("%s of %s is partial: only its first 5 GB are in %s", split, source.path, CONVERTED)
        splits = configurations.setdefault(parts.parts[0], {})
        splits.setdefault(split.removeprefix(PARTIAL), []).append(files[name])
    chosen = source.name or ("default" if "default" in configurations else "")
    if not chosen and len(configurations) == 1:
        chosen = next(iter(configurations))
    if chosen not in configurations:
        raise unknown(f"configuration (dataset_name) of {source.path}", chosen, configurations)
    return LocalSet(
        where=f"Hub data set {source.path}/{chosen}, a loading script, from its branch {CONVERTED}",
        splits={split: tuple(found) for split, found in configurations[chosen].items()},
    )


def _read_addresses(source: Source, *, options: DataAccess, limit: int | None) -> tuple[Sequence[Row], str]:
    """Files whose addresses (https://, hf://) a task gives under a format's name."""
    from datasets import DownloadConfig, DownloadManager

    if options.offline:
        raise UsageError("data_files name addresses on the network, and --offline forbids to fetch them; name files.")
    manager = DownloadManager(download_config=DownloadConfig(token=options.token))
    form = BUILDERS[source.path]
    given = source.data_files or {}
    splits: dict[str, tuple[Path, ...]] = {}
    for split, _ in split_parts(source.split):
        if split not in given:
            raise unknown("split of data_files", split, given)
        addresses = names_of(given[split])
        # Fetched files lie in the cache without a suffix.
        form = SUFFIXES.get(PurePosixPath(addresses[0]).suffix, form)
        splits[split] = tuple(Path(str(manager.download(address))) for address in addresses)
    where = ", ".join(address for split in splits for address in names_of(given[split]))
    local = LocalSet(where=where, splits=splits, form=form, reading=source.reading)
    rows, _ = read_local(local, source.split, limit=limit)
    return rows, where


def _where(builder: "DatasetBuilder", source: Source) -> str:
    return f"Hub data set {_name(source)} at {str(builder.hash)[:12]}"


def _name(source: Source) -> str:
    revision = f"@{source.revision}" if source.revision else ""
    return f"{source.path}{f'/{source.name}' if source.name else ''}{revision}"


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Failures of the Hub's libraries as one sentence. They come from several unrelated hierarchies."""
    try:
        yield
    except LmtasksError:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"data set {_name(source)} cannot be read: {_sentence(error)}") from error
    except Exception as error:
        cause = "" if error.__cause__ is None else f" {_sentence(error.__cause__)}"
        raise WorkError(
            f"data set {_name(source)} could not be fetched from the Hub: {_sentence(error)}{cause} Check the network "
            "and HF_ENDPOINT, or read it from a local mirror with --data-root."
        ) from error


def _sentence(error: BaseException) -> str:
    # `datasets` appends examples in Python, and the Hub a page of advice.
    text = " ".join(str(error).partition("\nExample")[0].partition("\n\n")[0].split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."


def cached_files(source: Source, *, revision: str) -> Mapping[str, Path]:
    """The files of a revision, by their names in the repository; those of them that were fetched."""
    repo = _cached_repo(source.path)
    found = None if repo is None else repo.refs.get(revision)
    if found is None:
        return {}
    return {file.file_path.relative_to(found.snapshot_path).as_posix(): file.file_path for file in found.files}


def cached_builder(source: Source) -> "DatasetBuilder | None":
    """The builder of a prepared data set; None where this one was not prepared.

    Raises:
        UsageError: several configurations were, and the source names none.
    """
    from datasets.packaged_modules.cache.cache import Cache

    folders = _prepared_folders(source)
    by_name = {folder.parts[-3]: folder for folder in folders}
    if len(by_name) > 1 and "default" not in by_name:
        raise UsageError(
            f"of data set {source.path} the configurations {', '.join(sorted(by_name))} are on this machine; "
            "name one of them (dataset_name)."
        )
    if not by_name:
        return None
    folder = by_name.get("default") or next(iter(by_name.values()))
    name, version, commit = folder.parts[-3:]
    return Cache(
        repo_id=source.path,
        dataset_name=source.path.split("/")[-1],
        config_name=name,
        version=version,
        hash=commit,
    )


def _prepared_folders(source: Source) -> Sequence[Path]:
    """The folders of the wanted commit, one a configuration, the newest last."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    owner, _, name = source.path.rpartition("/")
    top = Path(config.HF_DATASETS_CACHE) / "___".join([*([owner] if owner else []), camelcase_to_snakecase(name)])
    folders = [path for path in top.glob(f"{escape(source.name or '')}/*/*" if source.name else "*/*/*")]
    commits = {folder.name for folder in folders if folder.is_dir() and folder.suffix == ""}
    wanted = _commit(source) or (next(iter(commits)) if len(commits) == 1 and source.revision is None else None)
    return sorted((folder for folder in folders if folder.name == wanted), key=lambda folder: folder.stat().st_mtime)


def _commit(source: Source) -> str | None:
    """The commit that a branch or tag last was, as far as this machine knows; a commit is itself."""
    revision = source.revision or "main"
    repo = _cached_repo(source.path)
    found = None if repo is None else repo.refs.get(revision)
    return source.revision if found is None else str(found.commit_hash)


def _cached_repo(path: str) -> "CachedRepoInfo | None":
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return None
    return next((repo for repo in repos if repo.repo_type == "dataset" and repo.repo_id == path), None)
