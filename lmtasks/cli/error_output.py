"""How a command ends that could not be carried out: one sentence on standard error, and an exit code.

2  the command, a file or an option is wrong        130  interrupted (Ctrl-C)
1  the work failed                                  143  ended by SIGTERM; 129 by SIGHUP
3  a gate said no                                   141  whoever read the output has closed it (SIGPIPE's number)

SIGTERM and SIGHUP end a command as Ctrl-C does: what is done is kept, locks and half-written files are gone.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import typer

from lmtasks.cli.output import tell
from lmtasks.errors import GateError, LmtasksError, UsageError, unknown
from lmtasks.interruption import ENDING
from lmtasks.visible import shown_line

GO_ON: Mapping[str, str] = {
    "try": "finished cells are kept; the same command again goes on where it stopped",
    "run": "finished cells are kept; the same command again goes on where it stopped",
    "eval": "answers are kept in the cache (but with --cache off); the same command again asks for the others",
    "predict": "what was answered is printed; give the lines that are left again",
    "adapt": "the last checkpoint, where there is one, is kept; the same command again goes on from there",
    "pretrain": "the last checkpoint, where there is one, is kept; the same command again goes on from there",
}
"""Advice after an interrupted command; of all others nothing half-written is left."""
STARTS_AGAIN = "nothing half-written is left; the same command again starts anew"
NOT_READ = 128 + 13
"""The code of SIGPIPE: `lmtasks ... | head -1` ends so, and quietly, as other programs do."""
FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A message for the user, and the process's exit code."""

    sentence: str
    code: int


def guarded(work: Callable[[], object], *, command: str, debug: bool) -> int:
    """Carry out a command line and return its exit code; a failure is told on standard error, and to --json.

    Args:
        work: returns its exit code, or nothing where all went well.
        command: the first word of the command line, for advice on going on.
        debug: let errors through, for a traceback.
    """
    with handled() as ending:
        try:
            ended = work()
            sys.stdout.flush()  # that nobody reads it any more is known here, and not in the interpreter's last breath
        except KeyboardInterrupt:
            sentence = f"{ending.how}; {GO_ON.get(command, STARTS_AGAIN)}."
            tell(lambda: {"error": sentence})
            _tell(sentence, before="\n")
            return ending.code
        except BrokenPipeError:
            _close_output()
            return NOT_READ
        except Exception as error:  # the border to the person: nothing may end in a traceback unasked
            if debug:
                raise
            failure = failure_of(error)
            tell(lambda: {"error": failure.sentence})
            _tell(failure.sentence)
            return failure.code
    return ended if isinstance(ended, int) else 0


def failure_of(error: Exception) -> Failure:
    """The sentence and the exit code of an error.

    >>> failure_of(OSError(errno.ENOSPC, "No space left on device", "runs/a.json")).sentence
    'the disk that holds runs/a.json is full; free some space and give the same command again.'
    """
    match error:
        case GateError():
            return Failure(sentence=str(error), code=3)
        case UsageError():
            return Failure(sentence=str(error), code=2)
        case LmtasksError():
            return Failure(sentence=str(error), code=1)
        case typer.TyperException():
            return Failure(sentence=_of_command_line(error), code=2)
        case typer.Abort():
            return Failure(sentence="ended.", code=1)
        case OSError():
            return Failure(sentence=_of_system(error), code=1)
        case MemoryError():
            advice = "use a smaller --batch-size, a smaller model, or another machine"
            return Failure(sentence=f"the memory is full; {advice}.", code=1)
        case ModuleNotFoundError():
            return Failure(sentence=f"the package {error.name} is not installed; install it with pip.", code=1)
    said = " ".join(str(error).split()) or "no message"
    return Failure(
        sentence=f"unexpected {type(error).__name__}: {said[:400]} (a fault of lmtasks; --debug shows where).", code=1
    )


class Ending:
    """Which signal asked the process to end; none at first."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler: unwinds the work as Ctrl-C does.

        Raises:
            KeyboardInterrupt: always.
        """
        self.signal = signal.Signals(number)
        raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """The exit code that shells know a signal by: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def how(self) -> str:
        """For people."""
        return "interrupted" if self.signal in (None, signal.SIGINT) else f"ended by {self.signal.name}"


@contextmanager
def handled() -> Iterator[Ending]:
    """Every ending signal is raised as `KeyboardInterrupt`, but for those that the process was started to ignore
    (`nohup`); handlers are as before afterwards."""
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {
        number: handler
        for number in ENDING
        if (handler := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler)
    }
    try:
        for number in before:
            signal.signal(number, ending)
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _of_system(error: OSError) -> str:
    place = error.filename2 or error.filename or "the output folder"
    said = error.strerror or str(error)
    if error.errno in FULL:
        return f"the disk that holds {place} is full; free some space and give the same command again."
    if error.errno in NOT_WRITABLE:
        return f"{place} cannot be read or written ({said}); check its permissions, or give another --out."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{place} cannot be a folder, since a file has that name or is above it; give another --out."
    if error.errno == errno.ENOENT:
        return f"there is no file or folder {place}."
    return f"{place}: {said}."


def _of_command_line(error: typer.TyperException) -> str:
    """typer's errors in our words: unknown options and commands with the nearest ones that there are."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "lmtasks"
    option = getattr(error, "option_name", None)
    if option is not None and context is not None and "No such option" in error.message:
        from lmtasks.settings.base import RENAMED  # loads pydantic, which no other message needs

        old = str(option).removeprefix("--").replace("-", "_")
        if old in RENAMED:
            setting, value = RENAMED[old]
            return f"{option} is no option of {where} any more: --{setting} {value} says it now. {_help(where)}"
        return str(unknown(f"option of {where}", option, _options(context.command.params), hint=_help(where)))
    if "No such command" in error.message and context is not None:
        given = error.message.split("'")[1]
        return str(unknown("command", given, context.command.commands, hint=_help(where)))
    said = " ".join(error.format_message().split()).replace("Invalid value for '--", "wrong value for '--")
    return f"{where}: {said[:1].lower()}{said[1:].rstrip('.')}. {_help(where)}"


def _options(parameters: Iterable[object]) -> list[str]:
    return [name for each in parameters for name in getattr(each, "opts", ()) if name.startswith("--")]


def _help(where: str) -> str:
    return f"See {where} --help."


def _tell(sentence: str, *, before: str = "") -> None:
    with suppress(BrokenPipeError):  # who reads neither output nor errors is told nothing
        print(f"{before}lmtasks: {shown_line(sentence)}", file=sys.stderr, flush=True)


def _close_output() -> None:
    """Let the interpreter's last flush go nowhere, else it complains once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
