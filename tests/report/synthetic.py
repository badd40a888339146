"""A small run folder, as the suite writes it: 3 variants of a model and 2 baselines on 5 tasks. Numbers are made up."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from lmtasks.records import ModelCard
from lmtasks.report.records import RunRecords, read_run

TASKS: Mapping[str, tuple[str, str, str, str]] = {
    "sst2": ("classification", "acc", "fraction", "head"),
    "tatoeba_en_zh": ("translation", "bleu_zh", "points", "generate"),
    "dialogsum": ("summarization", "rougeL", "points", "generate"),
    "squad_v2": ("span", "squad_f1", "fraction", "head"),
    "ptb": ("language_modelling", "token_perplexity", "raw", "score"),
}
"""Kind, main metric, its scale, what is timed."""

VALUES: Mapping[str, tuple[float | None, ...]] = {
    "torch": (0.8131, 21.42, 18.31, 0.612, 61.22),
    "onnx fp32": (0.8131, 21.42, 18.30, 0.612, 61.22),
    "onnx int8": (0.8085, 19.05, 18.02, 0.607, 61.74),
    "trivial": (0.5092, 0.4, 14.1, 0.5007, None),
    "tf-idf": (0.818, None, None, None, None),
}
HALVES = (0.0129, 1.31, 1.12, 0.0214, 1.9)
N = (872, 500, 500, 1000, 3761)
SPEED: Mapping[str, tuple[float, ...]] = {  # units a second at batch 16
    "torch": (310.2, 142.0, 139.5, 41.2, 88.4),
    "onnx fp32": (402.7, 393.1, 371.0, 52.3, 99.0),
    "onnx int8": (931.4, 965.3, 890.2, 118.4, 214.8),
}
TRIVIAL = ("majority", "copy", "lead-3", "empty", "")
MACHINE = {
    "processor": "AMD EPYC",
    "architecture": "x86_64",
    "cores_physical": 2,
    "cores_logical": 2,
    "cores_usable": 2,
    "flags": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"],
    "memory_bytes": 25_276_514_304,
    "system": "Linux",
    "kernel": "6.18.44",
    "load": [0.04],
    "python": "3.11.7",
}
VERSIONS = {"python": "3.11.7", "lmtasks": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0", "numpy": "2.4.6"}


def write_run(folder: Path, *, rename: Mapping[str, str] | None = None) -> Path:
    """Write the folder and return it.

    Args:
        rename: other names for some tasks.
    """
    names = {task: (rename or {}).get(task, task) for task in TASKS}
    _write(
        folder / "run.json",
        {
            "schema": 1,
            "plan": {
                "plan": "first-light",
                "question": "Which runtime should serve one small model adapted to five tasks?",
                "about": "The shipped backbone, adapted to all tasks together.",
                "tasks": list(names.values()),
                "variants": [{"name": name} for name in VALUES],
            },
            "plan_hash": "aaaabbbbccccdddd",
            "command": "lmtasks run benchmarks/first-light.yaml --data-root ../shared/data",
            "started": "2026-11-24T14:05:00+00:00",
            "machine": MACHINE,
            "versions": VERSIONS,
        },
    )
    _write(folder / "paired.json", paired(names))
    (folder / "plan.yaml").write_text("plan: first-light\ntasks: [sst2]\n", encoding="utf-8")
    for precision in ("fp32", "int8"):
        _write(folder / "packages" / f"mini-s1234-{precision}" / "parity.json", _proof(precision))
    for variant, values in VALUES.items():
        for place, (task, value) in enumerate(zip(TASKS, values, strict=True)):
            record = _cell(variant, task, place, value)
            record["task"]["name"] = names[task]  # type: ignore[index]
            _write(folder / "cells" / f"{variant.replace(' ', '-')}--{place}--s1234.json", record)
        if variant in SPEED:
            _write(folder / "speed" / f"{variant.replace(' ', '-')}.json", _speed(variant, names))
    return folder


def edited(folder: Path, pattern: str, edit: Callable[[dict[str, dict[str, object]]], None]) -> RunRecords:
    for file in folder.glob(pattern):
        record = json.loads(file.read_text(encoding="utf-8"))
        edit(record)
        file.write_text(json.dumps(record), encoding="utf-8")
    return read_run(folder)


def pairs_changed(folder: Path, edit: Callable[[dict[str, object]], bool]) -> RunRecords:
    """Comparisons edited in place; those for which `edit` says no are gone."""
    file = folder / "paired.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["comparisons"] = [each for each in record["comparisons"] if edit(each)]
    file.write_text(json.dumps(record), encoding="utf-8")
    return read_run(folder)


def without_tfidf(folder: Path) -> RunRecords:
    """torch is the best on every task."""
    for file in folder.glob("cells/tf-idf--*.json"):
        file.unlink()
    record = json.loads((folder / "paired.json").read_text(encoding="utf-8"))
    kept = [each for each in record["comparisons"] if "tf-idf" not in (each["base"], each["variant"])]
    kept += [{**each, "relation": "best"} for each in kept if (each["relation"], each["task"]) == ("first", "sst2")]
    (folder / "paired.json").write_text(json.dumps({**record, "comparisons": kept}), encoding="utf-8")
    return read_run(folder)


def paired(names: Mapping[str, str]) -> dict[str, object]:
    """As workflow/pairing.py writes it: onnx int8 is worse in translation, tf-idf is ahead on sst2 but not by more than
    chance, every model is better than the trivial answer; the rest is open, and all differences but those small."""
    comparisons: list[dict[str, object]] = []

    def add(relation: str, variant: str, base: str, task: str, *, difference: float, half: float, verdict: str) -> None:
        _, metric, scale, _ = TASKS[task]
        comparisons.append(
            {
                "relation": relation,
                "variant": variant,
                "base": base,
                "task": names[task],
                "metric": metric,
                "scale": scale,
                "higher_is_better": scale != "raw",
                "n": N[list(TASKS).index(task)],
                "a": 0.5,
                "b": 0.5,
                "difference": difference,
                "ci95": [round(difference - half, 2), round(difference + half, 2)],
                "p_value": 0.7 if verdict == "open" else 0.0005,
                "test": "approximate randomization",
                "effect": None,
                "effect_name": "",
                "detectable": 0.75,
                "wins": 1,
                "ties": 1,
                "losses": 1,
                "p_holm": 1.0 if verdict == "open" else 0.006,
                "verdict": verdict,
            }
        )

    for relation in ("first", "best", "parent"):
        for variant in ("onnx fp32", "onnx int8"):
            for task in TASKS:
                worse = (variant, task) == ("onnx int8", "tatoeba_en_zh")
                if (relation, task) == ("best", "sst2"):  # the best there is tf-idf
                    continue
                add(
                    relation,
                    variant,
                    "torch",
                    task,
                    difference=-2.37 if worse else 0.1,
                    half=0.73 if worse else 0.5,
                    verdict="worse" if worse else "open",
                )
    for variant in ("torch", "onnx fp32", "onnx int8"):
        for relation in ("best", "rival"):
            add(relation, variant, "tf-idf", "sst2", difference=-0.5, half=1.4, verdict="open")
        for task in ("sst2", "tatoeba_en_zh", "dialogsum", "squad_v2"):
            add("rival", variant, "trivial", task, difference=4.0, half=1.0, verdict="better")
    return {"schema": 1, "seed": 1234, "comparisons": comparisons}


def write_samples(
    folder: Path, *, task: str = "sst2", labels: Sequence[str] = ("negative", "positive"), n: int = 40, text: str = ""
) -> None:
    """Samples of a task of classes as evaluation/samples.py writes them: torch is right but on every fifth example,
    int8 but on every fourth, trivial always says the first class; all fail on every twentieth."""
    (folder / "samples").mkdir(exist_ok=True)
    for variant, wrong in (("torch", 5), ("onnx int8", 4), ("trivial", 0)):
        lines = []
        for doc in range(n):
            gold = doc % len(labels)
            answer = 0 if not wrong else (gold + 1) % len(labels) if doc % wrong == 0 else gold
            answer = (gold + 1) % len(labels) if doc % 20 == 0 else answer
            asked = text or f"sentence {doc} on the film" + " and on" * (doc % 7)
            lines.append(
                {
                    "doc_id": doc,
                    "doc": {"text": asked, "label": labels[gold]},
                    "prompt": asked,
                    "target": labels[gold],
                    "raw": [-0.2 if number == answer else -1.7 for number in range(len(labels))],
                    "answer": labels[answer],
                    "metrics": {"acc": float(answer == gold)},
                    "hash": f"{doc:016x}",
                    "outcome": {"kind": "choice", "gold": [gold], "chars": [], "bytes": [], "greedy": [],
                                "unconditional": []},
                }
            )  # fmt: skip
        file = folder / "samples" / f"{variant}--{task}--s1234.jsonl"
        file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def write_words(folder: Path, *, variants: Sequence[str], docs: Sequence[int], task: str = "sst2") -> None:
    """Words of some samples: the first one speaks for the answer, `film` against it."""
    for variant in variants:
        name = f"{variant}--{task}--s1234"
        samples = [json.loads(line) for line in (folder / "samples" / f"{name}.jsonl").read_text().splitlines()]
        rows = [
            {
                "doc_id": doc,
                "answer": samples[doc]["answer"],
                "probability": 0.8,
                "words": [
                    {"word": word.group(), "column": "text", "start": word.start(),
                     "change": {"sentence": 0.4151, "film": -0.123}.get(word.group(), 0.0),
                     **({"moved": ["positive"]} if word.group() == "sentence" else {})}
                    for word in re.finditer(r"\w+", samples[doc]["doc"]["text"])
                ],
            }
            for doc in docs
        ]  # fmt: skip
        _write(folder / "words" / f"{name}.json", {"samples_checksum": "", "asked": list(docs), "rows": rows})


def variant_of(name: str) -> dict[str, object]:
    """As cells and speed records carry it."""
    baseline = name in {"trivial", "tf-idf"}
    return {
        "name": name,
        "model": "" if baseline else "mini",
        "adaptation": "none" if baseline else "full",
        "runtime": "native" if baseline else name.split()[0],
        "device": "cpu",
        "precision": "none" if baseline else (name.split()[1] if " " in name else "fp32"),
        "threads": None if baseline else 2,
    }


def card(name: str, family: str, kind: Literal["causal", "baseline"]) -> dict[str, object]:
    """A model's card as records hold it."""
    return asdict(
        ModelCard(
            name=name,
            family=family,
            kind=kind,
            adaptation="none",
            parameters=0,
            weights_hash="",
            tokenizer_hash="",
            max_length_tokens=0,
            vocabulary=0,
        )
    )


