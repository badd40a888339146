"""Every kind of task, answered in every way, over the fake runtime."""

from pathlib import Path

import numpy as np
import pytest
from small_tasks import REVIEWS, TASKS, model, scored, small_task, tokenizer

from lmtasks.errors import UsageError
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.prepare import EvalOptions, shot_count
from lmtasks.records import HeadSpec, Progress
from lmtasks.results.base import plain
from lmtasks.settings.data import DataAccess

MOOD = HeadSpec(name="classification", kind="classification", labels=("bad", "good"))
ANSWER = HeadSpec(name="span", kind="span")


def same_scores(one: TaskResult, other: TaskResult) -> None:
    assert one.conditions == other.conditions
    assert [each["answer"] for each in one.samples] == [each["answer"] for each in other.samples]
    for name, table in one.statistics.items():
        np.testing.assert_allclose(other.statistics[name], table, atol=1e-4)


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
@pytest.mark.parametrize("name", TASKS)
def test_every_kind_is_answered_by_prompt_whatever_the_batch(name: str, kind: str, tmp_path: Path) -> None:
    task = small_task(tmp_path, name)
    result = scored(model(kind=kind), task)
    assert result.conditions["prompt_way"] == "prompt"
    assert result.n == len(TASKS[name][0]["test"]) == len(result.samples)
    assert list(result.metrics) == [use.name for use in task.metrics]
    assert all(len(table) == result.n for table in result.statistics.values())
    assert (result.conditions["decoding"] is not None) == (task.output_type == "generate_until")
    same_scores(result, scored(model(kind=kind, rows=1), task))


@pytest.mark.parametrize("head", [MOOD, ANSWER], ids=["classification", "span"])
@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_heads_answer_whatever_the_batch(head: HeadSpec, kind: str, tmp_path: Path) -> None:
    task = small_task(tmp_path, head.name)
    result = scored(model(head, kind=kind), task)
    assert result.conditions["prompt_way"] == "head"
    assert result.conditions["decoding"] is None
    same_scores(result, scored(model(head, kind=kind, rows=1), task))


