"""Runtimes on the same checkpoints and inputs: transformers, torch.compile, lmtasks on torch and on ONNX Runtime,
CTranslate2, optimum-onnx, onnxruntime-genai, OpenVINO.

    python benchmarks/peers/runtimes.py [--shapes llama,gpt2,marian,minilm] [--data-root MIRROR]
        [--ctranslate2 PYTHON] [--optimum PYTHON] [--genai PYTHON] [--openvino PYTHON]

Checkpoints, packages and converted folders are made first, and kept (`--prepare` stops there). Each work that is done
leaves runs/peers/runtimes/works/<work>.json, so shapes can be raced one at a time; the table is
runs/peers/runtimes/runtimes.md, and with --publish also reports/peers/. A peer lives in a Python of its own, since
its libraries do not go with ours; those that are not there are left out, and the table says how to get them.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from compare import PLACES as COMMON_PLACES
from runtimes_prepare import Prepared, prepare
from runtimes_profile import profile
from runtimes_race import race
from runtimes_table import missed, write_runtimes
from runtimes_works import PEERS, SHAPES, WORKS, Side
from sides import ROOT

PLACES = {**COMMON_PLACES, **{f"--{side}": "PYTHON" for side in PEERS}}
"""Options that name places of a machine, and what is recorded of them."""


def main() -> int:
    """0: done; whether a ratio was reached stands in the table."""
    options = _options()
    out: Path = options.out
    kept = out / "works"
    kept.mkdir(parents=True, exist_ok=True)
    pythons = _pythons(options)
    raced: list[Prepared] = []
    for shape in options.shapes:
        prepared = prepare(shape, out=out, data_root=options.data_root, pythons=pythons)
        raced.append(prepared)
        if options.prepare or options.table:
            continue
        works = [work for work in options.works if WORKS[work].shape == shape]
        for old in (file for work in works for file in kept.glob(f"{work}.*")):
            old.unlink()
        started = perf_counter()
        run = _run(options, shape)

        for done in race(prepared, works, pythons=pythons, rounds=options.rounds, threads=options.threads):
            _write(kept / f"{done.work}.json", done.record)
            so_far = {**run, "versions": done.versions, "seconds": round(perf_counter() - started, 1)}
            _write(kept / f"{shape}.run.json", so_far)
    if options.prepare:
        return 0
    publish = ROOT / "reports" / "peers" if options.publish else None
    write_runtimes(_found(kept), out=out, publish=publish)
    for prepared in raced:
        for work, ours in missed(_found(kept)):
            file = kept / f"{work}.{ours.rsplit(' ', 1)[1]}.profile.json"
            if WORKS[work].shape == prepared.shape and not file.is_file():
                operators = profile(prepared, work=WORKS[work], contender=ours, threads=options.threads)
                _write(file, {"work": work, "ours": ours, "operators": operators})
    write_runtimes(_found(kept), out=out, publish=publish)
    print(f"Table: {out / 'runtimes.md'}")
    return 0


def _run(options: argparse.Namespace, shape: str) -> dict[str, Any]:
    from lmtasks.bench.machine import machine

    return {
        "shapes": [shape],
        "command": _command(sys.argv[1:]),
        "machine": machine(),
        "rounds": options.rounds,
        "threads": options.threads,
    }


def _found(kept: Path) -> dict[str, Any]:
    """All that stands, in the order of the tables in `runtimes_works`."""

    def read(names: Sequence[str]) -> list[dict[str, Any]]:
        files = [kept / f"{name}.json" for name in names]
        return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]

    works = {name: record for name in WORKS for record in read([name])}
    reached = set(missed({"works": works}))
    profiles = read([f"{work}.{precision}.profile" for work in WORKS for precision in ("fp32", "int8", "w8")])
    return {
        "runs": read([f"{shape}.run" for shape in SHAPES]),
        "works": works,
        "profiles": [each for each in profiles if (each["work"], each["ours"]) in reached],
    }


def _write(file: Path, content: Mapping[str, Any]) -> None:
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(file)


def _pythons(options: argparse.Namespace) -> dict[Side, Path]:
    """Of the peers that are there."""
    found: dict[Side, Path] = {}
    for side, peer in PEERS.items():
        python = getattr(options, side)
        if subprocess.run([str(python), "-c", f"import {peer.imports}"], capture_output=True, check=False).returncode:
            print(f"{peer.title} does not take part: {python} cannot import {peer.imports} ({peer.get}).")
        else:
            found[side] = python
    return found


def _command(arguments: Sequence[str]) -> str:
    """As somebody else would type it: folders of this machine are not named."""
    shown = [PLACES.get(before, argument) for before, argument in zip(("", *arguments), arguments, strict=False)]
    return " ".join(["python", "benchmarks/peers/runtimes.py", *shown])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="only these, comma separated")
    parser.add_argument("--works", default=",".join(WORKS), help="only these of them, comma separated")
    for side, peer in PEERS.items():
        parser.add_argument(f"--{side}", type=Path, default=Path(sys.executable), help=f"Python after: {peer.get}")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("LMTASKS_DATA_ROOT"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "peers" / "runtimes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prepare", action="store_true", help="make what the race needs, and stop")
    parser.add_argument("--table", action="store_true", help="race nothing: the table of what stands")
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    options.shapes, options.works = options.shapes.split(","), options.works.split(",")
    for name, given, allowed in (("--shapes", options.shapes, SHAPES), ("--works", options.works, WORKS)):
        unknown = [each for each in given if each not in allowed]
        if unknown:
            parser.error(f"{name} takes {', '.join(allowed)}, was {', '.join(unknown)}.")
    if options.data_root is not None:
        options.data_root = Path(options.data_root)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
