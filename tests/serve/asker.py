"""Asks a server, and holds what it answered."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from lmtasks.serve.server import Serving


@dataclass(frozen=True)
class Answered:
    """One answer of a server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict:  # type: ignore[type-arg]  # whatever it is
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def error(self) -> dict:  # type: ignore[type-arg]
        return self.json["error"]  # type: ignore[no-any-return]

    @property
    def events(self) -> list[dict]:  # type: ignore[type-arg]
        lines = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line]
        assert lines[-1] == "[DONE]", lines[-1]
        return [json.loads(line) for line in lines[:-1]]


@dataclass(frozen=True)
class Asker:
    """Asks one server."""

    server: "Serving"

    def __call__(
        self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None, method: str = ""
    ) -> Answered:
        connection = self.connect()
        try:
            self.send(connection, path, body, headers=headers, method=method)
            return answered(connection.getresponse())
        finally:
            connection.close()

    def connect(self) -> HTTPConnection:
        place = urlsplit(self.server.address)
        return HTTPConnection(place.hostname or "", place.port, timeout=60)

    def send(
        self,
        connection: HTTPConnection,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "",
    ) -> None:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        connection.request(method or ("GET" if data is None else "POST"), path, body=data, headers=all_headers)


def answered(response: HTTPResponse) -> Answered:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answered(status=response.status, headers=headers, body=response.read())


Start = Callable[..., AbstractContextManager[Asker]]
