"""Where the rows of each split come from: the fields of a task file that say so, and `dataset_kwargs`."""

from collections.abc import Mapping
from pathlib import Path

from lmtasks.errors import UsageError, unknown
from lmtasks.task.aliases import current
from lmtasks.task.schema import SourceFile, TaskFile
from lmtasks.task.task import SPLITS, MadeBy, ReaderOptions, Source, SplitName

CARRIED_OUT = (
    "data_files",
    "data_dir",
    "revision",
    "column_names",
    "header",
    "names",
    "sep",
    "delimiter",
    "field",
    "encoding",
)
HARMLESS = (
    "trust_remote_code",
    "streaming",
    "verification_mode",
    "download_mode",
    "keep_in_memory",
    "num_proc",
    "cache_dir",
)
"""`dataset_kwargs` that say how data is fetched and kept; the rows are the same."""
REFUSED: Mapping[str, str] = {
    "split": "leaves lm-evaluation-harness without splits to choose from; name test_split and the like",
    "features": "changes the types of columns; process_docs can do that",
    "token": "is a secret, which does not belong in a file; set HF_TOKEN",
    "use_auth_token": "is a secret, which does not belong in a file; set HF_TOKEN",
    "name": "stands in dataset_name",
    "path": "stands in dataset_path",
}


def sources_of(file: TaskFile, *, base: Path | None, need_scored: bool) -> dict[SplitName, Source]:
    """The source of each split. lm-evaluation-harness' rule: `test_split` is scored, else `validation_split`.

    Args:
        base: the folder that data files are relative to.

    Raises:
        UsageError: no data is named, no split can be scored, or an option is not carried out.
    """
    named = {"train": file.training_split, "validation": file.validation_split, "test": file.test_split}
    found: dict[SplitName, Source] = {}
    for split in SPLITS:
        override = file.sources.get(split)
        if override is not None or named[split] is not None:
            found[split] = source_of(file, override or SourceFile(), split=named[split] or split, base=base)
    if "test" not in found and need_scored:
        if "validation" not in found:
            raise UsageError(
                f"task {file.task} names no split to score; set test_split or validation_split "
                "(or sources: {test: ...})."
            )
        found["test"] = found.pop("validation")
    return found


def source_of(file: TaskFile, override: SourceFile, *, split: str, base: Path | None) -> Source:
    """The source of one split.

    Raises:
        UsageError: no data is named, or an option is not carried out.
    """
    path = override.path or file.dataset_path
    if file.custom_dataset is not None and override.path is None:
        return Source(
            path=f"!function {file.custom_dataset.qualified}",
            split=override.split or split,
            made_by=MadeBy(
                function=file.custom_dataset, options={**(file.metadata or {}), **(file.dataset_kwargs or {})}
            ),
            base=base,
        )
    if path is None:
        raise UsageError(f"task {file.task} names no data: set dataset_path (or a path in sources).")
    same = override.path is None or override.path == file.dataset_path
    kwargs = _kwargs(file) if same else {}
    revision = kwargs.get("revision")
    data_dir = kwargs.get("data_dir")
    return Source(
        path=current(path),
        name=override.name or (file.dataset_name or None if same else None),
        split=override.split or split,
        revision=override.revision or ((file.revision or (str(revision) if revision else None)) if same else None),
        data_files=_data_files(override.data_files or kwargs.get("data_files")),
        data_dir=None if data_dir is None else str(data_dir),
        reading=_reading(kwargs, task=file.task),
        base=base,
    )


def _kwargs(file: TaskFile) -> Mapping[str, object]:
    kwargs = file.dataset_kwargs or {}
    for key in kwargs:
        if key in REFUSED:
            raise UsageError(f"task {file.task}: dataset_kwargs.{key} {REFUSED[key]}.")
        if key not in CARRIED_OUT and key not in HARMLESS:
            hint = "Others are settings of a data set's own loading script, which is not run."
            raise unknown(f"key of dataset_kwargs of task {file.task}", key, (*CARRIED_OUT, *HARMLESS), hint=hint)
    return kwargs


def _data_files(value: object) -> Mapping[str, object] | None:
    """As `datasets` reads it: files without a split's name are the split `train`."""
    if value is None:
        return None
    return {str(key): files for key, files in value.items()} if isinstance(value, Mapping) else {"train": value}


def _reading(kwargs: Mapping[str, object], *, task: str) -> ReaderOptions | None:
    names = kwargs.get("column_names", kwargs.get("names"))
    if names is not None and not isinstance(names, list):
        raise UsageError(f"task {task}: dataset_kwargs.column_names must be a list of names, was: {names!r}.")
    header = kwargs.get("header", "infer")
    if header not in (None, 0, "infer"):
        raise UsageError(
            f"task {task}: dataset_kwargs.header must be null (no header) or 0 (the first line), was: {header!r}."
        )
    delimiter, field = kwargs.get("sep", kwargs.get("delimiter")), kwargs.get("field")
    encoding = kwargs.get("encoding")
    # As pandas has it: with names of its own and no word on a header, the first line is a row.
    headed = header == 0 or (header == "infer" and names is None)
    made = ReaderOptions(
        column_names=None if names is None else tuple(map(str, names)),
        header=headed,
        delimiter=None if delimiter is None else str(delimiter),
        field=None if field is None else str(field),
        encoding=None if encoding is None else str(encoding),
    )
    if made.column_names is None and not made.header:
        raise UsageError(f"task {task}: dataset_kwargs.header is null, so column_names must name the columns.")
    return None if made == ReaderOptions() else made