def test_a_head_reads_the_text_and_answers_in_the_tasks_order(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    straight = scored(model(MOOD), task)
    turned = scored(model(HeadSpec(name=MOOD.name, kind=MOOD.kind, labels=("good", "bad"))), task)
    sample = straight.samples[0]
    assert (sample["prompt"], sample["target"]) == ("the was bad", "bad")
    assert sample["answer"] in ("bad", "good")
    # The same weights with the labels turned round: every answer turns round.
    assert all(a["answer"] != b["answer"] for a, b in zip(straight.samples, turned.samples, strict=True))
    assert straight.metrics["acc"].value + turned.metrics["acc"].value == pytest.approx(1.0)


def test_spans_stand_in_the_context(tmp_path: Path) -> None:
    result = scored(model(ANSWER, max_length=32), small_task(tmp_path, "span"))
    for sample, (_, rows) in zip(result.samples, [("", row) for row in TASKS["span"][0]["test"]], strict=True):
        assert str(sample["answer"]) in str(rows["context"])
    assert result.samples[1]["target"] == []  # the dog has no answer


def test_the_word_for_no_answer_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = small_task(tmp_path, "span")
    solver = model()
    monkeypatch.setattr(type(tokenizer()), "decode", lambda self, ids, skip_special=True: " none")
    result = scored(solver, task)
    assert {sample["answer"] for sample in result.samples} == {""}
    assert {sample["raw"] for sample in result.samples} == {" none"}
    assert result.metrics["squad_em"].value == 0.25


def test_choices_are_scored_behind_the_delimiter(tmp_path: Path) -> None:
    from lmtasks.engine.engine import Engine
    from lmtasks.engine.requests import ScoreRequest

    solver = model()
    result = scored(solver, small_task(tmp_path, "multiple_choice"))
    engine = solver._engine
    assert isinstance(engine, Engine)
    context, whole = (tokenizer().encode(text) for text in ("What did the the do?", "What did the the do? sat"))
    request = ScoreRequest(context_ids=tuple(context), target_ids=tuple(whole[len(context) :]))
    raw = result.samples[0]["raw"]
    assert isinstance(raw, list)
    assert raw[0] == pytest.approx(engine.score([request])[0].logprob, abs=1e-5)


def test_perplexity_is_that_of_all_tokens(tmp_path: Path) -> None:
    result = scored(model(max_length=8), small_task(tmp_path, "language_modelling"))
    long = scored(model(), small_task(tmp_path, "language_modelling"))
    tokens = [len(tokenizer().encode(str(row["text"]))) for row in TASKS["language_modelling"][0]["test"]]
    total = sum(float(str(sample["raw"])) for sample in result.samples)
    assert result.metrics["token_perplexity"].value == pytest.approx(np.exp(-total / sum(tokens)))
    assert result.truncated == 0
    assert long.samples[0]["raw"] == pytest.approx(result.samples[0]["raw"], abs=1e-5)  # fits one window
    assert long.samples[-1]["raw"] != pytest.approx(result.samples[-1]["raw"], abs=1e-2)


def test_a_trained_generation_head_is_asked_without_examples_and_stripped(tmp_path: Path) -> None:
    task = small_task(tmp_path, "generation", more="num_fewshot: 1")
    head = HeadSpec(name="generation", kind="generation")
    result = scored(model(head), task)
    assert (result.conditions["prompt_way"], result.conditions["num_fewshot"]) == ("head", 0)
    assert all(str(sample["answer"]) == str(sample["raw"]).strip() for sample in result.samples)
    prompted = scored(model(head), task, way="prompt")
    assert (prompted.conditions["prompt_way"], prompted.conditions["num_fewshot"]) == ("prompt", 1)
    assert all(sample["answer"] == sample["raw"] for sample in prompted.samples)


def test_worked_examples_stand_before_the_question(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    result = scored(model(max_length=200), task, shots=2)
    assert result.conditions["shots_fingerprint"] is not None
    for sample in result.samples:
        assert str(sample["prompt"]).count("What did") == 3
    assert shot_count(task, "head", requested=3) == 0
    zero = small_task(tmp_path, "multiple_choice", more="num_fewshot: 0")
    assert shot_count(zero, "prompt", requested=3) == 0


@pytest.mark.parametrize("name", ["classification", "generation", "multiple_choice"])
def test_a_limit_is_a_prefix(name: str, tmp_path: Path) -> None:
    task = small_task(tmp_path, name)
    whole, part = scored(model(), task), scored(model(), task, limit=3)
    assert part.n == 3
    assert [each["answer"] for each in part.samples] == [each["answer"] for each in whole.samples[:3]]


@pytest.mark.parametrize(
    ("name", "head"), [("classification", MOOD), ("classification", None), ("generation", None), ("last_words", None)]
)
def test_what_is_cut_off_is_counted(name: str, head: HeadSpec | None, tmp_path: Path) -> None:
    task = small_task(tmp_path, name)
    heads = () if head is None else (head,)
    assert scored(model(*heads, max_length=8), task).truncated > 0
    assert scored(model(*heads, max_length=200), task).truncated == 0


def test_samples_hold_everything(tmp_path: Path) -> None:
    result = scored(model(), small_task(tmp_path, "classification"))
    sample = result.samples[3]
    assert list(sample) == ["doc_id", "doc", "prompt", "target", "raw", "answer", "metrics", "hash", "outcome"]
    assert sample["doc"] == REVIEWS["test"][3]
    assert sample["doc_id"] == 3
    assert isinstance(sample["metrics"], dict)
    assert sample["metrics"]["acc"] == float(sample["answer"] == sample["target"])
    asked = [(each["doc"], each["hash"]) for each in result.samples]
    assert all((a == c) == (b == d) for a, b in asked for c, d in asked)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    evaluate(
        solver=model(MOOD),
        tasks=[small_task(tmp_path, "classification")],
        options=EvalOptions(data=DataAccess(offline=True)),
        on_progress=told.append,
        keep_samples=False,
    )
    assert (told[0].stage, told[0].done, told[-1].done, told[-1].total) == ("classification", 0, 20, 20)


def test_all_tasks_are_checked_before_the_first_is_answered(tmp_path: Path) -> None:
    told: list[Progress] = []
    good = small_task(tmp_path, "translation")
    bad = small_task(tmp_path, "summarization", more="metrics: [macro_f1]")
    with pytest.raises(UsageError, match=r"task summarization: macro_f1 scores choice or labels, not text"):
        evaluate(solver=model(), tasks=[good, bad], options=EvalOptions(), on_progress=told.append)
    assert told == []


def test_json_holds_anything() -> None:
    assert plain({"a": (1, 2.5, float("-inf")), 3: b"x", "n": None}) == {"a": [1, 2.5, "-inf"], "3": "b'x'", "n": None}
