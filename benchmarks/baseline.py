"""Compares a run of the benchmarks with the stored baseline, as ratios to the calibration kernels of conftest.py.

python benchmarks/baseline.py compare RUN.json     exit code 3 where something is slower beyond its noise
python benchmarks/baseline.py store RUN.json       makes the run the baseline

A machine twice as fast runs kernel and benchmark twice as fast, so that ratios can be held against those of another
one; on another processor a slower ratio is a warning only. A benchmark counts as slower where its ratio is above the
stored one by more than a quarter and by more than three times the spread of both.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

BASELINE = Path(__file__).with_name("baseline.json")
LEAST = 0.25
SPREADS = 3


def ratios(run: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of each benchmark: its median over its kernel's, and the relative spread of its rounds and of the kernel."""
    found = {}
    for each in run["benchmarks"]:
        kernel = each["extra_info"]["kernel_seconds"]
        stats = each["stats"]
        spread = stats["iqr"] / stats["median"] + abs(kernel[0] - kernel[1]) / median(kernel)
        found[each["fullname"].split("/")[-1]] = {
            "ratio": float(f"{stats['median'] / median(kernel):.5g}"),
            "spread": round(spread, 4),
        }
    return found


def compare(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> int:
    """Prints a line a benchmark; the exit code."""
    same = run["machine_info"]["cpu"].get("brand_raw") == baseline["processor"]
    slower = 0
    for name, now in ratios(run).items():
        stored = baseline["benchmarks"].get(name)
        if stored is None:
            print(f"new      {now['ratio']:12.4g} kernels  {name}")
            continue
        change = now["ratio"] / stored["ratio"] - 1
        allowed = max(LEAST, SPREADS * (now["spread"] + stored["spread"]))
        word = "SLOWER" if change > allowed else "faster" if change < -allowed else "same"
        slower += word == "SLOWER"
        print(f"{word:7}  {now['ratio']:12.4g} kernels  {change:+7.1%} (noise {allowed:.0%})  {name}")
    if slower and same:
        print(f"\n{slower} slower than the baseline beyond their noise; look, or store the run: make bench-store")
        return 3
    if slower:
        print(f"\n{slower} slower than the baseline of another processor ({baseline['processor']}): a warning only.")
    return 0


def main(arguments: list[str]) -> int:
    """`compare` or `store`, and a file that `pytest --benchmark-json` wrote."""
    if len(arguments) != 2 or arguments[0] not in {"compare", "store"}:
        print(__doc__)
        return 2
    run = json.loads(Path(arguments[1]).read_text(encoding="utf-8"))
    if arguments[0] == "store":
        content = {"processor": run["machine_info"]["cpu"].get("brand_raw"), "benchmarks": ratios(run)}
        BASELINE.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{len(content['benchmarks'])} benchmarks are the baseline now: {BASELINE.name}")
        return 0
    if not BASELINE.is_file():
        print("There is no baseline yet; make bench-store makes one.")
        return 0
    return compare(run, json.loads(BASELINE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
