"""`import lmtasks`: the same numbers and sentences as the command line, from rows, names and folders."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from said import Say
from tiny import tiny_checkpoint

import lmtasks

ROWS = [
    {"comment": f"number {n} was {'bad, or worse' if n % 3 else 'good'}", "stars": n % 3 + 1, "id": n}
    for n in range(45)
]
OWN = {"text": "comment", "label": "stars"}
COLUMNS = ("--text", "comment", "--label", "stars")
Record = dict[str, object]


@pytest.fixture(autouse=True)
def _quiet_and_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> object:
    """In a folder of its own; nothing that these tests call may print."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMTASKS_CACHE", str(tmp_path / "cache"))
    yield
    assert capsys.readouterr().out == ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The rows as a CSV file."""
    lines = ["comment,stars,id", *('"{comment}",{stars},{id}'.format(**row) for row in ROWS)]
    place = tmp_path / "rows.csv"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def test_importing_costs_nothing_and_every_name_is_there() -> None:
    code = (
        "import json, sys, time; began = time.process_time(); import lmtasks; took = time.process_time() - began\n"
        "heavy = [name for name in ('torch', 'numpy', 'pydantic', 'rich', 'typer') if name in sys.modules]\n"
        "names = [callable(getattr(lmtasks, name)) for name in lmtasks.__all__]\n"
        "late = [name for name in ('torch', 'numpy') if name in sys.modules]\n"
        "print(json.dumps([took, heavy, all(names), late]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, heavy, all_there, late = json.loads(done.stdout)
    assert took < 0.1
    assert (heavy, all_there, late) == ([], True, [])
    assert set(lmtasks.__all__) <= set(dir(lmtasks))
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        lmtasks.evalute  # noqa: B018  # the error is what is asked


def test_a_function_that_bears_the_name_of_a_folder_is_both() -> None:
    from lmtasks.bench.judge import parse_requirements
    from lmtasks.report.table import Table

    assert parse_requirements("drop<=1")
    assert Table.__module__ == "lmtasks.report.table"
    with pytest.raises(lmtasks.UsageError, match="is no run"):
        lmtasks.report("nowhere")
    with pytest.raises(lmtasks.UsageError, match="is a baseline; bench times models"):
        lmtasks.bench("majority")
    with pytest.raises(lmtasks.UsageError, match="unknown precision 'int9'; did you mean 'int"):
        lmtasks.export("nowhere", out="out", precision="int9")


def test_rows_file_and_command_line_have_the_same_numbers(say: Say, file: Path, tmp_path: Path) -> None:
    """A DataFrame, a list of dicts, `data=` and `--data`: one held-out part, one set of scores."""
    pandas = pytest.importorskip("pandas")
    models = ("tfidf", "majority")
    asked = [word for model in models for word in ("--model", model)]
    assert say("eval", *asked, "--data", file, *COLUMNS, "--out", tmp_path / "cli").code == 0
    by_cli = lmtasks.Results.load(tmp_path / "cli").records()
    frame = pandas.DataFrame(ROWS)
    for number, given in enumerate(({"rows": frame}, {"rows": ROWS}, {"data": file})):
        found = lmtasks.evaluate(models, **given, **OWN, out=tmp_path / f"api-{number}")  # type: ignore[arg-type]
        assert sorted(found.records(), key=str) == sorted(by_cli, key=str)
    assert {row["n"] for row in by_cli} == {9}  # a fifth of each label


def test_a_starter_task_has_the_same_numbers_and_the_same_question(say: Say, tmp_path: Path) -> None:
    """What the command line wrote is the function's own question, too: it may be replaced without `overwrite`."""
    out = tmp_path / "out"
    asked = ("--tasks", "starter_sentiment_en", "--limit", 20, "--out", out)
    assert say("eval", "--model", "nearest", *asked).code == 0
    by_cli = lmtasks.Results.load(out)
    found = lmtasks.evaluate("nearest", "starter_sentiment_en", limit=20, out=out)
    assert found.records() == by_cli.records()
    task = lmtasks.load_task("starter_sentiment_en")
    assert lmtasks.evaluate("nearest", task, limit=20, out=out).scores == found.scores
    with pytest.raises(lmtasks.UsageError, match="--limit was 20 and is 10; give another --out, or --overwrite"):
        lmtasks.evaluate("nearest", task, limit=10, out=out)


