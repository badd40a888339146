"""All golden cases."""

from golden_base import Case
from golden_choices import CHOICES
from golden_texts import TEXTS

CASES: tuple[Case, ...] = (*CHOICES, *TEXTS)
