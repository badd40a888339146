"""After the timings of a run: which variants fulfil what its plan requires, and which of them most cheaply."""

from collections.abc import Mapping

from lmtasks.bench.judge import QualityDrop, cheapest, judge, judged_json, why_none
from lmtasks.bench.require import parse_requirements
from lmtasks.metric.drop import loss_of
from lmtasks.records import Json
from lmtasks.run.folder import SCHEMA, RunFolder, read_json
from lmtasks.run.plan import Plan
from lmtasks.workflow.quality_drop import judged_drop


def required_record(folder: RunFolder, *, plan: Plan, require: str) -> Json:
    """What required.json says; `missed` is empty where a variant fulfils all. A drop is that of paired.json."""
    speeds = [read_json(folder.speed(variant.name)) for variant in plan.variants if variant.model]
    records = [record for record in speeds if record is not None]
    judged = judge(parse_requirements(require), records=records, drops=_drops(folder, plan))
    best = cheapest(judged)
    return {
        "schema": SCHEMA,
        "require": require,
        "cheapest": best.variant if best is not None else "",
        "missed": "" if best is not None else why_none(judged),
        "judged": judged_json(judged),
    }


def _drops(folder: RunFolder, plan: Plan) -> Mapping[str, Mapping[str, QualityDrop]]:
    paired = read_json(folder.paired) or {}
    comparisons = paired.get("comparisons")
    found: dict[str, dict[str, QualityDrop]] = {}
    for each in comparisons if isinstance(comparisons, list) else ():
        found.setdefault(each["variant"], {})[each["task"]] = judged_drop(
            loss_of(
                float(each["difference"]),
                base=float(each["a"]),
                ci95=each["ci95"],
                scale=each["scale"],
                higher_is_better=each["higher_is_better"],
            )
        )
        found.setdefault(each["base"], {})[each["task"]] = QualityDrop(value=0.0, ci95=(0.0, 0.0), unit="points")
    return found
