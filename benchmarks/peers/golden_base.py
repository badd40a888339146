"""What golden files hold: small tasks over the project's own rows, each for the rules that it exercises.

A case's YAML is in the schema that both harnesses read; FOLDER in it stands for the folder that it is written to.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sides import ROOT, Chat

STARTER = ROOT / "tasks" / "starter"
EVERY = ("tiny-llama", "tiny-gpt2", "tiny-t5", "lmtasks-mini")
CAUSAL = ("tiny-llama", "tiny-gpt2", "lmtasks-mini")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task under one setting."""

    name: str
    about: str
    """The rules that it holds."""
    file: str
    """The golden file that it goes to."""
    yaml: str
    """Without `task`, `dataset_path` and `dataset_kwargs`."""
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    """By split."""
    checkpoints: tuple[str, ...] = EVERY
    num_fewshot: int | None = None
    limit: int | None = None
    chat: Chat = "no"
    system: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Code that lies beside the task file."""


def starter(folder: str, split: str, count: int) -> list[dict[str, Any]]:
    """The first rows of a split of the embedded suite."""
    with (STARTER / folder / f"{split}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(next(lines)) for _ in range(count)]


TOPICS = {"test": starter("topic_en", "test", 10), "train": starter("topic_en", "train", 12)}
TOPICS_ZH = {"test": starter("topic_zh", "test", 8), "train": starter("topic_zh", "train", 8)}
FEELINGS = {"test": starter("sentiment_en", "test", 14), "train": starter("sentiment_en", "train", 8)}
PAIRS = {"test": starter("translation_en_zh", "test", 8), "train": starter("translation_en_zh", "train", 8)}
PARAGRAPHS = {"test": starter("paragraphs_en", "test", 3) + starter("paragraphs_zh", "test", 2)}
SHORT = {"test": [{"text": row["text"][:90]} for row in PARAGRAPHS["test"]] + [{"text": " a  b\n"}]}
QUESTIONS = {
    "test": [
        {"passage": row["context"], "question": row["question"], "choices": ["yes", "no", "it does not say"], "gold": 2}
        for row in starter("qa_en", "test", 5)
    ]
}

TOPIC = """
output_type: multiple_choice
test_split: test
training_split: train
doc_to_text: "{{text}}\\nQuestion: What is this about?\\nAnswer:"
doc_to_choice: [business, culture, science, sports]
doc_to_target: "{{['business', 'culture', 'science', 'sports'].index(label)}}"
"""
HOOKS = """
import re


def longer(rows):
    return rows.filter(lambda row: len(row["text"]) > 110)


def shorter(rows):
    return rows.filter(lambda row: len(row["text"]) <= 130)


def results(row, answers):
    (text,) = answers
    words = re.findall(r"\\w+", text)
    return {"words": len(words), "shared": float(any(word in row["text"] for word in words))}


def biggest(values):
    return max(values)
"""
MEASURES = "metric_list: [" + ", ".join(f"{{metric: {name}}}" for name in ("acc", "acc_norm", "acc_bytes")) + "]\n"
