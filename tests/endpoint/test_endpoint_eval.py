"""A server through `evaluate`: kept answers, letters, examples without an answer, and who is verified."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from toy_server import Handler, Toy, serving

import lmtasks
from lmtasks.endpoint import client as client_module
from lmtasks.errors import UsageError, WorkError
from lmtasks.results.cell import CellRecord
from lmtasks.results.scores import ResultsRecord
from lmtasks.run.plan import load_plan
from lmtasks.run.run_plan import RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

QUICK = lmtasks.Endpoint(retries=1, request_timeout=20)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.002)


def scored(
    address: str, out: Path, tasks: str = "starter_sentiment_en", *, limit: int = 20, server: lmtasks.Endpoint = QUICK
) -> ResultsRecord:
    lmtasks.evaluate(
        address,
        tasks.split(","),
        limit=limit,
        server=server,
        cache=out / "kept.sqlite",
        out=out / "scores",
        overwrite=True,
    )
    return ResultsRecord.read(out / "scores" / "results.json")


def test_answers_are_kept_and_nobody_is_verified(tmp_path: Path) -> None:
    toy = Toy()
    with serving(toy) as address:
        first = scored(address, tmp_path)
        asked = toy.answered
        again = scored(address, tmp_path)
    result = first.results["starter_sentiment_en"]
    assert result.cached == 0
    assert again.results["starter_sentiment_en"].cached == 40
    assert toy.answered - asked < 12  # the probe alone
    assert any("nobody has verified it" in note for note in result.notes)
    assert first.runtime.runtime == "endpoint"
    assert first.runtime.options["address"] == address
    assert result.metrics["acc"] == again.results["starter_sentiment_en"].metrics["acc"]
    page = lmtasks.report(tmp_path / "scores", out=tmp_path / "page")
    assert "nobody has verified it" in page.page.read_text(encoding="utf-8")


def test_without_log_probabilities_choices_are_letters(tmp_path: Path) -> None:
    toy = Toy(echo=False)
    with serving(toy) as address:
        result = scored(address, tmp_path).results["starter_sentiment_en"]
    assert list(result.metrics) == ["acc_letters"]
    assert result.conditions["decoding"]["asked_as"] == "letters"
    prompts = [json.loads(body).get("prompt", "") for body in toy.asked]
    assert any("\nA. " in each and each.endswith("Answer with one letter (A-B).") for each in prompts)


def test_chats_alone_are_asked_by_the_servers_own_template(tmp_path: Path) -> None:
    toy = Toy(completions=False)
    with serving(toy) as address:
        result = scored(address, tmp_path, "starter_qa_en", limit=5).results["starter_qa_en"]
    assert result.n == 5
    assert result.conditions["chat"]["template"] == "the server's own"
    assert any("messages" in json.loads(body) and "starter" not in body for body in toy.asked)


def test_a_task_that_the_server_cannot_answer_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    toy = Toy()
    with serving(toy) as address:
        with pytest.raises(UsageError, match="tokenizer is not known; give its folder with --server-tokenizer"):
            scored(address, tmp_path, "starter_paragraphs_en")
        toy.echo = False
        with pytest.raises(UsageError, match="asks for log-probabilities of given texts, and the server tells none"):
            scored(address, tmp_path, "starter_paragraphs_en")
    assert not any("paragraph" in body for body in toy.asked)


def failing(count: int) -> Toy:
    """A toy that refuses requests about so many texts."""
    refused: list[str] = []
    toy = Toy()

    def refuse(handler: Handler, body: dict[str, object]) -> bool:
        text = str(body.get("prompt"))
        if "capital" in text or body.get("echo") is None:
            return False
        row = text.rsplit("\n", 1)[0]
        if row not in refused and len(refused) < count:
            refused.append(row)
        if row in refused:
            handler.reply(400, {"error": {"message": "this text is not for me"}})
            return True
        return False

    toy.fault = refuse
    return toy


def test_one_example_in_a_hundred_may_lack_an_answer(tmp_path: Path) -> None:
    rows = [{"text": f"Film {number} was {number % 7}.", "label": ("bad", "good")[number % 2]} for number in range(100)]

    def of(address: str, out: Path) -> ResultsRecord:
        lmtasks.evaluate(address, rows=rows, label="label", server=QUICK, cache="off", out=out)
        return ResultsRecord.read(out / "results.json")

    with serving(failing(1)) as address:
        (result,) = of(address, tmp_path / "one").results.values()
        assert result.n == 99
        (note,) = [each for each in result.notes if "left out" in each]
        assert note.startswith("1 of 100 examples have no answer and are left out; row ")
        assert "this text is not for me" in note
    with (
        serving(failing(2)) as address,
        pytest.raises(WorkError, match="2 of 100 examples have no answer, more than 1"),
    ):
        of(address, tmp_path / "two")


def test_another_model_in_between_fails_the_task_alone(tmp_path: Path) -> None:
    toy = Toy()

    def change(answer: dict[str, object]) -> dict[str, object]:
        return answer | {"model": "other"} if toy.answered == 30 else answer

    toy.spoil = change
    with serving(toy) as address, pytest.raises(WorkError, match="answers as 'other', and answered as 'toy'"):
        scored(address, tmp_path)


def test_a_change_since_last_time_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    toy = Toy()
    with serving(toy) as address:
        before = scored(address, tmp_path)
        toy.salt = "other weights"
        with caplog.at_level(logging.WARNING):
            after = scored(address, tmp_path)
        assert "it answers a known text otherwise" in caplog.text
        assert after.results["starter_sentiment_en"].cached == 0
        assert after.model.weights_hash != before.model.weights_hash
        toy.salt = ""
        again = scored(address, tmp_path)
    assert again.results["starter_sentiment_en"].cached == 40  # what it answered as this model still counts
    assert again.model.weights_hash == before.model.weights_hash


KILLED = """
import sys, lmtasks
lmtasks.evaluate(sys.argv[1], "starter_sentiment_en", limit=60, cache=sys.argv[2], out=sys.argv[3], overwrite=True,
                 server=lmtasks.Endpoint(concurrent=2))
