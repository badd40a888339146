"""`lmtasks eval --rescore`: metrics from stored samples, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lmtasks.cli import options
from lmtasks.cli.eval_table import print_scores
from lmtasks.cli.replacing import asked_of, check_free, make_free
from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from lmtasks.metric import Draws


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """The options that `--rescore` takes."""

    tasks: str
    include: Sequence[Path]
    metrics: str
    out: Path | None
    samples: bool
    seed: int
    resamples: int | None
    draws: Draws
    trust_code: bool
    overwrite: bool


def rescore_results(folder: Path, asked: Rescored, context: typer.Context) -> None:
    """Compute, write and print.

    Raises:
        UsageError: the folder holds no results, the samples do not fit, or options do not go together.
        WorkError: a metric has no value, or nothing can be written.
    """
    from lmtasks.bench.machine import versions
    from lmtasks.evaluation.groups import group_results, stored_groups
    from lmtasks.evaluation.rescore import Rescoring, rescore
    from lmtasks.evaluation.samples import sample_files
    from lmtasks.evaluation.write import read_results, samples_file, write_results
    from lmtasks.folder_lock import locked
    from lmtasks.task.index import default_index

    stored = read_results(folder)
    out = asked.out or options.next_folder("eval")
    if out.resolve() == folder.resolve():
        raise UsageError(f"--out {out} holds the results that are to be scored again; give another folder.")
    index = default_index(include=asked.include)
    rescoring = Rescoring(
        tasks=index.find(asked.tasks, trust_code=asked.trust_code) if asked.tasks else (),
        metrics=tuple(name.strip() for name in asked.metrics.split(",") if name.strip()),
        seed=asked.seed,
        resamples=asked.resamples,
        draws=asked.draws,
    )
    asks = asked_of(context, tasks=rescoring.tasks)
    with locked(out), sample_files(out, name=samples_file) as samples:
        (make_free if asked.overwrite else check_free)({out: asks}, out=out)
        results = rescore(stored, rescoring, samples=samples)
        named = index.find_groups(asked.tasks) if asked.tasks else stored_groups(stored.groups)
        groups = {name: record for name, record in group_results(named, results).items() if record["metrics"]}
        write_results(
            out,
            results=results,
            model=stored.model,
            runtime=stored.runtime,
            machine=stored.machine,
            versions=versions(),
            samples=samples if asked.samples else False,
            groups=groups,
            asked=asks,
        )
    model = str(stored.model.get("name"))
    print_scores({model: results}, tasks=[result.task for result in results], groups={model: groups}, reasons={})
    print(f"\nScores are in {out / 'results.json'}.")
