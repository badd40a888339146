"""What was found out about data and is not what everybody would take for granted is said, in a sentence each.

Sentences go to the log, which the command line shows once each on standard error; `load_task_data` also keeps them, so
that results tell them.
"""

import logging
from collections.abc import Callable

Tell = Callable[[str], None]
"""Hears a sentence."""

log = logging.getLogger(__name__)


def say(sentence: str) -> None:
    """Tell whoever listens to the log."""
    log.info("%s", sentence)
