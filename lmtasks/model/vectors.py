"""How a checkpoint makes a vector of a text before anybody adapts it: pooled states, as its own files say.

sentence-transformers' folders tell their pooling (`1_Pooling/config.json`), and what their encoder was trained to read
before a question and before a passage (`prompts` of config_sentence_transformers.json, e5's "query: " and "passage: ").
Other folders say neither: states are pooled as the family's heads read them. Which way a causal backbone reads is what
its pretraining was.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmtasks.files import parse_json, read_object, reading
from lmtasks.records import HeadSpec
from lmtasks.settings.attention import Attention
from lmtasks.settings.training import BOTH_WAYS

if TYPE_CHECKING:
    from lmtasks.backbone.base import Traits

VECTORS = "vectors"
"""The name of the head that nobody has adapted."""
PRETRAINING = "pretraining.json"
"""Beside a backbone's weights: the record of its pretraining."""
POOLINGS: Mapping[str, Literal["mean", "last", "first", "max"]] = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",  # longer, and no other direction
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
CARRIED_OUT = frozenset({"Transformer", "Pooling", "Normalize"})
"""Modules of sentence-transformers; a length makes no difference to a cosine."""
QUESTIONS, PASSAGES = ("query",), ("passage", "document")
"""Names of prompts."""


def vector_head_of(folder: Path, traits: "Traits", *, attention: Attention | None) -> HeadSpec | None:
    """The head by which a bare backbone answers with vectors; None where its files ask for more than pooled states.

    Args:
        attention: how a causal backbone reads; None: as it reads by itself.

    Raises:
        UsageError: one of the files is damaged.
    """
    modules = folder / "modules.json"
    if modules.is_file():
        with reading(str(modules)):
            listed = parse_json(modules.read_text(encoding="utf-8"))
            if any(str(each["type"]).rpartition(".")[2] not in CARRIED_OUT for each in listed):
                return None
    pooling = read_object(folder / "1_Pooling" / "config.json")
    named = {
        POOLINGS[name]
        for name, value in pooling.items()
        if value is True and name.startswith("pooling_mode_")
        if name in POOLINGS
    }
    if len(named) > 1 or (pooling and not named):
        return None
    prompts = read_object(folder / "config_sentence_transformers.json").get("prompts")
    known = prompts if isinstance(prompts, dict) else {}
    return HeadSpec(
        name=VECTORS,
        kind="embedding",
        pooling=named.pop() if named else traits.pooling,
        attention=attention,
        width=traits.width,
        query_prefix=_first(known, QUESTIONS),
        text_prefix=_first(known, PASSAGES),
    )


def was_pretrained_both_ways(record: object) -> bool:
    """Did a backbone learn to read both ways by any stage of its pretraining?

    Args:
        record: content of `PRETRAINING`.
    """
    while isinstance(record, dict) and record:
        if record.get("objective") in BOTH_WAYS:
            return True
        record = record.get("before")
    return False


def _first(prompts: Mapping[str, object], names: tuple[str, ...]) -> str:
    return next((str(prompts[name]) for name in names if isinstance(prompts.get(name), str)), "")
