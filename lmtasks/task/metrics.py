"""The metrics that a task asks for: our `metrics`, else lm-evaluation-harness' `metric_list`, else what the kind or the
output type implies.

lm-evaluation-harness 0.4.13 calls a metric's function for generate_until alone, and without `process_results`: of other
tasks the value of a row follows from the metric's name, and options of the line change nothing. Of its own metrics of
texts, `exact_match` alone takes options; all others hand the pair of right answer and answer to their aggregation as it
is. What a line asks for and does not get is said in a note.

{metric: acc, ignore_case: true} of multiple_choice is acc, and the note says that ignore_case changes nothing.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lmtasks.errors import UsageError, unknown
from lmtasks.lm_eval_names import AGGREGATIONS, IMPLIED_AGGREGATION, PASSED_ON
from lmtasks.task.functions import FunctionRef
from lmtasks.task.kinds import TaskKind
from lmtasks.task.schema import MetricLine, TaskFile
from lmtasks.task.task import MetricUse, OutputType

VALUED: Mapping[OutputType, frozenset[str]] = {
    "loglikelihood": frozenset({"perplexity", "acc"}),
    "loglikelihood_rolling": frozenset({"word_perplexity", "byte_perplexity", "bits_per_byte"}),
    "multiple_choice": frozenset(
        {
            "acc",
            "acc_norm",
            "acc_bytes",
            "acc_mutual_info",
            "f1",
            "mcc",
            "exact_match",
            "brier_score",
            "likelihood",
        }
    ),
}
"""Its metrics that have a value of a row where no function is called."""
ITS_OWN = PASSED_ON | {"exact_match", "acc_all"}
AVERAGES = ("macro", "micro", "weighted")
MULTICLASS = "multiclass"
"""Option of `f1`: the average where F1 of label 1, the harness' only one, is not defined."""
SWITCHES = ("ignore_case", "ignore_punctuation", "ignore_numbers")
UNCALLED = "change nothing, as in lm-evaluation-harness 0.4.13, which calls no metric's function"
OF_OUTPUT: Mapping[OutputType, tuple[str, ...]] = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}
"""lm-evaluation-harness' defaults."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The metrics of a `metric_list`, and notes on what it asks for and does not get."""

    uses: tuple[MetricUse, ...]
    notes: tuple[str, ...]


