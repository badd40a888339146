"""Models on disk.

    model.json                what the model is and how it came to be
    backbone/                 its tokenizer; a transformers folder, which any tool can load, or a family of ours
    heads/<name>/head.json, head.safetensors
    checksums.json            of every file that is opened here; held against them where the model is loaded
    training_rows.bin         fingerprints of the rows that it learned from and was chosen on
    adapters/                 of `lora`: `backbone/` then has no weights, and another one is referred to; see `adapters`

A bare backbone folder is a model as well: one without heads, or with the head that its checkpoint carries.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.backbone.closed_form import FITTED
from lmtasks.errors import UsageError
from lmtasks.files import first_line, parse_json, read_object, reading
from lmtasks.head import head_of
from lmtasks.model.files import copy_tokenizer, tokenizer_folder
from lmtasks.model.generation_settings import read_generation, read_rules, read_settings, settings_file
from lmtasks.model.vectors import PRETRAINING, vector_head_of, was_pretrained_both_ways
from lmtasks.model.verify import check_files, write_checksums
from lmtasks.model.weights import base_facts, weight_facts
from lmtasks.records import TRAINING_ROWS, HeadSpec, ModelCard, card_from_json

if TYPE_CHECKING:
    from lmtasks.backbone.base import Backbone
    from lmtasks.model.adapters import Adapted, AdapterSwitch
    from lmtasks.model.model import Model

SCHEMA = 1


def training_rows_file(folder: Path) -> Path:
    """Where the fingerprints lie of the rows that a model learned from; a backbone within a model has the model's."""
    within = folder.name == "backbone" and (folder.parent / "model.json").is_file()
    return (folder.parent if within else folder) / TRAINING_ROWS


def card_of(folder: Path) -> ModelCard:
    """The card that identifies the model in a folder, from its files alone.

    Raises:
        UsageError: the folder holds no model, or one of its files is not what was written.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    check_files(folder)
    facts = weight_facts(folder)
    if (folder / "model.json").is_file():
        card = _read_card(folder)
        if card.weights_hash != facts.hash:
            raise UsageError(
                f"the weights in {folder} are damaged: together they have the hash {facts.hash}, and model.json was "
                f"written with {card.weights_hash}. Copy the model again, or adapt it anew."
            )
        return _as_its_files_say(card, folder / "backbone")
    from lmtasks.backbone.load import read_traits

    traits = read_traits(folder)
    own = (
        (HeadSpec(name="own", kind=traits.own_head, labels=traits.own_labels, pooling="own"),)
        if traits.own_head
        else ()
    )
    both_ways = traits.kind == "causal" and was_pretrained_both_ways(read_object(folder / PRETRAINING))
    card = ModelCard(
        name=folder.name,
        family=traits.family,
        kind=traits.kind,
        adaptation="prompt",
        parameters=facts.parameters,
        weights_hash=facts.hash,
        tokenizer_hash=_tokenizer_hash(folder),
        max_length_tokens=traits.max_length_tokens,
        vocabulary=traits.vocabulary,
        heads=own,
        decoder_start=_first_token(folder) if traits.kind == "encoder-decoder" else None,
        ends=_end_tokens(folder),
        vectors=vector_head_of(folder, traits, attention="both" if both_ways else None),
    )
    return _as_its_files_say(card, folder)


def load_model(folder: Path) -> "Model":
    """Load backbone and heads, the backbone once; adapters are merged into it.

    Raises:
        UsageError: a part is missing or does not fit.
    """
    from lmtasks.backbone.load import load_backbone
    from lmtasks.model.adapters import adapted_of, merge_adapter

    card = card_of(folder)
    if card.family in FITTED:
        raise UsageError(
            f"{folder} is of family {card.family}, which {FITTED[card.family].why_no_steps}: it runs in native alone, "
            "and is neither trained further nor exported."
        )
    assembled = (folder / "model.json").is_file()
    adapted = adapted_of(folder)
    backbone = load_backbone(folder / "backbone" if assembled else folder, weights=adapted.base)
    for adapter in adapted.adapters:
        merge_adapter(backbone.adapted, adapter)
    return _with_heads(backbone, card, folder)


def load_together(folders: Sequence[Path]) -> "tuple[tuple[Model, ...], AdapterSwitch]":
    """Load models over one backbone, which is in memory once; adapters are not merged, and chosen by the switch.

    Args:
        folders: models with adapters, and the bare backbone.

    Raises:
        UsageError: one stands over another backbone, or has weights of its own; or as `load_model`.
    """
    from lmtasks.backbone.load import load_backbone
    from lmtasks.model.adapters import AdapterSwitch, adapted_of

    cards = [card_of(folder) for folder in folders]
    adapted = [adapted_of(folder) for folder in folders]
    first, bases = adapted[0].base, [base_facts(each.base).hash for each in adapted]
    for folder, each, hash in zip(folders, adapted, bases, strict=True):
        if hash != bases[0]:
            raise UsageError(
                f"models that answer together stand over one backbone: {folders[0].name} stands over {first} with the "
                f"weights {bases[0]}, and {folder.name} over {each.base} with {hash}. Ask one after the other."
            )
    places = [folder / "backbone" if (folder / "model.json").is_file() else folder for folder in folders]
    settings = [read_settings(place / "config.json") for place in places]
    tokenizers = {card.tokenizer_hash for card in cards}
    if any(each != settings[0] for each in settings) or len(tokenizers) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise UsageError(f"{names} read their backbone with other settings or tokenizers: ask one after the other.")
    backbone = load_backbone(places[0], weights=first)
    switch = AdapterSwitch(backbone.adapted, [each.adapters for each in adapted])
    models = tuple(_with_heads(backbone, card, folder) for card, folder in zip(cards, folders, strict=True))
    return models, switch


def _with_heads(backbone: "Backbone", card: ModelCard, folder: Path) -> "Model":
    from safetensors.torch import load_file

    from lmtasks.model.model import Model

    model = Model(backbone, card=card, folder=tokenizer_folder(folder))
    for spec in card.heads:
        if not spec.predicts or spec.pooling == "own" or head_of(spec).vectors:
            continue
        file = folder / "heads" / spec.name / "head.safetensors"
        if not file.is_file():
            raise UsageError(f"the model in {folder} lacks the weights of head {spec.name!r}: {file} is missing.")
        with reading(f"the weights in {file}"):
            model.head(spec.name).load_state_dict(load_file(str(file)))
    return model.eval()


def save_model(
    model: "Model", folder: Path, *, provenance: Mapping[str, object], adapted: "Adapted | None" = None
) -> None:
    """Write the model to a folder that does not exist yet; the caller renames it into place, in the same folder.

    Args:
        adapted: what the backbone is made of, which is then saved in place of its weights; None: they are.
    """
    from safetensors.torch import save_file

    from lmtasks.model.adapters import save_adapted

    (folder / "heads").mkdir(parents=True)
    if adapted is None:
        model.backbone.save(folder / "backbone")
    else:
        save_adapted(adapted, folder, settings=model.folder)
    copy_tokenizer(model.folder, folder / "backbone")
    for spec in model.card.heads:
        place = folder / "heads" / spec.name
        place.mkdir()
        (place / "head.json").write_text(_pretty(asdict(spec)), encoding="utf-8")
        if spec.predicts and spec.pooling != "own" and not head_of(spec).vectors:
            tensors = {name: tensor.contiguous() for name, tensor in model.head(spec.name).state_dict().items()}
            save_file(tensors, str(place / "head.safetensors"))
    write_card(folder, model.card, provenance=provenance)
    facts = weight_facts(folder)
    card = replace(model.card, weights_hash=facts.hash, parameters=facts.parameters)
    write_card(folder, card, provenance=provenance)
    write_checksums(folder)


def write_card(folder: Path, card: ModelCard, *, provenance: Mapping[str, object]) -> None:
    """Write model.json; once more where the card tells of the files that its heads' names lead to."""
    content = {"schema": SCHEMA, "card": asdict(card), "provenance": dict(provenance)}
    (folder / "model.json").write_text(_pretty(content), encoding="utf-8")


