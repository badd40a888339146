"""`lmtasks serve`: a model is opened, and answers until it is told to end.

    curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' -d '{"prompt": "Once"}'

HTTP itself is Starlette's and uvicorn's (the extra `serve`). At SIGTERM or Ctrl-C nothing new is taken, what is being
answered has `drain` seconds to end, and the process ends with 0; a second one gives up what is being answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError
from lmtasks.serve.asking import WorkerClient
from lmtasks.serve.heads import HeadService, VectorService
from lmtasks.serve.texts import ServedModel, TextService
from lmtasks.serve.worker import EngineWorker
from lmtasks.settings.models import batch_rows
from lmtasks.settings.serve import ServeSettings
from lmtasks.workflow.choose_models import OpenOptions, labels_of
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.predict import PredictRequest, asked_tasks, task_for_head

if TYPE_CHECKING:
    from lmtasks.engine.engine import Engine
    from lmtasks.evaluation.chat import ChatTemplate
    from lmtasks.records import ModelCard
    from lmtasks.serve.app import Door, OnAccess, Services
    from lmtasks.task.task import Task

PACKAGES = ("starlette", "uvicorn")
LAST_WORDS_SECONDS = 5
"""Clients whose requests are given up at the end have so long to be told."""
KEEP_ALIVE_SECONDS = 60
"""A connection on which nothing is asked is closed after so long."""


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """Which model is served, and how."""

    model: str
    opening: OpenOptions = field(default_factory=OpenOptions)
    settings: ServeSettings = field(default_factory=ServeSettings)
    tasks: TaskRequest = field(default_factory=TaskRequest)
    """What `/predict` answers; none: the tasks of the model's heads."""
    offline: bool = False
    token: str | None = None
    """Of the Hub."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A server that answers."""

    address: str
    """`http://127.0.0.1:8000`"""
    name: str
    """The model's, for requests."""
    runs_on: str
    example: str
    """A command that asks it something."""
    stop: Callable[[], None]
    """Ends it as SIGTERM does, from any thread."""


def serve(request: ServeRequest, *, on_ready: Callable[[Serving], None], on_access: OnAccess | None = None) -> None:
    """Serve a model until a signal, or `Serving.stop`, ends it.

    Args:
        on_ready: is told once it answers.
        on_access: takes a line for each request.

    Raises:
        UsageError: the extra is not installed, an address that others reach has no token, or no such model or task.
        WorkError: the model cannot be loaded, or the address cannot be listened at.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise UsageError(f"serve needs {' and '.join(missing)}, not installed here: pip install 'lmtasks[serve]'.")
    from lmtasks.serve.app import Door, application

    settings = request.settings
    token = _token(settings)
    with _listening(settings) as listener, _services(request) as services:
        door = Door(lambda: services.worker.rows + settings.queue)
        app = application(services, settings=settings, token=token, door=door, on_access=on_access)
        port = listener.getsockname()[1]
        address = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}"
        asyncio.run(
            _until_ended(
                app,
                listener=listener,
                door=door,
                drain=settings.drain,
                on_late=services.worker.end,
                on_ready=lambda stop: on_ready(
                    Serving(
                        address=address,
                        name=services.model.name,
                        runs_on=services.runs_on,
                        example=_example(services, address=address, variable=settings.api_key_env),
                        stop=stop,
                    )
                ),
            )
        )


@contextmanager
def serving(request: ServeRequest) -> Iterator[Serving]:
    """A server in a thread of this process, which ends with the block.

    Raises:
        UsageError, WorkError: as `serve`.
    """
    ready: list[Serving] = []
    failures: list[BaseException] = []
    changed = threading.Event()

    def begun(server: Serving) -> None:
        ready.append(server)
        changed.set()

    def run() -> None:
        try:
            serve(request, on_ready=begun)
        except BaseException as error:  # noqa: BLE001  # it is raised again in the caller's thread
            failures.append(error)
        changed.set()

    thread = threading.Thread(target=run, name="serve", daemon=True)
    thread.start()
    changed.wait()
    if failures:
        raise failures[0]
    try:
        yield ready[0]
    finally:
        ready[0].stop()
        thread.join()


def _token(settings: ServeSettings) -> str:
    from lmtasks.serve.app import is_loopback

    variable = settings.api_key_env
    if variable is None:
        if not is_loopback(settings.host):
            raise UsageError(
                f"--host {settings.host} can be reached from other machines, and so needs a token: put one into an "
                "environment variable, and name it with --api-key-env."
            )
        return ""
    token = os.environ.get(variable, "").strip()
    if not token:
        raise UsageError(f"the environment variable {variable} (--api-key-env) is not set, or empty.")
    return token


@contextmanager
def _listening(settings: ServeSettings) -> Iterator[socket.socket]:
    """The port, taken before a model is loaded in vain."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(f"--host {settings.host} is no address of this machine: {error.strerror}.") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError as error:
            raise WorkError(
                f"{settings.host}:{settings.port} cannot be listened at ({error.strerror}); give another --port, or 0 "
                "for any that is free."
            ) from None
        yield listener


