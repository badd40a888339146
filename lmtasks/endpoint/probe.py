"""Abilities of a server, found out with known texts when it is opened, and who it says that it is.

Log-probabilities of a given text count only where they can be right: one for each token but the first, finite, not all
equal, and those that the server told while it wrote the text itself. Shifted by one token they would agree with that
text one place further, and are refused as such. Where a text of its own is cut into other tokens when it is given, the
likeliest token of a place must be what the server writes behind the text up to there.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, product
from typing import TypeVar

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.endpoint.client import Client, MalformedError, RequestFailedError, ServerError
from lmtasks.endpoint.protocol import (
    CHAT,
    COMPLETIONS,
    MODELS,
    Claim,
    PlacedTokens,
    Written,
    chat_body,
    claim_of,
    placed_tokens,
    score_body,
    written,
)
from lmtasks.errors import UsageError, WorkError
from lmtasks.settings.endpoint import Endpoint

KNOWN = "The capital of France is Paris. The capital of Italy is Rome. The capital of Japan is"
QUESTION = "What is the capital of France? Answer with one word."
OTHERS = ("1 2 3 4 5 6 7 8 9", "one two three one two three one two")
"""Known texts for a server that writes nothing behind the first."""
NEW_TOKENS = 12
PROBE_RETRIES = 2
LENGTH_KEYS = ("max_tokens", "max_completion_tokens")
WAYS = ("echo", "prompt_logprobs")
"""Of asking for log-probabilities of a given text: OpenAI's, and vLLM's."""
SAME_NATS, SAME_ON_AVERAGE = 0.5, 0.1
"""Log-probabilities of one model may differ by so much from one request to the next, for it computes them in batches
and in 16 bits: one token's, and all tokens' on average."""
OUGHT_TO_AGREE = 0.25
"""Nats: between a token's log-probability while it was written and when it was given."""
HELD = 3
"""Parts into which a known text is cut, to write behind each."""
CLOSE = 0.01
"""Nats: nearer than this is no difference."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, kw_only=True)
class ProbeAnswers:
    """Answers to the known texts, by which a server is known again."""

    logprobs: tuple[float, ...] = ()
    text: str = ""

    def is_like(self, other: "ProbeAnswers") -> bool:
        """Can one model have given both? Where log-probabilities are told they decide, for near ties change texts."""
        if not self.logprobs and not other.logprobs:
            return self.text == other.text
        if len(self.logprobs) != len(other.logprobs):
            return False
        differences = [abs(one - two) for one, two in zip(self.logprobs, other.logprobs, strict=True)]
        return max(differences) <= SAME_NATS and sum(differences) / len(differences) <= SAME_ON_AVERAGE

    @property
    def hash(self) -> str:
        """sha256, 16 hex digits."""
        content = json.dumps([[round(each, 3) for each in self.logprobs], self.text])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that was probed."""

    address: str
    name: str
    """Of the model, as the server calls it."""
    claim: Claim
    answers: ProbeAnswers
    completes: bool
    """Does it go on with a text?"""
    chats: bool
    """Does it answer messages?"""
    scores: str = ""
    """The way of `WAYS` by which it tells log-probabilities of a given text; empty: by none."""
    why_no_scores: str = ""
    """As the end of a sentence."""
    new_tokens: int = 0
    """It insists on writing so many behind a text whose log-probability is asked: 0 or 1."""
    tells_greedy: bool = False
    """Does it tell whether a given token was the most likely one?"""
    tells_own: bool = False
    """Does it tell log-probabilities of what it writes?"""
    takes_ids: bool = False
    """Does it take token ids of the tokenizer that was given?"""
    tokenizes: bool = False
    """Does it have a tokenizer to be asked (`/tokenize`)?"""
    context_tokens: int | None = None
    """What its model reads; None: it does not say."""
    length_key: str = "max_tokens"
    """What the length of an answer is called in a chat."""
    known_as: str = ""
    """`ProbeAnswers.hash` under which its answers are kept; empty: of its own."""
    notices: tuple[str, ...] = field(default=())
    """Sentences for whoever opens it."""

    @property
    def identity(self) -> str:
        """Hash of address, name, fingerprint and the probe's answers, 16 hex digits. Nothing of it is proved."""
        facts = [self.address, self.name, self.claim.model, self.claim.fingerprint, self.known_as or self.answers.hash]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def ability_lines(self) -> tuple[str, ...]:
        """Abilities, a line each, for people."""
        tells = f"by {self.scores}" if self.scores else f"no: {self.why_no_scores}"
        return (
            f"completions: {'yes' if self.completes else 'no'}",
            f"chat: {'yes' if self.chats else 'no'}",
            f"log-probabilities of a given text: {tells}",
            f"log-probabilities of its own tokens: {'yes' if self.tells_own else 'no'}",
            f"token ids: {'yes' if self.takes_ids else 'no'}",
            f"context: {self.context_tokens or 'not told'}",
        )


