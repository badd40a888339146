"""The server's side of HTTP: who may ask, how much, where a request goes, and how its end is told.

Nothing is answered in HTML, and no other origin is let in: a page that somebody has open in a browser can read no
answer (no CORS), can send nothing that is taken (a body must say that it is JSON, which no form does), and cannot come
by another name for this machine (the Host header is held against the names of loopback).
"""

import asyncio
import hmac
import ipaddress
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmtasks.errors import LmtasksError, UsageError
from lmtasks.serve.heads import HeadService, VectorService
from lmtasks.serve.texts import ServedModel, TextService
from lmtasks.serve.wire import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    PredictBody,
    Refused,
    TokenizeRequest,
    Wire,
    encoded,
    event,
    read,
)
from lmtasks.serve.worker import EngineWorker, ServerEnded
from lmtasks.settings.serve import ServeSettings

Body = TypeVar("Body", bound=Wire)
JSON = "application/json"
REMEMBERED = 32
"""Requests whose time says when a refused one may come again."""
MOST_WAIT_SECONDS = 60
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
CLIENT_GONE = 499
"""In the access log; nobody is there to be told."""
log = logging.getLogger(__name__)

OnAccess = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything that a model answers."""

    model: ServedModel
    texts: TextService
    heads: HeadService
    vectors: VectorService
    worker: EngineWorker
    runs_on: str
    """Runtime, device and precision, for people."""


class ClientGoneError(Exception):
    """Whoever asked has closed the connection."""


class Door:
    """Counts requests that are inside, and lets no more in than there is room for.

    Args:
        room: gives how many requests may be inside now.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        self._room = room
        self._inside = 0
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self.is_shut = False
        """Does the server come to its end?"""

    @property
    def inside(self) -> int:
        """Requests that are being answered, or wait."""
        return self._inside

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A request is inside.

        Raises:
            Refused: 503 where the server ends, 429 where there is no room.
        """
        if self.is_shut:
            raise Refused("the server is ending; ask another one.", status=503, headers={"Connection": "close"})
        if self._inside >= self._room():
            raise Refused(
                f"{self._inside} requests are being answered or wait, which is as many as this server takes "
                "(--rows and --queue); come again later.",
                status=429,
                code="rate_limit_exceeded",
                headers={"Retry-After": str(self._wait())},
            )
        self._inside += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._inside -= 1
            self._seconds.append(time.monotonic() - began)

    def _wait(self) -> int:
        """Seconds until there may be room: what the last requests took on average."""
        mean = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        return max(1, min(MOST_WAIT_SECONDS, math.ceil(mean)))


@dataclass(frozen=True, kw_only=True)
class _Limits:
    body_bytes: int
    seconds: float


class Post(Generic[Body]):
    """One address that is asked by POST.

    Args:
        schema: of its requests.
        answer: the whole answer.
        stream: the answer in pieces, for requests that ask for them.
    """

    def __init__(
        self,
        schema: type[Body],
        answer: Callable[[Body], Awaitable[Mapping[str, object]]],
        *,
        stream: Callable[[Body], AsyncIterator[bytes]] | None = None,
        model: ServedModel,
        door: Door,
        limits: _Limits,
    ) -> None:
        self._schema = schema
        self._answer, self._stream = answer, stream
        self._model, self._door, self._limits = model, door, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        began = False

        async def sent(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            with self._door.entered():
                async with asyncio.timeout(self._limits.seconds):
                    body = await self._read(Request(scope, receive))
                    await unless_gone(receive, self._respond(body, scope, receive, sent))
        except ClientGoneError:
            scope["state"]["gone"] = True
        except Exception as error:  # noqa: BLE001  # the border to the client: it is told, whatever it is
            refused = refusal_of(error, seconds=self._limits.seconds)
            if not began:
                await refused_response(refused)(scope, receive, send)
                return
            await send({"type": "http.response.body", "body": event(refused.body()), "more_body": False})

    async def _read(self, request: Request) -> Body:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise Refused(f"the body must be JSON, and say so: Content-Type: {JSON}.", status=415)
        most = self._limits.body_bytes
        too_large = Refused(
            f"the body has more than {most:,} bytes, which is as many as this server takes (--max-body).",
            status=413,
            headers={"Connection": "close"},
        )
        said = request.headers.get("content-length", "")
        if said.isdigit() and int(said) > most:
            raise too_large
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large
            parts.append(part)
        body = read(self._schema, b"".join(parts))
        wanted = getattr(body, "model", None)
        if wanted is not None and wanted != self._model.name:
            raise Refused(
                f"there is no model {wanted!r} here; this server has {self._model.name!r}.",
                status=404,
                param="model",
                code="model_not_found",
            )
        return body

    async def _respond(self, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
        if self._stream is None or not getattr(body, "stream", False):
            await Response(encoded(await self._answer(body)), media_type=JSON)(scope, receive, send)
            return
        pieces = self._stream(body)
        first = await anext(pieces)  # what is refused is refused before the answer begins
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Guard:
    """Stands before everything: names and tokens, and a line for each request.

    Args:
        token: that requests must bring; empty: none.
        hosts: names by which the server may be called; None: any.
        on_access: takes a line for each request.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: frozenset[str] | None, on_access: OnAccess | None) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = hosts
        self._on_access = on_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            return
        scope.setdefault("state", {})
        status, began = 0, time.monotonic()

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(Request(scope))
        except Refused as refused:
            await refused_response(refused)(scope, receive, seen)
        else:
            await self._app(scope, receive, seen)
        if self._on_access is not None:
            told = CLIENT_GONE if scope["state"].get("gone") else status
            took = 1000 * (time.monotonic() - began)
            self._on_access(f"{scope['method']} {scope['path']} {told} {took:.0f} ms")

    def _check(self, request: Request) -> None:
        if self._hosts is not None and host_name(request.headers.get("host", "")) not in self._hosts:
            raise Refused(
                "this server is called by the names of this machine alone (127.0.0.1, localhost); the Host header has "
                "another one.",
                status=421,
            )
        if self._token and request.url.path != "/health":
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._token):
                raise Refused(
                    "this server asks for its token: Authorization: Bearer TOKEN.",
                    status=401,
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )


