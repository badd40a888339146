"""A backbone that a model starts from: one that is there, or a family made new with a tokenizer of the tasks' words.

Word vectors are read in the text format of word2vec and GloVe: a word and its numbers on each line, of word2vec under a
line that tells how many there are. A file may be gzipped.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError
from lmtasks.files import parse_json, read_object
from lmtasks.records import Floats32, Progress
from lmtasks.settings.attention import Attention
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Task

if TYPE_CHECKING:
    from lmtasks.data.tokenizer import Tokenizer


RECIPE = "recipe.json"
"""Beside a new backbone: what it was made from."""

PRETRAINED_BOTH_WAYS = "pretrained_both_ways"
"""In a model's record: its backbone was, so that heads that come later read so, too."""
MARKS = "Ġ▁ "
"""How tokenizers write the blank before a word."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The backbone that a person asked for.

    Raises:
        UsageError: options of a backbone that is there, for one that is made new.
    """

    backbone: str
    """A folder, a shipped name, a Hub id; or a family, `lstm:width=200,layers=2`."""
    tokenizer: str | None = None
    """Of a new family: `words:10000`, or a folder that has one; None: what suits the family."""
    vectors: Path | None = None
    """Pretrained word vectors that its embeddings start from."""
    from_scratch: bool = False
    """Shape and tokenizer of a backbone that is there, with random weights: what did its pretraining give?"""
    attention: Attention | None = None
    """How it reads for heads that do not write; None: both ways if it was pretrained so, else as it reads by itself."""

    def __post_init__(self) -> None:
        made = self.is_family or self.is_fitted
        if self.from_scratch and made:
            raise UsageError(
                f"{self.backbone!r} is made new anyway; --from-scratch goes with a backbone that is there."
            )
        if self.attention is not None and self.is_fitted:
            raise UsageError(
                f"attention is how a backbone reads for its heads, and {self.backbone!r} has none: it counts tokens; "
                "leave --attention out."
            )

    @property
    def is_new(self) -> bool:
        """Are its weights made from nothing?"""
        return self.from_scratch or self.is_family

    @property
    def is_family(self) -> bool:
        """Is it described, and not there?"""
        from lmtasks.backbone.family import is_family

        return is_family(self.backbone)

    @property
    def is_fitted(self) -> bool:
        """Is it made from nothing at once, without steps?"""
        from lmtasks.backbone.closed_form import is_fitted

        return is_fitted(self.backbone)

    def told(self) -> Mapping[str, str | None]:
        """For the record of a model; of the vectors the name only, since a place is a machine's."""
        return {
            "backbone": self.backbone,
            "tokenizer": self.tokenizer,
            "vectors": None if self.vectors is None else self.vectors.name,
            **({"from_scratch": "yes"} if self.from_scratch else {}),
            **({"attention": self.attention} if self.attention is not None else {}),
        }


def started_backbone(
    start: Start,
    *,
    tasks: Sequence[Task],
    options: DataAccess,
    seed: int,
    rows: int | None = None,
    folder: Path,
    report: Callable[[Progress], None],
) -> Path:
    """The folder of the backbone; a new one is written to `folder`, or found there from an earlier try.

    The tokenizer of a new one is learned from the training rows of the tasks, and from nothing else.

    Args:
        rows: training rows of each task at most, drawn by the seed; None: all.

    Raises:
        UsageError: no such backbone, or options of a new one were given for one that is there.
    """
    from lmtasks.model.resolve import resolve

    if not start.is_family and (start.tokenizer is not None or start.vectors is not None):
        raise UsageError(
            f"a tokenizer or word vectors go with a family that is made new; {start.backbone!r} has its own."
        )
    there = None if start.is_family else resolve(start.backbone, offline=options.offline, token=options.token)
    if there is not None and not start.from_scratch:
        return there
    recipe = _recipe(start, tasks, seed, rows)
    if (folder / RECIPE).is_file():
        if parse_json((folder / RECIPE).read_text(encoding="utf-8")) == recipe:
            return folder
        raise UsageError(f"{folder} holds a backbone that was begun otherwise; give another --out, or delete it.")
    if there is None:
        _make(start, tasks=tasks, options=options, seed=seed, rows=rows, folder=folder, report=report)
    else:
        _make_like(there, seed=seed, folder=folder)
    (folder / RECIPE).write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    return folder


