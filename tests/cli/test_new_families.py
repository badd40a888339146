"""Families trained from nothing on the command line: adapt makes one, eval and predict use it."""

import json
from pathlib import Path

import pytest
from said import Say

from lmtasks.model.store import card_of, read_provenance

TAGS = """
task: places
kind: tagging
language: en
dataset_path: json
dataset_kwargs: {data_files: {train: rows.jsonl, test: rows.jsonl}}
training_split: train
test_split: test
inputs: {tokens: tokens, tags: tags}
labels: [O, B-city, I-city]
"""
TEXTS = """
task: letters
kind: language_modelling
language: en
dataset_path: json
dataset_kwargs: {data_files: {train: texts.jsonl, test: texts.jsonl}}
training_split: train
test_split: test
inputs: {text: "{{text}}\\n"}
windows: {concatenate: true, between: ""}
metrics: [token_perplexity, word_perplexity]
"""
ROWS = [
    {"tokens": ["fly", "to", "st.", "louis"], "tags": ["O", "O", "B-city", "I-city"]},
    {"tokens": ["from", "boston", "to", "rome"], "tags": ["O", "B-city", "O", "B-city"]},
    {"tokens": ["fly", "now"], "tags": ["O", "O"]},
] * 8


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    (tmp_path / "tags.yaml").write_text(TAGS)
    (tmp_path / "texts.yaml").write_text(TEXTS)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "texts.jsonl").write_text('{"text": "a b c d"}\n' * 60)
    return tmp_path


def value(out: Path, task: str, metric: str) -> float:
    found = json.loads((out / "results.json").read_text())["results"][task]["metrics"][metric]["value"]
    assert isinstance(found, float)
    return found


def test_tags_are_learned_and_scored_by_entity(say: Say, tasks: Path) -> None:
    adapted = say(
        "adapt", "--backbone", "bilstm:width=16,dropout=0", "--tokenizer", "blanks:50", "--tasks", tasks / "tags.yaml",
        "--out", tasks / "model", "--epochs", 40, "--learning-rate", 0.02, "--tokens-per-batch", 64, "--patience", 0,
    )  # fmt: skip
    assert adapted.code == 0, adapted.err
    assert say("eval", "--model", tasks / "model", "--tasks", tasks / "tags.yaml", "--out", tasks / "out").code == 0
    assert value(tasks / "out", "places", "entity_f1") == 1.0
    sample = json.loads((tasks / "out" / "samples-places.jsonl").read_text().splitlines()[0])
    assert (sample["answer"], sample["target"]) == ("O O B-city I-city", "O O B-city I-city")
    card = card_of(tasks / "model")
    assert (card.family, card.kind) == ("bilstm", "encoder")
    start = read_provenance(tasks / "model")["start"]
    assert start == {"backbone": "bilstm:width=16,dropout=0", "tokenizer": "blanks:50", "vectors": None}


def test_a_running_text_is_learned_and_scored_as_one(say: Say, tasks: Path) -> None:
    adapted = say(
        "adapt", "--backbone", "gru:width=16,layers=1,dropout=0", "--tokenizer", "blanks", "--out", tasks / "model",
        "--tasks", tasks / "texts.yaml", "--epochs", 30, "--learning-rate", 0.02, "--tokens-per-batch", 24,
        "--window", 6, "--patience", 0,
    )  # fmt: skip
    assert adapted.code == 0, adapted.err
    assert say("eval", "--model", tasks / "model", "--tasks", tasks / "texts.yaml", "--out", tasks / "out").code == 0
    assert value(tasks / "out", "letters", "token_perplexity") < 1.5
    assert value(tasks / "out", "letters", "word_perplexity") == pytest.approx(
        value(tasks / "out", "letters", "token_perplexity"), rel=1e-6
    )


def test_word_vectors_are_where_a_family_starts(say: Say, tasks: Path) -> None:
    vectors = tasks / "vectors.txt"
    vectors.write_text("good 1 2 3 4\nbad 4 3 2 1\n")
    told = (
        "adapt",
        "--backbone",
        "average:width=4,buckets=0",
        "--tokenizer",
        "words",
        "--tasks",
        "starter_sentiment_en",
    )
    adapted = say(*told, "--vectors", vectors, "--out", tasks / "model", "--epochs", 0.1, "--learning-rate", 1e-9)
    assert adapted.code == 0, adapted.err
    from lmtasks.backbone.load import load_backbone
    from lmtasks.data.tokenizer import load_tokenizer

    begun = load_backbone(tasks / "model" / "backbone").embeddings().weight
    good = load_tokenizer(tasks / "model" / "backbone").encode("good")[0]
    assert begun[good].tolist() == pytest.approx([1, 2, 3, 4], abs=1e-4)
    vectors.write_text("good 1 2 3\nbad 4 3 2\n")
    refused = say(*told, "--vectors", vectors, "--out", tasks / "other")
    assert refused.code == 2
    assert "give it width=3" in refused.err


def test_what_does_not_fit_is_refused_in_words(say: Say, tasks: Path, llama: Path) -> None:
    for arguments, message in (
        (("--backbone", "lstn", "--tasks", "starter_topic_en"), "unknown model 'lstn'"),
        (("--backbone", "lstm:depth=2", "--tasks", "starter_topic_en"), "unknown setting of lstm 'depth'"),
        (("--backbone", "cnn", "--tokenizer", "wrods", "--tasks", "starter_topic_en"), "did you mean 'words'"),
        (("--backbone", llama, "--tokenizer", "words", "--tasks", "starter_topic_en"), "has its own"),
        (("--backbone", "cnn:width=8", "--tasks", "starter_translation_en_zh"), "an encoder, which cannot generate"),
    ):
        said = say("adapt", *arguments, "--out", tasks / "model")
        assert (said.code, message in said.err) == (2, True), said.err
    made = say(
        "adapt", "--backbone", "cnn:width=8,filters=4", "--tasks", "starter_sentiment_en", "--epochs", 0.1,
        "--out", tasks / "small",
    )  # fmt: skip
    assert made.code == 0, made.err
    unable = say("eval", "--model", tasks / "small", "--tasks", "starter_translation_en_zh", "--out", tasks / "out")
    assert unable.code != 0
    assert "is an encoder, which answers by heads alone" in unable.err


def test_an_encoder_decoder_of_ours_translates(say: Say, tasks: Path) -> None:
    made = say(
        "adapt", "--backbone", "gru-attention:width=16,layers=2", "--tokenizer", "characters", "--epochs", 0.2,
        "--tasks", "starter_translation_en_zh", "--out", tasks / "model",
    )  # fmt: skip
    assert made.code == 0, made.err
    said = say(
        "eval", "--model", tasks / "model", "--tasks", "starter_translation_en_zh", "--limit", 2, "--out", tasks / "o"
    )
    assert said.code == 0, said.err
    assert card_of(tasks / "model").decoder_start == 1
