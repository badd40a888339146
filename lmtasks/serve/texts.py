"""Completions and chats: requests of OpenAI's form to the engine, its steps and scores to answers of that form."""

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from lmtasks.data.continuation import encode_texts, prefix_token
from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import (
    GenerateRequest,
    Scored,
    ScoreRequest,
    Stopped,
    TokenEvent,
    TokenLogprobs,
    WrittenToken,
)
from lmtasks.errors import NoNumberError
from lmtasks.evaluation.chat import ChatTemplate
from lmtasks.serve.asking import WorkerClient
from lmtasks.serve.token_names import BEFORE, Offsets, TokenName, TokenNames
from lmtasks.serve.wire import (
    DEFAULT_TOKENS,
    DONE,
    LOWEST,
    ChatRequest,
    CompletionRequest,
    Refused,
    Several,
    Writing,
    event,
)
from lmtasks.task.prompt import Message

FINISHES: Mapping[Stopped, str] = {"stop": "stop", "end": "stop", "length": "length"}


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model as clients know it."""

    name: str
    fingerprint: str
    created: int
    """When it was opened, in seconds."""
    length: int
    """Tokens of a prompt and its answer, at most."""


@dataclass(frozen=True, kw_only=True)
class PromptText:
    """A prompt or a text of a request."""

    ids: tuple[int, ...]
    text: str
    """As it is echoed."""


@dataclass(kw_only=True)
class _Choice:
    """One answer while it grows."""

    pieces: list[str] = field(default_factory=list)
    written: list[WrittenToken] = field(default_factory=list)
    """Tokens with log-probabilities, where they are asked for, without the end token."""
    told: int = 0
    """So many of them were sent."""
    count: int = 0
    stopped: Stopped | None = None

    def take(self, step: TokenEvent) -> None:
        self.pieces.append(step.text)
        self.stopped = step.stopped
        if step.stopped == "end":
            return
        self.count += 1
        if step.token is not None:
            self.written.append(step.token)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def finish(self) -> str | None:
        return None if self.stopped is None else FINISHES[self.stopped]

    def fresh(self) -> list[WrittenToken]:
        """Tokens that were not sent yet."""
        found, self.told = self.written[self.told :], len(self.written)
        return found


class TextService:
    """Writes and scores texts.

    Args:
        engine: its tokenizer and cards are read; what it computes is asked of the worker.
        client: of the worker.
        model: as clients know it.
        template: None: the model has none.
        no_template: why not.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        client: WorkerClient,
        model: ServedModel,
        template: ChatTemplate | None,
        no_template: str = "",
    ) -> None:
        self._engine = engine
        self._client = client
        self._model = model
        self._template = template
        self._no_template = no_template
        self._names = TokenNames(engine.tokenizer)

    # --- completions

    async def complete(self, asked: CompletionRequest) -> dict[str, object]:
        """The whole answer to a completion.

        Raises:
            Refused: it is too long, or asks for what the model does not do.
        """
        prompts = await self._prompts(asked)
        echoed = [await self._echo(prompt, asked) for prompt in prompts] if asked.echo else []
        choices = [_Choice() for _ in range(len(prompts) * asked.choices)]
        await self._write(self._requests(asked, prompts), choices)
        names = self._names_for(asked)
        told: list[dict[str, object]] = []
        for index, choice in enumerate(choices):
            prompt = prompts[index // asked.choices]
            echo = echoed[index // asked.choices] if echoed else None
            table = None
            if asked.logprobs is not None:
                table = _Table(names, count=asked.logprobs)
                if echo is not None:
                    table.add_prompt(prompt, echo)
                table.add_written(choice.written, before=prompt.ids)
            told.append(
                {
                    "index": index,
                    "text": (prompt.text if asked.echo else "") + choice.text,
                    "logprobs": None if table is None else table.content(),
                    "finish_reason": choice.finish or "length",
                }
            )
        return {
            **self._head("cmpl", "text_completion"),
            "choices": told,
            "usage": usage(prompts, choices),
        }

    async def stream_completion(self, asked: CompletionRequest) -> AsyncIterator[bytes]:
        """The answer to a completion, piece by piece, as server-sent events.

        Raises:
            Refused: as `complete`, before the first piece.
        """
        prompts = await self._prompts(asked)
        echoed = [await self._echo(prompt, asked) for prompt in prompts] if asked.echo else []
        requests = self._requests(asked, prompts)
        head = self._head("cmpl", "text_completion") | _usage_field(asked)
        choices = [_Choice() for _ in requests]
        tables = [
            None if asked.logprobs is None else _Table(self._names_for(asked), count=asked.logprobs) for _ in requests
        ]

        def chunk(index: int, text: str, table: "_Table | None", finish: str | None) -> bytes:
            logprobs = None if table is None else table.content()
            choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
            return event({**head, "choices": [choice]})

        for index, table in enumerate(tables):
            prompt = prompts[index // asked.choices]
            if asked.echo:
                if table is not None:
                    table.add_prompt(prompt, echoed[index // asked.choices])
                yield chunk(index, prompt.text, table, None)
        async with aclosing(self._client.written(requests)) as steps:
            async for index, step in steps:
                choice, table = choices[index], tables[index]
                before = _ahead(prompts[index // asked.choices], choice)
                choice.take(step)
                if step.text or choice.finish:
                    if table is not None:
                        table.add_written(choice.fresh(), before=before)
                    yield chunk(index, step.text, table, choice.finish)
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield event({**head, "choices": [], "usage": usage(prompts, choices)})
        yield DONE

    # --- chats

    async def chat(self, asked: ChatRequest) -> dict[str, object]:
        """The whole answer to a chat.

        Raises:
            Refused: the model has no chat template, or it is too long.
        """
        prompt = await self._chat_prompt(asked)
        requests = self._chat_requests(asked, prompt)
        choices = [_Choice() for _ in requests]
        await self._write(requests, choices)
        told: list[dict[str, object]] = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._chat_logprobs(asked, choice.written, before=prompt.ids),
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(choices)
        ]
        return {**self._head("chatcmpl", "chat.completion"), "choices": told, "usage": usage([prompt], choices)}

    async def stream_chat(self, asked: ChatRequest) -> AsyncIterator[bytes]:
        """The answer to a chat, piece by piece, as server-sent events.

        Raises:
            Refused: as `chat`, before the first piece.
        """
        prompt = await self._chat_prompt(asked)
        requests = self._chat_requests(asked, prompt)
        head = self._head("chatcmpl", "chat.completion.chunk") | _usage_field(asked)
        choices = [_Choice() for _ in requests]

        def chunk(index: int, delta: Mapping[str, object], logprobs: object, finish: str | None) -> bytes:
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            return event({**head, "choices": [choice]})

        for index in range(len(requests)):
            yield chunk(index, {"role": "assistant", "content": "", "refusal": None}, None, None)
        async with aclosing(self._client.written(requests)) as steps:
            async for index, step in steps:
                choice = choices[index]
                before = _ahead(prompt, choice)
                choice.take(step)
                if step.text or choice.finish:
                    fresh = choice.fresh()
                    logprobs = self._chat_logprobs(asked, fresh, before=before) if fresh else None
                    delta = {"content": step.text} if step.text or fresh else {}
                    yield chunk(index, delta, logprobs, choice.finish)
        if asked.stream_options is not None and asked.stream_options.include_usage:
            yield event({**head, "choices": [], "usage": usage([prompt], choices)})
        yield DONE

    # --- tokens

    @property
    def writes(self) -> bool:
        """Does the model write texts?"""
        return self._engine.model.kind != "encoder"

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones among them.

        Raises:
            Refused: a token is none of the vocabulary.
        """
        self.check_ids(ids, param="tokens")
        return self._engine.tokenizer.decode(ids, skip_special=False)

    async def encode(self, texts: Sequence[str], *, special: bool) -> list[tuple[int, ...]]:
        """Token ids of texts; with `special`, with whatever the tokenizer puts around a text."""
        tokenizer = self._engine.tokenizer

        def encoded() -> list[tuple[int, ...]]:
            if special:
                return encode_texts(texts, tokenizer=tokenizer)
            return [tuple(ids) for ids in tokenizer.encode_many(texts)]

        return await asyncio.to_thread(encoded)  # a long text takes a while, and others are answered meanwhile

    def check_ids(self, ids: Sequence[int], *, param: str) -> None:
        """
        Raises:
            Refused: a token is none of the vocabulary.
        """
        vocabulary = self._engine.model.vocabulary
        wrong = next((token for token in ids if token >= vocabulary), None)
        if wrong is not None:
            raise Refused(f"token {wrong} is none of {self._model.name}, which has {vocabulary}.", param=param)

    async def encoded_several(self, given: Several, *, param: str, special: bool) -> list[PromptText]:
        """Texts or token ids of a request, in their order.

        Raises:
            Refused: a token is none of the vocabulary, or a text has no tokens.
        """
        if isinstance(given, str):
            given = (given,)
        if given and isinstance(given[0], int):
            given = (tuple(token for token in given if isinstance(token, int)),)
        texts = [each for each in given if isinstance(each, str)]
        if texts:
            ids = await self.encode(texts, special=special)
            found = [PromptText(ids=each, text=text) for each, text in zip(ids, texts, strict=True)]
        else:
            found = []
            for each in given:
                assert isinstance(each, tuple)
                self.check_ids(each, param=param)
                text = self._engine.tokenizer.decode(each, skip_special=False)
                found.append(PromptText(ids=each, text=text))
        return found

    async def _prompts(self, asked: CompletionRequest) -> list[PromptText]:
        self._check_writes()
        found = await self.encoded_several(asked.prompt, param="prompt", special=asked.add_special_tokens)
        first = None if all(prompt.ids for prompt in found) else prefix_token(self._engine.tokenizer)
        prompts = [prompt if prompt.ids or first is None else _begun(prompt, first) for prompt in found]
        new = self._new_tokens(asked)
        decodes = self._engine.model.kind == "encoder-decoder"
        if asked.echo and decodes:
            raise Refused(f"{self._model.name} answers behind a source, and does not echo it.", param="echo")
        for prompt in prompts:
            self._check_length(len(prompt.ids), new, param="prompt")
        return prompts

    def _new_tokens(self, asked: CompletionRequest) -> int:
        return DEFAULT_TOKENS if asked.max_tokens is None else asked.max_tokens

    def _check_writes(self) -> None:
        if not self.writes:
            raise Refused(
                f"{self._model.name} writes no texts: it answers by heads (POST /predict) and vectors "
                "(POST /v1/embeddings).",
                param="model",
            )

    def _check_length(self, prompt: int, new: int, *, param: str) -> None:
        """Prompt and answer; a text that is scored alone may have one token more, which is not read."""
        decodes = self._engine.model.kind == "encoder-decoder"
        longest = self._model.length
        fits = max(prompt, new) <= longest if decodes else prompt + new <= longest + (new == 0)
        if not fits:
            raise Refused(
                f"this model's maximum context length is {longest} tokens, but {prompt} in the prompt and {new} in the "
                f"answer were asked for; shorten the prompt, or ask for fewer.",
                param=param,
                code="context_length_exceeded",
            )

    def _names_for(self, asked: CompletionRequest) -> TokenNames:
        if not asked.return_tokens_as_token_ids:
            return self._names
        return TokenNames(self._engine.tokenizer, as_ids=True)

    def _requests(self, asked: CompletionRequest, prompts: Sequence[PromptText]) -> list[GenerateRequest]:
        new = self._new_tokens(asked)
        return self._written(asked, prompts, new=new, top=asked.logprobs) if new else []

    def _written(
        self, asked: Writing, prompts: Sequence[PromptText], *, new: int, top: int | None
    ) -> list[GenerateRequest]:
        self.check_ids([int(token) for token in asked.logit_bias or ()], param="logit_bias")
        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        settings = asked.decoding(max_new_tokens=new)
        return [
            GenerateRequest(prompt_ids=prompt.ids, settings=settings, seed=seed, number=number, top=top)
            for prompt in prompts
            for number in range(asked.choices)
        ]

    async def _write(self, requests: Sequence[GenerateRequest], choices: Sequence[_Choice]) -> None:
        async with aclosing(self._client.written(requests)) as steps:
            async for index, step in steps:
                choices[index].take(step)

    async def _echo(self, prompt: PromptText, asked: CompletionRequest) -> "_Echo":
        """Log-probabilities of a prompt's own tokens, where they are asked for."""
        if asked.logprobs is None or len(prompt.ids) < 2:
            return _Echo(scores=(), top=())
        request = ScoreRequest(context_ids=prompt.ids[:1], target_ids=prompt.ids[1:])
        (scored,) = await self._client.ask("score", self._score, [request])
        top: tuple[TokenLogprobs, ...] = ((),) * len(request.target_ids)
        if count := asked.logprobs:

            def likeliest(requests: Sequence[ScoreRequest]) -> Sequence[tuple[TokenLogprobs, ...]]:
                return self._engine.likeliest(requests, count=count)

            (top,) = await self._client.ask(("likeliest", count), likeliest, [request])
        return _Echo(scores=scored.token_logprobs, top=top)

    def _score(self, requests: Sequence[ScoreRequest]) -> Sequence[Scored]:
        return self._engine.score(requests)

    async def _chat_prompt(self, asked: ChatRequest) -> PromptText:
        self._check_writes()
        if self._template is None:
            raise Refused(f"{self._no_template} POST /v1/completions goes on with plain text.", param="messages")
        messages = [_message(each.role, each.text) for each in asked.messages]
        begins = not asked.continue_final_message
        if self._template.drops_system(messages, begins):
            raise Refused(
                f"the chat template of {self._model.name} leaves messages of the system out; say it in one of the "
                "user's.",
                param="messages",
            )
        text = self._template(messages, begins)
        (ids,) = await self.encode([text], special=True)
        new = asked.max_completion_tokens or asked.max_tokens or 1
        self._check_length(len(ids), new, param="messages")
        return PromptText(ids=ids, text=text)

    def _chat_requests(self, asked: ChatRequest, prompt: PromptText) -> list[GenerateRequest]:
        used = 0 if self._engine.model.kind == "encoder-decoder" else len(prompt.ids)
        new = asked.max_completion_tokens or asked.max_tokens or self._model.length - used
        return self._written(asked, [prompt], new=new, top=asked.top)

    def _chat_logprobs(
        self, asked: ChatRequest, written: Sequence[WrittenToken], *, before: Sequence[int]
    ) -> dict[str, object] | None:
        if asked.top is None:
            return None
        content: list[dict[str, object]] = []
        ahead = list(before)
        for token in written:
            top = [_chat_token(self._names.name(each, before=ahead[-BEFORE:]), logprob) for each, logprob in token.top]
            own = _chat_token(self._names.name(token.id, before=ahead[-BEFORE:]), token.logprob)
            content.append(own | {"top_logprobs": top})
            ahead.append(token.id)
        return {"content": content, "refusal": None}

    def _head(self, prefix: str, form: str) -> dict[str, object]:
        return {
            "id": f"{prefix}-{secrets.token_hex(12)}",
            "object": form,
            "created": int(time.time()),
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
        }


@dataclass(frozen=True, kw_only=True)
class _Echo:
    """Log-probabilities of all tokens of a prompt but the first."""

    scores: tuple[float, ...]
    top: tuple[TokenLogprobs, ...]


class _Table:
    """`logprobs` of a completion's choice; of a stream, of what was added since it was last asked."""

    def __init__(self, names: TokenNames, *, count: int) -> None:
        self._names, self._count = names, count
        self._offsets = Offsets()
        self._begin()

    def add_prompt(self, prompt: PromptText, echo: _Echo) -> None:
        """The tokens of a prompt; the first one follows nothing, and has no log-probability."""
        scores: list[float | None] = [None, *echo.scores]
        tops: list[TokenLogprobs | None] = [None, *echo.top]
        names = self._names.names(prompt.ids)
        for place, (name, score, top) in enumerate(zip(names, scores, tops, strict=True)):
            self._add(name, score, top, before=prompt.ids[max(0, place - BEFORE) : place])

    def add_written(self, written: Sequence[WrittenToken], *, before: Sequence[int]) -> None:
        """Tokens that were written behind others."""
        ahead = list(before)
        for token in written:
            name = self._names.name(token.id, before=ahead[-BEFORE:])
            self._add(name, token.logprob, token.top, before=ahead[-BEFORE:])
            ahead.append(token.id)

    def content(self) -> dict[str, object]:
        """The table; another one is begun behind it."""
        found: dict[str, object] = {
            "tokens": self._tokens,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._tops,
            "text_offset": self._places,
        }
        self._begin()
        return found

    def _begin(self) -> None:
        self._tokens: list[str] = []
        self._logprobs: list[float | None] = []
        self._tops: list[dict[str, float] | None] = []
        self._places: list[int] = []

    def _add(self, name: TokenName, logprob: float | None, top: TokenLogprobs | None, *, before: Sequence[int]) -> None:
        self._tokens.append(name.text)
        self._logprobs.append(None if logprob is None else number(logprob))
        self._places.append(self._offsets.take(name))
        if top is None or logprob is None:
            self._tops.append(None)
            return
        told = {self._names.name(each, before=before).text: number(value) for each, value in top}
        self._tops.append(told | ({} if name.text in told else {name.text: number(logprob)}))


def _ahead(prompt: PromptText, choice: _Choice) -> tuple[int, ...]:
    """The last tokens before those of a choice that were not sent yet."""
    sent = choice.written[max(0, choice.told - BEFORE) : choice.told]
    return (*prompt.ids[-BEFORE:], *(token.id for token in sent))


def usage(prompts: Sequence[PromptText], choices: Sequence[_Choice]) -> dict[str, object]:
    """Tokens that were read and written; a prompt counts once, an end token does not."""
    read, written = sum(len(prompt.ids) for prompt in prompts), sum(choice.count for choice in choices)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def number(value: float) -> float:
    """A log-probability as JSON has it.

    Raises:
        NoNumberError: it is NaN.
    """
    if math.isnan(value):
        raise NoNumberError("a log-probability of the model is no number; are its weights damaged?")
    return max(value, LOWEST)


def _usage_field(asked: Writing) -> dict[str, object]:
    """Pieces of a stream that ends with its usage say that it is still to come."""
    return {"usage": None} if asked.stream_options is not None and asked.stream_options.include_usage else {}


def _chat_token(name: TokenName, logprob: float) -> dict[str, object]:
    return {"token": name.text, "logprob": number(logprob), "bytes": list(name.data) or None}


def _message(role: str, text: str) -> Message:
    if role == "user":
        return {"role": "user", "content": text}
    return {"role": "assistant" if role == "assistant" else "system", "content": text}


def _begun(prompt: PromptText, first: int) -> PromptText:
    return PromptText(ids=(first,), text=prompt.text)