def pretrained_both_ways(folder: Path) -> bool:
    """Did a causal backbone learn to read both ways before it was adapted, by any stage of its pretraining?

    Args:
        folder: a backbone, or a model over one.
    """
    from lmtasks.model.store import read_provenance
    from lmtasks.model.vectors import PRETRAINING, was_pretrained_both_ways
    from lmtasks.model.weights import weights_home

    if read_provenance(folder).get(PRETRAINED_BOTH_WAYS):
        return True
    return was_pretrained_both_ways(read_object(weights_home(folder) / PRETRAINING))


def started_tokenizer(
    spec: str | None,
    *,
    default: str,
    tasks: Sequence[Task],
    options: DataAccess,
    seed: int,
    rows: int | None = None,
    folder: Path,
    report: Callable[[Progress], None],
) -> "Tokenizer":
    """The tokenizer of a new family, learned from the training rows of the tasks and saved in `folder`.

    Args:
        spec: `words:10000`, or the folder of a tokenizer that is there; None: the default, as it suits the texts.
        default: the family's own.
        rows: training rows of each task at most, drawn by the seed; None: all.

    Raises:
        UsageError: no such kind or setting, or the rows have no words.
    """
    from lmtasks.data.spacing import suited_tokenizer
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.data.vocabulary import learn_tokenizer, parse_tokenizer
    from lmtasks.model.files import copy_tokenizer

    there = None if spec is None or not Path(spec).is_dir() else Path(spec)
    if spec is not None and there is None:
        parse_tokenizer(spec)  # a slip is found before the data is read
    folder.mkdir(parents=True, exist_ok=True)
    report(Progress(stage="learn the vocabulary", done=0, total=1, unit="tokenizer"))
    if there is not None:
        tokenizer = load_tokenizer(there)
        copy_tokenizer(there, folder)
    else:
        chosen = spec or suited_tokenizer(default, (_texts([task], options, seed, rows) for task in tasks))
        tokenizer = learn_tokenizer(chosen, _texts(tasks, options, seed, rows))
        tokenizer.save(folder)
    report(Progress(stage="learn the vocabulary", done=1, total=1, unit="tokenizer"))
    return tokenizer


def _make(
    start: Start,
    *,
    tasks: Sequence[Task],
    options: DataAccess,
    seed: int,
    rows: int | None = None,
    folder: Path,
    report: Callable[[Progress], None],
) -> None:
    import torch

    from lmtasks.backbone.family import FAMILIES, parse_family
    from lmtasks.model.create import Vocabulary, write_backbone

    name, _ = parse_family(start.backbone)
    tokenizer = started_tokenizer(
        start.tokenizer,
        default=FAMILIES[name].tokenizer,
        tasks=tasks,
        options=options,
        seed=seed,
        rows=rows,
        folder=folder,
        report=report,
    )
    vectors = None if start.vectors is None else read_vectors(start.vectors, tokenizer=tokenizer)
    write_backbone(
        start.backbone,
        Vocabulary(size=tokenizer.vocabulary, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad),
        seed=seed,
        folder=folder,
        vectors=None if vectors is None else torch.from_numpy(vectors.values),
    )


def _make_like(there: Path, *, seed: int, folder: Path) -> None:
    from lmtasks.data.tokenizer import load_tokenizer
    from lmtasks.model.create import write_backbone_like
    from lmtasks.model.files import copy_tokenizer, tokenizer_folder

    home = tokenizer_folder(there)
    folder.mkdir(parents=True, exist_ok=True)
    load_tokenizer(home)  # one that cannot be read is told of before anything is made
    copy_tokenizer(home, folder)
    write_backbone_like(home, seed=seed, folder=folder)


