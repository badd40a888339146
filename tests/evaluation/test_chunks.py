"""Tasks that stream through one engine together: the same numbers whatever the chunk, and failures of one alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_runtime import FakeRuntime
from small_tasks import TASKS, TEXTS, model, small_task, tokenizer

from lmtasks.data.continuation import rolling_windows
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import Generated, GenerateRequest, Scored, ScoreRequest
from lmtasks.errors import LmtasksError, NoNumberError, UsageError, WorkError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.prepare import EvalOptions, scored_examples
from lmtasks.evaluation.processes import Processes
from lmtasks.evaluation.protocols import Replies
from lmtasks.evaluation.rolling import _Windows
from lmtasks.evaluation.stream import ask_apart
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task

OPTIONS = EvalOptions(data=DataAccess(offline=True), resamples=20)


def together(solver: EngineSolver, tasks: Sequence[Task], *, chunk: int = 10_000) -> dict[str, TaskResult]:
    return {result.task: result for result in evaluate(solver=solver, tasks=tasks, options=OPTIONS, chunk=chunk)}


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
def test_the_chunk_changes_nothing(kind: str, tmp_path: Path) -> None:
    tasks = [small_task(tmp_path, name) for name in TASKS]
    tasks.append(small_task(tmp_path, "language_modelling", more="windows: {stride: 3, concatenate: true}"))
    tasks[-1] = replace(tasks[-1], name="joined")
    whole = together(model(kind=kind, max_length=64), tasks)
    cut = together(model(kind=kind, max_length=64), tasks, chunk=7)
    assert list(whole) == list(cut) == [task.name for task in tasks]
    for name, result in whole.items():
        assert [each["answer"] for each in result.samples] == [each["answer"] for each in cut[name].samples]
        assert [each["doc_id"] for each in result.samples] == list(range(result.n))
        for metric, table in result.statistics.items():
            np.testing.assert_allclose(cut[name].statistics[metric], table, atol=1e-4, err_msg=f"{name} {metric}")


class Broken(Engine):
    """Says that one request is not a number."""

    def score(self, requests: Sequence[ScoreRequest], **options: object) -> list[Scored]:  # type: ignore[override]
        found = super().score(requests)
        wrong = tuple(tokenizer().encode(" ran off fast"))
        return [
            replace(each, logprob=float("nan")) if request.target_ids[-len(wrong) :] == wrong else each
            for each, request in zip(found, requests, strict=True)
        ]


def test_a_task_whose_numbers_are_none_fails_alone_and_names_the_row(tmp_path: Path) -> None:
    tasks = [small_task(tmp_path, name) for name in ("multiple_choice", "last_words", "classification")]
    runtime = FakeRuntime(vocabulary=tokenizer().vocabulary, start=tokenizer().pad)
    failed: dict[str, LmtasksError] = {}
    results = evaluate(
        solver=EngineSolver(Broken(runtime, tokenizer())), tasks=tasks, options=OPTIONS,
        on_failure=failed.__setitem__,
    )  # fmt: skip
    assert [result.task for result in results] == ["last_words", "classification"]
    assert str(failed["multiple_choice"]).startswith("task multiple_choice, row 0: the model's answer is nan")
    with pytest.raises(WorkError, match="multiple_choice, row 0"):
        evaluate(solver=EngineSolver(Broken(runtime, tokenizer())), tasks=tasks, options=OPTIONS)


class Spoilt(Engine):
    """No row of a batch has numbers where one reads "the mat do" or "The on": NaN passes through shared products."""

    def score(self, requests: Sequence[ScoreRequest], **options: object) -> list[Scored]:  # type: ignore[override]
        found = super().score(requests)
        spoilt = any("the mat do" in tokenizer().decode(request.context_ids) for request in requests)
        return [replace(each, logprob=float("nan")) for each in found] if spoilt else found

    def generate(self, requests: Sequence[GenerateRequest], **options: object) -> list[Generated]:  # type: ignore[override]
        if any("The on" in tokenizer().decode(request.prompt_ids) for request in requests):
            raise NoNumberError("the scores are not numbers.")
        return super().generate(requests)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("multiple_choice", "task multiple_choice, row 5: the model's answer is nan"),
        ("generation", "task generation, row 3: the scores are not numbers."),
    ],
)
def test_the_row_at_fault_is_named_and_its_neighbours_keep_their_numbers(name: str, said: str, tmp_path: Path) -> None:
    tasks = [small_task(tmp_path, each) for each in ("last_words", name, "classification")]
    runtime = FakeRuntime(vocabulary=tokenizer().vocabulary, max_length=64, start=tokenizer().pad)
    failed: dict[str, LmtasksError] = {}
    results = evaluate(
        solver=EngineSolver(Spoilt(runtime, tokenizer())), tasks=tasks, options=OPTIONS,
        on_failure=failed.__setitem__,
    )  # fmt: skip
    assert [result.task for result in results] == ["last_words", "classification"]
    assert str(failed[name]).startswith(said)
    whole = together(model(), tasks)
    for result in results:
        for metric, table in result.statistics.items():
            np.testing.assert_allclose(whole[result.task].statistics[metric], table, atol=1e-4)


def test_a_model_without_numbers_is_not_asked_about_every_row() -> None:
    asked: list[int] = []
    wrong = Replies(logits=[np.array([np.inf], dtype=np.float32)])

    def ask(places: Sequence[int]) -> list[Replies]:
        asked.extend(places)
        return [wrong for _ in places]

    assert ask_apart([wrong] * 1000, owners=["a"] * 1000, ask=ask) == [wrong] * 1000
    assert asked == [0]


def test_a_request_that_no_engine_takes_fails_its_own_task_only(tmp_path: Path) -> None:
    tasks = [small_task(tmp_path, "generation", more=""), small_task(tmp_path, "classification")]
    tasks[0] = replace(tasks[0], generation=replace(tasks[0].generation, max_new_tokens=500))
    failed: dict[str, LmtasksError] = {}
    results = evaluate(solver=model(), tasks=tasks, options=OPTIONS, on_failure=failed.__setitem__)
    assert [result.task for result in results] == ["classification"]
    assert "task generation: max_new_tokens is 500, but fake takes 64 tokens" in str(failed["generation"])


def test_a_choice_of_no_tokens_is_named(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice", more='target_delimiter: ""')
    asked = replace(task.templates.asked, choices=("sat", "", "sang"))
    task = replace(task, templates=replace(task.templates, asked=asked))
    with pytest.raises(UsageError, match=r"task multiple_choice, row 0: the choice '' has no tokens"):
        together(model(), [task])


def test_an_empty_pool_is_named(tmp_path: Path) -> None:
    task = replace(small_task(tmp_path, "multiple_choice"), shots=None, num_fewshot=2)
    with pytest.raises(UsageError, match="multiple_choice has no rows for worked examples"):
        together(model(), [task])


def test_a_pool_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice")
    (tmp_path / "multiple_choice-train.jsonl").write_text("", encoding="utf-8")
    said = r"task multiple_choice has no rows for worked examples \(split 'train' of .* is empty.*\); name a fewshot_s"
    with pytest.raises(UsageError, match=said):
        together(model(), [replace(task, num_fewshot=2)])


def test_processes_divide_the_rows(tmp_path: Path) -> None:
    task = small_task(tmp_path, "language_modelling")
    rows = TASKS["language_modelling"][0]["test"]
    parts = [list(scored_examples(task, rows, processes=Processes(rank=rank, count=3))) for rank in range(3)]
    assert [[each.doc_id for each in part] for part in parts] == [[0, 3], [1], [2]]
    assert all(each.row == rows[each.doc_id] for part in parts for each in part)


@pytest.mark.parametrize("longest", [1, 4, 7])
@pytest.mark.parametrize("size", [0, 1, 4, 5, 10, 29])
@pytest.mark.parametrize("step", [1, 3, 100])
def test_windows_over_a_stream_are_those_over_the_whole(longest: int, size: int, step: int) -> None:
    ids = list(range(100, 100 + size))
    for context in range(1, longest + 1):
        windows = _Windows(prefix=-1, longest=longest, context=context)
        found = [window for at in range(0, size, step) for window in windows.add(ids[at : at + step], last=False)]
        found += windows.add((), last=True)
        assert tuple(found) == rolling_windows(ids, prefix=-1, max_length=longest, context=context)


def test_rows_as_one_text_have_the_numbers_of_one_text(tmp_path: Path) -> None:
    task = small_task(tmp_path, "language_modelling", more="windows: {stride: 4, concatenate: true}")
    solver = model(max_length=8)
    result = together(solver, [task])["language_modelling"]
    texts = [str(row["text"]) for row in TEXTS]
    between = tokenizer().encode("\n\n")
    ids = tokenizer().encode(texts[0]) + [
        token for text in texts[1:] for token in [*between, *tokenizer().encode(text)]
    ]
    windows = rolling_windows(ids, prefix=tokenizer().bos or 0, max_length=8, context=5)
    requests = [ScoreRequest(context_ids=each.context_ids, target_ids=each.target_ids) for each in windows]
    total = sum(each.logprob for each in solver.engine.score(requests, on_progress=None))
    assert sum(float(str(sample["raw"])) for sample in result.samples) == pytest.approx(total, rel=1e-5)
    assert result.metrics["token_perplexity"].value == pytest.approx(np.exp(-total / len(ids)), rel=1e-5)
    assert [sample["doc"] for sample in result.samples] == list(TEXTS)
    with pytest.raises(UsageError, match=r"windows.stride\), but fake reads 3"):
        together(model(max_length=3), [task])
