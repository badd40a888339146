"""Settings of an evaluation: its rows, its prompts, the certainty of a score, and the place of results."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from lmtasks.settings.base import BOUND, Setting, Settings, refusal
from lmtasks.settings.bounds import COUNT, COUNT_OR_NONE, SEED, Bound, shown
from lmtasks.settings.runs_on import ManyMachines

Origin = Literal["ours", "lm-eval"]
"""Whose way of drawing: this package's, or lm-evaluation-harness'."""
SplitName = Literal["test", "validation", "all"]
PageLanguage = Literal["en", "zh"]
"""Of pages; each has a switch to the other."""
_LANGUAGE = "Of the pages: en or zh; each has a switch, too."
PagesIn = Annotated[PageLanguage, Setting(_LANGUAGE, option="--page-language", also="--language", metavar="CODE")]
PagesBesideData = Annotated[PageLanguage, Setting(_LANGUAGE, option="--page-language", metavar="CODE")]
"""Of commands whose `--language` is that of the data."""
AT_LEAST_TWO = Bound(least=2, most=10**9, whole=True)


def _percent(given: object) -> float:
    """`5%` or `5` as 5.0."""
    try:
        value = float(str(given).strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 <= value < 100:
        words = f"must be a percentage of at least 0 and below 100, as 5%, was {shown(given)}"
        raise PydanticCustomError(BOUND, "{words}", {"words": words})
    return value


Slower = Annotated[
    float | None,
    BeforeValidator(_percent),
    Setting(
        "Exit with 3 if another is slower than A by more than so much, and by more than chance, on anything that `eval "
        "--speed` timed both on, on the same machine: 5%.",
        metavar="PERCENT",
    ),
]
Seed = Annotated[int, SEED, Setting("Of everything drawn.", metavar="NUMBER")]
Limit = Annotated[int | None, COUNT, Setting("Score only so many first rows.", metavar="NUMBER", unit="rows")]
NumFewshot = Annotated[
    int | None,
    COUNT_OR_NONE,
    Setting("Worked examples in a prompt; default: what the task says.", metavar="NUMBER", unit="examples"),
]
GenKwargs = Annotated[
    str,
    Setting(
        "How texts are written, instead of what the tasks say: num_beams=4,length_penalty=0.6 or "
        "temperature=0.8,top_p=0.9; or a JSON object.",
        metavar="SETTINGS",
    ),
]
Publish = Annotated[bool, Setting("Write reports/<plan>/ too, small enough to commit.")]
Out = Annotated[Path | None, Setting("Where results go.", metavar="FOLDER")]
NoSamples = Annotated[bool, Setting("Write no samples files.")]
Cache = Annotated[
    str | None,
    Setting(
        "Where answers are kept, and not asked for again; or off. Default: a file in your cache folder.",
        metavar="FILE",
    ),
]


TrackerName = Literal["mlflow", "tensorboard", "trackio"]
Track = Annotated[
    TrackerName | None,
    Setting("Also write results and learning curves to mlflow, tensorboard or trackio.", metavar="NAME"),
]
Speed = Annotated[
    bool,
    Setting(
        "Time the models, too, each in fresh processes as `lmtasks bench` does; the page has quality beside speed then."
    ),
]


class Scoring(Settings):
    """The rows that are scored, and how answers to them are asked for."""

    num_fewshot: NumFewshot = None
    gen_kwargs: GenKwargs = ""
    split: Annotated[
        SplitName | None,
        Setting(
            "Which rows are scored: test (the scored split; of a single --data file the fifth that adapt sets aside), "
            "validation, on which choices are made (a part of the training rows where there are no others), or all, "
            "every row of a single --data file; default: all of such a file, else test.",
            metavar="NAME",
        ),
    ] = None
    limit: Limit = None
    sample: Annotated[
        int | None,
        COUNT,
        Setting(
            "Score only so many rows, drawn by the seed, each label with its share; the same for every model.",
            metavar="NUMBER",
            unit="rows",
        ),
    ] = None
    rows: Annotated[
        int | None,
        COUNT,
        Setting(
            "Training rows that baselines learn from at most, drawn by the seed as those of `adapt --rows`.",
            metavar="NUMBER",
            unit="rows",
        ),
    ] = None
    seed: Seed = 1234

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        if self.limit is not None and self.sample is not None:
            raise refusal("--limit takes the first rows and --sample draws rows; give one of them.")
        return self


class PromptFormat(Settings):
    """Form of a request to a model that reads prompts."""

    apply_chat_template: Annotated[
        str | None,
        Setting("Ask by the model's chat template; of several, by the one of that name.", metavar="[NAME]"),
    ] = None
    chat_template_args: Annotated[
        str,
        Setting(
            "Variables that the chat template reads: enable_thinking=false, or a JSON object; "
            "strftime_now=2025-01-31 is the day that it is told.",
            metavar="SETTINGS",
        ),
    ] = ""
    think_end_token: Annotated[
        str,
        Setting(
            "The answer begins behind the last such token that a model writes (</think>), and stop strings count "
            "from there; a number is that of a token.",
            metavar="TEXT",
        ),
    ] = ""
    system_instruction: Annotated[str | None, Setting("Stands before every prompt.", metavar="TEXT")] = None
    fewshot_as_multiturn: Annotated[bool, Setting("Worked examples are turns of the chat, not one message.")] = False
    fewshot_stream: Annotated[
        Origin,
        Setting(
            "How worked examples are drawn: ours (by seed and row), or lm-eval (as lm-evaluation-harness does).",
            metavar="NAME",
        ),
    ] = "ours"


class Uncertainty(Settings):
    """Computation of standard errors and intervals."""

    resamples: Annotated[
        int | None,
        AT_LEAST_TWO,
        Setting("Of the bootstrap; default: 1,000, or 100,000 of lm-eval's.", metavar="NUMBER"),
    ] = None
    draws: Annotated[
        Origin,
        Setting(
            "Whose standard errors: ours, or lm-eval (as lm-evaluation-harness has them, with its own draws).",
            metavar="NAME",
        ),
    ] = "ours"


class ResultsOut(Settings):
    """Places of results and of kept answers."""

    out: Out = None
    overwrite: Annotated[bool, Setting("Replace results of something else that stand in --out; else refused.")] = False
    no_samples: NoSamples = False
    cache: Cache = None


def _percent_or_none(given: object) -> float | None:
    return None if given is None else _percent(given)


AllowMissing = Annotated[
    float | None,
    BeforeValidator(_percent_or_none),
    Setting(
        "Of --answers: so many rows of a task may be without an answer, and count as wrong: 1%. Default: none may.",
        metavar="PERCENT",
    ),
]


Explain = Annotated[
    int,
    COUNT_OR_NONE,
    Setting(
        "Of labels and tags: also the words that moved the answers to so many rows of each task, wrong ones first; the "
        "page marks them.",
        metavar="NUMBER",
        unit="rows",
    ),
]


class BesideScores(Settings):
    """Timings, words and a page beside the scores, a tracker's copy, and where which part of the rows is answered."""

    speed: Speed = False
    explain: Explain = 0
    page_language: PagesBesideData = "en"
    track: Track = None
    shard: Annotated[
        str,
        Setting(
            "Answer this part of every task's rows, 2/4 is the second of four, and write it below --out, for `lmtasks "
            "merge`; slurm: the part that an array job's SLURM_ARRAY_TASK_ID names.",
            metavar="I/N",
        ),
    ] = ""
    on: ManyMachines = ""
    shards: Annotated[
        int | None,
        COUNT_OR_NONE,
        Setting(
            "Of --on: parts that every task's rows are divided into, a few for each process; merged at the end.",
            metavar="N",
        ),
    ] = None

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.on and self.shard:
            raise refusal("--shard is a part that one process answers, and --on has many; leave out one of the two")
        if self.shards is not None and not self.on:
            raise refusal("--shards is about --on ray, which answers all of them; one alone is answered by --shard 1/4")
        return self


class ExistingAnswers(Settings):
    """Answers that exist, scored without asking a model: those of some system, or samples that an evaluation stored."""

    rescore: Annotated[
        Path | None, Setting("Score the samples of these results again, without a model.", metavar="FOLDER")
    ] = None
    metrics: Annotated[str, Setting("Metrics of --rescore, with commas between.", metavar="METRICS")] = ""
    answers: Annotated[
        tuple[str, ...],
        Setting(
            "Score what some system answered: JSON Lines or CSV with `answer` (and `scores`, `row` or `id`); named by "
            "the file, or NAME=FILE; repeatable, also beside --model.",
            option="--answers",
            metavar="[NAME=]FILE",
        ),
    ] = ()
    answers_id: Annotated[
        str | None,
        Setting("Column of the data that `id` of --answers is a value of; default: id.", metavar="COLUMN"),
    ] = None
    allow_missing: AllowMissing = None
