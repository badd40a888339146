"""The options that several commands share, each with one meaning everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from lmtasks.errors import UsageError, unknown
from lmtasks.settings.bounds import MOST, MOST_SEED
from lmtasks.settings.runtimes import PRECISIONS, RUNTIMES

Whose = Literal["ours", "lm-eval"]
STREAMS: tuple[Whose, ...] = get_args(Whose)
ScoredRows = Literal["test", "validation", "all"]
SPLITS: tuple[ScoredRows, ...] = get_args(ScoredRows)


def whole(option: str, *, at_least: int, at_most: int = MOST) -> Callable[[str], int]:
    """A parser of whole numbers that says what was given.

    >>> whole("--limit", at_least=1)("ten")
    Traceback (most recent call last):
    ...
    lmtasks.errors.UsageError: --limit must be a whole number of at least 1, was 'ten'.
    """

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = at_least - 1
        if number < at_least:
            raise UsageError(f"{option} must be a whole number of at least {at_least}, was {shortened(text)!r}.")
        if number > at_most:
            raise UsageError(f"{option} must be a whole number of at most {at_most:,}, was {shortened(text)}.")
        return number

    return parse


def shortened(text: str) -> str:
    """What a person gave, for a message: cut where it is long."""
    return text if len(text) <= 80 else f"{text[:60]} [...]"


def number(option: str, *, at_least: float) -> Callable[[str], float]:
    """A parser of numbers that says what was given.

    >>> number("--max-drop", at_least=0)("half")
    Traceback (most recent call last):
    ...
    lmtasks.errors.UsageError: --max-drop must be a number of at least 0, was 'half'.
    """

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not at_least <= found < float("inf"):
            raise UsageError(f"{option} must be a number of at least {at_least:g}, was {shortened(text)!r}.")
        return found

    return parse


def above_zero(option: str) -> Callable[[str], float]:
    """A parser of numbers that are no 0, either."""
    parse = number(option, at_least=0)

    def parse_above(text: str) -> float:
        found = parse(text)
        if not found:
            raise UsageError(f"{option} must be a number above 0, was {text!r}.")
        return found

    return parse_above


def one_of(option: str, allowed: tuple[str, ...]) -> Callable[[str], str]:
    """A parser of names from a short list."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise unknown(f"{option}", text, allowed)
        return text

    return parse


def batch_rows(batch_size: str) -> int | None:
    """`--batch-size`: rows of a batch at most; None for `auto`, as many as the token budget of a batch allows.

    >>> batch_rows("16"), batch_rows("auto")
    (16, None)
    """
    if batch_size == "auto":
        return None
    try:
        return whole("--batch-size", at_least=1)(batch_size)
    except UsageError:
        raise UsageError(f"--batch-size must be auto or a whole number of at least 1, was {batch_size!r}.") from None


