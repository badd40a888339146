"""Data sets that task files of lm-evaluation-harness name, and where their rows are now.

Only those of its tasks arc_easy, arc_challenge, openbookqa, piqa, winogrande, lambada_openai, wikitext and sciq, whose
files of version 0.4.13 name ids that the Hub still serves; files of older versions name the ids that moved.

>>> current("piqa"), current("my/own")
('baber/piqa', 'my/own')
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lmtasks.task.task import Source

MOVED: Mapping[str, str] = {
    "ai2_arc": "allenai/ai2_arc",
    "openbookqa": "allenai/openbookqa",
    "piqa": "baber/piqa",
    "ybisk/piqa": "baber/piqa",
    "winogrande": "allenai/winogrande",
    "sciq": "allenai/sciq",
}
"""Id in a file to the id that has the same rows today. `piqa` is a loading script, the others got an owner."""


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A data set that a mirror may have in place of another, or of a configuration of it."""

    path: str
    name: str | None = None
    differs: str


WIKITEXT = "EleutherAI/wikitext_document_level"

STAND_INS: Mapping[tuple[str, str | None], StandIn] = {
    (WIKITEXT, "wikitext-2-raw-v1"): StandIn(
        path=WIKITEXT, name="wikitext-2-v1", differs="the same articles tokenized, with <unk> for rare words"
    ),
    (WIKITEXT, "wikitext-103-raw-v1"): StandIn(
        path=WIKITEXT, name="wikitext-103-v1", differs="the same articles tokenized, with <unk> for rare words"
    ),
    ("SetFit/sst2", None): StandIn(
        path="stanfordnlp/sst2",
        differs="a copy of that id by the sentence, with labels in test; the Hub's is by the phrase",
    ),
}
"""(id, configuration) to what may be read instead where a local mirror has that alone. It becomes part of the task:
its hash is another one."""


def current(path: str) -> str:
    """The id under which the rows of a data set are found today."""
    return MOVED.get(path, path)


def stand_in(source: Source) -> Source | None:
    """The source that may be read in place of another, the difference told in `stands_for`; None where nothing may."""
    found = STAND_INS.get((source.path, source.name))
    if found is None:
        return None
    asked = f"{source.path}/{source.name}" if source.name else source.path
    return replace(source, path=found.path, name=found.name, stands_for=f"{asked} ({found.differs})")
