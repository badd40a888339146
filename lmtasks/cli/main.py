"""The `lmtasks` command: its table of commands, and how it starts."""

import importlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from lmtasks.cli.defaults import find_defaults
from lmtasks.cli.error_output import guarded
from lmtasks.cli.output import Output, answering
from lmtasks.cli.streams import prepare_streams, quiet_libraries
from lmtasks.errors import UsageError
from lmtasks.settings.bounds import shown

COMMANDS: Mapping[str, str] = {
    "try": "Answer which model to take for your data: looks at it, writes a plan, carries it out; no plan is needed.",
    "run": "Carry out a benchmark plan; a run that was stopped goes on where it was.",
    "new": "Write a task file over your data, or a plan over tasks, with a word beside every key.",
    "pretrain": "Train a backbone on text; the same command again goes on where it stopped.",
    "embed": "Make vectors of texts with an encoder or a program; the same command again goes on where it stopped.",
    "adapt": "Train heads on a backbone for one task or several together; the same command again goes on where it "
    "stopped.",
    "eval": "Score models, or answers that exist, on tasks; or score again what an evaluation stored.",
    "merge": "Merge shards that `lmtasks eval --shard` wrote: the scores of all rows, as one process makes them.",
    "export": "Export a model to ONNX, and prove on texts of --tasks or --data (else embedded ones) that it answers "
    "alike.",
    "bench": "Measure speed and memory of models on runtimes, side by side; the first is what others are held to.",
    "compare": "Compare stored results, paired by example; all are held to the first.",
    "report": "Make pages from stored records: of each run its own, of results one; nothing is scored or timed.",
    "predict": "Answer one text, or each line of standard input. A task that reads several columns takes lines of "
    "JSON.",
    "serve": "Serve a model over HTTP: OpenAI's completions, chats and vectors, and POST /predict for heads.",
    "list": "List tasks, models, changes, backbones, tokenizers, cleaning, baselines, heads, metrics or runtimes.",
    "validate": "Check task files and plans, and say what each would do.",
}
"""First line of each command's help. Its file, `cli/<name>.py`, is loaded when it is called: settings take pydantic,
which the list of commands can do without."""

TAKEN = ("list", "try")
"""Commands whose file has `_` behind its name, which is Python's own."""
UNREADABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, and what Python makes of bytes that it cannot decode."""
OUT = "--out"
COMPLETION = "_LMTASKS_COMPLETE"
VALUES = {"--apply-chat-template": "default"}
"""Values of options that may stand without one."""


class _Commands(TyperGroup):
    """Commands that are loaded when they are called."""

    def resolve_command(  # type: ignore[override]  # the types of typer's own are private
        self, ctx: typer.Context, args: list[str]
    ) -> tuple[str, TyperCommand, list[str]]:
        """As typer, with the command itself in place of its line in the table.

        Raises:
            typer.Exit, or typer's own error: there is no such command.
        """
        name, _, rest = super().resolve_command(ctx, args)
        return str(name), load_command(str(name)), rest


app = typer.Typer(
    name="lmtasks",
    cls=_Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take longer to load than the help takes to read
)
for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)


def load_command(name: str) -> TyperCommand:
    """A command with its options, as typer has it."""
    from lmtasks.cli.signature import derived

    module = importlib.import_module(f"lmtasks.cli.{name}{'_' if name in TAKEN else ''}")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(derived(module.command))
    command = typer.main.get_command(alone)
    assert isinstance(command, TyperCommand)
    return command


@app.callback()
def _root(
    _version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback; any command takes it.")] = False,
    _quiet: Annotated[
        bool, typer.Option("--quiet", help="Show no notices and no progress; any command takes it.")
    ] = False,
    _json: Annotated[
        bool,
        typer.Option("--json", help="Answer with one JSON object (docs/schema/answer.json); any command takes it."),
    ] = False,
) -> None:
    """Which model, adapted how, running on what, is best for my tasks on my machine?"""


def main() -> None:
    """Entry point of the `lmtasks` command; a shell that completes a line asks by an environment variable."""
    if COMPLETION in os.environ:
        sys.exit(_completed(os.environ[COMPLETION]))
    sys.exit(prepare_streams() or run(sys.argv[1:]))


def _completed(asked: str) -> int:
    """Print the completions of the line that a shell has in its environment, or what a shell needs to ask for them."""
    from typer._completion_classes import completion_init
    from typer.completion import shell_complete

    completion_init()
    return shell_complete(typer.main.get_command(app), {}, "lmtasks", COMPLETION, asked)


def run(arguments: list[str]) -> int:
    """Carry out a command line; returns the exit code.

    `--debug`, `--quiet`, `--json` and `--version` may stand anywhere before a lone `--`, so they are taken out before
    typer looks; predict has a --json of its own, an object a text.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    ours, rest = arguments[:end], arguments[end:]
    command = next((argument for argument in ours if argument in COMMANDS), "")
    debug, quiet = "--debug" in ours, "--quiet" in ours
    as_json = "--json" in ours and command != "predict"
    taken = {"--debug", "--quiet", *(["--json"] if as_json else [])}
    ours = [argument for argument in ours if argument not in taken]
    if "--version" in ours:
        from lmtasks.version import __version__

        print(f"lmtasks {__version__}")
        return 0
    quiet_libraries(debug=debug, quiet=quiet)
    words = [*_with_values(ours), *rest] or ["--help"]
    with answering(Output(quiet=quiet, as_json=as_json), command=command) as answered:
        code = guarded(lambda: _carry_out(words, command=command), command=command, debug=debug)
        answered(code)
    return code


def _carry_out(words: list[str], *, command: str) -> int:
    """As typer's own main, but for its handling of errors and signals, which is ours.

    Raises:
        UsageError: a word of the command line is no text (its bytes are not of this system's encoding, or hold a NUL),
            or the output has an empty name, which would be the folder that one stands in.
    """
    for word in words:
        if not word.isprintable() and UNREADABLE.search(word):
            raise UsageError(
                f"{shown(word)} holds bytes that are not {sys.getfilesystemencoding().upper()}; rename the file, "
                "or write the text in that encoding."
            )
    for word, after in zip(words, [*words[1:], "-"], strict=True):
        if word == f"{OUT}=" or (word == OUT and not after):  # a variable of the shell that is not set
            raise UsageError(f"{OUT} is empty; name a folder or a file.")
    commands = typer.main.get_command(app)
    asks_help = "--help" in words
    defaults = find_defaults(Path.cwd()) if command and not asks_help else None
    known = {} if defaults is None else {command: defaults.of(command, load=load_command, commands=COMMANDS)}
    try:
        with commands.make_context("lmtasks", words, default_map=known) as context:
            commands.invoke(context)
    except typer.Exit as ended:  # so --help ends
        return ended.exit_code
    return 0


def _with_values(arguments: list[str]) -> list[str]:
    """Options whose value may be left out, with the value that is then meant.

    >>> _with_values(["eval", "--apply-chat-template", "--limit", "4"])
    ['eval', '--apply-chat-template=default', '--limit', '4']
    """
    following = [*arguments[1:], "--"]
    return [
        f"{word}={VALUES[word]}" if word in VALUES and after.startswith("-") else word
        for word, after in zip(arguments, following, strict=False)
    ]


if __name__ == "__main__":
    main()
