"""Real servers' answers to the probe, as they were recorded, and what is made of them.

`transformers serve` 5.23.0 over SmolLM2-135M-Instruct (dequantised Q4_1), the server of llama-cpp-python 0.3.36 over
the same model's GGUF file (Q4_1), and `lmtasks serve` over lmtasks-mini, asked on 2026-12-01 by `probe` of this package
with no retries; each entry is a question and its answer, or the client's error.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from lmtasks.endpoint.client import Client, MalformedError, RequestFailedError
from lmtasks.endpoint.probe import Server, probe
from lmtasks.settings.endpoint import Endpoint

_Read = TypeVar("_Read")
FOLDER = Path(__file__).parent / "transcripts"


class Replayed(Client):
    """Answers as a server did; a question that nobody asked it fails the test."""

    def __init__(self, file: Path) -> None:
        super().__init__("http://127.0.0.1:8000/v1", Endpoint())
        self.said = json.loads(file.read_text(encoding="utf-8"))["said"]

    def _asked(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        read: Callable[[Mapping[str, object]], _Read],
        retries: int | None,
    ) -> _Read:
        asked = json.loads(json.dumps(body))
        said = next(each for each in self.said if (each["method"], each["path"], each["body"]) == (method, path, asked))
        if "answer" in said:
            try:
                return read(said["answer"])
            except MalformedError as error:
                raise RequestFailedError(f"{self.address}: {error}") from None
        raise RequestFailedError(said["error"], status=said["status"])


def replayed(name: str, settings: Endpoint) -> Server:
    return probe(Replayed(FOLDER / f"{name}.json"), settings, tokenizer=None)


def test_lmtasks_serve() -> None:
    server = replayed("lmtasks-serve", Endpoint())
    assert (server.name, server.scores, server.new_tokens) == ("lmtasks-mini", "echo", 0)
    assert (server.completes, server.chats, server.tells_greedy, server.tells_own) == (True, False, True, True)
    assert server.context_tokens == 1024
    assert server.claim.fingerprint.startswith("lmtasks-")
    assert server.answers.logprobs[0] == pytest.approx(-10.0551, abs=1e-4)


def test_transformers_serve_tells_no_log_probabilities() -> None:
    server = replayed("transformers-serve-5.23.0", Endpoint(served_name="smollm2"))
    assert (server.completes, server.chats, server.scores, server.tells_own) == (True, True, "", False)
    assert "prompt_logprobs" in server.why_no_scores
    assert server.answers.text.startswith(" Tokyo")


def test_llama_cpp_python_tells_log_probabilities_of_each_token_behind_itself() -> None:
    """Its `echo` takes the scores of a token's own place, where those of the next one stand: finite, unequal, and
    unlike what it told while it wrote."""
    server = replayed("llama-cpp-python-0.3.36", Endpoint(served_name="smollm2"))
    assert (server.completes, server.chats, server.scores, server.tells_own) == (True, True, "", True)
    assert server.why_no_scores.startswith("echo: they are 9.1 nats a token off those that it told while it wrote")
    assert server.answers.text.startswith(" Tokyo")