def test_a_model_is_adapted_scored_asked_and_compared(tmp_path: Path) -> None:
    model = lmtasks.adapt("tfidf", rows=ROWS, **OWN, out="runs/stars")  # type: ignore[arg-type]
    again = lmtasks.adapt("tfidf", rows=ROWS, **OWN, out="runs/stars")  # type: ignore[arg-type]
    assert (model.adapted.found, again.adapted.found) == (False, True)
    with pytest.raises(lmtasks.UsageError, match="was not made by this command"):
        lmtasks.adapt("tfidf", rows=ROWS[1:], **OWN, out="runs/stars")  # type: ignore[arg-type]
    scores = lmtasks.evaluate([model, "tfidf"], rows=ROWS, **OWN)  # type: ignore[arg-type]
    assert list(scores.models) == ["stars", "tfidf"]
    assert scores.value("stars", metric="acc") == scores.value("tfidf", metric="acc")
    assert (tmp_path / "runs" / "eval-1" / "stars" / "results.json").is_file()
    assert lmtasks.Results.load(scores.folder).scores == scores.scores
    compared = lmtasks.compare(scores)
    assert compared.compared.base.folder.name == "stars"
    assert {row["verdict"] for row in compared.records()} == {"open"}
    assert lmtasks.compare(scores.folder).records() == compared.records()
    with lmtasks.load_model(model) as loaded:
        answered = loaded.predict(["number 3 was good", "this was bad, or worse"])
        assert answered.answers[0] == "1"
        assert lmtasks.predict(loaded, "number 3 was good").answers == ("1",)
    assert lmtasks.predict(model, ["number 3 was good", "this was bad, or worse"]) == answered


def test_results_are_tables(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = [{**row, "comment": f"<b>{row['comment']}"} for row in ROWS]
    scores = lmtasks.evaluate(["majority", "random"], rows=rows, **OWN, name="<stars>")  # type: ignore[arg-type]
    frame = scores.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["model"].unique()) == ["majority", "random"]
    html = scores._repr_html_()
    assert "<table" in html
    assert "&lt;stars&gt;" in html
    assert "<stars>" not in html
    with pytest.raises(lmtasks.UsageError, match="these results are of several models; name one of: majority, random"):
        scores.value()
    with pytest.raises(lmtasks.UsageError, match="unknown metric of these results 'ac'; did you mean 'acc'"):
        scores.value("majority", metric="ac")


def test_a_frame_without_pandas_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = lmtasks.evaluate("majority", rows=ROWS, **OWN)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(lmtasks.UsageError, match=r"to_frame\(\) needs pandas, which is not installed"):
        scores.to_frame()


def test_missing_cells_of_a_frame_are_rows_without_a_label() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS).astype({"stars": "float64"})
    frame.loc[[3, 4, 5, 6], "stars"] = float("nan")
    with pytest.raises(lmtasks.UsageError, match=r"4 of 45 rows have no label \(None 4 times\), more than 5%: rows 4"):
        lmtasks.evaluate("random", rows=frame, **OWN)
    found = lmtasks.evaluate("random", rows=frame, **OWN, drop_unlabelled=True)
    assert found.scores[0].n == 41


def test_rows_may_be_divided_already() -> None:
    divided = {"train": ROWS[:30], "test": ROWS[30:]}
    found = lmtasks.evaluate("tfidf", rows=divided, **OWN)  # type: ignore[arg-type]
    assert found.scores[0].n == 15


def test_progress_is_a_callback() -> None:
    stages: list[str] = []
    lmtasks.evaluate("majority", rows=ROWS, **OWN, progress=lambda told: stages.append(told.stage))  # type: ignore[arg-type]
    lmtasks.adapt("svm", rows=ROWS, **OWN, out="m", progress=lambda told: stages.append(told.stage))  # type: ignore[arg-type]
    assert "read the tasks" in stages


