"""Generated texts become answers: white space, filters, the word for "no answer", and the task's own code.

Of a model that thinks before it answers, the answer begins behind a token (`--think-end-token`), as in
lm-evaluation-harness 0.4.13 (`postprocess_generated_text`, and its vLLM backend): behind the last such token,
without the white space there, and stop strings count from there on, since a thought may hold them. A text without the
token is the answer whole.

>>> answer_after("Is it 3? No.\\n\\n</think>\\n\\n4\\n\\nNext", token="</think>", stops=("\\n\\n",))
'4'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.engine.requests import Generated
from lmtasks.errors import UsageError
from lmtasks.evaluation.custom_results import with_custom_values
from lmtasks.evaluation.outcome import Answered, answered_text
from lmtasks.evaluation.protocols import ScoredExample
from lmtasks.evaluation.scoring import filter_names
from lmtasks.records import Json, Outcome, Row, Text
from lmtasks.task.filters import filter_answers
from lmtasks.task.kinds import kind_of
from lmtasks.task.prompt import Prompt
from lmtasks.task.task import FilterPipeline, Task


def filtered_text(
    task: Task,
    *,
    example: ScoredExample,
    prompt: Prompt,
    texts: Sequence[str],
    trained: bool,
    source: str,
) -> Answered:
    """The answer to a prompt, once for each filter.

    Args:
        texts: what the model wrote, one for each repeat. As in lm-evaluation-harness, the first that a filter leaves
            is scored.
        trained: was the model trained on such prompts?

    Raises:
        UsageError: a filter does not fit the answers.
        WorkError: the task's own code failed.
    """
    answered = answered_text(
        texts[0],
        prediction=prediction(task, texts[0], trained=trained),
        prompt=prompt.context,
        references=prompt.references,
        source=source,
    )
    if len(texts) > 1:
        answered = replace(answered, raw=list(texts))
    return with_filters(task, answered, example=example, texts=texts, trained=trained)


def with_filters(
    task: Task, answered: Answered, *, example: ScoredExample, texts: Sequence[str], trained: bool
) -> Answered:
    """An answer with what the task's filters make of the texts; as it is, where there are none."""
    text = answered.outcome
    if not isinstance(text, Text) or not task.filters:
        return with_custom_values(answered, task, example=example, results={"": [texts[0]]})
    scored: dict[str, Outcome] = {}
    left: dict[str, object] = {}
    results: dict[str, Sequence[object]] = {}
    for name, pipeline in zip(filter_names(task), task.filters, strict=True):
        answers, aggregation_input = run_filter(pipeline, texts, example.row)
        first = answers[0] if answers else ""
        scored[name] = replace(text, prediction=prediction(task, first, trained=trained))
        kept = [prediction(task, answer, trained=trained) for answer in answers]
        left[pipeline.name] = kept[0] if len(kept) == 1 else kept
        results[name] = [aggregation_input]
    first_outcome = next(iter(scored.values()))
    answer = first_outcome.prediction if isinstance(first_outcome, Text) else answered.answer
    found = replace(answered, answer=answer, scored=scored, filtered=left)
    return with_custom_values(found, task, example=example, results=results)


def run_filter(pipeline: FilterPipeline, texts: Sequence[str], row: Row) -> tuple[list[str], object]:
    """Filter the answers to one request: as texts, and as the task's own code is handed them."""
    (found,) = filter_answers(pipeline, [texts], [row])
    return ["" if answer is None else str(answer) for answer in found.answers], found.handed


def prediction(task: Task, text: str, *, trained: bool) -> str:
    """The answer in a generated text.

    White space around it is no part of an answer; only a prompted `generation` task keeps it, because its metrics have
    lm-evaluation-harness' meaning, where white space is the business of filters. (A file in the harness' schema, which
    has no key `kind`, is of that kind.)
    """
    kept = kind_of(task).keeps_white_space and not trained
    answer = text if kept else text.strip()
    return "" if "answers" in task.inputs and answer == task.no_answer else answer


def answer_after(text: str, *, token: str, stops: Sequence[str]) -> str:
    """The answer in a text: behind the last token, before the first stop string there."""
    answer = text.split(token)[-1].lstrip()
    for stop in stops:
        answer = answer.split(stop)[0]
    return answer


def check_thinking(tasks: Sequence[Task], *, token: str, settings: Mapping[str, object]) -> None:
    """Hold a think-end token, and the variables of a chat template, against what is asked.

    Raises:
        UsageError: no text is written, or thoughts would be scored as answers.
    """
    writes = any(task.output_type == "generate_until" for task in tasks)
    if token and not writes:
        names = ", ".join(task.name for task in tasks)
        raise UsageError(f"--think-end-token changes nothing: no text is written for {names}.")
    if settings.get("enable_thinking") is True and writes and not token:
        raise UsageError(
            "enable_thinking=true lets a model think before it answers, and its thoughts would be scored; say with "
            "--think-end-token where they end (</think>)."
        )


def missing_token_remark(token: str) -> str:
    """The remark on a text without the token."""
    return f"no {token!r} (--think-end-token) stands in what was written, so that all of it is the answer"


@dataclass(frozen=True, kw_only=True)
class ThinkEnd:
    """The end of a model's thoughts, for one task."""

    token: str
    """Its text."""
    stops: tuple[str, ...]
    """The task's stop strings."""
    token_id: int | None = None
    """Where it is a special token, which no decoded text holds."""
    tokenizer: Tokenizer

    def written(self, generated: Generated) -> str:
        """All that a model wrote, the token among it."""
        if self.token_id is None or self.token_id not in generated.ids:
            return generated.text
        last = len(generated.ids) - 1 - generated.ids[::-1].index(self.token_id)
        before, after = generated.ids[:last], generated.ids[last + 1 :]
        return self.tokenizer.decode(before) + self.token + self.tokenizer.decode(after)

    def answer(self, written: str) -> str:
        """The part of the text that counts."""
        return answer_after(written, token=self.token, stops=self.stops)

    def recorded(self, decoding: Json) -> Json:
        """Settings of generation as they are recorded: the engine itself is told of no stop strings."""
        return {**decoding, "stop": self.stops, "think_end_token": self.token}


def read_think_end(given: str, *, stops: tuple[str, ...], tokenizer: Tokenizer) -> ThinkEnd | None:
    """Read `--think-end-token` for a model; None where nothing is given.

    Args:
        given: a text, or the number of a token.

    Raises:
        UsageError: it is the number of no token.
    """
    if not given:
        return None
    if given.isdecimal():
        number = int(given)
        token = tokenizer.decode([number], skip_special=False) if number < tokenizer.vocabulary else ""
        if not token:
            raise UsageError(
                f"--think-end-token {given} is the number of no token: the model has {tokenizer.vocabulary}; give the "
                "token's text, as '</think>'."
            )
        return ThinkEnd(token=token, stops=stops, token_id=number, tokenizer=tokenizer)
    known = tokenizer.raw.token_to_id(given)
    special = known is not None and not tokenizer.decode([known])
    return ThinkEnd(token=given, stops=stops, token_id=known if special else None, tokenizer=tokenizer)
