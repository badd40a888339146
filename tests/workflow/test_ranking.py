"""Ranking goes the whole line: candidates that a row brings along, or that are drawn from other rows by a seed."""

import json
from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

import lmtasks
from lmtasks.data.splits import load_task_data
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.evaluation.baseline_fitted import Bm25
from lmtasks.head import HEADS
from lmtasks.records import HeadInput
from lmtasks.settings.data import DataAccess
from lmtasks.task.load import load_task
from lmtasks.task.task import Task

WORDS = ("apple", "river", "engine", "violin", "desert", "candle", "harbour", "pepper", "ladder", "meadow")
Rows = list[dict[str, object]]


def rows_of(count: int, *, start: int = 0) -> Rows:
    """The answer repeats the word of the question."""
    return [
        {"q": f"who has the {WORDS[n % 10]} number {n}", "a": f"i kept the {WORDS[n % 10]} of day {n}"}
        for n in range(start, start + count)
    ]


def written(folder: Path, rows: Rows, *, more: str, train: Rows | None = None) -> Path:
    for split, part in (("train", train or rows), ("test", rows)):
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in part))
    (folder / "task.yaml").write_text(
        "task: pick\nkind: ranking\ndataset_path: json\n"
        "dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}\n"
        f"training_split: train\ntest_split: test\n{more}"
    )
    return folder / "task.yaml"


DRAWN = (
    "inputs: {text: q, right: a, candidates: candidates}\ncandidates: {count: 5, seed: %d}\nmetrics: [recall_1, mrr]\n"
)
OWN = "inputs: {text: q, right: a, candidates: options}\nmetrics: [recall_1, mrr]\n"


def scored(task: Task, *, limit: int | None = None) -> Sequence[Mapping[str, object]]:
    data = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"test"}), limit=limit)
    assert data.test is not None
    return data.test.rows


def test_candidates_are_drawn_by_the_seed_from_other_rows(tmp_path: Path) -> None:
    file = written(tmp_path, rows_of(30), more=DRAWN % 1)
    rows = scored(load_task(file))
    texts = {str(row["a"]) for row in rows}
    places = set()
    for row in rows:
        candidates = row["candidates"]
        assert isinstance(candidates, list)
        assert len(set(candidates)) == 5
        assert set(candidates) <= texts
        places.add(candidates.index(row["a"]))
    assert len(places) == 5
    assert scored(load_task(file)) == rows
    assert scored(load_task(file), limit=7) == rows[:7]
    first, other = load_task(file), load_task(written(tmp_path, rows_of(30), more=DRAWN % 2))
    assert first.hash != other.hash
    assert [row["candidates"] for row in scored(other)] != [row["candidates"] for row in rows]


@pytest.mark.parametrize("drawn", [True, False])
def test_a_model_ranks_and_its_package_ranks_alike(tmp_path: Path, drawn: bool) -> None:
    train, test = rows_of(60), rows_of(30, start=60)
    if not drawn:
        for rows in (train, test):
            for number, row in enumerate(rows):
                row["options"] = [rows[(number + step) % len(rows)]["a"] for step in (3, 0, 7)]
                row["a"] = 1
    task = written(tmp_path, test, train=train, more=DRAWN % 3 if drawn else OWN)
    model = lmtasks.adapt(
        tiny_checkpoint(tmp_path / "bert", "bert"), task, out=tmp_path / "model", epochs=2, progress=False
    )
    package = lmtasks.export(model, out=tmp_path / "package", progress=False)
    assert json.loads((package.folder / "parity.json").read_text())["ok"] is True
    results = lmtasks.evaluate(
        [model, package, "bm25", "random", "classical"], task, out=tmp_path / "scores", progress=False
    )
    assert not results.failed
    values = {}
    for place in (tmp_path / "scores").glob("*/results.json"):
        metrics = json.loads(place.read_text())["results"]["pick"]["metrics"]
        values[place.parent.name] = metrics["recall_1"]["value"]
    assert values["bm25"] == values["classical"] > 0.8
    assert values["model"] == values["package"]
    row = scored(load_task(task))[0]
    asked = {column: row[column] for column in ("q", "candidates" if drawn else "options")}
    (answer,) = lmtasks.predict(package, [json.dumps(asked)], task, progress=False).answers
    assert answer in next(value for value in asked.values() if isinstance(value, list))


def test_a_causal_model_ranks_by_prompt_where_it_has_no_head(tmp_path: Path) -> None:
    task = written(tmp_path, rows_of(12), more=DRAWN % 1)
    results = lmtasks.evaluate(
        tiny_checkpoint(tmp_path / "llama", "llama"), task, num_fewshot=1, out=tmp_path / "scores", progress=False
    )
    assert not results.failed


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"options": ["x"], "a": 0}, r"row 1: 1 candidates are no choice; a row needs at least two"),
        (
            {"options": ["x", "y"], "a": 2},
            r"row 1: 'a' \(inputs.right\) must be one of the 2 candidates or a number from 0 to 1, was: '2'",
        ),
        ({"options": ["x", "y"], "a": "z"}, r"row 1: 'a' \(inputs.right\) must be one of the 2 candidates .* was: 'z'"),
        ({"options": "x", "a": 0}, r"row 1: 'options' \(inputs.candidates\) must be a list, was: 'x'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"q": "who", "options": ["x", "y"], "a": "y"}
    file = written(tmp_path, [good, {"q": "who", **row}, good], more=OWN)
    with pytest.raises(UsageError, match=message):
        lmtasks.evaluate("bm25", file, out=tmp_path / "out", progress=False)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5 candidates cannot be drawn, as 4 rows have 4 different right texts"):
        scored(load_task(written(tmp_path, rows_of(4), more=DRAWN % 1)))
    text = (tmp_path / "task.yaml").read_text().replace("ranking", "regression")
    (tmp_path / "task.yaml").write_text(
        text.replace("right: a, candidates: candidates}", "number: a}").replace("metrics: [recall_1, mrr]", "")
    )
    with pytest.raises(UsageError, match="candidates are those of a ranking, and a regression task has none"):
        load_task(tmp_path / "task.yaml")
    with pytest.raises(UsageError, match=r"write inputs: \{candidates: candidates\}"):
        load_task(written(tmp_path, rows_of(9), more=(DRAWN % 1).replace("candidates: candidates}", "candidates: c}")))


def test_a_long_text_loses_its_beginning(tmp_path: Path) -> None:
    tokenizer = learn_tokenizer("words:40", ["a b c d e f g h i j x y"])
    given = HeadInput(first="a b c d e f g h i j", candidates=("x y", "y"), label=0)
    encoded = HEADS["ranking"].encode(given, tokenizer=tokenizer, max_length=6)
    kept = [tokenizer.decode(row.ids).split() for row in encoded.rows]
    assert [row.truncated for row in encoded.rows] == [True, True]
    assert kept[0][-2:] == ["x", "y"]
    assert "j" in kept[0]
    assert "a" not in kept[0]
    assert all(len(row.ids) <= 6 for row in encoded.rows)
    assert [targets for _, targets in encoded.targets()] == [(1,), (0,)]


def test_bm25_is_the_formula_by_hand() -> None:
    """Robertson and Zaragoza 2009 with Lucene's idf: three texts, of which two have the word, of 2 words on average."""
    terms = Bm25(["red apple", "red pear tree", "blue"])
    rare = log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    found = terms.scores("red car", ["red apple", "apple"])
    assert found == pytest.approx([rare * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 2)), 0.0])
