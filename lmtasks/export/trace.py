"""A torch module becomes an ONNX graph, by torch's own exporter.

Seen with torch 2.13 and onnxruntime 1.32, on two shared cores: attention written out (`eager`) gives smaller graphs
that run faster than what torch's fused attention is translated to (decoding 3.4 against 4.0 ms a token, six layers of
width 256), and is the only form in which T5 can be exported. onnxscript's `optimize_for_ort` on top of it gains 0-4%
once `SkipLayerNormFusion` is switched off in the session, yields a graph for GPT-2 that cannot be loaded, and hides the
weights of attention from `quantize.py`. So there is one path for all architectures, and no pass that goes wrong.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtasks.errors import WorkError

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Tensor, nn
OPSET = 20
BATCH, LENGTH, SOURCE, PAST = 3, 7, 6, 5
"""Sizes of example tensors: all differ and are above 1; none of the values matters."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a graph."""

    name: str
    example: "Tensor"
    """Its sizes along free axes differ from each other and are above 1, so that none is taken for a constant."""
    axes: Mapping[int, str]
    """The free axes, by name."""


@dataclass(frozen=True, kw_only=True)
class Traceable:
    """A module that becomes one graph."""

    module: "nn.Module"
    """`forward(*given)` takes the inputs in order, and yields the outputs in order."""
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]


def trace(what: Traceable, *, name: str) -> "ir.Model":
    """The graph of a module, with free batch size and lengths.

    Args:
        name: for messages.

    Raises:
        WorkError: torch cannot export this module.
    """
    import onnx_ir.passes.common as passes
    import torch

    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                what.module,
                tuple(item.example for item in what.inputs),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(tuple(dict(item.axes) for item in what.inputs),),  # one argument: *given
                input_names=[item.name for item in what.inputs],
                output_names=list(what.outputs),
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever the model's own code raises
        raise WorkError(
            f"torch {torch.__version__} cannot export the {name} graph: {_reason(error)} "
            "This architecture stays with the torch runtime."
        ) from error
    if program is None:
        raise WorkError(f"torch {torch.__version__} exported no {name} graph.")
    passes.ClearMetadataAndDocStringPass()(program.model)  # each node carries the Python stack that it came from
    return program.model


def ids_input(name: str, *, vocabulary: int, columns: int, axis: str) -> Input:
    """Token ids, (B, `columns`)."""
    import torch

    ids = (torch.arange(BATCH * columns) * 13 + 5).reshape(BATCH, columns) % vocabulary
    return Input(name=name, example=ids, axes={0: "batch", 1: axis})


def mask_input(name: str, *, columns: int, axis: str) -> Input:
    """True at tokens, (B, `columns`), all of them."""
    import torch

    return Input(name=name, example=torch.ones(BATCH, columns, dtype=torch.bool), axes={0: "batch", 1: axis})


def cache_input(name: str, *, heads: int, width: int, columns: int, axis: str) -> Input:
    """Keys or values of one layer, (B, `heads`, `columns`, `width`)."""
    import torch

    example = torch.ones(BATCH, heads, columns, width)
    return Input(name=name, example=example, axes={0: "batch", 2: axis})


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's own log lines and warnings; errors still arrive."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first line of the innermost error, which says what the exporter stumbled over."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
