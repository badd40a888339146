"""What a person calls a model -> the folder that holds it."""

import re
from pathlib import Path

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.installation import shipped_backbones

HUB_ID = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model", "*.spm", "*.tiktoken", "pytorch_model*.bin"]


def shipped_names() -> tuple[str, ...]:
    """Names of the backbones that come with lmtasks."""
    folder = shipped_backbones()
    return tuple(sorted(item.name for item in folder.iterdir() if (item / "config.json").is_file()))


def resolve(ref: str, *, offline: bool, token: str | None = None) -> Path:
    """A folder as it is, a shipped name, or a Hub id with `@revision`, downloaded if need be.

    Raises:
        UsageError: nothing of that name.
        WorkError: the Hub cannot be reached, or does not have it.
    """
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        how = f" `lmtasks export --model {ref} --out FOLDER` makes one of it." if ".arpa" in folder.name else ""
        raise UsageError(f"{ref} is a file; --model takes a folder, a shipped name or a Hub id.{how}")
    if (shipped_backbones() / ref / "config.json").is_file():
        return shipped_backbones() / ref
    found = HUB_ID.match(ref)
    if not found or ref.startswith((".", "/")):
        raise unknown("model", ref, shipped_names(), hint="Or give a folder that exists, or a Hub id such as org/name.")
    return _download(found["id"], found["revision"], offline=offline, token=token)


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
