"""Regression and multi-label go the whole line, from somebody's own file to a package in the task's own unit."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import f1_score
from tiny import tiny_checkpoint

import lmtasks
from lmtasks.data.examples import ReadingSettings, head_examples, in_units_of
from lmtasks.data.splits import load_task_data
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.results.sample import read_sample_file
from lmtasks.settings.data import DataAccess
from lmtasks.task.load import load_task
from lmtasks.workflow.choose_tasks import TaskRequest, chosen_tasks

TASTE = {"great": 1, "lovely": 1, "tasty": 1, "awful": -1, "stale": -1, "dull": -1}
THINGS = ("food", "room", "staff")
BASE, STEP = 10_000.0, 250.0
"""Far from the standard scores that the head learns in."""
Rows = list[dict[str, object]]


def rows_of(count: int, *, seed: int) -> Rows:
    draw = np.random.default_rng(seed)
    found: Rows = []
    for number in range(count):
        things = [thing for thing in THINGS if draw.random() < 0.5]
        words = [str(draw.choice(list(TASTE))) for _ in things]
        said = " and ".join(f"the {thing} was {word}" for thing, word in zip(things, words, strict=True))
        found.append(
            {
                "said": f"{said or 'we were there'} on day {number}",
                "price": BASE + STEP * sum(TASTE[word] for word in words),
                "about": things,
            }
        )
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hotel")
    for split, count, seed in (("train", 160, 1), ("test", 60, 2)):
        lines = [json.dumps({**row, "said": f"{row['said']} {split}"}) for row in rows_of(count, seed=seed)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(
    ("kind", "label", "rivals", "metrics"),
    [
        ("regression", "price", ("mean", "ridge", "nearest"), ("pearson", "spearman", "mae")),
        ("multi_label", "about", ("majority", "tfidf", "nearest"), ("micro_f1", "macro_f1", "lrap", "subset_acc")),
    ],
)
def test_a_file_becomes_a_model_a_package_answers_and_scores(
    data: Path, tmp_path: Path, kind: str, label: str, rivals: Sequence[str], metrics: Sequence[str]
) -> None:
    own = {"data": data, "text": "said", "label": label, "kind": kind, "name": "hotel"}
    model = lmtasks.adapt(
        "average:width=24,buckets=200",
        **own,  # type: ignore[arg-type]
        out=tmp_path / "model",
        epochs=30,
        learning_rate=0.02,
        patience=0,
        progress=False,
    )
    package = lmtasks.export(model, out=tmp_path / "package", progress=False)
    (proof,) = [check for check in json.loads((package.folder / "parity.json").read_text())["checks"]][-1:]
    assert proof["ok"], proof
    results = lmtasks.evaluate(
        [model, package, *rivals, "classical", "trivial"],
        **own,  # type: ignore[arg-type]
        out=tmp_path / "scores",
        progress=False,
    )
    assert not results.failed
    found = {
        place.name: list(read_sample_file(next(place.glob("samples*")))) for place in (tmp_path / "scores").iterdir()
    }
    assert set(found) == {"model", "package", *rivals, "classical", "trivial"}
    wanted = [json.loads(line)[label] for line in (data / "test.jsonl").read_text().splitlines()]
    record = json.loads((tmp_path / "scores" / "package" / "results.json").read_text())
    values = {name: cell["value"] for name, cell in record["results"]["hotel"]["metrics"].items()}
    assert tuple(values) == tuple(metrics)
    if kind == "regression":
        answers = [float(str(sample.raw)) for sample in found["package"]]
        assert answers == pytest.approx([float(str(sample.raw)) for sample in found["model"]], abs=STEP / 1000)
        assert values["pearson"] > 0.8
        assert values["pearson"] == pytest.approx(pearsonr(wanted, answers).statistic, abs=1e-12)
        assert values["mae"] < STEP
        assert values["mae"] == pytest.approx(float(np.abs(np.subtract(wanted, answers)).mean()))
    else:
        true = np.array([[thing in each for thing in THINGS] for each in wanted])
        answered = np.array(
            [[thing in json.loads(sample.answer) for thing in sorted(THINGS)] for sample in found["package"]]
        )
        assert [sample.answer for sample in found["model"]] == [sample.answer for sample in found["package"]]
        assert values["micro_f1"] > 0.8
        assert values["micro_f1"] == pytest.approx(f1_score(true, answered, average="micro"), abs=1e-12)
    text = "the food was great and the room was lovely"
    (answer,) = lmtasks.predict(package, [text]).answers
    if kind == "regression":
        assert abs(float(answer) - (BASE + 2 * STEP)) < 2 * STEP
    else:
        assert {"food", "room"} <= set(json.loads(answer))


@pytest.mark.parametrize("method", ["probe", "lora"])
@pytest.mark.parametrize("task", ["starter_stars_zh", "starter_aspects_en"])
def test_every_way_to_adapt_trains_them(
    tmp_path: Path,
    task: str,
    method: str,
) -> None:
    model = lmtasks.adapt(
        tiny_checkpoint(tmp_path / "llama", "llama"),
        task,
        method=method,
        out=tmp_path / "model",
        epochs=1,
        progress=False,  # type: ignore[arg-type]
    )
    package = lmtasks.export(model, out=tmp_path / "package", precision="int8", progress=False)
    assert json.loads((package.folder / "parity.json").read_text())["ok"] is True


def small(tmp_path: Path, kind: str, rows: Sequence[Mapping[str, object]], *, labels: str = "") -> Path:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    role = {"regression": "number", "multi_label": "labels", "classification": "label"}[kind]
    (tmp_path / "task.yaml").write_text(
        f"task: small\nkind: {kind}\ndataset_path: json\n"
        "dataset_kwargs: {data_files: {train: rows.jsonl, test: rows.jsonl}}\n"
        f"training_split: train\ntest_split: test\ninputs: {{text: said, {role}: right}}\n{labels}"
    )
    return tmp_path / "task.yaml"


def said(values: Sequence[object]) -> Rows:
    return [{"said": f"text {number}", "right": value} for number, value in enumerate(values)]


def opened(file: Path, *, drop: bool = False) -> Sequence[Mapping[str, object]]:
    options = DataAccess(offline=True, drop_unlabelled=drop)
    rows = load_task_data(load_task(file), options=options, need=frozenset({"test"})).test
    assert rows is not None
    return rows.rows


def test_rows_without_a_number_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = small(tmp_path, "regression", said([*map(float, range(50)), None, "n/a"]))
    with caplog.at_level(logging.INFO):
        assert len(opened(file)) == 50
    assert "2 of 52 rows have no number (None, 'n/a'), and are left out: rows 51 and 52 (counted from 1)" in caplog.text
    many = small(tmp_path, "regression", said([1.0, float("nan"), 2.0]))
    with pytest.raises(
        UsageError, match=r"1 of 3 rows has no number \(nan\), more than 5%: row 2 .*--drop-unlabelled\.$"
    ):
        opened(many)
    assert len(opened(many, drop=True)) == 2


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("regression", "three", r"row 1: 'right' \(inputs.number\) must be a finite number, was: 'three'"),
        ("regression", float("inf"), r"row 1: 'right' \(inputs.number\) must be a finite number, was: 'inf'"),
        (
            "regression",
            ["a"],
            r"row 1: .*must be a finite number, was: .*a list of labels is a task of kind multi_label",
        ),
        (
            "multi_label",
            "a",
            r"row 1, 'right' must hold a list of labels, was: 'a'. A row with one label is of kind clas",
        ),
        ("multi_label", 0, r"row 1, 'right' must hold a list of labels, was: '0'"),
        ("multi_label", ["a", "z"], r"row 1: the label 'z' is none of the 2 labels \(a, b\)"),
        ("multi_label", ["a", None], r"row 1, 'right' holds an empty label"),
        ("classification", ["a", "b"], r"row 1: the label .* is a list; a row has one label, .* of kind multi_label"),
    ],
)
def test_a_wrong_answer_is_named_by_its_row(tmp_path: Path, kind: str, value: object, message: str) -> None:
    good = {"regression": 1.0, "multi_label": ["a"], "classification": "a"}[kind]
    labels = "" if kind == "regression" else "labels: [a, b]\n"
    with pytest.raises(UsageError, match=message):
        opened(small(tmp_path, kind, said([good, value, good]), labels=labels))


def test_a_table_without_lists_writes_them_as_text(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('said,tags\none,"[""a"", ""b""]"\ntwo,[]\nthree,"[""b""]"\nfour,"[""a""]"\n')
    request = TaskRequest(data=tmp_path / "rows.csv", text="said", label="tags", kind="multi_label")
    (task,) = chosen_tasks(request)
    assert (task.kind, task.labels) == ("multi_label", ("a", "b"))


def test_labels_that_no_training_row_has_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = small(tmp_path, "multi_label", said([["a"], ["a", "b"], [], ["b"]] * 5), labels="labels: [a, b, c, d]\n")
    task, reading = (
        load_task(file),
        ReadingSettings(tokenizer=learn_tokenizer("words:20", ["text 1 2 3"]), max_length=8, causal=False),
    )
    data = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"train", "validation"}))
    examples = head_examples(task, data, reading=reading)
    assert "task small: no training row has the label c, d, which is never learned" in caplog.text
    turned = in_units_of(examples, examples.head)
    assert {row.targets for row in turned.train} == {(1, 0, 0, 0), (1, 1, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0)}


def test_numbers_are_learned_as_standard_scores_of_the_training_rows(tmp_path: Path) -> None:
    task = load_task(small(tmp_path, "regression", said([float(number % 5) * 100 for number in range(40)])))
    reading = ReadingSettings(tokenizer=learn_tokenizer("words:20", ["text 1 2 3"]), max_length=8, causal=False)
    data = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"train", "validation"}))
    examples = head_examples(task, data, reading=reading)
    numbers = np.array([row.targets[0] for row in examples.train])
    assert (examples.head.mean, examples.head.deviation) == pytest.approx((numbers.mean(), numbers.std()))
    scores = np.array([row.targets[0] for row in in_units_of(examples, examples.head).train])
    assert (scores.mean(), scores.std()) == pytest.approx((0, 1))
    constant = load_task(small(tmp_path, "regression", said([3.5] * 20)))
    data = load_task_data(constant, options=DataAccess(offline=True), need=frozenset({"train", "validation"}))
    with pytest.raises(
        UsageError, match=r"all 18 training rows of task small have the number 3.5, which teaches nothing"
    ):
        head_examples(constant, data, reading=reading)


def test_what_does_not_go_together_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="kind regression is answered by a head alone; take doc_to_text out"):
        load_task(small(tmp_path, "regression", said([1.0]), labels='doc_to_text: "{{said}}"\n'))
    with pytest.raises(UsageError, match="kind regression has no labels"):
        load_task(small(tmp_path, "regression", said([1.0]), labels="labels: [a, b]\n"))
    with pytest.raises(UsageError, match="--kind regression is about the column of --label, which is not given"):
        lmtasks.evaluate("mean", data=data, text="said", kind="regression", out=tmp_path / "x", progress=False)
    with pytest.raises(UsageError, match="--kind and --name describe --data, which is not given"):
        lmtasks.evaluate("mean", "starter_stars_en", kind="regression", out=tmp_path / "x", progress=False)
    with pytest.raises(UsageError, match="svm cannot be adapted to 'starter_stars_en', a regression head"):
        lmtasks.adapt("svm", "starter_stars_en", out=tmp_path / "y", progress=False)
    with pytest.raises(UsageError, match=r"majority does not answer regression tasks: .*; mean, ridge and nearest do"):
        lmtasks.evaluate("majority", "starter_stars_en", out=tmp_path / "x", progress=False)


def test_a_head_is_not_trained_on_for_another_kind_under_its_name(tmp_path: Path, data: Path) -> None:
    small_model = "average:width=8,buckets=50"
    made = lmtasks.adapt(
        small_model, data=data, text="said", label="price", kind="regression", name="one", out=tmp_path / "a", epochs=1,
        progress=False,
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"the backbone has a head 'one' already, regression \(no labels\)"):
        lmtasks.adapt(
            made, data=data, text="said", label="about", kind="multi_label", name="one", out=tmp_path / "b", epochs=1,
            progress=False,
        )  # fmt: skip
    with pytest.raises(UsageError, match="a multi_label task cannot be answered by a regression head"):
        lmtasks.evaluate(
            made, data=data, text="said", label="about", kind="multi_label", name="one", out=tmp_path / "c",
            progress=False,
        )  # fmt: skip


@pytest.mark.parametrize(("kind", "label"), [("regression", "near"), ("multi_label", "about")])
def test_pairs_of_texts_are_read_together(tmp_path: Path, kind: str, label: str) -> None:
    """The second text alone tells what is right."""
    rows = [
        {"a": f"text {number}", "b": " and ".join(THINGS[: number % 4]) or "nothing", "near": float(number % 4)}
        for number in range(120)
    ]
    made = [{**row, "about": list(THINGS[: int(str(row["near"])[0])])} for row in rows]
    for split, part in (("train", made[:90]), ("test", made[90:])):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in part))
    own = {"data": tmp_path, "text": "a", "pair": "b", "label": label, "kind": kind, "name": "pairs"}
    model = lmtasks.adapt(
        "average:width=24,buckets=100",
        **own,  # type: ignore[arg-type]
        out=tmp_path / "model",
        epochs=30,
        learning_rate=0.02,
        patience=0,
        progress=False,
    )
    lmtasks.evaluate([model, "ridge" if kind == "regression" else "tfidf"], **own, out=tmp_path / "s", progress=False)  # type: ignore[arg-type]
    for place in (tmp_path / "s").glob("*/results.json"):
        metrics = json.loads(place.read_text())["results"]["pairs"]["metrics"]
        assert next(iter(metrics.values()))["value"] > 0.85, place