def next_folder(command: str) -> Path:
    """`runs/eval-1`, or the first number that is free: without --out nothing is ever overwritten."""
    number = 1
    while (folder := Path("runs") / f"{command}-{number}").exists():
        number += 1
    return folder


Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Model or package folder, shipped name, Hub id (with @revision), or a baseline's name (see `lmtasks list "
        "baselines`); repeatable.",
    ),
]
Model = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="Model or package folder, shipped name, or Hub id with @revision."),
]
Backbone = Annotated[
    str, typer.Option("--backbone", metavar="MODEL", help="The same, or a family with sizes: llama:width=256,layers=6.")
]
Tasks = Annotated[
    str, typer.Option("--tasks", metavar="TASKS", help="Names, globs or files of tasks, with commas between.")
]
NO_PATHS: list[Path] = []
IncludePath = Annotated[
    list[Path],
    typer.Option(
        "--include-path",
        metavar="FOLDER",
        help="Task files in this folder and below go by name, too, before those that come along; repeatable.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Your own data instead of --tasks: CSV, TSV, Excel, JSON, JSONL, parquet or a folder.",
    ),
]
Text = Annotated[str, typer.Option("--text", metavar="COLUMN", help="Column of --data that holds the text.")]
Pair = Annotated[str | None, typer.Option("--pair", metavar="COLUMN", help="Column of --data with a second text.")]
Label = Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Column of --data that holds the label.")]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="What --data is called as a task; a head of that name answers it. Default: the file's name.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding", metavar="NAME", help="Encoding of --data (euc-kr, shift_jis, windows-1252, ...); default: found."
    ),
]
DropUnlabelled = Annotated[
    bool, typer.Option("--drop-unlabelled", help="Leave out rows without a label, also where they are more than 5 %.")
]
LabelMap = Annotated[
    str,
    typer.Option(
        "--label-map", metavar="MAP", help="What a checkpoint's own labels mean: LABEL_0=negative,LABEL_1=positive."
    ),
]
Language = Annotated[
    str | None,
    typer.Option("--language", metavar="CODE", help="Language of the answers to --data; default: guessed."),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        parser=one_of("--split", SPLITS),
        help="Which rows are scored: test (the scored split; of a single --data file the fifth that adapt sets aside), "
        "validation, on which choices are made (a part of the training rows where there are no others), or all, every "
        "row of a single --data file; default: all of such a file, else test.",
    ),
]
GenKwargs = Annotated[
    str,
    typer.Option(
        "--gen-kwargs",
        metavar="SETTINGS",
        help="How texts are written, instead of what the tasks say: num_beams=4,length_penalty=0.6 or "
        "temperature=0.8,top_p=0.9; or a JSON object.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="FOLDER", help="Local mirror of the Hub's data sets, searched first."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Touch no network at all.")]
Token = Annotated[
    str | None, typer.Option("--token", metavar="TOKEN", help="Hub token; default: the one that HF_TOKEN names.")
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Let task files run their own Python code.")]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        parser=one_of("--runtime", tuple(RUNTIMES)),
        help=f"{', '.join(RUNTIMES)}; default: what the model is made for.",
    ),
]
Runtimes = Annotated[
    list[str],
    typer.Option(
        "--runtime",
        metavar="NAME",
        parser=one_of("--runtime", tuple(RUNTIMES)),
        help=f"{', '.join(RUNTIMES)}; repeatable; default: what each model is made for.",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu or cuda.")]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME",
        parser=one_of("--precision", tuple(PRECISIONS)),
        help=f"{', '.join(PRECISIONS)}; default: fp32, or what a package was exported in.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="NUMBER",
        parser=whole("--threads", at_least=1),
        help="Threads of the runtime; default: one for each processor.",
    ),
]
BatchSize = Annotated[
    str, typer.Option("--batch-size", metavar="NUMBER", help="Rows of a batch at most, or auto: by their length.")
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        "--apply-chat-template",
        metavar="[NAME]",
        help="Ask by the model's chat template; of several, by the one of that name.",
    ),
]
ChatTemplateArgs = Annotated[
    str,
    typer.Option(
        "--chat-template-args",
        metavar="SETTINGS",
        help="Variables that the chat template reads: enable_thinking=false, or a JSON object; "
        "strftime_now=2025-01-31 is the day that it is told.",
    ),
]
ThinkEndToken = Annotated[
    str,
    typer.Option(
        "--think-end-token",
        metavar="TEXT",
        help="The answer begins behind the last such token that a model writes (</think>), and stop strings count "
        "from there; a number is that of a token.",
    ),
]
SystemInstruction = Annotated[
    str | None, typer.Option("--system-instruction", metavar="TEXT", help="Stands before every prompt.")
]
Multiturn = Annotated[
    bool, typer.Option("--fewshot-as-multiturn", help="Worked examples are turns of the chat, not one message.")
]
FewshotStream = Annotated[
    Whose,
    typer.Option(
        "--fewshot-stream",
        metavar="NAME",
        parser=one_of("--fewshot-stream", STREAMS),
        help="How worked examples are drawn: ours (by seed and row), or lm-eval (as lm-evaluation-harness does).",
    ),
]
Resamples = Annotated[
    int | None,
    typer.Option(
        "--resamples",
        metavar="NUMBER",
        parser=whole("--resamples", at_least=2),
        help="Of the bootstrap; default: 1,000, or 100,000 of lm-eval's.",
    ),
]
Draws = Annotated[
    Whose,
    typer.Option(
        "--draws",
        metavar="NAME",
        parser=one_of("--draws", STREAMS),
        help="Whose standard errors: ours, or lm-eval (as lm-evaluation-harness has them, with its own draws).",
    ),
]
BaselineRows = Annotated[
    int | None,
    typer.Option(
        "--rows",
        metavar="NUMBER",
        parser=whole("--rows", at_least=1),
        help="Training rows that baselines learn from at most, drawn by the seed as those of `adapt --rows`.",
    ),
]
Rescore = Annotated[
    Path | None,
    typer.Option("--rescore", metavar="FOLDER", help="Score the samples of these results again, without a model."),
]
Metrics = Annotated[
    str, typer.Option("--metrics", metavar="METRICS", help="Metrics of --rescore, with commas between.")
]
NumFewshot = Annotated[
    int | None,
    typer.Option(
        "--num-fewshot",
        metavar="NUMBER",
        parser=whole("--num-fewshot", at_least=0),
        help="Worked examples in a prompt; default: what the task says.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="NUMBER", parser=whole("--limit", at_least=1), help="Score only so many first rows."
    ),
]
SampleRows = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="NUMBER",
        parser=whole("--sample", at_least=1),
        help="Score only so many rows, drawn by the seed, each label with its share; the same for every model.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", metavar="NUMBER", parser=whole("--seed", at_least=0, at_most=MOST_SEED), help="Of everything drawn."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where results go.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of something else that stand in --out; else refused.")
]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="FILE",
        help="Where answers are kept, and not asked for again; or off. Default: a file in your cache folder.",
    ),
]
NoSamples = Annotated[bool, typer.Option("--no-samples", help="Write no samples files.")]
