"""Scripts that put no spaces between words: a run of such letters is no word, and must be cut otherwise.

>>> spaceless_share(["今天 ok"]), spaceless_share(["a good film"])
(0.5, 0.0)
>>> [suited_tokenizer("words:900,lower", [[text]]) for text in ("今天天气很好", "今天 a film", "a film")]
['characters:900,lower', 'words-or-characters:900,lower', 'words:900,lower']
>>> runs_words_together(["今天天气很好我们去公园散步"]), runs_words_together(["今天 天气 很 好 我们 去 公园"])
(True, False)
"""

import re
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.records import Ints
from lmtasks.scripts import SPACELESS

CUT_BY_CHARACTER = ("Chinese", "Japanese", "Thai", "Lao", "Khmer", "Burmese")
SCRIPTS = "".join(rf"\p{{{script}}}" for name in CUT_BY_CHARACTER for script in SPACELESS[name]) + "ーｰ"
"""As Unicode classes, for `tokenizers`; the two marks lengthen a kana, and are of no script."""
ENOUGH = 0.2
"""Texts whose marks are of such scripts by a fifth are no texts of words alone."""
MOSTLY = 0.5
"""Texts whose marks are of such scripts by half are best read by characters, what else stands in them too."""
LOOKED_AT = 500
"""Texts of a task that are looked at."""
LONG_RUN = 6.0
"""Letters in a row, in the mean, that are no single word: words that stand apart have two of Chinese, five of Thai."""

_LETTER = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f]"
)
_RUN = re.compile(f"{_LETTER.pattern}+")


def suited_tokenizer(spec: str, texts: Iterable[Iterable[str]]) -> str:
    """A family's own tokenizer for these texts: words where words stand apart, else characters; both where both stand
    beside each other.

    Args:
        spec: `words:30000,lower`; others are good for any text, and stay.
        texts: of each task.
    """
    kind, colon, settings = spec.partition(":")
    if kind != "words":
        return spec
    shares = [spaceless_share(islice(each, LOOKED_AT)) for each in texts]
    if not any(shares):
        return spec
    return f"{'characters' if min(shares) >= MOSTLY else 'words-or-characters'}{colon}{settings}"


def longest_terms(rows: Sequence[Ints], *, tokenizer: Tokenizer) -> int:
    """Tokens in a row that say something together: two; three where a fifth of them or more are single letters."""
    ids, counts = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *rows]), return_counts=True)
    texts = [tokenizer.decode([index]).strip() for index in ids.tolist()]
    single = np.array([len(text) == 1 and text.isalpha() for text in texts], dtype=np.bool_)
    return 3 if counts[single].sum() >= ENOUGH * counts.sum() > 0 else 2


def spaceless_share(texts: Iterable[str]) -> float:
    """The share, 0-1, of marks that are of such scripts; blanks are no marks."""
    letters = marks = 0
    for text in texts:
        letters += len(_LETTER.findall(text))
        marks += sum(not mark.isspace() for mark in text)
    return letters / marks if marks else 0.0


def runs_words_together(texts: Iterable[str]) -> bool:
    """True where a good part of these texts puts no spaces between words, and is not cut into words already."""
    known = list(texts)
    runs = [len(run) for text in known for run in _RUN.findall(text)]
    return spaceless_share(known) >= ENOUGH and sum(runs) > LONG_RUN * len(runs)
