"""What is hidden and what is asked: labels of each objective, and that each one learns."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pretrain import SETTINGS, corpus
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lmtasks.backbone.base import Backbone
from lmtasks.backbone.family import new_backbone
from lmtasks.data.tokenizer import load_tokenizer, train_byte_bpe
from lmtasks.errors import UsageError
from lmtasks.model.create import Vocabulary, new_language_model
from lmtasks.model.store import load_model
from lmtasks.settings.training import BOTH_WAYS
from lmtasks.training.attention import use_blocks
from lmtasks.training.objectives import (
    NOT_ASKED,
    OBJECTIVES,
    Marks,
    make_batch,
    marks_of,
    masked_next_row,
    masked_row,
    objective_for,
    span_row,
)
from lmtasks.training.pretrain import pretrain

END, PAD, MASK = 0, 1, 3
MARKS = Marks(
    vocabulary=500, share=0.15, end=END, start=PAD, mask=MASK, spans=tuple(range(4, 60)), kept=(END, PAD, *range(3, 60))
)
TEXT = np.arange(100, 301)


def test_a_masked_row_asks_for_what_it_hides_and_for_nothing_else() -> None:
    """Devlin et al. (2019), section 3.1: 15 % of the tokens; of these 80 % masked, 10 % random, 10 % as they were."""
    masked = random = same = 0
    for seed in range(100):
        row = masked_row(TEXT, MARKS, np.random.default_rng(seed))
        asked = row["labels"] != NOT_ASKED
        assert asked.sum() == 30 == OBJECTIVES["masked"].asked(row)
        assert (row["ids"][~asked] == TEXT[:-1][~asked]).all()
        assert (row["labels"][asked] == TEXT[:-1][asked]).all()
        masked += int((row["ids"][asked] == MASK).sum())
        same += int((row["ids"][asked] == row["labels"][asked]).sum())
    random = 3000 - masked - same
    assert 2300 < masked < 2500
    assert 240 < random < 360
    assert 240 < same < 360


def test_special_tokens_are_not_hidden() -> None:
    ids = np.asarray([100, END] * 50 + [END] * 101)
    row = masked_row(ids, MARKS, np.random.default_rng(0))
    assert set(row["labels"].tolist()) == {NOT_ASKED, 100}


def test_a_span_row_puts_marks_where_the_decoder_writes_the_tokens() -> None:
    row = span_row(TEXT, MARKS, np.random.default_rng(3))
    # 30 of 200 tokens in 10 spans (Raffel et al., 2020, section 3.3.4: 15 %, 3 on average)
    assert len(row["ids"]) == 200 - 30 + 10 + 1
    assert len(row["labels"]) == 30 + 10 + 1 == OBJECTIVES["span-corruption"].asked(row)
    assert row["decoder_ids"].tolist() == [PAD, *row["labels"][:-1].tolist()]
    spans: dict[int, list[int]] = {}
    for token in row["labels"][:-1].tolist():
        if token in MARKS.spans:
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    assert list(spans) == list(MARKS.spans[:10])
    assert all(spans.values())
    whole = [part for token in row["ids"][:-1].tolist() for part in spans.get(token, [token])]
    assert whole == TEXT[:-1].tolist()
    assert row["ids"][-1] == row["labels"][-1] == END


def test_a_row_is_the_same_whenever_it_is_made_and_others_differ() -> None:
    for make in (masked_row, span_row):
        first, again, other = (make(TEXT, MARKS, np.random.default_rng(seed)) for seed in (7, 7, 8))
        assert all((first[name] == again[name]).all() for name in first)
        assert (first["ids"] != other["ids"]).any()


@pytest.mark.parametrize("length", range(2, 40))
def test_rows_of_any_length_hide_something_and_keep_something(length: int) -> None:
    for make in (masked_row, span_row):
        row = make(TEXT[: length + 1], MARKS, np.random.default_rng(length))
        assert (row["labels"] != NOT_ASKED).any()
        assert np.isin(row["ids"], TEXT[:length]).any()


@pytest.mark.parametrize(
    ("objective", "family"),
    [
        ("causal", "llama"),
        ("masked", "bert"),
        ("masked", "eurobert"),
        ("span-corruption", "t5"),
        ("span-corruption", "bart"),
    ],
)
def test_the_loss_is_that_of_transformers(objective: str, family: str) -> None:
    """Golden: transformers' own loss of the same labels."""
    tokenizer = train_byte_bpe(["a b"], vocabulary=270, special=OBJECTIVES[objective].marks(24, 0.15))
    marks = marks_of(tokenizer, OBJECTIVES[objective], window=24, share=0.15)
    vocabulary = Vocabulary(size=tokenizer.vocabulary, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    backbone = new_language_model(f"{family}:width=16,layers=1,heads=2,inner=24", vocabulary, seed=0).eval()
    rows = [
        OBJECTIVES[objective].row(np.random.default_rng(n).integers(10, 255, 25), marks, np.random.default_rng(n))
        for n in range(3)
    ]
    batch = make_batch(rows)
    found = OBJECTIVES[objective].loss(backbone, batch)
    given = {"input_ids": batch["ids"], "labels": batch.get("labels", batch["ids"])}
    wanted = backbone.hf(**given).loss  # type: ignore[operator, union-attr]
    torch.testing.assert_close(found, wanted)


def test_a_family_is_refused_an_objective_that_it_cannot_learn() -> None:
    assert objective_for(None, kind="encoder", family="bert")[0] == "masked"
    with pytest.raises(UsageError, match="llama is a backbone of kind causal: it cannot learn the objective 'masked'"):
        objective_for("masked", kind="causal", family="llama")
    for family in ("bert", "bilstm"):  # as they are learned from labels: without a projection to tokens
        encoder = new_backbone(f"{family}:width=8", Vocabulary(size=300, bos=0, eos=0, pad=1))
        with pytest.raises(UsageError, match=f"a backbone of family {family} .encoder. fills in no hidden tokens"):
            encoder.fill(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    with pytest.raises(UsageError, match="a backbone of family cnn predicts no tokens, so text alone"):
        new_language_model("cnn", Vocabulary(size=300, bos=0, eos=0, pad=1), seed=0)


@pytest.mark.parametrize(
    ("family", "loader"),
    [("bert", AutoModelForMaskedLM), ("t5", AutoModelForSeq2SeqLM), ("bart", AutoModelForSeq2SeqLM)],
)
def test_an_encoder_and_an_encoder_decoder_learn_from_text(tmp_path: Path, family: str, loader: type) -> None:
    trained, scores = pretrain(
        corpora=[corpus()], weights=None, family=f"{family}:width=32,layers=1,heads=2,inner=48,context=32",
        vocabulary=300, window=16, settings=SETTINGS, out=tmp_path / "new", report=lambda _: None,
    )  # fmt: skip
    log = [json.loads(line) for line in (tmp_path / "new.work" / "training.jsonl").open()]
    assert log[-1]["validation"] < log[5]["validation"] < 6.0  # log(300) is 5.7
    assert scores[0].bits_per_byte is None
    assert trained.best is not None
    whole = loader.from_pretrained(tmp_path / "new")  # type: ignore[attr-defined]
    assert whole.get_input_embeddings().weight is whole.get_output_embeddings().weight
    assert "fill-mask" in (tmp_path / "new" / "README.md").read_text() or family != "bert"
    model = load_model(tmp_path / "new")  # what adapt begins with
    assert model.card.kind == ("encoder" if family == "bert" else "encoder-decoder")
    if family == "bert":
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new")
        assert tokenizer.mask_token_id == load_tokenizer(tmp_path / "new").raw.token_to_id("<|mask|>")


def _causal_with_hidden() -> tuple[Backbone, Tensor, Tensor]:
    """A causal backbone, ids and the places that are hidden in them."""
    vocabulary = Vocabulary(size=300, bos=0, eos=0, pad=1)
    backbone = new_language_model("llama:width=32,layers=2,heads=2,inner=48,context=512", vocabulary, seed=0).eval()
    ids = torch.randint(5, 300, (2, 256), generator=torch.Generator().manual_seed(1))
    return backbone, ids, torch.tensor([[1, 7, 255], [3, 4, 200]])


def test_a_causal_backbone_fills_in_what_is_hidden_from_both_sides() -> None:
    """Golden: the same weights in transformers' Llama with a configuration that is not causal, logits one earlier."""
    backbone, ids, places = _causal_with_hidden()
    filled = backbone.fill(ids, places)
    layers = [module for module in backbone.modules() if hasattr(module, "is_causal")]
    backbone.hf.config.is_causal = False  # type: ignore[union-attr]
    for layer in layers:
        layer.is_causal = False  # type: ignore[assignment]
    both = backbone.hf(input_ids=ids, use_cache=False).logits  # type: ignore[operator]
    backbone.hf.config.is_causal = True  # type: ignore[union-attr]
    for layer in layers:
        layer.is_causal = True  # type: ignore[assignment]
    torch.testing.assert_close(filled, torch.stack([both[row, places[row] - 1] for row in (0, 1)]))
    assert not torch.allclose(filled[0, 0], backbone(ids)[0, 0], atol=1e-3)


@pytest.mark.slow  # torch's compiler
def test_a_compiled_backbone_fills_in_alike() -> None:
    backbone, ids, places = _causal_with_hidden()
    filled, causal = backbone.fill(ids, places), backbone(ids)
    use_blocks(backbone)
    compiled = torch.compile(backbone.fill, dynamic=False)(ids, places)
    torch.testing.assert_close(compiled, filled, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.compile(backbone.forward, dynamic=False)(ids), causal, rtol=1e-3, atol=1e-4)


def test_one_set_of_weights_learns_to_go_on_and_to_fill_in(tmp_path: Path) -> None:
    trained, scores = pretrain(
        corpora=[corpus()], weights=None, family="llama:width=32,layers=1,heads=2,inner=48,context=32",
        vocabulary=300, window=16, settings=SETTINGS, out=tmp_path / "new", report=lambda _: None,
        objective_name="mixed", hidden=0.25,
    )  # fmt: skip
    assert trained.steps == SETTINGS.steps
    assert all(score.bits_per_byte is not None for score in scores)
    log = [json.loads(line) for line in (tmp_path / "new.work" / "training.jsonl").read_text().splitlines()]
    judged = [record["validation_parts"] for record in log if "validation_parts" in record]
    assert judged[-1]["hidden tokens"] < judged[0]["hidden tokens"] < 6.0
    record = json.loads((tmp_path / "new" / "pretraining.json").read_text())
    assert (record["objective"], record["hidden"]) == ("mixed", 0.25)
    assert load_tokenizer(tmp_path / "new").raw.token_to_id("<|mask|>") is not None


def test_turns_that_do_not_come_out_even_and_families_that_cannot_look_back_are_refused(tmp_path: Path) -> None:
    for family, settings, message in (
        ("llama:width=32,layers=1,heads=2,inner=48,context=32", SETTINGS.but(dict(batch_rows=9, accumulate=3)),
         "--accumulate must be a multiple of that, was 3"),
        ("lstm:width=16", SETTINGS, "fills in no hidden tokens"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            pretrain(
                corpora=[corpus()], weights=None, family=family, vocabulary=300, window=16, settings=settings,
                out=tmp_path / "new", report=lambda _: None, objective_name="mixed",
            )  # fmt: skip
        shutil.rmtree(tmp_path / "new.work", ignore_errors=True)


def test_the_first_token_of_a_row_is_never_hidden_where_answers_stand_one_earlier() -> None:
    for seed in range(200):
        assert masked_next_row(TEXT, MARKS, np.random.default_rng(seed))["places"].min() >= 1


def test_objectives_that_read_both_ways_are_known_without_the_table() -> None:
    """A model's files name its objective, and what reads them loads no objectives."""
    both = {name for name, line in OBJECTIVES.items() if any(part.both_ways for part in (line, *line.turns))}
    assert both == BOTH_WAYS
