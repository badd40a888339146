"""Values that several options make together, and options that say the same in another command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from lmtasks.settings.data import DataAccess


def asked_again(
    *,
    tasks: str = "",
    data: Path | None = None,
    text: str = "text",
    label: str | None = None,
    pair: str | None = None,
    name: str | None = None,
    language: str | None = None,
    encoding: str | None = None,
    drop_unlabelled: bool = False,
    data_root: Path | None = None,
    offline: bool = False,
    trust_code: bool = False,
) -> str:
    """The options that say the same of tasks or data in another command, ready to be pasted.

    >>> asked_again(data=Path("my reviews.csv"), label="stars")
    "--data 'my reviews.csv' --label stars"
    """
    given: dict[str, object] = {
        "--tasks": tasks or None,
        "--data": data,
        "--text": text if data is not None and text != "text" else None,
        "--label": label,
        "--pair": pair,
        "--name": name,
        "--language": language,
        "--encoding": encoding,
        "--data-root": data_root,
    }
    words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    flags = {"--drop-unlabelled": drop_unlabelled, "--offline": offline, "--trust-code": trust_code}
    return shlex.join([*words, *(flag for flag, is_given in flags.items() if is_given)])


def data_options(
    *, data_root: Path | None, offline: bool, token: str | None, drop_unlabelled: bool = False
) -> DataAccess:
    """The options as `data/` takes them. `--offline` is also told to the libraries, before they are imported."""
    from lmtasks.settings.data import DataAccess
    from lmtasks.workflow.choose_tasks import checked_root

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    return DataAccess(data_root=checked_root(data_root), offline=offline, token=token, drop_unlabelled=drop_unlabelled)


def label_names(text: str) -> Mapping[str, str]:
    """`LABEL_0=negative,LABEL_1=positive` as a mapping.

    >>> dict(label_names("LABEL_0=negative, LABEL_1=positive"))
    {'LABEL_0': 'negative', 'LABEL_1': 'positive'}
    """
    pairs = [part.split("=", maxsplit=1) for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
        raise UsageError(f"--label-map must be NAME=LABEL with commas between, was {text!r}.")
    return {name.strip(): label.strip() for name, label in pairs}
