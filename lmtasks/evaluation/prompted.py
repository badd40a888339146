"""Tasks answered by prompts: choices by log-likelihood, texts by generation, given texts by their likelihood.

A generation head answers this way too, from the very prompts that it was trained on.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from time import perf_counter

from lmtasks.data.encode import continuation_row, prompt_ids, rolling_windows, seq2seq_row
from lmtasks.engine.answers import likelihood_choice
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.asked import Answers, decoding_of, telling
from lmtasks.evaluation.outcome import Answered, answered_choice, answered_likelihood, answered_text
from lmtasks.evaluation.solver import Asking, Report, Solved
from lmtasks.records import Likelihood, Row
from lmtasks.task.head_input import baseline_source, scored_text
from lmtasks.task.prompt import Prompt, build_prompt, pick_shots
from lmtasks.task.task import OutputType, Task

NO_LIMIT = 1 << 40
"""Tokens: the engine does the cutting of prompts, and counts it."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A task's rows as prompts, and who answers them."""

    engine: Answers
    task: Task
    rows: Sequence[Row]
    prompts: tuple[Prompt, ...]
    trained: bool
    """Was the model trained on these prompts (a generation head)?"""
    seed: int
    report: Report

    @property
    def decodes(self) -> bool:
        """Is the model an encoder-decoder?"""
        return self.engine.model.kind == "encoder-decoder"


def solve_by_prompt(
    engine: Answers, task: Task, rows: Sequence[Row], *, asking: Asking, trained: bool, report: Report
) -> Solved:
    """Ask every row, after worked examples where they are wanted.

    Raises:
        UsageError: the task has no prompt, or it does not fit the data or the model.
        WorkError: the model yields no numbers.
    """
    prompts = tuple(_prompt(task, row, number, asking, trained) for number, row in enumerate(rows))
    asked = Asked(
        engine=engine, task=task, rows=rows, prompts=prompts, trained=trained, seed=asking.seed, report=report
    )
    started = perf_counter()
    examples, truncated = SOLVERS[task.output_type](asked)
    return Solved(
        examples=examples,
        truncated=truncated,
        seconds=perf_counter() - started,
        decoding=asdict(decoding_of(task.generation)) if task.output_type == "generate_until" else None,
    )


def _prompt(task: Task, row: Row, number: int, asking: Asking, trained: bool) -> Prompt:
    count = 0 if trained else asking.num_fewshot
    shots = pick_shots(task, pool=asking.shot_pool, row=row, row_number=number, count=count, seed=asking.seed)
    return build_prompt(task, row, shots=shots, row_number=number)


def _by_choice(asked: Asked) -> tuple[tuple[Answered, ...], int]:
    """Every choice behind the context; or the same text behind a context for each choice."""
    pairs = [
        [(context, prompt.delimiter + prompt.target) for context in prompt.contexts]
        or [(prompt.context, prompt.delimiter + choice) for choice in prompt.choices]
        for prompt in asked.prompts
    ]
    requests, cut = _score_requests(asked, [pair for group in pairs for pair in group])
    tell = telling(asked.report, stage=asked.task.name, total=len(requests), unit="requests")
    scored = iter(zip(asked.engine.score(requests, on_progress=tell), cut, strict=True))
    examples: list[Answered] = []
    truncated = 0
    for prompt, group in zip(asked.prompts, pairs, strict=True):
        mine = list(islice(scored, len(group)))
        truncated += any(was_cut or each.truncated for each, was_cut in mine)
        outcome = likelihood_choice([each for each, _ in mine], choices=prompt.choices, gold=prompt.gold)
        shown = prompt.contexts or prompt.context
        examples.append(answered_choice(outcome, prompt=shown, choices=prompt.choices))
    return tuple(examples), truncated


def _by_text(asked: Asked) -> tuple[tuple[Answered, ...], int]:
    settings = decoding_of(asked.task.generation)
    encoded = [_prompt_tokens(asked, prompt.context) for prompt in asked.prompts]
    own = asked.task.generation.seed
    seed = asked.seed if own is None else own
    requests = [
        GenerateRequest(prompt_ids=ids, settings=settings, seed=seed, number=number)
        for number, (ids, _) in enumerate(encoded)
    ]
    tell = telling(asked.report, stage=asked.task.name, total=len(requests), unit="texts")
    generated = asked.engine.generate(requests, on_progress=tell)
    examples = tuple(
        answered_text(
            answer.text,
            prediction=_prediction(asked, answer.text),
            prompt=prompt.context,
            references=prompt.references,
            source=baseline_source(asked.task, row),
        )
        for answer, prompt, row in zip(generated, asked.prompts, asked.rows, strict=True)
    )
    truncated = sum(answer.truncated or cut for answer, (_, cut) in zip(generated, encoded, strict=True))
    return examples, truncated


