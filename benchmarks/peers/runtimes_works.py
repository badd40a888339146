"""What is raced, by whom, and by how much it should be won.

One line a work, one line a contender, one line a wanted ratio; nothing here computes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

ShapeName = Literal["llama", "gpt2", "marian", "minilm", "bilstm", "bigru"]
Side = Literal["transformers", "compiled", "packed", "lmtasks", "ctranslate2", "optimum", "genai", "openvino", "memory"]
Precision = Literal["fp32", "bf16", "int8", "int8-static", "int8-tensor", "w8"]

SHAPES: Mapping[ShapeName, str] = {
    "llama": "30M Llama shape",
    "gpt2": "82M GPT-2 shape",
    "marian": "Marian shape",
    "minilm": "MiniLM encoder with head",
    "bilstm": "bidirectional LSTM classifier",
    "bigru": "bidirectional GRU classifier",
}
RECURRENT: Sequence[ShapeName] = ("bilstm", "bigru")
"""Families of our own: no peer has them but torch itself, with packed sequences."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every contender does in one turn."""

    name: str
    shape: ShapeName
    about: str
    inputs: int
    """Asked in one turn."""
    few: int
    """Asked of the contenders that run torch: whole batches of them, which go no slower alone; they are slow."""
    batch: int
    """1: one after the other, a stream; 0: each contender's own best one."""
    new: int = 0
    """Tokens written behind each input; 0: a head answers."""
    beams: int = 1

    @property
    def unit(self) -> str:
        """What is counted, by the second."""
        return "tokens/s" if self.new else "sentences/s"


def _works() -> tuple[Work, ...]:
    causal: Sequence[ShapeName] = ("llama", "gpt2")
    one = [
        Work(
            name=f"{shape}-one", shape=shape, about="one stream, greedy, 64 + 64 new", inputs=3, few=3, batch=1, new=64
        )
        for shape in causal
    ]
    many = [
        Work(name=f"{shape}-many", shape=shape, about="64 prompts, batch 8", inputs=64, few=8, batch=8, new=64)
        for shape in causal
    ]
    own = [
        Work(
            name=f"{shape}-own",
            shape=shape,
            about="64 prompts, each at its own best batch",
            inputs=64,
            few=64,
            batch=0,
            new=64,
        )
        for shape in causal
    ]
    pairs = [
        Work(
            name=f"marian-{name}",
            shape="marian",
            about=f"64 sentences, batch 8, {about}",
            inputs=64,
            few=16,
            batch=8,
            new=32,
            beams=beams,
        )
        for name, about, beams in (("greedy", "greedy", 1), ("beam", "beam search of 4", 4))
    ]
    head = Work(name="minilm-head", shape="minilm", about="1,000 sentences", inputs=1000, few=1000, batch=32)
    recurrent = [
        Work(
            name=f"{shape}-{batch}",
            shape=shape,
            about=f"512 sentences, batch {batch}{', sorted by length' if batch > 1 else ''}",
            inputs=512,
            few=512,
            batch=batch,
        )
        for shape in RECURRENT
        for batch in (1, 32)
    ]
    return (*one, *many, *own, *pairs, head, *recurrent)


