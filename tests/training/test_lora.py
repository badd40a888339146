"""Adapters: they alone move, they are saved over a backbone that is not copied, and merged they answer the same."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_adapt import ALL, SETTINGS, moods, run
from tiny import TEXTS, tiny_checkpoint, tiny_tokenizer
from tiny_families import FAMILIES, tiny_family

from lmtasks.backbone.family import FAMILIES as NEW_FAMILIES
from lmtasks.backbone.family import new_backbone
from lmtasks.backbone.lora_targets import own_places
from lmtasks.errors import UsageError
from lmtasks.model.adapters import MOST_STORED, adapted_of, add_lora, check_lora, merge_adapter, take_lora
from lmtasks.model.create import Vocabulary, write_backbone
from lmtasks.model.model import Model
from lmtasks.model.resolve import resolve
from lmtasks.model.store import card_of, load_model, read_provenance
from lmtasks.model.weights import weight_facts
from lmtasks.prove.export import export_and_prove
from lmtasks.records import ModelCard, Progress
from lmtasks.settings.training import LoraSettings
from lmtasks.training.adapt_plan import default_learning_rate
from lmtasks.training.judging import score_heads

LORA = SETTINGS.but(dict(method="lora", learning_rate=3e-2, tokens_per_batch=128, lora=LoraSettings(rank=8)))
CARD = ModelCard(name="x", family="x", kind="encoder", adaptation="prompt", parameters=0, weights_hash="",
                 tokenizer_hash="", max_length_tokens=32, vocabulary=60)  # fmt: skip
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]])
MASK = torch.tensor([[True] * 4, [True, True, False, False]])


def answers(model: Model) -> torch.Tensor:
    """Of the backbone, and of its decoder where it has one."""
    with torch.no_grad():
        if model.card.kind == "encoder-decoder":
            return model.backbone.decode(IDS, MASK, torch.tensor([[1, 5, 6], [1, 7, 8]]))
        return model.encode(IDS, MASK)


def moved(model: Model) -> None:
    """Give the adapters values, as a training would: B begins as zeros."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.backbone.named_parameters():
            if "lora_" in name or name.endswith((".up", ".down")):
                parameter.normal_(0.0, 0.3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone and a model that was adapted from it."""
    folder = tmp_path_factory.mktemp("lora")
    run(folder, settings=LORA)
    return folder


def check_merged(model: Model) -> Model:
    """Adapters that stand in a model answer as they do merged into its weights; the merged model."""
    merged = copy.deepcopy(model)
    before = answers(model)
    settings = LoraSettings(rank=2)
    shape = add_lora(model, settings)
    model.eval()
    assert torch.allclose(answers(model), before, atol=1e-6)  # B is zero
    moved(model)
    beside = answers(model)
    assert (beside - before).abs().max() > 1e-2
    merge_adapter(merged.backbone.adapted, take_lora(model, shape, settings, base_name="base"))
    assert torch.allclose(answers(merged), beside, atol=1e-5, rtol=1e-4)
    assert shape.numbers == sum(item.numel() for item in model.parameters() if item.requires_grad)
    return merged


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_merged_adapters_answer_as_adapters_beside(family: str, tmp_path: Path) -> None:
    _check_roles(check_merged(load_model(tiny_family(tmp_path / family, family))), family)


def _check_roles(model: Model, family: str) -> None:
    """Every matrix has a role, but for embeddings, what projects to a vocabulary, and what nobody reads (a pooler)."""
    shapes = {name.removesuffix(".weight") for name, item in model.hf.named_parameters() if item.dim() == 2}
    roles = model.backbone.adapt_places()
    assert set(roles.values()) <= {"attention", "feed-forward"} or family in ("mamba", "nemotron_h")
    left = {name.rpartition(".")[2] for name in shapes - set(roles) - {"pooler.dense", "pooler"}}
    assert left <= {
        "embed_tokens", "tok_embeddings", "embed_positions", "wte", "wpe", "embed_in", "embed_out", "lm_head",
        "word_embeddings", "position_embeddings", "token_type_embeddings", "shared", "relative_attention_bias",
        "embedding_hidden_mapping_in", "tokens_embed", "positions_embed", "rel_embeddings", "embeddings", "head",
        "gate", "shared_expert_gate", "global_relative_attention_bias",
        # state space models: read by kernels, too narrow here, or no matrix of products
        "out_proj", "dt_proj", "A_log",
    }, left  # fmt: skip


def small_sizes(family: str) -> str:
    """Settings of a small backbone of a family that is made here."""
    if family == "cnn":
        return "cnn:width=32,filters=8"
    recurrent = hasattr(NEW_FAMILIES[family].sizes, "word_dropout")
    return f"{family}:width=32,layers={'2' if recurrent else '1,heads=2,inner=48,context=32'}"


LAYERED = sorted(set(NEW_FAMILIES) - {"average"})


@pytest.mark.parametrize("family", LAYERED)
def test_every_family_that_is_made_here_takes_adapters(family: str, tmp_path: Path) -> None:
    write_backbone(small_sizes(family), Vocabulary(size=60, bos=0, eos=0, pad=1), seed=0, folder=tmp_path)
    check_merged(load_model(tmp_path))


@pytest.mark.parametrize("family", LAYERED)
def test_adapters_hold_at_most_a_twentieth_of_every_family(family: str) -> None:
    """At its default sizes, with a vocabulary of 8,000."""
    backbone = new_backbone(family, Vocabulary(size=8000, bos=0, eos=0, pad=1))
    card = replace(CARD, family=family, kind=backbone.traits.kind)
    shape = check_lora(Model(backbone, card=card, folder=Path()), LoraSettings())
    assert 4 <= shape.rank <= 16
    assert shape.share <= MOST_STORED


def test_adapters_of_the_shipped_backbone_hold_at_most_a_twentieth(caplog: pytest.LogCaptureFixture) -> None:
    model = load_model(resolve("lmtasks-mini", offline=True))
    shape = check_lora(model, LoraSettings())
    assert shape.stored() == {
        "rank": 15, "matrices": {"attention": 24, "feed-forward": 18}, "numbers": 541_440, "share": 0.0484
    }  # fmt: skip
    assert not caplog.records
    assert add_lora(model, LoraSettings(rank=64)).share > MOST_STORED
    assert "hold 20.7 % of the backbone's numbers, more than 5 %; --lora-rank 15 holds at most that" in caplog.text


def test_matrices_of_recurrent_layers_and_filters_have_roles() -> None:
    vocabulary = Vocabulary(size=50, bos=0, eos=0, pad=1)
    places = own_places(new_backbone("lstm-attention:width=8,layers=1", vocabulary))
    assert dict(places) == {
        "reader.forth.0.weight_ih_l0": "recurrent", "reader.forth.0.weight_hh_l0": "recurrent",
        "reader.back.0.weight_ih_l0": "recurrent", "reader.back.0.weight_hh_l0": "recurrent",
        "layers.0.weight_ih_l0": "recurrent", "layers.0.weight_hh_l0": "recurrent",
        "begin": "other", "scores": "other", "output": "other",
    }  # fmt: skip
    assert set(own_places(new_backbone("cnn:width=8,filters=4", vocabulary)).values()) == {"convolution"}


@pytest.mark.slow
@pytest.mark.parametrize("family", LAYERED)
def test_every_family_learns_by_adapters_and_is_exported_with_proof(family: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    (tmp_path / "backbone").mkdir()
    vocabulary = Vocabulary(size=300, bos=0, eos=0, pad=1)
    # with other random weights a tie of two tokens sends 512 greedy ones another way in the proof
    write_backbone(small_sizes(family), vocabulary, seed=2, folder=tmp_path / "backbone")
    tokenizer.save(tmp_path / "backbone")
    model = run(tmp_path, heads=[moods()], settings=LORA.but(dict(epochs=30, lora=LoraSettings(rank=4))))
    assert score_heads(model, [moods()], pad_id=1) > 0.8
    stored = read_provenance(tmp_path / "model")["adapters"]
    assert isinstance(stored, dict)
    assert stored["rank"] == 4
    files = sorted(file.name for file in (tmp_path / "model").rglob("*.safetensors"))
    assert files == ["adapter_model.safetensors", "head.safetensors"]
    package = tmp_path / "package"
    if family.endswith("-attention"):  # of which no graphs are built, adapted or not
        return
    export_and_prove(tmp_path / "model", out=package, precision="fp32", texts=TEXTS, report=lambda _: None)
    assert json.loads((package / "parity.json").read_text())["ok"] is True


def test_adapters_and_heads_learn_and_the_backbone_stands_still(trained: Path) -> None:
    model = load_model(trained / "model")
    # The embeddings stand still, and so short random ones cannot make a token more likely than about 0.5.
    for head, least in zip(ALL, (0.9, 0.9, 0.4), strict=True):
        assert score_heads(model, [head], pad_id=1) > least, head.head.name
    assert model.card.adaptation == "lora"
    weights = read_provenance(trained / "model")["weights"]
    assert isinstance(weights, dict)
    # rank 8 at q and o (32, 32), k and v (32, 16), three of the feed-forward (32, 48), in two layers; and the heads
    adapters = 2 * 8 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    assert weights == {"trained": adapters + heads, "all": sum(item.numel() for item in model.parameters())}
    assert model.card.parameters == weights["all"]


def test_the_backbone_is_not_copied(trained: Path) -> None:
    files = sorted(
        file.relative_to(trained / "model").as_posix() for file in (trained / "model").rglob("*.safetensors")
    )
    assert files == [
        "adapters/1/adapter_model.safetensors",
        "heads/find/head.safetensors",
        "heads/mood/head.safetensors",
    ]
    others = {file for file in (trained / "model").rglob("*") if file.suffix not in (".json", ".jsonl", ".safetensors")}
    assert [file.name for file in others if file.is_file()] == ["training_rows.bin"]  # fingerprints, no weights


def test_peft_reads_the_adapters(trained: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(str(trained / "backbone"))
    theirs = PeftModel.from_pretrained(plain, str(trained / "model" / "adapters" / "1")).eval()
    with torch.no_grad():
        logits = theirs(input_ids=IDS[:1]).logits
        assert torch.allclose(load_model(trained / "model").lm_logits(IDS[:1], MASK[:1]), logits, atol=1e-5)


def test_the_hash_follows_adapters_and_their_settings(trained: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(trained, tmp_path / "all") / "model"
    before = card_of(trained / "model").weights_hash
    assert card_of(copied).weights_hash == before != card_of(trained / "backbone").weights_hash
    file = copied / "adapters" / "1" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "lora_alpha": 1}))
    assert weight_facts(copied).hash != before
    with pytest.raises(UsageError, match=r"adapter_config\.json is damaged"):
        card_of(copied)


def test_models_and_backbone_may_move_together_or_become_one(trained: Path, tmp_path: Path) -> None:
    moved_all = shutil.copytree(trained, tmp_path / "all")
    here = answers(load_model(trained / "model"))
    base = moved_all / "model" / "adapters" / "base.json"
    content = json.loads(base.read_text())
    base.write_text(json.dumps({**content, "places": [content["places"][0], "/no/such/place"]}))
    assert torch.equal(answers(load_model(moved_all / "model")), here)
    alone = shutil.move(moved_all / "model", tmp_path / "alone")
    with pytest.raises(UsageError, match=r"stand over the backbone 'backbone' .* is not at /no/such/place any more"):
        load_model(alone)
    shutil.copyfile(trained / "backbone" / "model.safetensors", alone / "backbone" / "model.safetensors")
    assert torch.equal(answers(load_model(alone)), here)
    assert card_of(alone).weights_hash == card_of(trained / "model").weights_hash


def test_another_backbone_in_its_place_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "all")
    tiny_checkpoint(folder / "backbone", "llama", seed=5)
    with pytest.raises(UsageError, match=r"belong to the backbone 'backbone' with the weights .* has .* now"):
        load_model(folder / "model")


def test_a_model_with_adapters_is_adapted_again(trained: Path, tmp_path: Path) -> None:
    from lmtasks.training.adapt import adapt

    for method in ("lora", "probe"):
        out = tmp_path / method
        begin = "random" if method == "lora" else None  # a probe's new heads are all that it learns
        settings = LORA.but(dict(method=method, epochs=2, lora=None, learning_rate=3e-2, new_heads=begin))
        head = replace(moods(), head=replace(moods().head, name="second"))
        adapt(backbone=trained / "model", prepare=lambda _, head=head: [head], settings=settings, out=out,
              report=lambda _: None)  # fmt: skip
        again = load_model(out)
        assert {spec.name for spec in again.card.heads} == {"mood", "find", "say", "second"}
        assert len(adapted_of(out).adapters) == (2 if method == "lora" else 0)
        first = load_model(trained / "model")
        assert again.card.parameters == sum(item.numel() for item in again.parameters())
        if method == "probe":
            assert torch.equal(answers(again), answers(first))
        else:
            # Little moves, as the first adapters tell the labels apart already; without the second ones nothing would.
            assert (answers(again) - answers(first)).abs().max() > 1e-4


def test_an_interrupted_training_ends_with_the_same_adapters(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.done == progress.total // 2:
            raise Killed

    short = LORA.but(dict(epochs=2))
    whole = run(tmp_path / "whole", settings=short)
    with pytest.raises(Killed):
        run(tmp_path / "parts", settings=short, report=kill)
    assert not (tmp_path / "parts" / "model").exists()
    resumed = run(tmp_path / "parts", settings=short)
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_an_export_answers_as_the_merged_model(trained: Path, tmp_path: Path) -> None:
    parity = export_and_prove(
        trained / "model", out=tmp_path / "package", precision="fp32", texts=TEXTS, report=lambda _: None
    )
    proof = json.loads((tmp_path / "package" / "parity.json").read_text())
    assert parity is not None
    assert proof["ok"] is True
    assert {"head.mood", "head.find", "decoder"} <= {check["graph"] for check in proof["checks"]}
    assert all(check["max_difference"] < 1e-3 for check in proof["checks"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "a whole number of at least 1, was 0"),
        ({"alpha": 0.0}, "a number above 0, was 0.0"),
        ({"dropout": 1.0}, "below 1, was 1.0"),
        ({"points": ()}, "points must not be empty"),
        ({"points": ("attenton",)}, "did you mean 'attention'"),
    ],
)
def test_bad_settings_are_explained(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LoraSettings(**settings)  # type: ignore[arg-type]


def test_settings_belong_to_their_method() -> None:
    with pytest.raises(UsageError, match="belong to the method lora, was full"):
        SETTINGS.but(dict(lora=LoraSettings()))


def test_a_rank_above_the_matrices_is_refused(tmp_path: Path) -> None:
    model = load_model(tiny_checkpoint(tmp_path / "llama", "llama"))
    with pytest.raises(UsageError, match=r"at most 16, the smaller side of .*k_proj, was 17"):
        check_lora(model, LoraSettings(rank=17))
    check_lora(model, LoraSettings(rank=32, points=("feed-forward",)))


def test_embeddings_alone_take_no_adapters(tmp_path: Path) -> None:
    write_backbone("average:width=8", Vocabulary(size=50, bos=0, eos=0, pad=1), seed=0, folder=tmp_path)
    with pytest.raises(UsageError, match=r"average backbone has nothing that adapters could stand beside.*use full"):
        check_lora(load_model(tmp_path), LoraSettings())


def test_a_role_that_no_matrix_plays_is_named(tmp_path: Path) -> None:
    model = load_model(tiny_checkpoint(tmp_path / "llama", "llama"))
    with pytest.raises(UsageError, match=r"plays the role of recurrent; its roles: attention, feed-forward"):
        check_lora(model, LoraSettings(points=("recurrent",)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "has use_dora: True, which this version does not merge"),
        ({"peft_type": "IA3"}, "has peft_type: 'IA3'"),
        ({"r": 0}, "must be positive numbers"),
    ],
)
def test_adapters_that_are_not_plain_are_refused(
    trained: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder = shutil.copytree(trained, tmp_path / "all")
    file = folder / "model" / "adapters" / "1" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UsageError, match=message):
        adapted_of(folder / "model")


def test_adapters_learn_faster_than_a_whole_model() -> None:
    """Hu et al. 2021, table 9: RoBERTa base, of 125M parameters, 4e-4 to 5e-4."""
    assert 4e-4 <= default_learning_rate("lora", 125_000_000) <= 5e-4
    assert default_learning_rate("lora", 1_000_000) == 5e-3
