"""`lmtasks predict`: one text, or lines on standard input, through a model; answers on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.signature import Without
from lmtasks.cli.streams import waiting_lines
from lmtasks.cli.values import open_options
from lmtasks.errors import UsageError
from lmtasks.settings.base import Setting
from lmtasks.settings.data import DataAccess, TaskNames, TrustCode
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.evaluation import GenKwargs, Seed
from lmtasks.settings.models import BatchSize, LabelMap, NewTokens, OverOneBackbone
from lmtasks.settings.runs_on import RunsOn

if TYPE_CHECKING:
    from lmtasks.engine.requests import TokenEvent
    from lmtasks.workflow.explain import WordEffect
    from lmtasks.workflow.predict import PredictedTexts, Predictor

PROMPT = "> "
COMMAND = ":"
EXPLAIN, HELP, QUIT = ":explain", ":help", ":quit"
"""Of a conversation; a text that begins so is asked with a blank before it, which no model minds."""
SHOWN = 8
"""Words that are shown of a text."""
LINES = 64
"""Lines that are answered together, where so many wait."""


def command(
    *,
    model: OverOneBackbone,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to answer; without it, every line of standard input.")
    ] = None,
    names: TaskNames,
    label_map: LabelMap = "",
    new_tokens: NewTokens = 64,
    gen_kwargs: GenKwargs = "",
    on: RunsOn,
    server: Endpoint,
    batch_size: BatchSize = "auto",
    explain: Annotated[
        bool, Setting("Of labels and tags: also the words that moved the answer, each left out in turn.")
    ] = False,
    json_lines: Annotated[
        bool,
        Setting(
            "One JSON object a text: answer, probabilities, what it was made of, words that moved it; `eval --answers` "
            "reads them.",
            option="--json",
        ),
    ] = False,
    seed: Seed = 1234,
    access: Annotated[DataAccess, Without("data_root")],
    trust_code: TrustCode = False,
) -> None:
    """Answer one text, or each line of standard input. A task that reads several columns takes lines of JSON.

    Several tasks answer with one line of JSON a text, which is read once for all of them; so do several models over one
    backbone, in turn. On a terminal texts are typed one after the other, and what a model writes is shown while it
    writes.
    """
    from lmtasks.task.generation import read_kwargs
    from lmtasks.workflow.choose_models import labels_of
    from lmtasks.workflow.choose_tasks import TaskRequest
    from lmtasks.workflow.predict import PredictRequest, open_predictors

    if not model:
        raise UsageError("missing option '--model': a model or package folder, a shipped name, or a Hub id.")
    if len(model) > 1 and explain:
        raise UsageError("--explain is about one model's answers; give one --model.")
    request = PredictRequest(
        model=model[0],
        tasks=TaskRequest(tasks=names.tasks, include=names.include_path, trust_code=trust_code),
        opening=open_options(on, batch_size=batch_size, label_map=label_map, server=server),
        new_tokens=new_tokens,
        generation=read_kwargs(gen_kwargs),
        seed=seed,
        offline=access.offline,
        token=access.token,
    )
    watched = sys.stdout.isatty() and not explain and not json_lines
    requests = [replace(request, model=each) for each in model]
    typed = text is None and sys.stdin is not None and sys.stdin.isatty()
    with open_predictors(requests, on_token=_show if watched else None) as predictors:
        predictor, several = predictors[0], dict(zip(labels_of(model), predictors, strict=True))
        if len(several) > 1:
            held = "; ".join(f"{label} {each.adapters}" for label, each in several.items())
            print(f"lmtasks: one backbone in memory for {len(several)} models. Adapters: {held}.", file=sys.stderr)
        if typed:
            _Conversation(several, explained=explain, as_json=json_lines, streamed=watched).hold(_typed_lines())
            return
        for lines in waiting_lines(1 if watched else LINES) if text is None else ([text],):
            if len(several) > 1:
                _print_models(several, lines, as_json=json_lines)
            elif explain or json_lines:
                _print_each(predictor, lines, explained=explain, as_json=json_lines)
            else:
                _print(predictor.answer(lines), streamed=watched)


def _print_models(predictors: Mapping[str, Predictor], lines: Sequence[str], *, as_json: bool) -> None:
    """One JSON object a text: the answer of each model, with probabilities where all is asked for."""
    answered = {label: predictor.answer(lines) for label, predictor in predictors.items()}
    for place, line in enumerate(lines):
        told = {label: _told(each, place, probabilities=as_json) for label, each in answered.items()}
        print(json.dumps({"text": line, "models": told} if as_json else told, ensure_ascii=False), flush=True)
    for note in dict.fromkeys(note for each in answered.values() for note in each.notes):
        print(f"lmtasks: {note}", file=sys.stderr)


def _told(answered: PredictedTexts, place: int, *, probabilities: bool) -> object:
    several = {name: own[place] for name, own in answered.tasks.items()}
    answer: object = several if len(several) > 1 else answered.answers[place]
    shares = answered.probabilities[place]
    if not probabilities:
        return answer
    return {"answer": answer} if shares is None else {"answer": answer, "probabilities": shares}


class _Conversation:
    """Texts that somebody types, answered one after the other; a text that cannot be answered ends nothing."""

    def __init__(self, predictors: Mapping[str, Predictor], *, explained: bool, as_json: bool, streamed: bool) -> None:
        self._predictors = predictors
        self._predictor = next(iter(predictors.values()))
        self._explained = explained
        self._as_json = as_json
        self._streamed = streamed

    def hold(self, lines: Iterator[str]) -> None:
        """Answer until the lines end, or one says so."""
        names = ", ".join(task.name for task in self._predictor.tasks)
        print(f"lmtasks: {names}. Type a text and press Enter; {EXPLAIN}, {HELP} or {QUIT}.", file=sys.stderr)
        for line in lines:
            word = line.strip()
            if line.rstrip() == QUIT:
                return
            if line.startswith(COMMAND):
                print(f"lmtasks: {self._command(word)}", file=sys.stderr)
            elif word:
                self._answer(line)

    def _command(self, word: str) -> str:
        if word == EXPLAIN and len(self._predictors) > 1:
            return "the words that moved an answer are told of one model; give one --model."
        if word == EXPLAIN:
            self._explained = not self._explained
            how = "also with the words that moved them" if self._explained else "without the words that moved them"
            return f"answers come {how}."
        known = f"{EXPLAIN} also tells the words that moved an answer, or no more; {QUIT} or Ctrl-D ends"
        reads = " A task that reads several columns takes a line of JSON."
        return f"{'' if word == HELP else f'{word} is no command: '}{known}.{reads if word == HELP else ''}"

    def _answer(self, line: str) -> None:
        try:
            if len(self._predictors) > 1:
                _print_models(self._predictors, [line], as_json=self._as_json)
                return
            if self._explained or self._as_json:
                _print_each(self._predictor, [line], explained=self._explained, as_json=self._as_json)
                return
            answered = self._predictor.answer([line])
            (shares,) = answered.probabilities or (None,)
            _print(answered, streamed=self._streamed, shares=shares)
        except UsageError as error:  # a column of the JSON is missing, say; the next text may be right
            print(f"lmtasks: {error}", file=sys.stderr)


def _typed_lines() -> Iterator[str]:
    """Lines of a terminal, with the arrow keys and what was typed before; they end at Ctrl-D."""
    if sys.stdout.isatty():
        with suppress(ImportError):  # a Python that was built without it edits no lines
            import readline  # noqa: F401  # input() uses it once it is there
    while True:
        try:
            if sys.stdout.isatty():
                yield input(PROMPT)
            else:  # standard output holds answers alone
                print(PROMPT, end="", file=sys.stderr, flush=True)
                yield input()
        except EOFError:
            print(file=sys.stderr)
            return


def _print_each(predictor: Predictor, lines: Sequence[str], *, explained: bool, as_json: bool) -> None:
    """Answers with more beside them than a line has room for."""
    from lmtasks.workflow.explain import explain

    answered = predictor.answer(lines)
    explanations = explain(predictor, lines) if explained else ()
    for place, (line, answer, shares) in enumerate(zip(lines, answered.answers, answered.probabilities, strict=True)):
        words = explanations[place].words if explained else ()
        if as_json:
            several = {name: own[place] for name, own in answered.tasks.items()}
            told: dict[str, object] = {"text": line, "answer": several if len(several) > 1 else answer}
            told |= {} if shares is None else {"probabilities": shares}
            told |= answered.raw[place]
            told |= {"words": [asdict(word) for word in words]} if explained else {}
            print(json.dumps(told, ensure_ascii=False), flush=True)
            continue
        print(answer if shares is None else f"{answer} ({shares[answer]:.3f})")
        for word in explanations[place].strongest(SHOWN):
            print(f"  {_effect(word, of_label=shares is not None)}")
        if not explanations[place].strongest(1):
            print("  No word alone changes it.")
        if explanations[place].left:
            print(f"  {explanations[place].left} words behind these were not asked about.", flush=True)
    for note in answered.notes:
        print(f"lmtasks: {note}", file=sys.stderr)


def _effect(word: WordEffect, *, of_label: bool) -> str:
    """One word and what it does, for people."""
    if not of_label:
        return f"{word.word}: without it {'; '.join(word.moved)}"
    other = f"; without it {word.moved[0]}" if word.moved else ""
    return f"{100 * word.change:+6.1f} points  {word.word}{other}"


def _print(answered: PredictedTexts, *, streamed: bool, shares: Mapping[str, float] | None = None) -> None:
    """One line of output for each line of input.

    Args:
        shares: probabilities of the one answer, to stand behind it.
    """
    for note in answered.notes:
        print(f"lmtasks: {note}", file=sys.stderr)
    if streamed and answered.written:
        print()
    else:
        for answer in answered.answers:
            share = f" ({shares[answer]:.3f})" if shares is not None and answer in shares else ""
            print(f"{' '.join(answer.splitlines())}{share}", flush=True)
    if answered.truncated:
        print(f"lmtasks: {answered.truncated} texts are longer than the model takes, and were cut.", file=sys.stderr)


def _show(event: TokenEvent) -> None:
    print(event.text, end="", flush=True)