WORKS: Mapping[str, Work] = {work.name: work for work in _works()}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One process."""

    name: str
    side: Side
    precision: Precision
    runtime: Literal["", "torch", "onnx", "openvino"] = ""
    shapes: Sequence[ShapeName] = ()
    """Those that it can run."""

    @property
    def slow(self) -> bool:
        """Is it asked for a part of the work only? Those that run torch, or generate as transformers does."""
        return self.side in ("transformers", "compiled", "packed", "optimum") or self.runtime == "torch"

    @property
    def lacks(self) -> str:
        """What our own Python has not, of a contender of ours, and how to get it; empty: nothing."""
        lacking = self.runtime == "openvino" and find_spec("openvino") is None
        return "pip install 'lmtasks[openvino]'" if lacking else ""


REFERENCE, PACKED = "transformers fp32", "torch packed fp32"
PRETRAINED: Sequence[ShapeName] = tuple(shape for shape in SHAPES if shape not in RECURRENT)
"""Those that are classes of transformers."""


OPENVINO: Sequence[Precision] = ("fp32", "bf16", "int8")


def _contenders() -> tuple[Contender, ...]:
    """An LSTM has 8-bit weights in int8-tensor alone, a GRU nowhere."""
    every = tuple(SHAPES)
    return (
        Contender(name=REFERENCE, side="transformers", precision="fp32", shapes=PRETRAINED),
        Contender(name=PACKED, side="packed", precision="fp32", shapes=RECURRENT),
        Contender(name="lmtasks torch fp32", side="lmtasks", precision="fp32", runtime="torch", shapes=every),
        Contender(name="lmtasks onnx fp32", side="lmtasks", precision="fp32", runtime="onnx", shapes=every),
        Contender(name="lmtasks onnx int8", side="lmtasks", precision="int8", runtime="onnx", shapes=PRETRAINED),
        Contender(name="lmtasks onnx w8", side="lmtasks", precision="w8", runtime="onnx", shapes=("llama", "gpt2")),
        Contender(
            name="lmtasks onnx int8-tensor", side="lmtasks", precision="int8-tensor", runtime="onnx", shapes=("bilstm",)
        ),
        Contender(name="lmtasks torch bf16", side="lmtasks", precision="bf16", runtime="torch", shapes=("minilm",)),
        Contender(
            name="lmtasks openvino fp32", side="lmtasks", precision="fp32", runtime="openvino", shapes=("minilm",)
        ),
        Contender(
            name="lmtasks openvino bf16", side="lmtasks", precision="bf16", runtime="openvino", shapes=("minilm",)
        ),
        *(
            Contender(name=f"OpenVINO {precision}", side="openvino", precision=precision, shapes=("minilm",))
            for precision in OPENVINO
        ),
        Contender(name="CTranslate2 fp32", side="ctranslate2", precision="fp32", shapes=PRETRAINED),
        Contender(name="CTranslate2 int8", side="ctranslate2", precision="int8", shapes=PRETRAINED),
        Contender(name="torch.compile fp32", side="compiled", precision="fp32", shapes=("llama", "gpt2", "minilm")),
        Contender(name="optimum-onnx fp32", side="optimum", precision="fp32", shapes=PRETRAINED),
        Contender(name="optimum-onnx int8", side="optimum", precision="int8", shapes=PRETRAINED),
        Contender(name="onnxruntime-genai fp32", side="genai", precision="fp32", shapes=("llama",)),
    )


CONTENDERS: Mapping[str, Contender] = {each.name: each for each in _contenders()}


def reference_of(shape: ShapeName) -> str:
    """Whose answers the others are compared with."""
    return PACKED if shape in RECURRENT else REFERENCE


def contenders_of(shape: ShapeName) -> Sequence[str]:
    """Who takes part."""
    return tuple(name for name, each in CONTENDERS.items() if shape in each.shapes)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A side that may live in an environment of its own, since its libraries do not go with ours."""

    title: str
    imports: str
    """What its Python must be able to import."""
    get: str
    """How to get it."""


PEERS: Mapping[Side, Peer] = {
    "ctranslate2": Peer(
        title="CTranslate2", imports="ctranslate2, transformers", get="pip install ctranslate2 transformers torch"
    ),
    "optimum": Peer(
        title="optimum-onnx",
        imports="optimum.onnxruntime",
        get='pip install "optimum-onnx[onnxruntime]" "transformers==4.57.*" torch',
    ),
    "openvino": Peer(
        title="OpenVINO",
        imports="openvino, nncf, torch, transformers",
        get="pip install openvino nncf transformers torch",
    ),
    "genai": Peer(
        title="onnxruntime-genai",
        imports="onnxruntime_genai, onnx_ir, transformers",
        get="pip install onnxruntime-genai onnx_ir transformers torch",
    ),
}
"""By side, which is the name of its option too."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Ours, in a precision, is to be so many times as fast as a contender."""

    work: str
    ours: str
    against: str
    ratio: float


