"""A model of ours against the checksums that it was written with: one flipped bit would be another model's scores.

checksums.json
{"schema": 1, "files": {"model.json": "5c1e...", "backbone/config.json": "...", "backbone/model.safetensors": "..."}}

Every file that a loader opens stands there, with its `digests.FileDigest.hash`; but for `adapters/base.json`, whose
places are a machine's, and which holds a hash of the weights that it leads to. Models of earlier versions have no such
file; of them the hash of all weights, which stands on their card, is held against what lies there (see `store`).
"""

from collections.abc import Iterator
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.files import parse_json, write_json
from lmtasks.model.files import (
    backbone_index,
    backbone_weights,
    has_weights,
    settings_files,
    tokenizer_files,
    tokenizer_folder,
)
from lmtasks.model.weights import ADAPTER_CONFIG, adapter_folders, digest_of, read_base, weight_files

CHECKSUMS = "checksums.json"
SCHEMA = 1


def write_checksums(folder: Path) -> None:
    """Write the checksums of a model or backbone that is being made, over what lies there now."""
    files = {_name(file, folder): digest_of(file).hash for file in _loaded(folder)}
    write_json(folder / CHECKSUMS, {"schema": SCHEMA, "files": files}, indent=2)


def check_files(folder: Path) -> None:
    """Hold every file of a model or backbone against its checksum, where the folder has checksums.

    Raises:
        UsageError: a file is damaged or missing (named), or its loader would read weights that were not there.
    """
    file = folder / CHECKSUMS
    if not file.is_file():
        return
    way_out = f"Copy the model again, or make it anew; where a change of settings is wanted, delete {file}."
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        listed = {str(name): str(digest) for name, digest in content["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} is damaged: {error}. {way_out}") from error
    for name, digest in listed.items():
        if not (folder / name).is_file():
            raise UsageError(f"{folder} lacks {name}, which belongs to its model. {way_out}")
        if digest_of(folder / name).hash != digest:
            raise UsageError(
                f"{folder / name} is damaged: it is not the file that was written (its checksum differs). {way_out}"
            )
    for weights in _own_weights(folder) if read_base(folder) is None else ():
        if _name(weights, folder) not in listed:
            raise UsageError(f"{weights} was not there when the model was written, and would be loaded now. {way_out}")


def _loaded(folder: Path) -> Iterator[Path]:
    """The files in a folder that are opened where its model is loaded."""
    inner = tokenizer_folder(folder)
    if (folder / "model.json").is_file():
        yield folder / "model.json"
    yield from settings_files(inner)
    yield from tokenizer_files(inner)
    yield from backbone_index(inner)
    # A backbone elsewhere is named by way of the folder (`model/../backbone`), and has a hash of its own in base.json.
    yield from (file for file in weight_files(folder) if _lies_in(file, folder))
    yield from (place / ADAPTER_CONFIG for place in adapter_folders(folder))


def _lies_in(file: Path, folder: Path) -> bool:
    return file.is_relative_to(folder) and ".." not in file.relative_to(folder).parts


def _own_weights(folder: Path) -> tuple[Path, ...]:
    inner = tokenizer_folder(folder)
    return (*backbone_index(inner), *backbone_weights(inner)) if has_weights(inner) else ()


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
