"""Answers that exist, as a solver: each line becomes the outcome that a model's answer would be.

How an answer is read, by the form that a task's answers have:

    label, choice   the name of a label or the text of a choice, exactly; else without regard to case, white space, `_`,
                    `-`, quotes and a full stop; a whole number that is no name is the place of a choice, from 0. An
                    answer that is none of them is wrong, and is counted.
    labels          a list of names, one name, or a score of each label (log-odds)
    number          a number
    tags            a list of tags, or a text with blanks between them
    text            a text, through the task's own filters
    hypothesis      a text; it need not be one of the list
    ranks           texts of the corpus or their places, the best first, or [place, score] of each; right texts that are
                    not among them stand last
    likelihood      `logprob` of the task's text in nats, and its `tokens`

Of an answer without scores nothing is known but what was chosen: metrics that look at more are left out, and said so.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from lmtasks.data.row_hashes import TrainingRows
from lmtasks.data.splits import TaskData
from lmtasks.errors import UsageError
from lmtasks.evaluation.filtering import answer_after, prediction, with_filters
from lmtasks.evaluation.given_answers import GivenAnswers, aligned, cell, named, number_in, numbers, shown
from lmtasks.evaluation.outcome import (
    Answered,
    Way,
    answered_choice,
    answered_labels,
    answered_likelihood,
    answered_number,
    answered_ranks,
    answered_text,
    certain,
)
from lmtasks.evaluation.protocols import AskedWay, PromptContext, ScoredExample, Solved
from lmtasks.evaluation.rescoring import answered_hypothesis, scored_list
from lmtasks.evaluation.retrieval import SHOWN
from lmtasks.evaluation.rolling import words_in
from lmtasks.evaluation.scoring import TaskMetric, scorings_for
from lmtasks.metric.choice import rank_ties
from lmtasks.records import (
    Choice,
    LabelSet,
    Likelihood,
    ModelCard,
    Progress,
    Quantity,
    Ranks,
    RankTie,
    Report,
    Row,
    RuntimeCard,
)
from lmtasks.task.kinds import AnswerForm, baseline_source, head_input, kind_of, scored_text
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import SplitName, Task

OF_WHAT_IS_CHOSEN = frozenset(
    {"acc", "exact_match", "f1", "macro_f1", "micro_f1", "weighted_f1", "mcc", "recall_1", "subset_acc"}
)
"""Metrics of choices and sets of labels that look at nothing but what is chosen."""
NONE_GIVEN = "(no answer was given)"
COUNT_AS: Mapping[AnswerForm, str] = {"tags": "count as outside, word by word"}
"""What becomes of rows without an answer, where they do not just count as wrong."""
EDGES = " \t\r\n\"'“”‘’«»`.。．*"
"""Around an answer that is nothing but a name."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One answer: its line, its row, and the task."""

    task: Task
    example: ScoredExample
    given: GivenAnswers
    line: Row | None
    """None: there is none."""
    number: int
    """Of the line in its file, counted from 1."""
    think_end_token: str = ""

    @property
    def where(self) -> str:
        """The line, for messages."""
        return f"{self.given.where}, line {self.number}"

    def value(self, key: str) -> object:
        """The value of a key; None where there is none."""
        return None if self.line is None else cell(self.line.get(key))

    @property
    def answer(self) -> object:
        """The answer as it was written."""
        keys = ("answer", "label", "text") if kind_of(self.task).labelled else ("answer", "text", "label")
        return next((value for key in keys if (value := self.value(key)) is not None), None)

    @property
    def written(self) -> str:
        """The answer as a text; of several texts of JSON, their JSON."""
        line = self.line or {}
        keys = ("answer", "label", "text") if kind_of(self.task).labelled else ("answer", "text", "label")
        value = next((line[key] for key in keys if line.get(key) is not None), "")
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def outcome_value(self, key: str) -> object:
        """The value of a key, or of that key in the `outcome` of a sample."""
        outcome = self.value("outcome")
        inner = outcome.get(key) if isinstance(outcome, Mapping) else None
        own = self.value(key)
        return inner if own is None else own


