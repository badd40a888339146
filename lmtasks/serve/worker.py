"""The engine's own thread: questions of all clients, answered together.

Texts are written with continuous batching, as `bench --rate` drives the engine (`Engine.serve`): who comes joins those
that are being written. All other questions (scores, heads, vectors) wait in groups, and are answered between two steps,
those of a group by one call. Where a runtime cannot let texts join, they are written batch after batch.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Generic, TypeVar

from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, TokenEvent
from lmtasks.errors import LmtasksError

Question = TypeVar("Question")
Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


class ServerEnded(Exception):
    """The server ended before a question was answered."""


@dataclass(eq=False, kw_only=True)
class WrittenText:
    """A text that is asked for.

    Args:
        request: without beams, and short enough; nothing of it is checked any more.
        send: takes each step, or why the text is not written any further, in the worker's thread.
    """

    request: GenerateRequest
    send: Callable[[TokenEvent | Exception], None]
    is_dropped: bool = False
    """Does nobody wait for it any more?"""


@dataclass(eq=False, kw_only=True)
class Call(Generic[Question, Answer]):
    """Questions of one client that one call answers, together with those of others.

    Args:
        group: of calls that may be answered together; those have the same `ask`.
        ask: answers questions, one for one.
        questions: of this client.
        send: takes the answers, or why there are none, in the worker's thread.
    """

    group: Hashable
    ask: Callable[[Sequence[Question]], Sequence[Answer]]
    questions: Sequence[Question]
    send: Callable[[Sequence[Answer] | Exception], None]
    is_dropped: bool = False

    def answer_with(self, others: "Sequence[Call[Question, Answer]]") -> None:
        """Answer it and others of its group; where one of them is wrong, each by itself."""
        together = [self, *others]
        try:
            answers = self.ask([question for call in together for question in call.questions])
        except Exception as error:  # noqa: BLE001  # it is the client's, whatever it is
            if len(together) == 1:
                self.send(error)
                return
            for call in together:
                call.answer_with(())
            return
        first = 0
        for call in together:
            call.send(answers[first : first + len(call.questions)])
            first += len(call.questions)


AnyCall = Call[object, object]


@dataclass(kw_only=True)
class _Waiting:
    texts: deque[WrittenText] = field(default_factory=deque)
    calls: "deque[AnyCall]" = field(default_factory=deque)
    is_closed: bool = False


class EngineWorker:
    """Answers what it is given, one piece of work at a time.

    Args:
        engine: asked in the worker's thread alone.
        rows: texts that are written at once, at most; None: as many as make tokens come fastest.
        length: tokens of a prompt and its answer, at most.
    """

    def __init__(self, engine: Engine, *, rows: int | None, length: int) -> None:
        self._engine = engine
        self._rows, self._length = rows, length
        self._waiting = _Waiting()
        self._changed = Condition()
        self._written: dict[int, WrittenText] = {}
        """Texts that are being written, by the number that the engine has for them."""
        self._count = 0
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def write(self, texts: Sequence[WrittenText]) -> None:
        """Let texts be written."""
        with self._changed:
            is_closed = self._waiting.is_closed
            if not is_closed:
                self._waiting.texts.extend(texts)
                self._changed.notify()
        for text in texts if is_closed else ():
            text.send(ServerEnded())

    def ask(self, call: "Call[Question, Answer]") -> None:
        """Let questions be answered."""
        with self._changed:
            is_closed = self._waiting.is_closed
            if not is_closed:
                self._waiting.calls.append(call)  # type: ignore[arg-type]  # each call knows its own types
                self._changed.notify()
        if is_closed:
            call.send(ServerEnded())

    def end(self) -> None:
        """Answer nothing more: whoever waits is told so (`ServerEnded`)."""
        with self._changed:
            self._waiting.is_closed = True
            self._changed.notify()

    def close(self) -> None:
        """End, and wait for the thread's end."""
        self.end()
        self._thread.join()

    @property
    def rows(self) -> int:
        """Texts that are written at once, at most, by what is known now."""
        return self._engine.rows_together(self._length) if self._rows is None else self._rows

    @property
    def writing(self) -> int:
        """Texts that the engine has, those among them that wait for a place."""
        return len(self._written)

    def _run(self) -> None:
        work = self._serve if self._joins() else self._batches
        while not self._waiting.is_closed:
            try:
                work()
            except Exception as error:
                # One row of a batch does not fit, or the scores of the model are no numbers: which of the texts it was
                # is not known any more, so that all that were being written end with it.
                if not isinstance(error, LmtasksError):
                    log.exception("a fault of lmtasks; the texts that were being written are lost, and it goes on")
                self._fail(error)
        self._fail(ServerEnded())

    def _joins(self) -> bool:
        return self._engine.model.kind != "encoder" and self._engine.joins()

    # --- texts that join others

    def _serve(self) -> None:
        self._count = 0
        self._engine.serve(
            self._arriving, rows=self._rows, length=self._length, on_token=self._give, leaving=self._leaving
        )

    def _arriving(self, idle: bool) -> Sequence[GenerateRequest] | None:
        """Texts that came; questions are answered meanwhile."""
        while True:
            with self._changed:
                if self._waiting.is_closed:
                    # Those that are being written are dropped by `_leaving`, so that the engine comes to its end.
                    return None
                calls, self._waiting.calls = self._waiting.calls, deque()
                texts, self._waiting.texts = self._waiting.texts, deque()
                if idle and not calls and not texts:
                    self._changed.wait()
                    continue
            _answer(calls)
            texts = deque(text for text in texts if not text.is_dropped)
            if texts or not idle:
                break
        for number, text in enumerate(texts, start=self._count):
            self._written[number] = text
        self._count += len(texts)
        return [text.request for text in texts]

    def _leaving(self) -> Collection[int]:
        closed = self._waiting.is_closed
        left = [number for number, text in self._written.items() if closed or text.is_dropped]
        for number in left:
            text = self._written.pop(number)
            if closed and not text.is_dropped:
                text.send(ServerEnded())
        return left

    def _give(self, event: TokenEvent) -> None:
        text = self._written.get(event.request)
        if text is None:
            return
        if event.stopped is not None:
            del self._written[event.request]
        if not text.is_dropped:
            text.send(event)

    # --- texts batch after batch

    def _batches(self) -> None:
        with self._changed:
            while not (self._waiting.calls or self._waiting.texts or self._waiting.is_closed):
                self._changed.wait()
            if self._waiting.is_closed:
                return
            calls, self._waiting.calls = self._waiting.calls, deque()
            most = min(self.rows, len(self._waiting.texts))
            texts = [self._waiting.texts.popleft() for _ in range(most)]
        _answer(calls)
        texts = [text for text in texts if not text.is_dropped]
        if texts:
            self._written = dict(enumerate(texts))
            self._engine.generate([text.request for text in texts], on_token=self._give)

    def _fail(self, error: Exception) -> None:
        """Nothing that is being written will end; nor will what waits, where the worker is closed."""
        texts = list(self._written.values())
        self._written = {}
        with self._changed:
            if self._waiting.is_closed:
                texts += self._waiting.texts
                self._waiting.texts = deque()
                calls, self._waiting.calls = self._waiting.calls, deque()
            else:
                calls = deque()
        for text in texts:
            if not text.is_dropped:
                text.send(error)
        for call in calls:
            if not call.is_dropped:
                call.send(error)


def _answer(calls: "Collection[AnyCall]") -> None:
    groups: dict[Hashable, list[AnyCall]] = {}
    for call in calls:
        if not call.is_dropped:
            groups.setdefault(call.group, []).append(call)
    for first, *others in groups.values():
        first.answer_with(others)
