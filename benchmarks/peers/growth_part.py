"""Part `growth`: ten times the documents, and a million short rows. lmtasks alone."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from sides import Job, Request
from workplace import Workplace

CHECKPOINT = "small-llama"
DOCUMENTS = 100
ROWS = 1_000_000
ALLOWED_RATIO = 10.5
ALLOWED_MB = 500


def run_growth(place: Workplace) -> Mapping[str, Any]:
    """Both."""
    return {
        "growth": [_growth(place, task, shots) for task, shots in (("arc_easy", 0), ("lambada_openai", 0))],
        "million": _million(place),
    }


def _growth(place: Workplace, task: str, shots: int) -> dict[str, Any]:
    """Seconds at 1x and at 10x, in turn."""
    few = place.scaled(DOCUMENTS, least=8)
    seconds: dict[int, list[float]] = {few: [], 10 * few: []}
    peaks: dict[int, list[float]] = {few: [], 10 * few: []}
    for number in range(place.rounds):
        for documents in seconds:
            job = Job(
                name="growth",
                task_folder=str(place.tasks),
                tasks=(task,),
                num_fewshot=shots,
                limit=documents,
                resamples=2,
                samples=False,
            )
            request = Request(checkpoint=str(place.checkpoints[CHECKPOINT]), jobs=(job,), threads=place.threads)
            answer = place.ask("lmtasks", request, name=f"growth/{task}/{documents}/{number}")
            seconds[documents].append(answer["jobs"]["growth"]["seconds_total"])
            peaks[documents].append(answer["rss_peak_mb"] - answer["rss_loaded_mb"])
    ratios = [many / one for one, many in zip(seconds[few], seconds[10 * few], strict=True)]
    record = {
        "task": task,
        "documents": few,
        "seconds": {str(key): value for key, value in seconds.items()},
        "above_model_mb": {str(key): round(median(value), 1) for key, value in peaks.items()},
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(median(ratios), 3),
        "allowed": ALLOWED_RATIO,
    }
    print(f"{task}: 10 times the documents took {record['ratio']} times as long, allowed {ALLOWED_RATIO}")
    return record


def _million(place: Workplace) -> dict[str, Any]:
    """Short rows through the smallest model there is: what the harness itself holds in memory."""
    rows = place.scaled(ROWS, least=1000)
    folder = _rows(place.out / "million", rows)
    # A batch of many short rows: the model is next to nothing here.
    job = Job(name="million", task_folder=str(folder), tasks=("million",), resamples=2, samples=False)
    request = Request(
        checkpoint=str(place.checkpoints["tiny-gpt2"]), jobs=(job,), threads=place.threads, batch_size=512
    )
    answer = place.ask("lmtasks", replace(request), name="growth/million")
    above = answer["rss_peak_mb"] - answer["rss_loaded_mb"]
    print(f"{rows} rows: {above:.0f} MB above the model, allowed {ALLOWED_MB}")
    return {
        "rows": rows,
        "seconds": answer["jobs"]["million"]["seconds_total"],
        "above_model_mb": round(above, 1),
        "allowed_mb": ALLOWED_MB,
    }


def _rows(folder: Path, count: int) -> Path:
    """A task of short rows, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"rows-{count}.jsonl"
    if not file.is_file():
        with file.with_suffix(".part").open("w", encoding="utf-8") as lines:
            for number in range(count):
                lines.write(json.dumps({"text": f"row {number} of", "end": f" {count}"}) + "\n")
        file.with_suffix(".part").replace(file)
    content = {
        "task": "million",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{end}}",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "million.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder
