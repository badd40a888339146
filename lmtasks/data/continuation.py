"""A context and what should follow it, as tokens: for training, for scoring, and in windows over long documents.

The rules are those of lm-evaluation-harness 0.4.13 (`TemplateLM._encode_pair`, `utils.get_rolling_token_windows`):
white space at the end of the context moves to the target, both are encoded together, and the target is what stands
behind the tokens of the context.

`encode_pairs` is for scoring, many at a time, exactly as lm-evaluation-harness has it. For an encoder-decoder each side
is encoded by itself, and no end token is scored. Nothing is cut there: the engine cuts, and says. Training encodes by
`continuation_row`, which never lets a token reach over the joint: what is learned must be what a generating model sees.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ContinuationRow:
    """Token ids of a context, and of the continuation that is predicted."""

    context_ids: tuple[int, ...]
    """At least one token. For an encoder-decoder: what the encoder reads."""
    target_ids: tuple[int, ...]
    """For an encoder-decoder: what the decoder predicts, without its start token."""
    truncated: bool


def continuation_row(*, context: str, target: str, tokenizer: Tokenizer, max_length: int, end: bool) -> ContinuationRow:
    """Context and target for a causal model, `len(context_ids) + len(target_ids) <= max_length`.

    Too long a context loses its first tokens; a target that alone is too long loses its last ones. (The harness lets a
    row have one token more, because the last token of the target is never read: pass `max_length + 1` for that.)

    Where encoding both together changes the context's own tokens (`中` + `国`, one token together), they are encoded
    apart: that is what a generating model sees. The harness counts off tokens there, and loses characters.

    Args:
        context: may be empty; then the tokenizer's first token (or end token) stands for it.
        target: what should follow, with the delimiter before it.
        tokenizer: how to encode; its own first token is put before the context, if it has the habit.
        max_length: tokens of context and target together, 2 or more.
        end: append the end token to the target (training; the harness scores none).

    Raises:
        UsageError: the tokenizer lacks the token that is needed, the target is empty, or `max_length` is under 2.
    """
    if max_length < 2:
        raise UsageError(f"a row needs 2 tokens or more, one to read and one to predict; the length was {max_length}.")
    stripped = context.rstrip()
    target = context[len(stripped) :] + target
    if stripped:
        context_ids, target_ids = _encode_pair(stripped, target, tokenizer=tokenizer)
        context_ids = _with_leading(context_ids, tokenizer=tokenizer)
    else:
        start = [_first(tokenizer)]
        target_ids = tokenizer.encode(target)
        # A target that brings the first token itself is not asked to predict it.
        context_ids, target_ids = start, target_ids[1:] if target_ids[:1] == start else target_ids
    if end:
        target_ids = [*target_ids, _end(tokenizer)]
    if not target_ids:
        raise UsageError("the target is an empty text, so there is nothing to predict; check the task's targets.")
    kept_target = target_ids[: max_length - 1]
    kept_context = context_ids[-(max_length - len(kept_target)) :]
    truncated = len(kept_context) + len(kept_target) < len(context_ids) + len(target_ids)
    return ContinuationRow(context_ids=tuple(kept_context), target_ids=tuple(kept_target), truncated=truncated)


def seq2seq_row(
    *,
    context: str,
    target: str,
    tokenizer: Tokenizer,
    max_length: int,
    max_target_length: int | None = None,
    end: bool = True,
) -> ContinuationRow:
    """Source and target for an encoder-decoder, each with its own length.

    The source keeps what the tokenizer puts around a text; too long, it loses the first tokens of the text itself.
    The target has nothing around it, and with `end` the end token behind it (for training; the harness scores none).

    Args:
        context: the source.
        target: what the decoder predicts.
        tokenizer: how to encode.
        max_length: tokens of the source.
        max_target_length: tokens of the target; None: as many as the source may have.
        end: append the end token to the target.

    Raises:
        UsageError: the tokenizer lacks an end token, the target is empty, or `max_length` holds no text.
    """
    max_target_length = max_length if max_target_length is None else max_target_length
    text = tokenizer.encode(context)
    before, after = _around(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UsageError(f"a length of {max_length} tokens holds no text besides the tokenizer's own tokens.")
    target_ids = tokenizer.encode(target)
    if end:
        target_ids = [*target_ids, _end(tokenizer)]
    if not target_ids:
        raise UsageError("the target is an empty text, so there is nothing to predict; check the task's targets.")
    return ContinuationRow(
        context_ids=(*before, *text[-room:], *after),
        target_ids=tuple(target_ids[:max_target_length]),
        truncated=len(text) > room or len(target_ids) > max_target_length,
    )


def rolling_windows(
    ids: Sequence[int], *, prefix: int, max_length: int, context: int = 1
) -> tuple[ContinuationRow, ...]:
    """Windows in which every token of a document is predicted once, the last window with the longest context.

    Args:
        ids: the document's tokens; none: no window.
        prefix: the token that stands before the first one.
        max_length: tokens that the model reads at once. A window has up to one more, for its last token is never read.
        context: tokens that each later window has before what it predicts, at least.

    >>> for window in rolling_windows(range(10), prefix=-1, max_length=4):
    ...     print(window.context_ids, window.target_ids)
    (-1,) (0, 1, 2, 3)
    (3,) (4, 5, 6, 7)
    (5, 6, 7) (8, 9)

    Raises:
        UsageError: `context` is not between 1 and `max_length`.
    """
    if not 1 <= context <= max_length:
        raise UsageError(f"the context must have 1 to {max_length} tokens (the longest input), was {context}.")
    windows: list[ContinuationRow] = []
    done = min(max_length, len(ids))
    if done:
        windows.append(ContinuationRow(context_ids=(prefix,), target_ids=tuple(ids[:done]), truncated=False))
    while done < len(ids):
        count = min(len(ids) - done, max_length - context + 1)
        end = done + count
        # The model reads ids[end - max_length - 1 : end - 1]; all of it but the last count - 1 tokens is context.
        read = tuple(ids[end - max_length - 1 : done])
        windows.append(ContinuationRow(context_ids=read, target_ids=tuple(ids[done:end]), truncated=False))
        done = end
    return tuple(windows)


def prompt_ids(context: str, *, tokenizer: Tokenizer, max_length: int, strip: bool) -> tuple[tuple[int, ...], bool]:
    """Token ids of a causal model's prompt, and whether its first tokens were cut off.

    Args:
        context: may be empty.
        max_length: tokens that stay.
        strip: leave out white space at the end, which `continuation_row` has taught the model to write itself.
            The harness does not, nor should a model that was not adapted.
    """
    text = context.rstrip() if strip else context
    ids = _with_leading(tokenizer.encode(text), tokenizer=tokenizer) if text else [_first(tokenizer)]
    return tuple(ids[-max_length:]), len(ids) > max_length


def _encode_pair(context: str, target: str, *, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    whole, alone = tokenizer.encode_many([context + target, context])
    if whole[: len(alone)] == alone and (len(whole) > len(alone) or not target):
        return alone, whole[len(alone) :]
    return alone, tokenizer.encode(target)


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before and behind a text by default."""
    bare, dressed = tokenizer.encode("a"), tokenizer.encode("a", special=True)
    for before in range(len(dressed) - len(bare) + 1):
        if dressed[before : before + len(bare)] == bare:
            return dressed[:before], dressed[before + len(bare) :]
    return [], []


def _with_leading(ids: list[int], *, tokenizer: Tokenizer) -> list[int]:
    """With the tokenizer's first token before them, unless the text brought it along."""
    own, _ = _around(tokenizer)
    return ids if ids[: len(own)] == own else [*own, *ids]


def _first(tokenizer: Tokenizer) -> int:
    first = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
    if first is None:
        raise UsageError("an empty context needs the tokenizer's first or end token, and it has neither.")
    return first


def _end(tokenizer: Tokenizer) -> int:
    if tokenizer.eos is None:
        raise UsageError("the tokenizer has no end token, so that a model cannot learn where a target ends.")
    return tokenizer.eos


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
