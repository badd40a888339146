"""One side: lm-evaluation-harness answers the jobs of a request file. Runs in its own environment, imports no lmtasks.

    python side_lm_eval.py REQUEST.json ANSWER.json

Request and answer are those of `sides.py`.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

REQUESTS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


def main(request_file: Path, answer_file: Path) -> None:
    """Carry out all jobs with one loaded model."""
    request = json.loads(request_file.read_text(encoding="utf-8"))
    os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=request["cache"], TOKENIZERS_PARALLELISM="false")
    if request["single_process"]:
        os.environ["DISABLE_MULTIPROC"] = "1"
    import torch

    torch.set_num_threads(request["threads"])
    torch.set_num_interop_threads(1)
    answer: dict[str, Any] = {"versions": _versions(), "jobs": {}}
    if request["checkpoint"]:
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(
            pretrained=request["checkpoint"],
            dtype="float32",
            device="cpu",
            batch_size=request["batch_size"],
        )
        _bound_answers(lm)
        answer["rss_loaded_mb"] = _memory_mb("VmRSS")
        for job in request["jobs"]:
            answer["jobs"][job["name"]] = _evaluated(lm, job)
    for job in request["bootstraps"]:
        answer["jobs"][job["name"]] = _bootstrapped(job)
    answer["rss_peak_mb"] = _memory_mb("VmHWM")
    answer_file.write_text(json.dumps(answer, ensure_ascii=False, default=str), encoding="utf-8")


def _evaluated(lm: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    started = perf_counter()
    with _timed(lm) as spent:
        found = simple_evaluate(
            model=lm,
            tasks=list(job["tasks"]),
            task_manager=TaskManager(include_path=job["task_folder"], include_defaults=False),
            num_fewshot=job["num_fewshot"],
            limit=job["limit"],
            bootstrap_iters=job["resamples"],
            log_samples=True,
            apply_chat_template=job["chat"] != "no",
            fewshot_as_multiturn=job["chat"] == "multiturn",
            system_instruction=job["system"],
        )
    return {
        "seconds": sum(spent.values()),
        "seconds_total": perf_counter() - started,
        "results": {name: _metrics(values) for name, values in found["results"].items()},
        "groups": {name: _metrics(values) for name, values in found.get("groups", {}).items()},
        "samples": {name: _samples(lines) for name, lines in found["samples"].items()},
    }


def _bound_answers(lm: Any) -> None:
    """Let an encoder-decoder write `max_gen_toks` tokens, as other models do.

    Left alone it may write as many more as the longest prompt of its batch has tokens (`max_length` counts the prompt,
    which in an encoder-decoder takes no room from the answer), so that answers depend on the batch.
    """
    if lm.backend != "seq2seq":
        return
    original = lm._model_generate

    def bounded(context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        # One for the start token.
        return original(context=context, max_length=max_length - context.shape[1] + 1, stop=stop, **settings)

    lm._model_generate = bounded


def _metrics(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"acc,none": 0.5, "acc_stderr,none": 0.1}` as `{"acc,none": {"value": 0.5, "stderr": 0.1}}`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name, comma, pipeline = key.partition(",")
        if comma and not name.endswith("_stderr"):
            stderr = values.get(f"{name}_stderr,{pipeline}")
            found[key] = {
                "value": float(value),
                "stderr": float(stderr) if stderr is not None and stderr != "N/A" else None,
            }
    return found


def _samples(lines: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record a document: what was asked, what came back, and what each filter made of it."""
    found: dict[int, dict[str, Any]] = {}
    for line in lines:
        record = found.setdefault(
            line["doc_id"],
            {
                "prompts": [request[0] for request in line["arguments"]],
                "continuations": [request[1] if len(request) > 1 else None for request in line["arguments"]],
                "replies": line["resps"],
                "answers": {},
                "metrics": {},
            },
        )
        record["answers"][line["filter"]] = line["filtered_resps"]
        for name in line["metrics"]:
            record["metrics"][f"{name},{line['filter']}"] = _plain(line[name])
    return [found[number] for number in sorted(found)]


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


@contextmanager
def _timed(lm: Any) -> Iterator[dict[str, float]]:
    """Seconds inside the model's own methods: requests in, answers out, tokenization included."""
    spent: dict[str, float] = {}

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + perf_counter() - started

        return call

    for name in REQUESTS:
        setattr(lm, name, timed(name, getattr(lm, name)))
    try:
        yield spent
    finally:
        for name in REQUESTS:
            delattr(lm, name)


def _bootstrapped(job: Mapping[str, Any]) -> dict[str, Any]:
    from lm_eval.api import metrics

    statistic = {"perplexity": metrics.perplexity}[job["statistic"]]
    started = perf_counter()
    stderr = metrics.bootstrap_stderr(statistic, job["items"], iters=job["resamples"])
    return {"seconds": perf_counter() - started, "stderr": float(stderr)}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("lm-eval", "torch", "transformers", "tokenizers", "numpy", "sacrebleu")}


def _memory_mb(field: str) -> float:
    """Mebibytes that the kernel counts for this process: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
