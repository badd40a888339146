"""Where the task files, plans and backbones that come with lmtasks lie: in the wheel, or in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """The folder `tasks` or `benchmarks`, wherever this installation has it."""
    in_wheel = PACKAGE / "shipped" / name
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / name


def shipped_backbones() -> Path:
    """The folder of the backbones that come with lmtasks, one folder each."""
    return PACKAGE / "backbone" / "presets"