def probe(client: Client, settings: Endpoint, *, tokenizer: Tokenizer | None) -> Server:
    """Find out what a server can do.

    Args:
        tokenizer: of its model; None: not known.

    Raises:
        UsageError: it has no model of that name, or the tokenizer is another one.
        WorkError: it is down, or speaks another protocol.
    """
    name, context = _model(client, settings)
    server, own = _writing(client, name)
    server = replace(server, context_tokens=settings.server_context or context)
    if server.completes:
        server = _scoring(client, server, own)
    else:
        server = replace(server, why_no_scores="it answers chats alone")
    ids = _tokenized(client, name)
    server = replace(server, tokenizes=ids is not None)
    if tokenizer is not None:
        server = _with_ids(client, server, tokenizer, told=ids)
    return replace(server, answers=known_answers(client, server))


def known_answers(client: Client, server: Server) -> ProbeAnswers:
    """The answers to the known texts, now.

    Raises:
        WorkError: it does not answer, or another model does.
    """
    logprobs: tuple[float, ...] = ()
    if server.scores:
        logprobs = _numbers(_scored(client, server, KNOWN, way=server.scores))
    if server.completes:
        text = _completed(client, server, KNOWN, told=server.tells_own).text
    else:
        text = _chatted(client, server, told=server.tells_own).text
    return ProbeAnswers(logprobs=logprobs, text=text)


def check_claim(server: Server, answer: Mapping[str, object]) -> None:
    """
    Raises:
        ChangedModelError: the answer is another model's.
    """
    before, now = server.claim, claim_of(answer)
    for what, one, other in (
        ("as", before.model, now.model),
        ("with the fingerprint", before.fingerprint, now.fingerprint),
    ):
        if one and other and one != other:
            raise ChangedModelError(
                f"{server.address} answers {what} {other!r}, and answered {what} {one!r} when it was opened: what "
                f"serves {server.name} changed between two requests, so there is no score of either."
            )


class ChangedModelError(ServerError):
    """A server answers with another model than before."""


def checked(server: Server, read: Callable[[Mapping[str, object]], _Read]) -> Callable[[Mapping[str, object]], _Read]:
    """The same reader, which refuses answers of another model."""

    def reader(answer: Mapping[str, object]) -> _Read:
        check_claim(server, answer)
        return read(answer)

    return reader


def _model(client: Client, settings: Endpoint) -> tuple[str, int | None]:
    """The model's name, and what it reads, as the server lists them."""
    try:
        listed = client.get(MODELS, _listed, retries=PROBE_RETRIES)
    except RequestFailedError as error:
        unlisted = error.status != 0  # it answers, and something may be asked of it all the same
        if settings.served_name is None or not unlisted:
            raise WorkError(f"{error}{' It lists no models; name one with --served-name.' * unlisted}") from None
        return settings.served_name, None
    names = ", ".join(sorted(listed)[:20]) or "none"
    if settings.served_name is None:
        if len(listed) != 1:
            raise UsageError(f"{client.address} has {len(listed)} models ({names}); say with --served-name which one.")
        return next(iter(listed.items()))
    if listed and settings.served_name not in listed:
        raise UsageError(f"{client.address} has no model {settings.served_name!r} (--served-name). It has: {names}.")
    return settings.served_name, listed.get(settings.served_name)


def _listed(answer: Mapping[str, object]) -> dict[str, int | None]:
    data = answer.get("data")
    if not isinstance(data, list):
        raise MalformedError("the server's list of models is none")
    found: dict[str, int | None] = {}
    for each in data:
        if isinstance(each, dict) and isinstance(each.get("id"), str):
            meta = each.get("meta")
            told = [each.get("max_model_len"), each.get("context_length")]
            told += [meta.get("n_ctx")] if isinstance(meta, dict) else []
            found[str(each["id"])] = next((value for value in told if isinstance(value, int) and value > 0), None)
    return found


