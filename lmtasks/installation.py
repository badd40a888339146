"""Folders of the task files, plans and backbones that come with lmtasks, in the wheel or in a checkout; and of what it
may lose.
"""

import os
import sys
from pathlib import Path

CACHE = "LMTASKS_CACHE"
"""Variable that names the folder of what is kept between commands."""

PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """The folder `tasks` or `benchmarks`, wherever this installation has it."""
    in_wheel = PACKAGE / "shipped" / name
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / name


def shipped_backbones() -> Path:
    """The folder of the backbones that come with lmtasks, one folder each."""
    return PACKAGE / "backbone" / "presets"


def cache_folder() -> Path:
    """LMTASKS_CACHE, else `lmtasks` in the folder that the system has for such files; it need not exist."""
    named = os.environ.get(CACHE)
    return Path(named).expanduser() if named else _system_folder() / "lmtasks"


def _system_folder() -> Path:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
