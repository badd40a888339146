"""A task: where rows come from, what goes in, what should come out, and how answers are scored. Pure data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from lmtasks.records import Row
from lmtasks.settings.generation import Decoding
from lmtasks.tag_scheme import SchemeName
from lmtasks.task.functions import FunctionRef
from lmtasks.task.templates import Templates

SplitName = Literal["train", "validation", "test"]
OutputType = Literal["loglikelihood", "loglikelihood_rolling", "multiple_choice", "generate_until"]

SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the rows of one split come from."""

    path: str
    """A Hub id, a folder, or one of `formats.BUILDERS` with `data_files`."""
    name: str | None = None
    """The configuration of the data set."""
    split: str
    revision: str | None = None
    data_files: Mapping[str, object] | None = None
    """Split name to a file, or a list of files, relative to `base`."""
    data_dir: str | None = None
    """The folder within the data set that holds its files."""
    reading: "ReaderOptions | None" = None
    """How data files are read, where the task file says so."""
    made_by: "MadeBy | None" = None
    """The task's own code makes the rows; `path` is then only its name."""
    held: "HeldRows | None" = None
    """Rows in memory; `path` is then only a name."""
    stands_for: str | None = None
    """The data set that the task file names, where another one was taken instead and its rows are not the same."""
    changed: "ChangedRows | None" = None
    """The rows are changed once they are read."""
    part: "Part | None" = None
    """Only the rows for one use, of a file that holds those for all; see `data.held_out`."""
    base: Path | None = None
    """Folder of the task file."""


@dataclass(frozen=True, kw_only=True)
class ChangedRows:
    """How rows are changed before they are scored; see `changes`."""

    change: str
    """A line of `changes.CHANGES`."""
    seed: int
    columns: tuple[str, ...]
    """What is read; all else stays."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of a single file that are to be learned from, or those that are set aside to be scored on."""

    use: Literal["train", "test"]
    texts: tuple[str, ...]
    """Columns: rows in which all are equal stand on one side."""
    label: str | None = None
    """Column: of each of its values an equal share is set aside."""


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """Options of `datasets`' readers of text files, for files that do not say of themselves how they are written."""

    column_names: tuple[str, ...] | None = None
    header: bool = True
    """Does the first line of a CSV file name the columns?"""
    delimiter: str | None = None
    """Between the cells of a line."""
    field: str | None = None
    """The key of a JSON object under which its rows stand."""
    encoding: str | None = None
    """Of text files; None: found by their content."""


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """`custom_dataset`: code that yields all splits of a data set."""

    function: FunctionRef
    options: Mapping[str, object] = field(default_factory=dict)
    """What it is called with: the task's `metadata` and `dataset_kwargs`."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HeldRows:
    """Rows in memory, undivided or by split, in the place of a data file or a folder of them.

    >>> held = HeldRows(splits={"train": [{"text": "a"}], "test": [{"text": "b"}]})
    >>> held.is_single, held.of("test"), str(held)
    (False, [{'text': 'b'}], 'the given rows')
    """

    rows: Sequence[Row] = ()
    splits: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    fingerprint: str = ""
    """sha256 over their content, for the hash of a task over them."""

    @property
    def is_single(self) -> bool:
        """Not divided into splits."""
        return not self.splits

    @property
    def all_rows(self) -> Sequence[Row]:
        """The rows of all splits, one behind the other."""
        return self.rows or [row for rows in self.splits.values() for row in rows]

    def of(self, split: str) -> Sequence[Row]:
        """The rows of one split; undivided rows stand for any."""
        return self.splits.get(split, self.rows)

    def __str__(self) -> str:
        return "the given rows"


@dataclass(frozen=True, kw_only=True)
class MetricUse:
    """A metric that a task asks for, with its options."""

    name: str
    options: Mapping[str, object] = field(default_factory=dict)
    function: FunctionRef | None = None
    """The task's own code for one example, where `metric_list` names a `!function`."""
    aggregation: str | FunctionRef | None = None
    """Where it is not what the name implies; the values of `process_results` need it."""
    higher_is_better: bool | None = None
    """Where the file says so itself."""


