"""Text to backbone: held-out text is kept apart, mixing is exact, a run resumes, any other tool loads the folder."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from lmtasks.data.corpus import WindowSampler, tokenize_corpus
from lmtasks.data.documents import Document, Documents, by_source, read_documents, survey
from lmtasks.data.tokenizer import load_tokenizer, train_byte_bpe
from lmtasks.errors import UsageError, WorkError
from lmtasks.held_out import held_out
from lmtasks.model.create import load_backbone
from lmtasks.records import Progress
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import TrainingSettings
from lmtasks.training.checkpoint import position_of
from lmtasks.training.closed_form import count_text
from lmtasks.training.curve import cut_log, read_log, thinned
from lmtasks.training.pretrain import pretrain

WORDS = ["river", "mill", "sea", "bird", "stone", "wind", "house", "light", "road", "song"]
SETTINGS = TrainingSettings(steps=12, learning_rate=5e-3, batch_rows=8, accumulate=2, evaluate_every=6)


def corpus(*, count: int = 600, seed: int = 0, source: str = "invented (CC0)") -> tuple[Document, ...]:
    draw = np.random.default_rng(seed)
    return tuple(
        Document(text=" ".join(draw.choice(WORDS, size=20)) + f" {number}.", source=source) for number in range(count)
    )


def run(folder: Path, *, report=lambda _: None, beside: Path | None = None):  # type: ignore[no-untyped-def]
    return pretrain(
        corpora=[corpus(), corpus(seed=1, source="other (CC0)")], weights=[3, 1],
        family="llama:width=32,layers=1,heads=2,inner=48,context=32", vocabulary=300, window=16,
        settings=SETTINGS, out=folder, report=report, beside=beside,
    )  # fmt: skip


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained backbone, for what begins with one: read only."""
    folder = tmp_path_factory.mktemp("pretrained") / "first"
    run(folder)
    return folder


def test_the_backbone_learns_and_any_tool_can_load_it(tmp_path: Path) -> None:
    trained, scores = run(tmp_path / "new")
    assert trained.steps == 12
    assert {score.source for score in scores} == {"invented (CC0)", "other (CC0)"}
    assert all(0 < score.bits_per_byte < 8 for score in scores)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new")
    text = corpus()[0].text
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer(text)["input_ids"] == load_tokenizer(tmp_path / "new").encode(text)
    assert next(model.parameters()).dtype == torch.bfloat16
    record = json.loads((tmp_path / "new" / "pretraining.json").read_text())
    assert record["tokens_seen"] == 12 * 8 * 16
    card = (tmp_path / "new" / "README.md").read_text()
    assert "other (CC0) | 600" in card
    assert "both ways" not in card  # of a causal objective
    assert math.isclose(record["held_out"][0]["bits_per_byte"], scores[0].bits_per_byte)


def test_an_interrupted_pretraining_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 7:
            raise Killed

    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "parts", report=kill)
    run(tmp_path / "parts")
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_held_out_documents_are_never_trained_on(tmp_path: Path) -> None:
    documents = corpus(count=2000)
    kept = [document for document in documents if held_out(document.text)]
    assert 2 <= len(kept) <= 25  # 5 in 1,000
    tokenizer = train_byte_bpe([document.text for document in documents[:200]], vocabulary=300)
    tokens = tokenize_corpus(
        documents, facts=survey(documents, corpus=0), tokenizer=tokenizer, seed=0, folder=tmp_path,
        report=lambda _: None,
    )  # fmt: skip
    text = tokenizer.decode(tokens.train.tolist())
    assert not [document for document in kept if document.text in text]
    ((source, size, ids),) = tokens.held_out
    assert (source, size) == ("invented (CC0)", sum(len(document.text.encode()) for document in kept))
    assert tokenizer.decode(ids.tolist()).count(".") == len(kept)


