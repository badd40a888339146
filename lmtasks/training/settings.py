"""How to train, and the learning rate at each moment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lmtasks.errors import UsageError
from lmtasks.settings.bounds import COUNT, COUNT_OR_NONE, POSITIVE, SEED, SHARE, SHARE_BELOW_ONE, Bound, check_all

Decay = Literal["cosine", "linear", "constant", "wsd"]
OptimizerName = Literal["adamw", "muon"]

BOUNDS: Mapping[str, Bound] = {
    "steps": COUNT,
    "epochs": Bound(least=0, above=True, most=10_000),
    "minutes": POSITIVE,
    "learning_rate": POSITIVE,
    "batch_rows": COUNT,
    "accumulate": COUNT,
    "tokens_per_batch": Bound(least=16, most=10**7, whole=True),
    "rows": COUNT,
    "window": COUNT,
    "vocabulary": Bound(least=2, most=10**7, whole=True),
    "hidden": Bound(least=0, most=1, above=True, below=True),
    "warmup": SHARE,
    "floor": SHARE,
    "warmup_steps": COUNT_OR_NONE,
    "cooldown_steps": COUNT_OR_NONE,
    "weight_decay": Bound(least=0),
    "label_smoothing": SHARE_BELOW_ONE,
    "clip": POSITIVE,
    "evaluations": COUNT,
    "evaluate_every": COUNT_OR_NONE,
    "checkpoint_every": COUNT,
    "patience": COUNT_OR_NONE,
    "seed": SEED,
}
"""What the settings of a training may be, by their name, whoever gives them: the command line, a plan or a caller."""


def computes_bf16(device: str) -> bool:
    """Does bf16 make a training faster there? A processor without AVX-512 BF16 takes it apart, and is 100 times
    slower for it (two AVX2 cores, products of 2,048 x 1,024 x 3,072: 1 of 130 GFLOP/s)."""
    import torch

    return device != "cpu" or bool(torch.cpu._is_avx512_bf16_supported())


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of one training. Steps are optimizer steps."""

    steps: int
    learning_rate: float
    batch_rows: int
    """Rows that one optimizer step sees, over all accumulated parts and all processes."""
    accumulate: int = 1
    """Parts that a step's rows are cut into, to save memory."""
    minutes: float | None = None
    """Stop after this much training time, if the steps are not done; the learning rate then follows the clock,
    but for `wsd`, whose rate follows steps alone."""
    warmup: float = 0.05
    """Share of the training in which the learning rate rises; not for `wsd`."""
    decay: Decay = "cosine"
    floor: float = 0.1
    """Learning rate at the end, as a share of its peak."""
    warmup_steps: int = 200
    """`wsd`: steps in which the learning rate rises."""
    cooldown_steps: int = 0
    """`wsd`: steps before `steps` in which the learning rate falls; 0: it stays up."""
    optimizer: OptimizerName = "adamw"
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
        check_all(vars(self), BOUNDS)
        if self.batch_rows % self.accumulate:
            raise UsageError(
                f"the batch must be a multiple of accumulate, was {self.batch_rows} rows in {self.accumulate} parts."
            )
        if not 0 <= self.cooldown_steps <= self.steps:
            raise UsageError(f"the cool-down must be 0 to {self.steps} steps, was {self.cooldown_steps}.")
        if self.cooldown_steps and self.decay != "wsd":
            raise UsageError(f"a cool-down belongs to the schedule wsd, was {self.decay}.")


def learning_rate_share(settings: TrainingSettings, *, step: int, progress: float) -> float:
    """The learning rate as a share of its peak.

    `wsd` (warm-up, stable, decay) falls by 1 - sqrt, the best of the shapes that Hägele et al. compare ("Scaling laws
    and compute-optimal training beyond fixed training durations", 2024).

    Args:
        step: steps done; all that `wsd` looks at, so that its stable phase does not move with the length of a training.
        progress: share of the training that is done, 0-1.
    """
    if settings.decay == "wsd":
        rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
        cooled = step - (settings.steps - settings.cooldown_steps)
        if not settings.cooldown_steps or cooled <= 0:
            return rise
        shape = 1.0 - math.sqrt(min(1.0, cooled / settings.cooldown_steps))
        return rise * (settings.floor + (1.0 - settings.floor) * shape)
    if progress < settings.warmup:
        return max(progress / settings.warmup, 1e-3)
    left = 1.0 - min(1.0, (progress - settings.warmup) / max(1e-9, 1.0 - settings.warmup))
    shape = {"cosine": 0.5 - 0.5 * math.cos(math.pi * left), "linear": left, "constant": 1.0}[settings.decay]
    return settings.floor + (1.0 - settings.floor) * shape


def is_cooling(settings: TrainingSettings, *, step: int) -> bool:
    """Has the training's cool-down begun after `step` steps?"""
    return bool(settings.cooldown_steps) and step > settings.steps - settings.cooldown_steps
