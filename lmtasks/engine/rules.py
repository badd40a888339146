"""Tokens that must be written, or must not, whatever they score: `TokenRules`, as transformers' `generate` keeps them.

>>> rules = TokenRules(first=2, never=(5,), never_behind=((7, 8),))
>>> forced_tokens(rules, before=1, left=9), banned_tokens(rules, before=[0, 7], step=1)
((2,), [5, 8])
"""

from collections.abc import Sequence

from lmtasks.records import TokenRules


def forced_tokens(rules: TokenRules, *, before: int, left: int) -> tuple[int, ...]:
    """The tokens of which the next one must be one; empty: any.

    Args:
        before: how many tokens the decoder has read.
        left: tokens that may still be written.
    """
    if left == 1 and rules.last:
        return rules.last
    return (rules.first,) if rules.first is not None and before == 1 else ()


def banned_tokens(rules: TokenRules, *, before: Sequence[int], step: int) -> list[int]:
    """The tokens that the next one must not be.

    Args:
        before: what the decoder has read: prompt and answer, or its start token and answer.
        step: tokens that were written so far.
    """
    banned = list(rules.never)
    # A forced first token is not counted as the first that is written freely.
    forced = rules.first is not None and len(before) - step == 1
    if step == (1 if forced else 0):
        banned += rules.never_first
    for *words, token in rules.never_behind:
        if tuple(before[-len(words) :]) == tuple(words):
            banned.append(token)
    return banned
