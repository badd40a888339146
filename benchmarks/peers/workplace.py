"""What every part of the comparison works with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sides import Request, Side, ask


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Folders and settings of one comparison."""

    out: Path
    peer: Path
    """Python of lm-evaluation-harness' environment."""
    tasks: Path
    """Folder of task files."""
    checkpoints: Mapping[str, Path]
    scale: float
    rounds: int
    threads: int
    only_tasks: tuple[str, ...] = ()
    only_checkpoints: tuple[str, ...] = ()
    only_works: tuple[str, ...] = ()
    """Of `speed`: those whose name holds one of these words."""

    def scaled(self, count: int, *, least: int = 2) -> int:
        """So many documents at this scale."""
        return max(least, round(count * self.scale))

    def ask(self, side: Side, request: Request, *, name: str, reuse: bool = False) -> Mapping[str, Any]:
        """Let a side answer in a fresh process; with `reuse`, an answer that stands is taken again."""
        return ask(side, request, peer=self.peer, folder=self.out / "work" / name, reuse=reuse)
