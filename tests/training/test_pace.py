"""How long an adaptation learns and looks: by its rows, and as it is said; and what new heads begin with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_checkpoint
from torch import Tensor

from lmtasks.backbone.transformer import TransformerBackbone
from lmtasks.data.examples import HeadExamples, TrainingExample
from lmtasks.errors import UsageError
from lmtasks.model.model import Model
from lmtasks.model.store import load_model, read_provenance
from lmtasks.records import HeadSpec
from lmtasks.settings.training import AdaptSettings
from lmtasks.training.adapt import adapt
from lmtasks.training.adapt_plan import default_learning_rate
from lmtasks.training.curve import LOG, read_log
from lmtasks.training.features import FeatureReader
from lmtasks.training.pace import HEADS_ALONE, WITH_BACKBONE, HeadSize, judged_rows, pace_of
from lmtasks.training.probe import Targets, fit_logistic


def rows(count: int, *, seed: int) -> tuple[TrainingExample, ...]:
    """Label 1 where the token 40 stands in the row."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        ids = [int(token) for token in draw.integers(41, 90, 9)]
        ids[number % 9] = 40 if number % 2 else 41
        found.append(TrainingExample(ids=tuple(ids), targets=(number % 2,)))
    return tuple(found)


def few() -> HeadExamples:
    """64 training rows, and far more to look at."""
    head = HeadSpec(name="mood", kind="classification", labels=("bad", "good"))
    return HeadExamples(head=head, train=rows(64, seed=0), validation=rows(900, seed=1), truncated=0, fingerprint="few")


def adapted(folder: Path, settings: AdaptSettings, *, pretrained: bool = True) -> Model:
    there = folder / "there"
    if not there.is_dir():
        tiny_checkpoint(there, "llama")
    adapt(
        backbone=there,
        prepare=lambda _: [few()],
        settings=settings,
        out=folder / "model",
        report=lambda _: None,
        pretrained=pretrained,
    )
    return load_model(folder / "model")


