"""Asks a server over HTTP, again where asking again may help, and tells what went wrong in a sentence.

What may pass by itself is asked again after a wait that doubles each time and is drawn at random below that
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, "full jitter"): lost connections, time-outs,
408, 425, 429 and 5xx, and answers that are no JSON, cut off, or not what was asked. `Retry-After` counts before the
wait, for all requests together. What will not pass ends everything: a certificate that does not hold, a redirect
elsewhere, a key that is refused. Anything else (400, 413, 422) is one request's own fault.

The key is read from the environment when the client is made, stands in one header, and in no message.
"""

import json
import math
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import urlsplit

from lmtasks.errors import UsageError, WorkError
from lmtasks.settings.endpoint import Endpoint

if TYPE_CHECKING:
    import httpx2

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
LONGEST_ASKED_WAIT_S = 600.0
"""A server that asks to wait longer is not waited for."""
MOST_BYTES = 256 * 2**20
"""Of one answer."""
PASSING = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may pass by themselves."""
SHOWN = 300
"""Characters of a server's own words in a message."""
NEEDS = "a server is asked through httpx2, which is not installed here; pip install 'lmtasks[endpoint]'."

_Read = TypeVar("_Read")


class RequestFailedError(WorkError):
    """One request has no answer; others may have theirs."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServerError(WorkError):
    """No request has an answer any more."""


class MalformedError(Exception):
    """An answer is not what was asked for. It is asked again."""


class Client:
    """A server's address, asked by several threads at a time.

    Args:
        address: `http://host:port/v1`.
        settings: time-out, retries, and the variable that holds the key.
        seed: of the waits between tries; changes no answer.

    Raises:
        UsageError: the address is none, the variable is not set, or httpx2 is not installed.
    """

    def __init__(self, address: str, settings: Endpoint, *, seed: int | None = None) -> None:
        self.address = checked_address(address)
        self._settings = settings
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._not_before = 0.0
        try:
            import httpx2
        except ImportError:
            raise UsageError(NEEDS) from None
        key = _key(settings.api_key_env)
        limit = settings.concurrent + 1
        try:
            trusted = httpx2.create_ssl_context()  # as the environment says, also where its proxies do not count
        except OSError as error:
            raise UsageError(f"SSL_CERT_FILE or SSL_CERT_DIR names no certificates to be read ({error}).") from None
        self._http = httpx2.Client(
            verify=trusted,
            headers={"Accept": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})},
            timeout=httpx2.Timeout(settings.request_timeout, connect=min(30.0, settings.request_timeout)),
            limits=httpx2.Limits(max_connections=limit, max_keepalive_connections=limit),
            follow_redirects=False,
            trust_env=not _is_loopback(self.address),  # a proxy for the net is none for this machine
        )

    def get(self, path: str, read: Callable[[Mapping[str, object]], _Read], *, retries: int | None = None) -> _Read:
        """The content at a path under the address, as `read` makes it of the JSON.

        Raises:
            RequestFailedError, ServerError: see above.
        """
        return self._asked("GET", path, None, read, retries)

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        read: Callable[[Mapping[str, object]], _Read],
        *,
        retries: int | None = None,
    ) -> _Read:
        """The answer to a question.

        Args:
            read: makes a value of the JSON; raises MalformedError where it is not what was asked for.
            retries: None: as many as the settings say.

        Raises:
            RequestFailedError, ServerError: see above.
        """
        return self._asked("POST", path, body, read, retries)

    def events(self, path: str, body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """The parts of a streamed answer (server-sent events) as they come; asked once, for a part that was seen
        cannot be taken back.

        Raises:
            RequestFailedError: it was refused, or ended before its end mark (`[DONE]`).
            ServerError: see above.
        """
        try:
            with self._sent("POST", path, {**body, "stream": True}) as response:
                if response.status_code != 200:
                    self._refuse(response, _bounded(response, self._deadline()))
                for line in response.iter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    yield _json(data.encode())
        except (MalformedError, _Passing) as error:
            raise RequestFailedError(f"{self.address}: {error}") from None
        raise RequestFailedError(f"{self.address}: the answer was cut off before its end.")

    def stop(self) -> None:
        """Ask nothing any more: what waits ends at once."""
        self._stopped.set()

    def close(self) -> None:
        """Close all connections."""
        self._stopped.set()
        self._http.close()

    def _asked(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        read: Callable[[Mapping[str, object]], _Read],
        retries: int | None,
    ) -> _Read:
        most = self._settings.retries if retries is None else retries
        tried = 0
        while True:
            self._wait_for_turn()
            try:
                deadline = self._deadline()
                with self._sent(method, path, body) as response:
                    content = _bounded(response, deadline)
                    if response.status_code != 200:
                        self._refuse(response, content)
                return read(_json(content, kind=str(response.headers.get("content-type", ""))))
            except (MalformedError, _Passing) as error:
                if tried >= most:
                    times = f" ({tried + 1} tries)" if tried else ""
                    status = error.status if isinstance(error, _Passing) else 0
                    raise RequestFailedError(f"{self.address}: {error}{times}", status=status) from None
                self._wait(error, tried)
                tried += 1

    def _place(self, path: str) -> str:
        """Under the address, or, where it begins with a slash, under the server's root."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}{path}" if path.startswith("/") else f"{self.address}/{path}"

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.request_timeout

    @contextmanager
    def _sent(self, method: str, path: str, body: Mapping[str, object] | None) -> "Iterator[httpx2.Response]":
        import httpx2

        if self._stopped.is_set():
            raise ServerError("asking was ended.")
        try:
            with self._http.stream(method, self._place(path), json=body) as response:
                yield response
        except httpx2.TimeoutException as error:
            raise _Passing(f"no answer within {self._settings.request_timeout:g} s ({type(error).__name__})") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            self._refuse_certificate(error)
            what = str(error).strip().rstrip(".") or type(error).__name__
            raise _Passing(f"the connection failed ({what})", lost=isinstance(error, httpx2.ConnectError)) from None
        except RuntimeError as error:  # a client that another thread has closed
            raise ServerError(f"{self.address}: asking was ended ({error}).") from None

    def _refuse_certificate(self, error: BaseException) -> None:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            why = getattr(cause, "verify_message", "") or cause.reason or str(cause)
            raise ServerError(
                f"{self.address}: the server's certificate or its TLS does not hold ({why}); nothing was sent. "
                "Give an address whose certificate this machine trusts (SSL_CERT_FILE names others)."
            ) from None

    def _refuse(self, response: "httpx2.Response", content: bytes) -> NoReturn:
        status = response.status_code
        words = _words(content, kind=str(response.headers.get("content-type", "")))
        if 300 <= status < 400:
            raise ServerError(
                f"{self.address} redirects to {response.headers.get('location', 'nowhere')}; nothing is sent to "
                "another address than the one that was given. Give that one if you trust it."
            )
        if status in (401, 403):
            name = self._settings.api_key_env
            way = f"the key in ${name}" if name else "a request without a key; name the variable that holds one with "
            raise ServerError(f"{self.address} refuses {way}{'' if name else '--api-key-env'} ({status}: {words}).")
        if status in PASSING or status >= 500:
            raise _Passing(
                f"the server answered {status}: {words}",
                status=status,
                after=_retry_after(response.headers.get("retry-after")),
            )
        raise RequestFailedError(f"{self.address} answered {status}: {words}", status=status)

    def _wait_for_turn(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0:
            if self._stopped.wait(left):
                raise ServerError("asking was ended.")

    def _wait(self, error: Exception, tried: int) -> None:
        after = error.after if isinstance(error, _Passing) else None
        if after is not None:
            if after > LONGEST_ASKED_WAIT_S:
                raise RequestFailedError(f"{self.address} asks to wait {after:.0f} s: {error}")
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + after)
            after += self._random.uniform(0, FIRST_WAIT_S)
        else:
            after = self._random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**tried))
        if self._stopped.wait(after):
            raise ServerError("asking was ended.")


