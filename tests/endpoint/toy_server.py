"""A small server on loopback that speaks the OpenAI protocol over a deterministic toy, and faults in front of it.

The toy's tokens are words with the blank before them, and single signs. A token's log-probability follows from a hash
of it and the token before it; what it writes is the likeliest of a few words, so that greedy writing and
log-probabilities agree, as they do in a model.
"""

import hashlib
import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from random import Random

from listening import listening

TOKEN = re.compile(r" ?\w+|\s|[^\w\s]")
WORDS = (" Tokyo", ".", " the", " of", " B", " A", " seven", " is", "\n")


def tokens_of(text: str) -> list[str]:
    return TOKEN.findall(text)


def logprob_of(before: str, token: str) -> float:
    number = int.from_bytes(hashlib.sha256(f"{before}\0{token}".encode()).digest()[:4], "big") / 2**32
    return -0.05 - 1.5 * number if token in WORDS else -2.0 - 6.0 * number


def likeliest(before: str) -> str:
    return max(WORDS, key=lambda word: logprob_of(before, word))


def logprob_of_text(context: str, target: str) -> float:
    """What the toy truly says of a target, for tests to hold scores against."""
    before, found = tokens_of(context), 0.0
    for token in tokens_of(target):
        found += logprob_of(before[-1] if before else "", token)
        before.append(token)
    return found