@dataclass(kw_only=True)
class _Read:
    """What was found in the answers while they were read."""

    unknown: dict[int, str] = field(default_factory=dict)
    """Row to an answer that is none of its choices, or names what is no label."""
    unlike: list[int] = field(default_factory=list)
    """Rows whose answer is another than the one with the best score."""
    without_scores: int = 0
    scored: int = 0
    alike: int = 0
    """Rows with scores that are all the same."""

    def check(self, given: GivenAnswers, *, task: str) -> None:
        """Refuse scores that say nothing.

        Raises:
            UsageError: those of every row are all equal.
        """
        if self.scored and self.alike == self.scored:
            raise UsageError(
                f"{given.where}: the scores of each row of {task} are all the same, so that they choose nothing (a "
                "server that returns no log-probabilities of a prompt, say); leave them out, and give `answer`."
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on them."""
        found = []
        if self.unknown:
            place, first = next(iter(self.unknown.items()))
            found.append(
                f"{len(self.unknown):,} answers are none of the choices, or name none, and count as wrong "
                f"({named(list(self.unknown))}; of row {place} {first})."
            )
        if self.unlike:
            found.append(
                f"{len(self.unlike):,} answers are not what their own scores say is best ({named(self.unlike)}); the "
                "scores count."
            )
        return tuple(found)


class GivenSolver:
    """Answers with what stands in a file.

    Args:
        given: the answers.
    """

    def __init__(self, given: GivenAnswers) -> None:
        self._given = given
        self.model = ModelCard(
            name=given.name,
            family="answers",
            kind="answers",
            adaptation="prompt",
            parameters=0,
            weights_hash=given.hash,
            tokenizer_hash="",
            max_length_tokens=0,
            vocabulary=0,
        )
        self.card = RuntimeCard(
            runtime="answers", version="", device="", precision="none", threads=0, size_bytes=given.size_bytes
        )

    def why_not(self, task: Task, *, way: AskedWay) -> str:
        """Why there can be no answers to the task, as a sentence; empty where there can."""
        del way
        if kind_of(task).answer == "pair":
            return f"{self._given.name} is a file of answers: pairs of texts are asked of a model."
        if self._given.tasks and task.name not in self._given.tasks:
            return (
                f"{self._given.where} holds no answers to {task.name}; its lines are of {', '.join(self._given.tasks)}."
            )
        return ""

    def way(self, task: Task, *, way: AskedWay) -> Way:
        """`answers`."""
        del task, way
        return "answers"

    def needs(self, task: Task) -> frozenset[SplitName]:
        """Nothing."""
        del task
        return frozenset()

    def training_rows(self, task: Task, data: TaskData) -> TrainingRows | None:
        """Nobody knows what the system learned from."""
        del task, data
        return None

    def solve(self, task: Task, data: TaskData, *, prompt_context: PromptContext, report: Report) -> Solved:
        """The answers to every row of the scored split.

        Raises:
            UsageError: answers are missing, double, or not of the form that the task asks for.
        """
        why_not = self.why_not(task, way="auto")
        if why_not or data.test is None:
            raise UsageError(why_not or f"task {task.name}: the scored split was not opened.")
        started = perf_counter()
        rows, given = data.test.rows, self._given
        answers = aligned(given, task=task.name, rows=rows)
        read = _Read()
        make = _ANSWERED[kind_of(task).answer]
        examples = [
            make(
                _Line(
                    task=task,
                    example=ScoredExample(doc_id=place, row=row),
                    given=given,
                    line=each[1] if each else None,
                    number=each[0] if each else 0,
                    think_end_token=prompt_context.think_end_token,
                ),
                read,
            )
            for place, (row, each) in enumerate(zip(rows, answers.found, strict=True))
        ]
        read.check(given, task=task.name)
        missing, notes = answers.missing, list(read.notes)
        if missing:
            notes.insert(
                0,
                f"{len(missing):,} of {len(rows):,} rows have no answer and "
                f"{COUNT_AS.get(kind_of(task).answer, 'count as wrong')} ({named(missing)}).",
            )
        if answers.extra:
            notes.append(f"{len(answers.extra):,} answers are of rows that are not scored ({named(answers.extra)}).")
        if not given.by_place and not given.by_id:
            notes.append("Its lines name no rows: they were taken in their order.")
        report(Progress(stage=task.name, done=len(rows), total=len(rows), unit="answers"))
        return Solved(
            examples=tuple(examples),
            truncated=0,
            seconds=perf_counter() - started,
            refused=_refused(task, read),
            notes=tuple(notes),
            given={"name": given.name, "sha256": given.hash, "missing": len(missing), "unknown": len(read.unknown)},
        )


def _refused(task: Task, read: _Read) -> Mapping[str, str]:
    """Metrics that answers without scores have no value of, each with the reason.

    Raises:
        UsageError: they have a value of none.
    """
    scorings = scorings_for(task)
    if not read.without_scores:
        return {}
    refused = [scoring.name for scoring in scorings if _looks_at_scores(scoring)]
    sentence = (
        f"answers without scores say what was chosen and no more, so there is no {', no '.join(refused)}; give "
        "`scores` of the choices, log-probabilities."
    )
    if len(refused) == len(scorings):
        raise UsageError(f"task {task.name}: {sentence}")
    return dict.fromkeys(refused, sentence)


def _looks_at_scores(scoring: TaskMetric) -> bool:
    return scoring.metric.name not in OF_WHAT_IS_CHOSEN


def _label(line: _Line, read: _Read) -> Answered:
    task, row, number = line.task, line.example.row, line.example.doc_id
    given = head_input(task, row, row_number=number)
    prompted: tuple[str, ...] = ()
    if task.output_type == "multiple_choice" and task.templates.asked.question is not None:
        prompted = build_prompt(task, row, row_number=number).choices
    written = prompted if len(prompted) == len(task.labels) else ()
    gold = () if given.label is None else (given.label,)
    return _choice(line, read, prompt=given.shown, names=task.labels, written=written, gold=gold)


def _own_choice(line: _Line, read: _Read) -> Answered:
    task, row, number = line.task, line.example.row, line.example.doc_id
    if kind_of(task).roles:
        given = head_input(task, row, row_number=number)
        gold = () if given.label is None else (given.label,)
        return _choice(line, read, prompt=given.shown, names=given.candidates, written=(), gold=gold)
    prompt = build_prompt(task, row, row_number=number)
    if not prompt.choices:
        raise UsageError(f"task {task.name}, row {number}: there are no choices.")
    shown_prompt = prompt.contexts or prompt.context
    return _choice(line, read, prompt=shown_prompt, names=prompt.choices, written=(), gold=prompt.gold)


def _choice(
    line: _Line,
    read: _Read,
    *,
    prompt: str | tuple[str, ...],
    names: tuple[str, ...],
    written: tuple[str, ...],
    gold: tuple[int, ...],
) -> Answered:
    """An answer among choices.

    Args:
        names: of the choices.
        written: their texts in the task's prompt, where they are others.
    """
    held = line.value("choices")
    texts = tuple(map(str, held)) if isinstance(held, list) and len(held) == len(names) else written or names
    scores = _scores_of(line, read, names=names, written=written)
    answer = line.answer
    place = None if answer is None else chosen(answer, names, written, digits=kind_of(line.task).labelled)
    scored = scores is not None
    if scores is None:
        read.without_scores += 1
        if place is None and line.line is not None:
            read.unknown[line.example.doc_id] = shown(answer)
        scores = certain(-1 if place is None else place, len(names))
    elif place is not None and scores[place] < max(scores):
        read.unlike.append(line.example.doc_id)
    unconditional = numbers(line.outcome_value("unconditional"), where=line.where) or ()
    greedy = line.outcome_value("greedy")
    outcome = Choice(
        gold=gold,
        scores=tuple(scores),
        chars=tuple(map(len, texts)),
        bytes=tuple(len(text.encode()) for text in texts),
        greedy=tuple(map(bool, greedy)) if isinstance(greedy, list) and len(greedy) == len(names) else (),
        unconditional=unconditional if len(unconditional) == len(names) else (),
        chosen=scored or place is not None,
        scored=scored,
    )
    found = answered_choice(outcome, prompt=prompt, choices=texts)
    if scored:
        return found
    return replace(found, raw=line.written, answer=line.written if place is None else found.answer)


def _scores_of(line: _Line, read: _Read, *, names: Sequence[str], written: Sequence[str]) -> Sequence[float] | None:
    """A score of each choice; None where there are none.

    Raises:
        UsageError: there are more or fewer than choices, one is of no choice, or is no number.
    """
    for key in ("raw", "scores", "probabilities"):
        value = line.value(key)
        if value is None or (key == "raw" and numbers(value, where=line.where) is None):
            continue
        if isinstance(value, Mapping):
            listed: list[object] = [None] * len(names)
            for name, score in value.items():
                place = chosen(name, names, written, digits=True)
                if place is None:
                    raise UsageError(
                        f"{line.where}: {name!r} of `{key}` is none of the {len(names)} choices ({_some(names)})."
                    )
                listed[place] = score
            value = listed
        scores = numbers(value, where=line.where)
        if scores is None or len(scores) != len(names):
            count = len(value) if isinstance(value, list) else "no list of"
            raise UsageError(f"{line.where}: there are {len(names)} choices ({_some(names)}), and {count} `{key}`.")
        if key == "probabilities":
            if min(scores) < 0:
                raise UsageError(f"{line.where}: a probability is below 0; give log-probabilities as `scores`.")
            scores = tuple(math.log(share) if share else -math.inf for share in scores)
        read.scored += 1
        read.alike += len(set(scores)) == 1 < len(scores)
        return scores
    return None


def chosen(answer: object, names: Sequence[str], written: Sequence[str] = (), *, digits: bool = False) -> int | None:
    """The place of the choice that an answer names; None where it names none, or several.

    Args:
        written: texts of the choices in a prompt.
        digits: is a text of digits a place as a number is?

    >>> names = ("negative", "positive")
    >>> [chosen(each, names) for each in ("positive", " Positive. ", "POS-itive", 0, "0", "fine", True)]
    [1, 1, 1, 0, None, None, None]
    >>> chosen(3, ("1", "2", "3")), chosen("great", names, ("bad", "great"))
    (2, 1)
    """
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return None
    text = str(answer)
    for texts in (names, written):
        if text in texts:
            return texts.index(text)
    for texts in (names, written):
        alike = [place for place, name in enumerate(texts) if _plain(name) == _plain(text)]
        if len(alike) == 1 and _plain(text):
            return alike[0]
    place = int(text) if isinstance(answer, int) or (digits and text.strip().isdecimal()) else -1
    return place if 0 <= place < len(names) else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.strip(EDGES).casefold() if not letter.isspace() and letter not in "_-")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(name[:40] for name in names[:12]) + more


def _labels(line: _Line, read: _Read) -> Answered:
    task = line.task
    given = head_input(task, line.example.row, row_number=line.example.doc_id)
    gold = given.labels or ()
    scores = _scores_of(line, read, names=task.labels, written=()) if line.line is not None else None
    if scores is None:
        read.without_scores += 1
        answer = line.answer
        several = answer if isinstance(answer, list) else [] if answer in (None, "") else [answer]
        places = [chosen(each, task.labels, digits=True) for each in several]
        strange = [each for each, place in zip(several, places, strict=True) if place is None]
        if strange:
            read.unknown[line.example.doc_id] = shown(strange[0])
        scores = [1.0 if place in places else -1.0 for place in range(len(task.labels))]
        if line.line is None:  # wrong, whatever is right: no label where there are some, else one that is not
            scores = [-1.0 if gold else 1.0] * len(task.labels)
    elif line.value("probabilities") is not None and line.value("scores") is None:
        scores = [_log_odds(math.exp(score), line) for score in scores]
    return answered_labels(LabelSet(gold=gold, scores=tuple(scores)), prompt=given.shown, labels=task.labels)


def _log_odds(share: float, line: _Line) -> float:
    if not 0 <= share <= 1 + 1e-12:
        raise UsageError(f"{line.where}: the probability {share:g} is not between 0 and 1.")
    return math.log(share / (1 - share)) if 0 < share < 1 else -700.0 if share == 0 else 700.0


def _number(line: _Line, read: _Read) -> Answered:
    given = head_input(line.task, line.example.row, row_number=line.example.doc_id)
    if line.line is None:
        raise UsageError(
            f"{line.given.where} has no answer to row {line.example.doc_id} of {line.task.name}; nothing stands for a "
            "number that is missing, so that --allow-missing does not help."
        )
    raw = line.value("raw")
    answer = line.answer if raw is None else raw
    found = number_in(answer)
    if found is None or not math.isfinite(found):
        raise UsageError(f"{line.where}: the answer {shown(answer)} is no number, which {line.task.name} asks for.")
    gold = math.nan if given.number is None else given.number
    return answered_number(Quantity(gold=gold, prediction=found), prompt=given.shown)


def _tags(line: _Line, read: _Read) -> Answered:
    given = head_input(line.task, line.example.row, row_number=line.example.doc_id)
    answer = line.answer
    text = " ".join(map(str, answer)) if isinstance(answer, list) else line.written
    tags = " ".join(line.task.labels[tag] for tag in given.tags)
    found = answered_text(text, prediction=text, prompt=given.shown, references=(tags,), source=given.first)
    return with_filters(line.task, found, example=line.example, texts=[text], trained=True)


def _text(line: _Line, read: _Read) -> Answered:
    """White space around an answer is treated as the task has it (`filtering.prediction`). Where a line has `raw`
    beside `answer`, both say how it was treated when the answer was made."""
    task, raw = line.task, None if line.line is None else line.line.get("raw")
    several = cell(raw) if task.repeats > 1 else None
    texts = [str(each) for each in several] if isinstance(several, list) else [str(raw)] if raw is not None else []
    texts = texts or [line.written]
    thought = texts
    if line.think_end_token:
        texts = [answer_after(each, token=line.think_end_token, stops=task.generation.stop) for each in texts]
    prompt, references = kind_of(task).shown(task, line.example.row, row_number=line.example.doc_id)
    if line.line is None and not all(each.strip() for each in references or ("",)):
        texts = thought = [NONE_GIVEN]  # no text at all would be right
    source = baseline_source(task, line.example.row)
    for trained in (False, True):
        found = answered_text(
            texts[0],
            prediction=prediction(task, texts[0], trained=trained),
            prompt=prompt,
            references=references,
            source=source,
        )
        found = with_filters(task, found, example=line.example, texts=texts, trained=trained)
        if raw is None or found.answer == line.written:
            break
    return replace(found, raw=thought[0] if len(thought) == 1 else thought)


def _hypothesis(line: _Line, read: _Read) -> Answered:
    task, number = line.task, line.example.doc_id
    given = scored_list(task, line.example.row, where=f"task {task.name}, row {number}")
    found = answered_hypothesis(given, 0)
    text = line.written
    outcome = replace(found.outcome, prediction=text)  # type: ignore[arg-type]  # a text, as its kind has it
    return replace(found, outcome=outcome, raw=text, answer=text)


def _ranks(line: _Line, read: _Read) -> Answered:
    given = head_input(line.task, line.example.row, row_number=line.example.doc_id)
    corpus, right = given.candidates, given.labels or ()
    raw = line.value("raw")
    listed = line.answer if raw is None else raw
    order = listed if isinstance(listed, list) else [] if listed is None else [listed]
    places: dict[int, float] = {}
    known = {text: place for place, text in enumerate(corpus)}
    for rank, each in enumerate(order):
        pair = each if isinstance(each, list) and len(each) == 2 else None
        wanted, score = (pair[0], number_in(pair[1])) if pair else (each, float(len(order) - rank))
        place = known.get(wanted) if isinstance(wanted, str) else wanted if isinstance(wanted, int) else None
        if place is None or isinstance(place, bool) or not 0 <= place < len(corpus):
            read.unknown.setdefault(line.example.doc_id, shown(wanted))
            continue
        if score is None or not math.isfinite(score):
            raise UsageError(f"{line.where}: the score of {shown(wanted)} is no number.")
        places.setdefault(place, score)
    scores = np.array([places.get(place, -math.inf) for place in range(len(corpus))])
    behind = sum(place not in places for place in right)
    last = RankTie(above=len(corpus) - behind, size=behind, right=behind)
    ties = [tie if place in places else last for place, tie in zip(right, rank_ties(scores, right), strict=True)]
    first = sorted(places.items(), key=lambda each: -each[1])[:SHOWN] or [(0, -math.inf)]
    found = answered_ranks(
        Ranks(ties=tuple(ties), count=len(corpus)), prompt=given.first, right=given.answers, corpus=corpus, first=first
    )
    return found if places else replace(found, raw=[], answer="")


def _likelihood(line: _Line, read: _Read) -> Answered:
    del read
    task, row, number = line.task, line.example.row, line.example.doc_id
    rolling = task.output_type == "loglikelihood_rolling"
    prompt = None if rolling else build_prompt(task, row, row_number=number)
    text = scored_text(task, row) if prompt is None else prompt.target
    value = line.value("logprob")
    logprob = number_in(line.value("raw") if value is None else value)
    tokens = number_in(line.outcome_value("tokens"))
    if line.line is None or logprob is None or not logprob < math.inf or tokens is None or not tokens >= 0:
        where = f"{line.given.where} has no answer to row {number}" if line.line is None else line.where
        raise UsageError(
            f"{where}: {task.name} asks how likely a given text is; a line has its `logprob` in nats and its `tokens`. "
            "A text that was written is no answer to it."
        )
    unknown = number_in(line.outcome_value("unknown"))
    outcome = Likelihood(
        logprob=logprob,
        tokens=int(tokens),
        words=words_in(text),
        bytes=len(text.encode()),
        greedy=bool(line.outcome_value("greedy")),
        unknown=0 if unknown is None else int(unknown),
        altered=bool(line.outcome_value("altered")),
    )
    return answered_likelihood(outcome, prompt="" if prompt is None else prompt.context, text=text)


_ANSWERED: Mapping[AnswerForm, Callable[[_Line, _Read], Answered]] = {
    "label": _label,
    "labels": _labels,
    "number": _number,
    "tags": _tags,
    "choice": _own_choice,
    "ranks": _ranks,
    "text": _text,
    "likelihood": _likelihood,
    "hypothesis": _hypothesis,
}
