"""Works in threads of their own, heard in one place.

>>> heard = []
>>> def work(tell, stopped):
...     tell("done")
>>> hear_all([work, work], hear=heard.append)
>>> heard
['done', 'done']
"""

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeVar

_Said = TypeVar("_Said")

Work = Callable[[Callable[[_Said], None], Callable[[], bool]], None]
"""(what is told to others, is it to stop?)"""


def hear_all(works: Sequence[Work[_Said]], *, hear: Callable[[_Said], None]) -> None:
    """Carry out all works at once. Whatever one tells is heard in the caller's own thread, as it comes.

    Raises:
        What a work raises, or `hear`, once the others have stopped.
    """
    said: SimpleQueue[tuple[list[_Said], BaseException | None, bool]] = SimpleQueue()
    stop = Event()

    def carry_out(work: Work[_Said]) -> None:
        failure: BaseException | None = None
        try:
            work(lambda each: said.put(([each], None, False)), stop.is_set)
        except BaseException as error:  # noqa: BLE001  # it is raised again where the others are heard
            failure = error
        said.put(([], failure, True))

    threads = [Thread(target=carry_out, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    failures: list[BaseException] = []
    left = len(threads)
    try:
        while left:
            told, failure, ended = said.get()
            left -= ended
            if failure is not None:
                failures.append(failure)
                stop.set()
            for each in told:
                hear(each)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