def in_pairs(wrote: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Tokens behind the first one, two of them told as one."""
    pairs = [wrote[place : place + 2] for place in range(1, len(wrote), 2)]
    return wrote[:1] + [("".join(token for token, _ in pair), sum(value for _, value in pair)) for pair in pairs]


@dataclass(kw_only=True)
class Toy:
    """What the server does; tests change fields."""

    name: str = "toy"
    fingerprint: str | None = None
    completions: bool = True
    chat: bool = True
    echo: bool = True
    """Does it take `echo`?"""
    echo_logprobs: str = "right"
    """right, empty, equal, shifted, none, or behind: of each token behind itself, as llama-cpp-python tells them."""
    first_token: str | None = None
    """Stands before every text, as `<s>` of a server that adds one."""
    prompt_logprobs: bool = False
    own_logprobs: bool = True
    own_pairs: bool = False
    """Is what it writes told in other tokens than those that the same text has when it is given?"""
    tops: bool = True
    context: int | None = 512
    key: str = ""
    salt: str = ""
    """Of another model."""
    fault: Callable[["Handler", dict[str, object]], bool] | None = None
    """Is asked before every POST; True: it has answered, or ended the connection."""
    spoil: Callable[[dict[str, object]], dict[str, object]] | None = None
    """Changes an answer."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each body was asked."""
    answered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    most_at_once: int = 0
    at_once: int = 0

    def logprob(self, before: str, token: str) -> float:
        return logprob_of(before + self.salt, token)

    def completion(self, body: Mapping[str, object]) -> dict[str, object]:
        prompt = str(body["prompt"])
        given = tokens_of(prompt)
        most = int(str(body.get("max_tokens", 16)))
        texts = ([self.first_token] if self.first_token else []) + given
        chain = ["", *texts]
        values: list[float | None] = [self.logprob(chain[place], token) for place, token in enumerate(texts)]
        values[0] = None
        wrote, ended = self.write(given, most, body)
        told = bool(body.get("echo"))
        text = (prompt if told else "") + "".join(token for token, _ in wrote)
        logprobs: dict[str, object] | None = None
        if body.get("logprobs") is not None and (self.own_logprobs or told):
            values, texts = self.spoiled(values, texts) if told else ([], [])
            pieces = in_pairs(wrote) if self.own_pairs else wrote
            texts = texts + [token for token, _ in pieces]
            values = values + [value for _, value in pieces]
            offsets, place = [], 0
            for token in texts:
                offsets.append(place)
                place += len(token)
            own = [None if value is None else {token: value} for token, value in zip(texts, values, strict=True)]
            ahead = ["", *texts[:-1]]
            if told and self.echo_logprobs == "behind":
                ahead[: len(given)] = given
            tops = [
                None if top is None else {best: self.logprob(one, best), **top}
                for top, best, one in zip(own, map(likeliest, ahead), ahead, strict=True)
            ]
            logprobs = {"tokens": texts, "token_logprobs": values, "text_offset": offsets}
            logprobs |= {"top_logprobs": tops} if self.tops else {}
            if told and self.echo_logprobs == "none":
                logprobs = None
        choice: dict[str, object] = {"index": 0, "text": text, "logprobs": logprobs}
        choice["finish_reason"] = "stop" if ended else "length"
        if self.prompt_logprobs and body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = [
                None if value is None else {str(place): {"logprob": value, "rank": 1, "decoded_token": token}}
                for place, (token, value) in enumerate(zip(texts, values, strict=True))
            ]
        usage = {"prompt_tokens": len(given), "completion_tokens": len(wrote)}
        return self.answer("text_completion", choice, usage)

    def spoiled(self, values: list[float | None], texts: list[str]) -> tuple[list[float | None], list[str]]:
        if self.echo_logprobs == "empty":
            return [None] * len(values), texts
        if self.echo_logprobs == "equal":
            return [None, *([0.0] * (len(values) - 1))], texts
        if self.echo_logprobs == "shifted":
            return [*values[1:], -1.0], texts
        if self.echo_logprobs == "behind":
            return [None, *(self.logprob(token, token) for token in texts[1:])], texts
        return values, texts

    def write(self, given: list[str], most: int, body: Mapping[str, object]) -> tuple[list[tuple[str, float]], bool]:
        stops = body.get("stop") or []
        wrote: list[tuple[str, float]] = []
        before = given[-1] if given else ""
        for _ in range(most):
            token = max(WORDS, key=lambda word: self.logprob(before, word))
            wrote.append((token, self.logprob(before, token)))
            before = token
            if isinstance(stops, list) and any(stop in "".join(each for each, _ in wrote) for stop in stops):
                return wrote, True
        return wrote, False

    def chatted(self, body: Mapping[str, object]) -> dict[str, object]:
        messages = body["messages"]
        assert isinstance(messages, list)
        most = int(str(body.get("max_tokens", 16)))
        wrote, ended = self.write(tokens_of(str(messages[-1]["content"])), most, body)
        text = "".join(token for token, _ in wrote)
        choice: dict[str, object] = {"index": 0, "message": {"role": "assistant", "content": text}}
        choice["finish_reason"] = "stop" if ended else "length"
        if body.get("logprobs") and self.own_logprobs:
            choice["logprobs"] = {"content": [{"token": token, "logprob": value} for token, value in wrote]}
        usage = {"prompt_tokens": 1, "completion_tokens": len(wrote)}
        return self.answer("chat.completion", choice, usage)

    def answer(self, kind: str, choice: dict[str, object], usage: dict[str, int]) -> dict[str, object]:
        found: dict[str, object] = {"object": kind, "model": self.name, "choices": [choice], "usage": usage}
        return found | ({} if self.fingerprint is None else {"system_fingerprint": self.fingerprint})


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    toy: Toy

    def do_GET(self) -> None:
        if not self._allowed():
            return
        if self.path == "/v1/models":
            listed = {"id": self.toy.name, "object": "model"}
            self.reply(200, {"object": "list", "data": [listed | {"max_model_len": self.toy.context}]})
        else:
            self.reply(404, {"error": {"message": "Not Found"}})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not self._allowed():
            return
        body = json.loads(content)
        toy = self.toy
        with toy.lock:
            toy.asked[content.decode()] += 1
            toy.at_once += 1
            toy.most_at_once = max(toy.most_at_once, toy.at_once)
        try:
            if toy.fault is not None and toy.fault(self, body):
                return
            if self.path == "/v1/completions" and toy.completions:
                self._completion(body)
            elif self.path == "/v1/chat/completions" and toy.chat:
                self._answered(body, toy.chatted(body))
            else:
                self.reply(404, {"error": {"message": "Not Found"}})
        finally:
            with toy.lock:
                toy.at_once -= 1

    def _completion(self, body: dict[str, object]) -> None:
        if not isinstance(body["prompt"], str):
            self.reply(400, {"error": {"message": "prompt must be a string"}})
        elif body.get("echo") and not self.toy.echo:
            self.reply(400, {"error": {"message": "echo is not supported"}})
        elif self.toy.context is not None and len(tokens_of(str(body["prompt"]))) > self.toy.context:
            message = f"This model's maximum context length is {self.toy.context} tokens."
            self.reply(400, {"error": {"message": message}})
        else:
            self._answered(body, self.toy.completion(body))

    def _answered(self, body: dict[str, object], answer: dict[str, object]) -> None:
        if self.toy.spoil is not None:
            answer = self.toy.spoil(answer)
        with self.toy.lock:
            self.toy.answered += 1
        if body.get("stream"):
            self.stream(answer)
        else:
            self.reply(200, answer)

    def stream(self, answer: dict[str, object]) -> None:
        choices = answer["choices"]
        assert isinstance(choices, list)
        choice = choices[0]
        chat = "message" in choice
        text = choice["message"]["content"] if chat else choice["text"]
        parts = []
        for token in tokens_of(text):
            delta = {"delta": {"content": token}} if chat else {"text": token}
            parts.append({"choices": [{"index": 0, **delta, "finish_reason": None}]})
        end = {"delta": {}} if chat else {"text": ""}
        parts.append({"choices": [{"index": 0, **end, "finish_reason": choice["finish_reason"]}]})
        content = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
        self.send(200, content.encode(), "text/event-stream")

    def reply(self, status: int, content: object, **headers: str) -> None:
        self.send(status, json.dumps(content).encode(), "application/json", **headers)

    def send(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def cut(self, content: bytes = b"") -> None:
        """End the connection, perhaps in the middle of an answer."""
        if content:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content) + 100))
            self.end_headers()
            self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return

    def _allowed(self) -> bool:
        if self.toy.key and self.headers.get("authorization") != f"Bearer {self.toy.key}":
            self.reply(401, {"error": {"message": "wrong key"}})
            return False
        return True


