r"""Text from files and models, on a terminal: marks that would move the cursor or turn the writing round are shown.

>>> print(visible("a\x1b[31mred"), visible("abc\u202edef"))
a\x1b[31mred abc\u202edef
"""

import re

LONGEST = 4000
"""Characters of a line that is told: a file may be one endless name."""
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and the marks that change the direction of writing."""


def visible(text: str) -> str:
    """The text with every such character as its escape."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown_line(text: str) -> str:
    """A line for people on standard error: visible, and its middle left out where it is endless."""
    shown = visible(text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]} [...] {shown[-LONGEST // 2 :]}"
