"""Which architectures are built as graphs, block by block: one line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.export.checkpoint import Checkpoint
from lmtasks.export.emitters.average import emit_average
from lmtasks.export.emitters.bert import emit_bert
from lmtasks.export.emitters.bidirectional import emit_bidirectional
from lmtasks.export.emitters.cnn import emit_cnn
from lmtasks.export.emitters.distilbert import emit_distilbert
from lmtasks.export.emitters.eurobert import emit_eurobert
from lmtasks.export.emitters.gpt2 import emit_gpt2
from lmtasks.export.emitters.gpt_neox import emit_gpt_neox
from lmtasks.export.emitters.llama import emit_llama
from lmtasks.export.emitters.marian import emit_marian
from lmtasks.export.emitters.opt import emit_opt
from lmtasks.export.emitters.recurrent import emit_recurrent
from lmtasks.export.emitters.t5 import emit_t5
from lmtasks.export.package import EMITTED, TRACED, GraphName
from lmtasks.records import ModelCard

if TYPE_CHECKING:
    import onnx_ir as ir

Graphs = dict[GraphName, "ir.Model"]


@dataclass(frozen=True, kw_only=True)
class Emitter:
    """What builds the graphs of one architecture, block by block."""

    name: str
    version: int
    """Changes whenever its graphs may yield other numbers, or are driven in another way."""
    emit: Callable[[Checkpoint], Graphs]

    @property
    def label(self) -> str:
        """As a package names it."""
        return f"{EMITTED}{self.name} {self.version}"


BERT = Emitter(name="bert", version=1, emit=emit_bert)
DISTILBERT = Emitter(name="distilbert", version=1, emit=emit_distilbert)
EUROBERT = Emitter(name="eurobert", version=1, emit=emit_eurobert)
LLAMA = Emitter(name="llama", version=1, emit=emit_llama)
GPT2 = Emitter(name="gpt2", version=1, emit=emit_gpt2)
GPT_NEOX = Emitter(name="gpt_neox", version=1, emit=emit_gpt_neox)
OPT = Emitter(name="opt", version=1, emit=emit_opt)
MARIAN = Emitter(name="marian", version=1, emit=emit_marian)
T5 = Emitter(name="t5", version=1, emit=emit_t5)
BIDIRECTIONAL = Emitter(name="bidirectional", version=1, emit=emit_bidirectional)
RECURRENT = Emitter(name="recurrent", version=1, emit=emit_recurrent)
CNN = Emitter(name="cnn", version=1, emit=emit_cnn)
AVERAGE = Emitter(name="average", version=1, emit=emit_average)
EMITTERS: Mapping[str, Emitter] = {
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
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "gru": RECURRENT,
    "llama": LLAMA,
    "lstm": RECURRENT,
    "marian": MARIAN,
    "mistral": LLAMA,
    "mt5": T5,
    "opt": OPT,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "rnn": RECURRENT,
    "roberta": BERT,
    "t5": T5,
    "xlm-roberta": BERT,
}
"""By transformers' model_type, and the names of our own families. All other architectures are traced."""
ENCODING: Mapping[str, Emitter] = {"llama": EUROBERT, "mistral": EUROBERT, "qwen2": EUROBERT}
"""The same for causal architectures that are used as encoders; others of them are traced."""
LABELS: frozenset[str] = frozenset(emitter.label for emitter in EMITTERS.values())
"""As packages of this version name what built them."""


def emitter_of(card: ModelCard) -> Emitter | None:
    """What builds the graphs of a model; None: it is traced."""
    encodes = card.kind == "encoder" and card.family in ENCODING
    return ENCODING[card.family] if encodes else EMITTERS.get(card.family)


def is_of_this_version(maker: str) -> bool:
    """Are graphs with this label of a package those that this version makes, and so knows how to drive?

    >>> [is_of_this_version(maker) for maker in ("emitted:gpt2 1", "emitted:gpt2 99", "traced-2 torch-2.13.0+cpu")]
    [True, False, True]
    """
    return maker in LABELS if maker.startswith(EMITTED) else maker.partition(" ")[0] == TRACED
