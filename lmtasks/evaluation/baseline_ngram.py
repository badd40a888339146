"""n-grams of the training text: how likely they say the scored texts are.

It is the family `ngram` with its own defaults, over byte-level BPE, whose tokens say every text; where counts define no
discounts (a small text), it takes the usual ones (`fallback=1`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmtasks.backbone.closed_form import FITTED, NgramSizes
from lmtasks.backbone.kneser_ney import count_ngrams, kneser_ney
from lmtasks.backbone.ngram import Ngram
from lmtasks.data.context_target import encode_pairs, encode_texts, end_tokens, prefix_token
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered, AnswerRows, answered_likelihood
from lmtasks.evaluation.rolling import likelihood_of
from lmtasks.records import Ints, Row
from lmtasks.task.kinds import scored_text
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task

AS_LIKELY = 1e-5
"""Log-probabilities nearer than this are equal."""


def fit_ngram(task: Task, train: Sequence[Row], seed: int) -> AnswerRows:
    """Count the training rows.

    Raises:
        UsageError: they are too short for its order.
    """
    texts = [scored_text(task, row) for row in train]
    sizes = FITTED["ngram"].sizes
    assert isinstance(sizes, NgramSizes)  # as the table has it
    try:
        tokenizer = learn_tokenizer(FITTED["ngram"].text_tokenizer, texts)
        ends = end_tokens(tokenizer, lines=bool(sizes.lines))
        rows = [np.array([prefix_token(tokenizer), *ids], dtype=np.int64) for ids in _encoded(task, texts, tokenizer)]
        if task.windows.concatenate:
            rows = [np.concatenate([rows[0], *(row[1:] for row in rows[1:])])]
        counts = count_ngrams(rows, order=sizes.order, vocabulary=tokenizer.vocabulary, ends=ends)
        model = kneser_ney(counts, cutoffs=sizes.cutoffs, fallback=True)
    except UsageError as error:
        raise UsageError(f"task {task.name}: {error}") from error
    return lambda rows: [_answered(asked, tokenizer) for asked in _scored(task, rows, model, tokenizer)]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One text."""

    text: str
    context: str
    ids: tuple[int, ...]
    """Of the text alone."""
    tokens: int
    """That were scored; what stands between two texts counts to the one behind."""
    logprob: float
    greedy: bool


def _scored(task: Task, rows: Sequence[Row], model: Ngram, tokenizer: Tokenizer) -> Iterator[_Asked]:
    begun = model.read(model.start(1), np.array([[prefix_token(tokenizer)]]))[:, -1]
    if task.output_type == "loglikelihood":
        prompts = [build_prompt(task, row, row_number=number) for number, row in enumerate(rows)]
        pairs = encode_pairs(
            [(prompt.context, prompt.delimiter + prompt.target) for prompt in prompts],
            tokenizer=tokenizer,
            decodes=False,
        )
        for prompt, pair in zip(prompts, pairs, strict=True):
            state = model.read(model.start(1), np.array([pair.context_ids]))[:, -1]
            logprob, greedy, _ = _read(model, state, pair.target_ids)
            yield _Asked(
                text=prompt.target, context=prompt.context, ids=pair.target_ids, tokens=len(pair.target_ids),
                logprob=logprob, greedy=greedy,
            )  # fmt: skip
        return
    texts = [scored_text(task, row) for row in rows]
    state = begun
    between = len(tokenizer.encode(task.windows.between)) if task.windows.concatenate else 0
    for number, (text, ids) in enumerate(zip(texts, _encoded(task, texts, tokenizer), strict=True)):
        logprob, greedy, after = _read(model, state, ids)
        own = ids[between:] if number else ids
        yield _Asked(text=text, context="", ids=own, tokens=len(ids), logprob=logprob, greedy=greedy)
        state = after if task.windows.concatenate else begun


def _encoded(task: Task, texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[tuple[int, ...]]:
    """Tokens of each text; with what stands before it, where all are one text."""
    if not task.windows.concatenate:
        yield from encode_texts(texts, tokenizer=tokenizer)
        return
    between = tokenizer.encode(task.windows.between)
    for number, ids in enumerate(tokenizer.encode_many(texts)):
        yield (*(between if number else ()), *ids)


def _read(model: Ngram, state: Ints, ids: Sequence[int]) -> tuple[float, bool, Ints]:
    """Log-probability of tokens behind a state, whether each was the likeliest, and the state behind them."""
    tokens = np.array(ids, dtype=np.int64)
    if not len(tokens):
        return 0.0, True, state
    after = model.read(state, tokens[None])[0]
    states = np.concatenate([state, after[:-1]])
    logprobs = model.score(states, tokens)
    return float(logprobs.sum(dtype=np.float64)), bool((logprobs >= model.best(states) - AS_LIKELY).all()), after[-1:]


def _answered(asked: _Asked, tokenizer: Tokenizer) -> Answered:
    outcome = likelihood_of(
        asked.text, asked.ids, tokenizer=tokenizer, logprob=asked.logprob, tokens=asked.tokens, greedy=asked.greedy
    )
    return answered_likelihood(outcome, prompt=asked.context, text=asked.text)
