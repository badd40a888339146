"""The OpenAI protocol as checked values: bodies of questions, and answers held against what was asked.

`/completions` with `echo` and `logprobs` tells the log-probability of each token of a given text, `prompt_logprobs` of
vLLM the same beside it; `/chat/completions` writes behind messages
(https://platform.openai.com/docs/api-reference/completions; https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html).

Where a token stands in the text is never guessed: its place comes from `text_offset`, or from the tokens' own texts,
and the token's text must be what stands there. A server that puts a first token before a text may count that token's
own text into the places, which shows in the same way.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from lmtasks.endpoint.client import MalformedError, RequestFailedError

COMPLETIONS, CHAT, MODELS = "completions", "chat/completions", "models"
MOST_STOPS = 4
"""Stop strings that the protocol takes; an answer is cut at all of them here in any case."""
TIE = 1e-9
BROKEN = "�"
"""Stands in a token's text for a piece of a character."""
BYTES = "bytes:"
"""Begins the text of such a token in OpenAI's own answers."""
CHAT_SIGN = "\x02chat\x03"
"""Begins a prompt that is a chat: the rest is JSON."""


class ToldToken(NamedTuple):
    """A token as the server calls it, with its log-probability."""

    token: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class PlacedTokens:
    """Tokens of a given text with their log-probabilities. T tokens."""

    logprobs: tuple[float | None, ...]
    """(T,) None where the server says none, as of a first token."""
    starts: tuple[int, ...]
    """(T,) where each begins in the text, in characters; empty where token ids were sent."""
    greedy: tuple[bool | None, ...]
    """(T,) was no token more likely? None: the server does not say."""
    pieces: tuple[bool, ...] = ()
    """(T,) is it a piece of a character? Empty where token ids were sent."""
    likeliest: tuple[ToldToken | None, ...] = ()
    """(T,) the likeliest token that is told of each place; None: none is told."""

    def border(self, place: int) -> int:
        """The first token of what begins at a place of the text, in characters.

        Raises:
            RequestFailedError: a token reaches over it, so that what stands behind has no log-probability of its own.
        """
        if place in self.starts:
            found = self.starts.index(place)
            if not (found and self.pieces[found - 1] and self.pieces[found]):
                return found
        raise RequestFailedError(
            "a token of the server reaches over the border between context and answer, so that the answer alone has no "
            "log-probability; with --server-tokenizer both are sent as token ids, cut as lm-evaluation-harness does."
        )


@dataclass(frozen=True, kw_only=True)
class Written:
    """A text that a server wrote."""

    text: str
    ended: bool
    """False: it was as long as it may be."""
    tokens: tuple[str, ...] = ()
    """Of the text, where the server tells them."""
    logprobs: tuple[float, ...] = ()
    """Of these."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The giver of an answer, as it names itself."""

    model: str
    fingerprint: str


def score_body(model: str, prompt: str | Sequence[int], *, way: str, new_tokens: int) -> dict[str, object]:
    """The question for log-probabilities of a given text.

    Args:
        prompt: text or token ids.
        way: `echo`, or `prompt_logprobs`.
        new_tokens: written behind it: 0, or 1 for a server that takes no 0.
    """
    body: dict[str, object] = {
        "model": model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": new_tokens,
        "temperature": 0,
    }
    return body | ({"echo": True, "logprobs": 1} if way == "echo" else {"prompt_logprobs": 0})


def claim_of(answer: Mapping[str, object]) -> Claim:
    """Who the server says that it is."""
    model, fingerprint = answer.get("model"), answer.get("system_fingerprint")
    return Claim(
        model=model if isinstance(model, str) else "",
        fingerprint=fingerprint if isinstance(fingerprint, str) else "",
    )


def choice_of(answer: Mapping[str, object]) -> Mapping[str, object]:
    """The one choice of an answer.

    Raises:
        MalformedError: there is another number of them.
    """
    if "error" in answer and "choices" not in answer:
        raise MalformedError(f"the server answered with an error: {json.dumps(answer['error'])[:200]}")
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        count = len(choices) if isinstance(choices, list) else "no list of"
        raise MalformedError(f"the server answered with {count} choices where one was asked for")
    return choices[0]


def placed_tokens(answer: Mapping[str, object], prompt: str | Sequence[int], *, way: str) -> PlacedTokens:
    """The prompt's tokens with their log-probabilities.

    Raises:
        MalformedError: they are not there, not finite, or not those of the prompt.
    """
    choice = choice_of(answer)
    found = _echoed(choice) if way == "echo" else _of_prompt(choice)
    if isinstance(prompt, str):
        return _placed(found, prompt)
    return _numbered(found, prompt)


