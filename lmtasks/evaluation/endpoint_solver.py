"""A server answers tasks by prompts: by what it told at its probe, task by task.

Choices are scored by their log-probabilities where the server tells them. Where it tells none, they are asked as
letters that it writes, which is another question with another metric, `acc_letters`:

    What is the capital of France?
    A. Paris
    B. Rome
    Answer with one letter (A-B).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from string import ascii_uppercase

from lmtasks.data.continuation import encode_texts, prefix_token
from lmtasks.endpoint.engine import UNVERIFIED, check_carried_out
from lmtasks.endpoint.probe import Server
from lmtasks.engine.requests import GenerateRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.outcome import answered_choice
from lmtasks.evaluation.prompt_requests import Prompted
from lmtasks.evaluation.prompts import Prompts
from lmtasks.evaluation.protocols import (
    AskedWay,
    Finished,
    InferenceEngine,
    Pending,
    PromptContext,
    Replies,
    RequestBuilder,
    ScoredExample,
    decoding_for,
    decoding_record,
)
from lmtasks.records import Choice, Json
from lmtasks.settings.generation import Decoding
from lmtasks.task.describe import with_fields
from lmtasks.task.kinds import kind_of
from lmtasks.task.prompt import Prompt
from lmtasks.task.task import MetricUse, Task

LETTERS = "acc_letters"
NO_LETTER = "(no letter)"
LETTER_TOKENS = 16
"""A model that is asked for one letter writes a few words around it."""
ASKED = "\n{choices}\nAnswer with one letter (A-{last})."
LETTER = re.compile(r"(?<![A-Za-z'’])\(?([A-Z])(?![A-Za-z'’])")
CONTEXT_OUT = "name it with --server-context"
TOKENIZER_OUT = "give its folder with --server-tokenizer"
NO_GREEDY = "whether a given token was the most likely one"


class EndpointSolver(EngineSolver):
    """Answers with a server.

    Args:
        engine: asks it, perhaps by way of a cache.
        server: as it was probed.
        knows_tokens: is its tokenizer known?
    """

    def __init__(self, engine: InferenceEngine, *, server: Server, knows_tokens: bool) -> None:
        super().__init__(engine)
        self.server = server
        self._knows_tokens = knows_tokens

    def why_not(self, task: Task, *, way: AskedWay) -> str:
        """Why the server cannot answer the task, as a sentence; empty where it can."""
        server = self.server
        lacks = _lacks(task, server, knows_tokens=self._knows_tokens)
        if lacks:
            return f"{server.name} at {server.address} cannot answer {task.name}: {lacks}."
        return super().why_not(task, way="prompt" if way == "auto" else way)

    def as_asked(self, task: Task) -> Task:
        """The task as it is asked of the server: choices as letters where it tells no log-probabilities."""
        if self.server.scores or task.output_type != "multiple_choice":
            return task
        return lettered(task)

    def request_builder(self, task: Task, *, prompt_context: PromptContext) -> RequestBuilder:
        """How the task is asked.

        Raises:
            UsageError: the server cannot answer it, or carry out its settings.
        """
        if reason := self.why_not(task, way=prompt_context.way):
            raise UsageError(reason)
        if task.output_type == "generate_until":
            check_carried_out(decoding_for(self.model, task.generation), self.server)
        if is_lettered(task):
            prompts = Prompts(task=task, prompt_context=prompt_context)
            inner: RequestBuilder = LetterRequests(
                Prompted(engine=self.engine, task=task, prompts=prompts, trained=False)
            )
        else:
            inner = super().request_builder(task, prompt_context=prompt_context)
        return _Unverified(inner)


def lettered(task: Task) -> Task:
    """A task of choices that is asked for letters: what is asked, and so its hash, is another one.

    Raises:
        UsageError: its own code makes the values, or it has a metric that needs more than the answer.
    """
    return with_fields(replace(task, metrics=(MetricUse(name=LETTERS),), process_results=None, filters=()))


def is_lettered(task: Task) -> bool:
    """Is a task asked for letters?"""
    return any(use.name == LETTERS for use in task.metrics)


def letter_of(text: str, *, count: int) -> int | None:
    """The choice that a written answer names; None where it names none, or several.

    >>> [letter_of(text, count=3) for text in ("B", " (B) Rome", "The answer is B.", "b", "A or B", "D", "")]
    [1, 1, 1, 1, None, None, None]
    """
    answer = text.strip()
    if len(answer) == 1:
        answer = answer.upper()
    named = {letter for letter in LETTER.findall(answer) if letter in ascii_uppercase[:count]}
    if len(named) > 1 and re.match(r"\(?[A-Z][).:\s]", answer) and not answer[1:].lstrip().startswith(("or ", "and ")):
        named = {answer.lstrip("(")[0]} & set(ascii_uppercase[:count])
    return ascii_uppercase.index(named.pop()) if len(named) == 1 else None


class LetterRequests:
    """Choices behind letters, of which the model writes one."""

    def __init__(self, asked: Prompted) -> None:
        self._asked = asked
        self._settings = Decoding(max_new_tokens=LETTER_TOKENS, temperature=0.0)

    @property
    def decoding(self) -> Json | None:
        """As letters are written."""
        return {**decoding_record(self._asked.engine.model, self._settings), "asked_as": "letters"}

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        """One request each."""
        found: list[Pending] = []
        for example in examples:
            prompt, text = self._prompt(example)
            tokenizer = self._asked.engine.tokenizer
            (ids,) = encode_texts([text], tokenizer=tokenizer)
            found.append(self._pending(example, prompt, text, ids or (prefix_token(tokenizer),)))
        return found

    def end(self) -> Sequence[Pending]:
        """Nothing waits."""
        return ()

    def _prompt(self, example: ScoredExample) -> tuple[Prompt, str]:
        """The prompt as it is, and the text that asks for a letter."""
        context, chat = self._asked.prompts.prompt_context, self._asked.prompts.prompt_context.chat
        plain = self._asked.prompts if chat is None else replace(
            self._asked.prompts, prompt_context=replace(context, chat=None, system=chat.system)
        )  # fmt: skip
        prompt = plain.of(example)
        if not prompt.choices or len(prompt.choices) > len(ascii_uppercase):
            raise UsageError(
                f"task {self._asked.task.name}, row {example.doc_id}: {len(prompt.choices)} choices are none that "
                f"letters can name (1 to {len(ascii_uppercase)})."
            )
        letters = ascii_uppercase[: len(prompt.choices)]
        behind = prompt.delimiter + prompt.target if prompt.contexts else ""  # the choices are the questions
        offered = [f"{letter}. {each.strip()}{behind}" for letter, each in zip(letters, prompt.choices, strict=True)]
        listed = "\n".join(offered)
        asked = ASKED.format(choices=listed, last=letters[-1])
        text = f"{prompt.context.rstrip()}{asked}".lstrip()
        if chat is not None:
            return prompt, chat.apply([{"role": "user", "content": text}], True)
        return prompt, text

    def _pending(self, example: ScoredExample, prompt: Prompt, text: str, ids: tuple[int, ...]) -> Pending:
        def finish(replies: Replies) -> Sequence[Finished]:
            (reply,) = replies.generated
            named = letter_of(reply.text, count=len(prompt.choices))
            outcome = Choice(
                gold=prompt.gold,
                scores=tuple(float(place == named) for place in range(len(prompt.choices))),
                chars=tuple(len(choice) for choice in prompt.choices),
                bytes=tuple(len(choice.encode()) for choice in prompt.choices),
                chosen=named is not None,
            )
            answered = replace(answered_choice(outcome, prompt=text, choices=prompt.choices), raw=reply.text)
            remarks: tuple[str, ...] = ()
            if named is None:
                answered = replace(answered, answer=NO_LETTER)
                remarks = ("the model wrote no letter, which counts as a wrong answer",)
            return [Finished(example=example, answered=answered, truncated=reply.truncated, remarks=remarks)]

        request = GenerateRequest(prompt_ids=ids, settings=self._settings, number=example.doc_id)
        return Pending(doc_id=example.doc_id, generate=[request], finish=finish)


class _Unverified:
    """A builder whose answers say that nobody knows who gave them."""

    def __init__(self, inner: RequestBuilder) -> None:
        self._inner = inner

    @property
    def decoding(self) -> Json | None:
        return self._inner.decoding

    def build(self, examples: Sequence[ScoredExample]) -> Sequence[Pending]:
        return [self._marked(pending) for pending in self._inner.build(examples)]

    def end(self) -> Sequence[Pending]:
        return [self._marked(pending) for pending in self._inner.end()]

    def _marked(self, pending: Pending) -> Pending:
        finish: Callable[[Replies], Sequence[Finished]] = pending.finish

        def marked(replies: Replies) -> Sequence[Finished]:
            return [replace(each, remarks=(*each.remarks, UNVERIFIED)) for each in finish(replies)]

        return replace(pending, finish=marked)


def _lacks(task: Task, server: Server, *, knows_tokens: bool) -> str:
    """Why a server cannot answer a task, as the end of a sentence; empty where nothing is known against it."""
    if kind_of(task).answer == "pair" and task.clean is not None:
        return _lacks(task.clean, server, knows_tokens=knows_tokens)
    if task.output_type == "generate_until" and kind_of(task).answer != "pair" and not kind_of(task).chooses:
        return ""
    if task.output_type == "multiple_choice" and not server.scores:
        if task.templates.asked.question is None or is_lettered(task):
            return ""
        return "" if task.process_results is None else "its own code reads log-probabilities, which the server lacks"
    if not server.scores:
        return f"it asks for log-probabilities of given texts, and the server tells none ({server.why_no_scores})"
    metrics = {use.name for use in task.metrics}
    needs_greedy = task.output_type == "loglikelihood" or (
        task.output_type == "multiple_choice" and "exact_match" in metrics
    )
    if needs_greedy and not server.tells_greedy:
        return f"it asks {NO_GREEDY}, and the server tells no top_logprobs of given texts"
    if task.output_type == "loglikelihood_rolling":
        if not knows_tokens:
            return (
                f"its texts are scored in windows of tokens, and the server's tokenizer is not known; {TOKENIZER_OUT}"
            )
        if server.context_tokens is None:
            return (
                f"its texts are scored in windows as long as the model reads; the server does not say it, {CONTEXT_OUT}"
            )
        if not server.takes_ids:
            return "its texts are scored in windows of tokens, and the server takes no token ids"
    return ""
