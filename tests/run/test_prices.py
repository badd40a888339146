"""Prices of a plan: checked with it, reckoned from timings that are there, and no reason to time anything again."""

import json
from pathlib import Path

import pytest
from speed_records import LIMITS, MEMORY, times

from lmtasks.bench.pool import pooled
from lmtasks.errors import UsageError
from lmtasks.results.cell import Variant
from lmtasks.results.speed import SpeedRecord
from lmtasks.run.folder import RunFolder
from lmtasks.run.plan import Plan, load_plan
from lmtasks.run.plan_changes import _timed_alike
from lmtasks.run.variants import reckon

TEXT = "plan: p\ntasks: [t]\nvariants: [{{name: a, model: x}}, {{name: b, baseline: majority}}]\nbench: {bench}\n"


def plan_of(folder: Path, bench: str) -> Plan:
    file = folder / "p.yaml"
    file.write_text(TEXT.format(bench=bench))
    return load_plan(file)


def test_timings_that_are_there_get_the_prices_and_limits_of_now(tmp_path: Path) -> None:
    folder = RunFolder(root=tmp_path / "run")
    file = folder.speed("a")
    file.parent.mkdir(parents=True)
    record = pooled([times("a")] * 2, memory=MEMORY, limits=LIMITS)
    variant, machine = Variant(name="a", device="cpu"), {"cores_usable": 2}
    record.model_copy(update={"variant": variant, "machine": machine}).write(file)
    priced = plan_of(tmp_path, "{price_hour: 3.60 EUR, require: p95_ms<=60@20rps}")
    assert priced.bench is not None
    reckon(folder, priced, priced.bench)
    found = SpeedRecord.read(file)
    (cost,) = found.costs
    assert cost.per_1000 == pytest.approx(1000 * 0.003 / 2 * 3.6 / 3600, rel=1e-5)
    assert cost.currency == "EUR"
    assert found.loads[0].goodput_per_s == pytest.approx(20, rel=1e-3)
    before = file.read_bytes()
    reckon(folder, priced, priced.bench)
    assert file.read_bytes() == before
    plain = plan_of(tmp_path, "{rows: 64}")
    assert plain.bench is not None
    reckon(folder, plain, plain.bench)
    assert SpeedRecord.read(file).costs == ()
    assert "costs" not in json.loads(file.read_text())


def test_another_price_times_nothing_again(tmp_path: Path) -> None:
    one, other = plan_of(tmp_path, "{price_hour: 1}"), plan_of(tmp_path, "{price: '1,2 USD', price_hour: 2}")
    assert _timed_alike(one.variants[0], other, one)
    assert not _timed_alike(one.variants[0], plan_of(tmp_path, "{rounds: 9}"), one)


@pytest.mark.parametrize(
    ("bench", "sentence"), [("{price: cheap}", "--price is"), ("{price_hour: x y}", "--price-hour")]
)
def test_prices_that_are_none_are_told_with_their_line(bench: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        plan_of(tmp_path, bench)


def test_numbers_of_a_plan_are_prices() -> None:
    given = {"plan": "p", "tasks": ["t"], "variants": [{"name": "a", "model": "x"}]}
    plan = Plan.model_validate({**given, "bench": {"price": [0.15, 0.6], "price_hour": 1.2}})
    assert plan.bench is not None
    assert (plan.bench.price, plan.bench.price_hour) == ("0.15,0.6", "1.2")
