"""Material of a graph: a checkpoint's configuration and weights as plain numbers, and nothing that computes.

A builder takes each weight by its name and says of each setting what kind of value it expects. What it does not know
makes it refuse, and the model is traced instead: a setting or weight that was overlooked would be a wrong answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.head import head_of
from lmtasks.head.words import WordTable
from lmtasks.records import Floats32, HeadSpec, ModelCard

if TYPE_CHECKING:
    from lmtasks.model.model import Model


class CannotEmit(Exception):
    """No graph is built for this checkpoint; the text says why. It is traced instead."""


class Config:
    """The settings of a checkpoint, as config.json holds them once transformers has read it."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        """Is a setting there, and not null?"""
        return self._values.get(name) is not None

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number.

        Raises:
            CannotEmit: it is none.
        """
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int):
            raise CannotEmit(f"its {name} is {value!r}, not a whole number")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number.

        Raises:
            CannotEmit: it is none.
        """
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float):
            raise CannotEmit(f"its {name} is {value!r}, not a number")
        return float(value)

    def text(self, name: str, default: str = "") -> str:
        """A word."""
        value = self._values.get(name)
        return default if value is None else str(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Yes or no."""
        value = self._values.get(name)
        return default if value is None else bool(value)

    def items(self, name: str) -> Sequence[object]:
        """A list; empty where there is none."""
        value = self._values.get(name)
        return list(value) if isinstance(value, list | tuple) else []

    def part(self, name: str) -> "Config":
        """Settings inside a setting; none where there are none."""
        value = self._values.get(name)
        return Config(value if isinstance(value, Mapping) else {})


class Weights:
    """The weights of a checkpoint by name. Which of them were taken is remembered."""

    def __init__(self, values: Mapping[str, Floats32]) -> None:
        self._values = values
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def take(self, name: str) -> Floats32:
        """A weight.

        Raises:
            CannotEmit: there is none of that name.
        """
        if name not in self._values:
            raise CannotEmit(f"it has no weight {name!r}")
        self._taken.add(name)
        return self._values[name]

    def find(self, name: str) -> Floats32 | None:
        """A weight that not every checkpoint has."""
        return self.take(name) if name in self._values else None

    def skip(self, *endings: str) -> None:
        """Weights with these endings are known, and no part of any graph."""
        self._taken |= {name for name in self._values if name.endswith(endings)}

    def check_all_taken(self) -> None:
        """Raises: CannotEmit: the checkpoint has a weight that nothing was built from."""
        rest = sorted(set(self._values) - self._taken)
        if rest:
            raise CannotEmit(f"it has {len(rest)} weights that its graphs have no place for, the first is {rest[0]!r}")


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """A head of ours."""

    spec: HeadSpec
    weights: Mapping[str, Floats32]
    """By the names of the head's module, without those of a checkpoint's own head."""
    words: WordTable | None = None
    """Its n-grams, where it has some."""

    @property
    def per_text(self) -> bool:
        """Does it answer once for a whole text, and not for each token?"""
        return not head_of(self.spec).per_token


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One model, ready to be built as graphs."""

    card: ModelCard
    config: Config
    """Empty for a family of ours, whose weights alone tell its shape."""
    weights: Weights
    heads: tuple[HeadWeights, ...]
    """Those that predict; the weights of a checkpoint's own head are among `weights`."""


def checkpoint_of(model: "Model") -> Checkpoint:
    """The numbers of a loaded model. Nothing is run, and large weights are not copied."""
    heads = [
        HeadWeights(spec=spec, weights={})
        if spec.pooling == "own"
        else HeadWeights(
            spec=spec,
            weights=_numbers(model.head(spec.name).state_dict()),
            words=model.head(spec.name).word_table,
        )
        for spec in model.card.heads
        if spec.predicts
    ]
    ours = not model.backbone.traits.by_transformers
    module = model.backbone if ours else model.hf
    return Checkpoint(
        card=model.card,
        config=Config({} if ours else module.config.to_dict()),  # type: ignore[union-attr, operator]
        weights=Weights(_numbers(module.state_dict())),
        heads=tuple(heads),
    )


def _numbers(state: Mapping[str, object]) -> dict[str, Floats32]:
    import torch

    found: dict[str, Floats32] = {}
    for name, tensor in state.items():
        assert isinstance(tensor, torch.Tensor)  # a module's state holds nothing else
        found[name] = tensor.detach().to(dtype=torch.float32, device="cpu").numpy()
    return found
