"""What earlier runs have fetched from the Hub and left on this machine: all that `--offline` may read of it.

`datasets` keeps prepared data sets as `<cache>/<owner>___<name>/<configuration>/<version>/<commit>`, `huggingface_hub`
keeps files, and which commit a branch or tag last was. Both switch to their caches only by a variable of the
environment that is read when they are imported, too early for an option; hence the search here.
"""

from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.task.task import Source

if TYPE_CHECKING:
    from datasets import DatasetBuilder
    from huggingface_hub import CachedRepoInfo


def cached_files(source: Source, *, revision: str) -> Mapping[str, Path]:
    """The files of a revision, by their names in the repository; those of them that were fetched."""
    repo = _cached_repo(source.path)
    found = None if repo is None else repo.refs.get(revision)
    if found is None:
        return {}
    return {file.file_path.relative_to(found.snapshot_path).as_posix(): file.file_path for file in found.files}


def cached_builder(source: Source) -> "DatasetBuilder | None":
    """What reads a prepared data set; None where this one was not prepared.

    Raises:
        UsageError: several configurations were, and the source names none.
    """
    from datasets.packaged_modules.cache.cache import Cache

    folders = _prepared(source)
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


def _prepared(source: Source) -> Sequence[Path]:
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
