"""Seeded sentences of right tags and answered ones, as likely to break a scheme as to keep to it."""

import random
from collections.abc import Sequence

Pair = tuple[list[str], list[str]]


def random_pairs(letters: str, kinds: Sequence[str], *, seed: int, count: int = 200) -> list[Pair]:
    """Pairs of tags that agree in three places of four; each sentence has one word or more."""
    draw = random.Random(seed)
    tags = ["O", *(f"{letter}-{kind}" for letter in letters for kind in kinds)]

    def one() -> str:
        return "O" if draw.random() < 0.3 else draw.choice(tags)

    pairs = []
    for _ in range(count):
        wanted = [one() for _ in range(draw.randint(1, 12))]
        pairs.append((wanted, [tag if draw.random() < 0.75 else one() for tag in wanted]))
    return pairs


def well_formed(pairs: list[Pair]) -> list[Pair]:
    """The same in IOB2: an inside tag without a beginning becomes one."""
    return [(_begun(wanted), _begun(found)) for wanted, found in pairs]


def _begun(tags: Sequence[str]) -> list[str]:
    found: list[str] = []
    before = "O"
    for tag in tags:
        goes_on = tag.startswith("I-") and before != "O" and before[2:] == tag[2:]
        before = tag if tag == "O" or goes_on else f"B-{tag[2:]}"
        found.append(before)
    return found
