"""Precisions that this processor computes by instructions of its own; others a library emulates, or refuses.

>>> sorted(INSTRUCTIONS)
['bf16', 'int8']
>>> computes("bf16", flags=frozenset({"avx512f", "avx512_bf16"})), computes("bf16", flags=frozenset({"avx512f"}))
(True, False)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROCESSOR = Path("/proc/cpuinfo")
FIELDS = ("flags", "Features")
"""Where Linux lists instruction sets: on x86, on ARM."""


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """Instruction sets, any of which computes in a precision."""

    names: str
    """As people know them."""
    flags: frozenset[str]
    """As Linux names them (x86, then ARM)."""


INSTRUCTIONS: Mapping[str, Instructions] = {
    "bf16": Instructions(
        names="AVX-512 BF16, AMX, or ARM's BF16", flags=frozenset({"avx512_bf16", "amx_bf16", "bf16"})
    ),
    # Without them sums of 8-bit products saturate in between.
    "int8": Instructions(names="VNNI", flags=frozenset({"avx512_vnni", "avx_vnni"})),
}
"""By the product that they compute."""


def computes(product: str, *, flags: frozenset[str] | None = None) -> bool:
    """Does the processor compute a product of `INSTRUCTIONS` itself? Where nobody tells, it does not.

    Args:
        flags: of the processor; None: of this one.
    """
    return bool(INSTRUCTIONS[product].flags & (processor_flags() if flags is None else flags))


@cache
def processor_flags() -> frozenset[str]:
    """The instruction sets of this processor, as Linux names them; none where it does not tell."""
    return flags_of(PROCESSOR)


def flags_of(file: Path) -> frozenset[str]:
    """The instruction sets that a file in the form of /proc/cpuinfo lists.

    All processors of a machine have the same.
    """
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in FIELDS:
            return frozenset(value.split())
    return frozenset()
