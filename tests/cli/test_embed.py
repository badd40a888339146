"""`lmtasks embed`: an encoder or a program makes vectors, and goes on where it stopped."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lmtasks.data.vectors import read_vectors, text_key
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Progress
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import EmbedText
from lmtasks.workflow import embed
from lmtasks.workflow.embed import EmbedRequest, embed_texts
from tests.said import Say

PROGRAM = """
import json, sys
for line in sys.stdin:
    text = json.loads(line)
    print(json.dumps([3.0, 4.0] if text.startswith("q: ") else [float(len(text)), 0.0]))
"""


def rows(folder: Path) -> Path:
    file = folder / "texts.csv"
    file.write_text("text\nThe mill by the river.\nBirds over the sea.\nThe mill by the river.\n", encoding="utf-8")
    return file


def program(folder: Path, code: str = PROGRAM) -> str:
    file = folder / "program.py"
    file.write_text(code)
    return f"{sys.executable} {file}"


def request(folder: Path, **asked: object) -> EmbedRequest:
    given = {"data": (str(rows(folder)),), **asked}
    return EmbedRequest(text=EmbedText.model_validate(given), out=folder / "v.safetensors", data=DataAccess())


def test_the_shipped_backbone_makes_vectors_of_length_one(tmp_path: Path) -> None:
    asked = request(tmp_path, model="lmtasks-mini")
    made = embed_texts(asked, report=lambda _: None)
    assert made is not None
    assert made.count == 2
    found = read_vectors(asked.out)
    assert set(found.keys) == {text_key("The mill by the river."), text_key("Birds over the sea.")}
    np.testing.assert_allclose(np.linalg.norm(found.values.astype(np.float32), axis=1), 1, atol=1e-3)
    assert embed_texts(asked, report=lambda _: None) is None
    with pytest.raises(UsageError, match="other texts, or of another encoder"):
        embed_texts(request(tmp_path, model="lmtasks-mini", prefix="q: "), report=lambda _: None)


def test_a_batch_changes_no_vector(tmp_path: Path) -> None:
    many = tmp_path / "many.csv"
    many.write_text("text\n" + "\n".join("word " * (number % 40 + 1) + str(number) for number in range(60)))
    asked = request(tmp_path, data=(str(many),), model="lmtasks-mini")
    embed_texts(asked, report=lambda _: None)
    together = read_vectors(asked.out)
    single = tmp_path / "single.csv"
    single.write_text("text\n" + "word " * 40 + "39\n")
    asked = EmbedRequest(
        text=EmbedText(data=(str(single),), model="lmtasks-mini"), out=tmp_path / "s", data=DataAccess()
    )
    embed_texts(asked, report=lambda _: None)
    alone = read_vectors(asked.out)
    place = together.keys.index(alone.keys[0])
    np.testing.assert_allclose(together.values[place], alone.values[0], atol=2e-3)


def test_a_program_makes_vectors(tmp_path: Path) -> None:
    asked = request(tmp_path, command=program(tmp_path), prefix="q: ")
    embed_texts(asked, report=lambda _: None)
    found = read_vectors(asked.out)
    assert found.encoder.pooling == "command"
    np.testing.assert_allclose(found.values, [[0.6, 0.8], [0.6, 0.8]], atol=1e-3)


def test_what_was_made_before_a_stop_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "AT_ONCE", 1)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.stage == "embed" and progress.done == 1:
            raise Stopped

    asked = request(tmp_path, command=program(tmp_path))
    with pytest.raises(Stopped):
        embed_texts(asked, report=stop)
    made = embed_texts(asked, report=lambda _: None)
    assert made is not None
    assert (made.count, made.known) == (2, 1)
    assert not (tmp_path / "v.safetensors.work").exists()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit('no such voice')", "ended with 1: no such voice"),
        ("print('[1.0]')", "printed 1 lines for 2 texts"),
        ("print('[1.0]'); print('[1.0, 2.0]')", "line 2 of what it printed, has 2 numbers"),
        ("print('hello'); print('[1.0]')", "line 1 of what it printed, is no JSON"),
        ("print('{}'); print('[1.0]')", "line 1 of what it printed, is no list of numbers"),
        ("print('[NaN]'); print('[1.0]')", "line 1 of what it printed, is no JSON|not finite"),
    ],
)
def test_a_program_that_prints_something_else_is_told(tmp_path: Path, code: str, told: str) -> None:
    with pytest.raises(WorkError, match=told):
        embed_texts(request(tmp_path, command=program(tmp_path, code)), report=lambda _: None)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "--model.*--command.*give one"),
        ({"model": "lmtasks-mini", "command": "cat"}, "give one"),
        ({"command": "no-such-program-anywhere"}, "must begin with a program"),
        ({"model": "lmtasks-mini", "vocabulary": "."}, "--data or are the tokens of a --vocabulary"),
        ({"model": "lmtasks-mini", "data": ()}, "--data or are the tokens of a --vocabulary"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, asked: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        embed_texts(request(tmp_path, **asked), report=lambda _: None)


def test_the_command_prints_what_comes_next(tmp_path: Path, say: Say) -> None:
    out = tmp_path / "v.safetensors"
    told = say("embed", "--data", str(rows(tmp_path)), "--command", program(tmp_path), "--out", str(out))
    assert told.code == 0
    assert "holds the vectors of 2 texts, 2 numbers each" in told.out
    assert f"--teacher {out}" in told.out


def test_a_causal_backbone_reads_as_it_learned_to_unless_asked(tmp_path: Path) -> None:
    import lmtasks

    texts = ["The mill by the river.", "Birds over the sea."]
    causal, both = (lmtasks.embed("lmtasks-mini", texts, attention=way) for way in ("causal", "both"))  # type: ignore[arg-type]
    np.testing.assert_allclose(both, lmtasks.embed("lmtasks-mini", texts), atol=1e-6)  # it was pretrained both ways
    assert np.abs(causal - both).max() > 0.01
    asked = request(tmp_path, model="lmtasks-mini", attention="causal")
    embed_texts(asked, report=lambda _: None)
    assert read_vectors(asked.out).encoder.attention == "causal"
