"""Tasks asked by prompts: choices and given texts by log-likelihood, texts by generation.

A generation head is asked this way too, with the very prompts that it was trained on. `rolling.py` scores whole texts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lmtasks.data.continuation import Pair, encode_pairs, encode_texts, prefix_token, prompt_ids, seq2seq_row
from lmtasks.engine.requests import GenerateRequest, Scored, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.custom_results import with_custom_values
from lmtasks.evaluation.filtering import filtered_text, missing_token_remark, read_think_end
from lmtasks.evaluation.outcome import answered_choice, answered_likelihood, asks_without_context
from lmtasks.evaluation.prompts import Prompts
from lmtasks.evaluation.protocols import (
    Finished,
    InferenceEngine,
    Pending,
    Replies,
    RequestBuilder,
    ScoredExample,
    decoding_for,
    decoding_record,
)
from lmtasks.evaluation.rolling import JoinedRequests, RollingRequests, likelihood_of
from lmtasks.records import Choice, Json
from lmtasks.task.kinds import baseline_source
from lmtasks.task.prompt import Prompt
from lmtasks.task.task import OutputType, Task

NO_LIMIT = 1 << 40
"""Tokens: the engine does the cutting of prompts, and counts it."""


@dataclass(frozen=True, kw_only=True)
class Prompted:
    """The model, the task and its prompts, which all ways of asking by prompt share."""

    engine: InferenceEngine
    task: Task
    prompts: Prompts
    trained: bool
    """Was the model trained on these prompts (a generation head)?"""

    @property
    def decodes(self) -> bool:
        """Is the model an encoder-decoder?"""
        return self.engine.model.kind == "encoder-decoder"

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[Pair]:
        """Contexts and targets as tokens."""
        return encode_pairs(texts, tokenizer=self.engine.tokenizer, decodes=self.decodes)

    def request(self, pair: Pair, *, example: ScoredExample, what: str) -> ScoreRequest:
        """The request of a pair.

        Raises:
            UsageError: there is nothing to score.
        """
        if not pair.target_ids:
            raise UsageError(
                f"task {self.task.name}, row {example.doc_id}: {what} has no tokens, so there is nothing to score; "
                "check the task's choices and targets."
            )
        return ScoreRequest(context_ids=pair.context_ids, target_ids=pair.target_ids)


def prompt_request_builder(asked: Prompted) -> RequestBuilder:
    """How a task is asked by prompts."""
    return REQUESTS_OF_OUTPUT[asked.task.output_type](asked)


class ChoiceRequests:
    """Every choice behind the context; or the same text behind a context for each choice."""

    decoding: Json | None = None

    def __init__(self, asked: Prompted) -> None:
        self._asked = asked
        self._unconditional = asks_without_context(asked.task)

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One request a choice; as many again where choices are also scored behind nothing."""
        prompts = [self._asked.prompts.of(example) for example in examples]
        texts = [self._texts(prompt) for prompt in prompts]
        pairs = iter(self._asked.pairs([pair for group in texts for pair in group]))
        return [
            self._pending(example, prompt, group, list(islice(pairs, len(group))))
            for example, prompt, group in zip(examples, prompts, texts, strict=True)
        ]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _texts(self, prompt: Prompt) -> list[tuple[str, str]]:
        answer_after = [(context, prompt.delimiter + prompt.target) for context in prompt.contexts]
        asked = answer_after or [(prompt.context, prompt.delimiter + choice) for choice in prompt.choices]
        return asked + [("", prompt.delimiter + choice) for choice in prompt.choices if self._unconditional]

    def _pending(
        self, example: ScoredExample, prompt: Prompt, texts: Sequence[tuple[str, str]], pairs: Sequence[Pair]
    ) -> Pending:
        requests = [
            self._asked.request(pair, example=example, what=f"the choice {text!r}")
            for pair, (_, text) in zip(pairs, texts, strict=True)
        ]

        def finish(replies: Replies) -> Sequence[Finished]:
            count = len(prompt.choices)
            outcome = likelihood_choice(
                replies.scored[:count],
                choices=prompt.choices,
                gold=prompt.gold,
                unconditional=[each.logprob for each in replies.scored[count:]],
            )
            shown = prompt.contexts or prompt.context
            answered = answered_choice(outcome, prompt=shown, choices=prompt.choices)
            results = [(each.logprob, each.greedy) for each in replies.scored]
            return [
                Finished(
                    example=example,
                    answered=with_custom_values(answered, self._asked.task, example=example, results={"": results}),
                    truncated=any(each.truncated for each in replies.scored),
                )
            ]

        return Pending(doc_id=example.doc_id, score=requests, finish=finish)


def likelihood_choice(
    scored: Sequence[Scored], *, choices: Sequence[str], gold: Sequence[int], unconditional: Sequence[float] = ()
) -> Choice:
    """The outcome of continuations whose log-probabilities compete.

    Args:
        scored: of each choice.
        choices: their texts, without the delimiter before them.
        gold: those that are right.
        unconditional: log-probability of each choice behind no context, where it was asked for.
    """
    return Choice(
        gold=tuple(gold),
        scores=tuple(each.logprob for each in scored),
        chars=tuple(len(choice) for choice in choices),
        bytes=tuple(len(choice.encode()) for choice in choices),
        greedy=tuple(each.greedy for each in scored),
        unconditional=tuple(unconditional),
    )