def written(answer: Mapping[str, object], *, chat: bool, most: int) -> Written:
    """A text that was written.

    Args:
        most: tokens that it may have.

    Raises:
        MalformedError: there is none, or its tokens and numbers do not agree with each other.
    """
    choice = choice_of(answer)
    reason = choice.get("finish_reason")
    if reason == "content_filter":
        raise MalformedError("the server held the answer back (content_filter)")
    message = choice.get("message") if chat else choice
    text = message.get("content" if chat else "text") if isinstance(message, dict) else None
    if text is None and chat and isinstance(message, dict):
        text = ""  # a chat that ends at once, or thinks in a field of its own
    if not isinstance(text, str):
        raise MalformedError("the server's answer holds no text")
    usage = answer.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if isinstance(count, int) and count > most + 1:
        raise MalformedError(f"the server wrote {count} tokens where at most {most} were asked for")
    tokens, logprobs = _own_tokens(choice, chat=chat)
    if tokens and not _spell(tokens, text):
        raise MalformedError("the tokens of the server's answer are not those of its text")
    if tokens and isinstance(count, int) and len(tokens) > count:
        raise MalformedError(f"the server tells {len(tokens)} tokens of an answer that has {count}")
    return Written(text=text, ended=reason != "length", tokens=tokens, logprobs=logprobs)


def chat_prompt(messages: Sequence[Mapping[str, object]], begins: bool) -> str:
    """A chat as the text of a prompt, which the server's own template makes what its model reads.

    Args:
        begins: the answer begins behind the messages; else the last one is its beginning.
    """
    return CHAT_SIGN + json.dumps({"messages": [dict(each) for each in messages], "begins": begins}, ensure_ascii=False)


def chat_body(prompt: str) -> dict[str, object]:
    """The messages of a prompt; a plain text is one message of the user.

    >>> chat_body("Hello")
    {'messages': [{'role': 'user', 'content': 'Hello'}]}
    """
    if not prompt.startswith(CHAT_SIGN):
        return {"messages": [{"role": "user", "content": prompt}]}
    found = json.loads(prompt.removeprefix(CHAT_SIGN))
    if found["begins"]:
        return {"messages": found["messages"]}
    return {"messages": found["messages"], "add_generation_prompt": False, "continue_final_message": True}


def is_chat(prompt: str) -> bool:
    """Is a prompt a chat?"""
    return prompt.startswith(CHAT_SIGN)


def finite(value: object) -> float:
    """A log-probability.

    Raises:
        MalformedError: it is no number that one can be.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value > 1e-3:
        raise MalformedError(f"the server tells {value!r} as a log-probability")
    return min(0.0, float(value))


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a server tells of the tokens of a text."""

    texts: Sequence[str]
    logprobs: Sequence[float | None]
    greedy: Sequence[bool | None]
    likeliest: Sequence[ToldToken | None]
    offsets: Sequence[int] | None
    ids: Sequence[int] | None = None


def _echoed(choice: Mapping[str, object]) -> _Told:
    told = choice.get("logprobs")
    if not isinstance(told, dict):
        raise MalformedError("the server tells no log-probabilities")
    texts, values = _list(told, "tokens"), _list(told, "token_logprobs")
    if not all(isinstance(text, str) for text in texts) or len(values) != len(texts):
        raise MalformedError("the server's tokens and log-probabilities are not of equal number")
    logprobs = [None if value is None else finite(value) for value in values]
    tops, offsets = told.get("top_logprobs"), told.get("text_offset")
    likeliest: list[ToldToken | None] = [None] * len(texts)
    if isinstance(tops, list) and len(tops) == len(texts):
        likeliest = [_likeliest(top) for top in tops]
    usable = isinstance(offsets, list) and len(offsets) == len(texts) and all(type(each) is int for each in offsets)
    return _Told(
        texts=[str(text) for text in texts],
        logprobs=logprobs,
        greedy=[_is_greedy(best, value) for best, value in zip(likeliest, logprobs, strict=True)],
        likeliest=likeliest,
        offsets=[int(each) for each in offsets] if usable and isinstance(offsets, list) else None,
    )


def _likeliest(top: object) -> ToldToken | None:
    """The likeliest token of a place. They are names with values, or a list of objects."""
    found: list[ToldToken] = []
    if isinstance(top, dict):
        found = [ToldToken(str(name), finite(value)) for name, value in top.items()]
    elif isinstance(top, list) and all(isinstance(each, dict) for each in top):
        found = [ToldToken(str(each.get("token")), finite(each.get("logprob"))) for each in top]
    return max(found, key=lambda each: each.logprob, default=None)


def _is_greedy(likeliest: ToldToken | None, logprob: float | None) -> bool | None:
    """Is no other token of the place more likely?"""
    return None if likeliest is None or logprob is None else logprob >= likeliest.logprob - TIE