def read_provenance(folder: Path) -> Mapping[str, object]:
    """How the model of a folder came to be; empty for a bare transformers folder."""
    file = folder / "model.json"
    with reading(str(file)):
        return dict(read_object(file).get("provenance", {}))


def _read_card(folder: Path) -> ModelCard:
    file = folder / "model.json"
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise UsageError(f"{file} has schema {content['schema']}, this version reads {SCHEMA}.")
        return replace(card_from_json(content["card"]), name=folder.name)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"{file} is damaged: {first_line(error)}") from error


def _as_its_files_say(card: ModelCard, backbone: Path) -> ModelCard:
    """The card with what generation_config.json says now, whatever it said when the model was made."""
    if card.kind not in ("causal", "encoder-decoder") or not settings_file(backbone).is_file():
        return card
    own = read_generation(backbone, vocabulary=card.vocabulary)
    rules = read_rules(backbone, vocabulary=card.vocabulary)
    return replace(card, rules=rules, generation=own.settings, unheeded=own.unheeded)


def _first_token(folder: Path) -> int:
    start = _generation_settings(folder).get("decoder_start_token_id")
    if not isinstance(start, int):
        raise UsageError(
            f"{folder} does not say what its decoder starts with; set decoder_start_token_id in config.json."
        )
    return start


def _end_tokens(folder: Path) -> tuple[int, ...]:
    ends = _generation_settings(folder).get("eos_token_id")
    return tuple(end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int))


def _generation_settings(folder: Path) -> Mapping[str, object]:
    """What generation_config.json says counts before config.json, as in transformers."""
    found: dict[str, object] = {}
    for name in ("config.json", "generation_config.json"):
        content = read_settings(folder / name)
        found.update({key: value for key, value in content.items() if value is not None})
    return found


def _tokenizer_hash(folder: Path) -> str:
    from lmtasks.model.weights import file_hash

    file = folder / "tokenizer.json"
    return file_hash(file) if file.is_file() else ""


def _pretty(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
