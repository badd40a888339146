"""The answer begins behind the last think-end token, as lm-evaluation-harness 0.4.13 cuts it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_tasks import model, small_task, tokenizer

from lmtasks.engine.requests import Generated, GenerateRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.filtering import answer_after, check_thinking
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.samples import KeptSamples
from lmtasks.evaluation.write import read_results, write_results
from lmtasks.settings.data import DataAccess
from lmtasks.workflow.rescore import Rescoring, rescore

END = "</think>"
STOP = 'generation_kwargs: {max_gen_toks: 50, until: ["\\n\\n"]}'


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("One.\n\nTwo.</think>\n\n 4 \n\nNext", "4 "),  # the first blank line stands in a thought
        ("a</think>b</think>c", "c"),
        ("no end at all\n\nrest", "no end at all"),
        ("  \n4", "4"),
        ("thought</think>", ""),
        ("", ""),
    ],
)
def test_behind(text: str, answer: str) -> None:
    assert answer_after(text, token=END, stops=("\n\n",)) == answer


def answered(
    folder: Path, texts: Sequence[Generated], monkeypatch: pytest.MonkeyPatch, *, token: str, more: str = ""
) -> tuple[TaskResult, list[GenerateRequest]]:
    """A task answered by these texts, as many as there are."""
    solver = model(max_length=200)
    asked: list[GenerateRequest] = []

    def generate(self: object, requests: Sequence[GenerateRequest], **options: Any) -> list[Generated]:
        asked.extend(requests)
        return list(texts)

    monkeypatch.setattr(type(solver.engine), "generate", generate)
    task = small_task(folder, "generation", more=f"{STOP}\n{more}")
    options = EvalOptions(data=DataAccess(offline=True), resamples=10, limit=len(texts), think_end_token=token)
    (result,) = evaluate(solver=solver, tasks=[task], options=options)
    write_results(folder / "out", results=[result], model=solver.model, runtime=solver.card, machine={}, versions={})
    return result, asked


def written(text: str) -> Generated:
    return Generated(ids=(), text=text, stopped="end")


def test_thoughts_are_kept_and_not_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [written("A dog?\n\nNo.</think>\n\nA cat.\n\nMore"), written("A cat."), written("A dog")]
    result, asked = answered(tmp_path, texts, monkeypatch, token=END)
    assert [sample["answer"] for sample in result.samples] == ["A cat.", "A cat.", "A dog"]
    assert result.samples[0]["raw"] == texts[0].text
    assert result.metrics["exact_match"].value == pytest.approx(2 / 3)
    assert {request.settings.stop for request in asked} == {()}  # a thought may hold it
    decoding = result.conditions["decoding"]
    assert isinstance(decoding, dict)
    assert (decoding["think_end_token"], tuple(decoding["stop"])) == (END, ("\n\n",))
    (note,) = result.notes
    assert note.endswith("so that all of it is the answer (true of 2 of 3 examples).")


def test_answers_are_scored_again_behind_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [written("A dog.</think> (A cat.)\n\nA dog."), written("hm</think> (A dog.)")]
    answered(tmp_path, texts, monkeypatch, token=END)
    in_brackets = (
        "filter_list: [{name: inner, filter: [{function: regex, regex_pattern: '\\((.*)\\)'}, {function: take_first}]}]"
    )
    task = small_task(tmp_path, "generation", more=f"{STOP}\n{in_brackets}")
    kept = KeptSamples()
    (again,) = rescore(read_results(tmp_path / "out"), Rescoring(tasks=[task]), samples=kept)
    assert [sample["answer"] for sample in kept.of["generation"]] == ["A cat.", "A dog."]
    assert again.metrics["exact_match"].value == 0.5
    assert again.notes == ()


def test_a_special_token_and_the_number_of_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = tokenizer()
    special = known.decode([known.eos], skip_special=False) if known.eos is not None else ""
    thought, answer = tuple(known.encode("the dog")), tuple(known.encode(" the cat"))
    ids = (*thought, known.eos, *answer)
    text = Generated(ids=tuple(map(int, ids)), text="the dog the cat", stopped="end")
    for token in (special, str(known.eos)):
        result, _ = answered(tmp_path, [text], monkeypatch, token=token)
        assert result.samples[0]["answer"] == "the cat"
        assert result.samples[0]["raw"] == f"the dog{special} the cat"
        assert result.notes == ()
    with pytest.raises(UsageError, match="--think-end-token 999999 is the number of no token"):
        answered(tmp_path, [text], monkeypatch, token="999999")


def test_what_would_score_thoughts_or_change_nothing_is_refused(tmp_path: Path) -> None:
    writes, chooses = small_task(tmp_path, "generation"), small_task(tmp_path, "multiple_choice")
    with pytest.raises(UsageError, match="changes nothing: no text is written for multiple_choice"):
        check_thinking([chooses], token=END, settings={})
    with pytest.raises(UsageError, match="its thoughts would be scored"):
        check_thinking([writes], token="", settings={"enable_thinking": True})
    check_thinking([writes, chooses], token=END, settings={"enable_thinking": True})
    check_thinking([writes], token="", settings={"enable_thinking": False})
