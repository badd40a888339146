"""Task files for both sides, written when they are needed.

The peer's own task files are included where they lie; only what the local mirror of the Hub lacks is overridden (where
the rows are, and splits that are not there). Tasks that it does not have are written here, in the schema that both
read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True)
class PeerTask:
    """One task."""

    name: str
    data: str
    """Folder in the mirror; empty: rows are made here."""
    include: str = ""
    """The peer's own file, relative to its task folder."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Overrides, or the whole file where nothing is included."""
    shots: tuple[int, ...] = (0,)
    """Numbers of worked examples to compare with."""
    limit: int = 60
    """Documents at scale 1."""
    seq2seq: bool = True
    """Is it asked of encoder-decoders too?"""


ARC = {"validation_split": None}
TRANSLATION = {
    "output_type": "generate_until",
    "metric_list": [{"metric": name} for name in ("bleu", "chrf", "chrf++", "ter")],
}
LETTERS = {
    "output_type": "generate_until",
    "training_split": "train",
    "test_split": "test",
    "doc_to_text": (
        "{{question}}\n{% for text in choices.text %}{{'ABCDE'[loop.index0]}}. {{text}}\n{% endfor %}Answer:"
    ),
    "doc_to_target": "{{'ABCDE'[choices.label.index(answerKey)]}}",
    "generation_kwargs": {"max_gen_toks": 24, "until": ["\n\n", "Question"]},
    "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
    "filter_list": [
        {
            "name": "first-letter",
            "filter": [{"function": "regex", "regex_pattern": "([A-Ea-e])"}, {"function": "take_first"}],
        },
        {
            "name": "last-letter",
            "filter": [
                {"function": "regex", "regex_pattern": "([a-e])", "group_select": -1, "fallback": "?"},
                {"function": "map", "mapping_dict": {"a": "A", "b": "B", "c": "C", "d": "D"}, "default_value": "none"},
                {"function": "take_first"},
            ],
        },
        {
            "name": "plain",
            "filter": [{"function": "remove_whitespace"}, {"function": "lowercase"}, {"function": "take_first"}],
        },
    ],
}
SUMS = {
    "dataset_path": "json",
    "output_type": "generate_until",
    "training_split": "train",
    "test_split": "test",
    "doc_to_text": "Q: {{question}}\nA:",
    "doc_to_target": "{{answer}}",
    "target_delimiter": " ",
    "repeats": 3,
    "generation_kwargs": {"max_gen_toks": 20, "until": ["\n", "Q:"]},
    "metric_list": [{"metric": "exact_match", "regexes_to_ignore": [",", "\\$"]}],
    "filter_list": [
        {
            "name": "strict",
            "filter": [{"function": "regex", "regex_pattern": "^ ?(\\-?[0-9]+)"}, {"function": "take_first"}],
        },
        {
            "name": "voted",
            "filter": [
                {"function": "regex", "regex_pattern": "(-?[0-9]+)", "group_select": -1},
                {"function": "take_first_k", "k": 2},
                {"function": "majority_vote"},
                {"function": "take_first"},
            ],
        },
    ],
}

UNEVEN = {
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answerKey}}",
    # A model of seeded weights ends nowhere by itself: many short strings stop it, sooner or later.
    "generation_kwargs": {"max_gen_toks": 96, "until": ["q", "z", "th", "。", "\n"]},
    "metric_list": [{"metric": "exact_match"}],
}
"""Answers of very different lengths."""

LABELS = {
    "output_type": "multiple_choice",
    "training_split": "train",
    "test_split": "test",
    "doc_to_text": "{{text}}\nTopic:",
    "doc_to_target": "label",
    "doc_to_choice": ["world", "sports", "business", "knowledge"],
    "metric_list": [{"metric": "acc"}],
}
"""Labels as answers, each one token of the checkpoints' tokenizer."""

