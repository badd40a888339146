"""A package is written when it answers as its model does, and not otherwise."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from packed import model_folder, package
from tiny import TEXTS

from lmtasks.errors import UsageError, WorkError
from lmtasks.export.package import load_package
from lmtasks.prove.export import export_and_prove
from lmtasks.prove.parity import check_greedy, check_parity
from lmtasks.records import Floats32, Ints, Progress
from lmtasks.results.proof import ProofRecord
from lmtasks.runtime.base import DecodingState
from lmtasks.runtime.open import open_runtime


def ignored(progress: Progress) -> None:
    """A report that nobody reads."""


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "modernbert", "marian"])
def test_the_proof_lies_in_the_package(name: str) -> None:
    proof = load_package(package(name)).parity
    checks = proof["checks"]
    assert isinstance(checks, tuple | list)
    assert proof["ok"] is True
    assert proof["precision"] == "fp32"
    assert proof["rule"]["max_difference"] == 1e-3  # type: ignore[index]
    assert all(check["max_difference"] < 1e-4 for check in checks)
    cases = {check["case"] for check in checks}
    assert {"one token", "texts padded right", "texts padded left", "texts with holes", "longest"} <= cases
    encodes = name in {"bert", "modernbert"}
    assert ("64 greedy tokens" in cases) is not encodes
    graphs = {check["graph"] for check in checks}
    heads = {"head.mood", "head.topic", "head.find", "head.tag"} if encodes or name == "llama" else set()
    assert graphs == heads | (set() if encodes else {"score", "decoder"})


@pytest.mark.parametrize("precision", ["int8", "int8-tensor", "w8", "int4"])
def test_a_modernbert_is_proved_in_every_precision_of_the_processor(precision: str) -> None:
    made = load_package(package("modernbert", precision))
    assert made.emitter == "emitted:modernbert 1" + ("; w8 2" if precision == "w8" else "")
    assert made.parity["ok"] is True


def test_8_bits_are_recorded_with_their_agreement() -> None:
    proof = load_package(package("llama", "int8")).parity
    checks = {check["graph"]: check for check in proof["checks"]}  # type: ignore[attr-defined]
    assert proof["ok"] is True
    assert 0.9 < checks["decoder"]["cosine"] < 1.0
    assert 0.5 < checks["decoder"]["agreement"] <= 1.0
    assert checks["score"]["mean_difference"] < 0.3


def test_the_proof_survives_json() -> None:
    text = (package("gpt2") / "parity.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_an_export_that_answers_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model_folder: Path, *, out: Path, **rest: object) -> None:
        shutil.copytree(package("gpt2"), out, dirs_exist_ok=True)

    monkeypatch.setattr("lmtasks.prove.export.export_model", wrong)
    out = tmp_path / "package"
    with pytest.raises(WorkError, match=r"failed its proof and was not kept: .*largest difference .*allowed is"):
        export_and_prove(model_folder("gpt2", 1), out=out, precision="fp32", texts=TEXTS, report=ignored)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already; remove it, or give another --out"):
        export_and_prove(model_folder("gpt2"), out=tmp_path, precision="fp32", texts=TEXTS, report=ignored)
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(WorkError, match="cannot be written: Not a directory"):
        export_and_prove(model_folder("gpt2"), out=blocked / "package", precision="fp32", texts=TEXTS, report=ignored)
    with pytest.raises(UsageError, match="unknown precision"):
        export_and_prove(model_folder("gpt2"), out=tmp_path / "new", precision="int3", texts=TEXTS, report=ignored)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_proof_needs_texts() -> None:
    with pytest.raises(UsageError, match="a proof needs texts"):
        check_parity(package("gpt2"), model_folder("gpt2"), texts=[""])


def test_progress_is_told_to_the_end() -> None:
    told: list[Progress] = []
    parity = check_parity(package("gpt2"), model_folder("gpt2"), texts=TEXTS, threads=1, report=told.append)
    assert parity.ok
    assert parity.max_difference < 1e-4
    assert told[-1].done == told[-1].total
    assert all(one.done <= two.done for one, two in pairwise(told))


@pytest.mark.parametrize("name", ["gpt2", "marian"])
def test_a_proof_out_of_its_budget_says_what_was_not_proved(name: str) -> None:
    told: list[Progress] = []
    parity = check_parity(
        package(name), model_folder(name), texts=TEXTS, threads=1, budget_seconds=1e-9, report=told.append
    )
    assert parity.ok
    assert parity.cases == 10
    cases = {check.case for check in parity.checks}
    assert {"one token", "texts padded right", "prompts padded left"} <= cases  # what every proof has
    assert {"texts padded left", "texts with holes", "longest", "64 greedy tokens"} <= set(parity.not_proved)
    assert not cases & set(parity.not_proved)
    done = 10 - len(parity.not_proved)
    found = (
        re.escape(f"proved {done} of 10 cases in ")
        + r"\d+ seconds, of 1e-09 at most; not proved: .*longest.*, 64 greedy"
    )
    assert re.match(found, parity.record.cut)
    assert ProofRecord.model_validate_json(parity.record.model_dump_json()).not_proved == parity.not_proved
    assert told[-1].done == told[-1].total


def test_a_proof_in_its_budget_is_whole_and_tells_the_time_left() -> None:
    told: list[Progress] = []
    parity = check_parity(
        package("gpt2"), model_folder("gpt2"), texts=TEXTS, threads=1, budget_seconds=3600.0, report=told.append
    )
    assert (parity.not_proved, parity.record.cut, parity.budget_seconds) == ((), "", 3600.0)
    assert 0 < parity.seconds < 3600
    assert all(one.seconds_left is not None for one in told[1:-1])
    assert any("of 64 greedy tokens" in one.note for one in told)


def test_a_greedy_text_is_held_against_torch_token_by_token() -> None:
    """A package that writes something else from some step on is found there."""
    torch_, onnx = (
        open_runtime(model_folder("gpt2"), runtime="torch", threads=1),
        open_runtime(package("gpt2"), runtime="onnx", threads=1),
    )
    whole = check_greedy(torch_, onnx, prompt=5, steps=20)
    assert (whole.case, whole.numbers, whole.agreement, whole.ok) == ("20 greedy tokens", 20, 1.0, True)
    assert whole.max_difference < 1e-3

    class Astray(type(onnx)):  # type: ignore[misc]
        steps = 0

        def step(self, state: DecodingState, ids: Ints) -> tuple[DecodingState, Floats32]:
            state, logits = super().step(state, ids)
            self.steps += 1
            return state, -logits if self.steps == 7 else logits

    onnx.__class__ = Astray
    wrong = check_greedy(torch_, onnx, prompt=5, steps=20)
    assert (wrong.numbers, wrong.ok, wrong.agreement) == (7, False, 7 / 20)
    cut = check_greedy(torch_, onnx, prompt=5, steps=20, go_on=lambda step, seconds: step < 3)
    assert (cut.case, cut.numbers, cut.ok) == ("3 of 20 greedy tokens", 3, True)
