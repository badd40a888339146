"""Tables of rotary positions: cosine and sine of position x frequency.

Rotary embedding: Su et al. 2021, arXiv:2104.09864. Frequencies f_i = theta^(-2i/D) are changed by the schemes that let
a model read further than it was trained: `linear` divides them, `llama3` divides the slow ones, `yarn` (Peng et al.
2023, arXiv:2309.00071) blends by wavelength and scales the tables. `dynamic` and `longrope` choose the frequencies by
the length of the text, which no table can, and are refused.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Config
from lmtasks.records import Floats, Floats32


def rotary_tables(config: Config, *, width: int, positions: int) -> tuple[Floats32, Floats32]:
    """Cosines and sines, (positions, width of a head / 2) each; fewer columns where only a part of it is rotated.

    Raises:
        CannotEmit: a scheme that needs more than a table.
    """
    settings = config.part("rope_parameters")
    kind = settings.text("rope_type", "default")
    if kind not in FREQUENCIES:
        raise CannotEmit(f"its rotary positions are of type {kind!r}; {', '.join(FREQUENCIES)} are built")
    rotated = int(width * settings.number("partial_rotary_factor", 1.0))
    plain = settings.number("rope_theta", 10000.0) ** (-np.arange(0, rotated, 2, dtype=np.float64) / rotated)
    longest = config.integer("max_position_embeddings")
    frequencies, scale = FREQUENCIES[kind](plain, settings, longest)
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies.astype(np.float32)  # as torch multiplies
    return (np.cos(angles) * np.float32(scale)).astype(np.float32), (np.sin(angles) * np.float32(scale)).astype(
        np.float32
    )


def _default(plain: Floats, settings: Config, longest: int) -> tuple[Floats, float]:
    return plain, 1.0


def _linear(plain: Floats, settings: Config, longest: int) -> tuple[Floats, float]:
    return plain / settings.number("factor"), 1.0


def _llama3(plain: Floats, settings: Config, longest: int) -> tuple[Floats, float]:
    factor, low, high = (settings.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = settings.integer("original_max_position_embeddings", longest)
    turns = trained * plain / (2 * math.pi)  # of each frequency over the trained length
    smooth = (turns - low) / (high - low)
    mixed = (1 - smooth) * plain / factor + smooth * plain
    return np.where(turns < low, plain / factor, np.where(turns > high, plain, mixed)), 1.0


def _yarn(plain: Floats, settings: Config, longest: int) -> tuple[Floats, float]:
    trained = settings.integer("original_max_position_embeddings", longest)
    factor = settings.number("factor")
    theta, width = settings.number("rope_theta", 10000.0), 2 * len(plain)

    def place(turns: float) -> float:
        return width * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = place(settings.number("beta_fast", 32.0)), place(settings.number("beta_slow", 1.0))
    if settings.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    ramp = np.clip((np.arange(len(plain)) - low) / (high - low if high > low else 0.001), 0, 1)
    return ramp * plain / factor + (1 - ramp) * plain, _yarn_scale(settings, factor)


def _yarn_scale(settings: Config, factor: float) -> float:
    """What attention's temperature becomes, as a factor of both tables."""

    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if settings.has("attention_factor"):
        return settings.number("attention_factor")
    one, all_ = settings.number("mscale", 0.0), settings.number("mscale_all_dim", 0.0)
    return scale(one) / scale(all_) if one and all_ else scale(1.0)


FREQUENCIES: Mapping[str, Callable[[Floats, Config, int], tuple[Floats, float]]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
"""By rope_type: (plain frequencies, settings, longest input) -> frequencies, and a factor of both tables."""