@dataclass(frozen=True, kw_only=True)
class FilterStep:
    """One function over the answers to a request (regex, take_first, majority_vote, ...)."""

    function: str | FunctionRef
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FilterPipeline:
    """Steps from raw answers to filtered ones; each pipeline of a task yields metrics of its own."""

    name: str
    steps: tuple[FilterStep, ...]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How a text that is longer than the model is cut, where a task wants it otherwise than lm-evaluation-harness."""

    stride: int | None = None
    """Tokens that each window after the first predicts; all that it reads besides is context. None: as many as the
    model takes, so that a window has one token of context."""
    concatenate: bool = False
    """Score the rows as one text; each row still has its own numbers."""
    between: str = "\n\n"
    """What stands between two rows of one text; its tokens count to the row behind them."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """How wrong candidates of a ranking are drawn from the right ones of other rows."""

    count: int
    """Candidates of a row, the right one among them."""
    seed: int = 1234


@dataclass(frozen=True, kw_only=True)
class DrawnPairs:
    """How rows of two texts that belong together become pairs, of which a half do not."""

    other: str
    """The column, or a template, of the text that belongs to a row."""
    among: int
    """Of so many texts of other rows, the one that is most like the row's own becomes the wrong one."""
    seed: int = 1234


@dataclass(frozen=True, kw_only=True)
class KeptRows:
    """The rows of a data set that a task is about."""

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column to the values that it may have."""
    held_out: str = ""
    """A column with documents: those that `pretrain` holds out are scored, and the others learned from; empty: all."""


@dataclass(frozen=True, kw_only=True)
class CorpusSource:
    """Where the texts lie among which the right ones are looked for."""

    source: Source
    text: str
    """The column, or a template."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task, checked. `test` in `sources` is the split that is scored, whatever its name in the data set."""

    name: str
    alias: str
    """The name to show."""
    about: str = ""
    """One line for people."""
    kind: str
    """A line of `lmtasks.task.kinds.KINDS`."""
    language: str
    """Of the answers: `en`, `zh`, ..."""
    output_type: OutputType
    sources: Mapping[SplitName, Source]
    inputs: Mapping[str, str]
    """Role to a column's name or a Jinja template: what a head reads."""
    labels: tuple[str, ...]
    scheme: SchemeName | None = None
    """What tags may follow each other; None: what the training rows keep to."""
    metrics: tuple[MetricUse, ...]
    generation: Decoding
    num_fewshot: int
    zero_shot_only: bool = False
    """The file says `num_fewshot: 0` itself; then no option overrides it."""
    target_delimiter: str
    fewshot_delimiter: str
    description: str
    templates: Templates
    no_answer: str = ""
    """What a prompted model writes when a question has no answer; it counts as the empty answer."""
    shots: Source | None = None
    """Where worked examples come from, unless `shot_rows` has them."""
    shot_rows: tuple[Row, ...] = ()
    """Worked examples that stand in the task file itself."""
    shot_order: Literal["random", "first"] = "random"
    shot_samples: FunctionRef | None = None
    """`fewshot_config.samples` as code: called with nothing, it yields the worked examples."""
    shot_sampler: FunctionRef | None = None
    """`fewshot_config.sampler` as code: a class that is made with the pool and has `set_rnd` and `sample`."""
    shots_may_be_asked: bool = False
    """Does lm-evaluation-harness keep the asked row out of its worked examples? It does where `fewshot_split` and
    `test_split` are written alike, or both are missing."""
    shot_docs: FunctionRef | None = None
    """`fewshot_config.process_docs`, or the task's `process_docs`: rows to rows, over the pool of worked examples."""
    process_docs: FunctionRef | None = None
    """Rows to rows, over every split that is opened."""
    candidates: Candidates | None = None
    """Draw them; else the rows bring them along."""
    pairs: DrawnPairs | None = None
    """Draw them; else the rows are pairs."""
    keep: KeptRows | None = None
    """None: all rows."""
    corpus: CorpusSource | None = None
    """Of a retrieval; None: the right texts of the scored rows."""
    process_results: FunctionRef | None = None
    """(row, answers) to metric values; then nothing else scores the task."""
    filters: tuple[FilterPipeline, ...] = ()
    """Empty: the first answer as it is."""
    repeats: int = 1
    """How often each request is asked."""
    cluster: str | None = None
    """The column whose equal values belong together (a passage with several questions): standard errors count it."""
    windows: Windows = Windows()
    """Of rolling likelihoods."""
    clean: "Task | None" = None
    """The task whose rows are changed, where this one is that task with other scored rows."""
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What the file asks for and does not get, one sentence each; no score depends on them."""
    hash: str
    """sha256 over `fields` without what is only shown to people, 16 hex digits."""
    file: Path | None
    fields: Mapping[str, object]
    """Everything above, resolved, ready for JSON."""
    version: str

    @property
    def head_name(self) -> str:
        """The name of the head that answers it: its own, or that of the task whose rows are changed."""
        return self.name if self.clean is None else self.clean.head_name
