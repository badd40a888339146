"""What tests of the command line pass around."""

from collections.abc import Callable
from dataclasses import dataclass

Say = Callable[..., "Said"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on standard error."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""
