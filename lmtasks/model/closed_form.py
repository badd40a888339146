"""Models that are fitted at once, on disk: arrays in safetensors, read without torch.

model.json, backbone/tokenizer.json        as of every model
backbone/config.json                       family, settings, which tokens end lines
backbone/model.safetensors                 n-grams of all the text that is no labelled one, if there was any
checksums.json                             as of every model
heads/<name>/head.json, head.safetensors   a linear classifier; or n-grams class by class
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmtasks.backbone.closed_form import FITTED, NgramSizes, TermSizes, is_fitted, parse_fitted
from lmtasks.backbone.kneser_ney import count_ngrams, kneser_ney
from lmtasks.backbone.linear import NEVER_SEEN, Classifier, Linear, fit_classifier
from lmtasks.backbone.ngram import Ngram, NgramOrder
from lmtasks.backbone.sizes import FAMILY, NO_LIMIT, FittedSizes
from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.model.files import copy_tokenizer
from lmtasks.model.store import card_of, write_card
from lmtasks.model.verify import write_checksums
from lmtasks.model.weights import file_hash, weight_facts
from lmtasks.records import Floats32, Ints, ModelCard

__all__ = [
    "FITTED",
    "NEVER_SEEN",
    "NO_LIMIT",
    "Classifier",
    "FittedModel",
    "FittedSizes",
    "Ngram",
    "NgramClasses",
    "NgramSizes",
    "TermSizes",
    "count_ngrams",
    "fit_classifier",
    "fitted_family",
    "is_fitted",
    "kneser_ney",
    "load_fitted",
    "parse_fitted",
    "save_fitted",
]

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class NgramClasses:
    """One n-gram model a class."""

    models: tuple[Ngram, ...]
    prior: Floats32
    """(C,) log-probability of each class."""

    def logits(self, rows: Sequence[Ints]) -> Floats32:
        """Log-probability of a class and the row together, (B, C)."""
        found = np.stack([model.row_logprobs(rows) for model in self.models], axis=1)
        return found + self.prior


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """A model of a fitted family, in memory."""

    card: ModelCard
    sizes: FittedSizes
    ends: tuple[int, ...]
    """Tokens that end a line, or a text."""
    text: Ngram | None = None
    """What predicts tokens; None: only heads answer."""
    heads: Mapping[str, Classifier | NgramClasses] = field(default_factory=dict)


def fitted_family(folder: Path) -> str | None:
    """The family of the model in a folder, if it is one that is fitted at once; nothing is loaded for that."""
    file = folder / "model.json"
    if not file.is_file():
        return None
    try:
        family = str(parse_json(file.read_text(encoding="utf-8"))["card"]["family"])
    except (ValueError, KeyError, TypeError):
        return None  # what is wrong with it is said where it is opened
    return family if family in FITTED else None


def save_fitted(model: FittedModel, folder: Path, *, tokenizer: Path, provenance: Mapping[str, object]) -> ModelCard:
    """Write a model to a folder that does not exist yet; the caller renames it into place. Its card, with its facts.

    Args:
        tokenizer: the folder of its tokenizer.
    """
    from safetensors.numpy import save_file

    (folder / "backbone").mkdir(parents=True)
    (folder / "heads").mkdir()
    copy_tokenizer(tokenizer, folder / "backbone")
    config = {
        FAMILY: model.card.family,
        "sizes": asdict(model.sizes),
        "vocab_size": model.card.vocabulary,
        "ends": list(model.ends),
    }
    _write_json(folder / "backbone" / "config.json", config)
    if model.text is not None:
        save_file(dict(_ngram_arrays(model.text, "")), str(folder / "backbone" / "model.safetensors"))
    for spec in model.card.heads:
        place = folder / "heads" / spec.name
        place.mkdir()
        _write_json(place / "head.json", asdict(spec))
        if spec.name in model.heads:
            save_file(dict(_head_arrays(model.heads[spec.name])), str(place / "head.safetensors"))
    write_card(folder, model.card, provenance=provenance)
    facts = weight_facts(folder)
    card = replace(
        model.card,
        weights_hash=facts.hash,
        parameters=facts.parameters,
        tokenizer_hash=file_hash(folder / "backbone" / "tokenizer.json"),
    )
    weights = {"trained": card.parameters, "all": card.parameters}
    write_card(folder, card, provenance={**provenance, "weights": weights})
    write_checksums(folder)
    return card


def load_fitted(folder: Path) -> FittedModel:
    """Read a model.

    Raises:
        UsageError: a file is missing or damaged, or the model is of another kind.
    """
    card = card_of(folder)
    if card.family not in FITTED:
        raise UsageError(f"{folder} is of family {card.family}, which runs in torch or onnx.")
    file = folder / "backbone" / "config.json"
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in config["sizes"].items()}
        sizes = replace(FITTED[card.family].sizes, **given)
        ends = tuple(config["ends"])
        if not all(isinstance(end, int) and 0 <= end < card.vocabulary for end in ends):
            raise ValueError(f"ends are no tokens of a vocabulary of {card.vocabulary}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{file} is damaged: {error!r}.") from error
    text = folder / "backbone" / "model.safetensors"
    return FittedModel(
        card=card,
        sizes=sizes,
        ends=ends,
        text=_ngram(_read(text), "", card=card, ends=ends, file=text) if text.is_file() else None,
        heads={
            spec.name: _head(folder / "heads" / spec.name / "head.safetensors", card=card, sizes=sizes, ends=ends)
            for spec in card.heads
            if spec.predicts
        },
    )


def _ngram_arrays(model: Ngram, prefix: str) -> Arrays:
    found: dict[str, NDArray[np.generic]] = {}
    for order, level in enumerate(model.levels, start=1):
        if order > 1:  # the first level's keys are the tokens themselves
            found[f"{prefix}order{order}.keys"] = level.keys
        found[f"{prefix}order{order}.logprobs"] = level.logprobs
        found[f"{prefix}order{order}.backoffs"] = level.backoffs
    return found


def _ngram(arrays: Arrays, prefix: str, *, card: ModelCard, ends: tuple[int, ...], file: Path) -> Ngram:
    order = sum(name.startswith(f"{prefix}order") and name.endswith(".logprobs") for name in arrays)
    try:
        levels = tuple(
            NgramOrder(
                keys=np.arange(card.vocabulary + 1) if number == 1 else arrays[f"{prefix}order{number}.keys"],  # type: ignore[arg-type]
                logprobs=arrays[f"{prefix}order{number}.logprobs"],  # type: ignore[arg-type]  # as they were written
                backoffs=arrays[f"{prefix}order{number}.backoffs"],  # type: ignore[arg-type]
            )
            for number in range(1, order + 1)
        )
    except KeyError as error:
        raise UsageError(f"{file} is damaged: it lacks {error}.") from error
    if not levels or any(len(level.keys) != len(level.logprobs) for level in levels):
        raise UsageError(f"{file} is damaged: its n-grams are not those of a vocabulary of {card.vocabulary} tokens.")
    return Ngram(vocabulary=card.vocabulary, ends=ends, levels=levels)


def _head_arrays(head: Classifier | NgramClasses) -> Arrays:
    if isinstance(head, NgramClasses):
        found: dict[str, NDArray[np.generic]] = {"prior": head.prior}
        for number, model in enumerate(head.models):
            found |= _ngram_arrays(model, f"class{number}.")
        return found
    return {
        "terms": head.terms,
        "scale": head.linear.scale.astype(np.float32),
        "weights": head.linear.weights.astype(np.float32),
        "bias": head.linear.bias.astype(np.float32),
    }


def _head(file: Path, *, card: ModelCard, sizes: FittedSizes, ends: tuple[int, ...]) -> Classifier | NgramClasses:
    arrays = _read(file)
    if isinstance(sizes, TermSizes):
        return Classifier(
            terms=arrays["terms"],  # type: ignore[arg-type]  # as it was written
            longest=sizes.ngrams,
            vocabulary=card.vocabulary,
            skipped=ends,
            linear=Linear(
                scale=arrays["scale"].astype(np.float64),
                weights=arrays["weights"].astype(np.float64),
                bias=arrays["bias"].astype(np.float64),
            ),
        )
    prior = arrays["prior"].astype(np.float32)
    return NgramClasses(
        models=tuple(
            _ngram(arrays, f"class{number}.", card=card, ends=ends, file=file) for number in range(len(prior))
        ),
        prior=prior,
    )


def _read(file: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise UsageError(f"the weights in {file} cannot be read: {str(error).splitlines()[0]}.") from error


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
