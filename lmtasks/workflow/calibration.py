"""Real rows of tasks, as a model reads them: what `int8-static` measures its scales on. Never scored rows, nor those
that choices are made on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmtasks.data.rows import Rows
from lmtasks.data.splits import load_task_data
from lmtasks.data.tokenizer import Tokenizer, load_tokenizer
from lmtasks.errors import UsageError
from lmtasks.export.ranges import CalibrationRow
from lmtasks.model.files import tokenizer_folder
from lmtasks.model.store import card_of
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.kinds import baseline_source, head_input, kind_of
from lmtasks.task.task import SplitName, Task
from lmtasks.workflow.quality_gate import seed_of

ROWS = 256
"""Over all tasks."""
LONGEST_TOKENS = 512


def calibration_rows(
    tasks: Sequence[Task], *, model: Path, options: DataAccess, own: bool = False
) -> tuple[CalibrationRow, ...]:
    """Training rows of the tasks, drawn by seed, with segment ids where the model takes them.

    Args:
        own: the tasks are a person's own data: where it is one file, its rows are taken.

    Raises:
        UsageError: no task has training rows.
    """
    seed = seed_of(model)
    card, tokenizer = card_of(model), load_tokenizer(tokenizer_folder(model))
    longest = min(card.max_length_tokens, LONGEST_TOKENS)
    found: list[CalibrationRow] = []
    with_rows = [task for task in tasks if own or "train" in task.sources]
    if not with_rows:
        names = ", ".join(task.name for task in tasks)
        raise UsageError(
            f"int8-static measures its scales on training rows, and none of these tasks has any: {names}; name --tasks "
            "that have, or give --data FILE --text COLUMN."
        )
    for task in with_rows:
        rows = _rows(task, options=options, seed=seed)
        each = -(-ROWS // len(with_rows))
        places = np.sort(np.random.default_rng(seed).permutation(len(rows.rows))[:each])
        for place in places:
            row = _encoded(task, rows.rows[int(place)], tokenizer=tokenizer, number=int(place), longest=longest)
            found += [row] if row.ids else []
    return tuple(found)


def _rows(task: Task, *, options: DataAccess, seed: int) -> Rows:
    split: SplitName = "train" if "train" in task.sources else "test"
    data = load_task_data(task, options=options, need=frozenset({split}), seed=seed)
    rows = data.train if split == "train" else data.test
    assert rows is not None  # it was needed
    return rows


def _encoded(task: Task, row: Row, *, tokenizer: Tokenizer, number: int, longest: int) -> CalibrationRow:
    """A row as the head of its kind reads it; else the question of its prompt."""
    if kind_of(task).roles:
        given = head_input(task, row, row_number=number, labelled=False)
        encoded = tokenizer.encode_for_head(given.first, given.second)
    else:
        encoded = tokenizer.encode_for_head(baseline_source(task, row))
    types = encoded.types if tokenizer.takes_types else ()
    return CalibrationRow(ids=tuple(encoded.ids[:longest]), types=tuple(types[:longest]))
