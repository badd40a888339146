"""Scores of a run in the forms of others: Every Eval Ever (one JSON a variant), and the Hub's `.eval_results`.

Every Eval Ever (https://evalevalai.com; schema 0.3.0 of `every-eval-ever` on PyPI): one record of a model on all its
tasks, each metric with its interval, number of rows and signature. The record says what is known and no more: a data
set has its Hub id where the task file has one.

The Hub (https://huggingface.co/docs/hub/eval-results): `.eval_results/<dataset>.yaml` of a model's repository, an entry
for each task of a Hub data set; what has no points, and a task of own data, has no place there.
"""

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import yaml

from lmtasks.errors import UsageError
from lmtasks.files import slug, write_text
from lmtasks.metric.base import Scale
from lmtasks.records import Estimate
from lmtasks.report.grid import main_metric
from lmtasks.report.records import RunRecords
from lmtasks.results.base import plain
from lmtasks.results.cell import CellRecord, Variant
from lmtasks.version import __version__

EEE_SCHEMA = "0.3.0"
UNITS: Mapping[Scale, str] = {"fraction": "proportion", "points": "points", "raw": "raw"}
ENDS: Mapping[Scale, tuple[float | str, float | str]] = {
    "fraction": (0.0, 1.0),
    "points": (0.0, 100.0),
    "raw": ("-Infinity", "Infinity"),
}
"""Least and largest score."""
SIGNED = frozenset({"mcc", "pearson", "spearman"})
"""Fractions from -1 to 1."""
GENERATION = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "max_new_tokens": "max_tokens"}


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """The data set of the Hub that a task's scored rows are of."""

    id: str
    split: str
    config: str = ""
    """Empty: it has one only."""
    revision: str = ""


