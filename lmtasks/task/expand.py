"""From a name to tasks: groups and tags become their members, and settings of groups reach them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmtasks.errors import UsageError, unknown
from lmtasks.task.groups import JOIN, UnloadedTask, WantedGroup, aggregations_of, members_of, settings_of
from lmtasks.task.scan import Scan
from lmtasks.task.yaml_file import TaskYaml, included_keys, read_task_yaml

Settings = Mapping[str, object]
SAYS_ROWS = frozenset({"dataset_path", "custom_dataset", "sources"})
"""Keys without which a member is no task of its own, but a name that nobody knows."""


@dataclass(frozen=True, kw_only=True)
class InheritedSettings:
    """What groups hand down to a member."""

    settings: Settings = field(default_factory=dict)
    within: tuple[str, ...] = ()
    """The names of the groups, the outermost first."""
    files: tuple[Path, ...] = ()
    """Theirs, for messages."""

    def with_more(self, settings: Settings) -> "InheritedSettings":
        """Further settings, which win."""
        return replace(self, settings={**self.settings, **settings})


NOTHING = InheritedSettings()


@dataclass(frozen=True, kw_only=True)
class Names:
    """What names mean: the first scan that has a name says so."""

    scans: Sequence[Scan]

    def find(self, name: str, *, handed: InheritedSettings = NOTHING) -> list[UnloadedTask | WantedGroup]:
        """The task, the group or a tag's tasks of that name; nothing where there is none.

        Raises:
            UsageError: several files define it, or a group is a member of itself, or has a member that is not there.
        """
        for scan in self.scans:
            if name in scan.files:
                yaml = read_task_yaml(_only(scan.files[name], what="task", name=name))
                settings = {key: value for key, value in handed.settings.items() if key not in ("task", "group")}
                return [wanted_task(yaml, name=name, handed=replace(handed, settings=settings))]
            if name in scan.groups:
                yaml = read_task_yaml(_only(scan.groups[name], what="group", name=name))
                return [self.group(yaml, handed=handed)]
            if name in scan.tags:
                return [found for task in scan.tags[name] for found in self.find(task, handed=handed)]
        return []

    def group(self, yaml: TaskYaml, *, handed: InheritedSettings = NOTHING) -> WantedGroup:
        """The group that a file defines.

        Raises:
            UsageError: as `find`.
        """
        return self._group(yaml, name=str(yaml.keys["group"]), handed=handed)

    def names(self) -> frozenset[str]:
        """Everything that has a name."""
        return frozenset().union(*(scan.names for scan in self.scans))

    def _group(self, yaml: TaskYaml, *, name: str, handed: InheritedSettings) -> WantedGroup:
        if name in handed.within:
            raise UsageError(
                f"the group {name} is a member of itself, by way of {' -> '.join((*handed.within, name))}."
            )
        where = f"the group {name} ({yaml.file})"
        down = InheritedSettings(
            settings={**settings_of(yaml.keys), **handed.settings},
            within=(*handed.within, name),
            files=(*handed.files, yaml.file),
        )
        metadata = yaml.keys.get("metadata")
        return WantedGroup(
            name=name,
            alias=str(yaml.keys.get("group_alias") or name),
            members=tuple(
                found
                for member in members_of(yaml.keys, where=where)
                for found in self._member(member, yaml=yaml, handed=down)
            ),
            aggregations=aggregations_of(yaml.keys, where=where),
            version=str(metadata.get("version", "1")) if isinstance(metadata, Mapping) else "1",
        )

    def _member(
        self, member: str | Settings, *, yaml: TaskYaml, handed: InheritedSettings
    ) -> list[UnloadedTask | WantedGroup]:
        """What one line of a group's list means: a name, a name with settings, or something defined right there."""
        group = handed.within[-1]
        if isinstance(member, str):
            found = self.find(member, handed=handed)
            if not found:
                raise unknown(f"member of the group {group} ({yaml.file})", member, self.names())
            return found
        if "group" in member:
            name = str(member["group"])
            known = self.find(name, handed=handed.with_more(settings_of(member)))
            inner = replace(yaml, keys=member)
            return known or [self._group(inner, name=f"{group}{JOIN}{name}", handed=handed)]
        name = str(member["task"])
        own = {key: value for key, value in member.items() if key not in ("task", "include")}
        known = self.find(name, handed=handed.with_more(own))
        if known:
            return known
        keys = {**included_keys(member, file=yaml.file), **handed.settings, **own}
        if not SAYS_ROWS & set(keys):
            raise unknown(f"member of the group {group} ({yaml.file})", name, self.names())
        inline = f"{group}{JOIN}{name}"
        return [wanted_task(replace(yaml, keys={**keys, "task": inline}), name=inline)]


def wanted_task(yaml: TaskYaml, *, name: str, handed: InheritedSettings = NOTHING) -> UnloadedTask:
    """The task of a file, with settings of groups in place of its own."""
    keys = {**yaml.keys, **handed.settings}
    return UnloadedTask(name=name, yaml=replace(yaml, keys=keys, files=(*yaml.files, *handed.files)))


def _only(files: Sequence[Path], *, what: str, name: str) -> Path:
    if len(files) > 1:
        raise UsageError(f"several files define the {what} {name}: {', '.join(str(file) for file in files)}.")
    return files[0]