def _of_prompt(choice: Mapping[str, object]) -> _Told:
    told = choice.get("prompt_logprobs")
    if not isinstance(told, list):
        raise MalformedError("the server tells no prompt_logprobs")
    texts: list[str] = []
    logprobs: list[float | None] = []
    greedy: list[bool | None] = []
    likeliest: list[ToldToken | None] = []
    ids: list[int] = []
    for each in told:
        if each is None:  # of the first token nothing is told, not even which one it is
            texts.append("")
            logprobs.append(None)
            greedy.append(None)
            likeliest.append(None)
            ids.append(-1)
            continue
        if not isinstance(each, dict) or not each:
            raise MalformedError("the server's prompt_logprobs are not of the form of vLLM's")
        key, first = next(iter(each.items()))  # the token itself stands first, more likely ones behind
        if not isinstance(first, dict) or not str(key).isdigit():
            raise MalformedError("the server's prompt_logprobs are not of the form of vLLM's")
        rank = first.get("rank")
        named = ToldToken(str(first.get("decoded_token") or ""), finite(first.get("logprob")))
        texts.append(named.token)
        logprobs.append(named.logprob)
        greedy.append(rank == 1 if isinstance(rank, int) else None)
        likeliest.append(named if rank == 1 else None)
        ids.append(int(key))
    return _Told(texts=texts, logprobs=logprobs, greedy=greedy, likeliest=likeliest, offsets=None, ids=ids)


def _numbered(found: _Told, ids: Sequence[int]) -> PlacedTokens:
    """Held against token ids that were sent: as many, and behind them at most the one that was written."""
    count = len(ids)
    if found.ids is not None:
        if len(found.ids) != count or any(told not in (-1, asked) for told, asked in zip(found.ids, ids, strict=True)):
            raise MalformedError("the tokens that the server tells are not those that were sent")
    elif not count <= len(found.texts) <= count + 1:
        raise MalformedError(f"the server tells {len(found.texts)} tokens where {count} were sent")
    return PlacedTokens(logprobs=tuple(found.logprobs[:count]), starts=(), greedy=tuple(found.greedy[:count]))


def _placed(found: _Told, prompt: str) -> PlacedTokens:
    """Held against the text that was sent."""
    texts = list(found.texts)
    if found.ids is not None and texts:  # vLLM leaves the first token out; it is what the others leave over
        rest = "".join(texts[1:])
        texts[0] = prompt[: len(prompt) - len(rest)] if prompt.endswith(rest) else texts[0]
    sums = [0]
    for text in texts:
        sums.append(sums[-1] + len(text))
    for offsets in ([] if found.offsets is None else [found.offsets]) + [sums[:-1]]:
        for shift in dict.fromkeys((0, offsets[0] if offsets else 0, len(texts[0]) if texts else 0)):
            starts = [max(0, each - shift) for each in offsets]
            if _fits(texts, starts, prompt, shifted=bool(shift)):
                first = 1 if shift or (len(texts) > 1 and not texts[0] and starts[1] == 0) else 0
                inside = [place for place in range(first, len(texts)) if starts[place] < len(prompt)]
                return PlacedTokens(
                    logprobs=tuple(found.logprobs[place] for place in inside),
                    starts=tuple(starts[place] for place in inside),
                    greedy=tuple(found.greedy[place] for place in inside),
                    pieces=tuple(_is_piece(texts[place]) for place in inside),
                    likeliest=tuple(found.likeliest[place] for place in inside),
                )
    raise MalformedError("the tokens that the server tells are not those of the text that was sent")


def _fits(texts: Sequence[str], starts: Sequence[int], prompt: str, *, shifted: bool) -> bool:
    """Do the tokens stand where they are said to, and cover the whole text?

    Args:
        shifted: the first one stands before the text, and is no part of it.
    """
    if not starts or any(one > two for one, two in pairwise(starts)):
        return False
    first = 1 if shifted else 0
    if len(starts) <= first or starts[first] != 0:
        return False
    covered = 0
    for place in range(first, len(starts)):
        text, start = texts[place], starts[place]
        if start >= len(prompt):
            break
        if _is_piece(text) or not text:
            covered = max(covered, starts[place + 1] if place + 1 < len(starts) else len(prompt))
            continue
        if start != covered or prompt[start : start + len(text)] != text[: len(prompt) - start]:
            return False
        covered = start + len(text)
    return covered >= len(prompt)


def _is_piece(text: str) -> bool:
    return BROKEN in text or text.startswith(BYTES)


def _own_tokens(choice: Mapping[str, object], *, chat: bool) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Tokens of a written text with their log-probabilities; none where the server tells none."""
    told = choice.get("logprobs")
    if not isinstance(told, dict):
        return (), ()
    if chat or isinstance(told.get("content"), list):
        content = told.get("content")
        if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
            return (), ()
        return (
            tuple(str(each.get("token", "")) for each in content),
            tuple(finite(each.get("logprob")) for each in content),
        )
    texts, values = told.get("tokens"), told.get("token_logprobs")
    if not isinstance(texts, list) or not isinstance(values, list) or len(texts) != len(values):
        return (), ()
    return tuple(map(str, texts)), tuple(finite(value) for value in values)


def _spell(tokens: Sequence[str], text: str) -> bool:
    """Do the tokens make the text? An end token or a stop string may stand behind it."""
    joined = "".join(tokens)
    if BROKEN in joined or BYTES in joined or BROKEN in text:
        return True
    return joined.startswith(text) or text.startswith(joined) or joined.lstrip().startswith(text.lstrip())


def _list(told: Mapping[str, object], name: str) -> Sequence[object]:
    found = told.get(name)
    if not isinstance(found, list):
        raise MalformedError(f"the server tells no {name}")
    return found
