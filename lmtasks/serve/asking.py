"""The worker as the event loop sees it: questions are awaited, and dropped where nobody waits any more."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from contextlib import suppress
from typing import TypeVar

from lmtasks.engine.requests import GenerateRequest, TokenEvent
from lmtasks.serve.worker import Call, EngineWorker, WrittenText

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class WorkerClient:
    """Asks a worker from an event loop.

    Args:
        worker: has been started.
    """

    def __init__(self, worker: EngineWorker) -> None:
        self._worker = worker

    async def ask(
        self, group: Hashable, ask: Callable[[Sequence[Question]], Sequence[Answer]], questions: Sequence[Question]
    ) -> Sequence[Answer]:
        """Answers to questions, which are asked together with those of other clients of the group.

        Raises:
            Whatever `ask` raises.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Answer]] = loop.create_future()

        def settle(answers: Sequence[Answer] | Exception) -> None:
            if future.done():
                return
            if isinstance(answers, Exception):
                future.set_exception(answers)
            else:
                future.set_result(answers)

        def send(answers: Sequence[Answer] | Exception) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, answers)

        call = Call(group=group, ask=ask, questions=questions, send=send)
        self._worker.ask(call)
        try:
            return await future
        finally:
            call.is_dropped = True

    async def written(self, requests: Sequence[GenerateRequest]) -> AsyncGenerator[tuple[int, TokenEvent], None]:
        """The steps of texts as they come, each with the number of its request. Left early (`aclosing`), the texts are
        not written any further.

        Raises:
            Whatever the engine raises.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[int, TokenEvent | Exception]] = asyncio.Queue()

        def text(number: int, request: GenerateRequest) -> WrittenText:
            def send(step: TokenEvent | Exception) -> None:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(queue.put_nowait, (number, step))

            return WrittenText(request=request, send=send)

        texts = [text(number, request) for number, request in enumerate(requests)]
        self._worker.write(texts)
        left = len(texts)
        try:
            while left:
                number, step = await queue.get()
                if isinstance(step, Exception):
                    raise step
                left -= step.stopped is not None
                yield number, step
        finally:
            for each in texts:
                each.is_dropped = True
