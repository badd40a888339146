"""What a cell says as a label: a class's name, nothing, or what cannot be a class.

>>> label_name(" pos "), label_name(3.0), label_name("N/A")
('pos', '3', None)
"""

import math

from lmtasks.errors import UsageError

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
).union(("NULL", "NaN", "NaT", "None", "n/a", "nan", "null", "-", "--", "–", "—"))
"""What pandas reads as missing, and dashes. `none` in small letters is a class of many data sets."""
INVISIBLE = "\ufeff\u200b\u2060"


def label_name(value: object, *, where: str = "") -> str | None:
    """The class's name, blanks around it taken off; None where the cell has no label.

    Args:
        where: the row, for the error.

    Raises:
        UsageError: no text, truth value or whole number.
    """
    if isinstance(value, str):
        name = value.strip().strip(INVISIBLE).strip()
        return None if name in MISSING else name
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    shown = f"the label {str(value)[:60]!r}" if isinstance(value, str | float) else f"the label {str(value)[:60]}"
    what = {
        float: "is no whole number; a class is a text, a truth value or a whole number, and a score is none",
        list: "is a list; a row has one label, and rows with several (multi-label) are not classified here",
    }.get(type(value), f"is of type {type(value).__name__}; a class is a text, a truth value or a whole number")
    raise UsageError(f"{where}: {shown} {what}.")