def _by_likelihood(asked: Asked) -> tuple[tuple[Answered, ...], int]:
    """The target behind its context."""
    requests, cut = _score_requests(
        asked, [(prompt.context, prompt.delimiter + prompt.target) for prompt in asked.prompts]
    )
    tell = telling(asked.report, stage=asked.task.name, total=len(requests), unit="requests")
    scored = asked.engine.score(requests, on_progress=tell)
    examples = tuple(
        answered_likelihood(
            _likelihood(prompt.target, logprob=each.logprob, tokens=len(each.token_logprobs), greedy=each.greedy),
            prompt=prompt.context,
            text=prompt.target,
        )
        for prompt, each in zip(asked.prompts, scored, strict=True)
    )
    return examples, sum(was_cut or each.truncated for each, was_cut in zip(scored, cut, strict=True))


def _by_rolling_likelihood(asked: Asked) -> tuple[tuple[Answered, ...], int]:
    """Whole texts, in windows; nothing is cut off."""
    texts = [scored_text(asked.task, row) for row in asked.rows]
    tokenizer = asked.engine.tokenizer
    prefix = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
    if prefix is None:
        raise UsageError(
            f"task {asked.task.name}: the first token of a text is predicted from a first or end token, and the "
            f"tokenizer of {asked.engine.model.name} has neither."
        )
    windows = [
        rolling_windows(ids, prefix=prefix, max_length=asked.engine.max_length_tokens)
        for ids in tokenizer.encode_many(texts, special=True)
    ]
    requests = [
        ScoreRequest(context_ids=window.context_ids, target_ids=window.target_ids)
        for group in windows
        for window in group
    ]
    tell = telling(asked.report, stage=asked.task.name, total=len(requests), unit="windows")
    scored = iter(asked.engine.score(requests, on_progress=tell))
    examples: list[Answered] = []
    for text, group in zip(texts, windows, strict=True):
        mine = list(islice(scored, len(group)))
        outcome = _likelihood(
            text,
            logprob=sum(each.logprob for each in mine),
            tokens=sum(len(each.token_logprobs) for each in mine),
            greedy=all(each.greedy for each in mine),
        )
        examples.append(answered_likelihood(outcome, prompt="", text=text))
    return tuple(examples), 0


SOLVERS: Mapping[OutputType, Callable[[Asked], tuple[tuple[Answered, ...], int]]] = {
    "multiple_choice": _by_choice,
    "generate_until": _by_text,
    "loglikelihood": _by_likelihood,
    "loglikelihood_rolling": _by_rolling_likelihood,
}
"""How each output type is answered: the examples, and how many of them were truncated."""


def _score_requests(asked: Asked, pairs: Sequence[tuple[str, str]]) -> tuple[list[ScoreRequest], list[bool]]:
    """Context and target as tokens, and of which of them something was cut off."""
    tokenizer, longest = asked.engine.tokenizer, asked.engine.max_length_tokens
    requests: list[ScoreRequest] = []
    cut: list[bool] = []
    for context, target in pairs:
        if asked.decodes:
            stripped = context.rstrip()
            row = seq2seq_row(
                context=stripped,
                target=context[len(stripped) :] + target,
                tokenizer=tokenizer,
                max_length=longest,
                max_target_length=longest,
                end=False,
            )
        else:
            # One token more than the model reads: the last one is only predicted.
            row = continuation_row(
                context=context, target=target, tokenizer=tokenizer, max_length=longest + 1, end=False
            )
        requests.append(ScoreRequest(context_ids=row.context_ids, target_ids=row.target_ids))
        cut.append(row.truncated)
    return requests, cut


def _prompt_tokens(asked: Asked, context: str) -> tuple[tuple[int, ...], bool]:
    """What the model reads before it writes, and whether something was cut off already."""
    tokenizer, longest = asked.engine.tokenizer, asked.engine.max_length_tokens
    if asked.decodes:
        row = seq2seq_row(
            context=context, target="", tokenizer=tokenizer, max_length=longest, max_target_length=1, end=True
        )
        return row.context_ids, row.truncated
    return prompt_ids(context, tokenizer=tokenizer, max_length=NO_LIMIT, strip=asked.trained)


def _prediction(asked: Asked, text: str) -> str:
    """The answer in a generated text.

    White space around it is no part of an answer; only a prompted `generation` task keeps it, because its metrics have
    lm-evaluation-harness' meaning, where white space is the business of filters.
    """
    kept = asked.task.kind == "generation" and not asked.trained
    answer = text if kept else text.strip()
    return "" if asked.task.kind == "span" and answer == asked.task.no_answer else answer


def _likelihood(text: str, *, logprob: float, tokens: int, greedy: bool) -> Likelihood:
    """Words as lm-evaluation-harness counts them: the pieces of a split on white space, empty ones included."""
    return Likelihood(
        logprob=logprob, tokens=tokens, words=len(re.split(r"\s+", text)), bytes=len(text.encode()), greedy=greedy
    )