def test_windows_are_mixed_by_weight_and_each_is_seen_once_an_epoch() -> None:
    corpora = [np.arange(0, 1001), np.arange(10_000, 10_501)]
    sampler = WindowSampler(corpora, weights=[2, 1], window=10, seed=5, names=["a", "b"])
    rows = sampler.rows(0, 150)
    first = rows[rows[:, 0] < 10_000]
    assert len(first) == 100
    assert sorted(first[:, 0].tolist()) == list(range(0, 1000, 10))
    assert sorted(rows[rows[:, 0] >= 10_000][:, 0].tolist()) == list(range(10_000, 10_500, 10))
    assert (sampler.rows(40, 10) == rows[40:50]).all()


def test_text_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text('{"text": "one", "source": "a (CC0)"}\n{"text": " "}\n', encoding="utf-8")
    found = read_documents(str(file), column="text", options=DataAccess())
    assert list(found) == list(found) == [Document(text="one", source="a (CC0)")]
    with pytest.raises(UsageError, match="did you mean 'text'"):
        read_documents(str(file), column="texts", options=DataAccess())


def test_too_little_text_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none was drawn for evaluation"):
        pretrain(
            corpora=[corpus(count=3)], weights=[1], family="llama:width=32,layers=1,heads=2", vocabulary=260, window=4,
            settings=SETTINGS, out=tmp_path / "new", report=lambda _: None,
        )  # fmt: skip
    with pytest.raises(UsageError, match="a has 5 tokens to train on, fewer than one window of 11"):
        WindowSampler([np.arange(5)], weights=[1], window=10, seed=0, names=["a"])


def test_later_epochs_cut_the_text_elsewhere() -> None:
    sampler = WindowSampler([np.arange(0, 1001)], weights=[1], window=10, seed=5, names=["a"])
    first, second = sampler.rows(0, 100), sampler.rows(100, 100)
    assert set(first[:, 0].tolist()) == set(range(0, 1000, 10))
    offsets = {int(row[0]) % 10 for row in second if row[0] < row[-1]}
    assert len(offsets) == 1
    assert offsets != {0}
    assert len(np.unique(second[:, :-1])) > 985  # a window may lie across the end


def test_every_source_gets_its_share() -> None:
    rows = [{"text": f"text {number}", "source": "other (CC0)"} for number in range(3)]
    mixed = [Documents(name="invented (CC0)", rows=[{"text": "one"}, *rows]), Documents(name="two", rows=rows)]
    with pytest.raises(UsageError, match="two"):
        by_source([*mixed, Documents(name="two", rows=[{"text": "one"}])], sources=("other (CC0)", "invented (CC0)"))
    parts = by_source(mixed, sources=("other (CC0)", "invented (CC0)"))
    assert [len(list(part)) for part in parts] == [6, 1]
    with pytest.raises(UsageError, match="invented"):
        by_source(mixed, sources=("other (CC0)",))
    with pytest.raises(UsageError, match=r"did you mean 'other \(CC0\)'"):
        by_source(mixed, sources=("other (CC)", "invented (CC0)"))


def test_a_vocabulary_that_the_text_does_not_support_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"supports a vocabulary of \d+ tokens, fewer than the 3,000"):
        pretrain(
            corpora=[corpus()], weights=[1], family="llama:width=32,layers=1,heads=2", vocabulary=3000, window=16,
            settings=SETTINGS, out=tmp_path / "new", report=lambda _: None,
        )  # fmt: skip


