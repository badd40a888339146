"""n-gram models beside KenLM on Penn Treebank: equal token by token, and how fast each is.

    python benchmarks/peers/ngram.py --data-root MIRROR [--out FILE.json]

KenLM's query side is `pip install kenlm`; its trainer, `lmplz`, is looked for on the PATH. A part of it that is not
there is left out, and the reason is printed. Both sides are timed in turn, on one thread; medians of the rounds.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow.parquet as pq

from lmtasks.backbone.arpa import read_arpa, write_arpa
from lmtasks.backbone.kneser_ney import count_ngrams, kneser_ney
from lmtasks.backbone.ngram import Ngram
from lmtasks.records import Floats, Ints

PUBLISHED = 141.2
"""Mikolov and Zweig 2012, KN5."""
WITHIN = 0.2
MOST_TRAINING_S = 20.0
LEAST_TOKENS_PER_S = 300_000
CLOSE = 1e-4
"""ARPA files keep seven digits; KenLM adds log10 values in fp32."""


def main() -> int:
    """Exit code 0: every demand that could be looked at is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    train, test = (read_lines(asked.data_root, split) for split in ("train", "test"))
    words = list(dict.fromkeys(["\n", *(word for line in train for word in line)]))
    number = {word: place for place, word in enumerate(words)}
    text, scored = (np.array([number[word] for line in part for word in (*line, "\n")]) for part in (train, test))

    def fit() -> Ngram:
        return kneser_ney(count_ngrams([text], order=asked.order, vocabulary=len(words), ends=(0,)))

    training = [timed(fit) for _ in range(3)]
    ours = fit()
    logprobs = token_logprobs(ours, scored)
    record: dict[str, object] = {
        "order": asked.order,
        "tokens": len(scored),
        "perplexity": math.exp(-logprobs.mean()),
        "training_s": statistics.median(training),
        "ngrams": [len(level.keys) for level in ours.levels],
    }
    with tempfile.TemporaryDirectory() as place:
        arpa = Path(place) / "ours.arpa"
        write_arpa(ours, arpa, words=words)
        sides: dict[str, Callable[[], object]] = {"ours": lambda: token_logprobs(ours, scored)}
        query = kenlm_query(arpa, test)
        if query is None:
            record["kenlm"] = "skipped: kenlm is not installed; pip install kenlm"
        else:
            record["kenlm_largest_difference"] = float(np.abs(query() - logprobs).max())
            sides["kenlm"] = query
        record["scoring_tokens_per_s"] = race(sides, tokens=len(scored), rounds=asked.rounds)
        record["lmplz"] = trainer(train, test, place=Path(place), order=asked.order, ours=logprobs)
    print(json.dumps(record, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0 if all(met(record)) else 1


def met(record: dict[str, object]) -> list[bool]:
    """The demands, each with a line that says how it went."""
    speeds = record["scoring_tokens_per_s"]
    assert isinstance(speeds, dict)  # made above
    demands = [
        ("perplexity", abs(float(str(record["perplexity"])) - PUBLISHED) <= WITHIN),
        ("training time", float(str(record["training_s"])) < MOST_TRAINING_S),
        ("scoring speed", speeds["ours"] >= LEAST_TOKENS_PER_S),
        ("equal to KenLM", float(str(record.get("kenlm_largest_difference", 0.0))) < CLOSE),
    ]
    for name, holds in demands:
        print(f"{name}: {'met' if holds else 'MISSED'}")
    return [holds for _, holds in demands]


def read_lines(root: Path, split: str) -> list[list[str]]:
    """Words of each line of a split."""
    file = root / "ptb-text-only" / "ptb_text_only" / f"{split}.parquet"
    return [line.split() for line in pq.read_table(file)["sentence"].to_pylist()]


def token_logprobs(model: Ngram, ids: Ints) -> Floats:
    """Of every token of a text that begins a line."""
    before = model.start(1)
    states = np.concatenate([before, model.read(before, ids[None])[0, :-1]])
    return model.score(states, ids).astype(np.float64)


def kenlm_query(arpa: Path, lines: list[list[str]]) -> Callable[[], Floats] | None:
    """KenLM over the same file: natural log-probabilities of all words and ends of lines; None: not installed."""
    if find_spec("kenlm") is None:
        return None
    import kenlm

    loaded = kenlm.Model(str(arpa))
    known = [" ".join(line) for line in lines]

    def ask() -> Floats:
        found = [logprob for line in known for logprob, _, _ in loaded.full_scores(line)]
        return np.array(found) * math.log(10)

    return ask


def trainer(
    train: list[list[str]], test: list[list[str]], *, place: Path, order: int, ours: Floats
) -> str | dict[str, float]:
    """KenLM's own estimate of the same text: how long it takes, and how far its log-probabilities lie from ours."""
    program = shutil.which("lmplz")
    if program is None:
        return "skipped: lmplz is not on the PATH; build it from https://github.com/kpu/kenlm (cmake, boost)"
    # PTB has <unk> as a word, which lmplz keeps for itself.
    text = "".join(" ".join(line).replace("<unk>", "UNK") + "\n" for line in train)
    began = perf_counter()
    done = subprocess.run(
        [program, "-o", str(order), "-T", str(place), "-S", "1G"],
        input=text.encode(), capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    seconds = perf_counter() - began
    (place / "lmplz.arpa").write_bytes(done.stdout)
    model, words = read_arpa(place / "lmplz.arpa")
    number = {word: token for token, word in enumerate(words)}
    names = [name.replace("<unk>", "UNK") for line in test for name in (*line, "</s>")]
    found = token_logprobs(model, np.array([number[name] for name in names]))
    return {
        "training_s": seconds,
        "largest_difference": float(np.abs(found - ours).max()),
        "perplexity": math.exp(-found.mean()),
    }


def race(sides: dict[str, Callable[[], object]], *, tokens: int, rounds: int) -> dict[str, float]:
    """Tokens per second of each side, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, ask in sides.items():
            taken = timed(ask)
            if turn:  # the first one warms up
                seconds[name].append(taken)
    return {name: tokens / statistics.median(taken) for name, taken in seconds.items()}


def timed(ask: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = perf_counter()
    ask()
    return perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
