"""One optimizer step of pretraining against the bare PyTorch step of the same model, in fp32 and in bf16 compiled.

The shape is that of lmtasks-mini. The bare step is what a person writes first: transformers' own loss, autocast,
`torch.compile` over the model, AdamW, clipping. Each notes its tokens a second (`extra_info`). The claims: ours is at
least 0.9 times as fast as the bare one, and bf16 compiled at least twice as fast as fp32 by itself.
"""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from lmtasks.data.corpus import WindowSampler
from lmtasks.model.create import Vocabulary, new_language_model
from lmtasks.settings.training import TrainingSettings
from lmtasks.training.attention import use_blocks, use_default
from lmtasks.training.objectives import OBJECTIVES, ObjectiveModule, make_batch, objective_loss
from lmtasks.training.stepping import Batch, Stepping, make_optimizers

FAMILY = "llama:width=320,layers=6,heads=5,inner=832,context=1024"
VOCABULARY, WINDOW, ROWS, THREADS = 12_288, 1024, 4, 2
ROUNDS = 8

BatchAt = Callable[[int, int], Batch]


@pytest.fixture
def learner() -> Iterator[ObjectiveModule]:
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    torch._dynamo.reset()
    backbone = new_language_model(FAMILY, Vocabulary(size=VOCABULARY, bos=0, eos=0, pad=1), seed=0)
    yield ObjectiveModule(backbone, OBJECTIVES["causal"])
    torch.set_num_threads(threads)


@pytest.fixture
def batch_at() -> BatchAt:
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, 4_000_000).astype(np.uint16)
    sampler = WindowSampler([tokens], weights=[1], window=WINDOW, seed=0, names=["a"])

    def batch(step: int, part: int) -> Batch:
        del part
        return make_batch([{"ids": row} for row in sampler.rows(step * ROWS, ROWS)])

    return batch


@pytest.mark.parametrize("fast", [False, True], ids=["fp32", "bf16-compiled"])
@pytest.mark.benchmark(group="pretrain")
def test_our_step(
    benchmark: BenchmarkFixture, learner: ObjectiveModule, batch_at: Callable[[int, int], Batch], fast: bool
) -> None:
    settings = TrainingSettings(
        steps=100, learning_rate=1e-3, batch_rows=ROWS, precision="bf16" if fast else "fp32", compile=fast
    )
    if fast:
        use_blocks(learner)
    optimizers = make_optimizers(learner, settings)
    stepping = Stepping(
        accelerator=Accelerator(mixed_precision="no", cpu=True),
        runner=learner,
        loss=torch.compile(objective_loss, dynamic=False) if fast else objective_loss,
        batch_at=batch_at,
        settings=settings,
        name_batch=str,
    )
    steps = count()
    _time(benchmark, lambda: stepping.step(learner, optimizers, next(steps)))
    use_default(learner)


@pytest.mark.parametrize("fast", [False, True], ids=["fp32", "bf16-compiled"])
@pytest.mark.benchmark(group="pretrain")
def test_bare_step(
    benchmark: BenchmarkFixture, learner: ObjectiveModule, batch_at: Callable[[int, int], Batch], fast: bool
) -> None:
    model: nn.Module = learner.backbone.hf  # type: ignore[assignment]
    compiled = torch.compile(model, dynamic=False) if fast else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    steps = count()

    def step() -> None:
        ids = batch_at(next(steps), 0)["ids"][:, :-1]
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = compiled(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    _time(benchmark, step)


def _time(benchmark: BenchmarkFixture, step: Callable[[], object]) -> None:
    benchmark.pedantic(step, rounds=ROUNDS, warmup_rounds=2)
    benchmark.extra_info["tokens_per_second"] = round(ROWS * WINDOW / benchmark.stats.stats.median)
