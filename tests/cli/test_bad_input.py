"""What bad input gets: an exit code and one sentence, no traceback, nothing half-written."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from said import Say

from lmtasks.checksums import sealed
from lmtasks.files import locked

TASK = """task: mine
kind: classification
dataset_path: csv
dataset_kwargs: {data_files: {test: rows.csv}}
test_split: test
inputs: {text: comment, label: mood}
labels: [negative, positive]
doc_to_text: "{{comment}}"
"""
ROWS = "comment,mood\nfine,positive\npoor,negative\n"


def _task(folder: Path, *, change: Callable[[str], str] = str, rows: str = ROWS) -> Path:
    (folder / "rows.csv").write_text(rows, encoding="utf-8")
    file = folder / "mine.yaml"
    file.write_text(change(TASK), encoding="utf-8")
    return file


LINES: Mapping[str, tuple[int, str]] = {
    "evla": (2, "unknown command 'evla'; did you mean 'eval'"),
    "--verson": (2, "did you mean '--version'"),
    "eval --modle x": (2, "unknown option of lmtasks eval '--modle'; did you mean '--model'"),
    "eval": (2, "missing option '--model'"),
    "eval --model": (2, "'--model' requires an argument"),
    "eval --model majority": (2, "give --tasks"),
    "eval --model majority --tasks ,": (2, "no task was named"),
    "eval --model majority --tasks sst": (2, "unknown task 'sst'; did you mean 'sst5' or 'sst2'"),
    "eval --model majority --tasks no.yaml": (2, "there is no task file no.yaml"),
    "eval --model lmtasks-mni --tasks sst2": (2, "unknown model 'lmtasks-mni'; did you mean 'lmtasks-mini'"),
    "eval --model ./no --tasks sst2": (2, "unknown model './no'"),
    "eval --model file.txt --tasks sst2": (2, "is a file; --model takes a folder"),
    "eval --model . --tasks starter_topic_en": (2, "has no weights"),
    "eval --model tfidf --model tfidf --tasks sst2": (2, "--model tfidf is given twice"),
    "eval --model tfidf --limit ten": (2, "--limit must be a whole number of at least 1, was 'ten'"),
    "eval --model tfidf --limit 0": (2, "--limit must be a whole number of at least 1, was '0'"),
    "eval --model tfidf --tasks sst2 --batch-size big": (2, "--batch-size must be auto or a whole number"),
    "eval --model tfidf --num-fewshot -1": (2, "--num-fewshot must be a whole number of at least 0"),
    "eval --model tfidf --threads two": (2, "--threads must be a whole number of at least 1"),
    "eval --model tfidf --runtime onxn": (2, "unknown --runtime 'onxn'; did you mean 'onnx'"),
    "eval --model tfidf --precision int9": (2, "unknown --precision 'int9'; did you mean 'int8'"),
    "eval --model tfidf --label-map LABEL_0": (2, "--label-map must be NAME=LABEL"),
    "eval --model tfidf --tasks sst2 --data x.csv": (2, "give one of them"),
    "eval --model tfidf --tasks sst2 --label x": (2, "describe --data, which is not given"),
    "eval --model tfidf --data no.csv": (2, "there is no data file no.csv"),
    "eval --model tfidf --tasks sst2 --data-root no": (2, "--data-root no is no folder"),
    "eval --model tfidf --tasks sst2 --offline": (2, "--offline forbids"),
    "eval --model org/name --tasks starter_topic_en --offline": (1, "--offline is set"),
    "eval --model tfidf --tasks starter_translation_en_zh": (2, "tfidf does not answer translation tasks"),
    "compare no nor": (2, "there is no folder no"),
    "compare .": (2, "at least two folders"),
    "compare . .": (2, "it has no results.json"),
    "report .": (2, "is no run"),
    "list taks": (2, "unknown list 'taks'; did you mean 'tasks'"),
    "validate starter_topic_eng": (2, "did you mean 'starter_topic_en'"),
    "validate starter_topic_eng starter_topic_en": (2, "1 of 2 tasks and plans are wrong"),
    "run startr": (2, "unknown plan 'startr'; did you mean 'starter'"),
    "run no.yaml": (2, "no.yaml"),
    "adapt --backbone lmtasks-mni --tasks starter_topic_en --out m": (2, "did you mean 'lmtasks-mini'"),
    "adapt --backbone lmtasks-mini --tasks starter_continuation_en --out m": (2, "has a train split"),
    "adapt --backbone lmtasks-mini --tasks starter_topic_en": (2, "missing option '--out'"),
    "adapt --backbone lmtasks-mini --tasks sst2 --out .": (2, ". exists"),
    "adapt --backbone lmtasks-mini --tasks starter_topic_en --lora-rank 8 --out m": (2, "goes with --method lora"),
    "adapt --backbone lmtasks-mini --tasks starter_topic_en --method lora --lora-dropout 1 --out m": (
        2,
        "of at least 0 and below 1",
    ),
    "adapt --backbone lmtasks-mini --tasks starter_topic_en --method lora --lora-points heads --out m": (
        2,
        "unknown --lora-points 'heads'",
    ),
    "adapt --backbone lmtasks-mini --tasks starter_topic_en --probe-fit logistic --out m": (
        2,
        "--probe-fit goes with --method probe, was --method full",
    ),
    "adapt --backbone lmtasks-mini --tasks starter_topic_en --method probe --probe-strength 2 --out m": (
        2,
        "a strength belongs to the logistic fit, was steps",
    ),
    "adapt --backbone cnn --tasks starter_topic_en --method probe --probe-fit logistic --epochs 9 --out m": (
        2,
        "epochs is about training by steps, and logistic regression takes none",
    ),
    "adapt --backbone lmtasks-mini --tasks starter_topic_en --cache off --out m": (2, "goes with --method probe"),
    "adapt --backbone cnn --tasks starter_topic_en --method lora --out m": (2, "would be made new"),
    "adapt --backbone cnn --from-scratch --tasks starter_topic_en --out m": (2, "is made new anyway"),
    "adapt --backbone lmtasks-mini --tokenizer words:10 --tasks starter_topic_en --out m": (2, "has its own"),
    "adapt --backbone lmtasks-mini --method ful --out m": (2, "unknown --method 'ful'; did you mean 'full'"),
    "bench --model majority --tasks starter_topic_en": (2, "bench times models"),
    "bench --model tfidf --rounds 0": (2, "--rounds must be a whole number of at least 1"),
    "predict --model majority x": (2, "unknown model 'majority'"),
    "pretrain --data x --out y --precision int8": (2, "unknown --precision 'int8'"),
    "pretrain --data x --out y --steps many": (2, "--steps must be a whole number of at least 1, was 'many'"),
}
"""Command line, exit code, a piece of the sentence."""


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_command_line(line: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("no model")
    code, fragment = LINES[line]
    said = say(*line.split())
    assert fragment in said.sentence
    assert said.code == code
    assert said.sentence.startswith("lmtasks: ")
    assert "Traceback" not in said.err
    assert [file.name for file in tmp_path.rglob("*")] == ["file.txt"]


FILES: Mapping[str, tuple[Callable[[str], str], str, str]] = {
    "malformed YAML": (lambda task: task + "labels: [a\n", ROWS, "mine.yaml:10: this is not YAML"),
    "unknown key": (lambda task: task + "metrix: [acc]\n", ROWS, "did you mean 'metrics'"),
    "unknown metric": (lambda task: task + "metrics: [acuracy]\n", ROWS, "unknown metric 'acuracy'; did you mean"),
    "metric that does not fit": (lambda task: task + "metrics: [bleu]\n", ROWS, "bleu scores text, not choice"),
    "column of a template": (
        lambda task: task.replace("{{comment}}", "{{coment}}"),
        ROWS,
        "did you mean 'comment'? Columns: comment, mood",
    ),
    "column of a head": (lambda task: task.replace("label: mood", "label: mod"), ROWS, "did you mean 'mood'"),
    "label out of range": (str, "comment,mood\nfine,positive\npoor,neutral\n", "row 1: the label 'neutral'"),
    "empty split": (str, "comment,mood\n", "is empty"),
    "missing data file": (lambda task: task.replace("rows.csv", "row.csv"), ROWS, "there is no data file"),
    "code in the file": (lambda task: task + "process_docs: !function u.f\n", ROWS, "add --trust-code"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_task_file(name: str, say: Say, tmp_path: Path, llama: Path) -> None:
    change, rows, fragment = FILES[name]
    file = _task(tmp_path, change=change, rows=rows)
    said = say("eval", "--model", llama, "--tasks", file, "--out", tmp_path / "out")
    assert said.code == 2
    assert fragment in said.sentence
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.lock").exists()


def test_own_data_with_wrong_columns(say: Say, reviews: Path) -> None:
    model = ("eval", "--model", "random", "--data", reviews)
    assert "unknown column of" in (said := say(*model, "--text", "coment", "--label", "stars")).sentence
    assert "did you mean 'comment'" in said.sentence
    assert "did you mean 'stars'" in say(*model, "--text", "comment", "--label", "star").sentence
    reviews.write_text("comment,stars\na,1\nb,1\n")
    assert "holds 1 value" in say(*model, "--text", "comment", "--label", "stars").sentence
    reviews.write_text("comment,stars\n" + "\n".join(f"a,{n}" for n in range(300)))
    assert "300 different values" in say(*model, "--text", "comment", "--label", "stars").sentence
    other = reviews.rename(reviews.with_suffix(".xls"))
    assert "known" in say("eval", "--model", "random", "--data", other).sentence


BROKEN: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "weights cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-64]),
        "is cut short",
    ),
    "weights of another model": (
        lambda folder: (folder / "config.json").write_text(
            (folder / "config.json").read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
        ),
        "lacks",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_folder(name: str, say: Say, tmp_path: Path, llama: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    spoil, fragment = BROKEN[name]
    spoil(folder)
    said = say("eval", "--model", folder, "--tasks", _task(tmp_path), "--out", tmp_path / "out")
    assert fragment in said.sentence
    assert said.code == 2
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()


def test_a_model_on_a_runtime_that_does_not_suit_it(say: Say, tmp_path: Path, llama: Path) -> None:
    said = say("eval", "--model", llama, "--tasks", _task(tmp_path), "--runtime", "onnx", "--out", tmp_path / "out")
    assert (said.code, "lmtasks export" in said.sentence) == (2, True)
    assert not (tmp_path / "out").exists()


def test_labels_that_do_not_match_are_both_listed(say: Say, tmp_path: Path, nameless: Path, reviews: Path) -> None:
    file = _task(tmp_path)
    said = say("eval", "--model", nameless, "--tasks", file)
    assert said.code == 2
    assert "its labels are LABEL_0, LABEL_1, the task's are negative, positive" in said.sentence
    assert "--label-map" in said.sentence
    said = say("eval", "--model", nameless, "--data", reviews, "--text", "comment", "--label", "stars")
    assert "its labels are LABEL_0, LABEL_1, the task's are 1, 2, 3" in said.sentence


def test_an_output_folder_that_cannot_be(say: Say, tmp_path: Path) -> None:
    file = _task(tmp_path)
    for out in (tmp_path / "rows.csv" / "out", Path("/proc/lmtasks-out"), tmp_path / "rows.csv"):
        said = say("eval", "--model", "random", "--tasks", file, "--out", out)
        assert said.code == 1, said
        assert "Traceback" not in said.err
        assert str(out.parent if out.name == "out" else out) in said.sentence


def test_a_folder_that_another_run_writes(say: Say, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out):
        said = say("eval", "--model", "random", "--tasks", _task(tmp_path), "--out", out)
    assert said.code == 1
    assert "is being written by another lmtasks" in said.sentence
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("plan: [a\n", "plan.yaml:2: this is not YAML"),
        ("plan: a\ntasks: [sst2]\nvariants: [{name: x, baseline: [majority]}]\nmodel: {}\n", "did you mean 'models'"),
        ("plan: a\ntasks: [sst2]\nvariants: [{name: x}]\n", "needs one of `model`, `baseline` and `answers`"),
        ("- a\n", "is no plan"),
    ],
)
def test_a_wrong_plan(text: str, fragment: str, say: Say, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    said = say("run", file, "--out", tmp_path / "out")
    assert said.code == 2
    assert fragment in said.sentence
    assert not (tmp_path / "out").exists()


def test_results_that_cannot_be_compared(say: Say, tmp_path: Path) -> None:
    _task(tmp_path)
    task = tmp_path / "mine.yaml"
    for name, limit in (("a", "2"), ("b", "1"), ("c", "2")):
        assert say("eval", "--model", "random", "--tasks", task, "--limit", limit, "--out", tmp_path / name).code == 0
    said = say("compare", tmp_path / "a", tmp_path / "b")
    assert said.code == 2
    assert "mine has another data" in said.sentence
    stored = tmp_path / "c" / "results.json"
    content = json.loads(stored.read_text())
    content["results"]["mine"]["metrics"]["acc"]["signature"] = "other"
    stored.write_text(json.dumps(sealed(content)))  # as another version would have written it
    assert "acc of mine has another signature" in say("compare", tmp_path / "a", tmp_path / "c").sentence
    task.write_text(TASK.replace("{{comment}}", "{{comment}}?"))
    say("eval", "--model", "random", "--tasks", task, "--out", tmp_path / "d")
    assert "mine has another task file" in say("compare", tmp_path / "a", tmp_path / "d").sentence


def test_predict_says_what_it_lacks(say: Say, llama: Path, classifier: Path, tmp_path: Path) -> None:
    several = ("predict", "--model", llama, "--tasks", "starter_topic_*", "x")
    assert json.loads(say(*several).out).keys() == {"starter_topic_en", "starter_topic_zh"}
    assert "of one task at a time" in say(*several, "--explain").sentence
    goes_on = ("predict", "--model", llama, "--tasks", "starter_paragraphs_en", "--new-tokens")
    assert say(*goes_on, 4, "x").code == 0
    assert "use at most 63" in say(*goes_on, 64, "x").sentence
    said = say("predict", "--model", llama, "--tasks", "starter_qa_en", "x")
    assert '{"question": "...", "context": "..."}' in said.sentence
    said = say("predict", "--model", llama, "--tasks", "starter_qa_en", '{"question": "x"}')
    assert "context is missing" in said.sentence
    assert (
        "is an encoder" in say("predict", "--model", classifier, "--tasks", "starter_translation_en_zh", "x").sentence
    )


def test_of_several_models_each_says_what_failed_and_what_is_kept(say: Say, tmp_path: Path, llama: Path) -> None:
    file = _task(tmp_path, rows="comment,mood\nfine,positive\npoor,awful\n")
    models = ("--model", "random", "--model", llama)
    said = say("eval", *models, "--tasks", f"{file},starter_topic_en", "--limit", 4, "--out", tmp_path / "out")
    assert said.code == 1
    assert "2 of 4 failed: random, task mine, row 1: " in said.err
    assert f". {llama.name}, task mine, row 1: " in said.err
    assert said.err.rstrip().endswith(f". Kept: starter_topic_en of random; starter_topic_en of {llama.name}.")
