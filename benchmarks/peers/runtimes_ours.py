"""Our own side, and the memory that it is measured against."""

from collections.abc import Mapping
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from runtimes_contestant import Answers, Inputs, Work

RECURRENT = ("bilstm", "bigru")


class Lmtasks:
    """The engine, as `lmtasks eval` and `predict` use it."""

    chooses_batch = True

    def __init__(self, asked: Mapping[str, Any]) -> None:
        from lmtasks.data.tokenizer import load_tokenizer
        from lmtasks.model.files import tokenizer_folder
        from lmtasks.runtime.open import open_runtime

        self.folder = Path(asked["folder"])
        self.runtime = open_runtime(
            self.folder, runtime=asked["runtime"], precision=asked.get("precision"), threads=asked["threads"]
        )
        self.tokenizer = load_tokenizer(tokenizer_folder(self.folder))
        self.head = asked.get("head", "")

    def versions(self) -> Mapping[str, str]:
        import lmtasks

        return {"lmtasks": lmtasks.__version__, **{name: version(name) for name in ("torch", "onnxruntime", "numpy")}}

    def open(self, work: Work) -> None:
        from lmtasks.engine.engine import Engine

        # No text ends before it has the length that was asked for.
        recurrent = self.runtime.model.family in RECURRENT
        rows = (work["batch"] or None) if work["new"] or recurrent else None  # None: the engine's own choice
        self.engine = Engine(self.runtime, self.tokenizer, rows_per_batch=rows, ends=frozenset())

    def answer(self, work: Work, inputs: Inputs) -> Answers:
        from lmtasks.engine.requests import GenerateRequest
        from lmtasks.records import EncodedText
        from lmtasks.settings.generation import Decoding

        if not work["new"]:
            head = self.head or self.runtime.model.heads[0].name
            rows = [EncodedText(ids=tuple(ids), types=(0,) * len(ids), offsets=(), sequences=()) for ids in inputs]
            return [[int(logits.argmax())] for logits in self.engine.predict(head, rows)]
        settings = Decoding(max_new_tokens=work["new"], num_beams=work["beams"])
        requests = [GenerateRequest(prompt_ids=tuple(ids), settings=settings) for ids in inputs]
        if work["batch"] == 1:
            return [list(self.engine.generate([request])[0].ids) for request in requests]
        return [list(each.ids) for each in self.engine.generate(requests)]

    def steps(self, work: Work, inputs: Inputs) -> dict[str, Any]:
        """One stream: what passes between two runs of the session, and from one run's start to the next."""
        import onnxruntime

        from lmtasks.runtime.op_costs import traffic_of

        original = onnxruntime.InferenceSession.run_with_iobinding
        spent: list[tuple[float, float]] = []

        def timed(self: object, *arguments: object) -> object:
            started = perf_counter()
            found = original(self, *arguments)
            spent.append((started, perf_counter()))
            return found

        onnxruntime.InferenceSession.run_with_iobinding = timed
        try:
            self.answer(work, inputs[:1])
        finally:
            onnxruntime.InferenceSession.run_with_iobinding = original
        pairs = list(pairwise(spent[1:]))  # the first run reads the prompt
        traffic = traffic_of(self.folder, graph="decoder", precision=None)
        return {
            "python_us": [(after[0] - before[1]) * 1e6 for before, after in pairs],
            "step_ms": [(after[0] - before[0]) * 1e3 for before, after in pairs],
            "weight_bytes": traffic.weight_bytes if traffic else None,
        }


class Memory:
    """No contender: how fast this machine reads as many bytes as the package has to read for a token, over and over."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        from lmtasks.runtime.op_costs import traffic_of

        traffic = traffic_of(Path(asked["folder"]), graph="decoder", precision=None)
        assert traffic is not None
        self.threads, self.size = asked["threads"], traffic.weight_bytes

    def versions(self) -> Mapping[str, str]:
        return {}

    def open(self, work: Work) -> None:
        return

    def answer(self, work: Work, inputs: Inputs) -> Answers:
        return []

    def steps(self, work: Work, inputs: Inputs) -> dict[str, Any]:
        from lmtasks.bench.machine_peaks import READ_MB, read_bandwidth

        sizes = {"as_many_bytes": self.size, "memory": max(READ_MB) << 20}
        return {
            name: read_bandwidth(threads=self.threads, seconds=0.6, size_bytes=size // 4 * 4)
            for name, size in sizes.items()
        }
