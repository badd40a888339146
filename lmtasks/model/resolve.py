"""The folder of a model, by what a person calls it."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lmtasks.errors import LmtasksError, UsageError, WorkError, missing, near_paths, unknown
from lmtasks.files import parse_json
from lmtasks.installation import shipped_backbones
from lmtasks.model.gguf import folder_of, is_gguf
from lmtasks.settings.endpoint import is_address

HUB_ID = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model", "*.spm", "*.tiktoken", "pytorch_model*.bin"]

OWNERS: Mapping[str, str] = {
    r"bert-": "google-bert",
    r"distil(bert-|gpt2$|roberta-)": "distilbert",
    r"(roberta|xlm|xlm-roberta)-": "FacebookAI",
    r"gpt2(-(medium|large|xl))?$|openai-gpt$": "openai-community",
    r"t5-": "google-t5",
    r"albert-": "albert",
    r"xlnet-": "xlnet",
    r"camembert-base$": "almanach",
}
"""Names of the Hub's first models, which had no owner, to the owners that they got."""


def shipped_names() -> tuple[str, ...]:
    """Names of the backbones that come with lmtasks."""
    folder = shipped_backbones()
    return tuple(sorted(item.name for item in folder.iterdir() if (item / "config.json").is_file()))


def resolve(ref: str, *, offline: bool, token: str | None = None, also: Iterable[str] = ()) -> Path:
    """A folder as it is, a shipped name, or a Hub id with `@revision`, downloaded if need be; of a GGUF file the folder
    that it is read into.

    Args:
        also: what else the caller knows by name (baselines), for near names.

    Raises:
        UsageError: nothing of that name, or adapters without their backbone.
        WorkError: the Hub cannot be reached, or does not have it.
    """
    if is_address(ref):
        raise UsageError(f"{ref} is a server's address; eval, run and predict ask servers, nothing here can load one.")
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return _no_adapters(folder, ref)
    if is_gguf(folder):
        return folder_of(folder)
    if folder.exists():
        how = f" `lmtasks export --model {ref} --out FOLDER` makes one of it." if ".arpa" in folder.name else ""
        raise UsageError(f"{ref} is a file; --model takes a folder, a GGUF file, a shipped name or a Hub id.{how}")
    if (shipped_backbones() / ref / "config.json").is_file():
        return shipped_backbones() / ref
    found = HUB_ID.match(ref)
    if not found or ref.startswith((".", "/")):
        raise unknown("model", ref, [*shipped_names(), *also], hint=_way_out(ref, folder))
    try:
        return _no_adapters(_download(found["id"], found["revision"], offline=offline, token=token), ref)
    except LmtasksError as error:
        if folder.parent.is_dir():  # `runs/mine` has the form of a Hub id
            raise missing("folder", folder, hint=f"as a Hub id: {str(error).rstrip('.')}") from error
        raise


def _way_out(ref: str, folder: Path) -> str:
    """What else may have been meant."""
    near = [path for path in near_paths(folder) if path.is_dir()]
    if near:
        return f"Or did you mean the folder {near[0]}?"
    owner = next((owner for name, owner in OWNERS.items() if re.match(name, ref)), None)
    if owner is not None:
        return f"A Hub id has an owner: perhaps {owner}/{ref}."
    return "Or give a folder that exists, or a Hub id with its owner (org/name)."


def _no_adapters(folder: Path, ref: str) -> Path:
    """The folder, unless it holds adapters of peft alone.

    Raises:
        UsageError: it does; says what to merge them into.
    """
    file = folder / "adapter_config.json"
    if not file.is_file() or (folder / "config.json").is_file():
        return folder
    try:
        base = str(parse_json(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError):
        base = "BACKBONE"
    raise UsageError(
        f"{ref} holds adapters of peft, and no model: merge them into {base} first (peft: merge_and_unload, then "
        "save_pretrained of the model and of its tokenizer into a new folder), and give that folder."
    )


def _download(name: str, revision: str | None, *, offline: bool, token: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(name, revision=revision, token=token, local_files_only=offline, allow_patterns=FILES)
        )
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"no folder and no Hub model is called {name!r} (a private one needs --token or HF_TOKEN)."
        ) from error
    except LocalEntryNotFoundError as error:
        why = "--offline is set and it was never downloaded" if offline else "the Hub cannot be reached"
        raise WorkError(f"model {name!r} is not on this machine, and {why}.") from error
    except (HfHubHTTPError, OSError) as error:
        raise WorkError(f"model {name!r} cannot be downloaded: {str(error).splitlines()[0]}") from error
