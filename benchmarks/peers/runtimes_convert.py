"""A checkpoint in a peer's own format, made by its own means in its own environment.

    python runtimes_convert.py ctranslate2|optimum|genai|openvino CHECKPOINT OUT fp32|bf16|int8

Nothing of lmtasks is imported here.
"""

import json
import runpy
import sys
from pathlib import Path


def ctranslate2(checkpoint: Path, out: Path, *, precision: str) -> None:
    """With its converter for transformers."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(checkpoint)).convert(
        str(out), quantization={"fp32": "float32", "int8": "int8"}[precision], force=True
    )


def optimum(checkpoint: Path, out: Path, *, precision: str) -> None:
    """Exported with a cache, as `optimum-cli export onnx` does; int8 as its guide for AVX-512 VNNI has it."""
    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    task = TASKS[json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["model_type"]]
    main_export(str(checkpoint), output=out, task=task, do_validation=False)
    if precision == "fp32":
        return
    settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    for file in sorted(out.glob("*.onnx")):
        ORTQuantizer.from_pretrained(out, file_name=file.name).quantize(
            save_dir=out, quantization_config=settings, file_suffix="quantized"
        )
        file.with_name(f"{file.stem}_quantized.onnx").replace(file)


def genai(checkpoint: Path, out: Path, *, precision: str) -> None:
    """With its model builder, which is a command."""
    command = ["builder", "-i", checkpoint, "-o", out, "-p", precision, "-e", "cpu", "-c", out / "cache"]
    sys.argv = [str(each) for each in command]
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


def openvino(checkpoint: Path, out: Path, *, precision: str) -> None:
    """Converted from torch; int8 by NNCF's post-training quantization, over the inputs of the race. Computing in bf16
    is a setting of the model in fp32."""
    import nncf
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    example = torch.ones((2, 8), dtype=torch.long)
    made = openvino.convert_model(model, example_input={"input_ids": example, "attention_mask": example})
    if precision == "int8":
        rows = json.loads((checkpoint.parent / "inputs.json").read_text(encoding="utf-8"))[:CALIBRATION_ROWS]
        given = [{"input_ids": torch.tensor([row]), "attention_mask": torch.ones((1, len(row)))} for row in rows]
        made = nncf.quantize(
            made,
            nncf.Dataset([{name: value.long().numpy() for name, value in row.items()} for row in given]),
            model_type=nncf.ModelType.TRANSFORMER,
        )
    out.mkdir(parents=True, exist_ok=True)
    openvino.save_model(made, out / "model.xml", compress_to_fp16=False)


CALIBRATION_ROWS = 300
TASKS = {
    "llama": "text-generation-with-past",
    "gpt2": "text-generation-with-past",
    "marian": "text2text-generation-with-past",
    "bert": "text-classification",
}
"""By the checkpoint's type."""
MAKERS = {"ctranslate2": ctranslate2, "optimum": optimum, "genai": genai, "openvino": openvino}

if __name__ == "__main__":
    side, given, made, wanted = sys.argv[1:]
    MAKERS[side](Path(given), Path(made), precision=wanted)
