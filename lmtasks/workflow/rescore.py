"""Stored samples scored again, without a model: other metrics, or task files whose metrics or filters have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.evaluation.groups import group_results, stored_groups
from lmtasks.evaluation.rescore import Rescoring, rescore
from lmtasks.evaluation.samples import sample_files
from lmtasks.evaluation.write import read_results, samples_file, write_results
from lmtasks.files import locked
from lmtasks.workflow.evaluate import Evaluated, ModelScores
from lmtasks.workflow.results_folder import asked_json, check_free, make_free, next_folder

if TYPE_CHECKING:
    from lmtasks.metric import Draws


@dataclass(frozen=True, kw_only=True)
class RescoreRequest:
    """Which stored results are scored again, and by what."""

    folder: Path
    tasks: str = ""
    """Task files to score by; empty: all tasks, as they were scored."""
    include: Sequence[Path] = ()
    metrics: Sequence[str] = ()
    seed: int = 1234
    resamples: int | None = None
    draws: Draws = "ours"
    trust_code: bool = False
    out: Path | None = None
    """None: `runs/eval-N`."""
    overwrite: bool = False
    samples: bool = True
    given: Mapping[str, object] = field(default_factory=dict)
    """Options as they were given, for results.json."""


def rescore_results(request: RescoreRequest) -> Evaluated:
    """Compute and write.

    Raises:
        UsageError: the folder holds no results, the samples do not fit, or options do not go together.
        WorkError: a metric has no value, or nothing can be written.
    """
    from lmtasks.bench.machine import versions
    from lmtasks.task.index import default_index

    stored = read_results(request.folder)
    out = request.out or next_folder("eval")
    if out.resolve() == request.folder.resolve():
        raise UsageError(f"--out {out} holds the results that are to be scored again; give another folder.")
    index = default_index(include=request.include)
    rescoring = Rescoring(
        tasks=index.find(request.tasks, trust_code=request.trust_code) if request.tasks else (),
        metrics=request.metrics,
        seed=request.seed,
        resamples=request.resamples,
        draws=request.draws,
    )
    asks = asked_json(request.given, tasks=rescoring.tasks)
    with locked(out), sample_files(out, name=samples_file) as samples:
        (make_free if request.overwrite else check_free)({out: asks}, out=out)
        results = rescore(stored, rescoring, samples=samples)
        named = index.find_groups(request.tasks) if request.tasks else stored_groups(stored.record.groups)
        groups = {name: record for name, record in group_results(named, results).items() if record.metrics}
        write_results(
            out,
            results=results,
            model=stored.record.model,
            runtime=stored.record.runtime,
            machine=stored.record.machine,
            versions=versions(),
            samples=samples if request.samples else False,
            groups=groups,
            asked=asks,
        )
    scores = ModelScores(label=stored.record.model.name, folder=out, results=results, groups=groups, failed={})
    return Evaluated(folder=out, tasks=tuple(result.task for result in results), models=(scores,), reasons={})
