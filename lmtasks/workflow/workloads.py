"""What a variant is timed on: what its tasks ask of an engine, noted down without a model."""

from collections.abc import Sequence
from pathlib import Path

from lmtasks.bench.recorder import Recorder
from lmtasks.bench.workload import Workload
from lmtasks.data.options import DataOptions
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.model.store import tokenizer_folder
from lmtasks.records import ModelCard, RuntimeCard
from lmtasks.task.task import Task

NO_RUNTIME = RuntimeCard(runtime="native", version="", device="cpu", precision="none", threads=1, size_bytes=0)


def workloads_of(
    tasks: Sequence[Task], *, ref: Path, model: ModelCard, options: DataOptions, rows: int, seed: int
) -> tuple[Workload, ...]:
    """The workloads of all tasks that the model in `ref` can answer.

    Args:
        rows: scored rows of each task that requests are drawn from, a prefix.
    """
    recorder = Recorder(model=model, card=NO_RUNTIME, tokenizer=load_tokenizer(tokenizer_folder(ref)))
    solver = EngineSolver(recorder)
    found = []
    for task in tasks:
        if solver.why_not(task, way="auto"):
            continue
        asked = EvalOptions(data=options, limit=rows, seed=seed, resamples=2, overlap=False)
        (result,) = evaluate(solver=solver, tasks=[task], options=asked, keep_samples=False)
        found.append(recorder.workload(task=task.name, seed=seed, examples=result.n))
    return tuple(found)
