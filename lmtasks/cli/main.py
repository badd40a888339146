"""The `lmtasks` command: its table of commands, and how it starts."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from lmtasks.cli import adapt, bench, compare, eval, export, list_, predict, pretrain, report, validate
from lmtasks.cli import run as run_
from lmtasks.cli.error_output import guarded
from lmtasks.cli.options import shortened
from lmtasks.cli.streams import prepare_streams, quiet_libraries
from lmtasks.errors import UsageError

COMMANDS: Mapping[str, Callable[..., None]] = {
    "run": run_.command,
    "pretrain": pretrain.command,
    "adapt": adapt.command,
    "eval": eval.command,
    "export": export.command,
    "bench": bench.command,
    "compare": compare.command,
    "report": report.command,
    "predict": predict.command,
    "list": list_.command,
    "validate": validate.command,
}

UNREADABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, and what Python makes of bytes that it cannot decode."""
OUT = "--out"
VALUES = {"--apply-chat-template": "default"}
"""Of options that may stand without one."""

app = typer.Typer(
    name="lmtasks",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take longer to load than the help takes to read
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


@app.callback()
def _root(
    _version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback; any command takes it.")] = False,
) -> None:
    """Which model, adapted how, running on what, is best for my tasks on my machine?"""


def main() -> None:
    """Entry point of the `lmtasks` command."""
    sys.exit(prepare_streams() or run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out a command line; returns the exit code.

    `--debug` and `--version` may stand anywhere before a lone `--`, so they are taken out before typer looks.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    ours, rest = arguments[:end], arguments[end:]
    debug = "--debug" in ours
    ours = [argument for argument in ours if argument != "--debug"]
    if "--version" in ours:
        from lmtasks.version import __version__

        print(f"lmtasks {__version__}")
        return 0
    quiet_libraries(debug=debug)
    command = next((argument for argument in ours if argument in COMMANDS), "")
    words = [*_with_values(ours), *rest] or ["--help"]
    return guarded(lambda: _carry_out(words), command=command, debug=debug)


def _carry_out(words: list[str]) -> int:
    """As typer's own main, but for its handling of errors and signals, which is ours.

    Raises:
        UsageError: a word of the command line is no text (its bytes are not of this system's encoding, or hold a NUL),
            or the output has an empty name, which would be the folder that one stands in.
    """
    for word in words:
        if not word.isprintable() and UNREADABLE.search(word):
            raise UsageError(
                f"{shortened(word)!r} holds bytes that are not {sys.getfilesystemencoding().upper()}; rename the file, "
                "or write the text in that encoding."
            )
    for word, after in zip(words, [*words[1:], "-"], strict=True):
        if word == f"{OUT}=" or (word == OUT and not after):  # a variable of the shell that is not set
            raise UsageError(f"{OUT} is empty; name a folder or a file.")
    command = typer.main.get_command(app)
    try:
        with command.make_context("lmtasks", words) as context:
            command.invoke(context)
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
