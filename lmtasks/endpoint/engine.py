"""Answers the requests of an engine by asking a server, several at a time.

Tokens are those of the tokenizer that was given; where none was, the bytes of the text stand for them, so that every
request says exactly which text is asked. A request goes as token ids where the server takes them, else as text; the
border between a context and its target is then the place where a token of the server begins, or there is no answer.

One request that has no answer fails alone (`Scored.failed`). A server from which nothing comes any more ends the call.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RawTokenizer

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.endpoint.client import Client, RequestFailedError, ServerError
from lmtasks.endpoint.probe import ChangedModelError, Server, checked, known_answers
from lmtasks.endpoint.protocol import (
    CHAT,
    COMPLETIONS,
    MOST_STOPS,
    Written,
    chat_body,
    is_chat,
    placed_tokens,
    score_body,
    written,
)
from lmtasks.engine.engine import HeadRow
from lmtasks.engine.requests import (
    Generated,
    GenerateRequest,
    OnAnswers,
    OnProgress,
    OnToken,
    Scored,
    ScoreRequest,
    TokenEvent,
)
from lmtasks.engine.schedule import distinct
from lmtasks.errors import UsageError
from lmtasks.records import GENERATION_DEFAULTS, Floats32, GenerationSettings, ModelCard, RuntimeCard
from lmtasks.settings.endpoint import Endpoint
from lmtasks.settings.generation import Decoding

NO_CONTEXT_LIMIT = 1 << 30
"""Tokens of a server that does not say what its model reads: it refuses itself what is too long."""
START = "<lmtasks:start>"
"""Stands for what a server puts before a text by itself, where tokens are bytes."""
GIVE_UP = 12
"""Requests in a row without an answer, beyond those that are asked at a time, after which a server counts as gone."""
CARRIED_OUT = frozenset({"max_new_tokens", "temperature", "top_p"})
"""Settings of generation that the protocol has, beside stop strings and the seed."""
UNVERIFIED = "the model is what its server says it is; nobody has verified it"

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class EndpointEngine:
    """A server, ready to answer.

    Args:
        client: its address.
        server: as it was probed.
        settings: how many requests run at a time.
        tokenizer: of its model; None: not known.
    """

    def __init__(self, client: Client, server: Server, *, settings: Endpoint, tokenizer: Tokenizer | None) -> None:
        self.tokenizer = tokenizer or byte_tokenizer()
        self.server = server
        self._client = client
        self._concurrent = settings.concurrent
        self._known = tokenizer is not None
        self._gone: ServerError | None = None

    @property
    def cached(self) -> Sequence[bool]:
        """Which answers of the last call were known before; none, for it has no memory."""
        return ()

    @property
    def model(self) -> ModelCard:
        """The card of its model: what the server says, unverified."""
        return endpoint_card(self.server, tokenizer=self.tokenizer, knows_tokens=self._known)

    @property
    def card(self) -> RuntimeCard:
        """Where it is asked, and how."""
        return endpoint_runtime(self.server)

    @property
    def max_length_tokens(self) -> int:
        """Longest input, where its tokens and its context are known."""
        return self.model.max_length_tokens

    def predict(
        self,
        head: str,
        rows: Sequence[HeadRow],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Floats32] | None = None,
    ) -> list[Floats32]:
        """
        Raises:
            UsageError: a server's model has no heads.
        """
        return self.predict_heads([head], rows, on_progress=on_progress, on_answers=on_answers)

    def predict_heads(
        self,
        heads: Sequence[str],
        rows: Sequence[HeadRow],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Floats32] | None = None,
    ) -> list[Floats32]:
        """
        Raises:
            UsageError: a server's model has no heads.
        """
        del rows, on_progress, on_answers
        raise UsageError(
            f"{self.server.name} at {self.server.address} has no head {heads[0]!r}: it is asked by prompts."
        )

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        on_progress: OnProgress | None = None,
        on_answers: OnAnswers[Scored] | None = None,
    ) -> list[Scored]:
        """Log-probability of each request's target behind its context.

        Raises:
            UsageError: the server tells none of a given text.
            WorkError: it is gone, or changed its model.
        """
        if not self.server.scores:
            raise UsageError(
                f"{self.server.address} tells no log-probabilities of a given text: {self.server.why_no_scores}."
            )
        keys = [(request.context_ids, request.target_ids) for request in requests]

        def failed(why: str) -> Scored:
            return Scored(logprob=float("nan"), greedy=False, token_logprobs=(), failed=why)

        return self._all(requests, keys, self._scored, failed=failed, on_progress=on_progress, on_answers=on_answers)

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        *,
        on_progress: OnProgress | None = None,
        on_token: OnToken | None = None,
        on_answers: OnAnswers[Generated] | None = None,
    ) -> list[Generated]:
        """A continuation of each prompt.

        Args:
            on_token: is told of one text while it comes; several are asked one after the other then.

        Raises:
            UsageError: a setting that the protocol does not have.
            WorkError: it is gone, or changed its model.
        """
        for settings in dict.fromkeys(request.settings for request in requests):
            check_carried_out(settings, self.server)
        if on_token is not None:
            return [self._streamed(place, request, on_token) for place, request in enumerate(requests)]
        numbers = [place if request.number is None else request.number for place, request in enumerate(requests)]
        keys = [
            (request.prompt_ids, repr(request.settings), *((request.seed, number) if _draws(request) else ()))
            for request, number in zip(requests, numbers, strict=True)
        ]

        def failed(why: str) -> Generated:
            return Generated(ids=(), text="", stopped="end", failed=why)

        return self._all(
            list(zip(requests, numbers, strict=True)),
            keys,
            lambda asked: self._generated(*asked),
            failed=failed,
            on_progress=on_progress,
            on_answers=on_answers,
        )

    def score_alone(self, request: ScoreRequest) -> Scored:
        """One log-probability, asked by itself; nothing is verified behind it, as where answers are timed.

        Raises:
            RequestFailedError, ServerError: see `Client`.
        """
        return self._scored(request)

    def pieces(self, request: GenerateRequest, *, with_usage: bool) -> Iterator[str]:
        """The pieces of one text as they come, asked by itself; nothing is verified behind them.

        Args:
            with_usage: also ask for the number of tokens that are billed, which comes in a part without text.

        Raises:
            RequestFailedError, ServerError: see `Client`.
        """
        path, body, _ = self._question(request, 0)
        body.pop("logprobs", None)
        body |= {"stream_options": {"include_usage": True}} if with_usage else {}
        for part in self._client.events(path, body):
            piece, _ = stream_piece(part, chat=path == CHAT)
            if piece:
                yield piece

    def verify(self) -> None:
        """Ask the known texts again.

        Raises:
            ChangedModelError: another model answers than when the server was opened.
            WorkError: none does.
        """
        now = known_answers(self._client, self.server)
        if not now.is_like(self.server.answers):
            raise ChangedModelError(
                f"{self.server.address} answers a known text otherwise than when it was opened: what serves "
                f"{self.server.name} changed in between, so there is no score of either."
            )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _all(
        self,
        items: Sequence[_Item],
        keys: Sequence[tuple[object, ...]],
        ask: Callable[[_Item], _Answer],
        *,
        failed: Callable[[str], _Answer],
        on_progress: OnProgress | None,
        on_answers: OnAnswers[_Answer] | None,
    ) -> list[_Answer]:
        """An answer to each, equal ones asked once; each is handed on as soon as it is there."""
        if self._gone is not None:
            raise self._gone
        try:
            return self._answers(items, keys, ask, failed=failed, on_progress=on_progress, on_answers=on_answers)
        except ServerError as error:
            self._gone = error
            raise

    def _answers(
        self,
        items: Sequence[_Item],
        keys: Sequence[tuple[object, ...]],
        ask: Callable[[_Item], _Answer],
        *,
        failed: Callable[[str], _Answer],
        on_progress: OnProgress | None,
        on_answers: OnAnswers[_Answer] | None,
    ) -> list[_Answer]:
        plan = distinct(keys)
        found: dict[int, _Answer] = {}
        in_a_row = 0

        def answer(first: int) -> _Answer | RequestFailedError:
            try:
                return ask(items[first])
            except RequestFailedError as error:
                return error

        for first, answered in run_beside(plan.firsts, answer, workers=self._concurrent, stop=self._client.stop):
            copies = plan.copies[first]
            if isinstance(answered, RequestFailedError):
                in_a_row = in_a_row + 1 if answered.status not in (400, 413, 422) else 0
                if in_a_row > GIVE_UP + self._concurrent:
                    raise ServerError(f"{answered} {in_a_row} requests in a row had no answer, so no more were asked.")
                found |= dict.fromkeys(copies, failed(str(answered)))
            else:
                in_a_row = 0
                found |= dict.fromkeys(copies, answered)
                if on_answers is not None:
                    on_answers([(place, answered) for place in copies])
            if on_progress is not None:
                on_progress(len(found))
        if items:
            self.verify()
        return [found[place] for place in range(len(items))]

    def _scored(self, request: ScoreRequest) -> Scored:
        context, target, most = request.context_ids, request.target_ids, self.max_length_tokens
        server, way = self.server, self.server.scores
        if not server.takes_ids:
            return self._scored_text(context, target)
        ids = (*context, *target)[-(most + 1) :]
        border = max(len(ids) - len(target), 1)
        read = checked(server, lambda answer: placed_tokens(answer, ids, way=way))
        found = self._client.post(
            COMPLETIONS, score_body(server.name, ids, way=way, new_tokens=server.new_tokens), read
        )
        return _summed(found.logprobs[border:], found.greedy[border:], cut=len(ids) < len(context) + len(target))

    def _scored_text(self, context: Sequence[int], target: Sequence[int]) -> Scored:
        before, whole = self.tokenizer.decode(context), self.tokenizer.decode((*context, *target))
        if not whole.startswith(before):
            raise RequestFailedError("the context's tokens alone are another text than before their target.")
        server, way = self.server, self.server.scores

        def read(answer: Mapping[str, object]) -> Scored:
            found = placed_tokens(answer, whole, way=way)
            border = found.border(len(before))
            return _summed(found.logprobs[border:], found.greedy[border:], cut=False)

        return self._client.post(
            COMPLETIONS, score_body(server.name, whole, way=way, new_tokens=server.new_tokens), checked(server, read)
        )

    def _generated(self, request: GenerateRequest, number: int) -> Generated:
        path, body, cut = self._question(request, number)
        most, server = request.settings.max_new_tokens, self.server
        read = checked(server, lambda answer: written(answer, chat=path == CHAT, most=most))
        return self._answered(request, self._client.post(path, body, read), cut=cut)

    def _answered(self, request: GenerateRequest, wrote: Written, *, cut: bool) -> Generated:
        text = wrote.text
        stops = [place for stop in request.settings.stop if (place := text.find(stop)) >= 0]
        if stops:
            text = text[: min(stops)]
        return Generated(
            ids=tuple(self.tokenizer.encode(text)),
            text=text,
            stopped="stop" if stops else "end" if wrote.ended else "length",
            truncated=cut,
        )

    def _question(self, request: GenerateRequest, number: int) -> tuple[str, dict[str, object], bool]:
        """Path and body of a request, and whether its prompt was cut."""
        settings, server = request.settings, self.server
        prompt = self.tokenizer.decode(request.prompt_ids)
        body: dict[str, object] = {"model": server.name, "temperature": settings.temperature or 0}
        if settings.temperature is None:
            body["temperature"] = 1
        if settings.top_p is not None and body["temperature"]:
            body["top_p"] = settings.top_p
        if settings.stop:
            body["stop"] = list(settings.stop[:MOST_STOPS])
        if _draws(request):
            body["seed"] = (request.seed * 1_000_003 + number) % 2**31
        if is_chat(prompt) or not server.completes:
            if not server.chats:
                raise RequestFailedError(f"{server.address} answers no chats; leave --apply-chat-template out.")
            body |= chat_body(prompt) | {server.length_key: settings.max_new_tokens}
            return CHAT, body | ({"logprobs": True} if server.tells_own else {}), False
        ids = request.prompt_ids
        room = self.max_length_tokens - settings.max_new_tokens
        cut = self._known and len(ids) > max(room, 1)
        kept = ids[-max(room, 1) :] if cut else ids
        sent = list(kept) if server.takes_ids else self.tokenizer.decode(kept)
        body |= {"prompt": sent, "max_tokens": settings.max_new_tokens}
        return COMPLETIONS, body | ({"logprobs": 1} if server.tells_own else {}), cut

    def _streamed(self, place: int, request: GenerateRequest, on_token: OnToken) -> Generated:
        """A text that is told while it comes; behind a stop string no more of it."""
        path, body, cut = self._question(request, place)
        body.pop("logprobs", None)
        told, text, ended, step = 0, "", True, 0
        held = max((len(stop) for stop in request.settings.stop), default=1) - 1
        for part in self._client.events(path, body):
            piece, reason = stream_piece(part, chat=path == CHAT)
            text, ended = text + piece, ended and reason != "length"
            safe = min([len(text) - held, *(at for stop in request.settings.stop if (at := text.find(stop)) >= 0)])
            if safe > told:
                on_token(TokenEvent(request=place, step=step, text=text[told:safe], stopped=None))
                told, step = safe, step + 1
        answer = self._answered(request, Written(text=text, ended=ended), cut=cut)
        on_token(TokenEvent(request=place, step=step, text=answer.text[told:], stopped=answer.stopped))
        return answer


def stream_piece(part: Mapping[str, object], *, chat: bool) -> tuple[str, str]:
    """Text of one part of a streamed answer, and why it ended (empty: it goes on)."""
    choices = part.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "", ""  # the last part of several servers holds usage alone
    choice = choices[0]
    source = choice.get("delta") if chat else choice
    text = source.get("content" if chat else "text") if isinstance(source, dict) else None
    return text if isinstance(text, str) else "", str(choice.get("finish_reason") or "")


def run_beside(
    items: Iterable[_Item], ask: Callable[[_Item], _Answer], *, workers: int, stop: Callable[[], None]
) -> Iterator[tuple[_Item, _Answer]]:
    """Each item with its answer, as they come; a few items wait at a time, however many there are.

    Args:
        stop: ends what still runs when something goes wrong here or there.
    """
    waiting = iter(items)
    running: dict[Future[_Answer], _Item] = {}
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="lmtasks-endpoint") as pool:
        try:
            while True:
                for item in islice(waiting, 2 * workers - len(running)):
                    running[pool.submit(ask, item)] = item
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        except BaseException:
            stop()
            for future in running:
                future.cancel()
            raise


def check_carried_out(settings: Decoding, server: Server) -> None:
    """
    Raises:
        UsageError: a setting of generation that the protocol does not have, so that nobody knows who obeys it.
    """
    strange = [
        name
        for name in GenerationSettings.__dataclass_fields__
        if name not in CARRIED_OUT
        and (value := getattr(settings, name)) is not None
        and value != getattr(GENERATION_DEFAULTS, name)
        and not (name == "top_k" and settings.temperature == 0)
    ]
    if strange:
        raise UsageError(
            f"a server is told temperature, top_p, length, stop strings and seed, and not {', '.join(strange)}; leave "
            f"that out to ask {server.name} at {server.address}."
        )


def byte_tokenizer() -> Tokenizer:
    """Bytes of UTF-8 as tokens, for a server whose own nobody knows: they say every text exactly.

    >>> tokenizer = byte_tokenizer()
    >>> tokenizer.decode(tokenizer.encode("中 a"))
    '中 a'
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = RawTokenizer(models.BPE(vocab={sign: place for place, sign in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(START, special=True)])
    start = raw.token_to_id(START)
    return Tokenizer(raw, bos=start, eos=start, pad=start)


def endpoint_card(server: Server, *, tokenizer: Tokenizer, knows_tokens: bool) -> ModelCard:
    """The card of a server's model: what the server says, and nothing that anybody has checked."""
    # What is scored fits with the token that a server insists on writing, and a window has one token more than this.
    context = server.context_tokens - server.new_tokens - 1 if knows_tokens and server.context_tokens else None
    return ModelCard(
        name=server.name,
        family="endpoint",
        kind="causal",
        adaptation="prompt",
        parameters=0,
        weights_hash=server.identity,
        tokenizer_hash=tokenizer.hash,
        max_length_tokens=context or NO_CONTEXT_LIMIT,
        vocabulary=tokenizer.vocabulary,
    )


def endpoint_runtime(server: Server) -> RuntimeCard:
    """Where a server is, and how it is asked."""
    return RuntimeCard(
        runtime="endpoint",
        version="",
        device="server",
        precision="none",
        threads=1,
        size_bytes=0,
        options={
            "address": server.address,
            "claims": server.claim.model or server.name,
            "fingerprint": server.claim.fingerprint,
            "identity": "unverified",
            "asked": "token ids" if server.takes_ids else "text",
            "scores": server.scores,
        },
    )


def _draws(request: GenerateRequest) -> bool:
    return request.settings.temperature != 0


def _summed(logprobs: Sequence[float | None], greedy: Sequence[bool | None], *, cut: bool) -> Scored:
    values = [each for each in logprobs if each is not None]
    if not values or len(values) < len(logprobs):
        raise RequestFailedError(
            "the server tells no log-probability of a text's first token; with --server-tokenizer a first token is "
            "sent before it."
        )
    return Scored(
        logprob=float(sum(values)),
        greedy=bool(greedy) and all(greedy),
        token_logprobs=tuple(values),
        truncated=cut,
    )
