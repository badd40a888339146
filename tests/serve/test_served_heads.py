"""Heads and vectors over HTTP: what `lmtasks predict` and the engine answer."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from asker import Start
from packed import model_folder, native_folder, package
from tiny import tiny_checkpoint

from lmtasks.head import head_of
from lmtasks.records import HeadInput
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.open_model import open_engine
from lmtasks.workflow.predict import PredictRequest, open_predictor

TEXTS = ("the cat sat on the mat", "a good film", "今天天气很好", '{"a": 1}')


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "classifier", "bert-classifier")


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_all_heads_of_a_model_answer_a_row_at_once(start: Start, kind: str) -> None:
    folder = model_folder("llama") if kind == "torch" else package("llama")
    with start(folder) as ask:
        asked = {"rows": list(TEXTS), "tasks": ["mood", "topic"]}
        told = ask("/predict", asked).json
        assert (told["object"], [each["index"] for each in told["data"]]) == ("list", [0, 1, 2, 3])
        for name in ("mood", "topic"):
            alone = ask("/predict", {**asked, "tasks": [name]}).json["data"]
            assert [each["answers"][name]["answer"] for each in told["data"]] == [
                each["answers"][name]["answer"] for each in alone
            ]
        for each in told["data"]:
            shares = each["answers"]["mood"]["probabilities"]
            assert set(shares) == {"bad", "fair", "good"}
            assert sum(shares.values()) == pytest.approx(1)
            assert max(shares, key=shares.__getitem__) == each["answers"]["mood"]["answer"]
            assert each["truncated"] is False
        tags = ask("/predict", {"rows": ["the cat sat"], "tasks": ["tag"]}).json["data"][0]["answers"]["tag"]
        assert tags["words"] == ["the", "cat", "sat"]
        assert len(tags["tags"]) == 3
        assert set(tags["tags"]) <= {"O", "B", "I"}
        pair = {"context": "the cat sat on the mat", "question": "who sat?"}
        found = ask("/predict", {"rows": [pair], "tasks": ["find"]}).json["data"][0]["answers"]["find"]["answer"]
        assert found in pair["context"]
        long = ask("/predict", {"rows": ["the cat " * 60, "a"], "tasks": ["mood"]}).json["data"]
        assert [each["truncated"] for each in long] == [True, False]


def test_answers_are_those_of_predict(start: Start, classifier: Path) -> None:
    request = PredictRequest(model=str(classifier), tasks=TaskRequest(tasks="starter_sentiment_en"))
    with open_predictor(request) as predictor:
        expected = predictor.answer(TEXTS[:3])
    with start(classifier) as ask:
        assert ask.server.example.count("/predict")
        told = ask("/predict", {"rows": list(TEXTS[:3])}).json["data"]
        (name,) = told[0]["answers"]
        assert [each["answers"][name]["answer"] for each in told] == list(expected.answers)
        for each, shares in zip(told, expected.probabilities, strict=True):
            assert shares is not None
            assert each["answers"][name]["probabilities"] == pytest.approx(dict(shares), abs=1e-5)
        assert ask("/v1/completions", {"prompt": "a"}).error["message"].startswith("classifier writes no texts")

        def labels(text: str) -> object:
            return ask("/predict", {"rows": [text]}).json["data"][0]["answers"][name]["answer"]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(labels, [*TEXTS[:3]] * 8)) == list(expected.answers) * 8


def test_rows_that_do_not_fit_are_told(start: Start) -> None:
    with start(model_folder("llama")) as ask:
        missing = ask("/predict", {"rows": ["a", {"words": "b"}], "tasks": ["mood"]})
        assert (missing.status, missing.error["param"]) == (400, "rows")
        assert missing.error["message"].startswith("row 1: task mood reads text; text is missing")
        assert "must be an object with question, context" in ask("/predict", {"rows": ["a"], "tasks": ["find"]}).error["message"]  # fmt: skip  # noqa: E501
        unknown = ask("/predict", {"rows": ["a"], "tasks": ["moot"]})
        assert "did you mean 'mood'" in unknown.error["message"]
        assert ask("/predict", {"rows": []}).status == 400


def test_a_model_without_a_graph_answers_too(start: Start) -> None:
    with start(native_folder()) as ask:
        told = ask("/predict", {"rows": ["the cat sat"]}).json["data"][0]["answers"]
        (answer,) = told.values()
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        scored = ask("/v1/completions", {"prompt": "the cat sat", "max_tokens": 2, "echo": True, "logprobs": 1})
        assert scored.status == 200, scored.body


def test_vectors_are_the_models_own_states(start: Start) -> None:
    folder = model_folder("llama")
    with open_engine(folder) as engine, start(folder) as ask:
        spec = engine.model.vectors
        assert spec is not None
        rows = [
            head_of(spec).encode(HeadInput(first=text), tokenizer=engine.tokenizer, max_length=64, causal=True).rows[0]
            for text in TEXTS[:3]
        ]
        expected = np.stack(engine.predict(spec.name, rows))
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        told = ask("/v1/embeddings", {"input": list(TEXTS[:3])}).json
        assert set(told) == {"object", "data", "model", "usage"}
        assert np.allclose([each["embedding"] for each in told["data"]], expected, atol=1e-5)
        coded = ask("/v1/embeddings", {"input": list(TEXTS[:3]), "encoding_format": "base64"}).json["data"]
        decoded = [np.frombuffer(base64.b64decode(each["embedding"]), dtype="<f4") for each in coded]
        assert np.allclose(np.stack(decoded), expected, atol=1e-5)
        by_ids = ask("/v1/embeddings", {"input": [list(row.ids) for row in rows]}).json["data"]
        assert np.allclose([each["embedding"] for each in by_ids], expected, atol=1e-5)
