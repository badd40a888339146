"""May results be written into a folder? Those that stand there are replaced by the same question's alone, or by any
with `--overwrite`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from lmtasks.evaluation.evaluate import TaskResult
    from lmtasks.records import Json
    from lmtasks.task.task import Task
    from lmtasks.workflow.choose_models import ChosenModel

NO_MATTER = frozenset(
    {
        *("model", "answers", "tasks", "include_path", "data", "data_root"),  # what these led to is asked instead
        *("out", "overwrite", "cache", "threads", "batch_size", "offline", "token", "trust_code", "speed", "track"),
        *("page_language", "explain"),
        *("served_name", "api_key_env", "concurrent", "request_timeout", "retries"),
        *("shard", "on", "shards"),
    }
)
"""Options that say where things are, or how fast, and not what is asked."""
WAY_OUT = "give another --out, or --overwrite to replace them"
SHOWN = 3
"""Differences that a message names."""


def next_folder(use_case: str) -> Path:
    """`runs/eval-1`, or the first number that is free: without --out nothing is ever overwritten."""
    number = 1
    while (folder := Path("runs") / f"{use_case}-{number}").exists():
        number += 1
    return folder


def asked_json(given: Mapping[str, object], *, tasks: Sequence[Task], chosen: ChosenModel | None = None) -> Json:
    """The question put to one model, for `results.json`: every option that matters, tasks and model by their hash.

    Args:
        given: option to its value, named as arguments are (`num_fewshot`). Options that are added count by themselves.
    """
    from lmtasks.results.base import plain
    from lmtasks.workflow.open_model import card_in, settings_hash

    asked: dict[str, object] = {
        f"--{name.replace('_', '-')}": value for name, value in given.items() if name not in NO_MATTER
    }
    asked |= {f"task {task.name}": task.hash for task in tasks}
    if chosen is not None:
        folder = chosen.folder
        claimed = "" if chosen.server is None else chosen.server.identity
        weights = claimed if folder is None else f"{card_in(folder).weights_hash} {settings_hash(folder)[:16]}"
        weights = weights if chosen.answers is None else chosen.answers.hash
        asked["model"] = f"{chosen.label} {weights}".strip()
    content: dict[str, object] = json.loads(json.dumps(plain(asked)))
    return content


def check_free(folders: Mapping[Path, Json], *, out: Path) -> None:
    """May results be written into these folders of `out`?

    Args:
        folders: each with what is asked for it.

    Raises:
        UsageError: one holds results of something else, or `out` holds results of other models beside.
    """
    from lmtasks.evaluation.write import RESULTS

    for folder, asked in folders.items():
        if (folder / RESULTS).is_file():
            _check_same(folder / RESULTS, asked)
    others = [file.parent for file in _results_below(out) if file.parent not in folders]
    if others:
        names = ["one model alone" if each == out else each.name for each in others[:SHOWN]]
        raise UsageError(
            f"{out} holds results of {', '.join(names)}, which this command does not "
            "score; give another --out, or --overwrite to remove them."
        )


def check_rows(results: Sequence[TaskResult], *, out: Path) -> None:
    """Were the same rows scored as in the results that stand in the folder? Known only once they are read.

    Raises:
        UsageError: they were others, of a file that has changed, say.
    """
    from lmtasks.evaluation.write import RESULTS

    held = _read(out / RESULTS).get("results")
    for result in results:
        record = held.get(result.task) if isinstance(held, dict) else None
        conditions = record.get("conditions") if isinstance(record, dict) else None
        if isinstance(conditions, dict) and conditions.get("data_fingerprint") != result.data_fingerprint:
            raise UsageError(
                f"{out} holds results over other rows of {result.task}, whose data has changed since; {WAY_OUT}. The "
                "answers are kept in the cache."
            )


def make_free(folders: Mapping[Path, Json], *, out: Path) -> None:
    """Remove the results in `out` that are of other models than those that will be written."""
    from lmtasks.evaluation.write import remove_results

    for file in _results_below(out):
        if file.parent not in folders:
            remove_results(file.parent)


def _check_same(file: Path, asked: Json) -> None:
    held = _read(file).get("asked")
    if not isinstance(held, dict):
        raise UsageError(f"{file.parent} holds results that do not say what was asked; {WAY_OUT}.")
    unlike = [_difference(name, held, asked) for name in {**held, **asked} if _given(held, name) != _given(asked, name)]
    if unlike:
        more = f" and {len(unlike) - SHOWN} more" if len(unlike) > SHOWN else ""
        raise UsageError(
            f"{file.parent} holds results of something else: {'; '.join(unlike[:SHOWN])}{more}; {WAY_OUT}."
        )


def _difference(name: str, held: Json, asked: Json) -> str:
    if name.startswith("task "):
        if name not in held:
            return f"{name} is new"
        return f"{name} has changed" if name in asked else f"{name} is not asked any more"
    return f"{name} was {_given(held, name)} and is {_given(asked, name)}"


def _read(file: Path) -> Json:
    """results.json; empty where there is none, or it is damaged."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _given(asked: Json, name: str) -> object:
    """The value of an option; a switch that is off, and what an earlier version did not have, are not given."""
    value = asked.get(name)
    return "not given" if value is None or value is False or value in ("", []) else value


def _results_below(out: Path) -> Sequence[Path]:
    from lmtasks.evaluation.write import RESULTS

    return sorted([*out.glob(RESULTS), *out.glob(f"*/{RESULTS}")])
