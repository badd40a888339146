"""lmtasks: which model, adapted how, running on what, is best for my tasks on my machine?

The front door: what the command line does, as functions with typed results. Nothing is imported before it is used.

    import lmtasks

    model = lmtasks.adapt("tfidf", rows=frame, text="comment", label="stars", out="runs/stars")
    scores = lmtasks.evaluate([model, "majority"], rows=frame, text="comment", label="stars")
    scores.to_frame()
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from lmtasks.version import __version__ as __version__

if TYPE_CHECKING:
    from lmtasks.api.models import LoadedModel, adapt, embed, export, load_model, predict
    from lmtasks.api.results import Results
    from lmtasks.api.scores import bench, compare, evaluate, load_task, merge, report, try_
    from lmtasks.errors import GateError, LmtasksError, UsageError, WorkError
    from lmtasks.settings.endpoint import Endpoint

__all__ = [
    "Endpoint",
    "GateError",
    "LmtasksError",
    "LoadedModel",
    "Results",
    "UsageError",
    "WorkError",
    "adapt",
    "bench",
    "compare",
    "embed",
    "evaluate",
    "export",
    "load_model",
    "load_task",
    "merge",
    "predict",
    "report",
    "try_",
]

_HOMES = {
    **dict.fromkeys(("LoadedModel", "adapt", "embed", "export", "load_model", "predict"), "lmtasks.api.models"),
    **dict.fromkeys(("bench", "compare", "evaluate", "load_task", "merge", "report", "try_"), "lmtasks.api.scores"),
    **dict.fromkeys(("GateError", "LmtasksError", "UsageError", "WorkError"), "lmtasks.errors"),
    "Endpoint": "lmtasks.settings.endpoint",
    "Results": "lmtasks.api.results",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]


class _FolderAndFunction(ModuleType):
    """A folder that can be called: `lmtasks.bench`, `lmtasks.export` and `lmtasks.report` are folders, too, as soon as
    something is imported from them."""

    @property
    def __call__(self) -> object:
        return __getattr__(self.__name__.removeprefix("lmtasks."))

    __wrapped__ = __call__  # where `inspect.signature`, and so a notebook's help, looks


class _FrontDoor(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        """The import system makes a folder an attribute here once it is imported."""
        if name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _FolderAndFunction
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
