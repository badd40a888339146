"""Several processes, one evaluation: `torchrun --nproc-per-node 2 -m lmtasks eval ...`.

Process r of n answers documents r, r + n, r + 2n, ...; at the end the first one gathers everything once, and it alone
prints and writes. Worked examples and draws are keyed by the document, so the numbers are those of one process. What is
gathered goes through torch.distributed (gloo), so that processes on several machines need no disk in common.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from lmtasks.errors import UsageError
from lmtasks.evaluation.samples import Samples, line_of
from lmtasks.files import AppendedFiles
from lmtasks.records import Json

LINES_AT_ONCE = 2000
"""Samples of each process that are gathered together."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among several."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True for the process that prints and writes."""
        return self.rank == 0

    def gather(self, item: _Item) -> list[_Item]:
        """The item of every process, in the order of ranks, in the first; nothing in the others."""
        if self.count == 1:
            return [item]
        import torch.distributed as dist

        found: list[_Item | None] | None = [None] * self.count if self.first else None
        dist.gather_object(item, found, dst=0)
        return [each for each in found or () if each is not None]

    def share(self, item: _Item) -> _Item:
        """Give the first process's object to all."""
        if self.count == 1:
            return item
        import torch.distributed as dist

        held: list[_Item] = [item]
        dist.broadcast_object_list(held, src=0)
        return held[0]


ALONE = Processes()


@contextmanager
def started() -> Iterator[Processes]:
    """The processes that a launcher made of this one; `ALONE` where there was no launcher.

    Raises:
        UsageError: the launcher's variables do not fit together.
    """
    count, rank = _variable("WORLD_SIZE", 1), _variable("RANK", 0)
    if count == 1:
        yield ALONE
        return
    if not 0 <= rank < count or "MASTER_ADDR" not in os.environ:
        raise UsageError(
            f"the launcher names process {rank} of {count} (RANK, WORLD_SIZE) and "
            f"{os.environ.get('MASTER_ADDR', 'no')} address (MASTER_ADDR); start with torchrun."
        )
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(_variable("LOCAL_RANK", 0) % torch.cuda.device_count())
    dist.init_process_group("gloo")
    try:
        yield Processes(rank=rank, count=count)
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """True for the process that prints and writes, and where there was no launcher."""
    return _variable("RANK", 0) == 0


def launched_here() -> int:
    """Number of processes that the launcher started on this machine."""
    return max(1, _variable("LOCAL_WORLD_SIZE", _variable("WORLD_SIZE", 1)))


class Spooled:
    """Samples of one process, on its own disk until they are gathered."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._files = AppendedFiles()
        self._places: dict[str, Path] = {}

    def add(self, task: str, samples: Sequence[Json]) -> None:
        """Write more."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="lmtasks-")
        place = self._places.setdefault(task, Path(self._folder.name) / f"{len(self._places)}.jsonl")
        self._files.append(place, "".join(line_of(sample) for sample in samples))

    def drop(self, task: str) -> None:
        """Forget them."""
        place = self._places.get(task)
        if place is not None:
            self._files.forget(place)

    def close(self) -> None:
        """Forget everything."""
        self._files.close()
        if self._folder is not None:
            self._folder.cleanup()

    def gather(self, task: str, *, processes: Processes, into: Samples) -> None:
        """Hand the samples of all processes to `into` of the first, in the order of the documents."""
        self._files.close()
        place = self._places.get(task)
        with nullcontext() if place is None else place.open(encoding="utf-8", errors="surrogatepass") as opened:
            lines = iter(opened or ())
            while True:
                mine = list(islice(lines, LINES_AT_ONCE))
                parts = processes.gather(mine)
                more = processes.share(any(parts))
                for row in range(max(map(len, parts), default=0)):
                    into.add(task, [_object(part[row]) for part in parts if row < len(part)])
                if not more:
                    break
        self.drop(task)


def _object(line: str) -> Mapping[str, object]:
    return dict(json.loads(line))


def _variable(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise UsageError(f"the launcher's variable {name} must be a whole number, was {text!r}.") from None
