"""`lmtasks predict`: one text, or lines on standard input, through a model; answers on standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.signature import Without
from lmtasks.cli.streams import waiting_lines
from lmtasks.cli.values import open_options
from lmtasks.settings.data import DataAccess, TaskNames, TrustCode
from lmtasks.settings.evaluation import GenKwargs, Seed
from lmtasks.settings.models import BatchSize, LabelMap, Model, NewTokens
from lmtasks.settings.runs_on import RunsOn

if TYPE_CHECKING:
    from lmtasks.engine.requests import TokenEvent
    from lmtasks.workflow.predict import PredictedTexts

LINES = 64
"""Lines that are answered together, where so many wait."""


def command(
    *,
    model: Model,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to answer; without it, every line of standard input.")
    ] = None,
    names: TaskNames,
    label_map: LabelMap = "",
    new_tokens: NewTokens = 64,
    gen_kwargs: GenKwargs = "",
    on: RunsOn,
    batch_size: BatchSize = "auto",
    seed: Seed = 1234,
    access: Annotated[DataAccess, Without("data_root")],
    trust_code: TrustCode = False,
) -> None:
    """Answer one text, or each line of standard input. A task that reads several columns takes lines of JSON."""
    from lmtasks.task.generation import read_kwargs
    from lmtasks.workflow.choose_tasks import TaskRequest
    from lmtasks.workflow.predict import PredictRequest, open_predictor

    request = PredictRequest(
        model=model,
        tasks=TaskRequest(tasks=names.tasks, include=names.include_path, trust_code=trust_code),
        opening=open_options(on, batch_size=batch_size, label_map=label_map),
        new_tokens=new_tokens,
        generation=read_kwargs(gen_kwargs),
        seed=seed,
        offline=access.offline,
        token=access.token,
    )
    watched = sys.stdout.isatty()
    with open_predictor(request, on_token=_show if watched else None) as predictor:
        if text is None and sys.stdin is not None and sys.stdin.isatty():
            print("lmtasks: type a text and press Enter; Ctrl-D ends.", file=sys.stderr)
        for lines in waiting_lines(1 if watched else LINES) if text is None else ([text],):
            _print(predictor.answer(lines), streamed=watched)


def _print(answered: PredictedTexts, *, streamed: bool) -> None:
    """One line of output for each line of input."""
    for note in answered.notes:
        print(f"lmtasks: {note}", file=sys.stderr)
    if streamed and answered.written:
        print()
    else:
        for answer in answered.answers:
            print(" ".join(answer.splitlines()), flush=True)
    if answered.truncated:
        print(f"lmtasks: {answered.truncated} texts are longer than the model takes, and were cut.", file=sys.stderr)


def _show(event: TokenEvent) -> None:
    print(event.text, end="", flush=True)