def _writing(client: Client, name: str) -> tuple[Server, Written]:
    """Can it write, and how? With what it wrote behind the first known text, or to the question."""
    server = Server(
        address=client.address,
        name=name,
        claim=Claim(model="", fingerprint=""),
        answers=ProbeAnswers(),
        completes=False,
        chats=False,
    )
    why: list[str] = []

    def tried(ask: Callable[[], tuple[Claim, Written]]) -> tuple[Claim, Written] | None:
        try:
            return ask()
        except RequestFailedError as error:
            why.append(str(error))
            return None

    completed = chatted = None
    for told in (True, False):
        completed = completed or tried(partial(_first_completion, client, name, told=told))
    for told, key in product((True, False), LENGTH_KEYS):
        if chatted is None:
            server = replace(server, length_key=key)
            chatted = tried(partial(_first_chat, client, replace(server, length_key=key), told=told))
    found = completed or chatted
    if found is None:
        raise WorkError(f"{why[0]} Neither {COMPLETIONS} nor {CHAT} of the OpenAI protocol is answered there.")
    claim, own = found
    server = replace(
        server,
        claim=claim,
        completes=completed is not None,
        chats=chatted is not None,
        tells_own=bool(own.logprobs),
    )
    return server, own


def _first_completion(client: Client, name: str, *, told: bool) -> tuple[Claim, Written]:
    body = _completion_body(name, KNOWN, told=told)
    return client.post(COMPLETIONS, body, lambda answer: (claim_of(answer), _read(answer)), retries=PROBE_RETRIES)


def _first_chat(client: Client, server: Server, *, told: bool) -> tuple[Claim, Written]:
    body = _chat_question(server, told=told)

    def read(answer: Mapping[str, object]) -> tuple[Claim, Written]:
        return claim_of(answer), written(answer, chat=True, most=NEW_TOKENS)

    return client.post(CHAT, body, read, retries=PROBE_RETRIES)


