"""A server as what is timed: each request is sent once, by itself, and its tokens are timed as they come over the wire.

A text is streamed (server-sent events); a part of the stream counts as a token, which it is of most servers. What a
server bills (`usage`) is counted beside. No answer is asked again: a time of two tries is none.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TypeVar

from lmtasks.bench.measure import OpenedVariant
from lmtasks.bench.spec import SpeedSpec, TimedServerSpec
from lmtasks.bench.workload import WorkRequest
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.endpoint.client import Client, RequestFailedError
from lmtasks.endpoint.engine import EndpointEngine
from lmtasks.endpoint.probe import ProbeAnswers, Server
from lmtasks.endpoint.protocol import Claim
from lmtasks.engine.requests import Generated, GenerateRequest, OnToken, Scored, ScoreRequest, TokenEvent
from lmtasks.errors import UsageError
from lmtasks.records import Floats32
from lmtasks.settings.endpoint import Endpoint

MOST_CONNECTIONS = 1024
REFUSED = frozenset({400, 422})
"""Statuses by which a server refuses to say what it bills while it streams."""

_Read = TypeVar("_Read")


class MeteredClient(Client):
    """A client that counts what a server bills."""

    def __init__(self, address: str, settings: Endpoint) -> None:
        super().__init__(address, settings)
        self._count = threading.Lock()
        self.billed: tuple[int, int, int] | None = None
        """Answers that said what they cost, and their tokens read and written; None: none did."""

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        read: Callable[[Mapping[str, object]], _Read],
        *,
        retries: int | None = None,
    ) -> _Read:
        """As `Client.post`."""

        def counted(answer: Mapping[str, object]) -> _Read:
            self._add(answer)
            return read(answer)

        return super().post(path, body, counted, retries=retries)

    def events(self, path: str, body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """As `Client.events`. Some servers tell their count with each part; the last one counts."""
        last: Mapping[str, object] = {}
        for part in super().events(path, body):
            last = part if isinstance(part.get("usage"), Mapping) else last
            yield part
        self._add(last)

    def _add(self, answer: Mapping[str, object]) -> None:
        usage = answer.get("usage")
        counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
        read, written = (each if isinstance(each, int) else 0 for each in counts or (0, 0))
        if not read:
            return
        with self._count:
            before = self.billed or (0, 0, 0)
            self.billed = (before[0] + 1, before[1] + read, before[2] + written)


class TimedServer:
    """An engine of `TimedEngine`'s shape over a server.

    Args:
        client: counts what is billed.
        engine: makes questions of requests, and values of answers.
    """

    def __init__(self, client: MeteredClient, engine: EndpointEngine) -> None:
        self.client = client
        self._engine = engine
        self._tells_usage = True

    def predict(self, head: str, rows: Sequence[WorkRequest]) -> Sequence[Floats32]:
        """
        Raises:
            UsageError: a server has no heads.
        """
        del rows
        raise UsageError(f"{self.client.address} has no head {head!r}: a server is timed on prompts.")

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        """Log-probabilities of given targets, all asked for at once."""
        return self._together(self._engine.score_alone, requests)

    def generate(self, requests: Sequence[GenerateRequest], *, on_token: OnToken | None = None) -> Iterable[Generated]:
        """Continuations of prompts, all asked for at once; streamed."""
        tell = on_token or (lambda event: None)
        return self._together(lambda each: self._written(*each, tell), list(enumerate(requests)))

    def joins(self) -> bool:
        """Each text is asked for by itself; the server sees to the rest."""
        return False

    def serve(
        self,
        arriving: Callable[[bool], Sequence[GenerateRequest] | None],
        *,
        rows: int,
        length: int,
        on_token: OnToken,
    ) -> None:
        """
        Raises:
            NotImplementedError: requests are sent by themselves, see `load.time_load`.
        """
        raise NotImplementedError("requests to a server are sent by themselves")

    def _written(self, place: int, request: GenerateRequest, on_token: OnToken) -> Generated:
        with_usage = self._tells_usage
        try:
            return self._streamed(place, request, on_token, with_usage=with_usage)
        except RequestFailedError as error:
            if error.status not in REFUSED or not with_usage:
                raise
            self._tells_usage = False  # an older server, which knows no stream_options
            return self._streamed(place, request, on_token, with_usage=False)

    def _streamed(self, place: int, request: GenerateRequest, on_token: OnToken, *, with_usage: bool) -> Generated:
        count, text = 0, ""
        for piece in self._engine.pieces(request, with_usage=with_usage):
            on_token(TokenEvent(request=place, step=count, text=piece, stopped=None))
            text += piece
            count += 1
        return Generated(ids=tuple(range(count)), text=text, stopped="length")

    def _together(self, ask: Callable[[_Read], Generated | Scored], items: Sequence[_Read]) -> list:  # type: ignore[type-arg]  # of either
        if len(items) == 1:
            return [ask(items[0])]
        with ThreadPoolExecutor(max_workers=len(items)) as threads:
            return list(threads.map(ask, items))


def server_spec(server: Server, settings: Endpoint) -> TimedServerSpec:
    """A server that was probed, as the child process takes it."""
    return TimedServerSpec(server=asdict(server), settings=settings.model_dump(mode="json"))


def open_server(spec: SpeedSpec) -> OpenedVariant:
    """Open a connection to the server of a spec, which was probed.

    Raises:
        UsageError: the variable with its key is not set.
    """
    assert spec.server is not None  # the caller looked
    settings = Endpoint.model_validate(spec.server.settings).but({"concurrent": MOST_CONNECTIONS, "retries": 0})
    told = dict(spec.server.server)
    claim, answers = told["claim"], told["answers"]
    assert isinstance(claim, Mapping)  # written by `server_spec`
    assert isinstance(answers, Mapping)
    notices = told["notices"]
    assert isinstance(notices, Sequence)
    server = Server(
        **{  # type: ignore[arg-type]  # as `asdict` made it
            **told,
            "claim": Claim(**claim),
            "answers": ProbeAnswers(logprobs=tuple(answers["logprobs"]), text=answers["text"]),
            "notices": tuple(notices),
        }
    )
    client = MeteredClient(server.address, settings)
    folder = settings.server_tokenizer
    engine = EndpointEngine(
        client, server, settings=settings, tokenizer=None if folder is None else load_tokenizer(folder)
    )
    return OpenedVariant(
        engine=TimedServer(client, engine),
        model=engine.model,
        card=engine.card,
        apart=True,
        usage=lambda: client.billed,
    )