class _Passing(Exception):
    """Something that may pass by itself."""

    def __init__(self, message: str, *, status: int = 0, after: float | None = None, lost: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.after = after
        self.lost = lost


def checked_address(address: str) -> str:
    """A server's address, without a slash at its end.

    >>> checked_address("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000/v1'

    Raises:
        UsageError: it is not http(s), names no host, or holds a password.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port  # a port that is no number shows here
    except ValueError as error:
        raise UsageError(f"{address!r} is no address of a server ({error}); give http://host:port/v1.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"a server is asked at http:// or https://, as http://127.0.0.1:8000/v1, was {address!r}.")
    if parts.username or parts.password:
        raise UsageError("an address with a password in it would be stored with the results; use --api-key-env.")
    if parts.query or parts.fragment:
        raise UsageError(f"a server's address ends before ? and #, as http://127.0.0.1:8000/v1, was {address!r}.")
    return address.rstrip("/")


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"the environment variable {variable} (--api-key-env) is not set; it should hold the key.")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"the key in {variable} holds what no key can hold; set it anew.")
    return key


def _bounded(response: "httpx2.Response", deadline: float) -> bytes:
    """The content, as long as it is neither endless nor endlessly slow."""
    found = bytearray()
    for piece in response.iter_bytes():
        found += piece
        if len(found) > MOST_BYTES:
            raise RequestFailedError(f"the server answers with more than {MOST_BYTES // 2**20} MiB.")
        if time.monotonic() > deadline:
            raise _Passing("the answer did not end in time")
    return bytes(found)


def _json(content: bytes, *, kind: str = "") -> Mapping[str, object]:
    def refuse(name: str) -> float:
        raise MalformedError(f"the server's answer holds {name}, which is no number")

    try:
        found = json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise MalformedError(f"the server's answer is {_kind(content, kind)}: {_words(content, kind=kind)}") from None
    if not isinstance(found, dict):
        raise MalformedError(f"the server's answer is JSON, but no object: {_words(content, kind='')}")
    return found


def _kind(content: bytes, kind: str) -> str:
    if "html" in kind or content.lstrip()[:1] == b"<":
        return "a web page, not JSON; is this the address of an OpenAI-compatible interface (it often ends in /v1)?"
    return "no JSON" if content else "empty"


def _words(content: bytes, *, kind: str) -> str:
    """What a server says itself, short."""
    try:
        found = json.loads(content)
        error = found.get("error", found) if isinstance(found, dict) else found
        message = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
        text = message if isinstance(message, str) else json.dumps(message)
    except (ValueError, RecursionError):
        text = content[:4000].decode("utf-8", "replace")
    text = " ".join(text.split())
    return f"{text[:SHOWN]}..." if len(text) > SHOWN else text or "nothing"


def _retry_after(given: str | None) -> float | None:
    """Seconds, or a date as HTTP writes it; None where it says nothing."""
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            when = parsedate_to_datetime(given)
        except ValueError:
            return None
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
