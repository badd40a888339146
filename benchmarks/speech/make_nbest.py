"""Sentences to n-best lists with scores, by real parts: espeak-ng reads them, noise is added, pocketsphinx decodes.

    apt-get install espeak-ng pocketsphinx-en-us        # Debian, Ubuntu
    pip install pocketsphinx
    python benchmarks/speech/make_nbest.py sentences.jsonl --column en --out lists.jsonl

A line of the result, as the task kind `rescoring` reads it:

    {"id": 3, "reference": "he went home", "hypotheses": [{"text": "he went", "acoustic": -61.2, "language": -9.1}]}

The lists are those of the decoder's own word lattice: its acoustic scores as they stand there, and the probability that
its own language model gives to the words. They are ordered by the weights that the decoder itself uses, so that the
first hypothesis is its answer. (Its `nbest()` gives one number a hypothesis, in which the two cannot be told apart, and
whose order is not that of its own best path.) Natural logarithms.

Axes: N samples of sound.
"""

import argparse
import heapq
import json
import math
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pocketsphinx import Decoder
from scipy.signal import resample_poly

MODEL = Path("/usr/share/pocketsphinx/model/en-us")
VOICE, WORDS_PER_MINUTE = "en-us+klatt3", 150
RATE = 16_000
"""Samples a second that the acoustic model was trained on."""
SILENCE = RATE // 4
"""Samples before and behind a sentence."""
LOG_BASE = math.log(1.0001)
"""Logarithms of pocketsphinx are whole numbers, to this base."""
FILLERS = re.compile(r"^(<s>|</s>|<sil>|\[\w+\]|\+\+\w+\+\+|!NULL)$")

Sound = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One way through a lattice."""

    words: tuple[str, ...]
    acoustic: float
    language: float


def read_aloud(text: str, *, snr_db: float, seed: int) -> Sound:
    """(N,) a sentence as sound with white noise, so many decibels below it."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-v", VOICE, "-s", str(WORDS_PER_MINUTE), "-w", file.name, "--", text], check=True)
        with wave.open(file.name) as sound:
            rate, frames = sound.getframerate(), sound.readframes(sound.getnframes())
    common = math.gcd(rate, RATE)
    spoken = resample_poly(np.frombuffer(frames, dtype=np.int16).astype(np.float64), RATE // common, rate // common)
    padded = np.concatenate([np.zeros(SILENCE), spoken, np.zeros(SILENCE)])
    noise = np.random.default_rng(seed).standard_normal(len(padded))
    return padded + noise * math.sqrt(float(np.mean(spoken**2)) / 10 ** (snr_db / 10))


class Recogniser:
    """pocketsphinx with its own American model, and the lists of its lattices.

    Args:
        count: hypotheses of a list, at most.
    """

    def __init__(self, *, count: int) -> None:
        self._decoder = Decoder(
            hmm=str(MODEL / "en-us"),
            lm=str(MODEL / "en-us.lm.bin"),
            dict=str(MODEL / "cmudict-en-us.dict"),
            loglevel="FATAL",
        )
        self._model = self._decoder.get_lm()
        self._weight = float(self._decoder.config["lw"])
        self._word = math.log(self._decoder.config["wip"])
        self._fillers = {
            "<sil>": math.log(self._decoder.config["silprob"]),
            "": math.log(self._decoder.config["fillprob"]),
        }
        self._count = count
        self.language = lru_cache(maxsize=None)(self._language)

    def hear(self, sound: Sound) -> list[Heard]:
        """The different word sequences that were most likely said, the best first."""
        self._decoder.start_utt()
        self._decoder.process_raw(np.clip(sound, -32768, 32767).astype(np.int16).tobytes(), full_utt=True)
        self._decoder.end_utt()
        lattice = self._decoder.get_lattice()
        if lattice is None:
            return []
        with tempfile.NamedTemporaryFile(suffix=".lat") as file:
            lattice.write(file.name)
            return self._paths(Path(file.name).read_text(encoding="utf-8").splitlines())

    def _language(self, word: str, before: tuple[str, ...]) -> float:
        """The log-probability of a word behind the last two; the model reads them last word first."""
        return float(self._model.prob([word, *reversed(before)])) * LOG_BASE

    def _paths(self, lines: Sequence[str]) -> list[Heard]:
        """The best ways from the first node to the last, extended node by node in the order of time."""
        nodes, edges, first, last = _read_lattice(lines)
        best: dict[int, dict[tuple[str, ...], Heard]] = {first: {(): Heard(words=(), acoustic=0.0, language=0.0)}}
        for node in sorted(nodes, key=lambda name: (nodes[name][1], name == last)):
            ways = heapq.nlargest(self._count, best.pop(node, {}).values(), key=self._total)
            if node == last:
                return [self._ended(way) for way in ways]
            for target, acoustic in edges.get(node, ()):
                for way in ways:
                    longer = self._extended(way, nodes[target][0], acoustic=acoustic)
                    known = best.setdefault(target, {})
                    if longer.words not in known or self._total(known[longer.words]) < self._total(longer):
                        known[longer.words] = longer
        return []

    def _extended(self, way: Heard, word: str, *, acoustic: float) -> Heard:
        if FILLERS.match(word):
            told = 0.0 if word in ("<s>", "</s>") else self._fillers.get(word, self._fillers[""])
            return Heard(words=way.words, acoustic=way.acoustic + acoustic + told, language=way.language)
        language = self.language(word, ("<s>", *way.words)[-2:])
        return Heard(words=(*way.words, word), acoustic=way.acoustic + acoustic, language=way.language + language)

    def _ended(self, way: Heard) -> Heard:
        end = self.language("</s>", ("<s>", *way.words)[-2:])
        return Heard(words=way.words, acoustic=way.acoustic, language=way.language + end)

    def _total(self, way: Heard) -> float:
        return way.acoustic + self._weight * way.language + self._word * len(way.words)

    def in_order(self, heard: Sequence[Heard]) -> list[Heard]:
        """By the decoder's own weights, once the end of the sentence is counted too."""
        return sorted(heard, key=self._total, reverse=True)


def _read_lattice(
    lines: Sequence[str],
) -> tuple[dict[int, tuple[str, int]], dict[int, list[tuple[int, float]]], int, int]:
    """Nodes (word, first frame), edges (target, acoustic log-likelihood), the first node and the last one."""
    nodes: dict[int, tuple[str, int]] = {}
    edges: dict[int, list[tuple[int, float]]] = {}
    first = last = 0
    for line in lines:
        cells = line.split()
        match cells:
            case ["Initial", name, *_]:
                first = int(name)
            case ["Final", name, *_]:
                last = int(name)
            case [name, word, frame, _, _, ";", *_]:
                nodes[int(name)] = (re.sub(r"\(\d+\)$", "", word), int(frame))
            case [start, target, score] if score.lstrip("-").isdigit() and start.isdigit():
                edges.setdefault(int(start), []).append((int(target), int(score) * LOG_BASE))
    return nodes, edges, first, last


def spoken_words(text: str) -> str:
    """A sentence as the decoder writes: small letters, apostrophes, no other marks.

    >>> spoken_words("Don't go, it's late!")
    "don't go it's late"
    """
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("’", "'")).split())


