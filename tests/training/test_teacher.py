"""A teacher's vectors: found again by text, learned from, begun at; and refused where they belong to something else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lmtasks.data.documents import Document
from lmtasks.data.tokenizer import Tokenizer, train_byte_bpe
from lmtasks.data.vectors import EmbeddingModel, read_vectors, text_key, write_vectors
from lmtasks.errors import UsageError
from lmtasks.held_out import held_out
from lmtasks.model.create import Vocabulary, load_backbone, new_language_model
from lmtasks.records import Progress
from lmtasks.settings.training import TrainingSettings
from lmtasks.training.checkpoint import module_tensors
from lmtasks.training.curve import read_log
from lmtasks.training.pretrain import pretrain
from lmtasks.training.teacher import MASK, TARGETS, TOKENS, Lessons, begin_embeddings, prepare_lessons, token_texts

WORDS = ["river", "mill", "sea", "bird", "stone", "wind", "house", "light", "road", "song"]
FAMILY = "llama:width=32,layers=1,heads=2,inner=48,context=32"
SETTINGS = TrainingSettings(
    steps=12, learning_rate=5e-3, batch_rows=8, accumulate=2, evaluate_every=6, checkpoint_every=5
)
ENCODER = EmbeddingModel(name="teacher", hash="1", pooling="mean", note="CC0, tuned on nothing")


def texts(count: int = 1200) -> list[str]:
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, size=12)) + f" {number}." for number in range(count)]


def documents(count: int = 1200) -> tuple[Document, ...]:
    return tuple(Document(text=text, source="invented (CC0)") for text in texts(count))


def counts(text: str) -> list[float]:
    """What the teacher of these tests thinks of a text: how often each word stands in it."""
    return [float(text.split().count(word)) for word in WORDS]


def vectors(folder: Path, given: list[str], *, encoder: EmbeddingModel = ENCODER) -> Path:
    file = folder / "vectors.safetensors"
    write_vectors(file, encoder=encoder, vectors={text_key(text): counts(text) for text in given})
    return file


def run(folder: Path, teacher: Path | None, *, report=lambda _: None, **others: object) -> None:  # type: ignore[no-untyped-def]
    given = {"objective_name": "mixed", "hidden": 0.25, "settings": SETTINGS, **others}
    pretrain(
        corpora=[documents()], weights=None, family=FAMILY, vocabulary=300, window=16, out=folder,
        report=report, teacher=teacher, **given,
    )  # type: ignore[arg-type]  # fmt: skip


def lessons(folder: Path, given: list[str], tokenizer: Tokenizer) -> Lessons:
    return prepare_lessons(
        read_vectors(vectors(folder, given)), [documents()], name="v", tokenizer=tokenizer, tokens=64, seed=1,
        folder=folder, report=lambda _: None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_byte_bpe(texts(), vocabulary=300)


def test_a_batch_holds_passages_and_their_own_vectors(tmp_path: Path, tokenizer: Tokenizer) -> None:
    learned = lessons(tmp_path, texts(), tokenizer)
    apart = [text for text in texts() if held_out(text)]
    assert apart
    assert learned.passages == 1200 - len(apart)
    mean = np.mean([counts(text) for text in texts() if not held_out(text)], axis=0)
    for number in range(5):
        batch = learned.batch(number)
        assert batch[TOKENS].numel() <= 64
        for ids, mask, target in zip(batch[TOKENS], batch[MASK], batch[TARGETS], strict=True):
            text = tokenizer.decode(ids[mask].tolist())
            assert not held_out(text)
            wanted = np.asarray(counts(text)) - mean
            np.testing.assert_allclose(target.numpy(), wanted / np.linalg.norm(wanted), atol=2e-3)
    judged = learned.judged()
    assert judged is not None
    assert {tokenizer.decode(ids[mask].tolist()) for ids, mask in zip(judged[TOKENS], judged[MASK], strict=True)} == {
        *apart
    }


def test_every_passage_of_a_length_comes_once_before_one_comes_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    learned = lessons(tmp_path, texts(), tokenizer)
    seen: list[str] = []
    number = 0
    while len(seen) < learned.passages // 2:
        batch = learned.batch(number)
        seen += [tokenizer.decode(ids[mask].tolist()) for ids, mask in zip(batch[TOKENS], batch[MASK], strict=True)]
        number += 1
    assert len(set(seen)) == len(seen)
    assert torch.equal(learned.batch(3)[TOKENS], lessons(tmp_path, texts(), tokenizer).batch(3)[TOKENS])


def test_a_backbone_comes_near_its_teacher(tmp_path: Path) -> None:
    run(tmp_path / "new", vectors(tmp_path, texts()), teacher_weight=20.0)
    record = json.loads((tmp_path / "new" / "pretraining.json").read_text())
    told = [
        row["validation_parts"]["teacher"]
        for row in read_log(tmp_path / "new.work" / "training.jsonl")
        if "validation" in row
    ]
    assert told[-1] < told[0] < 1
    assert record["teacher"]["held_out"] == pytest.approx(told[-1], abs=0.02)
    card = (tmp_path / "new" / "README.md").read_text()
    assert "teacher (CC0, tuned on nothing), pooled by mean" in card
    assert "find spans read both ways, those that write read causally" in card.replace("\n", " ")
    load_backbone(tmp_path / "new")  # holds nothing of the teacher's


def test_an_interrupted_training_with_a_teacher_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 7:
            raise Killed

    file = vectors(tmp_path, texts())
    run(tmp_path / "whole", file)
    with pytest.raises(Killed):
        run(tmp_path / "cut", file, report=kill)
    run(tmp_path / "cut", file)
    whole, cut = (module_tensors(load_backbone(tmp_path / name)) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_other_vectors_are_another_training(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "new", vectors(tmp_path, texts()), report=stop)
    with pytest.raises(UsageError, match="other settings or data"):
        run(tmp_path / "new", vectors(tmp_path, texts(), encoder=replace(ENCODER, hash="2")))


def test_a_cooldown_may_learn_from_other_vectors_with_another_weight(tmp_path: Path) -> None:
    stable = SETTINGS.but({"decay": "wsd", "warmup_steps": 2, "evaluate_every": 0})
    run(tmp_path / "stable", vectors(tmp_path, texts()), settings=stable)
    begun = {"start": tmp_path / "stable.work", "settings": stable.but({"cooldown_steps": 4}), "cool_now": True}
    other = vectors(tmp_path, texts(), encoder=replace(ENCODER, hash="2"))
    run(tmp_path / "cooled", other, **begun, teacher_weight=20.0)
    record = json.loads((tmp_path / "cooled" / "pretraining.json").read_text())
    assert record["steps"] == SETTINGS.steps + 4
    assert record["teacher"]["weight"] == 20.0
    with pytest.raises(UsageError, match="other settings or data"):  # what it has begun with it goes on with
        run(tmp_path / "cooled", other, **begun, teacher_weight=5.0)


def test_vectors_of_other_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of the 2 vectors .* lmtasks embed --data TEXT --passages 400"):
        run(tmp_path / "new", vectors(tmp_path, ["something", "else"]))
    with pytest.raises(UsageError, match="the objective causal reads none"):
        run(tmp_path / "new", vectors(tmp_path, texts()), objective_name="causal", hidden=None)


def test_token_embeddings_begin_where_the_teacher_puts_the_tokens(tmp_path: Path, tokenizer: Tokenizer) -> None:
    words = token_texts(tokenizer)
    assert "river" in words.values()
    assert tokenizer.eos not in words
    draw = np.random.default_rng(3)
    made = {text: draw.normal(size=8) for text in sorted(set(words.values()))}
    file = tmp_path / "tokens.safetensors"
    write_vectors(file, encoder=ENCODER, vectors={text_key(text): vector for text, vector in made.items()})
    backbone = new_language_model(
        FAMILY, Vocabulary(size=tokenizer.vocabulary, bos=None, eos=tokenizer.eos, pad=tokenizer.pad), seed=1
    )
    before = backbone.embeddings().weight.detach().clone()
    assert begin_embeddings(backbone, read_vectors(file), tokenizer, name="v") == len(words)
    after = backbone.embeddings().weight.detach()
    untouched = [index for index in range(tokenizer.vocabulary) if index not in words]
    assert torch.equal(before[untouched], after[untouched])
    ids = sorted(words)
    mean = np.mean([made[words[index]] for index in ids], axis=0)
    wanted = torch.tensor(np.stack([made[words[index]] - mean for index in ids]))
    cosines = torch.nn.functional.normalize(wanted) @ torch.nn.functional.normalize(wanted).T
    found = torch.nn.functional.normalize(after[ids].double())
    torch.testing.assert_close(found @ found.T, cosines, atol=5e-3, rtol=0)  # turned, not bent
    assert float(after[ids].std()) == pytest.approx(float(before[ids].std()), rel=0.01)


def test_vectors_of_another_vocabulary_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    backbone = new_language_model(
        FAMILY, Vocabulary(size=tokenizer.vocabulary, bos=None, eos=tokenizer.eos, pad=tokenizer.pad), seed=1
    )
    with pytest.raises(UsageError, match="lmtasks embed --vocabulary FOLDER"):
        begin_embeddings(backbone, read_vectors(vectors(tmp_path, ["river"])), tokenizer, name="v")