class LikelihoodRequests:
    """The target behind its context."""

    decoding: Json | None = None

    def __init__(self, asked: Prompted) -> None:
        self._asked = asked

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One request each."""
        prompts = [self._asked.prompts.of(example) for example in examples]
        pairs = self._asked.pairs([(prompt.context, prompt.delimiter + prompt.target) for prompt in prompts])
        return [
            self._pending(example, prompt, pair) for example, prompt, pair in zip(examples, prompts, pairs, strict=True)
        ]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _pending(self, example: ScoredExample, prompt: Prompt, pair: Pair) -> Pending:
        def finish(replies: Replies) -> Sequence[Finished]:
            (each,) = replies.scored
            outcome = likelihood_of(
                prompt.target,
                pair.target_ids,
                tokenizer=self._asked.engine.tokenizer,
                logprob=each.logprob,
                tokens=len(each.token_logprobs),
                greedy=each.greedy,
            )
            answered = answered_likelihood(outcome, prompt=prompt.context, text=prompt.target)
            results = [(each.logprob, each.greedy)]
            made = with_custom_values(answered, self._asked.task, example=example, results={"": results})
            return [Finished(example=example, answered=made, truncated=each.truncated)]

        request = self._asked.request(pair, example=example, what="the target")
        return Pending(doc_id=example.doc_id, score=[request], finish=finish)


class TextRequests:
    """A text written behind the prompt, as often as the task repeats its requests."""

    def __init__(self, asked: Prompted) -> None:
        self._asked = asked
        self._settings = decoding_for(asked.engine.model, asked.task.generation)
        given, stops = asked.prompts.prompt_context.think_end_token, self._settings.stop
        self._thinks = read_think_end(given, stops=stops, tokenizer=asked.engine.tokenizer)
        if self._thinks is not None:  # a thought may hold what an answer ends at
            self._settings = replace(self._settings, stop=())

    @property
    def decoding(self) -> Json | None:
        """As texts are written: all settings that hold, the model's own with them."""
        record = decoding_record(self._asked.engine.model, self._asked.task.generation) | {"stop": self._settings.stop}
        return record if self._thinks is None else self._thinks.recorded(record)

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One request a repeat, each with a stream of draws of its own."""
        prompts = [self._asked.prompts.of(example) for example in examples]
        encoded = self._encoded([prompt.context for prompt in prompts])
        return [
            self._pending(example, prompt, ids, cut)
            for example, prompt, (ids, cut) in zip(examples, prompts, encoded, strict=True)
        ]

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _encoded(self, contexts: Sequence[str]) -> Iterator[tuple[tuple[int, ...], bool]]:
        """What the model reads before it writes, and whether something was cut off already."""
        tokenizer, longest = self._asked.engine.tokenizer, self._asked.engine.max_length_tokens
        if not self._asked.trained:
            for ids in encode_texts(contexts, tokenizer=tokenizer):
                yield ids or (prefix_token(tokenizer),), False
            return
        for context in contexts:
            if self._asked.decodes:
                row = seq2seq_row(
                    context=context, target="", tokenizer=tokenizer, max_length=longest, max_target_length=1, end=True
                )
                yield row.context_ids, row.truncated
            else:
                yield prompt_ids(context, tokenizer=tokenizer, max_length=NO_LIMIT, strip=True)

    def _pending(self, example: ScoredExample, prompt: Prompt, ids: tuple[int, ...], cut: bool) -> Pending:
        task = self._asked.task
        repeats = task.repeats
        seed = self._asked.prompts.prompt_context.seed if task.generation.seed is None else task.generation.seed
        requests = [
            GenerateRequest(
                prompt_ids=ids,
                settings=self._settings,
                seed=seed,
                number=example.doc_id * repeats + repeat,
            )
            for repeat in range(repeats)
        ]

        def finish(replies: Replies) -> Sequence[Finished]:
            thinks = self._thinks
            written = [each.text if thinks is None else thinks.written(each) for each in replies.generated]
            answered = filtered_text(
                task,
                example=example,
                prompt=prompt,
                texts=written if thinks is None else [thinks.answer(text) for text in written],
                trained=self._asked.trained,
                source=baseline_source(task, example.row),
            )
            truncated = cut or any(each.truncated for each in replies.generated)
            if thinks is None:
                return [Finished(example=example, answered=answered, truncated=truncated)]
            answered = replace(answered, raw=written[0] if len(written) == 1 else written)
            missing = any(thinks.token not in text for text in written)
            remarks = (missing_token_remark(thinks.token),) if missing else ()
            return [Finished(example=example, answered=answered, truncated=truncated, remarks=remarks)]

        return Pending(doc_id=example.doc_id, generate=requests, cut=cut * repeats, finish=finish)


def _rolling(asked: Prompted) -> RequestBuilder:
    if asked.task.windows.concatenate:
        return JoinedRequests(asked.engine, asked.task)
    return RollingRequests(asked.engine, asked.task)


REQUESTS_OF_OUTPUT: Mapping[OutputType, Callable[[Prompted], RequestBuilder]] = {
    "multiple_choice": ChoiceRequests,
    "generate_until": TextRequests,
    "loglikelihood": LikelihoodRequests,
    "loglikelihood_rolling": _rolling,
}
"""The requests of each output type."""
