"""The training loop: resumption is exact, the best weights are kept, foreign checkpoints are refused."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Progress
from lmtasks.settings.training import OptimizerName, TrainingSettings
from lmtasks.training.checkpoint import position_of
from lmtasks.training.curve import LOG, read_log
from lmtasks.training.loop import Trained, train
from lmtasks.training.schedule import learning_rate_share
from lmtasks.training.stepping import Batch, make_optimizers
from lmtasks.training.validation import Validation

pytestmark = pytest.mark.usefixtures("signals_of_a_terminal")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))


def batch_at(step: int, part: int) -> Batch:
    generator = torch.Generator().manual_seed(step * 10 + part)
    inputs = torch.randn(6, 4, generator=generator)
    return {"inputs": inputs, "targets": inputs.sum(1, keepdim=True)}


def loss(runner: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.mse_loss(runner(batch["inputs"]), batch["targets"])


def run(
    module: nn.Module,
    folder: Path,
    *,
    settings: TrainingSettings,
    validate: Callable[[], float] | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    return train(
        module=module,
        loss=loss,
        batch_at=batch_at,
        settings=settings,
        folder=folder,
        data_key="data",
        validate=None if validate is None else lambda: Validation(value=validate()),
        higher_is_better=True,
        report=report,
    )


class Killed(Exception):
    """What a test throws in the middle of a training."""


def killed_at(step: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.done == step:
            raise Killed

    return report


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize(("accumulate", "optimizer"), [(1, "adamw"), (2, "adamw"), (2, "muon")])
def test_twenty_steps_are_ten_and_ten(tmp_path: Path, accumulate: int, optimizer: OptimizerName) -> None:
    settings = TrainingSettings(
        steps=20, learning_rate=0.01, batch_rows=12, accumulate=accumulate, checkpoint_every=5, optimizer=optimizer
    )
    whole, interrupted, resumed = network(), network(), network()
    run(whole, tmp_path / "whole", settings=settings)
    with pytest.raises(Killed):
        run(interrupted, tmp_path / "parts", settings=settings, report=killed_at(13))
    run(resumed, tmp_path / "parts", settings=settings)
    assert torch.equal(weights(whole), weights(resumed))
    assert not torch.equal(weights(whole), weights(interrupted))


def signalled_at(step: int, *, count: int = 1) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.done == step:
            for _ in range(count):
                signal.raise_signal(signal.SIGINT)

    return report


def test_a_signal_lets_the_step_end_and_its_checkpoint_be_written(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=20, learning_rate=0.01, batch_rows=6, checkpoint_every=1000)
    whole, resumed = network(), network()
    run(whole, tmp_path / "whole", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        run(network(), tmp_path / "parts", settings=settings, report=signalled_at(13))
    position = position_of(tmp_path / "parts" / "checkpoint")
    assert position is not None
    assert position.step == 14  # the one that it came into is finished
    run(resumed, tmp_path / "parts", settings=settings)
    assert torch.equal(weights(whole), weights(resumed))
    assert [point["step"] for point in read_log(tmp_path / "parts" / LOG)] == list(range(1, 21))


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=20, learning_rate=0.01, batch_rows=6, checkpoint_every=10)
    with pytest.raises(KeyboardInterrupt):
        run(network(), tmp_path, settings=settings, report=signalled_at(13, count=2))
    position = position_of(tmp_path / "checkpoint")
    assert position is not None
    assert position.step == 10


def test_a_signal_in_the_last_step_keeps_what_was_learned(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=20, learning_rate=0.01, batch_rows=6, checkpoint_every=1000)
    with pytest.raises(KeyboardInterrupt):
        run(network(), tmp_path, settings=settings, report=signalled_at(20))
    position = position_of(tmp_path / "checkpoint")
    assert position is not None
    assert position.step == 20


def test_an_evaluation_that_a_signal_cut_short_is_made_when_the_training_goes_on(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=6, learning_rate=0.01, batch_rows=6, evaluate_every=2)
    whole, resumed = network(), network()
    calls: list[int] = []

    def judged() -> float:
        return float(weights(whole if len(calls) < 3 else resumed).abs().sum())

    def cut_short() -> float:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was held")

    ended = run(whole, tmp_path / "whole", settings=settings, validate=judged)
    with pytest.raises(KeyboardInterrupt):
        run(network(), tmp_path / "parts", settings=settings, validate=cut_short)
    calls += [1, 2, 3]
    assert replace(run(resumed, tmp_path / "parts", settings=settings, validate=judged), seconds=0) == replace(
        ended, seconds=0
    )
    assert torch.equal(weights(whole), weights(resumed))
    logs = [
        [(point["step"], point["loss"], point.get("validation")) for point in read_log(tmp_path / name / LOG)]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    module = network()
    seen: list[Tensor] = []
    values = iter([0.1, 0.9, 0.5, 0.4])

    def validate() -> float:
        seen.append(weights(module).clone())
        return next(values)

    settings = TrainingSettings(steps=4, learning_rate=0.01, batch_rows=6, evaluate_every=1)
    trained = run(module, tmp_path, settings=settings, validate=validate)
    assert (trained.best, trained.best_step) == (0.9, 2)
    assert torch.equal(weights(module), seen[1])


def judged_by(
    looks: list[list[float]], module: nn.Module, folder: Path, *, done: int = 0, killed: int | None = None
) -> Trained:
    """Trained for a step a look, with these scores of each validation row.

    Args:
        done: looks that an earlier start has taken.
    """
    values = iter(looks[done:])

    def validate() -> Validation:
        scores = next(values)
        return Validation(value=sum(scores) / len(scores), rows={"mood": scores})

    return train(
        module=module,
        loss=loss,
        batch_at=batch_at,
        settings=TrainingSettings(
            steps=len(looks), learning_rate=0.01, batch_rows=6, evaluate_every=1, checkpoint_every=1
        ),
        folder=folder,
        data_key="data",
        validate=validate,
        higher_is_better=True,
        report=killed_at(killed or 0),
    )


def test_kept_are_the_latest_weights_that_are_not_shown_to_be_worse(tmp_path: Path) -> None:
    """One row of four tells nothing, ten of forty do; what is worse than the highest stays behind it, though it is no
    worse than the look just before."""
    few, many = [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]
    assert judged_by([many, few, many], network(), tmp_path / "few").best_step == 3
    assert judged_by([many * 10, few * 10, many * 10], network(), tmp_path / "many").best_step == 2
    falls = [[0.0] * lost + [1.0] * (20 - lost) for lost in range(4)]
    assert judged_by(falls, network(), tmp_path / "falls").best_step == 2
    log = read_log(tmp_path / "falls" / LOG)
    assert [look["kept"] for look in log] == [True, True, False, False]


def test_a_training_that_goes_on_knows_the_rows_of_its_best_look(tmp_path: Path) -> None:
    falls = [[0.0] * lost + [1.0] * (20 - lost) for lost in (0, 0, 1, 3)]
    whole, parts = network(), network()
    ended = judged_by(falls, whole, tmp_path / "whole")
    with pytest.raises(Killed):
        judged_by(falls, network(), tmp_path / "parts", killed=3)
    assert judged_by(falls, parts, tmp_path / "parts", done=2).best_step == ended.best_step == 3
    assert torch.equal(weights(whole), weights(parts))


def test_patience_ends_a_training_that_gains_nothing(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=50, learning_rate=0.01, batch_rows=6, evaluate_every=2, patience=3)
    values = iter([0.5, 0.5, 0.3, 0.4, 0.2])
    trained = run(network(), tmp_path, settings=settings, validate=lambda: next(values))
    assert (trained.stopped, trained.steps) == ("patience", 10)  # as good at step 4, then three that are worse
    assert trained.best_step == 4


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    run(network(), tmp_path, settings=TrainingSettings(steps=2, learning_rate=0.01, batch_rows=6))
    with pytest.raises(UsageError, match="other settings or data"):
        run(network(), tmp_path, settings=TrainingSettings(steps=2, learning_rate=0.02, batch_rows=6))


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    module = network()
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(WorkError, match="lower learning rate"):
        run(module, tmp_path, settings=TrainingSettings(steps=2, learning_rate=0.01, batch_rows=6))


@pytest.mark.parametrize(
    ("decay", "progress", "share"),
    [
        ("cosine", 0.05, 0.5), ("cosine", 0.1, 1.0), ("cosine", 0.55, 0.55), ("cosine", 1.0, 0.1),
        ("linear", 0.55, 0.55), ("linear", 1.0, 0.1), ("constant", 0.7, 1.0),
    ],
)  # fmt: skip
def test_the_learning_rate_rises_and_falls(decay: str, progress: float, share: float) -> None:
    settings = TrainingSettings(steps=10, learning_rate=1.0, batch_rows=1, warmup=0.1, floor=0.1, decay=decay)  # type: ignore[arg-type]
    assert learning_rate_share(settings, step=0, progress=progress) == pytest.approx(share)


def test_settings_refuse_a_batch_that_cannot_be_cut() -> None:
    with pytest.raises(UsageError, match="multiple of accumulate"):
        TrainingSettings(steps=1, learning_rate=0.1, batch_rows=5, accumulate=2)


WSD = TrainingSettings(steps=1000, learning_rate=1.0, batch_rows=6, decay="wsd", warmup_steps=4, floor=0.0)


def rate(settings: TrainingSettings, step: int) -> float:
    return learning_rate_share(settings, step=step, progress=0.9)


def test_the_stable_phase_does_not_move_with_the_length_of_the_training() -> None:
    assert [rate(WSD, step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    for steps in (50, 1000, 10**6):
        cooled = WSD.but(dict(steps=steps, cooldown_steps=16))
        assert [rate(cooled, step) for step in range(steps - 16)][:30] == [rate(WSD, step) for step in range(30)]
        assert rate(cooled, steps - 16) == 1.0
        assert rate(cooled, steps - 12) == 0.5  # 1 - sqrt(4 / 16)
        assert rate(cooled, steps) == 0.0


def test_a_stable_training_goes_on_with_any_length_and_ends_as_one_piece(tmp_path: Path) -> None:
    settings = WSD.but(dict(learning_rate=0.01))
    whole, parts = network(), network()
    run(whole, tmp_path / "whole", settings=settings.but(dict(steps=20, cooldown_steps=6)))
    for steps in (7, 12):
        run(parts, tmp_path / "parts", settings=settings.but(dict(steps=steps)))
    run(parts, tmp_path / "parts", settings=settings.but(dict(steps=20, cooldown_steps=6, minutes=60.0)))
    assert torch.equal(weights(whole), weights(parts))


def test_a_cooldown_that_has_begun_keeps_its_end(tmp_path: Path) -> None:
    settings = WSD.but(dict(learning_rate=0.01, steps=20, cooldown_steps=6, checkpoint_every=1))
    with pytest.raises(Killed):
        run(network(), tmp_path, settings=settings, report=killed_at(17))
    with pytest.raises(UsageError, match="has begun and ends at step 20"):
        run(network(), tmp_path, settings=settings.but(dict(steps=30)))
    assert run(network(), tmp_path, settings=settings).steps == 20


def test_a_cooldown_cannot_begin_in_the_past(tmp_path: Path) -> None:
    run(network(), tmp_path, settings=WSD.but(dict(steps=10)))
    with pytest.raises(UsageError, match="give --steps 16 or more"):
        run(network(), tmp_path, settings=WSD.but(dict(steps=12, cooldown_steps=6)))


def test_muon_moves_hidden_matrices_and_adamw_the_rest() -> None:
    module = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 9))
    module[3].weight = module[0].weight  # tied, as a language model's projection
    settings = TrainingSettings(steps=1, learning_rate=0.01, batch_rows=1, optimizer="muon")
    adamw, muon = make_optimizers(module, settings)
    assert [item is module[1].weight for group in muon.param_groups for item in group["params"]] == [True]
    others = [item for group in adamw.param_groups for item in group["params"]]
    assert len(others) == 5  # embedding, two biases, norm's scale and bias
    assert not any(item is module[1].weight for item in others)


@pytest.mark.parametrize("damage", ["cut", "half"])
def test_an_interrupted_checkpoint_leaves_the_one_before_it(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = TrainingSettings(steps=20, learning_rate=0.01, batch_rows=12, checkpoint_every=5)
    whole, resumed = network(), network()
    run(whole, tmp_path / "whole", settings=settings)
    with pytest.raises(Killed):
        run(network(), tmp_path / "parts", settings=settings, report=killed_at(13))
    if damage == "cut":  # the file of a machine that lost power
        file = tmp_path / "parts" / "checkpoint" / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-20])
        said, step = "cannot be read", 5
    else:  # killed while it was written
        (tmp_path / "parts" / "checkpoint.part").mkdir()
        said, step = "interrupted", 10
    position = position_of(tmp_path / "parts" / "checkpoint")
    assert position is not None
    assert position.step == step
    caplog.clear()
    run(resumed, tmp_path / "parts", settings=settings)
    assert said in caplog.text
    assert torch.equal(weights(whole), weights(resumed))


def test_a_checkpoint_of_another_shape_says_which_weight_differs(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=2, learning_rate=0.01, batch_rows=6)
    run(network(), tmp_path, settings=settings)
    with pytest.raises(UsageError, match=r"another size.*'0.weight' is \(8, 4\) there, and \(9, 4\)"):
        run(nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, 1)), tmp_path, settings=settings)
    with pytest.raises(UsageError, match="another family or depth"):
        run(nn.Sequential(nn.Linear(4, 1)), tmp_path, settings=settings)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    def poisoned(step: int, part: int) -> Batch:
        batch = dict(batch_at(step, part))
        return {**batch, "inputs": batch["inputs"] * (float("nan") if step == 7 else 1.0)}

    settings = TrainingSettings(steps=20, learning_rate=0.01, batch_rows=6, checkpoint_every=5)
    with pytest.raises(WorkError, match=r"at step 8 the loss became nan .* rows 42 to 47"):
        train(
            module=network(), loss=loss, batch_at=poisoned, settings=settings, folder=tmp_path, data_key="data",
            validate=None, higher_is_better=True, report=lambda _: None,
        )  # fmt: skip
    position = position_of(tmp_path / "checkpoint")
    assert position is not None
    assert position.step == 5


def test_a_step_adds_up_in_one_order_and_leaves_torch_as_it_was(tmp_path: Path) -> None:
    seen: list[bool] = []
    filled: list[bool] = []  # writing all memory that is taken costs time, and helps nobody

    def watched(runner: nn.Module, batch: Batch) -> Tensor:
        seen.append(torch.are_deterministic_algorithms_enabled())
        filled.append(torch.utils.deterministic.fill_uninitialized_memory)
        return loss(runner, batch)

    train(
        module=network(), loss=watched, batch_at=batch_at, folder=tmp_path, data_key="data", validate=None,
        settings=TrainingSettings(steps=2, learning_rate=0.01, batch_rows=6), higher_is_better=True,
        report=lambda _: None,
    )  # fmt: skip
    assert (seen, filled) == ([True, True], [False, False])
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
