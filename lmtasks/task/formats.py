"""Formats of data files, told by their suffixes."""

from collections.abc import Mapping
from typing import Literal

Format = Literal["parquet", "jsonl", "json", "csv", "tsv", "xlsx", "text"]

SUFFIXES: Mapping[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".xlsx": "xlsx",
    ".txt": "text",
}
"""In the order in which they are preferred where a split lies in a folder in several formats."""

BUILDERS: Mapping[str, Format] = {
    "parquet": "parquet",
    "json": "json",
    "csv": "csv",
    "tsv": "tsv",
    "xlsx": "xlsx",
    "text": "text",
}
"""Names that a task file's `dataset_path` may have in place of a data set, `data_files` naming the files."""

BUILDER_OF: Mapping[Format, str] = {"jsonl": "json", "tsv": "csv"}
"""Formats that `datasets` reads under the name of another one."""


def builder_of(suffix: str) -> str:
    """The `dataset_path` of a task for a file of that suffix.

    >>> builder_of(".ndjson"), builder_of(".parquet")
    ('json', 'parquet')
    """
    form = SUFFIXES[suffix.lower()]
    return BUILDER_OF.get(form, form)