@pytest.mark.parametrize("method", ["full", "probe"])
def test_of_few_rows_looking_takes_no_longer_than_learning(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that the backbone reads, for learning and for looking; one that is learned from goes back as well."""
    read = {True: 0, False: 0}
    encode = TransformerBackbone.encode

    def counted(self: TransformerBackbone, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        read[torch.is_grad_enabled()] += int(mask.sum())
        return encode(self, ids, mask, types)

    monkeypatch.setattr(TransformerBackbone, "encode", counted)
    adapted(tmp_path, AdaptSettings(method=method, patience=0))  # type: ignore[arg-type]
    trained = read_provenance(tmp_path / "model")["trained"]
    pace = read_provenance(tmp_path / "model")["pace"]
    assert pace["learning_rate"] == (1e-2 if method == "probe" else pytest.approx(3e-4))  # type: ignore[index]
    if method == "full":
        assert trained["steps"] == 40  # type: ignore[index]
        assert read[True] == 40 * 16 * 9
        assert 0 < read[False] < 0.7 * 3 * read[True]
    else:
        assert trained["steps"] == 300  # type: ignore[index]
        assert read == {True: 0, False: (64 + 100) * 9}


@pytest.mark.parametrize("train", [2, 16, 64, 256, 1000, 4000, 100_000])
@pytest.mark.parametrize("judged", [1, 27, 1000, 20_000])
def test_the_pace_of_any_rows(train: int, judged: int) -> None:
    pace = pace_of(
        [HeadSize(train=train, judged=judged, tokens=20)], WITH_BACKBONE, epochs=None, tokens_per_batch=None, looks=None
    )
    assert pace.epochs >= 4
    looked = pace.looks * min(pace.judged, judged)
    assert looked <= 0.5 * 3 * pace.epochs * train or (pace.looks == 1 and pace.judged == 100)
    assert 1 <= pace.looks <= 8
    if train >= 4000:
        assert (pace.epochs, pace.rows_at_once, pace.looks, pace.judged) == (4.0, (None,), 8, 1000)


def test_what_is_said_is_so() -> None:
    pace = pace_of(
        [HeadSize(train=64, judged=1000, tokens=20)] * 2, WITH_BACKBONE, epochs=0.5, tokens_per_batch=512, looks=7
    )
    assert (pace.epochs, pace.tokens_per_batch, pace.rows_at_once) == (0.5, 512, (None, None))
    assert (pace.looks, pace.judged) == (7, 1000)


def test_every_head_has_its_steps() -> None:
    heads = [HeadSize(train=count, judged=30, tokens=20) for count in (64, 64, 320)]
    pace = pace_of(heads, WITH_BACKBONE, epochs=None, tokens_per_batch=None, looks=None)
    assert pace.epochs * (4 + 4 + 20) == pytest.approx(3 * WITH_BACKBONE.least_steps)
    alone = pace_of(heads, HEADS_ALONE, epochs=None, tokens_per_batch=None, looks=None)
    assert alone.epochs * (4 + 4 + 20) == pytest.approx(3 * HEADS_ALONE.least_steps)


def test_fewer_validation_rows_are_among_more() -> None:
    some, more = judged_rows(range(500), 20), judged_rows(range(500), 60)
    assert set(some) < set(more)
    assert (len(some), list(more)) == (20, sorted(more))
    assert judged_rows(range(5), 9) == range(5)


def test_from_few_rows_a_new_head_begins_with_logistic_regression(tmp_path: Path) -> None:
    """At a rate of nothing it stays there; of random weights a backbone is no regression worth having."""
    still = AdaptSettings(learning_rate=1e-12, epochs=1, evaluations=1, words="no")
    model = adapted(tmp_path / "one", still)
    states = np.concatenate(FeatureReader(model, kept=None, precision="fp32").read("mood", few().train))
    labels = np.array([row.targets[0] for row in few().train])
    wanted = fit_logistic(
        Targets(states=states.astype(np.float64), labels=labels), classes=2, judged=None, strength=0.03, seed=0
    )
    torch.testing.assert_close(
        model.heads[0].output.weight.double(), torch.from_numpy(wanted.weights), atol=1e-4, rtol=0
    )
    for name, settings, pretrained in (
        ("two", still, False),
        ("three", still.but({"new_heads": "random"}), True),
    ):
        other = adapted(tmp_path / name, settings, pretrained=pretrained)
        assert (other.heads[0].output.weight - model.heads[0].output.weight).abs().max() > 1e-2


def test_what_is_about_to_happen_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    tiny_checkpoint(tmp_path / "there", "llama")
    adapt(
        backbone=tmp_path / "there",
        prepare=lambda _: [few(), passage()],
        settings=AdaptSettings(minutes=3, epochs=1),
        out=tmp_path / "model",
        report=lambda progress: said.append(progress.finished),
    )
    assert [line for line in said if line] == [
        "learns 128 rows of 2 tasks in 8 steps of at most 16 rows (each 1 times), for 3 minutes at most; rate "
        "0.00021; 483 validation rows, looked at 1 time; heads from logistic regression: 1 of 2"
    ]


def test_what_training_spoils_is_not_kept(tmp_path: Path) -> None:
    model = adapted(tmp_path, AdaptSettings(learning_rate=3.0, epochs=1, evaluations=1))
    before = load_model(tmp_path / "there").backbone.state_dict()
    assert read_provenance(tmp_path / "model")["trained"]["best_step"] == 0  # type: ignore[index]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())


def passage() -> HeadExamples:
    """Rows of a head whose weights are random at first: where the token 40 stands."""
    found = tuple(
        TrainingExample(ids=row.ids, targets=(row.ids.index(40),) * 2 if 40 in row.ids else (0, 0))
        for row in rows(64, seed=2)
    )
    head = HeadSpec(name="where", kind="span")
    return HeadExamples(head=head, train=found, validation=found[:8], truncated=0, fingerprint="where")


@pytest.mark.parametrize("together", [False, True])
def test_weights_before_the_first_step_are_judged_where_every_head_is_fitted(together: bool, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "there", "llama")
    adapt(
        backbone=tmp_path / "there",
        prepare=lambda _: [few(), passage()] if together else [few()],
        settings=AdaptSettings(learning_rate=3.0, epochs=1, evaluations=1),
        out=tmp_path / "model",
        report=lambda _: None,
    )
    kept = read_provenance(tmp_path / "model")["trained"]["best_step"]  # type: ignore[index]
    log = read_log(tmp_path / "model" / LOG)
    assert [look["step"] for look in log if "validation" in look] == ([log[-1]["step"]] if together else [0, 4])
    assert kept == (log[-1]["step"] if together else 0)
    assert together or set(log[0]["validation_losses"]) == {"mood"}  # type: ignore[call-overload]


def test_few_rows_move_a_trained_backbone_less() -> None:
    assert default_learning_rate("full", 11_000_000, few=1) == pytest.approx(3e-4)
    assert default_learning_rate("full", 11_000_000, few=9) == pytest.approx(1e-4)
    assert default_learning_rate("full", 110_000_000, few=1) < 2e-5


def test_new_heads_of_a_probe_are_its_fit() -> None:
    with pytest.raises(UsageError, match="its fit says how"):
        AdaptSettings(method="probe", new_heads="random")
