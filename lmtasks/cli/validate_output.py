"""Output of `lmtasks validate`: a task and a plan, one section each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lmtasks.errors import LmtasksError, UsageError

if TYPE_CHECKING:
    from lmtasks.evaluation.protocols import InferenceEngine
    from lmtasks.records import Progress
    from lmtasks.results.cell import RowsAsked
    from lmtasks.task.groups import Group
    from lmtasks.task.index import TaskIndex
    from lmtasks.task.prompt import Prompt
    from lmtasks.task.task import FilterStep, Source, Task
    from lmtasks.workflow.request_stats import OwnAnswers
    from lmtasks.workflow.split_check import CheckOptions, SplitCheck
    from lmtasks.workflow.validate import TaskCheck

LONGEST = 400
"""Characters of an example that are shown."""
LISTED = 12
OWN_TEXTS_ASK: Mapping[str, str] = {
    "hypothesis": "a likelihood for each hypothesis",
    "pair": "an answer to each of two texts",
}
"""By the form of answer, where rows bring the texts along that are asked."""
EACH_ROW_ASKS: Mapping[str, str] = {
    "loglikelihood": "1 likelihood",
    "loglikelihood_rolling": "1 likelihood (more for a long text)",
    "generate_until": "1 text",
}


def metric_names(task: Task) -> Sequence[str]:
    """The task's metrics under the names that results have, each checked.

    Raises:
        UsageError: one is unknown, does not fit, or has a wrong option.
    """
    from lmtasks.evaluation.scoring import scorings_for

    return [scoring.name for scoring in scorings_for(task)]


def print_group(group: Group) -> None:
    """One section."""
    print(f"group {group.name}: {len(group.tasks)} tasks, {_names(group.tasks)}")
    for line in group.aggregations:
        mean = "by their number of examples" if line.weight_by_size else "alike"
        filters = f" of {', '.join(line.filters)}" if line.filters else ""
        print(f"  {line.metric}{filters}: the mean, tasks count {mean}")


def print_task(check: TaskCheck, *, metrics: Sequence[str], engine: InferenceEngine | None) -> None:
    """One section."""
    task = check.task
    file = f" ({task.file})" if task.file else ""
    print(f"task {task.name}: {task.kind}, {task.language}, hash {task.hash}{file}")
    if task.about:
        print(f"  {task.about}")
    print(f"  metrics: {', '.join(metrics)}")
    for pipeline in task.filters:
        print(f"  filter {pipeline.name}: {', '.join(map(_step, pipeline.steps))}")
    if task.inputs:
        print(f"  a head reads: {', '.join(f'{role} from {column!r}' for role, column in task.inputs.items())}")
    if task.labels:
        print(f"  labels: {_names(task.labels)}")
    for split in check.splits:
        _split(split)
    _overlaps(check)
    _requests(task, check, engine)
    for number, prompt in enumerate(check.shown):
        print(f"  row {number}:")
        _prompt(prompt)


def _step(step: FilterStep) -> str:
    """A step with its options: `regex(regex_pattern='...')`, `!function utils.clean`."""
    name = step.function if isinstance(step.function, str) else _shown_value(step.function)
    told = ", ".join(f"{key}={_shown_value(value)}" for key, value in step.options.items())
    return f"{name}({told})" if told else name


def _shown_value(value: object) -> str:
    from lmtasks.task.functions import FunctionRef

    return f"!function {value.qualified}" if isinstance(value, FunctionRef) else repr(value)


def _split(split: SplitCheck) -> None:
    what = f"  {split.role} ({split.source.split} of {_named(split.source)}):"
    if split.lacking:
        print(f"{what} not in the mirror, not looked at: {split.lacking}")
        return
    if not split.where:
        print(f"{what} not on this machine, not looked at (--offline)")
        return
    counted = f"{split.rows} rows" if split.whole else f"its first {split.rows} rows looked at"
    print(f"{what} {counted}, {split.where}")
    print(f"    columns: {', '.join(split.columns)}")
    if split.wrong:
        print(f"    WRONG in {split.wrong} of {split.rows} rows; the first: {split.first_wrong}")


def _overlaps(check: TaskCheck) -> None:
    if not check.compared:
        print("  the same document in training and scored rows: not compared, since not all rows were looked at")
    elif not check.overlaps:
        print("  no training rows and no few-shot pool that the scored rows could also stand in")
    for overlap in check.overlaps:
        if overlap.targets:
            share = 100 * overlap.targets / check.rows
            told = f"{overlap.targets} of {check.rows} scored rows ({share:.2g}%)"
            print(f"  the same right text in {overlap.split} and in the scored split: {told}")
        what = f"  the same document in {overlap.split} and in the scored split:"
        if not overlap.rows:
            print(f"{what} none")
            continue
        share = 100 * overlap.rows / check.rows
        print(f"{what} {overlap.rows} of {check.rows} scored rows ({share:.2g}%), the first is row {overlap.first}")


def _requests(task: Task, check: TaskCheck, engine: InferenceEngine | None) -> None:
    from lmtasks.report.format import duration

    if check.reason and engine is not None:
        print(f"  {engine.model.name} cannot be asked: {check.reason}")
        return
    if not check.way:
        print("  no prompt (doc_to_text); a model answers with a head that was adapted to the task")
        return
    if not check.requests:
        print("  nothing is asked: no scored row was looked at")
        return
    shots = f" after {check.shots} worked examples" if check.shots else ""
    by = "by a head" if check.way == "head" else f"by prompt{shots}, a row asks for {_asks(task, check)}"
    print(f"  asked {by}; {check.requests} requests in all{_decoding(task, check, engine)}")
    if check.own_answers is not None:
        print(f"  prompts that hold their own answer among the worked examples: {_own_answers(check.own_answers)}")
    if check.lengths is not None:
        of = f" of {engine.model.name}" if engine else ""
        lengths = check.lengths
        print(
            f"  a request has {lengths.least} to {lengths.most} {lengths.unit}{of}, half of them at most "
            f"{lengths.median}, 95% at most {lengths.most_of}" + ("" if engine else " (--model MODEL counts tokens)")
        )
    if engine is not None:
        longest = engine.max_length_tokens
        print(f"  longer than the {longest} tokens that the model takes, and cut: {check.cut or 'none'}")
    if check.estimated is not None and engine is not None:
        card = engine.card
        about = duration(check.estimated.seconds, whole=True)
        print(
            f"  time: about {about}; an estimate from {check.estimated.timed_rows} rows that took "
            f"{check.estimated.timed_seconds:.2g} s in {card.runtime} {card.precision} on {card.device}, "
            f"{card.threads} threads, loading and statistics not counted"
        )


def _own_answers(found: OwnAnswers) -> str:
    lm_eval = "cannot be drawn" if found.too_few else str(found.lm_eval or "none")
    return f"{found.ours or 'none'}; as --fewshot-stream lm-eval draws them: {lm_eval}"


def _asks(task: Task, check: TaskCheck) -> str:
    from lmtasks.task.kinds import kind_of

    own = OWN_TEXTS_ASK.get(kind_of(task).answer)
    if own is not None:
        return own
    if task.output_type in EACH_ROW_ASKS:
        one = EACH_ROW_ASKS[task.output_type]
        return one if task.repeats == 1 else f"{task.repeats} texts"
    counts = {len(prompt.contexts or prompt.choices) for prompt in check.shown}
    return f"{counts.pop()} likelihoods" if len(counts) == 1 else "a likelihood for each choice"


def _decoding(task: Task, check: TaskCheck, engine: InferenceEngine | None) -> str:
    if task.output_type != "generate_until" or check.way == "head":
        return ""
    from lmtasks.evaluation.protocols import decoding_for, decoding_of

    asked = decoding_of(task.generation) if engine is None else decoding_for(engine.model, task.generation)
    stops = ", ".join(repr(stop) for stop in task.generation.stop) or "nothing"
    return f", each at most {asked.max_new_tokens} new tokens, ended by {stops}"


def _prompt(prompt: Prompt) -> None:
    if prompt.contexts:
        for place, context in enumerate(prompt.contexts):
            _shown("right prompt" if place in prompt.gold else "wrong prompt", context)
        _shown("behind each", f"{prompt.delimiter}{prompt.target}")
        return
    _shown("prompt", prompt.context)
    _shown("right", f"{prompt.delimiter}{prompt.target}")
    if prompt.choices:
        print(f"      choices: {', '.join(repr(choice) for choice in prompt.choices[:LISTED])}")


def _shown(name: str, text: str) -> None:
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
    print(f"      {name}: {cut!r}")


def print_plan(
    ref: str, *, index: TaskIndex, trust_code: bool, options: CheckOptions, report: Callable[[Progress], None]
) -> LmtasksError | None:
    """One section; returns what the run would fail over first.

    Raises:
        UsageError: the plan cannot be read, or a task of it.
    """
    from lmtasks.run.plan import find_plan, load_plan
    from lmtasks.run.preflight import check_plan
    from lmtasks.run.trials import sweep_text, trials_of
    from lmtasks.settings.attention import ATTENTION_IN_WORDS
    from lmtasks.task.changes import with_clean

    file = find_plan(ref)
    plan = load_plan(file)
    tasks = with_clean(index.find(",".join(plan.tasks), trust_code=trust_code))
    check = check_plan(plan, tasks, options=options, report=report)
    print(f"plan {plan.plan}, hash {plan.hash} ({file})")
    if plan.question:
        print(f"  {plan.question}")
    print(f"  tasks: {_names([task.name for task in tasks])}")
    for name, seen in check.rows.items():
        print(f"    {name}: {seen}")
    for name, model in plan.models.items():
        where = ",".join(model.tasks)
        trained = index.find(where, trust_code=trust_code) if where else tasks
        learned = [task.name for task in trained if "train" in task.sources]
        apart = "" if model.together else ", a model for each"
        how = "used as it is" if model.adaptation == "prompt" else f"{model.adaptation}, on {_names(learned)}{apart}"
        read = "" if model.attention is None else f" read {ATTENTION_IN_WORDS[model.attention]}"
        start = f"{model.backbone}{read}{' from scratch' * model.from_scratch}"
        print(f"  model {name}: {start}, {how}; {check.opened[name]}")
        if model.sweep is not None:
            print(f"    {sweep_text(model.sweep)}")
    cells = 0
    for variant in plan.variants:
        answered = len(variant.tasks) or len(tasks)
        cells += answered * len(trials_of(plan, variant))
        what = (
            ", ".join(variant.baseline) or f"{variant.model} on {variant.runtime} {variant.device} {variant.precision}"
        )
        card = f"; {check.opened[variant.name]}" if variant.name in check.opened else ""
        print(f"  variant {variant.name}: {what}, {answered} tasks{card}")
    seeds = f", seeds {', '.join(map(str, plan.seeds))}" if len(plan.seeds) > 1 else ""
    limit = f", the first {plan.limit} rows of each task" if plan.limit else ""
    limit = f", {plan.sample} rows drawn of each task" if plan.sample else limit
    speed = ", then speed, a process for each variant" if plan.bench else ""
    rows = f", each learned from {', '.join(map(_rows_asked, plan.rows))} rows" if plan.rows else ""
    for name, told in check.few_rows.items():
        print(f"    {name}: {told}")
    print(f"  {_trainings(check.trainings)}")
    print(f"  {cells} cells{rows}{seeds}{limit}{speed}")
    if not check.problems:
        return None
    more = f" (and {len(check.problems) - 1} more: {' '.join(check.problems[1:4])})" if check.problems[1:] else ""
    return UsageError(f"{check.problems[0]}{more}")


def _trainings(counts: Mapping[str, int]) -> str:
    """How often a model is trained or fitted."""
    total = sum(counts.values())
    each = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    return f"{total:,} training{'' if total == 1 else 's'}: {each}" if total else "nothing is trained"


def _rows_asked(rows: RowsAsked) -> str:
    return f"{rows:,}" if isinstance(rows, int) else str(rows)


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:LISTED])}{f', ... ({len(names)})' if len(names) > LISTED else ''}"


def _named(source: Source) -> str:
    if source.data_files:
        return str(source.data_files.get(source.split, source.path))
    name = f"{source.path}/{source.name}" if source.name else source.path
    return f"{name}, in place of {source.stands_for}" if source.stands_for else name
