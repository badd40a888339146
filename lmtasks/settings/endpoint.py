"""Settings of a server that is asked as a model: one value from an option, a plan's key or an argument to the client.

The key itself is no setting: it stands in an environment variable, and only the variable's name is ever passed on.
"""

from pathlib import Path
from typing import Annotated

from lmtasks.settings.base import Setting, Settings
from lmtasks.settings.bounds import COUNT, Bound

ADDRESS_SIGN = "://"


class Endpoint(Settings):
    """How a server is asked."""

    served_name: Annotated[
        str | None,
        Setting(
            "What a server calls the model that is asked (--model http://...); default: its only one.", metavar="NAME"
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        Setting(
            "The environment variable that holds a server's key; the key is never stored or shown.", metavar="NAME"
        ),
    ] = None
    server_tokenizer: Annotated[
        Path | None,
        Setting(
            "Folder with the tokenizer.json of the model that a server has: prompts go as token ids where the server "
            "takes them, and texts are scored in windows.",
            metavar="FOLDER",
        ),
    ] = None
    server_context: Annotated[
        int | None,
        COUNT,
        Setting("Tokens that a server's model reads, where the server does not say.", metavar="NUMBER", unit="tokens"),
    ] = None
    concurrent: Annotated[
        int,
        Bound(least=1, most=1024, whole=True),
        Setting("Requests to a server at a time, at most.", metavar="NUMBER", unit="requests"),
    ] = 8
    request_timeout: Annotated[
        float,
        Bound(least=0, above=True, most=86_400),
        Setting("Time for one request to a server.", metavar="SECONDS", unit="seconds"),
    ] = 120.0
    retries: Annotated[
        int,
        Bound(least=0, most=1000, whole=True),
        Setting(
            "How often a failed request to a server is asked again, each time after a longer wait.", metavar="NUMBER"
        ),
    ] = 8


def is_address(ref: str) -> bool:
    """Is a model named by the address of a server?

    >>> is_address("http://127.0.0.1:8000/v1"), is_address("runs/mine")
    (True, False)
    """
    return ADDRESS_SIGN in ref
