"""Answers of heads to rows, and vectors of texts."""

import base64
import json
from collections.abc import Mapping, Sequence

import numpy as np

from lmtasks.engine.engine import Engine
from lmtasks.errors import UsageError, unknown
from lmtasks.files import parse_json
from lmtasks.head import HEADS, head_of
from lmtasks.head.base import EncodedRow
from lmtasks.head.embedding import unit
from lmtasks.records import Choice, Floats32, HeadInput, HeadSpec, LabelSet, Outcome, Quantity
from lmtasks.serve.asking import WorkerClient
from lmtasks.serve.texts import ServedModel, TextService
from lmtasks.serve.wire import EmbeddingRequest, PredictBody, Refused
from lmtasks.task.kinds import kind_of
from lmtasks.task.roles import text_list
from lmtasks.task.task import Task
from lmtasks.workflow.predict import Predictor, PredictRequest, predictor_over, probabilities_of
from lmtasks.workflow.unlabelled_rows import columns_of, row_of, unlabelled


class HeadService:
    """Answers rows by tasks.

    Args:
        engine: asked by the worker alone.
        client: of the worker.
        model: as clients know it.
        tasks: those that the model answers; no others are opened on a client's word.
        request: how it is asked.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        client: WorkerClient,
        model: ServedModel,
        tasks: Sequence[Task],
        request: PredictRequest,
    ) -> None:
        self._engine = engine
        self._client = client
        self._model = model
        self._request = request
        self._tasks = {task.name: task for task in tasks}
        self._columns = {name: columns_of(unlabelled(task)) for name, task in self._tasks.items()}
        self._predictors: dict[tuple[str, ...], Predictor] = {}
        if tasks:
            self._predictor(tuple(self._tasks))  # what the model does not answer is told before it is served

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what it answers."""
        return tuple(self._tasks)

    @property
    def example(self) -> object:
        """A row that all of them take."""
        columns = tuple(dict.fromkeys(column for each in self._columns.values() for column in each))
        return "a good film" if len(columns) == 1 else dict.fromkeys(columns, "...")

    async def predict(self, asked: PredictBody) -> dict[str, object]:
        """The answers to rows.

        Raises:
            Refused: no such task, or a row lacks a column that it reads.
        """
        if not self._tasks:
            raise Refused(f"{self._model.name} has no heads; POST /v1/completions has it write.", param="tasks")
        wanted = asked.tasks or self.tasks
        for name in wanted:
            if name not in self._tasks:
                raise Refused(str(unknown("task", name, self._tasks)), param="tasks")
        names = tuple(name for name in self._tasks if name in wanted)
        lines = [self._line(row, names, number) for number, row in enumerate(asked.rows)]
        answers = await self._client.ask(("predict", names), lambda rows: self._answer(names, rows), lines)
        return {
            "object": "list",
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
            "data": [{"object": "prediction", "index": index, **answer} for index, answer in enumerate(answers)],
        }

    def _line(self, row: str | Mapping[str, object], names: Sequence[str], number: int) -> str:
        """A row as predictors take it, checked against each task."""
        content: Mapping[str, object]
        if isinstance(row, str):
            columns = tuple(dict.fromkeys(column for name in names for column in self._columns[name]))
            if len(columns) > 1:
                form = json.dumps(dict.fromkeys(columns, "..."), ensure_ascii=False)
                raise Refused(f"row {number} must be an object with {', '.join(columns)}: {form}.", param="rows")
            content = {columns[0]: row} if columns else {}
        else:
            content = row
        line = json.dumps(content, ensure_ascii=False)
        for name in names:
            try:
                row_of(unlabelled(self._tasks[name]), line)
            except UsageError as error:
                raise Refused(f"row {number}: {error}", param="rows") from None
        return line

    def _answer(self, names: tuple[str, ...], rows: Sequence[str]) -> Sequence[Mapping[str, object]]:
        found = self._predictor(names).answer(rows)
        told: list[Mapping[str, object]] = []
        for place in range(len(rows)):
            answers = {
                name: {
                    "answer": found.tasks[name][place],
                    **_beside(self._tasks[name], found.outcomes[name][place]),
                    **_by_words(self._tasks[name], rows[place], answer=found.tasks[name][place]),
                }
                for name in names
            }
            told.append({"answers": answers, "truncated": found.cut[place]})
        return told

    def _predictor(self, names: tuple[str, ...]) -> Predictor:
        if names not in self._predictors:
            tasks = [self._tasks[name] for name in names]
            self._predictors[names] = predictor_over(self._engine, tasks, self._request)
        return self._predictors[names]


