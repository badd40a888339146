"""Models that were adapted over one backbone share it in memory, and are chosen by argument."""

import gc
import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from tiny import TEXTS, tiny_checkpoint, tiny_tokenizer
from typer.testing import CliRunner

import lmtasks
from lmtasks.backbone import load as backbone_load
from lmtasks.cli.main import app
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.model import store
from lmtasks.model.adapters import adapted_of, add_lora, take_lora
from lmtasks.model.create import Vocabulary, write_backbone
from lmtasks.model.model import Model
from lmtasks.model.store import load_model, save_model
from lmtasks.records import HeadSpec
from lmtasks.settings.generation import Decoding
from lmtasks.settings.training import LoraSettings
from lmtasks.workflow.open_model import open_engine, open_engines

MAKES = ("llama", "gpt2", "bert", "marian", "gru", "bilstm", "cnn")
OWN = {"gru": "gru:width=32", "bilstm": "bilstm:width=32", "cnn": "cnn:width=16,filters=8"}


def adapted(backbone: Path, out: Path, *, seed: int) -> Path:
    """A model with a head and adapters of random values over a backbone."""
    torch.manual_seed(seed)
    model = load_model(backbone)
    model.add_heads([HeadSpec(name=f"mood-{out.name}", kind="classification", labels=("bad", "fair", "good"))])
    settings = LoraSettings(rank=3 + seed % 2)
    shape = add_lora(model, settings)
    with torch.no_grad():
        for name, parameter in model.backbone.named_parameters():
            if "lora_" in name or name.endswith((".up", ".down")):
                parameter.normal_(0.0, 0.2)
    base = adapted_of(backbone)
    learned = take_lora(model, shape, settings, base_name=backbone.name)
    save_model(model, out, provenance={}, adapted=type(base)(base=base.base, adapters=(*base.adapters, learned)))
    return out


@pytest.fixture(scope="module", params=MAKES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone and two models over it, the second one of adapters over adapters."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param in OWN:
        (folder / "backbone").mkdir()
        vocabulary = Vocabulary(size=300, bos=0, eos=0, pad=1)
        write_backbone(OWN[request.param], vocabulary, seed=0, folder=folder / "backbone")
        tiny_tokenizer().save(folder / "backbone")
    else:
        tiny_checkpoint(folder / "backbone", request.param)
    adapted(folder / "backbone", folder / "a", seed=1)
    adapted(folder / "a", folder / "b", seed=2)
    return folder


def answers(engine) -> list[object]:  # type: ignore[no-untyped-def]
    """Everything that a model can be asked."""
    found: list[object] = []
    rows = [engine.tokenizer.encode_for_head(text) for text in TEXTS]
    for head in engine.model.heads:
        found += [logits.tolist() for logits in engine.predict(head.name, rows)]
    if engine.model.kind != "encoder":
        ids = [tuple(engine.tokenizer.encode(text)) for text in TEXTS]
        asked = [ScoreRequest(context_ids=row[:3], target_ids=row[3:5]) for row in ids]
        found += [each.token_logprobs for each in engine.score(asked)]
        brief = Decoding(max_new_tokens=5)
        found += [
            each.ids for each in engine.generate([GenerateRequest(prompt_ids=row[:4], settings=brief) for row in ids])
        ]
    return found


def test_coming_back_to_a_model_gives_its_answers_bit_for_bit(place: Path) -> None:
    with open_engines([place / "a", place / "b", place / "backbone"]) as (first, second, bare):
        before = answers(first)
        other = answers(second)
        plain = answers(bare)
        assert answers(first) == before
        assert answers(second) == other
        assert before != other
        assert before != plain


def test_adapters_beside_answer_as_merged_ones(place: Path) -> None:
    with open_engines([place / "a", place / "b"]) as together:
        for name, engine in zip("ab", together, strict=True):
            rows = [engine.tokenizer.encode_for_head(text) for text in TEXTS]
            beside = engine.predict(f"mood-{name}", rows)
            with open_engine(place / name) as alone:
                for one, two in zip(beside, alone.predict(f"mood-{name}", rows), strict=True):
                    assert abs(one - two).max() < 1e-4
            assert engine.card.options["adapters"].startswith("beside the products, ")


def test_the_backbone_is_loaded_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    load = backbone_load.load_backbone

    def counted(folder: Path, *, weights: Path | None = None):  # type: ignore[no-untyped-def]
        loaded.append(folder)
        return load(folder, weights=weights)

    monkeypatch.setattr(backbone_load, "load_backbone", counted)
    with open_engines([place / "a", place / "b"]) as (first, second):
        assert first.runtime._model.backbone is second.runtime._model.backbone  # type: ignore[attr-defined]
    assert len(loaded) == 1


def test_a_model_over_another_backbone_is_refused_by_hash(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two")):
        adapted(tiny_checkpoint(tmp_path / name, "llama", seed=number), tmp_path / f"over-{name}", seed=1)
    with (
        pytest.raises(
            UsageError, match=r"over-one stands over .*/one with the weights \w{16}, and over-two over .*/two"
        ),
        open_engines([tmp_path / "over-one", tmp_path / "over-two"]),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"torch-compile opens one model at a time.*--runtime torch\."),
        open_engines([tmp_path / "over-one", tmp_path / "one"], runtime="torch-compile"),
    ):
        pass
    config = tmp_path / "over-one" / "backbone" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 0.1}))
    (tmp_path / "over-one" / "checksums.json").unlink()
    with (
        pytest.raises(UsageError, match="read their backbone with other settings or tokenizers"),
        open_engines([tmp_path / "over-one", tmp_path / "one"]),
    ):
        pass


