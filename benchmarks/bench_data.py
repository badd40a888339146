"""Hot paths of data/: tokens of many texts, and which rows stand together in a batch."""

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from lmtasks.data.batches import pad, plan_batches
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.installation import shipped_backbones

TEXT = "The river runs past the old mill to the sea, and 今天天气很好，我们去公园散步。"


def test_tokens_of_1000_texts(benchmark: BenchmarkFixture) -> None:
    tokenizer = load_tokenizer(shipped_backbones() / "lmtasks-mini")
    assert len(benchmark(tokenizer.encode_many, [TEXT] * 1000)) == 1000


def test_batches_of_20000_rows(benchmark: BenchmarkFixture) -> None:
    lengths = np.random.default_rng(0).integers(4, 400, size=20_000).tolist()
    plan = benchmark(plan_batches, lengths, tokens_per_batch=4096, seed=1)
    assert sum(map(len, plan)) == 20_000


def test_padding_of_256_rows(benchmark: BenchmarkFixture) -> None:
    rows = [[7] * length for length in np.random.default_rng(0).integers(4, 400, size=256).tolist()]
    assert benchmark(lambda: pad(rows, pad_id=0)).ids.shape[0] == 256