TASKS: tuple[PeerTask, ...] = (
    PeerTask(name="arc_easy", include="arc/arc_easy.yaml", data="allenai/ai2_arc/ARC-Easy", keys=ARC, shots=(0, 5)),
    PeerTask(
        name="arc_challenge",
        include="arc/arc_challenge.yaml",
        data="allenai/ai2_arc/ARC-Challenge",
        keys=ARC,
        shots=(0, 5),
    ),
    PeerTask(
        name="openbookqa", include="openbookqa/openbookqa.yaml", data="allenai/openbookqa/main", keys=ARC, shots=(0, 5)
    ),
    # The shots of these two come from the scored split itself: the document is left out of them.
    PeerTask(
        name="piqa",
        include="piqa/piqa.yaml",
        data="baber/piqa",
        keys={"training_split": None},
        shots=(0, 5),
        limit=40,
    ),
    PeerTask(
        name="winogrande",
        include="winogrande/default.yaml",
        data="allenai/winogrande/winogrande_xl",
        keys={"training_split": None},
        shots=(0, 5),
    ),
    PeerTask(name="lambada_openai", include="lambada/lambada_openai.yaml", data="EleutherAI/lambada_openai/default"),
    PeerTask(
        name="wikitext",
        include="wikitext/wikitext.yaml",
        data="EleutherAI/wikitext_document_level/wikitext-2-v1",
        keys={"training_split": None},
        limit=6,
    ),
    PeerTask(name="cola", include="glue/cola/default.yaml", data="nyu-mll/glue/cola", shots=(0, 5), limit=120),
    PeerTask(
        name="mrpc",
        include="glue/mrpc/default.yaml",
        data="nyu-mll/glue/mrpc",
        keys={"validation_split": None, "test_split": "test"},
        shots=(0, 5),
    ),
    PeerTask(name="arc_letters", data="allenai/ai2_arc/ARC-Easy", keys=LETTERS, shots=(0, 5), limit=40),
    PeerTask(name="labels", data="fancyzhx/ag_news", keys=LABELS, shots=(0, 5), limit=40),
    PeerTask(name="uneven", data="allenai/ai2_arc/ARC-Easy", keys=UNEVEN, shots=()),
    PeerTask(name="sums", data="", keys=SUMS, shots=(0, 5), limit=40),
    PeerTask(
        name="multi30k_en_de",
        data="bentrevett/multi30k",
        shots=(0, 5),
        limit=30,
        keys={
            **TRANSLATION,
            "training_split": "train",
            "test_split": "test",
            "doc_to_text": "{{en}}\nDeutsch:",
            "doc_to_target": "{{de}}",
            "generation_kwargs": {"max_gen_toks": 96, "until": ["\n"]},
        },
    ),
    PeerTask(
        name="tatoeba_en_zh",
        data="tatoeba/cmn-eng",
        shots=(0, 5),
        limit=30,
        keys={
            **TRANSLATION,
            "training_split": "train",
            "test_split": "test",
            "doc_to_text": "{{en}}\n中文：",
            "doc_to_target": "{{zh}}",
            "target_delimiter": "",
            "generation_kwargs": {"max_gen_toks": 40, "until": ["\n", "。"]},
        },
    ),
)


def write_tasks(folder: Path, *, peer_files: Path, data_root: Path) -> Path:
    """All task files, and the rows that are made here, in one folder that both sides read.

    Args:
        folder: where to.
        peer_files: the peer's own task files.
        data_root: the mirror of the Hub.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        if task.data:
            place = {"dataset_path": str((data_root / task.data).resolve()), "dataset_name": None}
        else:
            files = _sums(folder / "rows" / task.name)
            place = {"dataset_kwargs": {"data_files": files}}
        include = {"include": str(peer_files / task.include)} if task.include else {}
        content = {**include, "task": task.name, **task.keys, **place}
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        (folder / f"{task.name}.yaml").write_text(text, encoding="utf-8")
    return folder


def _sums(folder: Path) -> dict[str, str]:
    """Small sums in words; seeded."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = Random(0)
    files: dict[str, str] = {}
    for split, count in (("train", 40), ("test", 60)):
        lines = []
        for _ in range(count):
            one, two = draw.randint(2, 99), draw.randint(2, 99)
            lines.append({"question": f"What is {one} plus {two}?", "answer": str(one + two)})
        file = folder / f"{split}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        files[split] = str(file)
    return files
