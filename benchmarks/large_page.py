"""The page of a large run: 40 variants on 20 tasks with 2,000 samples a cell, all made up.

    python benchmarks/large_page.py                       size, memory and seconds of the page, and until it can be used
    python benchmarks/large_page.py --variants 4 --tasks 2 --examples 100

The page is built in a process of its own, whose peak memory counts. Exit code 3: something is above its limit.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

LIMITS = {"size_mb": 6.0, "seconds": 20.0, "memory_gb": 1.0, "usable_s": 2.0}
"""The last one: from the opening of the page in headless Chromium until a click has sorted its largest table; looked at
where Chromium and playwright are (`pip install lmtasks[browser]`)."""
SORT = """() => {
  const tables = [...document.querySelectorAll("table:has(button.sort)")];
  const largest = tables.reduce((one, other) => other.rows.length > one.rows.length ? other : one);
  const button = largest.tHead.rows[0].lastElementChild.querySelector("button");
  button.click();
  return new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)));
}"""
LABELS = ("negative", "neutral", "positive")
WORDS = ("the", "old", "river", "runs", "past", "a", "mill", "and", "sea", "takes", "all", "of", "it", "back", "again")


def write_run(folder: Path, *, variants: int, tasks: int, examples: int) -> None:
    """A run folder as `lmtasks run` writes it: cells with statistics, samples, paired comparisons."""
    draw = np.random.default_rng(0)
    for part in ("cells", "samples"):
        (folder / part).mkdir(parents=True)
    names = [f"variant {number:02}" for number in range(variants)]
    comparisons = []
    for task in (f"task_{number:02}" for number in range(tasks)):
        gold = draw.integers(len(LABELS), size=examples)
        texts = [" ".join(draw.choice(WORDS, size=int(size))) for size in draw.integers(8, 40, size=examples)]
        for place, name in enumerate(names):
            right = draw.random(examples) < 0.6 + 0.008 * place
            _write_cell(folder, name, task, gold=gold, right=right, texts=texts)
            if place:
                comparisons.append(_comparison(task, name, names[0], examples))
    (folder / "paired.json").write_text(json.dumps({"schema": 1, "seed": 1, "comparisons": comparisons}))


def _write_cell(folder: Path, name: str, task: str, *, gold: np.ndarray, right: np.ndarray, texts: list[str]) -> None:
    identity = f"{name.replace(' ', '-')}--{task}--s1"
    value, n = float(right.mean()), len(gold)
    half = 1.96 * (value * (1 - value) / n) ** 0.5
    record = {
        "schema": 1,
        "id": identity,
        "variant": {"name": name, "model": name, "adaptation": "full", "runtime": "torch", "precision": "fp32"},
        "task": {"name": task, "kind": "classification", "language": "en", "hash": f"{task:>16}"},
        "seed": 1,
        "status": "done",
        "conditions": {"data_fingerprint": task, "task_hash": task},
        "result": {
            "n": n,
            "seconds": 1.0,
            "seconds_total": 1.0,
            "truncated": 0,
            "metrics": {
                "acc": {
                    "value": value,
                    "stderr": half / 1.96,
                    "ci95": [value - half, value + half],
                    "higher_is_better": True,
                    "scale": "fraction",
                    "signature": "answer:argmax",
                }
            },
        },
        "statistics": {"acc": [[float(each), 1.0] for each in right]},
    }
    (folder / "cells" / f"{identity}.json").write_text(json.dumps(record))
    answers = np.where(right, gold, (gold + 1) % len(LABELS))
    with (folder / "samples" / f"{identity}.jsonl").open("w", encoding="utf-8") as file:
        for doc, (text, wanted, answer) in enumerate(zip(texts, gold.tolist(), answers.tolist(), strict=True)):
            raw = [-0.3 if number == answer else -2.1 for number in range(len(LABELS))]
            sample = {
                "doc_id": doc,
                "doc": {"text": text, "label": LABELS[wanted]},
                "prompt": text,
                "target": LABELS[wanted],
                "raw": raw,
                "answer": LABELS[answer],
                "metrics": {"acc": float(wanted == answer)},
                "hash": f"{doc:016x}",
                "outcome": {"kind": "choice", "gold": [wanted], "chars": [8] * 3, "bytes": [8] * 3, "greedy": [],
                            "unconditional": []},
            }  # fmt: skip
            file.write(json.dumps(sample, separators=(",", ":")) + "\n")


def _comparison(task: str, variant: str, base: str, n: int) -> dict[str, object]:
    return {
        "relation": "best", "task": task, "variant": variant, "base": base, "metric": "acc", "scale": "fraction",
        "higher_is_better": True, "n": n, "a": 0.6, "b": 0.6, "difference": 0.1, "ci95": [-0.5, 0.7], "p_value": 0.5,
        "test": "made up", "effect": None, "effect_name": "", "detectable": 1.0, "wins": 1, "ties": n - 2, "losses": 1,
        "p_holm": 1.0, "verdict": "open",
    }  # fmt: skip


def build(folder: Path) -> None:
    """Build the page, and print what that took."""
    from lmtasks.report.write import write_report

    started = time.perf_counter()
    page = write_report(folder)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"size_mb": page.stat().st_size / 1e6, "seconds": seconds, "memory_gb": memory / 1e9}))


def usable(page: Path) -> float:
    """Seconds from the opening of a page until its largest table is sorted by a click, the better of two times."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        took = []
        for _ in range(2):
            shown = browser.new_page(viewport={"width": 1440, "height": 900})
            began = time.perf_counter()
            shown.goto(page.resolve().as_uri())
            shown.evaluate(SORT)
            took.append(time.perf_counter() - began)
            shown.close()
        browser.close()
    return min(took)


def main() -> int:
    """Make the run, build its page, hold it against the limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="keep the run here, to look at its page")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.build:
        build(asked.build)
        return 0
    with tempfile.TemporaryDirectory() as aside:
        folder = asked.keep or Path(aside) / "run"
        write_run(folder, variants=asked.variants, tasks=asked.tasks, examples=asked.examples)
        command = [sys.executable, __file__, "--build", str(folder)]
        took = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        if find_spec("playwright"):
            took["usable_s"] = usable(folder / "index.html")
    for name in took:
        print(f"{name}: {took[name]:.2f} (at most {LIMITS[name]:g})")
    return 3 if any(took[name] > LIMITS[name] for name in took) else 0


if __name__ == "__main__":
    sys.exit(main())
