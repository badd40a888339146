"""What the race of runtimes says of its rounds: ratios, what was missed, who was absent."""

import json
from pathlib import Path
from typing import Any

import pytest
from runtimes_race import _agreement
from runtimes_table import missed, ratios, write_runtimes
from runtimes_works import CONTENDERS, WANTED, WORKS, Wanted, contenders_of, reference_of


def _found(ours: float, *, absent: bool = False) -> dict[str, Any]:
    """Three rounds of beam search; ours in int8 has `ours` tokens/s, all others 100."""
    names = [name for name, each in CONTENDERS.items() if not absent or each.side != "ctranslate2"]
    record = {
        "shape": "marian",
        "unit": "tokens/s",
        "inputs": "random ids",
        "rates": {name: [ours if name == "lmtasks onnx int8" else 100.0] * 3 for name in names},
        "peak_mb": dict.fromkeys(names, 200.0),
        "agreement": dict.fromkeys(names, 1.0),
    }
    run = {
        "shapes": ["marian"],
        "command": "python benchmarks/peers/runtimes.py --ctranslate2 PYTHON",
        "machine": {"processor": "one"},
        "versions": {"torch": "2"},
        "rounds": 3,
        "threads": 2,
        "seconds": 9.0,
    }
    return {"runs": [run], "works": {"marian-beam": record}, "profiles": []}


def test_ratios_are_paired_by_round() -> None:
    # Medians of the rates, 30 and 20, would give 1.5.
    assert ratios([10.0, 30.0, 60.0], [20.0, 10.0, 20.0]) == {"ratio": 3.0, "least": 0.5, "most": 3.0}


def test_a_ratio_is_reached_at_the_wanted_value_and_not_below() -> None:
    assert ("marian-beam", "lmtasks onnx int8") not in missed(_found(135.0))
    assert ("marian-beam", "lmtasks onnx int8") in missed(_found(134.9))


def test_the_table_names_found_beside_wanted(tmp_path: Path) -> None:
    write_runtimes(_found(140.0), out=tmp_path, publish=None)
    table = (tmp_path / "runtimes.md").read_text(encoding="utf-8")
    row = (
        "| Marian shape, 64 sentences, batch 8, beam search of 4 | lmtasks onnx int8 | CTranslate2 int8 | 1.35 | 1.40 |"
    )
    assert f"{row} 1.40-1.40 | yes |" in table
    assert "- CTranslate2 fp32: not installed" not in table


def test_a_disturbed_work_decides_nothing(tmp_path: Path) -> None:
    found = _found(140.0)
    found["works"]["marian-beam"]["others"] = {"lmtasks onnx int8": [0.4, 0.5, 0.02]}
    write_runtimes(found, out=tmp_path, publish=None)
    assert "| 1.35 | 1.40 | 1.40-1.40 | disturbed: not decided |" in (tmp_path / "runtimes.md").read_text(
        encoding="utf-8"
    )


def test_a_peer_that_is_not_there_is_named_with_the_reason(tmp_path: Path) -> None:
    write_runtimes(_found(140.0, absent=True), out=tmp_path, publish=None)
    table = (tmp_path / "runtimes.md").read_text(encoding="utf-8")
    assert "- CTranslate2 fp32: not installed (`pip install ctranslate2 transformers torch`" in table
    assert "| CTranslate2" not in table


@pytest.mark.parametrize("wanted", WANTED, ids=lambda each: f"{each.work}, {each.ours}, {each.against}")
def test_every_wanted_ratio_names_a_work_and_contenders(wanted: Wanted) -> None:
    assert wanted.work in WORKS
    assert {wanted.ours, wanted.against} <= CONTENDERS.keys()


def test_agreement_counts_tokens_of_the_inputs_that_both_answered() -> None:
    assert _agreement([[1, 2, 3, 4]], [[1, 2, 9, 4], [5, 5, 5, 5]]) == 0.75


def test_every_wanted_ratio_is_between_contenders_of_its_shape() -> None:
    for wanted in WANTED:
        assert {wanted.ours, wanted.against} <= set(contenders_of(WORKS[wanted.work].shape)), wanted
        assert reference_of(WORKS[wanted.work].shape) in contenders_of(WORKS[wanted.work].shape)


def test_packed_sequences_give_the_labels_of_our_own_graph(tmp_path: Path) -> None:
    """Four sentences of a tiny model, in batches of two and one by one."""
    from packed import model_folder, package, random_rows
    from runtimes_ours import Lmtasks
    from runtimes_packed import Packed

    inputs = random_rows(7, 3, 9, 1)
    (tmp_path / "inputs.json").write_text(json.dumps(inputs), encoding="utf-8")
    asked = {"inputs": str(tmp_path / "inputs.json"), "threads": 1, "shape": "bigru", "runtime": "onnx", "head": "high"}
    work = {"batch": 2, "new": 0}
    torch_side = Packed({**asked, "folder": str(model_folder("bigru"))})
    onnx_side = Lmtasks({**asked, "folder": str(package("bigru"))})
    onnx_side.open(work)
    assert torch_side.answer(work, inputs) == onnx_side.answer(work, inputs)
    assert torch_side.answer({**work, "batch": 1}, inputs) == torch_side.answer(work, inputs)