def write_eval_records(
    run: RunRecords, *, out: Path, datasets: Mapping[str, HubDataset], now: datetime
) -> tuple[Path, ...]:
    """Write a record of Every Eval Ever for each variant that was scored: data/<run>/<developer>/<model>/<id>.json.

    Args:
        datasets: task to its data set, where it is one of the Hub.
        now: when the records are made.

    Raises:
        UsageError: nothing was scored.
        WorkError: the folder cannot be written.
    """
    found = []
    for variant in run.variants:
        content = eval_record(run, variant, datasets=datasets, now=now)
        if content is None:
            continue
        developer, _, model = _model_id(run, variant).partition("/")
        file = out / "data" / slug(run.name) / slug(developer) / slug(model) / f"{_record_id(run, variant)}.json"
        write_text(file, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        found.append(file)
    if not found:
        raise UsageError(f"{run.folder} has no scores, so that there is nothing to write for Every Eval Ever.")
    return tuple(found)


def eval_record(
    run: RunRecords, variant: Variant, *, datasets: Mapping[str, HubDataset], now: datetime
) -> Mapping[str, object] | None:
    """The record of one variant as `eval.schema.json` has it; None where it has no score.

    Args: as `write_eval_records`.
    """
    cells = [cell for cell in run.cells if cell.variant.name == variant.name and cell.metrics]
    results = [each for cell in cells for each in _results(cell, datasets.get(cell.task.name))]
    if not results:
        return None
    made = str(int(now.timestamp()))
    failed = {
        cell.task.name: cell.reason or "no reason was recorded"
        for cell in run.cells
        if cell.variant.name == variant.name and cell.status == "failed"
    }
    return {
        "schema_version": EEE_SCHEMA,
        "evaluation_id": f"{run.name}/{_model_id(run, variant)}/{made}",
        **({"evaluation_timestamp": run.started} if run.started else {}),
        "retrieved_timestamp": made,
        "source_metadata": {
            "source_name": run.name,
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": _texts({"command": run.command, "question": run.question, "failed": failed or ""}),
        },
        "eval_library": {"name": "lmtasks", "version": str(cells[0].versions.get("lmtasks") or __version__)},
        "model_info": _model_info(run, variant, cells[0]),
        "evaluation_results": results,
    }


def write_hub_results(
    run: RunRecords, *, out: Path, datasets: Mapping[str, HubDataset]
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write <out>/<variant>/.eval_results/<dataset>.yaml, to be put into each model's repository.

    Values are in points, 0-100, as leaderboards have them.

    Args:
        datasets: task to its data set, where it is one of the Hub.

    Returns:
        The files, and what was left out, a sentence each.

    Raises:
        UsageError: no task is of a data set of the Hub.
        WorkError: the folder cannot be written.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    left_out = [
        f"{task.name} is of no data set of the Hub as far as its task file says." for task in run.tasks
        if task.name not in datasets
    ]  # fmt: skip
    files = []
    for variant in run.variants:
        entries: dict[str, list[EvalResultEntry]] = {}
        for task in run.tasks:
            metric, dataset = main_metric(run, task), datasets.get(task.name)
            cell = next((c for c in run.of(variant=variant.name, task=task.name) if metric in c.metrics), None)
            if dataset is None or cell is None or metric is None:
                continue
            estimate = cell.metrics[metric]
            if estimate.scale == "raw" or not math.isfinite(estimate.value):
                left_out.append(f"{metric} of {task.name} ({variant.name}) is no share.")
                continue
            points = 100 * estimate.value if estimate.scale == "fraction" else estimate.value
            entries.setdefault(dataset.id, []).append(
                EvalResultEntry(
                    dataset_id=dataset.id,
                    task_id=dataset.config or "default",
                    value=round(points, 2),
                    dataset_revision=dataset.revision or None,
                    date=run.started or None,
                    notes=_notes(cell, metric, estimate),
                )
            )
        for name, those in entries.items():
            file = out / slug(variant.name) / ".eval_results" / f"{slug(name.replace('/', '-'))}.yaml"
            text = yaml.safe_dump(eval_result_entries_to_yaml(those), sort_keys=False, allow_unicode=True)
            write_text(file, text)
            files.append(file)
    if not files:
        raise UsageError(
            "no score is of a data set of the Hub with a metric in points, so that there is nothing to write for "
            f"its leaderboards. {' '.join(left_out[:3])}"
        )
    return tuple(files), tuple(left_out)


def _results(cell: CellRecord, dataset: HubDataset | None) -> Iterator[Mapping[str, object]]:
    for name, estimate in cell.metrics.items():
        if math.isfinite(estimate.value):
            yield {
                "evaluation_result_id": f"{cell.id}/{name}",
                "evaluation_name": cell.task.name,
                "source_data": _source(cell, dataset),
                "metric_config": _metric_config(name, estimate),
                "score_details": _score(cell, estimate),
                **_generation(cell),
            }


def _source(cell: CellRecord, dataset: HubDataset | None) -> Mapping[str, object]:
    details = {
        name: cell.conditions.get(name) for name in ("task_hash", "data_fingerprint", "limit", "num_fewshot", "seed")
    }
    if dataset is None:
        return {"dataset_name": cell.task.name, "source_type": "other", "additional_details": _texts(details)}
    return {
        "dataset_name": dataset.id,
        "source_type": "hf_dataset",
        "hf_repo": dataset.id,
        "hf_split": dataset.split,
        "samples_number": cell.scores.n,
        "additional_details": _texts({**details, "config": dataset.config, "revision": dataset.revision}),
    }


def _metric_config(name: str, estimate: Estimate) -> Mapping[str, object]:
    least, most = ENDS[estimate.scale]
    return {
        "metric_id": name,
        "metric_name": name,
        "metric_unit": UNITS[estimate.scale],
        "lower_is_better": not estimate.higher_is_better,
        "score_type": "continuous",
        "min_score": -1.0 if estimate.scale == "fraction" and _is_signed(name, estimate) else least,
        "max_score": most,
        "additional_details": _texts({"signature": estimate.signature}),
    }


def _is_signed(name: str, estimate: Estimate) -> bool:
    ends = (estimate.value, *(estimate.ci95 or ()))
    return name.partition(",")[0] in SIGNED or min(ends) < 0


def _score(cell: CellRecord, estimate: Estimate) -> Mapping[str, object]:
    uncertainty: dict[str, object] = {"num_samples": cell.scores.n}
    if estimate.stderr is not None and math.isfinite(estimate.stderr):
        uncertainty["standard_error"] = {"value": estimate.stderr}
    if estimate.ci95 is not None and all(map(math.isfinite, estimate.ci95)):
        low, high = estimate.ci95
        uncertainty["confidence_interval"] = {"lower": low, "upper": high, "confidence_level": 0.95}
    return {"score": estimate.value, "uncertainty": uncertainty}


def _generation(cell: CellRecord) -> Mapping[str, object]:
    decoding = cell.conditions.get("decoding")
    if not isinstance(decoding, Mapping):
        return {}
    known = {theirs: decoding[mine] for mine, theirs in GENERATION.items() if decoding.get(mine) is not None}
    rest = {name: value for name, value in decoding.items() if name not in GENERATION}
    return {"generation_config": {"generation_args": known, "additional_details": _texts(rest)}}


def _model_info(run: RunRecords, variant: Variant, cell: CellRecord) -> Mapping[str, object]:
    card, runtime = cell.model, cell.runtime
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",
        "variant": variant.name,
        "adaptation": variant.adaptation,
        "device": variant.device,
        "precision": variant.precision,
        "threads": variant.threads,
        "family": card.family if card else "",
        "parameters": card.parameters if card else "",
        "weights_hash": card.weights_hash if card else "",
        "baseline": cell.baseline,
    }
    engine = {"name": variant.runtime, "version": runtime.version} if runtime is not None and variant.runtime else {}
    return {
        "name": variant.name,
        "id": _model_id(run, variant),
        **({"inference_engine": engine} if engine else {}),
        "additional_details": _texts(details),
    }


def _model_id(run: RunRecords, variant: Variant) -> str:
    """As the Hub has it, where the model is named so; else under `local`. Variants of a model have ids of their own."""
    card = next((cell.model for cell in run.cells if cell.variant.name == variant.name and cell.model), None)
    name = card.name if card is not None else variant.model
    if name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "~")):
        return name
    return f"local/{slug(variant.name)}"


def _record_id(run: RunRecords, variant: Variant) -> uuid.UUID:
    """The same for the same scores."""
    cells = sorted(cell.id + str([e.value for e in cell.metrics.values()]) for cell in run.cells
                   if cell.variant.name == variant.name)  # fmt: skip
    return uuid.UUID(bytes=sha256("\n".join([run.name, variant.name, *cells]).encode()).digest()[:16], version=4)


def _notes(cell: CellRecord, metric: str, estimate: Estimate) -> str:
    low, high = estimate.ci95 or (math.nan, math.nan)
    scale = 100 if estimate.scale == "fraction" else 1
    interval = f", 95 % interval [{scale * low:.2f}, {scale * high:.2f}]" if estimate.ci95 else ""
    shots = cell.conditions.get("num_fewshot") or 0
    return f"{metric}{interval}, {cell.scores.n} rows, {shots} worked examples; {cell.variant.name}, lmtasks"


def _texts(details: Mapping[str, object]) -> Mapping[str, str]:
    """All values as text; nothing of what is not known."""
    return {
        name: value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
        for name, value in details.items()
        if value not in (None, "")
    }
