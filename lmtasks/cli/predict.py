"""`lmtasks predict`: one text, or lines on standard input, through a model; answers on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli import options
from lmtasks.cli.lines import waiting_lines
from lmtasks.cli.models import label_names
from lmtasks.errors import UsageError

if TYPE_CHECKING:
    from lmtasks.data.tokenizer import Tokenizer
    from lmtasks.engine.engine import Engine, HeadRow
    from lmtasks.engine.requests import Generated, GenerateRequest, OnProgress, Scored, ScoreRequest, TokenEvent
    from lmtasks.evaluation.solver import Solver
    from lmtasks.records import Floats32, HeadSpec, ModelCard, RuntimeCard
    from lmtasks.task.index import TaskIndex
    from lmtasks.task.task import Task

LINES = 64
"""Lines that are answered together, where so many wait."""
MOST_CHARACTERS = 1_000_000
"""Of a line that is cut into tokens as a whole, which takes a second or two; what a model takes is far less."""
CHARACTERS_OF_TOKEN = 32
WHOLE = frozenset({"tagging", "span"})
"""Kinds of tasks whose answers are about every part of a text."""


def command(
    model: options.Model,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to answer; without it, every line of standard input.")
    ] = None,
    tasks: options.Tasks = "",
    include_path: options.IncludePath = options.NO_PATHS,
    label_map: options.LabelMap = "",
    new_tokens: Annotated[
        int,
        typer.Option(
            metavar="NUMBER",
            parser=options.whole("--new-tokens", at_least=1),
            help="Longest continuation of a model that is asked without a task.",
        ),
    ] = 64,
    gen_kwargs: options.GenKwargs = "",
    runtime: options.Runtime = None,
    device: options.Device = "cpu",
    precision: options.Precision = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = "auto",
    seed: options.Seed = 1234,
    offline: options.Offline = False,
    token: options.Token = None,
    trust_code: options.TrustCode = False,
) -> None:
    """Answer one text, or each line of standard input. A task that reads several columns takes lines of JSON."""
    from lmtasks.evaluation.engine_solver import EngineSolver
    from lmtasks.model.resolve import resolve
    from lmtasks.task.generation import read_kwargs, with_generation
    from lmtasks.task.index import default_index
    from lmtasks.workflow.open_model import card_in, open_engine
    from lmtasks.workflow.predict import unlabelled

    folder = resolve(model, offline=offline, token=token)
    named = _task(
        tasks,
        card_in(folder),
        new_tokens=new_tokens,
        index=default_index(include=include_path),
        trust_code=trust_code,
    )
    (decoded,) = with_generation([named], read_kwargs(gen_kwargs))
    task = unlabelled(decoded)
    names = label_names(label_map)
    with open_engine(
        folder,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        rows_per_batch=options.batch_rows(batch_size),
    ) as engine:
        watched = _Watched(engine) if sys.stdout.isatty() else engine
        solver = EngineSolver(watched, label_names=names)
        why_not = solver.why_not(task, way="auto")
        if why_not:
            raise UsageError(why_not)
        together = 1 if sys.stdout.isatty() else LINES
        if text is None and sys.stdin is not None and sys.stdin.isatty():
            print("lmtasks: type a text and press Enter; Ctrl-D ends.", file=sys.stderr)
        for lines in waiting_lines(together) if text is None else ([text],):
            _answer(solver, task, lines, seed=seed, streamed=watched is not engine)


def _task(tasks: str, card: ModelCard, *, new_tokens: int, index: TaskIndex, trust_code: bool) -> Task:
    """The task that was named, a text being continued for one of language modelling; else that of the model's one
    head; else to go on writing."""
    from lmtasks.workflow.predict import task_of_continuation

    if tasks:
        found = index.find(tasks, trust_code=trust_code)
        if len(found) > 1:
            names = ", ".join(task.name for task in found)
            raise UsageError(f"predict answers one task at a time, --tasks names {len(found)}: {names}.")
        if found[0].kind == "language_modelling":
            return task_of_continuation(new_tokens=new_tokens)
        return found[0]
    if len(card.heads) == 1:
        return _task_of(card.heads[0], new_tokens=new_tokens, index=index, trust_code=trust_code)
    if card.kind == "causal" and not card.heads:
        return task_of_continuation(new_tokens=new_tokens)
    names = ", ".join(head.name for head in card.heads) or "none"
    raise UsageError(f"say with --tasks what {card.name} is to answer; its heads: {names}.")


def _task_of(head: HeadSpec, *, new_tokens: int, index: TaskIndex, trust_code: bool) -> Task:
    """The task of a model's one head: that of its name, where there is one with its labels; else what a head of its
    kind reads. A head that writes goes on with the text as it stands, where its prompt is not known."""
    from lmtasks.workflow.predict import task_of_continuation, task_of_head

    known = index.find(head.name, trust_code=trust_code) if head.name in index.names() else ()
    for task in known:
        if task.kind == "language_modelling" and not head.predicts:
            return task_of_continuation(new_tokens=new_tokens)
        kind = task.kind if task.kind in ("classification", "span", "tagging") else "generation"
        if (kind, task.labels if kind == "classification" else head.labels) == (head.kind, head.labels):
            return task
    if head.predicts:
        return task_of_head(head)
    print(
        f"lmtasks: the prompt of {head.name} is not known here, so that texts go on as they stand; its task file "
        "(--tasks FILE) has it.",
        file=sys.stderr,
    )
    return task_of_continuation(new_tokens=new_tokens)


def _answer(solver: Solver, task: Task, lines: Sequence[str], *, seed: int, streamed: bool) -> None:
    """One line of output for each line of input."""
    from lmtasks.data.rows import make_rows
    from lmtasks.data.splits import TaskData
    from lmtasks.evaluation.solver import PromptContext
    from lmtasks.workflow.predict import row_of

    longest = max(MOST_CHARACTERS // 2, CHARACTERS_OF_TOKEN * solver.model.max_length_tokens)
    if task.kind not in WHOLE:
        lines = [_without_middle(line, longest) for line in lines]
    rows = make_rows([row_of(task, line) for line in lines], where="standard input")
    solved = solver.solve(task, TaskData(test=rows), asking=PromptContext(seed=seed), report=lambda progress: None)
    generates = task.output_type == "generate_until" and solver.way(task, way="auto") == "prompt"
    if streamed and (generates or task.kind in ("translation", "summarization", "generation")):
        print()
    else:
        for example in solved.examples:
            print(" ".join(example.answer.splitlines()), flush=True)
    if solved.truncated:
        print(f"lmtasks: {solved.truncated} texts are longer than the model takes, and were cut.", file=sys.stderr)


def _without_middle(line: str, most: int) -> str:
    """A line from whose both ends a model reads all that it can take, whichever end it cuts off."""
    if len(line) <= 2 * most:
        return line
    print(f"lmtasks: of a line of {len(line):,} characters the first and last {most:,} were read.", file=sys.stderr)
    return line[:most] + line[-most:]


@dataclass(frozen=True)
class _Watched:
    """An engine whose texts are shown while they are written."""

    engine: Engine[object]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Tokenizer) -> None:
        raise AttributeError("an engine keeps its tokenizer")

    @property
    def cached(self) -> Sequence[bool]:
        return ()

    @property
    def model(self) -> ModelCard:
        return self.engine.model

    @property
    def card(self) -> RuntimeCard:
        return self.engine.card

    @property
    def max_length_tokens(self) -> int:
        return self.engine.max_length_tokens

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None) -> list[Floats32]:
        return self.engine.predict(head, rows, on_progress=on_progress)

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None) -> list[Scored]:
        return self.engine.score(requests, on_progress=on_progress)

    def generate(self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None) -> list[Generated]:
        return self.engine.generate(requests, on_progress=on_progress, on_token=_show)


def _show(event: TokenEvent) -> None:
    print(event.text, end="", flush=True)
