"""`lmtasks serve`: a model behind HTTP, until a signal ends it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from lmtasks.cli.signature import Without
from lmtasks.cli.values import open_options
from lmtasks.errors import UsageError
from lmtasks.settings.data import DataAccess, TaskNames, TrustCode
from lmtasks.settings.models import BatchSize, LabelMap, Model
from lmtasks.settings.runs_on import RunsOn
from lmtasks.settings.serve import ServeSettings

if TYPE_CHECKING:
    from lmtasks.serve.server import Serving


def command(
    *,
    model: Model = "",
    names: TaskNames,
    label_map: LabelMap = "",
    settings: ServeSettings,
    on: RunsOn,
    batch_size: BatchSize = "auto",
    access: Annotated[DataAccess, Without("data_root")],
    trust_code: TrustCode = False,
) -> None:
    """Serve a model over HTTP: OpenAI's completions, chats and vectors, and POST /predict for heads.

    --tasks names what /predict answers; without it, the tasks of the model's heads. Texts of all clients are written
    together. SIGTERM or Ctrl-C ends it, once what is being answered is.
    """
    from lmtasks.serve.server import ServeRequest, serve
    from lmtasks.workflow.choose_tasks import TaskRequest

    if not model:
        raise UsageError("missing option '--model': a model or package folder, a shipped name, or a Hub id.")
    request = ServeRequest(
        model=model,
        opening=open_options(on, batch_size=batch_size, label_map=label_map),
        settings=settings,
        tasks=TaskRequest(tasks=names.tasks, include=names.include_path, trust_code=trust_code),
        offline=access.offline,
        token=access.token,
    )
    serve(request, on_ready=_ready, on_access=_line if settings.access_log else None)


def _ready(server: Serving) -> None:
    print(f"{server.name} ({server.runs_on}) is served at {server.address}. Try:\n{server.example}", flush=True)


def _line(line: str) -> None:
    print(f"lmtasks: {line}", file=sys.stderr, flush=True)
