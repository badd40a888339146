"""The other side: lmtasks answers the jobs of a request file.

    python side_lmtasks.py REQUEST.json ANSWER.json

Request and answer are those of `sides.py`.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtasks.engine.engine import Engine
    from lmtasks.evaluation.evaluate import TaskResult
    from lmtasks.task import Task


def main(request_file: Path, answer_file: Path) -> None:
    """Carry out all jobs with one loaded model."""
    request = json.loads(request_file.read_text(encoding="utf-8"))
    os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=request["cache"], TOKENIZERS_PARALLELISM="false")
    answer: dict[str, Any] = {"versions": _versions(), "jobs": {}}
    if request["checkpoint"]:
        with opened_engine(request) as engine:
            answer["rss_loaded_mb"] = _memory_mb("VmRSS")
            for job in request["jobs"]:
                answer["jobs"][job["name"]] = evaluated(engine, job, checkpoint=Path(request["checkpoint"]))
    for job in request["bootstraps"]:
        answer["jobs"][job["name"]] = _bootstrapped(job)
    answer["rss_peak_mb"] = _memory_mb("VmHWM")
    answer_file.write_text(json.dumps(answer, ensure_ascii=False, default=str), encoding="utf-8")


@contextmanager
def opened_engine(request: Mapping[str, Any]) -> "Iterator[Engine]":
    """What a request is asked of."""
    from lmtasks.workflow.open_model import open_engine

    with open_engine(
        Path(request["package"] or request["checkpoint"]),
        runtime="onnx" if request["package"] else "torch",
        precision=None if request["package"] else "fp32",
        threads=request["threads"],
        rows_per_batch=request["batch_size"],
    ) as engine:
        yield engine


def evaluated(engine: "Engine", job: Mapping[str, Any], *, checkpoint: Path) -> dict[str, Any]:
    """Carry out one job, with lm-evaluation-harness' draws of worked examples and of resamples.

    Args:
        engine: of the checkpoint.
        job: as `sides.Job`.
        checkpoint: where its chat template is.
    """
    from lmtasks.task import load_task

    tasks = [load_task(Path(job["task_folder"]) / f"{name}.yaml", trust_code=True) for name in job["tasks"]]
    return evaluated_tasks(engine, tasks, job, checkpoint=checkpoint)


def grouped(engine: "Engine", job: Mapping[str, Any], *, checkpoint: Path) -> dict[str, Any]:
    """The metrics of a job's groups, `{"name": {"acc,none": {"value", "stderr"}}}`, and of groups inside of them."""
    from lmtasks.evaluation.groups import group_results
    from lmtasks.task.index import TaskIndex

    index = TaskIndex([Path(job["task_folder"])])
    wanted = ",".join(job["tasks"])
    results = _results(engine, index.find(wanted, trust_code=True), job, checkpoint=checkpoint, data_root=None)
    found = group_results(index.find_groups(wanted), results)
    return {
        name: {
            f"{metric},none": {"value": each.value, "stderr": each.stderr} for metric, each in record.metrics.items()
        }
        for name, record in found.items()
    }


def evaluated_tasks(
    engine: "Engine",
    tasks: "Sequence[Task]",
    job: Mapping[str, Any],
    *,
    checkpoint: Path,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """The same for tasks that are loaded."""
    started = perf_counter()
    results = _results(engine, tasks, job, checkpoint=checkpoint, data_root=data_root)
    return {
        "seconds": sum(result.seconds for result in results),
        "seconds_total": perf_counter() - started,
        "results": {result.task: _metrics(result) for result in results},
        "groups": {},
        "samples": {result.task: [_sample(sample) for sample in result.samples] for result in results},
    }


def _results(
    engine: "Engine",
    tasks: "Sequence[Task]",
    job: Mapping[str, Any],
    *,
    checkpoint: Path,
    data_root: Path | None,
) -> "Sequence[TaskResult]":
    from lmtasks.evaluation.chat import DEFAULT, chat_use
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.evaluation.evaluate import evaluate
    from lmtasks.evaluation.prepare import EvalOptions
    from lmtasks.settings.data import DataAccess

    options = EvalOptions(
        data=DataAccess(data_root=data_root),
        limit=job["limit"],
        num_fewshot=job["num_fewshot"],
        fewshot_stream="lm-eval",
        chat=chat_use(
            checkpoint,
            template=None if job["chat"] == "no" else DEFAULT,
            system=job["system"],
            multiturn=job["chat"] == "multiturn",
        ),
        way="prompt",
        resamples=job["resamples"],
        draws="lm-eval",
    )
    return evaluate(solver=EngineSolver(engine), tasks=tasks, options=options, keep_samples=job["samples"])


def _metrics(result: "TaskResult") -> dict[str, Any]:
    return {name: {"value": each.value, "stderr": each.stderr} for name, each in result.metrics.items()}


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    prompt = sample["prompt"]
    return {
        "prompts": [prompt] if isinstance(prompt, str) else list(prompt),
        "replies": _replies(sample),
        "answers": sample.get("filtered", {}),
        "metrics": sample["metrics"],
    }


def _replies(sample: Mapping[str, Any]) -> Any:
    """What came from the model; choices behind no context stand behind the others, as they are asked there."""
    raw, outcome = sample["raw"], sample["outcome"]
    return [*raw, *outcome["unconditional"]] if outcome.get("unconditional") else raw


def _bootstrapped(job: Mapping[str, Any]) -> dict[str, Any]:
    from lmtasks.metric import estimate, make_metric
    from lmtasks.records import Likelihood

    metric = make_metric(job["statistic"])
    items = [Likelihood(logprob=item, tokens=1, words=1, bytes=1) for item in job["items"]]
    started = perf_counter()
    found = estimate(metric, metric.statistics(items), resamples=job["resamples"], draws="lm-eval")
    return {"seconds": perf_counter() - started, "stderr": found.stderr}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    import lmtasks

    names: Sequence[str] = ("torch", "transformers", "tokenizers", "numpy", "sacrebleu")
    return {"lmtasks": lmtasks.__version__, **{name: version(name) for name in names}}


def _memory_mb(field: str) -> float:
    """Mebibytes that the kernel counts for this process: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
