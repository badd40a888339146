"""What a checkpoint's generation settings say of single tokens.

As in transformers 5: generation_config.json alone counts where it is there, else config.json, in which older
checkpoints have these settings. Ids that the vocabulary does not have mean nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.files import read_object
from lmtasks.records import TokenRules

TOKEN_SETTINGS = frozenset(
    (
        *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    )
)
"""Settings that name tokens: the rules below, and what starts, ends and fills a text."""


def settings_file(folder: Path) -> Path:
    """The file that says how the checkpoint in a folder writes."""
    file = folder / "generation_config.json"
    return file if file.is_file() else folder / "config.json"


def read_rules(folder: Path, *, vocabulary: int) -> TokenRules:
    """The rules of the checkpoint in a folder.

    Raises:
        UsageError: a file is damaged, or a setting is neither a token id nor a list of them.
    """
    file = settings_file(folder)
    found = dict(read_settings(file))
    if file.name == "config.json" and found.get(
        "force_bos_token_to_be_generated"
    ):  # so BART's oldest checkpoints say it
        found["forced_bos_token_id"] = found.get("bos_token_id")

    def ids(name: str, given: object) -> tuple[int, ...]:
        listed: list[object] = list(given) if isinstance(given, list) else [] if given is None else [given]
        numbers = [each for each in listed if isinstance(each, int) and not isinstance(each, bool)]
        if len(numbers) < len(listed):
            raise UsageError(f"{name} in {file} must be a token id or a list of them, was {given!r}.")
        return tuple(each for each in numbers if 0 <= each < vocabulary)

    banned = found.get("bad_words_ids")
    words = [ids("bad_words_ids", word) for word in banned] if isinstance(banned, list) else []
    ends = ids("eos_token_id", found.get("eos_token_id"))
    # transformers takes no notice of a banned end token by itself.
    single = tuple(word[0] for word in words if len(word) == 1 and word[0] not in ends)
    return TokenRules(
        first=next(iter(ids("forced_bos_token_id", found.get("forced_bos_token_id"))), None),
        last=ids("forced_eos_token_id", found.get("forced_eos_token_id")),
        never=tuple(dict.fromkeys((*ids("suppress_tokens", found.get("suppress_tokens")), *single))),
        never_first=ids("begin_suppress_tokens", found.get("begin_suppress_tokens")),
        never_behind=tuple(word for word in words if len(word) > 1),
    )


def read_settings(file: Path) -> Mapping[str, object]:
    """The content of a settings file; empty where there is none.

    Raises:
        UsageError: it is damaged.
    """
    return read_object(file)
