"""Training of recurrent language models by the one loop, beside a plain loop over torch.nn: tokens a second of both.

    python benchmarks/bench_recurrent.py [lstm|gru|rnn]

Both train the shape of the TensorFlow PTB tutorial (2 layers of 200, 20 streams, windows of 35, 10,000 words, tied) on
the same ids with AdamW and clipped gradients; they take turns, and the ratio is that of the medians.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.model.create import Vocabulary, write_backbone
from lmtasks.model.model import Model
from lmtasks.model.store import load_model
from lmtasks.records import HeadSpec
from lmtasks.settings.training import TrainingSettings
from lmtasks.training.loop import train
from lmtasks.training.tbptt import Streams, TbpttModule

WORDS, WIDTH, LAYERS, ROWS, WINDOW, STEPS, TURNS = 10_000, 200, 2, 20, 35, 40, 5
PLAIN: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class PlainModel(nn.Module):
    """As in PyTorch's own word_language_model example: embedding, torch.nn's layers, tied projection, dropout."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.tokens = nn.Embedding(WORDS, WIDTH)
        self.layers = PLAIN[cell](WIDTH, WIDTH, LAYERS, batch_first=True, dropout=0.3)
        self.dropout = nn.Dropout(0.3)
        self.bias = nn.Parameter(torch.zeros(WORDS))

    def forward(self, ids: Tensor, state: object) -> tuple[Tensor, object]:
        hidden, state = self.layers(self.dropout(self.tokens(ids)), state)
        return functional.linear(self.dropout(hidden), self.tokens.weight, self.bias), state


def plain_turn(cell: str, streams: Streams) -> Callable[[], None]:
    """One turn of the plain loop."""
    model = PlainModel(cell)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def turn() -> None:
        state: object = None
        for step in range(STEPS):
            batch = streams.batch(step)
            logits, state = model(batch["ids"], state)
            state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()  # type: ignore[attr-defined]
            loss = functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return turn


def our_turn(cell: str, streams: Streams, folder: Path) -> Callable[[], None]:
    """One turn of the one loop; what it writes lies in a temporary folder."""
    tokenizer = learn_tokenizer("blanks", ["a"])
    tokenizer.save(folder)
    sizes = Vocabulary(size=WORDS, bos=0, eos=0, pad=1)
    write_backbone(f"{cell}:width={WIDTH},layers={LAYERS},dropout=0.3", sizes, seed=0, folder=folder)
    model: Model = load_model(folder)
    model.add_heads([HeadSpec(name="text", kind="generation")])
    learner = TbpttModule(model, {0: streams})
    settings = TrainingSettings(steps=STEPS, learning_rate=1e-3, batch_rows=1, checkpoint_every=10**9)

    def turn() -> None:
        with tempfile.TemporaryDirectory() as work:
            train(
                module=learner,
                loss=lambda runner, batch: runner(batch),
                batch_at=lambda step, part: {**streams.batch(step), "head": torch.tensor(0), "place": torch.tensor(0)},
                settings=settings,
                folder=Path(work),
                data_key="speed",
                validate=None,
                higher_is_better=True,
                report=lambda _: None,
            )

    return turn


def main(cell: str) -> None:
    """Print tokens a second of both, and their ratio."""
    torch.set_num_threads(2)
    text = torch.randint(4, WORDS, (ROWS * WINDOW * STEPS + 1,), generator=torch.Generator().manual_seed(0)).tolist()
    streams = Streams(text, rows=ROWS, window=WINDOW)
    with tempfile.TemporaryDirectory() as folder:
        turns = {"plain": plain_turn(cell, streams), "ours": our_turn(cell, streams, Path(folder))}
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(TURNS + 1):
            for name, turn in turns.items():
                began = time.perf_counter()
                turn()
                if number:  # the first turn warms up
                    seconds[name].append(time.perf_counter() - began)
    rates = {name: ROWS * WINDOW * STEPS / statistics.median(each) for name, each in seconds.items()}
    for name, rate in rates.items():
        print(f"{cell:5} {name:6} {rate:9.0f} tokens/s")
    print(f"{cell:5} ratio  {rates['ours'] / rates['plain']:9.3f}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["lstm"]))
