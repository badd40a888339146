"""Who may ask, how much, and how a server ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from asker import Asker, Start, answered
from tiny import tiny_checkpoint

from lmtasks.errors import UsageError, WorkError
from lmtasks.serve.server import ServeRequest, serve
from lmtasks.settings.serve import ServeSettings

SHORT = {"prompt": "the cat", "max_tokens": 1, "temperature": 0}
LONG = {"prompt": "the cat", "max_tokens": 900, "temperature": 0, "min_tokens": 900}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes long texts, so that there is time to do something while it writes."""
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "patient", "llama", context=1024)


def until(holds: Callable[[], bool], *, seconds: float = 100) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- what is wrong


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/completions", b"{", 400, "no JSON"),
        ("/v1/completions", b"[1]", 400, "must be a JSON object"),
        ("/v1/completions", b"\xff\xfe", 400, "no JSON"),
        ("/v1/completions", b"[" * 100_000, 400, "no JSON"),
        ("/v1/completions", b'{"prompt": "\\ud800"}', 400, "no JSON"),
        ("/v1/completions", {"prompt": 5}, 400, "prompt must be a text, a list of texts"),
        ("/v1/completions", {"prompt": "a", "max_token": 5}, 400, "did you mean 'max_tokens'"),
        ("/v1/completions", {"prompt": "a", "temperature": 3}, 400, "temperature"),
        ("/v1/completions", b'{"prompt": "a", "temperature": NaN}', 400, "temperature"),
        ("/v1/completions", {"prompt": "a", "frequency_penalty": 1}, 400, "is not carried out here"),
        ("/v1/completions", {"prompt": "a", "best_of": 4}, 400, "best_of is not carried out"),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, 400, "suffix is not carried out"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}, 400, "nothing would be answered"),
        ("/v1/completions", {"prompt": [1, 300]}, 400, "token 300 is none of llama, which has 300"),
        ("/v1/completions", {"prompt": "a", "logit_bias": {"999": 1}}, 400, "token 999 is none of llama"),
        ("/v1/completions", {"prompt": "a", "logit_bias": {"x": 1}}, 400, "logit_bias must be"),
        ("/v1/completions", {"prompt": "a", "stop": ""}, 400, "stop must be"),
        ("/v1/completions", {"prompt": "a", "model": "gpt"}, 404, "there is no model 'gpt' here"),
        ("/v1/completions", {"prompt": "cat " * 99}, 400, "maximum context length is 64 tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 64}, 400, "maximum context length is 64 tokens"),
        ("/v1/completions", {"prompt": "a", "stream_options": {"include_usage": True}}, 400, "go with stream"),
        ("/v1/chat/completions", {"messages": []}, 400, "messages must be a list"),
        ("/v1/chat/completions", {"messages": [{"role": "tool", "content": "a"}]}, 400, "messages must be a list"),
        ("/v1/embeddings", {"input": "cat " * 99}, 400, "longer than the 64 tokens"),
        ("/v1/embeddings", {"input": ""}, 400, "empty"),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}, 400, "not carried out"),
        ("/predict", {"rows": ["a"]}, 400, "llama has no heads"),
        ("/v1/responses", {"input": "a"}, 404, "there is no /v1/responses here"),
        ("/v1/models", {"a": 1}, 405, "is not asked by POST"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_openais_error(ask: Asker, path: str, body: object, status: int, message: str) -> None:
    answer = ask(path, body)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.error) == {"message", "type", "param", "code"}
    assert message in answer.error["message"]
    assert "<html" not in answer.body.decode().lower()
    assert ask("/v1/completions", SHORT).status == 200  # and it goes on


def test_a_body_must_say_that_it_is_json(ask: Asker) -> None:
    """So that no form of a page in a browser can ask."""
    answer = ask("/v1/completions", SHORT, headers={"Content-Type": "text/plain"})
    assert answer.status == 415