def _completion_body(name: str, prompt: str, *, told: bool) -> dict[str, object]:
    body: dict[str, object] = {"model": name, "prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0}
    return body | ({"logprobs": 1} if told else {})


def _chat_question(server: Server, *, told: bool) -> dict[str, object]:
    body: dict[str, object] = {"model": server.name, "temperature": 0, server.length_key: NEW_TOKENS}
    return body | chat_body(QUESTION) | ({"logprobs": True} if told else {})


def _read(answer: Mapping[str, object]) -> Written:
    return written(answer, chat=False, most=NEW_TOKENS)


def _completed(client: Client, server: Server, prompt: str, *, told: bool) -> Written:
    return client.post(COMPLETIONS, _completion_body(server.name, prompt, told=told), checked(server, _read))


def _chatted(client: Client, server: Server, *, told: bool) -> Written:
    read = checked(server, partial(written, chat=True, most=NEW_TOKENS))
    return client.post(CHAT, _chat_question(server, told=told), read)


def _scored(client: Client, server: Server, prompt: str, *, way: str, retries: int | None = None) -> PlacedTokens:
    body = score_body(server.name, prompt, way=way, new_tokens=server.new_tokens)
    read = checked(server, partial(placed_tokens, prompt=prompt, way=way))
    return client.post(COMPLETIONS, body, read, retries=retries)


def _numbers(found: PlacedTokens) -> tuple[float, ...]:
    return tuple(each for each in found.logprobs if each is not None)


def _scoring(client: Client, server: Server, own: Written) -> Server:
    """The way by which it tells log-probabilities of a given text, or why none of what it tells can be one."""
    why: list[str] = []
    for way, new_tokens in product(WAYS, (0, 1)):
        server = replace(server, new_tokens=new_tokens)
        try:
            found = _scored(client, server, KNOWN, way=way, retries=PROBE_RETRIES)
            wrong = why_no_scores(found) or _why_unlike_own(client, server, own, way=way, known=found)
        except RequestFailedError as error:
            wrong = str(error).removeprefix(f"{server.address}: ").rstrip(".")
        if not wrong:
            greedy = all(each is not None for each in found.greedy[1:])
            return replace(server, scores=way, tells_greedy=greedy)
        if new_tokens:
            why.append(f"{way}: {wrong}")
    return replace(server, why_no_scores="; ".join(why))


def why_no_scores(found: PlacedTokens) -> str:
    """Why the log-probabilities of a known text are none; empty where they can be."""
    numbers = _numbers(found)
    if len(numbers) < len(found.logprobs) - 1 or len(numbers) < 2:
        return f"{len(numbers)} of {len(found.logprobs)} tokens have a log-probability"
    if max(numbers) - min(numbers) < 1e-6:
        return f"all {len(numbers)} tokens have the same log-probability, {numbers[0]:g}"
    return ""


def _why_unlike_own(client: Client, server: Server, own: Written, *, way: str, known: PlacedTokens) -> str:
    """Why the log-probabilities of a given text are not those that the server told while it wrote that text; where it
    wrote none that is cut into the same tokens again: those that it told while it wrote behind a part of the text."""
    for prompt in (KNOWN, *OTHERS):
        wrote = own if prompt == KNOWN else _completed(client, server, prompt, told=True)
        if len(wrote.logprobs) < 2 or "".join(wrote.tokens) != wrote.text:
            continue
        given = _scored(client, server, prompt + wrote.text, way=way)
        try:
            border = given.border(len(prompt))
        except RequestFailedError:
            continue
        starts = accumulate(map(len, wrote.tokens[:-1]), initial=len(prompt))
        if given.starts[border : border + len(wrote.tokens)] != tuple(starts):
            continue
        return why_unlike(given.logprobs, wrote.logprobs, border=border)
    return _why_unlike_next(client, server, known)


def _why_unlike_next(client: Client, server: Server, known: PlacedTokens) -> str:
    """Why the likeliest tokens of a given text's places are not those that the server writes there."""
    likeliest = {
        start: told
        for start, told in zip(known.starts, known.likeliest, strict=True)
        if told is not None and start and KNOWN[start] == " "  # a part up to there is cut as the whole text is
    }
    starts = sorted(likeliest)
    alike: list[bool] = []
    for start in dict.fromkeys(starts[(len(starts) - 1) * part // HELD] for part in range(HELD + 1) if starts):
        wrote, told = _completed(client, server, KNOWN[:start], told=True), likeliest[start]
        if wrote.logprobs:
            apart = abs(wrote.logprobs[0] - told.logprob)
            alike.append((wrote.tokens[0] == told.token and apart <= OUGHT_TO_AGREE) or apart <= CLOSE)
    if len(alike) < 2:
        return "it tells none of its own tokens that they could be held against"
    if sum(alike) <= len(alike) / 2:
        return "the likeliest tokens that it tells of a text's places are not those that it writes there"
    return ""


def why_unlike(given: Sequence[float | None], own: Sequence[float], *, border: int) -> str:
    """Why log-probabilities of a given text (T,) are not those of the writing, which begin at the border.

    >>> why_unlike((None, -1.0, -0.1, -2.0, -0.3), (-0.1, -2.0, -0.3), border=2)
    ''
    >>> why_unlike((None, -0.1, -2.0, -0.3, -5.0), (-0.1, -2.0, -0.3), border=2)
    'they are shifted by one token against those that it told while it wrote'
    """
    apart: dict[int, float] = {}
    for shift in (0, -1, 1):
        beside = [
            abs(told - value)
            for place, value in enumerate(own, start=border + shift)
            if 0 <= place < len(given) and (told := given[place]) is not None
        ]
        if len(beside) >= 2:
            apart[shift] = sum(beside) / len(beside)
    best = min(apart, key=lambda shift: apart[shift], default=0)
    # Written tokens are all likely, so that their neighbours' numbers may be near, too: much nearer is another place.
    if best and apart[best] <= OUGHT_TO_AGREE and apart.get(0, math.inf) > 4 * apart[best] + CLOSE:
        return "they are shifted by one token against those that it told while it wrote"
    if apart.get(0, math.inf) <= OUGHT_TO_AGREE:
        return ""
    return f"they are {apart.get(0, math.inf):.2g} nats a token off those that it told while it wrote"


def _tokenized(client: Client, name: str) -> tuple[int, ...] | None:
    """The known text as the server's own tokenizer has it; None where it cannot be asked."""

    def read(answer: Mapping[str, object]) -> tuple[int, ...]:
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or not all(type(each) is int for each in tokens):
            raise MalformedError("the server's tokens are none")
        return tuple(tokens)

    body = {"model": name, "prompt": KNOWN, "content": KNOWN, "add_special_tokens": False}
    try:
        return client.post("/tokenize", body, read, retries=0)
    except RequestFailedError:
        return None


def _with_ids(client: Client, server: Server, tokenizer: Tokenizer, *, told: Sequence[int] | None) -> Server:
    ids = tokenizer.encode(KNOWN)
    another = (
        f"the tokenizer of --server-tokenizer is not that of {server.name} at {server.address}: it makes {len(ids)} "
        "tokens of a known text, and the server takes them for another text. Give the folder of the served model."
    )
    if told is not None and list(told[-len(ids) :]) != ids:
        raise UsageError(another)
    if not server.scores:
        return server
    try:
        found = client.post(
            COMPLETIONS,
            score_body(server.name, ids, way=server.scores, new_tokens=server.new_tokens),
            checked(server, lambda answer: (placed_tokens(answer, ids, way=server.scores), answer)),
            retries=PROBE_RETRIES,
        )
    except RequestFailedError as error:
        if error.status in (400, 422, 500):
            return replace(
                server, notices=(*server.notices, f"{server.address} takes no token ids, so texts are sent.")
            )
        raise UsageError(another) from None
    try:
        if len(placed_tokens(found[1], KNOWN, way=server.scores).starts) != len(ids):
            raise UsageError(another)
    except MalformedError:
        raise UsageError(another) from None
    return replace(server, takes_ids=True)
