"""Our own server, asked by our own client: the scores are those of the folder."""

from contextlib import closing
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

pytest.importorskip("starlette", reason="lmtasks serve needs starlette and uvicorn: make install")
pytest.importorskip("uvicorn", reason="lmtasks serve needs starlette and uvicorn: make install")

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