@contextmanager
def _services(request: ServeRequest) -> Iterator[Services]:
    from lmtasks.model.resolve import resolve
    from lmtasks.serve.app import Services
    from lmtasks.workflow.open_model import card_in, settings_hash

    settings = request.settings
    folder = resolve(request.model, offline=request.offline, token=request.token)
    asked = PredictRequest(
        model=request.model,
        tasks=request.tasks,
        opening=request.opening,
        offline=request.offline,
        token=request.token,
    )
    tasks = _tasks(asked, card_in(folder))
    with request.opening.engine(folder) as engine:
        model = ServedModel(
            name=settings.served_name or labels_of([request.model])[0],
            fingerprint=_fingerprint(engine, settings_hash(folder)),
            created=int(time.time()),
            length=_length(engine, settings.max_length),
        )
        worker = EngineWorker(engine, rows=batch_rows(settings.rows), length=model.length)
        client = WorkerClient(worker)
        template, why_not = _template(folder, name=model.name)
        texts = TextService(engine, client=client, model=model, template=template, no_template=why_not)
        services = Services(
            model=model,
            texts=texts,
            heads=HeadService(engine, client=client, model=model, tasks=tasks, request=asked),
            vectors=VectorService(engine, client=client, model=model, texts=texts),
            worker=worker,
            runs_on=f"{engine.card.runtime} on {engine.card.device} in {engine.card.precision}",
        )
        worker.start()
        try:
            yield services
        finally:
            worker.close()


def _tasks(asked: PredictRequest, card: ModelCard) -> Sequence[Task]:
    """Tasks that `/predict` answers: those that were named, else those of all heads that are known how to be asked."""
    if asked.tasks.tasks:
        return asked_tasks(asked, card)
    known = asked.tasks.index.names()
    return [task_for_head(head, asked) for head in card.heads if head.predicts or head.name in known]


def _length(engine: Engine, wanted: int | None) -> int:
    longest = engine.max_length_tokens
    if wanted is not None and wanted > longest:
        raise UsageError(f"--max-length is {wanted}, but {engine.model.name} takes {longest} tokens.")
    return wanted or longest


def _template(folder: Path, *, name: str) -> tuple[ChatTemplate | None, str]:
    """The model's chat template, or why it has none that can be written by."""
    from lmtasks.evaluation.chat import DEFAULT, chat_template

    try:
        return chat_template(folder, name=DEFAULT), ""
    except UsageError as error:
        why_not = str(error).partition(";")[0].rstrip(".")
        return None, f"{why_not.replace(str(folder), name)}."  # where it lies is nothing for clients


def _fingerprint(engine: Engine, settings_hash: str) -> str:
    """Names all that an answer depends on besides the request."""
    card, runtime = engine.model, engine.card
    facts = [card.weights_hash, card.tokenizer_hash, settings_hash, runtime.runtime, runtime.version, runtime.device]
    digest = hashlib.sha256(json.dumps([*facts, runtime.precision]).encode()).hexdigest()
    return f"lmtasks-{card.weights_hash}-{digest[:8]}"


def _example(services: Services, *, address: str, variable: str | None) -> str:
    """A command that a person may type to see that it answers."""
    content: dict[str, object]
    if services.heads.tasks:
        path, content = "/predict", {"rows": [services.heads.example]}
    elif services.vectors.has_vectors and not services.texts.writes:
        path, content = "/v1/embeddings", {"input": "Any text."}
    else:
        path, content = "/v1/completions", {"prompt": "Once upon a time", "max_tokens": 16}
    bearer = "" if variable is None else f' -H "Authorization: Bearer ${variable}"'
    body = shlex.quote(json.dumps(content, ensure_ascii=False))
    return f"curl {address}{path} -H 'Content-Type: application/json'{bearer} -d {body}"


async def _until_ended(
    app: object,
    *,
    listener: socket.socket,
    door: Door,
    drain: float,
    on_late: Callable[[], None],
    on_ready: Callable[[Callable[[], None]], None],
) -> None:
    import uvicorn

    loop = asyncio.get_running_loop()
    server = uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # an application of ASGI
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(drain + LAST_WORDS_SECONDS),
        )
    )

    asked = 0

    def end() -> None:
        nonlocal asked
        asked += 1
        server.force_exit = asked > 2  # it waits for nobody any more
        if asked == 1:
            loop.call_later(drain, on_late)
        elif asked == 2:
            on_late()
        server.should_exit = door.is_shut = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            with suppress(NotImplementedError):  # an event loop of Windows; Ctrl-C interrupts it
                loop.add_signal_handler(number, end)

    def stop() -> None:
        with suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(end)

    server.capture_signals = nullcontext  # type: ignore[assignment, method-assign]  # its own ends a process by the signal
    ending = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started and not ending.done():
        await asyncio.sleep(0.01)
    if server.started:
        on_ready(stop)
    await ending