def test_predict_and_python_choose_by_argument(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "backbone", "llama")
    for seed, name in enumerate("ab"):
        adapted(tmp_path / "backbone", tmp_path / name, seed=seed)
    alone = {name: lmtasks.predict(tmp_path / name, TEXTS, progress=False).answers for name in "ab"}
    assert alone["a"] != alone["b"]
    with lmtasks.load_model(tmp_path / "a", adapters=[tmp_path / "b"]) as model:
        assert model.adapters == ("a", "b")
        for name in (None, "b", "a", "b"):
            assert model.predict(TEXTS, adapter=name, progress=False).answers == alone[name or "a"]
        with pytest.raises(UsageError, match=r"unknown adapter 'c'"):
            model.predict(TEXTS, adapter="c", progress=False)
    given = ["predict", "--model", str(tmp_path / "a"), "--model", str(tmp_path / "b"), TEXTS[0]]
    told = CliRunner().invoke(app, given, catch_exceptions=False)
    assert json.loads(told.stdout) == {name: alone[name][0] for name in "ab"}
    told = CliRunner().invoke(app, [*given, "--json"], catch_exceptions=False)
    models = json.loads(told.stdout)["models"]
    assert {name: each["answer"] for name, each in models.items()} == {name: alone[name][0] for name in "ab"}
    assert sum(models["a"]["probabilities"].values()) == pytest.approx(1.0)
    shutil.rmtree(tmp_path / "backbone")


def test_eval_has_one_copy_of_the_backbone_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is merged, and gone before the next one is loaded."""
    tiny_checkpoint(tmp_path / "backbone", "llama", context=256)
    for seed, name in enumerate("ab"):
        adapted(tmp_path / "backbone", tmp_path / name, seed=seed)
    load, loaded, alive = store.load_model, [], []

    def counted(folder: Path) -> Model:
        gc.collect()
        alive.append(sum(each() is not None for each in loaded))
        model = load(folder)
        loaded.append(weakref.ref(model.backbone))
        return model

    monkeypatch.setattr(store, "load_model", counted)
    models = [tmp_path / name for name in "ab"]
    scores = lmtasks.evaluate(models, "starter_paragraphs_en", limit=2, out=tmp_path / "e", cache="off", progress=False)
    assert len(loaded) == 2
    assert alive == [0, 0]
    assert set(scores.models) == {"a", "b"}
