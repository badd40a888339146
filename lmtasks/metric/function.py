"""A metric that is a task's own function of one example (`metric: !function ...`), called as in lm-evaluation-harness.

The function is called with `references=[right answer], predictions=[answer]` and the options of the file's line; one
that does not take these names is called with the list [right answer, answer]. What it returns, or what it returns under
the metric's name in a dictionary, is the value of the example, to be aggregated like any value that a task made.

Of several right answers each is tried, and the value is 1 if any gave something other than zero, else 0. That is the
original's rule, whatever the function measures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lmtasks.errors import WorkError, code_failed
from lmtasks.metric.base import Formula, only, references
from lmtasks.metric.made import Aggregation, made
from lmtasks.records import Floats, Made, Outcome, Text

OwnFunction = Callable[..., object]


def own_function(
    name: str,
    function: OwnFunction,
    *,
    options: Mapping[str, object],
    aggregation: str | Aggregation | None = None,
) -> Formula:
    """The formula of a task's own function of a text.

    Raises:
        UsageError: there is no aggregation of that name.
    """
    formula = made(name, aggregation)

    def value(number: int, text: Text) -> object:
        golds = references(text)
        try:
            found = [_called(function, gold, text.prediction, options) for gold in golds]
        except (ImportError, SystemExit) as error:
            raise code_failed(f"{name}: the task's own function", error) from error
        except Exception as error:
            raise WorkError(
                f"{name}: the task's own function failed on example {number}: {type(error).__name__}: {error}."
            ) from error
        values = [_named(name, each) for each in found]
        return values[0] if len(values) == 1 else float(any(values))

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        texts = only(Text, outcomes)
        return formula.statistics([Made(values={name: value(number, text)}) for number, text in enumerate(texts)])

    return replace(formula, statistics=statistics, signature=formula.signature.replace("made-by-task", "own-function"))


def again(name: str, formula: Formula, aggregation: str | Aggregation) -> Formula:
    """A metric that is a mean, its values aggregated otherwise.

    Raises:
        UsageError: there is no aggregation of that name.
    """
    other = made(name, aggregation)

    def statistics(outcomes: Sequence[Outcome]) -> Floats:
        values = formula.per_example(formula.statistics(outcomes)).tolist()
        return other.statistics([Made(values={name: value}) for value in values])

    return replace(other, statistics=statistics, signature=f"{formula.signature}|{other.signature}")


def _called(function: OwnFunction, gold: str, given: str, options: Mapping[str, object]) -> object:
    try:
        return function(references=[gold], predictions=[given], **options)
    except TypeError:  # the original's way to tell the two forms apart
        return function([gold, given])


def _named(name: str, found: object) -> object:
    if not isinstance(found, Mapping):
        return found
    if name in found:
        return found[name]
    if len(found) == 1:
        return next(iter(found.values()))
    raise WorkError(
        f"{name}: the task's own function returned {', '.join(map(str, found))}; name the metric as one of them."
    )