"""


def test_killed_and_resumed_nothing_is_asked_twice(tmp_path: Path) -> None:
    toy = Toy()
    with serving(toy) as address:
        command = [sys.executable, "-c", KILLED, address, str(tmp_path / "kept.sqlite"), str(tmp_path / "scores")]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def kill(answer: dict[str, object]) -> dict[str, object]:
            if toy.answered == 60:
                child.kill()
            return answer

        toy.spoil = kill
        child.wait(timeout=200)
        assert child.returncode == -9
        toy.spoil = None
        scored(address, tmp_path, limit=60, server=lmtasks.Endpoint(concurrent=2))
    rows = [count for body, count in toy.asked.items() if "capital" not in body and "echo" in body]
    assert len(rows) == 120
    assert sum(rows) <= 120 + 6  # those that were on their way when it was killed


def test_predict_asks_a_server() -> None:
    with serving(Toy()) as address:
        answered = lmtasks.predict(address, ["Hello there"], new_tokens=3, server=QUICK)
        with pytest.raises(UsageError, match="give it to evaluate or predict"):
            lmtasks.load_model(address)
    assert len(answered.answers) == 1
    assert answered.answers[0]


PLAN = """
plan: servers
tasks: [starter_sentiment_en]
limit: 10
bench: null
variants:
  - {name: trivial, baseline: majority}
  - {name: served, model: "ADDRESS", server: {served_name: toy, retries: 1}}
  - {name: down, model: "http://127.0.0.1:9/v1", server: {served_name: x, retries: 0}}
"""


def test_a_plan_has_variants_that_are_servers(tmp_path: Path) -> None:
    with serving(Toy()) as address:
        file = tmp_path / "plan.yaml"
        file.write_text(PLAN.replace("ADDRESS", address), encoding="utf-8")
        run_plan(
            load_plan(file),
            plan_file=file,
            index=default_index(),
            out=tmp_path / "run",
            options=RunOptions(data=DataAccess(offline=True), cache=tmp_path / "kept.sqlite"),
            report=lambda _: None,
        )
    cells = {
        record.variant.name: record for record in map(CellRecord.read, (tmp_path / "run" / "cells").glob("*.json"))
    }
    assert cells["served"].status == "done"
    assert (cells["served"].variant.runtime, cells["served"].variant.precision) == ("endpoint", "none")
    assert f"--model {address}" in cells["served"].repeat[0]
    assert "--served-name toy" in cells["served"].repeat[0]
    assert cells["down"].status == "failed"
    assert "the connection failed" in cells["down"].reason
