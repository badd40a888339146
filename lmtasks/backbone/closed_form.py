"""The families that are fitted to their rows at once: no steps, no gradients, no torch. One line of the table each.

They are written as the others are, `ngram:order=3`, trained by the same command, and answer in the runtime `native`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lmtasks.backbone.linear import TFIDF_STRENGTH
from lmtasks.backbone.sizes import FittedSizes, NgramSizes, TermSizes, read_sizes
from lmtasks.errors import unknown

LINEAR = "is fitted by scikit-learn, without steps"
NO_PLACES = "it gives a whole text one score for each class, and no place in it"
WORDS = "words:200000,lower"


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
