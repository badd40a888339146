"""Settings that were chosen on validation rows: every point in the table and the chart, the chosen one marked."""

from pathlib import Path

from lmtasks.report.chosen_settings import settings_charts, settings_sentences, settings_tables
from lmtasks.report.records import read_run
from lmtasks.report.view import view
from lmtasks.report.write import write_report
from lmtasks.results.sweep import SweepPoint, SweepRecord

RATES = (0.0001, 0.001, 0.01)


def _record(
    *, rows: int | None = None, values: dict[str, tuple[object, ...]] | None = None, ended: bool
) -> SweepRecord:
    points = [
        SweepPoint(
            settings={"learning_rate": rate}, seed=seed, status="done", score=0.5 + place / 10 + seed / 100, seconds=30
        )
        for place, rate in enumerate(RATES[:2])
        for seed in (1, 2)
    ]
    failed = SweepPoint(
        settings={"learning_rate": 0.01}, seed=1, status="failed", reason="the loss became nan", seconds=1
    )
    old = SweepPoint(settings={"learning_rate": 0.5}, seed=1, status="done", score=0.99, seconds=1)
    return SweepRecord(
        model="mini",
        task="sst2" if rows else "",
        rows=rows,
        seeds=(1, 2),
        budget_minutes=2.5,
        values=values or {"learning_rate": RATES},
        points=(*points, failed, old),
        chosen={"learning_rate": 0.001},
        seeds_compared=2,
        out_of_budget=ended,
    )


def test_every_point_is_in_the_table_and_the_chosen_one_is_marked(folder: Path) -> None:
    _record(ended=False).write(folder / "sweeps" / "mini.json")
    (table,) = settings_tables(read_run(folder))
    assert [line.name for line in table.lines] == ["learning_rate 0.0001", "learning_rate 0.001", "learning_rate 0.01"]
    cells = [line.cells[0] for line in table.lines]
    assert [cell.text for cell in cells] == ["51.5", "61.5", "failed"]
    assert [cell.best for cell in cells] == [False, True, False]
    assert cells[0].detail == "±0.7"
    assert table.notes == ("failed: the loss became nan",)
    assert "scored rows had no part in it" in table.caption
    assert settings_sentences(read_run(folder)) == ()


def test_a_budget_that_was_too_small_is_said_first(folder: Path) -> None:
    _record(ended=True, rows=64).write(folder / "sweeps" / "mini--sst2-r64.json")
    said = "The settings of mini, sst2, 64 rows were chosen among what 2.5 minutes allowed: 5 of 6 trainings."
    assert said in view(read_run(folder)).troubles
    write_report(folder)
    for name in ("report.md", "index.html"):
        text = (folder / name).read_text()
        assert said in text
        assert "Settings chosen on validation rows" in text
    svg = (folder / "charts" / "settings-mini-sst2-64-rows.svg").read_text()
    assert all(f">{text}<" in svg for text in ("0.0001", "0.001", "learning_rate", "mini, sst2, 64 rows"))


def test_settings_that_are_words_have_a_table_and_no_chart(folder: Path) -> None:
    record = _record(ended=False, values={"precision": ("fp32", "bf16")})
    point = SweepPoint(settings={"precision": "bf16"}, seed=1, status="done", score=0.4, seconds=9)
    record = record.model_copy(update={"points": (point,), "chosen": {"precision": "bf16"}})
    record.write(folder / "sweeps" / "mini.json")
    run = read_run(folder)
    (table,) = settings_tables(run)
    assert [(line.name, line.cells[0].text) for line in table.lines] == [
        ("precision fp32", "–"),
        ("precision bf16", "40.0"),
    ]
    assert table.notes == ("1 of 2 seeds",)
    assert settings_charts(run) == ()


def test_a_run_without_sweeps_says_nothing_of_them(folder: Path) -> None:
    report = view(read_run(folder))
    assert (report.settings, report.settings_charts) == ((), ())
