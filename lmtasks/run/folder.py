"""The folder of a run: what lies where, and how a finished piece is recognised.

run.json                   plan, versions, machine, and the command that repeats the run
plan.yaml                  the plan as it was given
before-1/                  what an earlier form of the plan made, and this one makes otherwise
models/<model>-s<seed>/    adapted models
packages/<model>-s<seed>-<precision>/
cells/<id>.json            scores of one variant on one task under one seed
samples/<id>.jsonl         its examples, with prompt, answer and values
speed/<variant>.json       timings of one variant in a process of its own
paired.json                every variant against the first, paired by example
required.json              which variants fulfil what the plan requires, where it requires anything
index.html, report.md, charts/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmtasks.errors import UsageError
from lmtasks.files import slug
from lmtasks.results.run import RunRecord, StoredPlan
from lmtasks.run.plan import Plan


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths inside a run folder."""

    root: Path

    def model(self, name: str, *, seed: int) -> Path:
        """An adapted model."""
        return self.root / "models" / f"{slug(name)}-s{seed}"

    def package(self, name: str, *, seed: int, precision: str, gate: str = "") -> Path:
        """An exported model; with a gate it may be another one in the same precision."""
        return self.root / "packages" / f"{slug(name)}-s{seed}-{precision}{f'-{slug(gate)}' if gate else ''}"

    def cell(self, identity: str) -> Path:
        """The scores of a cell."""
        return self.root / "cells" / f"{identity}.json"

    def samples(self, identity: str) -> Path:
        """The examples of a cell."""
        return self.root / "samples" / f"{identity}.jsonl"

    def speed(self, variant: str) -> Path:
        """The timings of a variant."""
        return self.root / "speed" / f"{slug(variant)}.json"

    @property
    def paired(self) -> Path:
        """The paired comparisons."""
        return self.root / "paired.json"

    @property
    def required(self) -> Path:
        """Who fulfils what the plan requires."""
        return self.root / "required.json"


def cell_id(*, variant: str, task: str, seed: int) -> str:
    """The name of a cell's files.

    >>> cell_id(variant="onnx int8", task="sst2", seed=1)
    'onnx-int8--sst2--s1'
    """
    return f"{slug(variant)}--{slug(task)}--s{seed}"


def held_plan(folder: RunFolder) -> tuple[Mapping[str, object], str] | None:
    """The plan that the folder holds a run of, as it was written, and its hash; None: it holds none.

    Raises:
        UsageError: the file that says so is damaged.
    """
    file = folder.root / "run.json"
    if not file.is_file():
        return None
    record = RunRecord.read_if_whole(file)
    if record is None or not record.plan_hash:
        raise UsageError(
            f"{file} was changed since it was written, or is cut short, so what the run was of cannot be said; give "
            "another --out, or delete the folder to start again."
        )
    return record.plan.content(), record.plan_hash


def claim(folder: RunFolder, plan: Plan, *, plan_file: Path, header: RunRecord) -> None:
    """Make the folder this plan's.

    Args:
        header: who began it; the plan is put in.

    Raises:
        WorkError: it cannot be written.
    """
    stored = StoredPlan.model_validate(plan.model_dump(mode="json"))
    header.model_copy(update={"plan": stored, "plan_hash": plan.hash}).write(folder.root / "run.json")
    (folder.root / "plan.yaml").write_bytes(plan_file.read_bytes())
