"""`lmtasks`: the commands, and how errors end: one sentence and an exit code, a traceback only with --debug."""

import sys

import typer

from lmtasks.cli import pretrain
from lmtasks.errors import GateError, LmtasksError, UsageError

app = typer.Typer(
    name="lmtasks", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.command("pretrain")(pretrain.command)


@app.callback()
def _root() -> None:
    """Which model, adapted how, running on what, is best for my tasks on my machine?"""


def main() -> None:
    """Entry point of the `lmtasks` command."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="lmtasks")
    except LmtasksError as error:
        if debug:
            raise
        print(f"lmtasks: {error}", file=sys.stderr)
        sys.exit({GateError: 3, UsageError: 2}.get(type(error), 1))


if __name__ == "__main__":
    main()
