"""How models were trained: losses on training and on validation rows, and where the gap grows."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lmtasks.report.publish import publish
from lmtasks.report.records import read_run
from lmtasks.report.training_curves import training_charts, training_sentences
from lmtasks.report.write import write_report


def write_log(folder: Path, *, training: Sequence[float], validation: Sequence[float], head: str = "sst2") -> Path:
    """A look every fourth step."""
    lines = []
    for number, (loss, judged) in enumerate(zip(training, validation, strict=True), start=1):
        for part in range(4):
            line: dict[str, object] = {"step": 4 * number - 3 + part, "seconds": 1.0, "loss": loss, "head": head}
            if part == 3:
                line |= {"validation": 0.9 - judged / 10, "validation_losses": {head: judged}}
            lines.append(json.dumps(line) + "\n")
    file = folder / "models" / "mini-s1234" / "training.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines), encoding="utf-8")
    return file


def test_a_gap_that_grows_is_said(folder: Path) -> None:
    write_log(folder, training=[0.6, 0.3, 0.1, 0.02], validation=[0.55, 0.40, 0.46, 0.61])
    assert training_sentences(read_run(folder)) == (
        "mini-s1234, sst2 overfits from step 8 on: until step 16 the loss on validation rows rose from 0.400 to 0.610, "
        "while that on training rows fell from 0.300 to 0.020; the gap grew from 0.100 to 0.590.",
    )
    for page in (write_report(folder), folder / "report.md"):
        assert "overfits from step 8 on" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        ([0.6, 0.3, 0.1], [0.6, 0.4, 0.3]),  # both fall
        ([0.6, 0.3, 0.2], [0.6, 0.40, 0.41]),  # within a look's noise
        ([0.6, 0.3, 0.5], [0.6, 0.4, 0.9]),  # both rise: it diverges
        ([0.6], [0.6]),
    ],
)
def test_no_other_gap_is(training: list[float], validation: list[float], folder: Path) -> None:
    write_log(folder, training=training, validation=validation)
    assert training_sentences(read_run(folder)) == ()


def test_a_chart_has_both_losses_and_the_step_that_was_kept(folder: Path) -> None:
    write_log(folder, training=[0.6, 0.3, 0.1], validation=[0.55, 0.40, 0.46])
    (chart,) = training_charts(read_run(folder))
    assert all(f">{text}<" in chart.svg for text in ("training", "validation", "mini-s1234, sst2", "kept: step 8"))
    assert "step 8: 0.300 and 0.400" in chart.about


def test_the_look_before_the_first_step_has_no_training_loss(folder: Path) -> None:
    file = write_log(folder, training=[0.6, 0.3], validation=[0.55, 0.40])
    first = {"step": 0, "seconds": 0.0, "validation": 0.1, "validation_losses": {"sst2": 0.7}, "kept": True}
    lines = [json.loads(line) | {"kept": False} for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("\n".join(map(json.dumps, [first, *lines])), encoding="utf-8")
    (chart,) = training_charts(read_run(folder))
    assert "step 0: none and 0.700; step 4: 0.600 and 0.550" in chart.about
    assert ">kept: step 0<" in chart.svg
    assert training_sentences(read_run(folder)) == ()


def test_logs_of_earlier_versions_and_cut_off_lines_are_read(folder: Path) -> None:
    file = write_log(folder, training=[0.6, 0.3], validation=[0.5, 0.4])
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    old = [{key: value for key, value in line.items() if key not in ("head", "validation_losses")} for line in lines]
    file.write_text("\n".join(map(json.dumps, old)) + '\n{"step": 9, "lo', encoding="utf-8")
    (chart,) = training_charts(read_run(folder))
    assert ">training<" in chart.svg
    assert ">validation<" not in chart.svg


def test_a_published_folder_keeps_the_looks_alone(folder: Path, tmp_path: Path) -> None:
    write_log(folder, training=[0.6, 0.3, 0.1], validation=[0.55, 0.40, 0.46])
    target = publish(folder, reports=tmp_path / "reports").parent
    assert len((target / "training" / "mini-s1234.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    assert training_charts(read_run(target)) == training_charts(read_run(folder))
    assert training_sentences(read_run(target)) == training_sentences(read_run(folder))