@contextmanager
def serving(toy: Toy, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The toy behind an address of this machine."""
    with listening(Handler, tls=tls, toy=toy) as address:
        yield f"{address}/v1"


class Faults:
    """Puts one fault in front of an answer, drawn by a seed, until so many were put; of one question at most two in a
    row, so that asking again helps."""

    def __init__(self, count: int, *, seed: int = 0, share: float = 0.5) -> None:
        self.left = count
        self.put: Counter[str] = Counter()
        self._random = Random(seed)
        self._share = share
        self._of_body: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, handler: Handler, body: dict[str, object]) -> bool:
        asked = json.dumps(body, sort_keys=True)
        with self._lock:
            if self.left <= 0 or self._of_body[asked] >= 2 or self._random.random() > self._share:
                return False
            self.left -= 1
            self._of_body[asked] += 1
            name = self._random.choice(sorted(FAULTS))
            self.put[name] += 1
        FAULTS[name](handler, body)
        return True


def _true(handler: Handler, body: dict[str, object]) -> dict[str, object]:
    return handler.toy.chatted(body) if "messages" in body else handler.toy.completion(body)


def _nan(handler: Handler, body: dict[str, object]) -> None:
    content = re.sub(r"-\d+\.\d+", "NaN", json.dumps(_true(handler, body)), count=1)
    handler.send(200, content.encode(), "application/json")


def _repeated(handler: Handler, body: dict[str, object]) -> None:
    """A token twice, in the text and in the tokens."""
    answer = _true(handler, body)
    choices = answer["choices"]
    assert isinstance(choices, list)
    told = choices[0].get("logprobs")
    if isinstance(told, dict) and "tokens" in told:
        for values in told.values():
            values.insert(1, values[1])
        choices[0]["text"] = "".join(told["tokens"])
    elif isinstance(told, dict):
        told["content"].insert(0, told["content"][0])
        choices[0]["message"]["content"] = "".join(each["token"] for each in told["content"])
    handler.reply(200, answer)


def _choices(handler: Handler, body: dict[str, object]) -> None:
    answer = _true(handler, body)
    choices = answer["choices"]
    assert isinstance(choices, list)
    handler.reply(200, answer | {"choices": choices * 2})


def _slow(handler: Handler, body: dict[str, object]) -> None:
    time.sleep(0.05)
    handler.cut()


FAULTS: Mapping[str, Callable[[Handler, dict[str, object]], None]] = {
    "reset": lambda handler, body: handler.cut(),
    "cut": lambda handler, body: handler.cut(json.dumps(_true(handler, body)).encode()[:-9]),
    "429": lambda handler, body: handler.reply(429, {"error": {"message": "slow down"}}),
    "429 retry-after": lambda handler, body: handler.reply(
        429, {"error": {"message": "slow down"}}, retry_after="0.01"
    ),
    "500": lambda handler, body: handler.reply(500, {"error": {"message": "oh"}}),
    "503": lambda handler, body: handler.send(503, b"busy", "text/plain"),
    "html": lambda handler, body: handler.send(200, b"<html>gateway</html>", "text/html"),
    "no json": lambda handler, body: handler.send(200, b'{"choices": [', "application/json"),
    "list": lambda handler, body: handler.reply(200, []),
    "no choices": _choices,
    "error in 200": lambda handler, body: handler.reply(200, {"error": {"message": "overloaded"}}),
    "nan": _nan,
    "repeated token": _repeated,
    "slow": _slow,
}
