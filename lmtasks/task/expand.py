"""From a name to tasks: groups and tags become their members, and settings of groups reach them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmtasks.errors import UsageError, unknown
from lmtasks.task.groups import (
    JOIN,
    Wanted,
    WantedGroup,
    aggregations_of,
    members_of,
    settings_of,
)
from lmtasks.task.scan import Scan
from lmtasks.task.yaml_file import TaskYaml, included_keys, read_task_yaml

Settings = Mapping[str, object]
NONE: Settings = {}
SAYS_ROWS = frozenset({"dataset_path", "custom_dataset", "sources"})
"""Keys without which a member is no task of its own, but a name that nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """What names mean: the first scan that has a name says so."""

    scans: Sequence[Scan]

    def find(self, name: str, *, settings: Settings = NONE, within: tuple[str, ...] = ()) -> list[Wanted | WantedGroup]:
        """The task, the group or a tag's tasks of that name; nothing where there is none.

        Args:
            settings: of the groups whose member it is.
            within: the names of those groups.

        Raises:
            UsageError: several files define it, or a group is a member of itself, or has a member that is not there.
        """
        for scan in self.scans:
            if name in scan.files:
                file = _only(scan.files[name], what="task", name=name)
                changed = {key: value for key, value in settings.items() if key not in ("task", "group")}
                return [wanted_task(read_task_yaml(file), name=name, settings=changed)]
            if name in scan.groups:
                yaml = read_task_yaml(_only(scan.groups[name], what="group", name=name))
                return [self.group(yaml, settings=settings, within=within)]
            if name in scan.tags:
                return [found for task in scan.tags[name] for found in self.find(task, settings=settings)]
        return []

    def group(self, yaml: TaskYaml, *, settings: Settings = NONE, within: tuple[str, ...] = ()) -> WantedGroup:
        """The group that a file defines.

        Raises:
            UsageError: as `find`.
        """
        return self._group(yaml, name=str(yaml.keys["group"]), settings=settings, within=within)

    def _group(self, yaml: TaskYaml, *, name: str, settings: Settings, within: tuple[str, ...]) -> WantedGroup:
        if name in within:
            raise UsageError(f"the group {name} is a member of itself, by way of {' -> '.join((*within, name))}.")
        where = f"the group {name} ({yaml.file})"
        passed = {**settings_of(yaml.keys), **settings}
        members = tuple(
            found
            for member in members_of(yaml.keys, where=where)
            for found in self._member(member, group=name, yaml=yaml, passed=passed, within=(*within, name))
        )
        metadata = yaml.keys.get("metadata")
        return WantedGroup(
            name=name,
            alias=str(yaml.keys.get("group_alias") or name),
            members=members,
            aggregations=aggregations_of(yaml.keys, where=where),
            version=str(metadata.get("version", "1")) if isinstance(metadata, Mapping) else "1",
        )

    def _member(
        self,
        member: str | Settings,
        *,
        group: str,
        yaml: TaskYaml,
        passed: Settings,
        within: tuple[str, ...],
    ) -> list[Wanted | WantedGroup]:
        if isinstance(member, str):
            found = self.find(member, settings=passed, within=within)
            if not found:
                raise unknown(f"member of the group {group} ({yaml.file})", member, self.names())
            return found
        if "group" in member:
            name = str(member["group"])
            known = self.find(name, settings={**passed, **settings_of(member)}, within=within)
            inner = replace(yaml, keys=member)
            return known or [self._group(inner, name=f"{group}{JOIN}{name}", settings=passed, within=within)]
        name = str(member["task"])
        own = {key: value for key, value in member.items() if key != "task"}
        known = self.find(name, settings={**passed, **own}, within=within)
        if known:
            return known
        keys = {**included_keys(own, file=yaml.file), **passed, **_without_include(own)}
        if not SAYS_ROWS & set(keys):
            raise unknown(f"member of the group {group} ({yaml.file})", name, self.names())
        inline = f"{group}{JOIN}{name}"
        return [wanted_task(replace(yaml, keys={**keys, "task": inline}), name=inline)]

    def names(self) -> frozenset[str]:
        """Everything that has a name."""
        return frozenset().union(*(scan.names for scan in self.scans))


def wanted_task(yaml: TaskYaml, *, name: str, settings: Settings = NONE) -> Wanted:
    """The task of a file, with settings of groups in place of its own."""
    return Wanted(name=name, yaml=replace(yaml, keys={**yaml.keys, **settings}))


def _without_include(keys: Settings) -> Settings:
    return {key: value for key, value in keys.items() if key != "include"}


def _only(files: Sequence[Path], *, what: str, name: str) -> Path:
    if len(files) > 1:
        raise UsageError(f"several files define the {what} {name}: {', '.join(str(file) for file in files)}.")
    return files[0]
