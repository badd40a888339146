"""Lines that other packages add to a table, by entry points: `lmtasks.metrics` and `lmtasks.runtimes`.

    [project.entry-points."lmtasks.metrics"]
    my_metric = "my_package:MY_METRIC"          # a MetricSpec; the name is the entry point's

Nothing is looked up before a name is asked for that is not our own, or all are listed. What does not load is named in
one warning, and the rest goes on; nobody's line takes the place of ours.
"""

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Generic, TypeVar

Line = TypeVar("Line")
log = logging.getLogger(__name__)


class PluginTable(Mapping[str, Line], Generic[Line]):
    """Our own lines, then those of other packages.

    Args:
        lines: our own, by name.
        group: the entry points' group.
        kind: the type that each must have.
    """

    def __init__(self, lines: Mapping[str, Line], *, group: str, kind: type[Line]) -> None:
        self.own = lines
        self._group = group
        self._kind = kind

    def __getitem__(self, name: str) -> Line:
        return self.own[name] if name in self.own else self._others[name][0]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self._others

    def __len__(self) -> int:
        return len(self.own) + len(self._others)

    def package(self, name: str) -> str:
        """The package that adds a line, with its version; empty for our own."""
        return "" if name in self.own else self._others[name][1]

    @cached_property
    def _others(self) -> Mapping[str, tuple[Line, str]]:
        """Name to line and package."""
        from importlib.metadata import entry_points

        found: dict[str, tuple[Line, str]] = {}
        points = entry_points(group=self._group)
        for point in sorted(points, key=lambda each: (each.name, each.dist.name if each.dist else "")):
            package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            what = f"{point.name} of {package} (entry point {self._group})"
            if point.name in self.own or point.name in found:
                whose = "lmtasks" if point.name in self.own else found[point.name][1]
                log.warning("%s is left out: the name is taken by %s; call it otherwise", what, whose)
                continue
            try:
                line = point.load()
            except (Exception, SystemExit) as error:  # noqa: BLE001  # code of others may raise anything
                said = " ".join(str(error).split())[:200]
                log.warning("%s is left out: it does not load: %s: %s", what, type(error).__name__, said)
                continue
            if not isinstance(line, self._kind):
                kind, wanted = type(line).__name__, self._kind.__name__
                log.warning("%s is left out: it must be a %s, and is a %s", what, wanted, kind)
                continue
            found[point.name] = (line, package)
        return found
