"""A running text with the state carried over batches."""

import math
from pathlib import Path

import pytest
import torch
from tiny import tiny_tokenizer

from lmtasks.data.examples import HeadExamples
from lmtasks.errors import UsageError
from lmtasks.model.create import Vocabulary, write_backbone
from lmtasks.model.model import Model
from lmtasks.model.store import load_model
from lmtasks.records import HeadSpec, Progress
from lmtasks.settings.training import AdaptSettings
from lmtasks.training.adapt import adapt
from lmtasks.training.tbptt import Streams, TbpttModule, score_text

TEXT = tuple([5, 6, 7, 8, 9, 10, 11] * 40)
SETTINGS = AdaptSettings(epochs=4, learning_rate=6e-2, tokens_per_batch=24, window=6, patience=0, evaluations=2)
"""Four passes of 12 windows; evaluated, and so kept, after 24 steps and at the end."""


def backbone(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save(folder)
    sizes = Vocabulary(size=tokenizer.vocabulary, bos=0, eos=0, pad=1)
    write_backbone("gru:width=16,layers=1,dropout=0.1", sizes, seed=0, folder=folder)
    return folder


def head() -> HeadExamples:
    return HeadExamples(
        head=HeadSpec(name="text", kind="generation"), train=(), validation=(), truncated=0, fingerprint="text",
        text=TEXT, validation_text=TEXT,
    )  # fmt: skip


def run(folder: Path, *, report=lambda _: None) -> Model:  # type: ignore[no-untyped-def]
    adapt(
        backbone=backbone(folder / "new"), prepare=lambda _: [head()], settings=SETTINGS, out=folder / "model",
        report=report,
    )  # fmt: skip
    return load_model(folder / "model")


def test_windows_follow_each_other_in_every_stream() -> None:
    streams = Streams(range(21), rows=2, window=4)
    assert len(streams) == 3
    batches = [streams.batch(number) for number in range(3)]
    assert torch.cat([batch["ids"] for batch in batches], dim=1).tolist() == [list(range(10)), list(range(10, 20))]
    assert all(torch.equal(batch["targets"], batch["ids"] + 1) for batch in batches)
    with pytest.raises(UsageError, match="cannot be cut into 30 streams"):
        Streams(range(21), rows=30, window=4)


def test_a_batch_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    model = load_model(backbone(tmp_path))
    model.add_heads([HeadSpec(name="text", kind="generation")])
    model.eval()
    streams = Streams(TEXT[:25], rows=2, window=4)
    learner = TbpttModule(model, {0: streams}).eval()
    losses = []
    for number in range(len(streams)):
        batch = {**streams.batch(number), "head": torch.tensor(0), "place": torch.tensor(0)}
        losses.append(float(learner(batch).detach()))
    whole = Streams(TEXT[:25], rows=2, window=100).batch(0)
    hidden, _ = model.carry(model.carried(whole["ids"]), whole["ids"])
    logits = model.backbone.project(hidden)
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), whole["targets"].flatten())
    assert sum(losses) / 3 == pytest.approx(float(wanted.detach()), abs=1e-5)


def test_a_text_is_learned_and_scored_as_one(tmp_path: Path) -> None:
    nats, count = score_text(run(tmp_path), TEXT, window=8)
    assert count == 272  # 16 streams of 17, of which the first tokens lack what stood before
    assert math.exp(nats / count) < 3


def test_an_interrupted_training_goes_on_with_its_states(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.done == 34:  # in the middle of an epoch of 12 windows, not at a checkpoint
            raise Killed

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "parts", report=kill)
    resumed = run(tmp_path / "parts")
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), resumed.parameters(), strict=True))
