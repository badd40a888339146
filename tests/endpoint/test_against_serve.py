"""Our own server, asked by our own client: the scores are those of the folder."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_checkpoint

pytest.importorskip("starlette", reason="lmtasks serve needs starlette and uvicorn: make install")
pytest.importorskip("uvicorn", reason="lmtasks serve needs starlette and uvicorn: make install")

import lmtasks
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.endpoint.client import Client
from lmtasks.endpoint.engine import EndpointEngine
from lmtasks.endpoint.probe import probe
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.runtime.open import open_runtime
from lmtasks.serve.server import ServeRequest, serving
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.generation import Decoding
from lmtasks.settings.serve import ServeSettings

PAIRS = [
    ("the cat sat on", " the mat"),
    ("a dog ran to the", " house."),
    ("the", " cat"),
    ("one two three", " four five"),
]


@pytest.mark.parametrize("as_ids", [False, True])
def test_scores_and_texts_are_those_of_the_folder(tmp_path: Path, as_ids: bool) -> None:
    folder = tiny_checkpoint(tmp_path / "llama", "llama", context=256)
    own = load_tokenizer(folder)
    settings = Endpoint(server_tokenizer=folder if as_ids else None, concurrent=8)
    tokenizer = own if as_ids else None
    with (
        serving(ServeRequest(model=str(folder), settings=ServeSettings(port=0))) as server,
        closing(Client(f"{server.address}/v1", settings)) as client,
    ):
        probed = probe(client, settings, tokenizer=tokenizer)
        assert (probed.scores, probed.takes_ids) == ("echo", as_ids), probed.why_no_scores
        asked = EndpointEngine(client, probed, settings=settings, tokenizer=tokenizer)
        encode = asked.tokenizer.encode
        scored = asked.score(
            [ScoreRequest(context_ids=tuple(encode(one)), target_ids=tuple(encode(two))) for one, two in PAIRS]
        )
        wrote = asked.generate(
            [GenerateRequest(prompt_ids=tuple(encode(one)), settings=Decoding(max_new_tokens=6)) for one, _ in PAIRS]
        )
    with closing(open_runtime(folder, runtime="torch", threads=1)) as runtime:
        engine = Engine(runtime, own)
        truth = engine.score(
            [ScoreRequest(context_ids=tuple(own.encode(one)), target_ids=tuple(own.encode(two))) for one, two in PAIRS]
        )
        texts = engine.generate(
            [
                GenerateRequest(prompt_ids=tuple(own.encode(one)), settings=Decoding(max_new_tokens=6))
                for one, _ in PAIRS
            ]
        )
    assert [each.failed for each in scored] == [""] * len(PAIRS)
    assert [each.logprob for each in scored] == pytest.approx([each.logprob for each in truth], abs=1e-4)
    assert [each.greedy for each in scored] == [each.greedy for each in truth]
    assert [each.text for each in wrote] == [each.text for each in texts]


REAL = {
    "arc_easy": 3,
    "lambada": 4,
    "wikitext": 1,
    "dialogsum": 2,
    "starter_topic_zh": 4,
    "starter_paragraphs_zh": 1,
    "starter_qa_en": 2,
}
"""Rows of tasks of every way to ask: choices, the end of a text, whole texts, writing."""


def raw_answers(folder: Path) -> list[list[float] | str]:
    """What was answered to each row: a text, or log-probabilities, that of a whole text a token."""
    found: list[list[float] | str] = []
    for file in sorted(folder.glob("samples*.jsonl")):
        for sample in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            raw, tokens = sample["raw"], sample["outcome"].get("tokens") or 1
            found.append(raw if isinstance(raw, str) else [value / tokens for value in np.atleast_1d(raw).tolist()])
    return found


@pytest.mark.real_data
@pytest.mark.slow  # scores rows twice
@pytest.mark.timeout(600)
def test_real_rows_have_the_folders_scores(tmp_path: Path, data_root: Path) -> None:
    def score(way: str, model: str, server: Endpoint | None) -> None:
        for task, rows in REAL.items():
            lmtasks.evaluate(
                model, task, server=server, limit=rows, cache="off", out=tmp_path / way / task,
                data_root=data_root, offline=True,
            )  # fmt: skip

    preset = Path(lmtasks.__file__).parent / "backbone" / "presets" / "lmtasks-mini"
    score("folder", "lmtasks-mini", None)
    with serving(ServeRequest(model="lmtasks-mini", settings=ServeSettings(port=0))) as server:
        score("served", f"{server.address}/v1", Endpoint(server_tokenizer=preset, concurrent=8))
    for task, rows in REAL.items():
        folder, served = (raw_answers(tmp_path / way / task) for way in ("folder", "served"))
        assert len(folder) == len(served) == rows, task
        for one, other in zip(folder, served, strict=True):
            assert one == other if isinstance(one, str) else other == pytest.approx(one, abs=1e-4), task
