"""Contracts of every kind of task and every head, over all lines of both tables."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import lmtasks
from lmtasks.data.examples import ReadingSettings, row_encoder
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.errors import UsageError
from lmtasks.evaluation.baselines import BASELINES
from lmtasks.head import HEADS, Head
from lmtasks.head.base import IGNORED
from lmtasks.head.module import build_head
from lmtasks.metric import make_metric
from lmtasks.metric.base import KINDS as OUTCOMES
from lmtasks.records import HeadInput, HeadSpec
from lmtasks.task.kinds import KINDS, TaskKind, head_input, infer_kind
from lmtasks.task.resolve import resolve
from lmtasks.task.schema import SourceFile, TaskFile
from lmtasks.task.task import Task
from lmtasks.workflow.unlabelled_rows import task_of_head

LABELS = ("O", "B-X", "I-X")
GIVEN = HeadInput(
    first="who rang",
    second="ann rang",
    label=1,
    answers=("ann",),
    starts=(0,),
    tokens=("who", "rang"),
    tags=(1, 0),
    predicate=1,
    candidates=("ann rang",),
    labels=(0, 2),
    number=2.5,
)
ROWS = {
    "text": "who rang",
    "pair": "ann rang",
    "question": "who rang",
    "candidates": ["ann rang", "bob rang"],
    "context": "ann rang",
    "tokens": ["who", "rang"],
    "predicate": 1,
    "hypotheses": [{"text": "who ran", "acoustic": -2.0}, {"text": "who rang", "acoustic": -3.0}],
    "references": "who rang",
    "first": "he rang",
    "second": "she rang",
}
PREDICTING = [name for name, head in HEADS.items() if head.predicts]

over_kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
over_heads = pytest.mark.parametrize("head", [HEADS[name] for name in PREDICTING], ids=PREDICTING)


def task_of(kind: TaskKind) -> Task:
    """The least task of a kind: its roles are columns of their own names."""
    return resolve(
        TaskFile(
            task="t",
            kind=kind.name,
            dataset_path="json",
            sources={"test": SourceFile(split="test")},
            inputs={role: role for role in (kind.roles or kind.prompted_roles or kind.optional_roles)},
            labels=list(LABELS) if kind.labelled else [],
            doc_to_text="{{q}}" if kind.prompted else None,
            doc_to_target="" if kind.answer == "choice" else "{{a}}",
            doc_to_choice=["x", "y"] if kind.answer == "choice" else None,
        ),
        path=None,
        base=None,
    )


@over_kinds
def test_a_kind_names_what_there_is(kind: TaskKind) -> None:
    """Its head, its metrics for its outcomes, and baselines that can answer in its form."""
    head = HEADS[kind.head]
    assert head.predicts == bool(kind.roles)
    assert head.labelled == (kind.labelled and head.predicts)
    assert kind.about
    assert kind.baselines
    for name in kind.metrics:
        make_metric(name, takes=kind.outcome, language="en", labels=LABELS if kind.labelled else (), options={})
    for name in kind.baselines:
        assert kind.answer in BASELINES[name].answers
    assert not kind.answer_role or kind.answer_role in kind.roles
    assert kind.source_role in ("", *kind.read_roles)


def test_each_output_type_implies_one_kind() -> None:
    for output in ("loglikelihood", "loglikelihood_rolling", "multiple_choice", "generate_until"):
        (implied,) = [kind for kind in KINDS.values() if output in kind.implied_by]
        assert infer_kind(kind=None, output_type=output) == implied.name
        assert output in implied.output_types


@over_kinds
def test_a_kind_reads_a_row_with_and_without_its_answer(kind: TaskKind) -> None:
    task = task_of(kind)
    row = {**ROWS, "q": "who rang", "a": "ann"}
    if kind.answer_role:
        row[kind.answer_role] = kind.blank_answer(task, row)
    if kind.answer != "choice":  # its right answer is a number among the row's choices
        labelled = head_input(task, row, row_number=3)
        assert labelled.first
        assert kind.learned_texts(task, row, row_number=3)
    row.pop(kind.answer_role, None)
    if kind.roles:
        unlabelled = head_input(task, row, row_number=3, labelled=False)
        assert unlabelled.first
        with pytest.raises(UsageError, match="task t"):
            head_input(task, {}, row_number=3, labelled=False)


@over_heads
def test_a_head_encodes_learns_and_answers(head: Head) -> None:
    """Its rows, targets, logits, shape, loss and outcome fit each other, whatever the padding."""
    tokenizer = learn_tokenizer("words:20", ["who rang ann"])
    encoded = head.encode(GIVEN, tokenizer=tokenizer, max_length=32, causal=True)
    spec = HeadSpec(name="h", kind=head.name, labels=LABELS if head.labelled else (), mean=2.0, deviation=0.5, width=8)
    module = build_head(spec, width=8)
    assert module is not None
    assert dict(module.named_children()).keys() == {"dropout", *head.layers(spec, width=8)}
    ((row, own),) = encoded.targets()
    targets = head.learned(spec, own)
    hidden, mask = torch.randn(2, len(row.ids) + 3, 8), torch.zeros(2, len(row.ids) + 3, dtype=torch.bool)
    mask[:, : len(row.ids)] = True
    logits = module.eval()(hidden, mask)
    shape = head.shape(spec, tokens=hidden.shape[1])
    assert logits.shape == (2, *shape)
    assert len(shape) == 1 + head.per_token
    if head.over_tokens:
        assert (logits[:, len(row.ids) :] == head.padding).all()
    per_token = head.per_token and len(targets) == len(row.ids)
    wide = torch.full((2, hidden.shape[1] if per_token else len(targets)), IGNORED, dtype=torch.tensor(targets).dtype)
    wide[:, : len(targets)] = torch.tensor(targets)
    learned = logits if row.apart is None else torch.stack([logits, logits.flip(0)], dim=1)  # read apart
    assert head.loss(learned, wide, smoothing=0.1).ndim == 0
    right, count = head.judged(learned.detach(), wide)
    assert 0 <= head.score(right, count) <= 1
    for table in head.choices(logits.detach().numpy(), mask.numpy()):
        assert table.ndim == 2
        assert np.abs(table).max() < abs(head.padding) or not head.over_tokens
    alone = logits[0, : len(row.ids)] if head.per_token else logits[0]
    answer = head.answers(spec, alone.detach().numpy())
    outcome = encoded.outcome([answer] * len(encoded.rows), labels=LABELS, order=range(len(LABELS)))
    kinds = [kind for kind in KINDS.values() if kind.head == head.name]
    assert isinstance(outcome, OUTCOMES[kinds[0].outcome])


@pytest.mark.parametrize("name", HEADS)
def test_a_spec_knows_without_the_table_whether_it_predicts(name: str) -> None:
    spec = HeadSpec(name="h", kind=name, labels=("x", "y"))
    assert spec.predicts == HEADS[name].predicts
    assert (build_head(spec, width=4) is None) == (not spec.predicts)


@pytest.mark.parametrize("name", PREDICTING)
def test_a_head_alone_tells_what_it_is_asked(name: str) -> None:
    task = task_of_head(HeadSpec(name="h", kind=name, labels=LABELS if HEADS[name].labelled else ()))
    assert KINDS[task.kind].head == name


def _mentions(word: str) -> Iterator[str]:
    root = Path(lmtasks.__file__).parent
    for file in sorted(root.rglob("*.py")):
        if word in file.read_text(encoding="utf-8"):
            yield str(file.relative_to(root))


def test_a_kind_stands_in_its_two_files() -> None:
    """And where a checkpoint's own head is told by the name that transformers gives it, or pages by a Chinese one."""
    translated = "report/chinese.py"
    for kind in ("tagging", "span"):
        named = [file for file in _mentions(f'"{kind}"') if file != translated]
        assert named == ["backbone/transformer.py", f"head/{kind}.py", f"task/kinds/{kind}.py"]
    for kind in ("regression", "multi_label"):
        named = ["head/{}.py", "settings/data.py", "task/kinds/{}.py", "workflow/choose_tasks.py"]
        assert [file for file in _mentions(f'"{kind}"') if file != translated] == [file.format(kind) for file in named]


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.roles and kind.answer != "choice"])
def test_prompts_are_learned_as_the_model_writes(name: str) -> None:
    """One table held kinds of tasks and ways of writing: rows of the kind `generation` came out of it for a causal
    model whatever the model was, so that an encoder-decoder's encoder learned from them."""
    task, tokenizer = task_of(KINDS[name]), learn_tokenizer("bpe:300", ["who rang ann"])
    row = {**ROWS, "q": "who rang", "a": "ann"}
    for start in (None, 0):
        reading = ReadingSettings(tokenizer=tokenizer, max_length=32, causal=start is None, decoder_start=start)
        encoded = row_encoder(task, reading=reading, by_head=False)(task, row, 0, reading)
        assert all(bool(example.decoder_ids) == (start is not None) for example in encoded.examples)