def _cell(variant: str, task: str, place: int, value: float | None) -> dict[str, object]:
    kind, metric, scale, way = TASKS[task]
    baseline = variant in {"trivial", "tf-idf"}
    family = {"tf-idf": "tfidf", "trivial": TRIVIAL[place]}.get(variant, "llama")
    record: dict[str, object] = {
        "schema": 1,
        "id": f"{variant}--{task}--s1234",
        "variant": variant_of(variant),
        "task": {"name": task, "kind": kind, "language": "zh" if "zh" in task else "en", "hash": f"{place:016x}"},
        "seed": 1234,
        "model": card(variant, family, "baseline" if baseline else "causal"),
        "runtime": {},
        "machine": MACHINE,
        "versions": VERSIONS,
        "conditions": {
            "task_hash": f"{place:016x}",
            "data_fingerprint": f"f{place:015x}",
            "prompt_way": "baseline" if baseline else ("head" if way == "head" else "prompt"),
            "num_fewshot": 0,
            "limit": None,
            "seed": 1234,
        },
    }
    if value is None:
        return {**record, "status": "not-applicable", "reason": f"{variant} cannot answer {kind}"}
    half = HALVES[place]
    estimate = {
        "value": value,
        "stderr": half / 1.96,
        "ci95": [value - half, value + half] if scale == "fraction" else [value - 0.8 * half, value + 1.2 * half],
        "higher_is_better": scale != "raw",
        "scale": scale,
        "signature": f"{metric}|v:1",
    }
    metrics: dict[str, object] = {metric: estimate}
    if kind == "span":
        metrics["squad_em"] = {**estimate, "value": value - 0.05, "ci95": [value - 0.08, value - 0.02]}
    return {
        **record,
        "status": "done",
        "reason": "",
        "result": {
            "n": N[place],
            "seconds": 12.3,
            "seconds_total": 14.0,
            "truncated": 12 if task == "dialogsum" and not baseline else 0,
            "metrics": metrics,
        },
        "statistics": {metric: [[1.0, 1.0]] * 3},
    }


