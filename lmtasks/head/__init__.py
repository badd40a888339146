"""Heads turn hidden states into answers; the table has one line a kind. They know nothing of the backbone's kind."""

from lmtasks.head.base import Head
from lmtasks.head.classification import CLASSIFICATION
from lmtasks.head.embedding import EMBEDDING
from lmtasks.head.generation import GENERATION
from lmtasks.head.multi_label import MULTI_LABEL
from lmtasks.head.ranking import RANKING
from lmtasks.head.regression import REGRESSION
from lmtasks.head.span import SPAN
from lmtasks.head.tagging import SEMANTIC_ROLES, TAGGING
from lmtasks.named_table import NamedTable
from lmtasks.records import HeadSpec

__all__ = ["HEADS", "Head", "head_of"]

HEADS: NamedTable[Head] = NamedTable(
    "head", CLASSIFICATION, MULTI_LABEL, REGRESSION, RANKING, EMBEDDING, SPAN, TAGGING, SEMANTIC_ROLES, GENERATION
)


def head_of(spec: HeadSpec) -> Head:
    """The kind of a head.

    Raises:
        UsageError: this version knows no such kind.
    """
    return HEADS.line(spec.kind)
