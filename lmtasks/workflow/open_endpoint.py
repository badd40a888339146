"""A server's address to a solver that asks it, and what is remembered of it between commands.

What a server answered to the known texts is kept beside the answers. As long as it answers alike
(`ProbeAnswers.is_like`) its earlier answers count; once it does not, that is told, and they count no more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError
from lmtasks.settings.endpoint import Endpoint

if TYPE_CHECKING:
    from lmtasks.data.tokenizer import Tokenizer
    from lmtasks.endpoint.engine import EndpointEngine
    from lmtasks.endpoint.probe import ProbeAnswers, Server
    from lmtasks.evaluation.cache_store import ByteStore
    from lmtasks.evaluation.chat import ChatUse
    from lmtasks.evaluation.endpoint_solver import EndpointSolver
    from lmtasks.evaluation.protocols import InferenceEngine
    from lmtasks.settings.evaluation import PromptFormat

KEY_BYTES = 16
log = logging.getLogger(__name__)


def probe_server(address: str, settings: Endpoint, *, cache: Path | None) -> Server:
    """Ask a server what it can do.

    Args:
        cache: where it is remembered what it answered before; None: nowhere.

    Raises:
        UsageError: the address is none, it has no such model, or the tokenizer is another one.
        WorkError: it is down, or speaks another protocol.
    """
    from lmtasks.endpoint.client import Client
    from lmtasks.endpoint.probe import probe

    tokenizer = tokenizer_of(settings)
    with closing(Client(address, settings)) as client:
        found = probe(client, settings, tokenizer=tokenizer)
    for notice in found.notices:
        log.warning("%s", notice)
    if cache is None:
        return found
    from lmtasks.evaluation.cache_store import ByteStore
    from lmtasks.workflow.open_model import is_own_place

    with closing(ByteStore(cache, own_place=is_own_place(cache))) as store:
        return remembered(found, store) if store.usable else found


def remembered(server: Server, store: ByteStore) -> Server:
    """The server as it was known before, where it answers alike; else that it changed is told, and it is known anew."""
    claim = f"{server.claim.model} {server.claim.fingerprint}".strip()
    held = _held(server, store)
    alike = [each for each in held if each.claim == claim and each.answers.is_like(server.answers)]
    if held and held[-1] in alike:
        return replace(server, known_as=held[-1].answers.hash)
    if held:
        last = held[-1]
        what = "it answers a known text otherwise" if last.claim == claim else f"it called itself {last.claim!r}"
        more = f"; those from {alike[-1].day}, when it answered as now, do" if alike else ""
        log.warning(
            "%s (%s) changed since %s: %s. Answers that are kept from then do not count%s.",
            *(server.address, server.name, last.day, what, more),
        )
    kept = alike[-1].answers if alike else server.answers
    day = datetime.now(UTC).date().isoformat()
    record = {"logprobs": kept.logprobs, "text": kept.text, "claim": claim, "day": day}
    store.put([(_key(server, len(held)), json.dumps(record).encode())])
    return replace(server, known_as=kept.hash)


@contextmanager
def open_endpoint(server: Server, settings: Endpoint, *, cache: Path | None) -> Iterator[InferenceEngine]:
    """A server that was probed, ready to answer what the cache lacks.

    Raises:
        UsageError: the variable with its key is not set.
    """
    from lmtasks.workflow.open_model import with_cache

    with closing(unasked_engine(server, settings)) as engine, with_cache(engine, folder=None, cache=cache) as answers:
        yield answers


def unasked_engine(server: Server, settings: Endpoint) -> EndpointEngine:
    """An engine over a server that was probed; it asks nothing before it is asked."""
    from lmtasks.endpoint.client import Client
    from lmtasks.endpoint.engine import EndpointEngine

    client = Client(server.address, settings)
    return EndpointEngine(client, server, settings=settings, tokenizer=tokenizer_of(settings))


def server_solver(engine: InferenceEngine, server: Server, settings: Endpoint) -> EndpointSolver:
    """The solver over an engine that asks a server."""
    from lmtasks.evaluation.endpoint_solver import EndpointSolver

    return EndpointSolver(engine, server=server, knows_tokens=settings.server_tokenizer is not None)


def chat_of_server(server: Server, prompts: PromptFormat | None = None) -> ChatUse | None:
    """Chats by the server's own template, where they are asked for or it answers nothing else; and the system
    instruction.

    Raises:
        UsageError: an option is about a template on this machine.
    """
    from lmtasks.endpoint.protocol import chat_prompt
    from lmtasks.evaluation.chat import server_chat, template_settings
    from lmtasks.settings.evaluation import PromptFormat

    prompts = prompts or PromptFormat()
    return server_chat(
        chat_prompt,
        asked=prompts.apply_chat_template is not None or not server.completes,
        system=prompts.system_instruction,
        multiturn=prompts.fewshot_as_multiturn,
        settings=template_settings(prompts.chat_template_args),
    )


def tokenizer_of(settings: Endpoint) -> Tokenizer | None:
    """The tokenizer that was given.

    Raises:
        UsageError: there is none in that folder.
    """
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.model.files import tokenizer_folder

    folder = settings.server_tokenizer
    if folder is None:
        return None
    if not folder.is_dir():
        raise UsageError(f"--server-tokenizer takes a folder with a tokenizer.json; {folder} is none.")
    return load_tokenizer(tokenizer_folder(folder))


@dataclass(frozen=True, kw_only=True)
class _Known:
    """How a server was known on a day."""

    answers: ProbeAnswers
    claim: str
    day: str


def _held(server: Server, store: ByteStore) -> list[_Known]:
    """How it was known, each change one more; a store replaces nothing."""
    found: list[_Known] = []
    while (value := store.get([key := _key(server, len(found))]).get(key)) is not None:
        known = _read(value)
        if known is None:
            break
        found.append(known)
    return found


def _key(server: Server, number: int) -> bytes:
    asked = json.dumps(["endpoint", server.address, server.name, server.scores, number]).encode()
    return blake2b(asked, digest_size=KEY_BYTES).digest()


def _read(value: bytes) -> _Known | None:
    from lmtasks.endpoint.probe import ProbeAnswers

    try:
        found = json.loads(value)
        logprobs = tuple(float(each) for each in found["logprobs"])
        answers = ProbeAnswers(logprobs=logprobs, text=str(found["text"]))
        return _Known(answers=answers, claim=str(found["claim"]), day=str(found["day"]))
    except (ValueError, KeyError, TypeError):
        return None