def _texts(tasks: Sequence[Task], options: DataAccess, seed: int, rows: int | None) -> Iterator[str]:
    from lmtasks.data.splits import drawn, load_task_data
    from lmtasks.task.kinds import kind_of

    for task in tasks:
        data = load_task_data(task, options=options, need=frozenset({"train", "validation"}), limit=None, seed=seed)
        data = drawn(task, data, rows=rows, seed=seed)
        for number, row in enumerate(data.train.rows if data.train is not None else ()):
            yield from kind_of(task).learned_texts(task, row, row_number=number)


def _recipe(start: Start, tasks: Sequence[Task], seed: int, rows: int | None) -> dict[str, object]:
    from lmtasks.model.weights import file_hash

    return {
        "backbone": start.backbone,
        "from_scratch": start.from_scratch,
        "tokenizer": start.tokenizer,
        "vectors": None if start.vectors is None or not start.vectors.is_file() else file_hash(start.vectors),
        "tasks": {task.name: task.hash for task in tasks},
        "seed": seed,
        **({"rows": rows} if rows is not None and start.is_family else {}),
    }


@dataclass(frozen=True, kw_only=True)
class TokenVectors:
    """Vectors for the tokens of a tokenizer."""

    values: Floats32
    """(V, D); not a number where the file lacks the token."""
    found: int
    """Tokens that the file has."""


def read_vectors(file: Path, *, tokenizer: Tokenizer) -> TokenVectors:
    """The vectors of a tokenizer's tokens, as they are written, else in small letters. Others are not kept.

    Raises:
        UsageError: the file is not there, a line is not text or has too few numbers, or no token is found.
    """
    places: dict[str, list[int]] = {}
    exact: dict[str, int] = {}
    for token, index in tokenizer.raw.get_vocab(with_added_tokens=False).items():
        word = token.lstrip(MARKS)
        exact[word] = index
        places.setdefault(word.lower(), []).append(index)
    values = np.empty((0, 0), dtype=np.float32)
    for number, word, numbers in _lines(file):
        width = len(numbers)
        if not values.size:
            values = np.full((tokenizer.vocabulary, width), np.nan, dtype=np.float32)
        if width != values.shape[1]:
            raise UsageError(f"{file}, line {number}: {width} numbers, the lines before have {values.shape[1]}.")
        rows = [row for row in places.get(word, ()) if np.isnan(values[row, 0])]
        rows += [exact[word]] if word in exact and exact[word] not in rows else []
        if rows:
            try:
                values[rows] = np.array(numbers, dtype=np.float32)
            except ValueError:
                raise UsageError(f"{file}, line {number}: the vector of {word!r} holds what is no number.") from None
    found = int((~np.isnan(values[:, 0])).sum()) if values.size else 0
    if not found:
        raise UsageError(f"{file} has a vector for none of the {tokenizer.vocabulary} tokens; is it of this language?")
    return TokenVectors(values=values, found=found)


def _lines(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(number of the line, word, its numbers as they are written)."""
    if not file.is_file():
        raise UsageError(f"the file of word vectors {file} does not exist.")
    offset = 0
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                parts = raw.decode().rstrip("\n").rstrip(" ").split(" ")
            except UnicodeDecodeError as error:
                raise UsageError(f"{file}, line {number}: byte {offset + error.start} is not UTF-8.") from error
            offset += len(raw)
            if number == 1 and len(parts) == 2:
                continue  # word2vec's header
            if len(parts) < 3:
                raise UsageError(f"{file}, line {number}: a word and at least two numbers are needed: {raw[:40]!r}.")
            yield number, parts[0], parts[1:]
