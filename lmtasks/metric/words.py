"""Texts cut into words for metrics, with no model and no dictionary.

A Han character or a kana stands alone; any other run of letters and digits is one word; all in lower case.

>>> words("BERT在2018年发布。")
['bert', '在', '2018', '年', '发', '布']
>>> pieces("no, no")
['no', ',', 'no']
"""

import re

# Han with its extensions and compatibility forms, and the two kana: scripts that put no spaces between words.
_ALONE = "\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = f"[{_ALONE}]|[^\\W_{_ALONE}]+"
_WORDS = re.compile(_WORD)
_PIECES = re.compile(f"{_WORD}|\\S")


def words(text: str) -> list[str]:
    """The words, without punctuation."""
    return _WORDS.findall(text.lower())


def pieces(text: str) -> list[str]:
    """The words, and each mark of punctuation by itself."""
    return _PIECES.findall(text.lower())