WRONG: list[tuple[Callable[[], object], str]] = [
    (
        lambda: lmtasks.evaluate("majority", rows=5),
        "rows must be a table of pandas or polars or a list of dicts, was 5.",
    ),
    (lambda: lmtasks.evaluate("majority", rows=[5]), "row 1 (counted from 1) must be a dict of columns, was 5."),
    (lambda: lmtasks.evaluate("majority", rows=[]), "the given rows are empty"),
    (lambda: lmtasks.evaluate("majority", rows={"dev": ROWS}), "rows by split are called train, validation, test"),
    (lambda: lmtasks.evaluate("majority", rows=ROWS, text="coment", label="stars"), "did you mean 'comment'?"),
    (lambda: lmtasks.evaluate("majority", rows=ROWS, **OWN, limit="ten"), "limit must be a whole number of at least 1"),
    (lambda: lmtasks.evaluate("majority", rows=ROWS, **OWN, limit=2, sample=2), "give one of them."),
    (lambda: lmtasks.evaluate("majority", rows=ROWS, **OWN, batch_size=0), "batch size must be auto or a whole number"),
    (lambda: lmtasks.evaluate("majority", rows=ROWS, **OWN, runtime="onx"), "did you mean 'onnx'?"),
    (lambda: lmtasks.evaluate("majority", rows=ROWS, text=3), "text must be a text, was 3."),
    (lambda: lmtasks.evaluate("majority", rows=ROWS, data="a.csv"), "rows and data both say what the task is"),
    (lambda: lmtasks.evaluate("majority", "sst2", rows=ROWS), "--tasks and --data both say what the task is"),
    (lambda: lmtasks.evaluate("majority"), "give --tasks (names, globs or files"),
    (lambda: lmtasks.evaluate("majority", 7), "tasks must be names, files or tasks that were loaded, was '7'"),
    (lambda: lmtasks.evaluate([3], "sst2"), "a model must be a folder, a name, a Hub id, or what adapt, export"),
    (lambda: lmtasks.evaluate([], "sst2"), "missing option '--model'"),
    (lambda: lmtasks.evaluate("majority", "sst2", data_root="nowhere"), "--data-root nowhere is no folder"),
    (lambda: lmtasks.evaluate("majorty", "sst2", offline=True), "did you mean 'majority'"),
    (lambda: lmtasks.adapt("cnn:width=8", rows=ROWS, **OWN, out="m", epochs=-1), "epochs must be"),
    (lambda: lmtasks.adapt("cnn:width=8", rows=ROWS, **OWN, out="m", method="ful"), "did you mean 'full'?"),
    (lambda: lmtasks.compare("nowhere"), "there is no folder nowhere; give the --out of `lmtasks eval`."),
    (lambda: lmtasks.compare(3), "results are given as Results or as a folder, was '3'."),
    (lambda: lmtasks.Results.load("nowhere"), "there is no folder nowhere"),
    (lambda: lmtasks.load_task("starter_*"), "means 21 tasks; name one of: "),
    (lambda: lmtasks.predict("nowhere/at/all", "a"), "unknown model 'nowhere/at/all'"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG)
def test_wrong_arguments_are_refused_in_the_sentences_of_the_command_line(
    call: Callable[[], object], sentence: str
) -> None:
    with pytest.raises(lmtasks.UsageError) as refused:
        call()
    assert sentence in str(refused.value)
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize("name", ["adapt", "evaluate", "predict", "export", "bench", "try_"])
def test_arguments_have_the_defaults_of_the_options(name: str) -> None:
    """Each argument that an option shares its name with has its default; options have theirs from settings/."""
    from lmtasks.cli.main import load_command

    command = load_command({"evaluate": "eval", "try_": "try"}.get(name, name))
    defaults = {each.name: each.default for each in command.params}
    empty = ("", (), [], None)
    arguments = inspect.signature(getattr(lmtasks, name)).parameters.values()
    shared = [each for each in arguments if each.default is not inspect.Parameter.empty and each.name in defaults]
    assert len(shared) > 8
    unlike = {
        each.name: (each.default, defaults[each.name])
        for each in shared
        if each.name != "rows"
        and each.default != defaults[each.name]
        and not (each.default in empty and defaults[each.name] in empty)
    }
    assert not unlike
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for number, each in enumerate(arguments) if number > 2)


def test_a_package_is_proved_scored_and_shown(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "bert", "bert-classifier")
    package = lmtasks.export(model, "starter_sentiment_en", out="package")
    assert {row["graph"] for row in package.records()} == {"head.own"}
    assert "Proof of package, in fp32" in package._repr_html_()
    scores = lmtasks.evaluate([model, package], "starter_sentiment_en", limit=20)
    assert scores.value("bert", metric="acc") == scores.value("package", metric="acc")
    with pytest.raises(lmtasks.UsageError, match="is exported already"):
        lmtasks.export(package, out="again")


def test_a_report_is_rebuilt_and_shown(tmp_path: Path) -> None:
    shutil.copytree(Path(lmtasks.__file__).parents[1] / "reports" / "families", tmp_path / "run")
    page = lmtasks.report(tmp_path / "run")
    assert page.page == tmp_path / "run" / "index.html"
    assert page.answer
    assert len(page.records()) == len(page.table().lines)


@pytest.mark.slow
def test_speed_is_measured_side_by_side(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "bert", "bert-classifier")
    speeds = lmtasks.bench(
        model, "starter_sentiment_en", rounds=1, seconds=0.1, limit=8, threads=1, require="p50_ms<=0.0001"
    )
    assert (speeds.best, len(speeds.judged)) == (None, 1)
    assert {row["variant"] for row in speeds.records()} == {"bert"}


def test_the_documented_example_is_carried_out() -> None:
    page = Path(lmtasks.__file__).parents[1] / "docs" / "python.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(page), "exec"), {})
