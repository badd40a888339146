"""Models of a command, and the size of their batches."""

from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from lmtasks.settings.base import BOUND, Setting, Settings
from lmtasks.settings.bounds import COUNT, NOT_NEGATIVE, POSITIVE, shown

Models = Annotated[
    tuple[str, ...],
    Setting(
        "Model or package folder, GGUF file, shipped name, Hub id (with @revision), a server's address "
        "(http://host:port/v1), or a baseline's name (see `lmtasks list baselines`); repeatable.",
        option="--model",
        metavar="MODEL",
    ),
]
OverOneBackbone = Annotated[
    tuple[str, ...],
    Setting(
        "Model or package folder, GGUF file, shipped name, or Hub id with @revision; repeatable for models that were "
        "adapted by lora over one backbone, which is loaded once.",
        option="--model",
        metavar="MODEL",
    ),
]
Model = Annotated[
    str, Setting("Model or package folder, GGUF file, shipped name, or Hub id with @revision.", metavar="MODEL")
]
LabelMap = Annotated[
    str, Setting("What a checkpoint's own labels mean: LABEL_0=negative,LABEL_1=positive.", metavar="MAP")
]


NewTokens = Annotated[
    int,
    COUNT,
    Setting("Longest continuation of a model that is asked without a task.", metavar="NUMBER", unit="tokens"),
]
MaxDrop = Annotated[
    float | None,
    NOT_NEGATIVE,
    Setting(
        "Quality gate: rounding may cost so many points (0-100) of the main metric of --tasks on their "
        "validation rows; the layers that hurt most stay in fp32 for it; exit code 3 where that does not help.",
        metavar="POINTS",
        unit="points",
    ),
]

PROOF_SECONDS = 600.0
"""Of a proof where nobody says another budget."""
ProofSeconds = Annotated[
    float,
    POSITIVE,
    Setting(
        "Budget of the proof that a package answers as its model does: cases that are not expected to fit into it are "
        "named as not proved.",
        metavar="SECONDS",
        unit="s",
    ),
]


def auto_or_count(given: object) -> object:
    if given == "auto":
        return given
    try:
        number = int(str(given))
    except ValueError:
        number = 0
    if not COUNT.holds(number):
        raise PydanticCustomError(
            BOUND, "{words}", {"words": f"must be auto or a whole number of at least 1, was {shown(given)}"}
        )
    return number


BatchSize = Annotated[
    int | Literal["auto"],
    BeforeValidator(auto_or_count),
    Setting(
        "Rows of a batch at most, or auto: by their length, and for texts that are written as many as make tokens come "
        "fastest.",
        metavar="NUMBER",
        unit="rows",
    ),
]


class Opening(Settings):
    """How a model is opened, beside where it runs."""

    label_map: LabelMap = ""
    batch_size: BatchSize = "auto"


def batch_rows(batch_size: int | Literal["auto"]) -> int | None:
    """Rows of a batch at most; None for `auto`, as many as the token budget of a batch allows.

    >>> batch_rows(16), batch_rows("auto")
    (16, None)
    """
    return None if batch_size == "auto" else batch_size
