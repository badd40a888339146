"""The training loop: resumption is exact, the best weights are kept, foreign checkpoints are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lmtasks.errors import UsageError, WorkError
from lmtasks.records import Progress
from lmtasks.training.loop import Batch, Trained, train
from lmtasks.training.settings import TrainingSettings, learning_rate_share


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
        validate=validate,
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


@pytest.mark.parametrize("accumulate", [1, 2])
def test_twenty_steps_are_ten_and_ten(tmp_path: Path, accumulate: int) -> None:
    settings = TrainingSettings(steps=20, learning_rate=0.01, batch_rows=12, accumulate=accumulate, checkpoint_every=5)
    whole, interrupted, resumed = network(), network(), network()
    run(whole, tmp_path / "whole", settings=settings)
    with pytest.raises(Killed):
        run(interrupted, tmp_path / "parts", settings=settings, report=killed_at(13))
    run(resumed, tmp_path / "parts", settings=settings)
    assert torch.equal(weights(whole), weights(resumed))
    assert not torch.equal(weights(whole), weights(interrupted))


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


def test_patience_ends_a_training_that_gains_nothing(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=50, learning_rate=0.01, batch_rows=6, evaluate_every=2, patience=3)
    trained = run(network(), tmp_path, settings=settings, validate=lambda: 0.5)
    assert (trained.stopped, trained.steps) == ("patience", 8)  # one best at step 2, then three without a gain


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
    assert learning_rate_share(settings, progress=progress) == pytest.approx(share)


def test_settings_refuse_a_batch_that_cannot_be_cut() -> None:
    with pytest.raises(UsageError, match="multiple of accumulate"):
        TrainingSettings(steps=1, learning_rate=0.1, batch_rows=5, accumulate=2)
