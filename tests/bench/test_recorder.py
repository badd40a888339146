import pytest
from fake_engine import CARD, MODEL

from lmtasks.bench.recorder import Recorder
from lmtasks.bench.workload import WorkRequest
from lmtasks.data.tokenizer import train_byte_bpe
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError, WorkError
from lmtasks.records import HeadSpec, ModelCard
from lmtasks.settings.generation import Decoding

HEADED = ModelCard(
    name="fake",
    family="llama",
    kind="causal",
    adaptation="full",
    parameters=1,
    weights_hash="",
    tokenizer_hash="",
    max_length_tokens=64,
    vocabulary=8,
    heads=(
        HeadSpec(name="sst2", kind="classification", labels=("no", "yes")),
        HeadSpec(name="squad", kind="span"),
    ),
)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(model=HEADED, card=CARD, tokenizer=train_byte_bpe(["a b"], vocabulary=260))


def test_heads_are_answered_in_their_shape_and_remembered(recorder: Recorder) -> None:
    rows = [WorkRequest(ids=(number, 2, 3), types=(0, 0, 1)) for number in range(5)]
    assert [logits.shape for logits in recorder.predict("sst2", rows)] == [(2,)] * 5
    work = recorder.workload(task="sst2", seed=1)
    assert work.kind == "head"
    assert work.head == "sst2"
    assert set(work.requests) == set(rows)
    assert [logits.shape for logits in recorder.predict("squad", rows[:1])] == [(3, 2)]
    assert len(recorder.workload(task="squad", seed=1).requests) == 1


def test_generations_have_the_tasks_length_up_to_a_limit(recorder: Recorder) -> None:
    for asked, timed in ((256, 32), (8, 8)):
        recorder.generate([GenerateRequest(prompt_ids=(1, 2), settings=Decoding(max_new_tokens=asked))])
        assert recorder.workload(task="t", seed=1).new_tokens == timed


def test_scores_keep_context_and_target(recorder: Recorder) -> None:
    (answer,) = recorder.score([ScoreRequest(context_ids=(1,), target_ids=(2, 3))])
    assert len(answer.token_logprobs) == 2
    assert recorder.workload(task="t", seed=1).requests == (WorkRequest(ids=(1,), target_ids=(2, 3)),)


def test_four_choices_asked_for_one_example_are_not_four_examples(recorder: Recorder) -> None:
    """A prompted model's "requests" were choices where a head's were texts, and stood on one axis."""
    for number in range(3):
        recorder.score([ScoreRequest(context_ids=(number,), target_ids=(choice,)) for choice in range(4)])
    assert recorder.workload(task="arc", seed=1, examples=3).requests_per_example == 4


def test_what_cannot_be_timed_is_said(recorder: Recorder) -> None:
    with pytest.raises(WorkError, match="t asked nothing of the engine"):
        recorder.workload(task="t", seed=1)
    with pytest.raises(UsageError, match="unknown head of fake 'sst'; did you mean 'sst2'"):
        recorder.predict("sst", [WorkRequest(ids=(1,))])
    assert MODEL.heads == ()