def _wanted() -> tuple[Wanted, ...]:
    ratios: Mapping[str, tuple[float, float]] = {
        "llama-one": (1.4, 2.0),
        "gpt2-one": (1.4, 2.0),
        "llama-many": (1.5, 1.3),
        "gpt2-many": (1.5, 1.3),
        "llama-own": (1.05, 1.1),
        "gpt2-own": (1.05, 1.1),
        "marian-greedy": (1.6, 1.3),
        "marian-beam": (1.3, 1.35),
    }
    pairs = [
        Wanted(work=work, ours=f"lmtasks onnx {precision}", against=f"CTranslate2 {precision}", ratio=both[at])
        for work, both in ratios.items()
        for at, precision in enumerate(("fp32", "int8"))
    ]
    torch = [
        Wanted(work=f"{shape}-one", ours="lmtasks onnx fp32", against=REFERENCE, ratio=2.2)
        for shape in ("llama", "gpt2")
    ]
    eight = [
        Wanted(work=f"{shape}-one", ours="lmtasks onnx w8", against="CTranslate2 int8", ratio=1.5)
        for shape in ("llama", "gpt2")
    ]
    head = [
        Wanted(work="minilm-head", ours="lmtasks onnx fp32", against=REFERENCE, ratio=1.15),
        Wanted(work="minilm-head", ours="lmtasks onnx int8", against="CTranslate2 int8", ratio=1.25),
    ]
    recurrent = [
        Wanted(work=f"{shape}-{batch}", ours="lmtasks onnx fp32", against=PACKED, ratio=ratio)
        for shape in RECURRENT
        for batch, ratio in ((1, 4.0), (32, 2.5))
    ]
    return (*pairs, *eight, *torch, *head, *recurrent)


WANTED: Sequence[Wanted] = _wanted()
FEW_ROWS = (
    "the products themselves: onnxruntime's of 8 rows (512 by 2,048, one thread, more weights than the cache holds) "
    "were measured at 73 GFLOP/s, of 128 rows at 210; two callers of one thread are still the faster layout "
    "(1,509 against 1,357 tokens/s on the Llama shape), and of 32 rows a batch they write 1.6 times as many "
    "tokens as of 8."
)
IN_THE_WAY: Mapping[tuple[str, str], str] = {
    (
        "llama-one",
        "fp32",
    ): "a token reads every weight, and our steps come near to what memory gives (see above); "
    "what is left is our own Python between the steps, whose lines have left the processor's caches by then.",
    (
        "gpt2-one",
        "fp32",
    ): "a token reads every weight; both sides come near to what memory gives, and the ratio wanted "
    "would take all of it.",
    ("llama-many", "fp32"): FEW_ROWS,
    ("gpt2-many", "fp32"): FEW_ROWS,
    ("marian-greedy", "fp32"): FEW_ROWS,
    ("marian-beam", "fp32"): FEW_ROWS,
    ("marian-greedy", "int8"): "a scale for each row keeps an answer apart from its neighbours, and costs five small "
    "operators around each product, which CTranslate2 carries out inside of its own.",
    ("marian-beam", "int8"): "rows of all beams are scaled one by one around each product, and attention over short "
    "caches is many small products in fp32, with none of the arithmetic that 8 bits save.",
    ("minilm-head", "int8"): "a scale for each row keeps an answer apart from its neighbours, and costs five small "
    "operators around each product, which CTranslate2 carries out inside of its own. One scale a tensor "
    "(int8-tensor) has none of that, and answers that depend on the batch.",
    ("bilstm-1", "fp32"): "the operator alone takes 260 us a sentence on one core, and the Python of two callers, who "
    "take turns at it, 70; torch stands in its better layout too, two callers of one thread.",
    ("bigru-1", "fp32"): "the operator alone takes 260 us a sentence on one core, and the Python of two callers, who "
    "take turns at it, 70; torch stands in its better layout too, two callers of one thread.",
    ("bilstm-32", "fp32"): "onnxruntime's LSTM computes the padded steps of a batch, and multiplies step by step as "
    "torch's does; torch stands in its better layout, two callers of one thread.",
    ("bigru-32", "fp32"): "onnxruntime's GRU computes the padded steps of a batch, and multiplies step by step as "
    "torch's does; torch stands in its better layout, two callers of one thread.",
}
"""By work and precision: why the ratio is missed, where it is."""
PYTHON_MICROSECONDS = 60.0
"""Of our own Python for each decoded token, batch 1: less than this."""
BANDWIDTH_SHARE = 0.85
"""Of what this machine reads, int8, one stream: at least this."""
