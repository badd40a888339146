"""A process that asks a slow model and tells of each batch before it runs, to be killed at any of them.

python cached_child.py FILE
"""

import sys
import time
from contextlib import closing
from pathlib import Path

from fake_runtime import FakeRuntime
from small_tasks import tokenizer

from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import ScoreRequest
from lmtasks.evaluation.cache import CachedAnswers
from lmtasks.evaluation.cache_store import ByteStore
from lmtasks.records import Ints, TokenBatch, TokenScores, TokenTargets
from lmtasks.runtime.base import DecodingState

ROWS_A_BATCH = 4
REQUESTS = [
    ScoreRequest(context_ids=(number + 5, *range(1, 1 + number % 7)), target_ids=(4, 2)) for number in range(80)
]
"""None begins as another does, so that each one is a row of its own."""


class SlowRuntime(FakeRuntime):
    """Tells of each batch, and takes its time."""

    def score(
        self,
        batch: TokenBatch,
        targets: TokenTargets,
        *,
        subtree_end: Ints | None = None,
        prefix_state: DecodingState | None = None,
        source: TokenBatch | None = None,
        source_rows: Ints | None = None,
    ) -> TokenScores:
        print("batch", flush=True)
        time.sleep(0.02)
        return super().score(
            batch,
            targets,
            subtree_end=subtree_end,
            prefix_state=prefix_state,
            source=source,
            source_rows=source_rows,
        )


def engine(*, slow: bool = False) -> Engine:
    """The same model, told of or not."""
    runtime = (SlowRuntime if slow else FakeRuntime)(vocabulary=tokenizer().vocabulary)
    return Engine(runtime, tokenizer(), rows_per_batch=ROWS_A_BATCH)


if __name__ == "__main__":
    with closing(ByteStore(Path(sys.argv[1]))) as store:
        CachedAnswers(engine(slow=True), store=store, artefact="").score(REQUESTS)
