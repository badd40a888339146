"""A plain table on standard output, aligned for people and easy to cut for programs.

>>> print(layout(("task", "acc"), [("sst2", "81.3"), ("情感", "90.1")], right=(1,)))
task   acc
sst2  81.3
情感  90.1
"""

from collections.abc import Sequence

from lmtasks.cli.output import tell_table
from lmtasks.scripts import text_width

GAP = "  "


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print `layout`; with --json the cells are kept, too."""
    tell_table(columns, rows)
    print(layout(columns, rows, right=right))


def layout(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """The table as lines.

    Args:
        right: numbers of the columns that are aligned on the right.
    """
    lines = [columns, *rows]
    widths = [max(text_width(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        GAP.join(_padded(cell, widths[place], on_right=place in right) for place, cell in enumerate(line)).rstrip()
        for line in lines
    )


def _padded(text: str, width: int, *, on_right: bool) -> str:
    blanks = " " * (width - text_width(text))
    return blanks + text if on_right else text + blanks
