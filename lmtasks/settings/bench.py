"""Settings of measuring speed: rounds, time, loads."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import model_validator

from lmtasks.settings.base import Setting, Settings
from lmtasks.settings.bounds import COUNT, POSITIVE
from lmtasks.settings.data import TaskChoice, TaskList

Arrival = Literal["poisson", "even"]

Rounds = Annotated[
    int,
    COUNT,
    Setting(
        "Every variant is measured so often, each time in a fresh process, in alternation; an interval needs two.",
        metavar="NUMBER",
    ),
]
Seconds = Annotated[
    float,
    POSITIVE,
    Setting("Least time for each task and batch size, and each load, in a round.", metavar="NUMBER", unit="seconds"),
]
Rate = Annotated[float, POSITIVE]
Rates = Annotated[
    tuple[Rate, ...],
    Setting(
        "Also let so many requests come a second, whether or not earlier ones are answered; repeatable.",
        metavar="NUMBER",
        unit="requests a second",
    ),
]
ArrivalName = Annotated[
    Arrival,
    Setting("How they come: poisson (independent of each other), or even (always the same gap).", metavar="NAME"),
]
Require = Annotated[
    str,
    Setting(
        "What production needs, as 'p95_ms<=50@20rps, drop<=1, peak_mb<=1000'; p95_ms<=500@max looks for the "
        "largest rate at which a latency holds. Names the variant that fulfils "
        "all for the fewest core-seconds an answer, or ends with exit code 3. drop is in points against the first.",
        metavar="LIST",
    ),
]


TokenPriceText = Annotated[
    str,
    Setting(
        "What a million tokens of a server cost that are read, and that are written: 0.15,0.60 or '0.15,0.60 USD'; "
        "tells the cost of 1,000 answers.",
        metavar="IN,OUT",
    ),
]
HourPriceText = Annotated[
    str,
    Setting(
        "What an hour of this machine costs, with all its cores: 1.20 or '1.20 USD'; tells the cost of 1,000 answers "
        "by their core-seconds.",
        metavar="PRICE",
    ),
]


class BenchSettings(Settings):
    """Settings of `bench`."""

    rounds: Rounds = 5
    seconds: Seconds = 1.0
    sweep: Annotated[
        tuple[str, ...],
        Setting(
            "batch=1,8,32 (requests at once), length=32,128 (tokens of every request, beside the tasks' own "
            "rows), threads=1,2; repeatable.",
            metavar="AXIS=NUMBERS",
        ),
    ] = ()
    rate: Rates = ()
    arrival: ArrivalName = "poisson"
    require: Require = ""
    price: TokenPriceText = ""
    price_hour: HourPriceText = ""


class BenchTasks(TaskChoice):
    """Tasks whose rows are timed: those that come along, unless somebody says otherwise."""

    tasks: TaskList = "starter_*"

    @model_validator(mode="before")
    @classmethod
    def _data_instead(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        return {"tasks": "", **given} if given.get("data") is not None else given
