"""Which files of a folder its loaders open, and in which order they look: what lies beside these is no part of a model.

    model.safetensors                   the first of these that is there, in transformers' own order;
    model.safetensors.index.json        an index stands for the shards that it names, which lie in its folder
    pytorch_model.bin
    pytorch_model.bin.index.json

Sub-folders (`checkpoint-500/`, the `2_Dense/` of sentence-transformers), copies (`model_old.safetensors`) and other
tools' files (`consolidated.safetensors`, `model.fp16.safetensors`) are passed over, here as there. Needs no torch.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from lmtasks.backbone.sizes import FAMILY
from lmtasks.errors import UsageError
from lmtasks.files import parse_json
from lmtasks.model.generation_settings import read_settings

OWN_WEIGHTS = "model.safetensors"
WEIGHTS = (OWN_WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
INDEX = ".index.json"
EXPLICIT = "transformers_weights"
"""Key in config.json that names another file of weights, as transformers 5 reads it."""
FOREIGN_ADAPTERS = "adapter_config.json"

SETTINGS = ("config.json", "generation_config.json")
"""Of a backbone, beside its weights."""

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.*.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "additional_chat_templates/*.jinja", "chat_template.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "*.tiktoken", "tiktoken.model", "tekken.json"),
    *("sentencepiece*.model", "spiece.model", "spm.model", "spm_char.model", "source.spm", "target.spm"),
    *("target_vocab.json", "vocab-src.json", "vocab-tgt.json", "bpe.codes", "dict.txt", "byte_maps.json"),
    *("emoji.json", "entity_vocab.json", "normalizer.json", "prophetnet.tokenizer"),
    *("word_pronunciation.json", "word_shape.json"),
)
"""What tokenizers of transformers are loaded from, and what chats are written by; with `*` for any text."""


def has_weights(folder: Path) -> bool:
    """Would weights be found in this folder?"""
    return _entry(folder) is not None


def backbone_weights(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights which are loaded from a backbone's folder.

    Raises:
        UsageError: there are none, an index names what is not in its folder, or adapters of peft lie beside them.
    """
    entry = _entry(folder)
    if entry is None:
        others = sorted(file.name for pattern in ("*.safetensors", "*.bin", "*.gguf") for file in folder.glob(pattern))
        beside = f"; {', '.join(others[:3])} there {'is' if len(others) == 1 else 'are'} not loaded" if others else ""
        raise UsageError(f"{folder} has no weights: none of {', '.join(WEIGHTS)}{beside}.")
    if (folder / FOREIGN_ADAPTERS).is_file():
        raise UsageError(
            f"{folder} holds adapters of peft ({FOREIGN_ADAPTERS}) beside whole weights, and which of the two is meant "
            "is not said: merge them (peft: merge_and_unload, save_pretrained), or move the adapters away."
        )
    return _shards(entry) if entry.name.endswith(INDEX) else (entry,)


def backbone_index(folder: Path) -> tuple[Path, ...]:
    """The index of a backbone's weights, where its loader reads one."""
    entry = _entry(folder)
    return (entry,) if entry is not None and entry.name.endswith(INDEX) else ()


def settings_files(folder: Path) -> tuple[Path, ...]:
    """The settings of a backbone that lie in its folder."""
    return tuple(folder / name for name in SETTINGS if (folder / name).is_file())


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """Everything in a folder that a tokenizer's loader reads."""
    found = {file for pattern in TOKENIZER_FILES for file in folder.glob(pattern) if file.is_file()}
    return tuple(sorted(found))


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy everything that a tokenizer's loader reads, chat templates included; sub-folders are made."""
    for file in tokenizer_files(source):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _entry(folder: Path) -> Path | None:
    """The file at which the loader begins: weights, or an index of them."""
    settings = read_settings(folder / "config.json")
    named = settings.get(EXPLICIT)
    if isinstance(named, str):
        _check_inside(named, folder / "config.json")
        return folder / named if (folder / named).is_file() else None
    names = (OWN_WEIGHTS,) if FAMILY in settings else WEIGHTS
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        named = set(parse_json(index.read_text(encoding="utf-8"))["weight_map"].values())
        if not named or not all(isinstance(name, str) for name in named):
            raise ValueError("its weight_map names no files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{index} is damaged: {error}; copy the model again.") from error
    return tuple(_present(index, name) for name in sorted(named))


def _present(index: Path, name: str) -> Path:
    _check_inside(name, index)
    file = index.parent / name
    if not file.is_file():
        raise UsageError(f"{index} names {name}, which is missing; copy the model again, with all its shards.")
    return file


def _check_inside(name: str, named_by: Path) -> None:
    """Raises: UsageError: the name leads out of the folder of the file that names it. Links may: the Hub's cache has
    them."""
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in _readings(name)):
        raise UsageError(
            f"{named_by} names {name!r}, which lies outside its folder; the weights of a model lie beside it. "
            "Get the model again from where it came from."
        )


def _readings(name: str) -> Iterator[PurePosixPath | PureWindowsPath]:
    yield PurePosixPath(name)
    yield PureWindowsPath(name)


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer of a model or of a package lies, and the configuration of a model's backbone."""
    return folder / "backbone" if (folder / "model.json").is_file() else folder