def _proof(precision: str) -> dict[str, object]:
    """As prove/parity.py writes it."""
    exact = precision == "fp32"
    checks = [
        {
            "graph": graph,
            "case": case,
            "numbers": 1000,
            "max_difference": (3.1e-6 if exact else 0.21) * factor,
            "mean_difference": 1e-7,
            "cosine": None if graph == "score" else (1.0 if exact else 0.9987),
            "agreement": 1.0 if exact else 0.984,
            "divergence": None if graph == "score" else (1e-9 if exact else 0.0032),
            "open_choices": 0,
            "ok": True,
        }
        for case, factor in (("padded right", 1.0), ("padded left", 1.5))
        for graph in ("head.sst2", "head.squad_v2", "score", "decoder")
    ]
    rule = {
        "max_difference": 1e-3 if exact else None,
        "least_cosine": None if exact else 0.9,
        "most_mean_difference": None if exact else 0.3,
    }
    return {
        "ok": True,
        "max_difference": 4.65e-6,
        "precision": precision,
        "rule": rule,
        "checks": checks,
        "texts": 12,
        "torch": "2.13.0",
        "onnxruntime": "1.32.0",
    }


def _speed(variant: str, names: Mapping[str, str]) -> dict[str, object]:
    workloads = []
    for place, (task, (_, _, _, kind)) in enumerate(TASKS.items()):
        rate = SPEED[variant][place]
        unit = "tokens/s" if kind == "generate" else "requests/s"
        alone = 1000 / rate * (32 * 2.5 if kind == "generate" else 1.4)
        for batch, throughput in ((1, rate / 3), (16, rate)):
            workloads.append(
                {
                    "task": names[task],
                    "kind": kind,
                    "batch_size": batch,
                    "unit": unit,
                    "new_tokens": 32 if kind == "generate" else 0,
                    "latency_ms": {"p50": alone, "p90": None if place == 3 else 1.3 * alone, "p99": None, "n": 64},
                    "throughput": throughput,
                    "examples_per_s": throughput / (32 if kind == "generate" else 1),
                    "throughput_ci95": [0.97 * throughput, 1.03 * throughput],
                    "raw_ms": [alone] * 64,
                    "note": "",
                }
            )
    scale = {"torch": 1.0, "onnx fp32": 0.6, "onnx int8": 0.3}[variant]
    return {
        "schema": 1,
        "variant": variant_of(variant),
        "artefact": {"weights_hash": "0123456789abcdef", "size_bytes": int(28_400_000 * scale)},
        "machine": MACHINE,
        "versions": VERSIONS,
        "import_seconds": 4.12 * scale,
        "load_seconds": 0.81 * scale,
        "import_memory_bytes": 385_000_000 if variant == "torch" else 67_000_000,
        "peak_memory_bytes": int(412_000_000 * scale),
        "workloads": workloads,
        "limits": {"copy_gb_per_s": 19.6 + scale, "gemm_gflop_per_s": 140.2, "threads": 2},
        "notes": ["the machine was not idle before the start: load 1.9 on 2 cores"] if variant == "torch" else [],
    }


def _write(file: Path, content: Mapping[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
