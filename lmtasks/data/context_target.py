"""Contexts and what is scored behind them as tokens, many at a time, exactly as lm-evaluation-harness 0.4.13 has it.

`TemplateLM._encode_pair`, `HFLM.tok_encode`: white space at the end of the context moves to the target. For a causal
model both are encoded together, and the target is what stands behind as many tokens as the context alone has. For an
encoder-decoder each is encoded by itself, and no end token is scored. Nothing is cut here: the engine cuts, and says.

Training encodes by `continuation_row`, which never lets a token reach over the joint: what is learned must be what a
generating model sees. Scoring must give the harness' numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A context and a target as tokens, whole."""

    context_ids: tuple[int, ...]
    """At least one. For an encoder-decoder: what the encoder reads."""
    target_ids: tuple[int, ...]
    """Empty where the target has no text."""


def encode_pairs(pairs: Sequence[tuple[str, str]], *, tokenizer: Tokenizer, decodes: bool) -> list[Pair]:
    """Tokens of (context, target) pairs; each different text is encoded once.

    Args:
        pairs: the target with the delimiter before it.
        decodes: is the model an encoder-decoder?

    Raises:
        UsageError: a context is empty, and the tokenizer has neither a first nor an end token.
    """
    moved = [_moved(context, target) for context, target in pairs]
    contexts = _encode((context for context, _ in moved if context), tokenizer=tokenizer, special=True)
    if decodes:
        targets = _encode((target for _, target in moved), tokenizer=tokenizer, special=False)
        return [
            Pair(context_ids=contexts[context], target_ids=targets[target])
            if context
            else _after_prefix(targets[target], tokenizer=tokenizer)
            for context, target in moved
        ]
    wholes = _encode((context + target for context, target in moved if context), tokenizer=tokenizer, special=True)
    alone = _encode((target for context, target in moved if not context), tokenizer=tokenizer, special=False)
    return [
        _after(contexts[context], wholes[context + target], target=target, tokenizer=tokenizer)
        if context
        else _after_prefix(alone[target], tokenizer=tokenizer)
        for context, target in moved
    ]


def encode_texts(texts: Sequence[str], *, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """Tokens of whole texts, with what the tokenizer puts around a text, unless a text brings the first token itself.

    An empty text has no tokens but those.
    """
    encoded = _encode(texts, tokenizer=tokenizer, special=True)
    return [encoded[text] for text in texts]


def prefix_token(tokenizer: Tokenizer) -> int:
    """The token before the beginning of a text: the first token, else the end token.

    Raises:
        UsageError: the tokenizer has neither.
    """
    first = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
    if first is None:
        raise UsageError("the first token of a text is predicted from a first or end token; the tokenizer has neither.")
    return first


def end_tokens(tokenizer: Tokenizer, *, lines: bool) -> tuple[int, ...]:
    """Tokens that end a text; with `lines` also the end of a line, where it is a token of its own."""
    special = {tokenizer.pad, tokenizer.bos, tokenizer.eos} - {None}
    found = {token for token in special if token is not None}
    line = tokenizer.encode("\n")
    if lines and len(line) == 1 and tokenizer.decode(line, skip_special=False) == "\n":
        found.add(line[0])
    return tuple(sorted(found))


def _encode(texts: Iterable[str], *, tokenizer: Tokenizer, special: bool) -> dict[str, tuple[int, ...]]:
    """Each different text to its tokens."""
    brought = _prefix_text(tokenizer) if special else ""
    different = list(dict.fromkeys(texts))
    own = [text for text in different if brought and text.startswith(brought)]
    others = [text for text in different if not (brought and text.startswith(brought))]
    found = dict(zip(own, map(tuple, tokenizer.encode_many(own)), strict=True))
    return found | dict(zip(others, map(tuple, tokenizer.encode_many(others, special=special)), strict=True))


def _moved(context: str, target: str) -> tuple[str, str]:
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + target


def _after(context: tuple[int, ...], whole: tuple[int, ...], *, target: str, tokenizer: Tokenizer) -> Pair:
    ids = whole[len(context) :]
    if not ids and target:
        # One token swallowed the joint and all behind it: the harness stops here, we encode the target by itself.
        ids = tuple(tokenizer.encode(target))
    return Pair(context_ids=context, target_ids=ids)


def _after_prefix(target: tuple[int, ...], *, tokenizer: Tokenizer) -> Pair:
    """A target that brings the first token itself is not asked to predict it."""
    prefix = prefix_token(tokenizer)
    return Pair(context_ids=(prefix,), target_ids=target[1:] if target[:1] == (prefix,) else target)


def _prefix_text(tokenizer: Tokenizer) -> str:
    first = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
    return "" if first is None else tokenizer.decode([first], skip_special=False)
