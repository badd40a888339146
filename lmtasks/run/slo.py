"""After the timings of a run: which variants fulfil what its plan requires, and which of them most cheaply."""

from collections.abc import Mapping

from lmtasks.bench.judge import QualityDrop, cheapest, judge, judged_records, parse_requirements, why_none
from lmtasks.metric.drop import loss_of
from lmtasks.results.comparison import PairedRecords
from lmtasks.results.speed import RequiredRecord, SpeedRecord
from lmtasks.run.folder import RunFolder
from lmtasks.run.plan import Plan
from lmtasks.workflow.quality_drop import judged_drop


def required_record(folder: RunFolder, *, plan: Plan, require: str) -> RequiredRecord:
    """What required.json says. A drop is that of paired.json."""
    speeds = [SpeedRecord.read_if_whole(folder.speed(variant.name)) for variant in plan.variants if variant.model]
    records = [record for record in speeds if record is not None]
    judged = judge(parse_requirements(require), records=records, drops=_drops(folder, plan))
    best = cheapest(judged)
    return RequiredRecord(
        require=require,
        cheapest=best.variant if best is not None else "",
        missed="" if best is not None else why_none(judged),
        judged=judged_records(judged),
    )


def _drops(folder: RunFolder, plan: Plan) -> Mapping[str, Mapping[str, QualityDrop]]:
    paired = PairedRecords.read_if_whole(folder.paired)
    found: dict[str, dict[str, QualityDrop]] = {}
    for each in paired.comparisons if paired else ():
        loss = loss_of(
            each.difference, base=each.a, ci95=each.ci95, scale=each.scale, higher_is_better=each.higher_is_better
        )
        found.setdefault(each.variant, {})[each.task] = judged_drop(loss)
        found.setdefault(each.base, {})[each.task] = QualityDrop(value=0.0, ci95=(0.0, 0.0), unit="points")
    return found
