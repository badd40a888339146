"""Rows written for golden files."""

from collections.abc import Mapping, Sequence

Row = Mapping[str, object]

SENTENCES: Sequence[Row] = (
    {"sentence": "Ada gave Bo the key because _ was leaving.", "one": "Ada", "two": "Bo", "answer": 0},
    {
        "sentence": "The box did not fit on the shelf, since the _ was too wide.",
        "one": "box",
        "two": "shelf",
        "answer": 0,
    },
    {
        "sentence": "The pear was sweeter than the plum, so Tom ate the _ first.",
        "one": "pear",
        "two": "plum",
        "answer": 0,
    },
    {"sentence": "Mia asked Rosa to sing, and _ said no.", "one": "Mia", "two": "Rosa", "answer": 1},
    {"sentence": "The lamp fell off the table when the _ was pushed.", "one": "lamp", "two": "table", "answer": 1},
    {"sentence": "Ned thanked Ole for the soup that _ had made.", "one": "Ned", "two": "Ole", "answer": 1},
)
"""A blank, what may stand in it, and which of the two it is."""

YES_NO: Sequence[Row] = (
    {"question": "Is ice cold?", "right": [0], "name": "yes"},
    {"question": "Will it rain in spring?", "right": [0, 2], "name": "maybe"},
    {"question": "Can a stone swim?", "right": [1], "name": "no"},
    {"question": "Is the shop open?", "right": [2, 1, 0], "name": "maybe"},
    {"question": "Do fish fly?", "right": [1, 2], "name": "no"},
)
"""Questions with one right choice or several."""

REFERENCES: Sequence[Row] = (
    {"question": "The colour of grass is", "right": ["green", "a green"]},
    {"question": "One and one is", "right": ["two", "2", "the"]},
    {"question": "She opened the", "right": ["door", "window"]},
    {"question": "In the morning the", "right": ["sun", "birds", "light"]},
)
"""Beginnings with several right ends."""
