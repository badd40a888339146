"""Generated texts become answers: white space, filters, the word for "no answer", and the task's own code."""

from collections.abc import Sequence
from dataclasses import replace

from lmtasks.evaluation.custom_results import with_made
from lmtasks.evaluation.outcome import Answered, answered_text
from lmtasks.evaluation.pending import ScoredExample
from lmtasks.evaluation.scoring import filter_names
from lmtasks.records import Outcome, Row, Text
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
        return with_made(answered, task, example=example, results={"": [texts[0]]})
    scored: dict[str, Outcome] = {}
    left: dict[str, object] = {}
    results: dict[str, Sequence[object]] = {}
    for name, pipeline in zip(filter_names(task), task.filters, strict=True):
        answers, handed_on = run_filter(pipeline, texts, example.row)
        first = answers[0] if answers else ""
        scored[name] = replace(text, prediction=prediction(task, first, trained=trained))
        kept = [prediction(task, answer, trained=trained) for answer in answers]
        left[pipeline.name] = kept[0] if len(kept) == 1 else kept
        results[name] = [handed_on]
    first_outcome = next(iter(scored.values()))
    answer = first_outcome.prediction if isinstance(first_outcome, Text) else answered.answer
    found = replace(answered, answer=answer, scored=scored, filtered=left)
    return with_made(found, task, example=example, results=results)


def run_filter(pipeline: FilterPipeline, texts: Sequence[str], row: Row) -> tuple[list[str], object]:
    """What a filter leaves of the answers to one request, as texts; and as the task's own code is handed it."""
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
