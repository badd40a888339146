"""Settings of `serve`: where it listens, who may ask, and how much."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from lmtasks.settings.base import Setting, Settings
from lmtasks.settings.bounds import COUNT, POSITIVE, Bound
from lmtasks.settings.models import auto_or_count

PORT = Bound(least=0, most=65535, whole=True)
WAITING = Bound(least=0, most=100_000, whole=True)


class ServeSettings(Settings):
    """Address, token and limits of a server."""

    host: Annotated[
        str,
        Setting(
            "Address to listen at; other than this machine's own (127.0.0.1, localhost, ::1) only with --api-key-env.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, PORT, Setting("Port to listen at; 0: any that is free.", metavar="NUMBER")] = 8000
    api_key_env: Annotated[
        str | None,
        Setting(
            "Environment variable that holds the token which every request must bring (Authorization: Bearer TOKEN).",
            metavar="NAME",
        ),
    ] = None
    served_name: Annotated[
        str | None, Setting("Name by which requests call the model; default: that of its folder.", metavar="NAME")
    ] = None
    rows: Annotated[
        int | Literal["auto"],
        BeforeValidator(auto_or_count),
        Setting(
            "Texts that are written at once, at most, or auto: as many as make tokens come fastest, which their first "
            "steps find out; others wait.",
            metavar="NUMBER",
            unit="texts",
        ),
    ] = "auto"
    queue: Annotated[
        int,
        WAITING,
        Setting(
            "Requests that may wait beside --rows that are answered; to any further one the answer is 429.",
            metavar="NUMBER",
            unit="requests",
        ),
    ] = 64
    max_length: Annotated[
        int | None,
        COUNT,
        Setting(
            "Tokens of a prompt and its answer together, at most; default: what the model takes.",
            metavar="NUMBER",
            unit="tokens",
        ),
    ] = None
    max_body: Annotated[int, COUNT, Setting("Kilobytes of a request's body, at most.", metavar="NUMBER", unit="KB")] = (
        4096
    )
    time_limit: Annotated[
        float, POSITIVE, Setting("A request is given up after so long (504).", metavar="NUMBER", unit="seconds")
    ] = 600.0
    drain: Annotated[
        float,
        POSITIVE,
        Setting(
            "Behind SIGTERM or Ctrl-C, requests that are being answered have so long to end.",
            metavar="NUMBER",
            unit="seconds",
        ),
    ] = 30.0
    access_log: Annotated[bool, Setting("A line on standard error for each request; never its texts.")] = False