class VectorService:
    """Vectors of texts by a model's own states, each of length one.

    Args:
        engine: asked by the worker alone.
        client: of the worker.
        model: as clients know it.
        texts: cuts texts into tokens.
    """

    def __init__(self, engine: Engine, *, client: WorkerClient, model: ServedModel, texts: TextService) -> None:
        self._engine = engine
        self._client = client
        self._model = model
        self._texts = texts
        card = engine.model
        self._spec: HeadSpec | None = next((spec for spec in card.answering if HEADS.line(spec.kind).vectors), None)

    @property
    def has_vectors(self) -> bool:
        """Does the model answer with vectors?"""
        return self._spec is not None

    async def embed(self, asked: EmbeddingRequest) -> dict[str, object]:
        """The vectors of texts, in their order.

        Raises:
            Refused: the model has none, or a text is too long.
        """
        if self._spec is None:
            raise Refused(
                f"{self._model.name} has no vectors; a model in torch has them, and a package that was exported with "
                "them.",
                param="model",
            )
        rows = await self._rows(asked, self._spec)
        longest = self._engine.max_length_tokens
        for number, row in enumerate(rows):
            if row.truncated or len(row.ids) > longest:
                raise Refused(
                    f"text {number} of input is longer than the {longest} tokens that the model takes; shorten it.",
                    param="input",
                    code="context_length_exceeded",
                )
        vectors = await self._client.ask("vectors", self._vectors, rows)
        read = sum(len(row.ids) for row in rows)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _sent(vector, asked)}
                for index, vector in enumerate(vectors)
            ],
            "model": self._model.name,
            "usage": {"prompt_tokens": read, "total_tokens": read},
        }

    async def _rows(self, asked: EmbeddingRequest, spec: HeadSpec) -> list[EncodedRow]:
        if isinstance(asked.input, str) or all(isinstance(each, str) for each in asked.input):
            texts = [asked.input] if isinstance(asked.input, str) else [str(each) for each in asked.input]
            if not all(texts):
                raise Refused("input holds a text that is empty; there is no vector of it.", param="input")
            prefix = spec.query_prefix if asked.input_type == "query" else spec.text_prefix
            kind = head_of(spec)
            return [
                kind.encode(
                    HeadInput(first=text, prefixes=(prefix, "")),
                    tokenizer=self._engine.tokenizer,
                    max_length=self._engine.max_length_tokens,
                    causal=self._engine.model.attention_of(spec) == "causal",
                ).rows[0]
                for text in texts
            ]
        found = await self._texts.encoded_several(asked.input, param="input", special=True)
        return [EncodedRow(ids=each.ids, types=(0,) * len(each.ids), truncated=False) for each in found]

    def _vectors(self, rows: Sequence[EncodedRow]) -> Sequence[Floats32]:
        assert self._spec is not None  # it was asked before
        found = self._engine.predict(self._spec.name, rows)
        return list(unit(np.stack(found).astype(np.float64)).astype(np.float32))


def _sent(vector: Floats32, asked: EmbeddingRequest) -> object:
    """Numbers, or the bytes of 32-bit floats, the lowest byte first, in base64, as OpenAI's client asks for them."""
    if asked.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


def _beside(task: Task, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """What stands beside an answer: probabilities of labels, or a number as one."""
    if len(outcomes) != 1:
        return {}
    match outcomes[0]:
        case Choice() as choice:
            shares = probabilities_of(task.labels, choice)
            return {} if shares is None else {"probabilities": dict(shares)}
        case LabelSet() as chosen:
            each = {label: _sigmoid(score) for label, score in zip(task.labels, chosen.scores, strict=True)}
            return {"labels": [task.labels[place] for place in chosen.answered], "probabilities": each}
        case Quantity() as quantity:
            return {"number": quantity.prediction}
    return {}


def _by_words(task: Task, line: str, *, answer: str) -> dict[str, object]:
    """Of tags: the words, and the tag of each; of several predicates a list of those."""
    if not kind_of(task).in_words:
        return {}
    asked = unlabelled(task)
    words = text_list(asked, row_of(asked, line), role="tokens", where=f"task {task.name}")
    if answer.startswith("["):
        return {"words": list(words), "predicates": parse_json(answer)}
    return {"words": list(words), "tags": answer.split()}


def _sigmoid(score: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -score)))
