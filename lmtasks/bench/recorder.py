"""Records the requests of a task to an engine, without a model: what is timed is then exactly what is scored.

An evaluation is run against the recorder, which notes every request and gives empty answers.

    recorder = Recorder(model=package.model, card=card, tokenizer=tokenizer)
    EngineSolver(recorder).solve(task, a few rows, ...)
    workload = recorder.workload(task=task.name, seed=1234)
"""

from collections.abc import Sequence

import numpy as np

from lmtasks.bench.workload import REQUESTS, WorkKind, Workload, WorkRequest, sample_workload
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import Generated, GenerateRequest, OnProgress, Scored, ScoreRequest
from lmtasks.errors import WorkError, unknown
from lmtasks.head import head_of
from lmtasks.records import Floats32, ModelCard, RuntimeCard

NEW_TOKENS = 32
"""Every timed generation yields so many, fewer only where the task asks for fewer."""


class Recorder:
    """Has the shape of an engine, and remembers what it was asked.

    Args:
        model: the card of the model that is to be timed; its heads and its longest input shape the requests.
        card: handed on to who asks.
        tokenizer: the model's.
    """

    def __init__(self, *, model: ModelCard, card: RuntimeCard, tokenizer: Tokenizer) -> None:
        self.model = model
        self.card = card
        self.tokenizer = tokenizer
        self._head = ""
        self._longest_answer = 0
        self._asked: dict[WorkKind, list[WorkRequest]] = {"head": [], "score": [], "generate": []}

    @property
    def cached(self) -> Sequence[bool]:
        """No answer is known before."""
        return ()

    @property
    def max_length_tokens(self) -> int:
        """Longest input of the model."""
        return self.model.max_length_tokens

    def predict(self, head: str, rows: Sequence[HeadRow], *, on_progress: OnProgress | None = None) -> list[Floats32]:
        """Zeros in the shape of the head's logits."""
        specs = {spec.name: spec for spec in self.model.answering}
        if head not in specs:
            raise unknown(f"head of {self.model.name}", head, specs)
        self._head = head
        self._asked["head"] += [WorkRequest(ids=tuple(row.ids), types=tuple(row.types)) for row in rows]
        spec = specs[head]
        return [np.zeros(head_of(spec).shape(spec, tokens=len(row.ids)), np.float32) for row in rows]

    def predict_heads(
        self, heads: Sequence[str], rows: Sequence[HeadRow], *, on_progress: OnProgress | None = None
    ) -> list[Floats32]:
        """The same, each row for a head of its own."""
        return [
            logits
            for head, row in zip(heads, rows, strict=True)
            for logits in self.predict(head, [row], on_progress=on_progress)
        ]

    def score(self, requests: Sequence[ScoreRequest], *, on_progress: OnProgress | None = None) -> list[Scored]:
        """Log-probabilities of zero."""
        self._asked["score"] += [WorkRequest(ids=r.context_ids, target_ids=r.target_ids) for r in requests]
        return [Scored(logprob=0.0, greedy=False, token_logprobs=(0.0,) * len(r.target_ids)) for r in requests]

    def generate(
        self, requests: Sequence[GenerateRequest], *, on_progress: OnProgress | None = None
    ) -> list[Generated]:
        """Empty texts."""
        self._asked["generate"] += [WorkRequest(ids=request.prompt_ids) for request in requests]
        self._longest_answer = max([self._longest_answer, *(r.settings.max_new_tokens for r in requests)])
        return [Generated(ids=(), text="", stopped="length") for _ in requests]

    def workload(
        self,
        *,
        task: str,
        seed: int,
        examples: int | None = None,
        count: int = REQUESTS,
        new_tokens: int = NEW_TOKENS,
    ) -> Workload:
        """The requests since the start or the last call, as a workload; of several kinds, the most frequent one.

        Args:
            examples: how many examples were asked about; None: one a request.

        Raises:
            WorkError: nothing was asked.
        """
        kind = max(self._asked, key=lambda each: len(self._asked[each]))
        requests = self._asked[kind]
        if not requests:
            raise WorkError(f"{task} asked nothing of the engine, so there is nothing to time.")
        self._asked = {"head": [], "score": [], "generate": []}
        longest, self._longest_answer = self._longest_answer, 0
        return sample_workload(
            task=task,
            kind=kind,
            requests=requests,
            seed=seed,
            count=count,
            examples=examples,
            head=self._head if kind == "head" else "",
            new_tokens=min(new_tokens, longest) if kind == "generate" else 0,
        )
