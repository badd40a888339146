"""The families that are fitted to their rows at once: no steps, no gradients, no torch. One line of the table each.

They are written as the others are, `ngram:order=3`, trained by the same command, and answer in the runtime `native`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lmtasks.backbone.linear import TFIDF_STRENGTH
from lmtasks.backbone.sizes import FittedSizes, read_sizes
from lmtasks.errors import unknown

LINEAR = "is fitted by scikit-learn, without steps"
NO_PLACES = "it gives a whole text one score for each class, and no place in it"
WORDS = "words:200000,lower"


@dataclass(frozen=True, kw_only=True)
class NgramSizes(FittedSizes):
    """Settings of n-gram language models."""

    order: int = 5
    """Tokens of the longest n-grams."""
    cutoffs: tuple[int, ...] = (0,)
    """n-grams that stand in the text so often or less are left out, order by order, the last number for all further
    ones; single tokens always stay."""
    lines: int = 1
    """1: the end of a line is looked back to, and not over, where it is a token of its own; 0: only that of a text."""
    fallback: int = 0
    """1: an order whose counts define no discounts gets 0.5, 1 and 1.5; 0: it is an error."""


@dataclass(frozen=True, kw_only=True)
class TermSizes(FittedSizes):
    """Settings of linear classifiers over terms: tokens, and runs of neighbours."""

    ngrams: int = 0
    """Tokens of the longest terms; 0: two, or three where the tokens are mostly characters."""
    least: int = 1
    """Training rows that a term stands in, at least."""
    strength: float = 1.0
    """C of scikit-learn's classifiers, the inverse of the penalty on weights; what naive Bayes adds to every count."""


@dataclass(frozen=True, kw_only=True)
class FittedFamily:
    """One kind of model that is fitted at once."""

    about: str
    sizes: FittedSizes
    """The defaults."""
    serves: tuple[str, ...]
    """The kinds of head that it can be."""
    why_not_others: str
    """Why it cannot be the other kinds, as the rest of a sentence."""
    why_no_steps: str
    """Why no training loop moves it, as the rest of a sentence: "ngram ..."."""
    tokenizer: str
    """The tokenizer that suits it, where nobody asks for another and words stand apart (`data.spacing`)."""
    text_tokenizer: str = ""
    """The same where it predicts text, all of which its tokens must say; empty: it predicts none."""


FITTED: Mapping[str, FittedFamily] = {
    "ngram": FittedFamily(
        about="n-grams, interpolated modified Kneser-Ney; one model a class where there are classes",
        sizes=NgramSizes(),
        serves=("generation", "classification"),
        why_not_others="it looks back over a few tokens, and scores whole texts",
        why_no_steps="counts its text once, without steps",
        tokenizer="words:100000",
        text_tokenizer="bpe:8000",
    ),
    "tfidf": FittedFamily(
        about="logistic regression over TF-IDF of terms; probabilities",
        sizes=TermSizes(strength=TFIDF_STRENGTH),
        serves=("classification",),
        why_not_others=NO_PLACES,
        why_no_steps=LINEAR,
        tokenizer=WORDS,
    ),
    "naive-bayes": FittedFamily(
        about="multinomial naive Bayes over counts of terms; probabilities, mostly too sure",
        sizes=TermSizes(),
        serves=("classification",),
        why_not_others=NO_PLACES,
        why_no_steps=LINEAR,
        tokenizer=WORDS,
    ),
    "svm": FittedFamily(
        about="linear support vector machine over TF-IDF of terms; margins, made probabilities by one factor",
        sizes=TermSizes(),
        serves=("classification",),
        why_not_others=NO_PLACES,
        why_no_steps=LINEAR,
        tokenizer=WORDS,
    ),
}


def is_fitted(text: str) -> bool:
    """Does this name a family that is fitted at once, with settings or without?"""
    return text.partition(":")[0] in FITTED


def parse_fitted(text: str) -> tuple[str, FittedSizes]:
    """`ngram:order=3,cutoffs=0+0+1` -> ("ngram", its sizes).

    Raises:
        UsageError: unknown family or setting, or a value that does not fit.
    """
    name = text.partition(":")[0]
    if name not in FITTED:
        raise unknown("fitted family", name, FITTED)
    return name, read_sizes(text, FITTED[name].sizes)