def test_a_cooldown_starts_from_a_checkpoint_and_leaves_it_alone(tmp_path: Path) -> None:
    stable = SETTINGS.but(dict(decay="wsd", floor=0.0, warmup_steps=2, checkpoint_every=3, evaluate_every=0))
    arguments = {
        "corpora": [corpus()], "weights": [1], "vocabulary": 300, "window": 16, "report": lambda _: None,
        "family": "llama:width=32,layers=1,heads=2,inner=48,context=32",
    }  # fmt: skip
    pretrain(**arguments, settings=stable.but(dict(steps=6)), out=tmp_path / "stable")
    before = position_of(tmp_path / "stable.work" / "checkpoint")
    cooled = {"settings": stable.but(dict(steps=100, cooldown_steps=4)), "cool_now": True}
    start = tmp_path / "stable.work"
    trained, _ = pretrain(**arguments, **cooled, start=start, out=tmp_path / "cooled")
    assert trained.steps == 10
    log = [json.loads(line) for line in (tmp_path / "cooled.work" / "training.jsonl").open()]
    assert [record["step"] for record in log] == list(range(1, trained.steps + 1))  # the whole curve is told
    assert [record["learning_rate"] for record in log[6:]] == pytest.approx(
        [5e-3 * (1 - math.sqrt(step / 4)) for step in range(4)]
    )
    assert position_of(start / "checkpoint") == before
    pretrain(**arguments, settings=stable.but(dict(steps=10, cooldown_steps=4)), out=tmp_path / "whole")
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "cooled")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_training_starts_warm_from_a_backbone(tmp_path: Path, first: Path) -> None:
    arguments = {"corpora": [corpus()], "weights": [1], "vocabulary": 999, "window": 16, "report": lambda _: None}
    family = "llama:width=32,layers=1,heads=2,inner=48,context=32"
    still = SETTINGS.but(dict(steps=1, learning_rate=1e-9))
    pretrain(**arguments, family=family, settings=still, start=first, out=tmp_path / "second")
    files = [folder / "model.safetensors" for folder in (first, tmp_path / "second")]
    assert files[0].read_bytes() == files[1].read_bytes()  # in bf16 nothing moved
    for other, said in (("llama:width=64,layers=1,heads=2,context=32", "size"), ("gpt2:width=32,context=32", "family")):
        with pytest.raises(UsageError, match=f"--start holds another {said}"):
            pretrain(**arguments, family=other, settings=still, start=first, out=tmp_path / said)
    with pytest.raises(UsageError, match="neither the checkpoint"):
        pretrain(**arguments, family=family, settings=still, start=tmp_path, out=tmp_path / "third")


def test_an_encoder_begins_with_the_weights_of_a_causal_model(tmp_path: Path, first: Path) -> None:
    """One shape read both ways; the mask, which the causal vocabulary lacks, begins at the mean of its embeddings."""
    pretrain(
        corpora=[corpus()], weights=[1], family="eurobert:width=32,layers=1,heads=2,inner=48,context=32",
        vocabulary=999, window=16, settings=SETTINGS.but(dict(steps=1, learning_rate=1e-9)), hidden=0.3,
        start=first, out=tmp_path / "second", report=lambda _: None,
    )  # fmt: skip
    old, new = (load_file(folder / "model.safetensors") for folder in (first, tmp_path / "second"))
    table = "model.embed_tokens.weight"
    mean = old[table].float().mean(0).bfloat16()
    torch.testing.assert_close(new.pop(table), torch.cat([old.pop(table), mean[None]]), atol=1e-3, rtol=0)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert AutoTokenizer.from_pretrained(tmp_path / "second").mask_token_id == 300
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "second").config.mask_token_id == 300
    card = (tmp_path / "second" / "README.md").read_text()
    assert "| objective | causal | masked, 30% hidden |" in card
    assert "nats per token that is asked for" in card
    assert [line.split(" | ")[0] for line in card.splitlines() if re.match(r"\| 1,664 \|", line)] == ["| 1,664"]


@pytest.mark.parametrize("share", [0.0, 1.0, 15.0, -0.1])
def test_a_share_to_hide_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match=f"--hide must be a number above 0 and below 1, was {share}"):
        pretrain(
            corpora=[corpus()], weights=[1], family="bert:width=32,layers=1,context=32", vocabulary=300, window=16,
            settings=SETTINGS, hidden=share, out=tmp_path / "new", report=lambda _: None,
        )  # fmt: skip


