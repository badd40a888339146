"""Faults between a client and its server change no score; what does not pass ends with a reason."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from toy_server import Faults, Handler, Toy, logprob_of_text, serving

from lmtasks.endpoint import client as client_module
from lmtasks.endpoint.client import Client, ServerError, checked_address
from lmtasks.endpoint.engine import EndpointEngine
from lmtasks.endpoint.probe import ChangedModelError, probe
from lmtasks.engine.requests import Generated, GenerateRequest, Scored, ScoreRequest
from lmtasks.errors import UsageError, WorkError
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.generation import Decoding

SETTINGS = Endpoint(retries=6, request_timeout=20)
CONTEXTS = [f"Row {number} of the text is about {word}." for number in range(60) for word in ("Rome", "tea", "snow")]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.002)
    monkeypatch.setattr(client_module, "LONGEST_WAIT_S", 0.01)


@contextmanager
def asked(toy: Toy, settings: Endpoint = SETTINGS) -> Iterator[EndpointEngine]:
    with serving(toy) as address, closing(Client(address, settings)) as client:
        server = probe(client, settings, tokenizer=None)
        yield EndpointEngine(client, server, settings=settings, tokenizer=None)


def pair(engine: EndpointEngine, context: str, target: str) -> ScoreRequest:
    encode = engine.tokenizer.encode
    return ScoreRequest(context_ids=tuple(encode(context)), target_ids=tuple(encode(target)))


def prompt(engine: EndpointEngine, text: str, *, new: int = 6) -> GenerateRequest:
    return GenerateRequest(prompt_ids=tuple(engine.tokenizer.encode(text)), settings=Decoding(max_new_tokens=new))


def scores(engine: EndpointEngine) -> tuple[list[Scored], list[Generated]]:
    pairs = [pair(engine, context, target) for context in CONTEXTS for target in (" yes", " the other one.")]
    return engine.score(pairs), engine.generate([prompt(engine, context) for context in CONTEXTS])


def test_scores_are_the_servers_own() -> None:
    with asked(Toy()) as engine:
        scored, written = scores(engine)
    truth = [logprob_of_text(context, target) for context in CONTEXTS for target in (" yes", " the other one.")]
    assert [each.logprob for each in scored] == pytest.approx(truth)
    assert [len(each.token_logprobs) for each in scored[:2]] == [1, 4]
    assert all(each.text and each.stopped == "length" for each in written)


def test_500_faults_change_no_score() -> None:
    toy = Toy()
    with asked(toy) as engine:
        truth = scores(engine)
        faults = Faults(500, seed=7, share=0.7)
        toy.fault = faults
        assert scores(engine) == truth
    assert sum(faults.put.values()) == 500
    assert len(faults.put) == 14  # every kind of fault


def test_no_more_at_a_time_than_was_asked() -> None:
    toy = Toy()
    with asked(toy, SETTINGS.but({"concurrent": 3})) as engine:
        toy.most_at_once = 0
        engine.generate([prompt(engine, context) for context in CONTEXTS])
    assert toy.most_at_once <= 3


def test_retry_after_holds_all_requests() -> None:
    toy, told = Toy(), threading.Event()
    at: list[float] = []

    def wait_once(handler: Handler, body: dict[str, object]) -> bool:
        at.append(time.monotonic())
        if told.is_set():
            return False
        told.set()
        handler.reply(429, {"error": "slow down"}, retry_after="0.4")
        return True

    with asked(toy, SETTINGS.but({"concurrent": 1})) as engine:
        toy.fault = wait_once
        engine.generate([prompt(engine, CONTEXTS[0])])
    assert at[1] - at[0] >= 0.4


def test_a_wait_that_is_too_long_is_told() -> None:
    toy = Toy()
    with asked(toy) as engine:
        toy.fault = lambda handler, body: handler.reply(429, {}, retry_after="9999") or True
        with pytest.raises(WorkError, match="asks to wait 9999 s"):
            engine.verify()


def test_one_request_fails_alone() -> None:
    toy = Toy(context=40)
    with asked(toy) as engine:
        short, long = pair(engine, "Short", " one"), pair(engine, "far too long " * 30, " one")
        first, second = engine.score([short, long])
    assert first.failed == ""
    assert "maximum context length is 40 tokens" in second.failed


def test_a_server_that_is_gone_ends_the_call() -> None:
    toy = Toy()
    with asked(toy, SETTINGS.but({"retries": 0, "concurrent": 2})) as engine:
        toy.fault = lambda handler, body: handler.cut() or True
        with pytest.raises(ServerError, match="in a row had no answer"):
            engine.generate([prompt(engine, context) for context in CONTEXTS])
        with pytest.raises(ServerError, match="in a row had no answer"):  # and is not asked again
            engine.generate([prompt(engine, CONTEXTS[0])])


@pytest.mark.parametrize("what", ["model", "fingerprint", "weights"])
def test_another_model_in_between(what: str) -> None:
    toy = Toy(fingerprint="fp_1")
    with asked(toy) as engine:
        if what == "model":
            toy.name = "other"
        elif what == "fingerprint":
            toy.fingerprint = "fp_2"
        else:
            toy.salt = "other weights"
        with pytest.raises(ChangedModelError, match="so there is no score of either"):
            scores(engine)


def test_a_token_over_the_border_is_refused() -> None:
    with asked(Toy()) as engine:
        (scored,) = engine.score([pair(engine, "an un", "known word")])
    assert "reaches over the border" in scored.failed
    assert "--server-tokenizer" in scored.failed


def test_the_key_goes_in_a_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", "s3cret")
    settings = SETTINGS.but({"api_key_env": "TOY_KEY"})
    with asked(Toy(key="s3cret"), settings) as engine:
        shown = repr((engine.model, engine.card, engine.server, settings))
    assert "s3cret" not in shown
    monkeypatch.setenv("TOY_KEY", "wr0ng")
    with (
        pytest.raises(WorkError, match=r"refuses the key in \$TOY_KEY \(401: wrong key\)") as refused,
        asked(Toy(key="s3cret"), settings),
    ):
        pass
    assert "wr0ng" not in str(refused.value)
    with (
        pytest.raises(WorkError, match="name the variable that holds one with --api-key-env"),
        asked(Toy(key="s3cret")),
    ):
        pass
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(UsageError, match=r"TOY_KEY \(--api-key-env\) is not set"), asked(Toy(), settings):
        pass


def test_a_redirect_is_refused() -> None:
    toy = Toy()
    with asked(toy) as engine:
        toy.fault = lambda handler, body: (
            handler.send(307, b"", "text/plain", location="http://127.0.0.2:1/v1/completions") or True
        )
        with pytest.raises(ServerError, match=r"redirects to http://127\.0\.0\.2:1/v1/completions; nothing is sent"):
            engine.verify()


def test_a_page_instead_of_the_protocol() -> None:
    toy = Toy()
    toy.fault = lambda handler, body: handler.send(200, b"<html>hello</html>", "text/html") or True
    with pytest.raises(WorkError, match="a web page, not JSON"), asked(toy):
        pass


def test_addresses() -> None:
    for address, why in (
        ("ftp://host/v1", "asked at http:// or https://"),
        ("http:///v1", "asked at http:// or https://"),
        ("http://host:port/v1", "is no address of a server"),
        ("http://me:secret@host/v1", "an address with a password"),
        ("http://host/v1?key=1", "ends before"),
    ):
        with pytest.raises(UsageError, match=why) as refused:
            checked_address(address)
        assert "secret" not in str(refused.value)


def test_settings_that_the_protocol_lacks_are_refused() -> None:
    with asked(Toy()) as engine:
        request = GenerateRequest(prompt_ids=(1,), settings=Decoding(num_beams=4))
        with pytest.raises(UsageError, match="not num_beams"):
            engine.generate([request])


def test_a_streamed_text_is_the_whole_one() -> None:
    pieces: list[str] = []
    with asked(Toy()) as engine:
        request = prompt(engine, "Once", new=5)
        (whole,) = engine.generate([request])
        (streamed,) = engine.generate([request], on_token=lambda event: pieces.append(event.text))
    assert streamed == whole
    assert "".join(pieces) == whole.text
    assert len(pieces) > 2


def test_a_stream_that_is_cut_is_no_answer() -> None:
    toy = Toy()
    with asked(toy) as engine:
        toy.fault = lambda handler, body: handler.send(200, b'data: {"choices": []}\n\n', "text/event-stream") or True
        with pytest.raises(WorkError, match="cut off before its end"):
            engine.generate([prompt(engine, "Once")], on_token=lambda event: None)


def test_equal_requests_are_asked_once() -> None:
    toy = Toy()
    with asked(toy) as engine:
        toy.asked.clear()
        engine.generate([prompt(engine, "Once")] * 20)
    assert sum(count for body, count in toy.asked.items() if "Once" in json.loads(body)["prompt"]) == 1