def rows(
    sentences: Sequence[str], *, count: int, snr_db: tuple[float, float], seed: int
) -> Iterator[dict[str, object]]:
    """The lists of sentences, each with noise of its own."""
    recogniser = Recogniser(count=count)
    for number, sentence in enumerate(sentences):
        level = float(np.random.default_rng([seed, number]).uniform(*snr_db))
        sound = read_aloud(sentence, snr_db=level, seed=seed * 100_003 + number)
        heard = recogniser.in_order(recogniser.hear(sound))
        yield {
            "id": number,
            "reference": spoken_words(sentence),
            "snr_db": round(level, 1),
            "hypotheses": [
                {"text": " ".join(way.words), "acoustic": round(way.acoustic, 3), "language": round(way.language, 3)}
                for way in heard
            ],
        }


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sentences", type=Path, help="JSONL with a sentence a line")
    options.add_argument("--column", default="text", help="the column of the sentences")
    options.add_argument("--out", type=Path, required=True, help="where the lists go, JSONL")
    options.add_argument("--first", type=int, help="only so many first sentences")
    options.add_argument("--count", type=int, default=20, help="hypotheses of a list, at most")
    options.add_argument("--snr", type=float, nargs=2, default=(10.0, 20.0), help="noise in decibels, from and to")
    options.add_argument("--seed", type=int, default=1234)
    given = options.parse_args()
    read = [json.loads(line)[given.column] for line in given.sentences.read_text(encoding="utf-8").splitlines()]
    kept = [text for text in read if not re.search(r"\d", text)][: given.first]
    heard = 0
    with given.out.open("w", encoding="utf-8") as out:
        for row in rows(kept, count=given.count, snr_db=tuple(given.snr), seed=given.seed):
            if row["hypotheses"]:  # else nothing was heard, and there is nothing to choose from
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                heard += 1
    print(f"{heard} lists of {len(kept)} sentences in {given.out}")


if __name__ == "__main__":
    main()