def test_no_other_origin_is_let_in(ask: Asker) -> None:
    answer = ask("/v1/models", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = ask("/v1/completions", headers={"Origin": "https://evil.example"}, method="OPTIONS")
    assert preflight.status == 405
    assert ask("/v1/models", headers={"Host": "evil.example:80"}).status == 421
    assert ask("/v1/models", headers={"Host": "localhost:1"}).status == 200


def test_a_body_that_is_too_large_is_refused(start: Start, llama: Path) -> None:
    with start(llama, max_body=1) as ask:
        answer = ask("/v1/completions", {"prompt": "a" * 5000})
        assert answer.status == 413
        assert "--max-body" in answer.error["message"]
        chunked = ask.connect()
        pieces: Iterator[bytes] = iter([b'{"prompt": "', b"a" * 5000])  # no more: the server closes behind them
        chunked.request("POST", "/v1/completions", body=pieces, headers={"Content-Type": "application/json"})
        assert answered(chunked.getresponse()).status == 413
        assert ask("/v1/completions", SHORT).status == 200


def test_a_length_of_ones_own_is_kept(start: Start, llama: Path) -> None:
    with start(llama, max_length=16) as ask:
        assert ask("/v1/models").json["data"][0]["max_model_len"] == 16
        assert ask("/v1/completions", {**SHORT, "max_tokens": 15}).status == 400
        answer = ask("/v1/completions", {**SHORT, "max_tokens": 9})
        assert answer.status == 200
    with pytest.raises(UsageError, match=r"--max-length is 100, but .* takes 64"), start(llama, max_length=100):
        pass


# --- who may ask


def test_others_need_a_token(start: Start, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 can be reached from other machines"), start(llama, host="0.0.0.0"):  # fmt: skip  # noqa: E501
        pass
    with pytest.raises(UsageError, match=r"MY_TOKEN .--api-key-env. is not set"), start(llama, api_key_env="MY_TOKEN"):  # fmt: skip  # noqa: E501
        pass
    monkeypatch.setenv("MY_TOKEN", "sésame")
    with start(llama, host="0.0.0.0", api_key_env="MY_TOKEN") as other:
        assert "$MY_TOKEN" in other.server.example
        assert "sésame" not in other.server.example
        ask = other
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s"}, {"Authorization": "Bearer"}):
            refused = ask("/v1/completions", SHORT, headers=given)
            assert refused.status == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.error["type"] == "authentication_error"
            assert ask("/nowhere", headers=given).status == 401
        right = {"Authorization": "Bearer sésame".encode().decode("latin-1")}
        assert ask("/v1/completions", SHORT, headers=right).status == 200
        assert ask("/health").json == {"status": "ok"}


def test_a_port_that_is_taken_is_told(llama: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        request = ServeRequest(model=str(llama), settings=ServeSettings(port=other.getsockname()[1]))
        with pytest.raises(WorkError, match=r"cannot be listened at .* give another --port"):
            serve(request, on_ready=print)


# --- how much


def test_beyond_the_queue_the_answer_is_429(start: Start, patient: Path) -> None:
    with start(patient, rows=2, queue=1) as ask:
        connections = [ask.connect() for _ in range(3)]
        for connection in connections:
            ask.send(connection, "/v1/completions", {**LONG, "stream": True})
        until(lambda: ask("/health").json["requests"] == 3)
        answer = ask("/v1/completions", SHORT)
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.error["type"] == "rate_limit_error"
        for connection in connections:
            connection.close()
        until(lambda: ask("/health").json["requests"] == 0)
        assert ask("/v1/completions", SHORT).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place(start: Start, patient: Path, stream: bool) -> None:
    with start(patient, rows=1, queue=4) as ask:
        connection = ask.connect()
        ask.send(connection, "/v1/completions", {**LONG, "stream": stream})
        until(lambda: ask("/health").json["writing"] == 1)
        waiting = ask.connect()  # behind it
        ask.send(waiting, "/v1/completions", {**LONG, "n": 3})
        until(lambda: ask("/health").json["requests"] == 2)
        connection.close()
        waiting.close()
        until(lambda: ask("/health").json["requests"] == 0)
        assert ask("/v1/completions", SHORT).status == 200
        until(lambda: ask("/health").json["writing"] == 0)


def test_a_request_that_takes_too_long_is_given_up(start: Start, patient: Path) -> None:
    with start(patient, time_limit=0.2) as ask:
        answer = ask("/v1/completions", LONG)
        assert answer.status == 504
        assert "--time-limit" in answer.error["message"]
        cut = ask("/v1/completions", {**LONG, "stream": True})
        assert cut.status == 200
        last = cut.body.decode().strip().split("\n\n")[-1]
        assert "--time-limit" in json.loads(last.removeprefix("data: "))["error"]["message"]
        until(lambda: ask("/health").json["writing"] == 0)
        slow = ask.connect()  # a body that never comes
        slow.putrequest("POST", "/v1/completions")
        slow.putheader("Content-Type", "application/json")
        slow.putheader("Content-Length", "100")
        slow.endheaders(b'{"prompt"')
        assert answered(slow.getresponse()).status == 504


@pytest.mark.slow  # thousands of requests
def test_memory_does_not_grow_over_thousands_of_requests(start: Start, llama: Path) -> None:
    own = psutil.Process()
    with start(llama) as ask:

        def many(count: int) -> None:
            connection = ask.connect()
            for number in range(count):
                body = {
                    "prompt": f"the cat {number}",
                    "max_tokens": 1 + number % 3,
                    "logprobs": 1,
                    "echo": number % 2 == 0,
                }
                ask.send(connection, "/v1/completions", body)
                assert answered(connection.getresponse()).status == 200
            connection.close()

        def round_of(count: int) -> int:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(many, [count // 4] * 4))
            return own.memory_info().rss

        round_of(600)
        before = round_of(200)
        after = round_of(1200)
    assert after - before < 8 * 2**20


# --- its end


@pytest.mark.slow  # a process that loads a model
def test_a_signal_lets_what_is_being_answered_end(patient: Path, tmp_path: Path) -> None:
    with started(patient, "--access-log") as (process, address):
        ask = Asker(FakeServing(address))
        whole = ask("/v1/completions", {**LONG, "max_tokens": 300, "min_tokens": 300}).json["choices"][0]["text"]
        connection = ask.connect()
        ask.send(connection, "/v1/completions", {**LONG, "max_tokens": 300, "min_tokens": 300, "stream": True})
        response = connection.getresponse()
        first = response.read1(100)
        process.send_signal(signal.SIGTERM)
        rest = response.read()
        pieces = [json.loads(line.removeprefix("data: ")) for line in (first + rest).decode().split("\n\n")[:-2]]
        assert "".join(piece["choices"][0]["text"] for piece in pieces) == whole
        with pytest.raises(OSError):
            until(lambda: ask("/health").status == 0)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert re.findall(r"POST /v1/completions 200 \d+ ms", err)
    assert "the cat" not in err


@pytest.mark.slow  # a process that loads a model
def test_a_second_signal_ends_it_at_once(patient: Path) -> None:
    with started(patient) as (process, address):
        ask = Asker(FakeServing(address))
        connection = ask.connect()
        ask.send(connection, "/v1/completions", {**LONG, "n": 100, "stream": True})
        connection.getresponse().read1(100)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_an_end_after_the_time_to_drain_is_told_to_who_waits(start: Start, patient: Path) -> None:
    with start(patient, drain=1, rows=1) as ask:
        connection = ask.connect()
        ask.send(connection, "/v1/completions", {**LONG, "n": 100})
        until(lambda: ask("/health").json["writing"] == 100)
        began = time.monotonic()
        threading.Thread(target=ask.server.stop).start()
        answer = answered(connection.getresponse())
        assert answer.status == 503
        assert time.monotonic() - began < 20


class FakeServing:
    """The address of a server in another process."""

    def __init__(self, address: str) -> None:
        self.address = address


class started:
    """A server in a process of its own, and its address."""

    def __init__(self, model: Path, *options: str) -> None:
        self._command = [sys.executable, "-m", "lmtasks", "serve", "--model", str(model), "--port", "0", *options]

    def __enter__(self) -> "tuple[subprocess.Popen[str], str]":
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"is served at (http://127\.0\.0\.1:\d+)\. Try:", line)
        assert found, (line, self._process.communicate())
        assert self._process.stdout.readline().startswith(f"curl {found[1]}/v1/completions -H ")
        return self._process, found[1]

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
