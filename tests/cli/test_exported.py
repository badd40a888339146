"""From a model to a package, beside the model in scores and in speed."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from said import Say


@pytest.fixture(scope="module")
def package(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, exported by the command; `said.txt` beside it holds what that printed."""
    from lmtasks.cli.main import run

    out = tmp_path_factory.mktemp("packages") / "llama-fp32"
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr("lmtasks.cli.main.quiet_libraries", lambda **_: None)
        assert run(["export", "--model", str(llama), "--out", str(out)]) == 0
    out.with_name("said.txt").write_text(printed.getvalue(), encoding="utf-8")
    return out


def test_export_prints_its_proof(package: Path) -> None:
    said = package.with_name("said.txt").read_text(encoding="utf-8")
    assert said.startswith("proved")
    assert "Allowed in fp32: largest difference at most 0.001" in said
    assert json.loads((package / "parity.json").read_text())["ok"] is True
    assert sorted(path.name for path in package.parent.iterdir()) == ["llama-fp32", "said.txt"]


def test_model_and_package_score_alike(say: Say, llama: Path, package: Path, tmp_path: Path) -> None:
    arguments = ("--tasks", "starter_sentiment_en", "--limit", 6, "--out", tmp_path / "out")
    said = say("eval", "--model", llama, "--model", package, *arguments)
    assert said.code == 0, said.err
    assert said.out.splitlines()[0].split()[-2:] == ["llama", "llama-fp32"]
    said = say("compare", tmp_path / "out", "--fail-if-worse")
    assert said.code == 0, said.err
    assert "onnx cpu fp32" in said.out


def test_a_package_says_what_does_not_suit_it(say: Say, package: Path, tmp_path: Path) -> None:
    model = ("eval", "--model", package, "--tasks", "starter_sentiment_en", "--out", tmp_path / "out")
    assert "use --runtime onnx" in (said := say(*model, "--runtime", "torch")).sentence
    assert said.code == 2
    assert "the package in" in say(*model, "--precision", "int8").sentence
    assert "is exported already" in say("export", "--model", package, "--out", tmp_path / "again").sentence
    assert "exists already" in say("export", "--model", "lmtasks-mini", "--out", package).sentence
    static = say("export", "--model", "lmtasks-mini", "--out", tmp_path / "s", "--precision", "int8-static")
    assert "int8-static is for encoders" in static.sentence  # and no word of --tasks, which would not help
    (package / "package.json").rename(package / "aside")
    assert say(*model).code == 2
    (package / "aside").rename(package / "package.json")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # fresh processes, timed
def test_bench_measures_in_a_process_of_its_own(say: Say, package: Path, tmp_path: Path) -> None:
    arguments = ("--limit", 4, "--rounds", 1, "--seconds", 0.01, "--threads", 1, "--out", tmp_path / "bench")
    said = say("bench", "--model", package, "--tasks", "starter_sentiment_en", *arguments)
    assert said.code == 0, said.err
    assert "peak memory" in said.out
    stored = json.loads((tmp_path / "bench" / "bench.json").read_text())
    (record,) = stored["variants"]
    assert record["variant"]["runtime"] == "onnx"
    assert record["limits"]["read_gb_per_s"] > 0
    assert record["workloads"][0]["passes"][0]["bytes"] > 0
    assert {row["batch_size"] for row in stored["side_by_side"]} == {1, 8}


@pytest.mark.slow  # fresh processes, timed
def test_bench_names_who_fulfils_what_is_required(say: Say, package: Path, tmp_path: Path) -> None:
    """Under a load, at a fixed length; a gate that says no ends with 3, and its timings are kept."""
    arguments = ("--limit", 4, "--rounds", 1, "--seconds", 0.01, "--threads", 1, "--sweep", "length=12")
    asked = ("bench", "--model", package, "--tasks", "starter_sentiment_en", *arguments)
    said = say(*asked, "--require", "p50_ms<=60000@100rps, drop<=0, peak_mb<=100000", "--out", tmp_path / "yes")
    assert said.code == 0, said.err
    assert "Under a load: requests come by poisson arrivals" in said.out
    assert f"{package.name} fulfils all that is required." in said.out
    said = say(*asked, "--require", "disk_mb<=0.001", "--out", tmp_path / "no")
    assert said.code == 3
    assert f"no variant fulfils --require: {package.name} misses disk_mb<=0.001 (" in said.sentence
    stored = json.loads((tmp_path / "no" / "bench.json").read_text())
    assert [each["fulfils"] for each in stored["judged"]] == [False]
    assert {row["length"] for row in stored["side_by_side"]} == {0, 12}
    assert say(*asked, "--sweep", "length=9999", "--out", tmp_path / "long").code == 2


def test_bench_says_what_it_cannot_run(say: Say, llama: Path, package: Path) -> None:
    tasks = ("--tasks", "starter_sentiment_en")
    said = say("bench", "--model", llama, "--runtime", "onnx", *tasks)
    assert (said.code, "lmtasks export" in said.sentence) == (2, True)
    said = say("bench", "--model", package, "--runtime", "onnx", "--runtime", "torch", *tasks)
    assert "--runtime torch has nothing to run" in said.sentence
    for model in (llama, package):
        for option in (("--device", "cuda"), ("--precision", "fp16")):
            said = say("bench", "--model", model, *option, *tasks)
            assert said.code == 2
            assert option[1] in said.sentence.lower()
            assert "measurements" not in said.err  # it is said before anything is measured
