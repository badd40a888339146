"""`int8-tensor` of traced graphs, by onnxruntime's own quantizer: one activation scale a tensor."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def quantize_tensors(model: "ir.Model", *, folder: Path, keep: Collection[str] = ()) -> "ir.Model":
    """`int8-tensor`: what onnxruntime's `quantize_dynamic` makes of the graph.

    Args:
        folder: for the files that it reads and writes; they are removed.
        keep: names of weights that stay as they are.
    """
    import logging

    import onnx_ir as ir
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = folder / "before.onnx", folder / "after.onnx"
    logger = logging.getLogger()
    level = logger.level
    try:
        ir.save(model, source, external_data="before.bin")
        logger.setLevel(logging.ERROR)  # it warns on the root logger that a float model could be prepared first
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=True,
            nodes_to_exclude=[
                str(node.name)
                for node in model.graph
                if any(value is not None and value.name in keep for value in node.inputs)
            ],
        )
        quantized = ir.load(target)
        for value in quantized.graph.initializers.values():
            if value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
        return quantized
    finally:
        logger.setLevel(level)
        for file in folder.glob("before.*"):
            file.unlink()
        for file in folder.glob("after.*"):
            file.unlink()
