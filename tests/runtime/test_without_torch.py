"""A package answers with onnxruntime and tokenizers alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
from packed import package, padded, random_rows, runtime

from lmtasks.runtime.align import every_next

ROWS = random_rows(6, 3)
SCRIPT = """
import json, sys
for name in ("torch", "transformers"):
    sys.modules[name] = None  # an import of it raises ImportError
import numpy as np
from pathlib import Path
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.records import TokenBatch
from lmtasks.runtime.align import every_next
from lmtasks.runtime.open import open_runtime

asked = json.loads(sys.argv[1])
folder = Path(asked["folder"])
runtime = open_runtime(folder, runtime="onnx", threads=1)
batch = TokenBatch(ids=np.array(asked["ids"]), mask=np.array(asked["mask"]))
answer = {"tokens": load_tokenizer(folder).vocabulary}
for head in runtime.model.heads:
    if head.kind != "generation":
        answer[head.name] = runtime.predict(head.name, batch).tolist()
if runtime.model.kind != "encoder":
    source = batch if runtime.model.kind == "encoder-decoder" else None
    answer["score"] = runtime.score(*every_next(batch), source=source).logprobs.tolist()
    state, logits = runtime.prefill(batch)
    answer["step"] = runtime.step(runtime.reorder(state, np.array([1])), np.array([5]))[1].tolist()
loaded = sorted(name for name in sys.modules if name.split(".")[0] in {"torch", "transformers"} and sys.modules[name])
assert not loaded, loaded
print(json.dumps(answer))
"""


@pytest.mark.parametrize("name", ["llama", "bert", "marian", "lstm"])
def test_a_package_answers_where_torch_and_transformers_cannot_be_imported(name: str) -> None:
    batch = padded(ROWS)
    asked = {"folder": str(package(name)), "ids": batch.ids.tolist(), "mask": batch.mask.tolist()}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(asked)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["tokens"] > 250
    ours = runtime("onnx", name)
    for head in ours.model.heads:
        if head.kind != "generation":
            np.testing.assert_allclose(answer[head.name], ours.predict(head.name, batch), atol=1e-6)
    if name != "bert":
        scores = ours.score(*every_next(batch), source=batch if name == "marian" else None)
        np.testing.assert_allclose(answer["score"], scores.logprobs, atol=1e-6)
