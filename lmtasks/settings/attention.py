"""How a backbone reads for a head: a setting of adaptations, and a fact of heads. Nothing heavy is loaded."""

from collections.abc import Mapping
from typing import Literal

Attention = Literal["causal", "both"]
"""What a token sees of its text: the tokens before it, or also those behind it."""
ATTENTION_IN_WORDS: Mapping[Attention, str] = {"causal": "causally", "both": "both ways"}
