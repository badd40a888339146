"""Servers are timed over HTTP: a server of known delays, asked by the command itself in a process of its own."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from listening import listening
from said import Say

import lmtasks
from lmtasks.bench.server import open_server, server_spec
from lmtasks.bench.spec import SpeedSpec, spec_from_json
from lmtasks.bench.speed import SpeedSettings
from lmtasks.bench.workload import GREEDY, Workload, WorkRequest
from lmtasks.endpoint.client import RequestFailedError
from lmtasks.endpoint.engine import byte_tokenizer
from lmtasks.engine.requests import GenerateRequest, TokenEvent
from lmtasks.errors import UsageError
from lmtasks.results.speed import BenchRecord, SpeedRecord
from lmtasks.settings.endpoint import Endpoint
from lmtasks.workflow.open_endpoint import probe_server

FIRST_MS, TOKEN_MS, TOKENS = 60, 15, 4
PROMPT_TOKENS = 11
TASK = "starter_translation_en_zh"


@dataclass(kw_only=True)
class Delays:
    """A server that waits 60 ms before a text's first token and 15 ms before each more."""

    usage: bool = True
    knows_stream_options: bool = True
    refused: int = 0
    """Streamed requests that are refused from the first on."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    streamed: int = 0
    at_once: int = 0
    most_at_once: int = 0


class Handler(BaseHTTPRequestHandler):
    delays: Delays
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply(200, {"data": [{"id": "slow", "max_model_len": 512}]} if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/completions" or body.get("echo") or body.get("prompt_logprobs") is not None:
            self._reply(400, {"error": {"message": "not here"}})
            return
        if not body.get("stream"):
            usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 1}
            choice = {"index": 0, "text": " a", "finish_reason": "length"}
            self._reply(200, {"model": "slow", "choices": [choice], "usage": usage})
            return
        if body.get("stream_options") and not self.delays.knows_stream_options:
            self._reply(400, {"error": {"message": "unknown field stream_options"}})
            return
        self._stream(bool(body.get("stream_options")))

    def _stream(self, wants_usage: bool) -> None:
        delays = self.delays
        with delays.lock:
            delays.streamed += 1
            refused = delays.streamed <= delays.refused
            delays.at_once += 1
            delays.most_at_once = max(delays.most_at_once, delays.at_once)
        try:
            if refused:
                self._reply(429, {"error": {"message": "too many"}}, **{"retry-after": "5"})
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for number in range(TOKENS):
                time.sleep((FIRST_MS if number == 0 else TOKEN_MS) / 1000)
                reason = "length" if number == TOKENS - 1 else None
                self._event({"choices": [{"index": 0, "text": f" w{number}", "finish_reason": reason}]})
            if wants_usage and delays.usage:
                usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": TOKENS}
                self._event({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")
            self.close_connection = True
        finally:
            with delays.lock:
                delays.at_once -= 1

    def _event(self, content: object) -> None:
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())
        self.wfile.flush()

    def _reply(self, status: int, content: object, **headers: str) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def serving(delays: Delays) -> Iterator[str]:
    with listening(Handler, delays=delays) as address:
        yield f"{address}/v1"


def spec_of(address: str) -> SpeedSpec:
    settings = Endpoint(request_timeout=20.0)
    server = probe_server(address, settings, cache=None)
    ids = tuple(byte_tokenizer().encode("Hello there"))
    spec = SpeedSpec(
        variant={"name": "slow", "runtime": "endpoint", "device": "server"},
        ref=Path(),
        runtime="endpoint",
        device="server",
        threads=1,
        workloads=(Workload(task="t", kind="generate", new_tokens=TOKENS, requests=(WorkRequest(ids=ids),)),),
        settings=SpeedSettings(),
        server=server_spec(server, settings),
    )
    return spec_from_json(json.loads(json.dumps(spec.as_json())))


def test_tokens_are_timed_as_they_come_and_billed_as_the_server_says() -> None:
    with serving(Delays()) as address:
        opened = open_server(spec_of(address))
        ids = tuple(byte_tokenizer().encode("Hello there"))
        times: list[float] = []
        began = time.perf_counter()

        def on_token(event: TokenEvent) -> None:
            times.append(1000 * (time.perf_counter() - began))

        (written,) = opened.engine.generate([GenerateRequest(prompt_ids=ids, settings=GREEDY)], on_token=on_token)
        assert written.text == " w0 w1 w2 w3"
        assert len(written.ids) == TOKENS
        assert times[0] >= FIRST_MS - 1
        assert times[-1] - times[0] >= TOKEN_MS * (TOKENS - 1) - 5
        assert opened.usage() == (1, PROMPT_TOKENS, TOKENS)
        assert opened.apart
        with pytest.raises(UsageError, match="has no head 'x'"):
            opened.engine.predict("x", [])


@pytest.mark.parametrize(("usage", "known"), [(False, True), (True, False)])
def test_a_server_that_bills_nothing_or_knows_no_options_is_timed_all_the_same(usage: bool, known: bool) -> None:
    with serving(Delays(usage=usage, knows_stream_options=known)) as address:
        opened = open_server(spec_of(address))
        requests = [GenerateRequest(prompt_ids=(5, number), settings=GREEDY) for number in (6, 7)]
        assert [len(each.ids) for each in opened.engine.generate(requests)] == [TOKENS, TOKENS]
        assert opened.usage() is None


def test_a_refused_request_is_asked_once() -> None:
    delays = Delays(refused=1)
    with serving(delays) as address:
        opened = open_server(spec_of(address))
        request = GenerateRequest(prompt_ids=(5, 6), settings=GREEDY)
        with pytest.raises(RequestFailedError, match="429"):
            opened.engine.generate([request])
        assert delays.streamed == 1
        assert len(list(opened.engine.generate([request]))) == 1


def test_bench_on_an_address(say: Say, tmp_path: Path) -> None:
    """Alone a text takes 60 + 3 * 15 = 105 ms, of 8 at once as long; 20 requests a second run beside each other."""
    delays = Delays()
    with serving(delays) as address:
        command = ["bench", "--model", address, "--tasks", TASK, "--limit", 8, "--rounds", 1, "--seconds", 0.3]
        command += ["--batch-size", 8, "--rate", 20, "--require", "p50_ms<=1000@20rps, p50_ms<=1000@max"]
        command += ["--price", "0.5,2 EUR", "--out", tmp_path / "out"]
        said = say(*command)
    assert said.code == 0, said.err
    record = BenchRecord.read(tmp_path / "out" / "bench.json")
    (speed,) = record.variants
    alone, together = speed.timings
    expected = FIRST_MS + TOKEN_MS * (TOKENS - 1)
    assert expected - 2 <= min(alone.raw_ms) < 4 * expected
    assert min(alone.raw_ttft_ms) >= FIRST_MS - 1
    assert together.batch_size == 8
    assert together.examples_per_s is not None
    assert alone.examples_per_s is not None
    assert together.examples_per_s > 2 * alone.examples_per_s
    (load,) = speed.loads
    assert (load.batching, load.answered, load.requests, load.failed) == ("apart", load.requests, load.requests, 0)
    assert min(load.raw_latency_ms) >= expected - 2
    assert min(load.raw_ttft_ms) >= FIRST_MS - 1
    assert load.goodput_per_s is not None
    assert load.goodput_per_s > 5
    (rate,) = speed.max_rates
    assert rate.rate > 10
    assert delays.most_at_once > 1
    (cost,) = speed.costs
    assert cost.per_1000 == pytest.approx(1000 * (PROMPT_TOKENS * 0.5 + TOKENS * 2) / 1e6)
    assert cost.currency == "EUR"
    (judged,) = record.judged
    assert judged.fulfils
    assert judged.core_seconds is None
    assert speed.runtime is not None
    assert speed.runtime.options["identity"] == "unverified"
    for words in ("cost of 1,000 answers", "0.0135 EUR", "The largest rate at which a latency held", "apart"):
        assert words in said.out


def test_what_a_server_cannot_be_asked_is_told(tmp_path: Path) -> None:
    with serving(Delays()) as address:
        with pytest.raises(UsageError, match="drop is scored by models on this machine, and slow is a server"):
            lmtasks.bench([address], TASK, limit=8, require="drop<=1", out=tmp_path / "a", progress=False)
        with pytest.raises(UsageError, match=r"nobody knows those of .* --server-tokenizer"):
            lmtasks.bench([address], TASK, limit=8, sweep=["length=8"], out=tmp_path / "b", progress=False)
    with pytest.raises(UsageError, match="--price is IN,OUT"):
        lmtasks.bench(["majority"], TASK, price="cheap")


def test_a_plan_times_a_server_that_it_says_is_timed(say: Say, tmp_path: Path) -> None:
    plan = tmp_path / "served.yaml"
    bench = "{rows: 8, seconds: 0.2, rounds: 1, batch_size: 4, price: '0.5,2 EUR'}"

    def write(address: str, more: str) -> None:
        variant = f"{{name: served, model: '{address}'{more}}}"
        plan.write_text(f"plan: served\ntasks: [{TASK}]\nlimit: 3\nvariants: [{variant}]\nbench: {bench}\n")

    with serving(Delays()) as address:
        write(address, "")
        said = say("run", plan, "--out", tmp_path / "untimed", "--cache", "off")
        assert said.code == 0, said.err
        assert not (tmp_path / "untimed" / "speed" / "served.json").exists()
        write(address, ", timed: true")
        said = say("run", plan, "--out", tmp_path / "timed", "--cache", "off")
        assert said.code == 0, said.err
    record = SpeedRecord.read(tmp_path / "timed" / "speed" / "served.json")
    assert [timing.batch_size for timing in record.timings] == [1, 4]
    assert record.costs[0].per_1000 == pytest.approx(1000 * (PROMPT_TOKENS * 0.5 + TOKENS * 2) / 1e6)
    page = (tmp_path / "timed" / "index.html").read_text(encoding="utf-8")
    assert "0.0135 EUR" in page
