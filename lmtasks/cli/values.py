"""Values that several options make together, and options that say the same in another command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.errors import UsageError
from lmtasks.settings.data import DataAccess, TaskChoice
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.models import batch_rows
from lmtasks.settings.runs_on import RunsOn

if TYPE_CHECKING:
    from lmtasks.workflow.choose_models import OpenOptions

NOT_SAID_AGAIN = ("token", "include_path")
"""A secret stays one; and the folder of a task file that goes by name is not every command's."""


def asked_again(choice: TaskChoice, access: DataAccess) -> str:
    """The options that say the same of tasks or data in another command, ready to be pasted.

    >>> asked_again(TaskChoice(data=Path("my reviews.csv"), label="stars", trust_code=True), DataAccess())
    "--data 'my reviews.csv' --label stars --trust-code"
    """
    given = {name: value for each in (access, choice) for name, value in dict(each).items()}
    words: list[str] = []
    flags: list[str] = []
    for name, field in {**TaskChoice.model_fields, **DataAccess.model_fields}.items():
        if name not in NOT_SAID_AGAIN and given[name] != field.default:
            option = f"--{name.replace('_', '-')}"
            if given[name] is True:
                flags.append(option)
            else:
                words += [option, str(given[name])]
    return shlex.join([*words, *flags])


def data_options(access: DataAccess) -> DataAccess:
    """Access to data, checked. `--offline` is also told to the libraries, before they are imported."""
    from lmtasks.workflow.choose_tasks import checked_root

    if access.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    checked_root(access.data_root)
    return access


def open_options(
    on: RunsOn,
    *,
    batch_size: int | Literal["auto"],
    label_map: str,
    cache: Path | None = None,
    server: Endpoint | None = None,
) -> OpenOptions:
    """Options by which the models of a command are opened."""
    from lmtasks.workflow.choose_models import OpenOptions

    return OpenOptions(
        on=on,
        rows_per_batch=batch_rows(batch_size),
        label_names=label_names(label_map),
        cache=cache,
        endpoint=server or Endpoint(),
    )


def label_names(text: str) -> Mapping[str, str]:
    """`LABEL_0=negative,LABEL_1=positive` as a mapping.

    >>> dict(label_names("LABEL_0=negative, LABEL_1=positive"))
    {'LABEL_0': 'negative', 'LABEL_1': 'positive'}
    """
    pairs = [part.split("=", maxsplit=1) for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
        raise UsageError(f"--label-map must be NAME=LABEL with commas between, was {text!r}.")
    return {name.strip(): label.strip() for name, label in pairs}
