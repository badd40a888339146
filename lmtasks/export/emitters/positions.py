"""Positions of tokens, in the three forms that models have them: counted, rotary, and by distance.

Counted positions pick rows of a learned table. Rotary ones (Su et al. 2021, arXiv:2104.09864) are tables of cosine and
sine of position x frequency, by which queries and keys are turned. Frequencies f_i = theta^(-2i/D) are changed by the
schemes that let a model read further than it was trained: `linear` divides them, `llama3` divides the slow ones, `yarn`
(Peng et al. 2023, arXiv:2309.00071) blends by wavelength and scales the tables. `dynamic` and `longrope` choose the
frequencies by the length of the text, which neither a table nor a traced graph can, and are refused.

Distances (T5: Raffel et al. 2020, arXiv:1910.10683, section 2.1) have a number for each head, which is added to the
products of queries and keys. T5 puts them into buckets, exact ones up close and wider ones further off; here the
numbers are laid out by distance, up to the one behind which all share the last bucket. A local window is a bias by
distance, too: nothing for near keys, `MASKED` for the others.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.export.checkpoint import CannotEmit, Config
from lmtasks.export.graph import INT32, INT64, GraphBuilder
from lmtasks.records import Floats, Floats32, Ints

if TYPE_CHECKING:
    import onnx_ir as ir

BY_LENGTH = ("dynamic", "longrope")
"""Schemes of rotary positions that depend on the length of the text."""
MASKED = -1e30
"""Added to the score of a key that is not seen."""


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Tables of rotary positions, (positions, width of a head / 2) each."""

    cosines: Floats32
    sines: Floats32
    name: str = "rotary"
    """Before the names of both tables in a graph; another one for each pair of tables."""

    def tables(self, graph: GraphBuilder) -> "tuple[ir.Value, ir.Value]":
        """Both tables, stored in a graph."""
        return graph.constant(f"{self.name}.cosines", self.cosines), graph.constant(f"{self.name}.sines", self.sines)


def rotary_tables(
    config: Config, *, width: int, positions: int, settings: Config | None = None
) -> tuple[Floats32, Floats32]:
    """Cosines and sines, (positions, width of a head / 2) each; fewer columns where only a part of it is rotated.

    Args:
        settings: those of the scheme; None: the model's `rope_parameters`.

    Raises:
        CannotEmit: a scheme that needs more than a table.
    """
    settings = config.part("rope_parameters") if settings is None else settings
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


def check_rotary(config: Config) -> None:
    """Raises: CannotEmit: frequencies depend on the length of the text, of which no graph is made at all."""
    whole = config.part("rope_parameters")
    for settings in (whole, *(whole.part(str(kind)) for kind in config.items("layer_types"))):
        if (kind := settings.text("rope_type")) in BY_LENGTH:
            raise CannotEmit(f"its rotary positions are of type {kind!r}, which turn by the length of the text")


def counted(graph: GraphBuilder, mask: "ir.Value", *, first: int = 0) -> "ir.Value":
    """Positions of the tokens, counted from `first`, int64 (B, S); some position that exists, at padding."""
    order = graph.add("CumSum", graph.add("Cast", mask, attributes={"to": INT64}), graph.integers(1))
    places = graph.add("Sub", order, scalar(graph, 1))
    places = graph.add("Max", places, scalar(graph, 0))
    return graph.add("Add", places, graph.constant("first", np.int64(first))) if first else places


def by_distance(table: Floats32, *, longest: int, both_ways: bool) -> Floats32:
    """Numbers by bucket (buckets, heads) -> by distance (heads, distances).

    Distances are key - query: from -`longest` to `longest` both ways, else query - key from 0 to `longest`.
    """
    distances = np.arange(-longest, longest + 1) if both_ways else -np.arange(longest + 1)
    buckets = _buckets(distances, count=len(table), longest=longest, both_ways=both_ways)
    found: Floats32 = np.ascontiguousarray(table[buckets].T)
    return found


