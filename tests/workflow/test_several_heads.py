"""Several heads answer from one pass: what a request is about and what each of its words says, read once."""

import json
from pathlib import Path

import pytest
from said import Say

import lmtasks
from lmtasks.model.model import Model
from lmtasks.runtime.onnx.graphs import Graphs
from lmtasks.settings.data import DataAccess
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.export import proof_texts
from lmtasks.workflow.predict import PredictRequest, open_predictor

INTENT = """task: about
kind: classification
language: en
dataset_path: json
dataset_kwargs: {data_files: {train: rows.jsonl, test: rows.jsonl}}
training_split: train
test_split: test
inputs: {text: text, label: intent}
labels: [fly, eat]
doc_to_text: "{{text}}"
"""
SLOTS = """task: places
kind: tagging
language: en
dataset_path: json
dataset_kwargs: {data_files: {train: rows.jsonl, test: rows.jsonl}}
training_split: train
test_split: test
inputs: {tokens: tokens, tags: slots}
labels: [O, B-city, I-city]
"""
CITIES = ("rome", "york", "san jose", "lima")
ROWS = [
    {
        "text": f"{verb} in {city}",
        "tokens": f"{verb} in {city}".split(),
        "intent": verb,
        "slots": ["O", "O", "B-city", *["I-city"] * city.count(" ")],
    }
    for verb in ("fly", "eat")
    for city in CITIES
] * 8
TEXTS = ["fly in san jose", "eat in rome", "eat in san jose"]
ANSWERS = [
    {"about": "fly", "places": "O O B-city I-city"},
    {"about": "eat", "places": "O O B-city"},
    {"about": "eat", "places": "O O B-city I-city"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with both heads, and its package."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "about.yaml").write_text(INTENT)
    (folder / "places.yaml").write_text(SLOTS)
    tasks = [folder / "about.yaml", folder / "places.yaml"]
    lmtasks.adapt(
        "bilstm:width=16,dropout=0", tasks, out=folder / "model", tokenizer="blanks:50", epochs=60, learning_rate=0.03,
        tokens_per_batch=64, patience=0, progress=False,
    )  # fmt: skip
    lmtasks.export(folder / "model", tasks, out=folder / "package", progress=False)
    return folder


def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each time that a backbone reads a batch, in torch or in a graph of heads."""
    found: list[str] = []
    encode, ask = Model.encode, Graphs.ask

    def counted_encode(self, *given, **options):  # type: ignore[no-untyped-def]
        found.append("torch")
        return encode(self, *given, **options)

    def counted_ask(self, graph, given, outputs):  # type: ignore[no-untyped-def]
        found.append(f"{graph}: {', '.join(outputs)}")
        return ask(self, graph, given, outputs)

    monkeypatch.setattr(Model, "encode", counted_encode)
    monkeypatch.setattr(Graphs, "ask", counted_ask)
    return found


@pytest.mark.parametrize(
    ("model", "once"), [("model", ["torch"]), ("package", ["heads: head.about, head.places"])], ids=["torch", "onnx"]
)
def test_the_backbone_reads_a_text_once_for_all_heads(
    model: str, once: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = f"{folder / 'about.yaml'},{folder / 'places.yaml'}"
    with open_predictor(PredictRequest(model=str(folder / model), tasks=TaskRequest(tasks=tasks))) as predictor:
        found = passes(monkeypatch)
        answered = predictor.answer(TEXTS)
        assert found == once
        assert [json.loads(answer) for answer in answered.answers] == ANSWERS
        found.clear()
        alone = {}
        for task in ("about", "places"):
            one = PredictRequest(model=str(folder / model), tasks=TaskRequest(tasks=str(folder / f"{task}.yaml")))
            with open_predictor(one) as single:
                alone[task] = single.answer(TEXTS).answers
        assert len(found) == 2
        assert answered.tasks == alone


def test_one_command_and_one_call_answer_both(say: Say, folder: Path) -> None:
    tasks = [folder / "about.yaml", folder / "places.yaml"]
    for model in ("model", "package"):
        told = say("predict", "--model", folder / model, "--tasks", f"{tasks[0]},{tasks[1]}", TEXTS[0])
        assert told.code == 0, told.err
        assert json.loads(told.out) == ANSWERS[0]
        with lmtasks.load_model(folder / model) as loaded:
            found = loaded.predict(TEXTS, tasks, progress=False)
            assert found.tasks == {name: tuple(each[name] for each in ANSWERS) for name in ("about", "places")}
            assert found.records()[0] == {"text": TEXTS[0], **ANSWERS[0]}
            one = loaded.predict(TEXTS, tasks[0], progress=False)
            assert one.answers == tuple(each["about"] for each in ANSWERS)
            assert one.records()[0] == {"text": TEXTS[0], "answer": "fly"}
    unsaid = say("predict", "--model", folder / "model", TEXTS[0])
    assert "say with --tasks what model is to answer, one or several; its heads: about,places." in unsaid.err


def test_scores_are_those_of_each_task_by_itself(say: Say, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks of one `eval` share a pass over rows that they all read, with and without kept answers."""
    both = f"{folder / 'about.yaml'},{folder / 'places.yaml'}"
    found = passes(monkeypatch)
    for out, tasks in (("both", both), ("about", both.split(",")[0]), ("places", both.split(",")[1])):
        for cache in ("off", folder / "answers.sqlite"):
            place = folder / f"{out}-{'off' if cache == 'off' else 'kept'}"
            told = say("eval", "--model", folder / "package", "--tasks", tasks, "--out", place, "--cache", cache)
            assert told.code == 0, told.err
        if out == "both":
            assert found == ["heads: head.about, head.places"] * 2
    results = {path.name: json.loads((path / "results.json").read_text())["results"] for path in folder.glob("*-*")}
    for name in ("about", "places"):
        for kept in ("off", "kept"):
            assert results[f"both-{kept}"][name]["metrics"] == results[f"{name}-{kept}"][name]["metrics"]


def test_an_export_is_proved_on_the_words_of_a_task_that_tags_them(folder: Path) -> None:
    task = lmtasks.load_task(folder / "places.yaml")
    assert proof_texts([task], DataAccess())[0] in {"eat in san jose", "fly in san jose"}
