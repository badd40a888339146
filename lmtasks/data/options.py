"""Options of reading data, which every command shares."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The places that rows may come from, besides the files that a task names."""

    data_root: Path | None = None
    """A local mirror of the Hub, searched first: `<data_root>/<dataset_path>[/<dataset_name>]/<split>.parquet`."""
    offline: bool = False
    """Touch no network at all."""
    token: str | None = None
    """Hub token; None: the one that `huggingface_hub` finds (HF_TOKEN, or `hf auth login`)."""
    drop_unlabelled: bool = False
    """Leave out rows without a label, however many they are."""
    unreachable: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Data sets that could not be fetched, and why: each is tried once a command, not once a cell."""