def application(
    services: Services, *, settings: ServeSettings, token: str, door: Door, on_access: OnAccess | None
) -> Guard:
    """All addresses of a server.

    Args:
        token: that requests must bring; empty: none.
        door: of the server, which shuts it at its end.
        on_access: takes a line for each request; None: nobody wants any.
    """
    model, texts = services.model, services.texts
    limits = _Limits(body_bytes=1024 * settings.max_body, seconds=settings.time_limit)

    def post(
        path: str,
        schema: type[Body],
        answer: Callable[[Body], Awaitable[Mapping[str, object]]],
        *,
        stream: Callable[[Body], AsyncIterator[bytes]] | None = None,
    ) -> Route:
        return Route(path, Post(schema, answer, stream=stream, model=model, door=door, limits=limits), methods=["POST"])

    async def health(request: Request) -> Response:
        status: Literal["ok", "ending"] = "ending" if door.is_shut else "ok"
        content: dict[str, object] = {"status": status}
        if not token:
            content |= {"model": model.name, "requests": door.inside, "writing": services.worker.writing}
        return Response(encoded(content), status_code=503 if door.is_shut else 200, media_type=JSON)

    card = {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "lmtasks",
        "max_model_len": model.length,
    }

    async def models(request: Request) -> Response:
        return Response(encoded({"object": "list", "data": [card]}), media_type=JSON)

    async def one_model(request: Request) -> Response:
        name = request.path_params["name"]
        if name != model.name:
            refused = Refused(f"there is no model {name!r} here.", status=404, code="model_not_found")
            return refused_response(refused)
        return Response(encoded(card), media_type=JSON)

    async def tokenize(asked: TokenizeRequest) -> Mapping[str, object]:
        (ids,) = await texts.encode([asked.prompt], special=asked.add_special_tokens)
        return {"count": len(ids), "max_model_len": model.length, "tokens": list(ids)}

    async def detokenize(asked: DetokenizeRequest) -> Mapping[str, object]:
        return {"prompt": texts.decode(asked.tokens)}

    app = Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/v1/models", models, methods=["GET"]),
            Route("/v1/models/{name:path}", one_model, methods=["GET"]),
            post("/v1/completions", CompletionRequest, texts.complete, stream=texts.stream_completion),
            post("/v1/chat/completions", ChatRequest, texts.chat, stream=texts.stream_chat),
            post("/v1/embeddings", EmbeddingRequest, services.vectors.embed),
            post("/predict", PredictBody, services.heads.predict),
            post("/tokenize", TokenizeRequest, tokenize),
            post("/detokenize", DetokenizeRequest, detokenize),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    hosts = LOOPBACK | {settings.host} if is_loopback(settings.host) else None
    return Guard(app, token=token, hosts=hosts, on_access=on_access)


def is_loopback(host: str) -> bool:
    """Is it an address that other machines cannot reach?

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("0.0.0.0"), is_loopback("::1")
    (True, True, False, True)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("localhost:8000"), host_name("[::1]:8000"), host_name("127.0.0.1"), host_name("evil.example")
    ('localhost', '::1', '127.0.0.1', 'evil.example')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


async def unless_gone(receive: Receive, work: Coroutine[object, object, None]) -> None:
    """Do the work while the client is there; it is cancelled once the client has gone.

    Raises:
        ClientGoneError: it has.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        working.result()
    finally:
        for each in (working, waiting):
            each.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


def refusal_of(error: Exception, *, seconds: float) -> Refused:
    """An error as the client is told it."""
    match error:
        case Refused():
            return error
        case TimeoutError():
            return Refused(f"the request was not answered within {seconds:g} s (--time-limit).", status=504)
        case ServerEnded():
            return Refused("the server ended before the answer did.", status=503, headers={"Connection": "close"})
        case UsageError():
            return Refused(str(error))
        case LmtasksError():
            return Refused(str(error), status=500)
    log.error("a fault of lmtasks", exc_info=error)
    return Refused(f"unexpected {type(error).__name__}; the server's log has more.", status=500)


def refused_response(refused: Refused) -> Response:
    """The error object with its status."""
    return Response(encoded(refused.body()), status_code=refused.status, media_type=JSON, headers=refused.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """An address that there is not, or another method than it takes."""
    assert isinstance(error, HTTPException)
    sentences: Sequence[tuple[int, str]] = (
        (404, f"there is no {request.url.path} here; see GET /v1/models and the documentation of lmtasks serve."),
        (405, f"{request.url.path} is not asked by {request.method}."),
    )
    told = dict(sentences).get(error.status_code, str(error.detail))
    return refused_response(Refused(told, status=error.status_code, headers=dict(error.headers or {})))
