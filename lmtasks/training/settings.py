"""How to train, and the learning rate at each moment."""

import math
from dataclasses import dataclass
from typing import Literal

from lmtasks.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of one training. Steps are optimizer steps."""

    steps: int
    learning_rate: float
    batch_rows: int
    """Rows that one optimizer step sees, over all accumulated parts."""
    accumulate: int = 1
    """Parts that a step's rows are cut into, to save memory."""
    minutes: float | None = None
    """Stop after this much training time, if the steps are not done; the learning rate then follows the clock."""
    warmup: float = 0.05
    """Share of the training in which the learning rate rises."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    floor: float = 0.1
    """Learning rate at the end, as a share of its peak."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    evaluate_every: int = 0
    """Steps between evaluations; 0: only at the end."""
    patience: int = 0
    """Stop after so many evaluations without a better one; 0: never."""
    checkpoint_every: int = 200
    seed: int = 1234

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"steps must be at least 1, was {self.steps}.")
        if self.batch_rows % self.accumulate:
            raise UsageError(
                f"the batch must be a multiple of accumulate, was {self.batch_rows} rows in {self.accumulate} parts."
            )


def learning_rate_share(settings: TrainingSettings, *, progress: float) -> float:
    """The learning rate as a share of its peak, after `progress` (0-1) of the training."""
    if progress < settings.warmup:
        return max(progress / settings.warmup, 1e-3)
    left = 1.0 - min(1.0, (progress - settings.warmup) / max(1e-9, 1.0 - settings.warmup))
    shape = {"cosine": 0.5 - 0.5 * math.cos(math.pi * left), "linear": left, "constant": 1.0}[settings.decay]
    return settings.floor + (1.0 - settings.floor) * shape
