"""The learning rate at each moment of a training, and whether its device computes in bf16."""

import math

from lmtasks.processor import computes
from lmtasks.settings.training import TrainingSettings


def computes_bf16(device: str) -> bool:
    """Does bf16 make a training faster there? A processor without instructions for it takes it apart, and is 100 times
    slower for it (two AVX2 cores, products of 2,048 x 1,024 x 3,072: 1 of 130 GFLOP/s)."""
    return device != "cpu" or computes("bf16")


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
