"""After the timings of a run: which variants fulfil what its plan requires, and which of them most cheaply."""

from collections.abc import Mapping

from lmtasks.bench.judge import Drop, cheapest, judge, judged_json, why_none
from lmtasks.bench.require import parse_requirements
from lmtasks.records import Json
from lmtasks.suite.folder import SCHEMA, RunFolder, read_json
from lmtasks.suite.plan import Plan


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


def _drops(folder: RunFolder, plan: Plan) -> Mapping[str, Mapping[str, Drop]]:
    paired = read_json(folder.paired) or {}
    base, comparisons = str(paired.get("base", "")), paired.get("comparisons")
    found: dict[str, dict[str, Drop]] = {}
    for each in comparisons if isinstance(comparisons, list) else ():
        percent = each["scale"] == "raw" and each["a"]
        scale = (100 / abs(each["a"]) if percent else 1.0) * (-1 if each["higher_is_better"] else 1)
        ends = None if each["ci95"] is None else sorted(scale * float(end) for end in each["ci95"])
        found.setdefault(each["variant"], {})[each["task"]] = Drop(
            value=scale * float(each["difference"]) + 0.0,
            ci95=None if ends is None else (ends[0], ends[1]),
            unit="%" if percent else "points",
        )
        found.setdefault(base, {})[each["task"]] = Drop(value=0.0, ci95=(0.0, 0.0), unit="points")
    return found
