"""lm-evaluation-harness beside lmtasks: equal numbers, and how fast.

    python benchmarks/peers/compare.py --part equality|speed|onnx|growth [--data-root MIRROR] [--scale 0.1]

Each part leaves runs/peers/<part>.json and can be run alone; what stands is not run again without --again. The table of
all parts is runs/peers/peers.md, and with --publish also reports/peers/.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from equality_part import run_equality
from growth_part import run_growth
from lm_eval_setup import DEFAULT, set_up, task_files
from onnx_part import run_onnx
from peer_checkpoints import SHAPES, make_checkpoint
from peer_tasks import write_tasks
from sides import ROOT
from speed_part import run_speed
from table import write_table
from workplace import Workplace

PARTS: Mapping[str, Callable[[Workplace], Mapping[str, Any]]] = {
    "equality": run_equality,
    "speed": run_speed,
    "onnx": run_onnx,
    "growth": run_growth,
}


def main() -> int:
    """0: done, and all that should be equal is; 3: something is not."""
    options = _options()
    python = options.peer or set_up(DEFAULT)
    out: Path = options.out
    tokenizer = ROOT / "lmtasks" / "backbone" / "presets" / "lmtasks-mini" / "tokenizer.json"
    checkpoints = {
        name: make_checkpoint(out / "checkpoints" / name, shape=shape, tokenizer=tokenizer)
        for name, shape in SHAPES.items()
    }
    checkpoints["lmtasks-mini"] = tokenizer.parent
    place = Workplace(
        out=out,
        peer=python,
        tasks=write_tasks(out / "tasks", peer_files=task_files(python), data_root=options.data_root),
        checkpoints=checkpoints,
        scale=options.scale,
        rounds=options.rounds,
        threads=options.threads,
        only_tasks=tuple(options.tasks.split(",")) if options.tasks else (),
        only_checkpoints=tuple(options.checkpoints.split(",")) if options.checkpoints else (),
        only_works=tuple(options.works.split(",")) if options.works else (),
    )
    for part in PARTS if options.part == "all" else (options.part,):
        _carry_out(part, place, again=options.again)
    unequal = write_table(out, publish=ROOT / "reports" / "peers" if options.publish else None)
    print(f"Table: {out / 'peers.md'}")
    return 3 if unequal else 0


PLACES = {"--data-root": "MIRROR", "--out": "FOLDER", "--peer": "PYTHON"}
"""Options that name places of a machine, and what is recorded of them."""


def _carry_out(part: str, place: Workplace, *, again: bool) -> None:
    from lmtasks.bench.machine import machine

    file = place.out / f"{part}.json"
    if file.is_file() and not again:
        print(f"{file} stands; --again runs it once more.")
        return
    started = perf_counter()
    content = {
        "part": part,
        "command": _command(sys.argv[1:]),
        "machine": machine(),
        "scale": place.scale,
        **PARTS[part](place),
    }
    content["seconds"] = round(perf_counter() - started, 1)
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(file)


def _command(arguments: Sequence[str]) -> str:
    """As somebody else would type it: folders of this machine are not named."""
    shown = [PLACES.get(before, argument) for before, argument in zip(("", *arguments), arguments, strict=False)]
    return " ".join(["python", "benchmarks/peers/compare.py", *shown])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=(*PARTS, "all"), required=True)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("LMTASKS_DATA_ROOT"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "peers")
    parser.add_argument("--peer", type=Path, help="Python of an environment with lm-eval; None: one is made")
    parser.add_argument("--scale", type=float, default=1.0, help="of numbers of documents")
    parser.add_argument("--rounds", type=int, default=3, help="of each timing, A B A B ...")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", default="", help="only these, comma separated (equality)")
    parser.add_argument("--checkpoints", default="", help="only these, comma separated (equality)")
    parser.add_argument("--works", default="", help="only those that have such a word in their name (speed)")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    if options.data_root is None:
        parser.error("--data-root (or LMTASKS_DATA_ROOT) must name a local mirror of the Hub.")
    # Task files name their rows by their place, and processes start elsewhere.
    options.out, options.data_root = options.out.resolve(), Path(options.data_root).resolve()
    return options


if __name__ == "__main__":
    raise SystemExit(main())