def test_a_share_to_hide_goes_with_what_hides(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--hide goes with masked, mixed, span-corruption; causal hides nothing"):
        pretrain(
            corpora=[corpus()], weights=[1], family="llama:width=32,heads=2", vocabulary=300, window=16,
            settings=SETTINGS, hidden=0.15, out=tmp_path / "new", report=lambda _: None,
        )  # fmt: skip


def test_a_cooldown_of_a_warm_training_tells_where_that_began(tmp_path: Path, first: Path) -> None:
    arguments = {
        "corpora": [corpus()], "weights": [1], "vocabulary": 300, "window": 16, "report": lambda _: None,
        "family": "llama:width=32,layers=1,heads=2,inner=48,context=32",
    }  # fmt: skip
    stable = SETTINGS.but(dict(steps=4, decay="wsd", warmup_steps=1, checkpoint_every=2))
    pretrain(**arguments, settings=stable, start=first, out=tmp_path / "second")
    cooled = stable.but(dict(cooldown_steps=2))
    pretrain(**arguments, settings=cooled, start=tmp_path / "second.work", cool_now=True, out=tmp_path / "third")
    record = json.loads((tmp_path / "third" / "pretraining.json").read_text())
    assert record["begun_from"] == "first"
    assert record["before"] == json.loads((first / "pretraining.json").read_text())


def test_the_card_tells_of_every_stage_with_its_own_window(tmp_path: Path, first: Path) -> None:
    pretrain(
        corpora=[corpus()], weights=[1], family="llama:width=32,layers=1,heads=2,inner=48,context=32", vocabulary=300,
        window=32, settings=SETTINGS.but(dict(steps=6, seed=1)), start=first, out=tmp_path / "second",
        report=lambda _: None,
    )  # fmt: skip
    record = json.loads((tmp_path / "second" / "pretraining.json").read_text())
    assert record["before"] == json.loads((first / "pretraining.json").read_text())
    assert record["begun_from"] == "first"
    card = (tmp_path / "second" / "README.md").read_text()
    assert "| steps | 12 of 8 windows of 16, ended by steps | 6 of 8 windows of 32, ended by steps |" in card
    assert "In all 3,072 tokens in " in card
    rows = [
        line.split(" | ")[0] for line in card.splitlines() if re.fullmatch(r"\| [\d,]+ \| [\d.]+ \| [\d.]+ \|", line)
    ]
    assert rows == ["| 768", "| 1,536", "| 3,072"]
    stages = [json.loads(line)["stage"] for line in (tmp_path / "second" / "curve.jsonl").open()]
    assert stages == [1] * 12 + [2] * 6


def test_a_counted_model_of_the_same_text_stands_beside_in_the_card(tmp_path: Path) -> None:
    texts = [corpus(), corpus(seed=1, source="other (CC0)")]
    counted = count_text(
        corpora=texts,
        family="ngram:order=2,fallback=1",
        vocabulary=300,
        seed=1,
        out=tmp_path / "bigrams",
        report=lambda _: None,
    )
    with pytest.raises(UsageError, match="holds no held-out scores"):
        run(tmp_path / "new", beside=tmp_path)
    _, scores = run(tmp_path / "new", beside=tmp_path / "bigrams")
    card = (tmp_path / "new" / "README.md").read_text()
    assert "| source | bytes | perplexity per token | bits per byte | ngram:order=2,fallback=1 | difference |" in card
    for mine, other in zip(scores, counted, strict=True):
        share = mine.bits_per_byte / other.bits_per_byte - 1
        assert f" | {mine.bits_per_byte:.4f} | {other.bits_per_byte:.4f} | {share:+.1%} |" in card


def test_text_that_is_tokenized_as_it_comes_is_that_of_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of 7 documents and one of all give the same arrays; nothing but them is left."""
    documents = corpus(count=1200)
    tokenizer = train_byte_bpe([document.text for document in documents[:200]], vocabulary=300)
    found = []
    for size in (7, 5000):
        monkeypatch.setattr("lmtasks.data.corpus.CHUNK", size)
        facts, folder = survey(documents, corpus=0), tmp_path / str(size)
        found.append(
            tokenize_corpus(
                iter(documents), facts=facts, tokenizer=tokenizer, seed=3, folder=folder, report=lambda _: None
            )
        )
        assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".npy", ".npy"]
    assert (found[0].train == found[1].train).all()
    assert (found[0].held_out[0][2] == found[1].held_out[0][2]).all()
    wanted = sum(len(tokenizer.encode(item.text)) + 1 for item in documents if not held_out(item.text))
    assert len(found[0].train) == wanted


def test_speed_and_samples_are_told_and_the_curve_lies_in_the_folder(tmp_path: Path) -> None:
    told: list[Progress] = []
    run(tmp_path / "new", report=told.append)
    last = [item for item in told if item.stage == "train"][-1]
    assert re.search(r"loss [\d.]+, validation [\d.]+, [\d,]+ tokens/s, \d+% of plain matrix products", last.note)
    samples = [item.note for item in told if item.stage == "sample"]
    assert len(samples) == 2
    assert all(" -> " in note for note in samples)
    curve = [json.loads(line) for line in (tmp_path / "new" / "curve.jsonl").open()]
    assert [point["step"] for point in curve] == list(range(1, 13))
    assert [point["step"] for point in curve if "validation" in point] == [6, 12]
    assert set(curve[5]["validation_parts"]) == {"invented (CC0)", "other (CC0)"}
    card = (tmp_path / "new" / "README.md").read_text()
    assert f"| {12 * 8 * 16:,} | {curve[11]['loss']} | {curve[11]['validation']} |" in card


def test_a_log_that_ran_on_behind_the_checkpoint_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "training.jsonl"
    log.write_text("".join(f'{{"step": {n}, "loss": {n}.0}}\n' for n in (1, 2, 3, 3, 4)) + '{"step": 5, "lo')
    cut_log(log, step=3)
    assert [record["step"] for record in read_log(log)] == [1, 2, 3]
    many = [{"step": n, "loss": float(n), **({"validation": 1.0} if n == 501 else {})} for n in range(1, 1001)]
    short = thinned(many)
    assert len(short) <= 402
    assert short[-1]["step"] == 1000
    assert any("validation" in record for record in short)
    assert short[0] == {"step": 3, "loss": 2.0}


@pytest.mark.slow  # six interpreters
@pytest.mark.timeout(120)
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text("".join(json.dumps({"text": item.text}) + "\n" for item in corpus()), encoding="utf-8")
    given = [
        "--data", file, "--backbone", "llama:width=32,layers=1,heads=2,inner=48,context=32", "--vocabulary", "300",
        "--window", "16", "--steps", "6", "--batch-rows", "8", "--accumulate", "4", "--evaluate-every", "3",
    ]  # fmt: skip
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    for name, start in (("one", [sys.executable, "-m"]), ("two", launcher)):
        command = [*start, "lmtasks", "pretrain", *map(str, given), "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("6 steps in") == 1
    one, two = (read_log(tmp_path / f"{name}.work" / "training.jsonl") for name in ("one", "two"))
    assert [point["loss"] for point in one] == pytest.approx([point["loss"] for point in two], rel=1e-5)
    assert one[-1]["validation"] == pytest.approx(two[-1]["validation"], rel=1e-5)
    assert (tmp_path / "two" / "curve.svg").read_text().startswith("<svg")
    refused = subprocess.run(
        [*launcher, "lmtasks", "pretrain", *map(str, given), "--accumulate", "1", "--out", str(tmp_path / "three")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "accumulate must be a multiple of the 2 processes, was 1" in refused.stderr


def test_a_loss_that_is_not_finite_names_the_batch(tmp_path: Path) -> None:
    with pytest.raises(
        WorkError, match=r"at step \d+ the loss .* rows \d+ to \d+ \(from .*CC0.*begins '.+'\); the last"
    ):
        pretrain(
            corpora=[corpus()], weights=[1], family="llama:width=32,layers=1,heads=2,inner=48,context=32",
            vocabulary=300, window=16, out=tmp_path / "new", report=lambda _: None,
            settings=SETTINGS.but(dict(steps=40, learning_rate=1e30, clip=1e30, evaluate_every=0)),
        )  # fmt: skip


def test_a_family_of_our_own_learns_from_text(tmp_path: Path) -> None:
    trained, scores = pretrain(
        corpora=[corpus()], weights=[1], family="lstm:width=32,layers=1", vocabulary=300, window=16,
        settings=SETTINGS, out=tmp_path / "new", report=lambda _: None,
    )  # fmt: skip
    assert trained.steps == 12
    assert 0 < (scores[0].bits_per_byte or 0) < 3
    assert load_backbone(tmp_path / "new").traits.family == "lstm"