class _Line:
    """One line of the list."""

    def __init__(self, line: MetricLine, file: TaskFile, *, output_type: OutputType) -> None:
        self._line, self._file, self._output_type = line, file, output_type
        self._made = file.process_results is not None
        self._function = line.metric if isinstance(line.metric, FunctionRef) else None
        self._called = output_type == "generate_until" and not self._made
        self.name = line.metric if isinstance(line.metric, str) else line.metric.name
        self._given: dict[str, object] = dict(line.model_extra or {})
        self.notes: list[str] = []

    @property
    def has_value(self) -> bool:
        """Has the harness a value of it? What only we know is ours, and looked at later."""
        if self._made or self._called or self.name in VALUED[self._output_type]:
            return True
        return self._function is None and self.name not in ITS_OWN and not self._line.hf_evaluate

    @property
    def why_no_value(self) -> str:
        """Why it has none."""
        code = self._function
        what = f"{self.name} has no value" if code is None else f"!function {code.qualified} would never be called"
        return (
            f"the metric {what}: lm-evaluation-harness calls metrics for generate_until alone, this task "
            f"is {self._output_type}; score in process_results"
        )

    @property
    def idle_options(self) -> tuple[str, ...]:
        """Options that change nothing."""
        if not self._idle:
            return ()
        hf = ("hf_evaluate",) if self._line.hf_evaluate and not self._called else ()
        used = {"average"} if MULTICLASS in self.use().options else set()
        return tuple(option for option in (*self._given, *hf) if option not in used)

    @property
    def why_idle(self) -> str:
        """Why they do not."""
        if self._made:
            return f"{UNCALLED} where process_results makes the values"
        if self._called:
            return "change nothing, as in lm-evaluation-harness 0.4.13, where the metric's function takes none"
        return f"{UNCALLED} of {self._output_type}"

    @property
    def _idle(self) -> bool:
        if self._made:
            return True
        return self._function is None and self.name in (PASSED_ON if self._called else VALUED[self._output_type])

    def use(self) -> MetricUse:
        """The metric of the line.

        Raises:
            UsageError: it cannot be carried out.
        """
        if self._line.hf_evaluate and self._called and self.name != "exact_match":
            raise UsageError(
                f"task {self._file.task}: hf_evaluate asks for the metric {self.name} from the package evaluate, which "
                "fetches and runs code of others; take it out to use ours of that name, or score in process_results."
            )
        aggregation = self._aggregation()
        return MetricUse(
            name=self.name,
            options=self._options(aggregation),
            function=None if self._made else self._function,
            aggregation=aggregation,
            higher_is_better=self._line.higher_is_better,
        )

    def _aggregation(self) -> str | FunctionRef | None:
        given = self._line.aggregation
        if isinstance(given, str) and given not in AGGREGATIONS:
            raise unknown(f"aggregation of the metric {self.name} of task {self._file.task}", given, AGGREGATIONS)
        implied = IMPLIED_AGGREGATION.get(self.name, "mean")
        if self._function is not None and not self._made:
            return given or implied
        return None if given == implied else given

    def _options(self, aggregation: str | FunctionRef | None) -> dict[str, object]:
        if not self._idle:
            return self._texts_compared() if self.name == "exact_match" and self._called else self._given
        average = self._given.get("average")
        if self.name == "f1" and self._output_type == "multiple_choice" and average in AVERAGES and not aggregation:
            self._note(f"average of f1 is {average}, which counts where more than two classes are seen, else not")
            return {MULTICLASS: average}
        return {}

    def _texts_compared(self) -> dict[str, object]:
        """The harness tests its switches as Python does, and walks through patterns whatever they stand in."""
        options = dict(self._given)
        for name in SWITCHES:
            value = options.get(name, False)
            if not isinstance(value, bool):
                options[name] = bool(value)
                self._note(f"{name} of exact_match is {value!r}, which counts as {str(bool(value)).lower()}")
        patterns = options.get("regexes_to_ignore")
        if isinstance(patterns, str):
            options["regexes_to_ignore"] = list(patterns)
            self._note(f"regexes_to_ignore of exact_match is the text {patterns!r}, each sign of which is a pattern")
        return options

    def _note(self, said: str) -> None:
        note = f"{said}, as in lm-evaluation-harness 0.4.13"
        if note not in self.notes:
            self.notes.append(note)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of a task."""

    uses: tuple[MetricUse, ...]
    notes: tuple[str, ...] = ()
    """What the file asks for and does not get, one sentence each."""


def metrics_of(file: TaskFile, *, kind: TaskKind, output_type: OutputType) -> Metrics:
    """The metrics.

    Raises:
        UsageError: the list is empty, a metric is named twice, or one of them cannot be carried out.
    """
    notes: tuple[str, ...] = ()
    if file.metrics is not None:
        uses = [
            MetricUse(name=wish) if isinstance(wish, str) else MetricUse(name=wish.name, options=wish.options)
            for wish in file.metrics
        ]
    elif file.metric_list is not None:
        listed = listed_metrics(file, output_type=output_type)
        uses, notes = list(listed.uses), listed.notes
    else:
        implied = kind.metrics_for(file.language) if file.kind is not None else ()
        uses = [MetricUse(name=name) for name in implied or OF_OUTPUT[output_type]]
    if file.process_results is not None:
        uses = [replace(use, aggregation=use.aggregation or IMPLIED_AGGREGATION.get(use.name, "mean")) for use in uses]
    names = [use.name for use in uses]
    if not names:
        raise UsageError(f"task {file.task} has no metrics; name at least one.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"task {file.task} names the metric {twice[0]} twice.")
    return Metrics(uses=tuple(uses), notes=notes)


def listed_metrics(file: TaskFile, *, output_type: OutputType) -> Listed:
    """The metrics of a file's `metric_list`.

    Raises:
        UsageError: a metric cannot be carried out, or none of them has a value.
    """
    lines = [_Line(line, file, output_type=output_type) for line in file.metric_list or ()]
    without = [line for line in lines if not line.has_value]
    if without and len(without) == len(lines):
        raise UsageError(f"task {file.task}: {without[0].why_no_value}.")
    notes = [f"{line.why_no_value}; it is left out, as there" for line in without]
    idle: dict[str, list[str]] = defaultdict(list)
    uses: list[MetricUse] = []
    for line in lines:
        if line.has_value:
            uses.append(line.use())
            notes += line.notes
            if line.idle_options:
                idle[line.why_idle].append(f"{', '.join(line.idle_options)} of {line.name}")
    notes += [f"the options {'; '.join(named)} {why}" for why, named in idle.items()]
    return Listed(uses=tuple(uses), notes=tuple(notes))
