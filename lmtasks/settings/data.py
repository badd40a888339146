"""Sources of rows: access to data sets, tasks by name, and a person's own file as a task."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import PrivateAttr

from lmtasks.settings.base import Setting, Settings

DropUnlabelled = Annotated[bool, Setting("Leave out rows without a label, also where they are more than 5 %.")]
OwnKind = Literal["classification", "multi_label", "regression"]
TrustCode = Annotated[bool, Setting("Let task files run their own Python code.")]
TaskList = Annotated[str, Setting("Names, globs or files of tasks, with commas between.", metavar="TASKS")]
IncludePath = Annotated[
    tuple[Path, ...],
    Setting(
        "Task files in this folder and below go by name, too, before those that come along; repeatable.",
        metavar="FOLDER",
    ),
]
Encoding = Annotated[
    str | None,
    Setting("Encoding of --data (euc-kr, shift_jis, windows-1252, ...); default: found.", metavar="NAME"),
]


class DataAccess(Settings):
    """Sources of rows besides the files that a task names."""

    data_root: Annotated[
        Path | None, Setting("Local mirror of the Hub's data sets, searched first.", metavar="FOLDER")
    ] = None
    """`<data_root>/<dataset_path>[/<dataset_name>]/<split>.parquet`."""
    offline: Annotated[bool, Setting("Touch no network at all.")] = False
    token: Annotated[str | None, Setting("Hub token; default: the one that HF_TOKEN names.", metavar="TOKEN")] = None
    """None: the one that `huggingface_hub` finds (HF_TOKEN, or `hf auth login`)."""
    drop_unlabelled: bool = False
    """Leave out rows without a label, however many they are."""

    _unreachable: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def unreachable(self) -> dict[str, str]:
        """Data sets that could not be fetched, and why: each is tried once a command, not once a cell."""
        return self._unreachable


class TaskNames(Settings):
    """Tasks by name."""

    tasks: TaskList = ""
    include_path: IncludePath = ()
    trust_code: bool = False
    """Let task files run their own Python code."""


class TaskChoice(TaskNames):
    """Tasks by name, or one that is made of a person's own file."""

    data: Annotated[
        Path | None,
        Setting("Your own data instead of --tasks: CSV, TSV, Excel, JSON, JSONL, parquet or a folder.", metavar="FILE"),
    ] = None
    text: Annotated[str, Setting("Column of --data that holds the text.", metavar="COLUMN")] = "text"
    label: Annotated[
        str | None, Setting("Column of --data that holds the label, a list of labels or a number.", metavar="COLUMN")
    ] = None
    pair: Annotated[str | None, Setting("Column of --data with a second text.", metavar="COLUMN")] = None
    kind: Annotated[
        OwnKind,
        Setting(
            "What --label holds: one class (classification), a list of them (multi_label), or a number (regression).",
            metavar="NAME",
        ),
    ] = "classification"
    name: Annotated[
        str | None,
        Setting(
            "What --data is called as a task; a head of that name answers it. Default: the file's name.", metavar="NAME"
        ),
    ] = None
    language: Annotated[str | None, Setting("Language of the answers to --data; default: guessed.", metavar="CODE")] = (
        None
    )
    encoding: Encoding = None
    drop_unlabelled: DropUnlabelled = False

    @property
    def is_single_file(self) -> bool:
        """Is it one file of one's own, of which a part may be set aside to be scored?"""
        return self.data is not None and self.data.is_file()