def bias_both_ways(graph: GraphBuilder, numbers: Floats32, ids: "ir.Value") -> "ir.Value":
    """For rows ids (B, S): (1, heads, S, S)."""
    longest = numbers.shape[1] // 2
    near = _clipped(graph, _distances(graph, ids), -longest, longest)
    index = graph.add("Add", near, graph.constant("longest", np.int64(longest)))
    picked = graph.add("Gather", graph.constant("relative.both", numbers), index, attributes={"axis": 1})
    return graph.add("Unsqueeze", picked, graph.integers(0))


def bias_backwards(graph: GraphBuilder, numbers: Floats32, positions: "ir.Value", total: "ir.Value") -> "ir.Value":
    """For new tokens at positions (R, T) over `total` columns of a cache: (R, heads, T, total)."""
    keys = counting(graph, graph.add("Cast", total, attributes={"to": INT64}))
    far = graph.add("Sub", graph.add("Unsqueeze", positions, graph.integers(2)), keys)  # (R, T, total)
    index = _clipped(graph, far, 0, numbers.shape[1] - 1)
    picked = graph.add("Gather", graph.constant("relative.back", numbers), index, attributes={"axis": 1})
    return graph.add("Transpose", picked, attributes={"perm": (1, 0, 2, 3)})


def window_bias(graph: GraphBuilder, window: int, positions: "ir.Value") -> "ir.Value":
    """For tokens at positions int64 (B, S), `MASKED` at keys that stand `window` positions off or more, either way:
    (B, 1, S, S). Made once, it costs each local layer one addition to its scores."""
    places = graph.add("Cast", positions, attributes={"to": INT32})
    far = graph.add(
        "Sub", graph.add("Unsqueeze", places, graph.integers(1)), graph.add("Unsqueeze", places, graph.integers(2))
    )
    near = graph.add("Less", graph.add("Abs", far), graph.constant("window", np.int32(window)))
    nothing, masked = graph.constant("nothing", np.float32(0)), graph.constant("masked", np.float32(MASKED))
    return graph.add("Unsqueeze", graph.add("Where", near, nothing, masked), graph.integers(1))


def counting(graph: GraphBuilder, count: "ir.Value") -> "ir.Value":
    """0, 1, ... up to a number int64 () of them."""
    return graph.add("Range", scalar(graph, 0), count, scalar(graph, 1))


def scalar(graph: GraphBuilder, number: int) -> "ir.Value":
    """A stored number, int64 ()."""
    return graph.constant(f"int64.scalar.{number}", np.int64(number))


def _distances(graph: GraphBuilder, ids: "ir.Value") -> "ir.Value":
    """Key - query in columns of ids (B, S): (S, S)."""
    columns = graph.add("Shape", ids, attributes={"start": 1, "end": 2})
    places = counting(graph, graph.add("Reshape", columns, graph.integers()))
    return graph.add(
        "Sub", graph.add("Unsqueeze", places, graph.integers(0)), graph.add("Unsqueeze", places, graph.integers(1))
    )


def _clipped(graph: GraphBuilder, x: "ir.Value", least: int, most: int) -> "ir.Value":
    return graph.add("Clip", x, scalar(graph, least), scalar(graph, most))


def _buckets(distances: Ints, *, count: int, longest: int, both_ways: bool) -> Ints:
    """Buckets of key - query. In torch's single precision, whose rounding decides where a bucket ends."""
    import torch

    start = np.zeros_like(distances)
    if both_ways:
        count //= 2
        start = np.where(distances > 0, count, 0)
        distances = np.abs(distances)
    else:
        distances = -np.minimum(distances, 0)
    exact = count // 2
    sizes = torch.from_numpy(np.maximum(distances, 1)).float()
    wide = exact + (torch.log(sizes / exact) / math.log(longest / exact) * (count - exact)).long().numpy()
    found: Ints = start + np.where(distances < exact, distances, np.minimum(wide, count - 1))
    return found


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
    """Attention's temperature as a factor of both tables."""

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
