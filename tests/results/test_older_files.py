"""Files of earlier versions, slimmed copies of published ones, are read as what they said."""

from pathlib import Path

import pytest

from lmtasks.records import NOT_KEPT, GenerationSettings, TokenRules
from lmtasks.report.records import read_run
from lmtasks.report.write import write_pages
from lmtasks.results.cell import CellRecord
from lmtasks.results.comparison import PairedRecords
from lmtasks.results.speed import SpeedRecord

OLDER = Path(__file__).parent / "older"
REPORTS = Path(__file__).parents[2] / "reports"


def test_a_timing_without_examples_a_second_gets_them_where_a_request_is_one() -> None:
    """Records before December 2026: a score asks several requests for an example, and nobody knows how many."""
    record = SpeedRecord.read(OLDER / "speed.json")
    assert {timing.kind for timing in record.workloads} == {"head", "generate", "score"}
    for timing in record.workloads:
        expected = {
            "head": timing.throughput,
            "generate": timing.throughput / max(1, timing.new_tokens),
            "score": None,
        }
        assert timing.examples_per_s == expected[timing.kind]
    assert "examples_per_s" not in (OLDER / "speed.json").read_text(encoding="utf-8")


def test_a_comparison_without_a_relation_is_with_the_first_variant() -> None:
    record = PairedRecords.read(OLDER / "paired.json")
    assert {each.relation for each in record.comparisons} == {"first"}


def test_a_cell_without_checksum_overlap_and_generation_settings() -> None:
    cell = CellRecord.read(OLDER / "cell.json")
    assert cell.model is not None
    assert (cell.model.rules, cell.model.generation) == (TokenRules(), GenerationSettings())
    assert cell.model.unheeded == {NOT_KEPT: "unknown"}  # nobody knows what its generation_config.json said
    assert cell.runtime is not None
    assert cell.runtime.callers == 1
    assert (cell.scores.cached, cell.scores.overlap, cell.trained, cell.samples_checksum) == (0, None, None, "")
    assert (cell.statistics, cell.settings_hash) == (None, "")


@pytest.mark.parametrize("name", [folder.parent.name for folder in sorted(REPORTS.glob("*/cells"))])
def test_a_committed_report_is_rebuilt_byte_for_byte(name: str, tmp_path: Path) -> None:
    write_pages(read_run(REPORTS / name), out=tmp_path)
    written = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file())
    assert Path("index.html") in written
    for file in written:
        if file.name == "results.csv" and not (REPORTS / name / file).is_file():
            continue  # a run that was published before there were any
        assert (tmp_path / file).read_bytes() == (REPORTS / name / file).read_bytes(), file
