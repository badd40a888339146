"""What libraries say is not what the person asked: their bars and warnings are left out, ours are shown."""

import logging
import os
import sys
import warnings
from typing import TextIO

from lmtasks.visible import told

SILENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables that these libraries read while they are imported; none changes a result. What the person set stays."""


class _OnStandardError(logging.StreamHandler[TextIO]):
    """To standard error as it is when something is said: while bars are drawn, lines stand above them. The same
    sentence is said once, however often a file is read."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence in self._said:
            return
        self._said.add(sentence)
        self.setStream(sys.stderr)
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return told(super().format(record))


def quiet_libraries(*, debug: bool) -> None:
    """Before the first of them is imported. With `debug` they may say everything."""
    notes = _OnStandardError()
    notes.setFormatter(logging.Formatter("lmtasks: %(message)s"))
    ours = logging.getLogger("lmtasks")
    ours.handlers = [notes]
    ours.propagate = False
    ours.setLevel(logging.INFO)
    if debug:
        return
    if not sys.stderr.isatty():  # on a terminal a download of gigabytes shows its bar
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
