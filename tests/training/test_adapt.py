"""Adaptation: what moves, what is kept, and that each head learns from its rows."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint

from lmtasks.data.examples import IGNORED, HeadExamples, TrainingExample
from lmtasks.errors import UsageError
from lmtasks.head.generation import GENERATION
from lmtasks.model.model import Model
from lmtasks.model.store import load_model, read_provenance
from lmtasks.records import HeadSpec, Progress
from lmtasks.settings.training import AdaptSettings
from lmtasks.training.adapt import adapt
from lmtasks.training.adapt_plan import default_learning_rate
from lmtasks.training.judging import score_heads
from lmtasks.training.mixture import plan_steps, rows_a_pass
from lmtasks.training.tbptt import TbpttModule

SETTINGS = AdaptSettings(
    epochs=12, learning_rate=5e-3, tokens_per_batch=64, patience=0, evaluations=2, new_heads="random"
)


def moods() -> HeadExamples:
    """Label 1 where token 40 stands in the row."""
    rows = tuple(
        TrainingExample(ids=(10 + number % 7, 40 if number % 2 else 41, 12, 13 + number % 5), targets=(number % 2,))
        for number in range(32)
    )
    head = HeadSpec(name="mood", kind="classification", labels=("bad", "good"))
    return HeadExamples(head=head, train=rows, validation=rows[:8], truncated=0, fingerprint="moods")


def finds() -> HeadExamples:
    """The answer is token 50, wherever it stands."""
    rows = tuple(
        TrainingExample(
            ids=tuple(50 if place == number % 5 else 20 + place for place in range(6)), targets=(number % 5,) * 2
        )
        for number in range(20)
    )
    head = HeadSpec(name="find", kind="span")
    return HeadExamples(head=head, train=rows, validation=rows[:5], truncated=0, fingerprint="finds")


def says() -> HeadExamples:
    """After 60 comes 61, then 62."""
    rows = tuple(TrainingExample(ids=(30 + number % 4, 60, 61), targets=(IGNORED, 61, 62)) for number in range(16))
    head = HeadSpec(name="say", kind="generation")
    return HeadExamples(head=head, train=rows, validation=rows[:4], truncated=0, fingerprint="says")


ALL = (moods(), finds(), says())


def run(folder: Path, *, heads: Sequence[HeadExamples] = ALL, settings: AdaptSettings = SETTINGS,
        architecture: str = "llama", report=lambda _: None) -> Model:  # type: ignore[no-untyped-def]  # fmt: skip
    backbone = folder / "backbone"
    if not backbone.is_dir():
        tiny_checkpoint(backbone, architecture)
    adapt(backbone=backbone, prepare=lambda _: heads, settings=settings, out=folder / "model", report=report)
    return load_model(folder / "model")


def test_several_heads_learn_together_over_one_backbone(tmp_path: Path) -> None:
    model = run(tmp_path)
    for head in ALL:
        assert score_heads(model, [head], pad_id=1) > 0.8, head.head.name
    assert {spec.name for spec in model.card.heads} == {"mood", "find", "say"}
    assert read_provenance(tmp_path / "model")["trained"]["stopped"] == "steps"  # type: ignore[index]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "marian", "bart", "t5"])
def test_answers_are_learned_by_the_logits_of_the_model_itself(
    architecture: str, precision: str, tmp_path: Path
) -> None:
    """Marian and BART add a bias, T5 scales, Gemma 2 bends: the loss is that of what the architecture says, and the
    module is asked about it in a step of either precision."""
    model = load_model(tiny_checkpoint(tmp_path, architecture)).eval()
    if (bias := getattr(model.hf, "final_logits_bias", None)) is not None:
        bias.normal_()
    model.add_heads([HeadSpec(name="say", kind="generation")])
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]]), torch.tensor([[True] * 4, [True, True, False, False]])
    targets = torch.tensor([[-100, 7, 8, 0], [10, 0, -100, -100]])
    batch = {"ids": ids, "mask": mask, "targets": targets, "head": torch.tensor(0), "place": torch.tensor(0)}
    pair = {"decoder_ids": torch.tensor([[1, 7, 8, 4], [1, 10, 1, 1]])} if model.card.kind == "encoder-decoder" else {}
    own = {"decoder_input_ids": pair["decoder_ids"]} if pair else model.transformer.inputs(ids, mask)
    logits = model.hf(**{"input_ids": ids, "attention_mask": mask.long(), **own}, use_cache=False).logits
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        found = TbpttModule(model, {}, smoothing=0.1)({**batch, **pair})
    wanted = GENERATION.loss(logits, targets, smoothing=0.1)
    assert torch.allclose(found, wanted, atol=1e-5 if precision == "fp32" else 3e-2)
    assert (model.projection() is None) == (architecture == "gemma2")


@pytest.mark.parametrize("mixture", ["proportional", "uniform", "temperature=2"])
def test_a_pass_holds_the_rows_of_each_task_that_its_mixture_says(mixture: str) -> None:
    """32, 20 and 16 rows; over three passes no row stands twice more than another of its task."""
    wanted = rows_a_pass([32, 20, 16], mixture)
    exact = {"proportional": (32, 20, 16), "uniform": (23, 23, 23), "temperature=2": (27, 22, 19)}
    assert wanted == exact[mixture]
    steps = plan_steps(ALL, epochs=3, tokens_per_batch=40, seed=3, mixture=mixture)
    for number, count in enumerate(wanted):
        rows = [row for head, places in steps if head == number for row in places]
        assert len(rows) == 3 * count
        times = [rows.count(row) for row in range(len(ALL[number].train))]
        assert max(times) - min(times) <= 1
    assert steps == plan_steps(ALL, epochs=3, tokens_per_batch=40, seed=3, mixture=mixture)


def test_a_mixture_stands_in_the_record_and_is_checked(tmp_path: Path) -> None:
    run(tmp_path, settings=SETTINGS.but(dict(epochs=1, mixture="uniform")))
    record = read_provenance(tmp_path / "model")
    assert record["mixture"] == {"by": "uniform", "rows": {"mood": 23, "find": 23, "say": 23}}
    assert record["settings"]["mixture"] == "uniform"  # type: ignore[index]
    assert "mixture" not in SETTINGS.stored()
    for wrong in ("even", "temperature", "temperature=0.5", "temperature=two"):
        with pytest.raises(UsageError, match=rf"must be proportional, uniform or temperature=T .*, was '{wrong}'"):
            AdaptSettings(mixture=wrong)
    empty = HeadExamples(head=moods().head, train=(), validation=(), truncated=0, fingerprint="none")
    with pytest.raises(UsageError, match="task 'mood' has no training rows"):
        run(tmp_path / "empty", heads=[finds(), empty], settings=SETTINGS.but(dict(mixture="uniform")))


def test_smoothed_labels_make_answers_less_sure(tmp_path: Path) -> None:
    """The best that a model can say of two classes is 1 - s / 2."""
    sure = []
    for name, share in (("plain", 0.0), ("smoothed", 0.4)):
        model = run(tmp_path / name, heads=[moods()], settings=SETTINGS.but(dict(label_smoothing=share)))
        ids = torch.tensor([row.ids for row in moods().train])
        with torch.no_grad():
            sure.append(float(model(ids, torch.ones_like(ids) > 0, "mood").softmax(-1).amax(-1).mean()))
    assert sure[0] > 0.95
    assert 0.7 < sure[1] < 0.9
    with pytest.raises(UsageError, match=r"label smoothing must be a number of at least 0 and below 1, was 1\.0"):
        AdaptSettings(label_smoothing=1.0)


def test_a_probe_leaves_the_backbone_alone(tmp_path: Path) -> None:
    model = run(tmp_path, settings=SETTINGS.but(dict(method="probe", learning_rate=2e-2, new_heads=None)))
    before = load_model(tmp_path / "backbone").backbone.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
    assert score_heads(model, [moods()], pad_id=1) > 0.8


def test_a_probe_of_generation_alone_has_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights; use full"):
        run(tmp_path, heads=[says()], settings=SETTINGS.but(dict(method="probe", learning_rate=2e-2, new_heads=None)))


def test_prompt_moves_nothing(tmp_path: Path) -> None:
    model = run(tmp_path, settings=SETTINGS.but(dict(method="prompt")))
    assert model.card.heads == ()
    assert model.card.adaptation == "prompt"


def test_an_encoder_cannot_generate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is read as an encoder, which cannot generate"):
        run(tmp_path, heads=[says()], architecture="bert")


def test_an_encoder_carries_the_other_heads(tmp_path: Path) -> None:
    assert score_heads(run(tmp_path, heads=[moods(), finds()], architecture="bert"), [moods()], pad_id=1) > 0.9


def test_an_interrupted_adaptation_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.done == progress.total // 2:
            raise Killed

    short = SETTINGS.but(dict(epochs=4))
    whole = run(tmp_path / "whole", settings=short)
    with pytest.raises(Killed):
        run(tmp_path / "parts", settings=short, report=kill)
    assert not (tmp_path / "parts" / "model").exists()
    resumed = run(tmp_path / "parts", settings=short)
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_every_row_is_seen_once_an_epoch() -> None:
    steps = plan_steps(ALL, epochs=2, tokens_per_batch=40, seed=3)
    for number, head in enumerate(ALL):
        rows = [row for which, part in steps if which == number for row in part]
        assert sorted(rows) == sorted([*range(len(head.train))] * 2)
    assert steps != plan_steps(ALL, epochs=2, tokens_per_batch=40, seed=4)


def test_learning_rates_fall_with_size() -> None:
    """BERT's authors fine-tune 110M parameters with 2e-5 to 5e-5 (Devlin et al., 2019, appendix A.3)."""
    assert 2e-5 <= default_learning_rate("full", 110_000_000) <= 5.1e-5
    assert default_learning_rate("full", 11_000_000) == pytest.approx(1e-3)
