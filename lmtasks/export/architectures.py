"""The table of architectures whose graphs are built block by block: one line each. All others are traced."""

from collections.abc import Mapping

from lmtasks.export.emitters.architecture import Architecture
from lmtasks.export.emitters.bert import ALBERT, BERT, DISTILBERT, MPNET
from lmtasks.export.emitters.gemma import GEMMA3
from lmtasks.export.emitters.gpt2 import GPT2, OPT
from lmtasks.export.emitters.gpt_neox import GPT_NEOX
from lmtasks.export.emitters.llama import EUROBERT, LLAMA
from lmtasks.export.emitters.marian import MARIAN
from lmtasks.export.emitters.modernbert import MODERNBERT
from lmtasks.export.emitters.recurrent import BIDIRECTIONAL, RECURRENT
from lmtasks.export.emitters.shallow import AVERAGE, CNN
from lmtasks.export.emitters.t5 import T5
from lmtasks.export.package import EMITTED, REVISED, TRACED
from lmtasks.records import ModelCard

ARCHITECTURES: Mapping[str, Architecture] = {
    "albert": ALBERT,
    "average": AVERAGE,
    "bart": MARIAN,
    "bert": BERT,
    "bigru": BIDIRECTIONAL,
    "bilstm": BIDIRECTIONAL,
    "camembert": BERT,
    "cnn": CNN,
    "distilbert": DISTILBERT,
    "electra": BERT,
    "eurobert": EUROBERT,
    "gemma3_text": GEMMA3,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "gru": RECURRENT,
    "llama": LLAMA,
    "lstm": RECURRENT,
    "m2m_100": MARIAN,
    "marian": MARIAN,
    "mbart": MARIAN,
    "mistral": LLAMA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "mt5": T5,
    "opt": OPT,
    "pegasus": MARIAN,
    "phi3": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "rnn": RECURRENT,
    "roberta": BERT,
    "t5": T5,
    "xlm-roberta": BERT,
}
"""By transformers' model_type, and the names of our own families."""
ENCODING: Mapping[str, Architecture] = {
    "llama": EUROBERT,
    "mistral": EUROBERT,
    "phi3": EUROBERT,
    "qwen2": EUROBERT,
    "qwen3": EUROBERT,
}
"""The same for causal architectures that are used as encoders; others of them are traced."""
LABELS: frozenset[str] = frozenset(architecture.label for architecture in ARCHITECTURES.values())
"""As packages of this version name what built them."""


def architecture_of(card: ModelCard) -> Architecture | None:
    """The one that builds the graphs of a model; None: it is traced."""
    encodes = card.kind == "encoder" and card.family in ENCODING
    return ENCODING[card.family] if encodes else ARCHITECTURES.get(card.family)


def is_of_this_version(maker: str) -> bool:
    """Are graphs with this label of a package those that this version makes, and so knows how to drive?

    >>> [is_of_this_version(maker) for maker in ("emitted:gpt2 1", "emitted:gpt2 99", "traced-2 torch-2.13.0+cpu")]
    [True, False, True]
    >>> is_of_this_version("emitted:gpt2 1; w8 2")
    True
    """
    if not maker.startswith(EMITTED):
        return maker.partition(" ")[0] == TRACED
    return any(maker in (label, *(label + revised for revised in REVISED.values())) for label in LABELS)
