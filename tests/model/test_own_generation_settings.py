"""generation_config.json as a model's card holds it: what is read, what is refused, what is told as not obeyed."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tiny import tiny_checkpoint
from transformers import GenerationConfig

from lmtasks.errors import UsageError
from lmtasks.export.emit import export_model
from lmtasks.export.package import load_package
from lmtasks.model.generation_settings import NO_MATTER, OBEYED, UNSET, read_generation, read_rules
from lmtasks.model.store import card_of, load_model, save_model
from lmtasks.records import GenerationSettings, TokenRules, card_from_json
from lmtasks.workflow.open_model import settings_hash


def _folder(tmp_path: Path, content: object, *, name: str = "generation_config.json") -> Path:
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_every_setting_of_transformers_is_obeyed_or_told_or_changes_no_text() -> None:
    """transformers 5.23: a setting of a later version fails here, and is told as not obeyed until somebody looks."""
    theirs = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert theirs <= OBEYED | NO_MATTER | set(UNSET)
    assert not OBEYED & NO_MATTER
    assert not (OBEYED | NO_MATTER) & set(UNSET)


def test_what_is_set_is_read(tmp_path: Path) -> None:
    content = {
        "repetition_penalty": 1,
        "no_repeat_ngram_size": 3.0,
        "early_stopping": "never",
        "min_length": None,
        "exponential_decay_length_penalty": [5, 1.1],
        "sequence_bias": [[[1, 2], -3], [[4], 0.5]],
        "num_beam_groups": 1,
        "guidance_scale": None,
        "diversity_penalty": 0.0,
        "use_cache": True,
    }
    own = read_generation(_folder(tmp_path, content), vocabulary=10)
    assert own.unheeded == {}
    assert own.settings == GenerationSettings(
        repetition_penalty=1.0,
        no_repeat_ngram_size=3,
        early_stopping="never",
        exponential_decay_length_penalty=(5, 1.1),
        sequence_bias=(((1, 2), -3.0), ((4,), 0.5)),
    )


def test_what_is_not_carried_out_is_told_with_its_value(tmp_path: Path) -> None:
    content = {"guidance_scale": 1.5, "stop_strings": ["结束"], "do_sample": True, "repitition_penalty": 1.2}
    assert read_generation(_folder(tmp_path, content), vocabulary=10).unheeded == {
        "guidance_scale": "1.5",
        "stop_strings": '["结束"]',
        "do_sample": "true",
        "repitition_penalty": "1.2",  # nobody's setting, transformers' neither; who wrote it wants to know
    }


def test_config_json_counts_where_there_is_no_other_file(tmp_path: Path) -> None:
    content = {"num_beams": 4, "hidden_size": 8, "guidance_scale": 2, "force_bos_token_to_be_generated": True}
    _folder(tmp_path, {**content, "bos_token_id": 3}, name="config.json")
    own = read_generation(tmp_path, vocabulary=10)
    assert (own.settings, own.unheeded) == (GenerationSettings(num_beams=4), {"guidance_scale": "2"})
    assert read_rules(tmp_path, vocabulary=10) == TokenRules(first=3)
    assert read_generation(_folder(tmp_path, {"top_k": 5}), vocabulary=10).settings == GenerationSettings(top_k=5)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"num_beams": 2.5}, r"generation_config\.json: num_beams must be a whole number, was 2\.5"),
        ({"num_beams": True}, "num_beams must be a whole number, was True"),
        ({"num_beams": 0}, "num_beams must be at least 1, was 0"),
        ({"repetition_penalty": "1.2"}, r"repetition_penalty must be a number, was '1\.2'"),
        ({"repetition_penalty": 0}, r"repetition_penalty must be above 0, was 0\.0"),
        ({"top_p": 1.5}, r"top_p must be between 0 and 1, was 1\.5"),
        ({"early_stopping": "maybe"}, "early_stopping must be true, false or \"never\", was 'maybe'"),
        ({"renormalize_logits": 1}, "renormalize_logits must be true or false, was 1"),
        ({"exponential_decay_length_penalty": [3]}, "must be a start and a factor"),
        ({"exponential_decay_length_penalty": [3, None]}, "must be a start and a factor"),
        ({"sequence_bias": [[[99], 1.0]]}, "token ids below 10"),
        ({"sequence_bias": {"1": 1.0}}, "token ids below 10"),
    ],
)
def test_what_it_cannot_be_is_refused(tmp_path: Path, content: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        read_generation(_folder(tmp_path, content), vocabulary=10)


def test_a_package_answers_as_its_model_says(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "marian")
    content = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    own = {"num_beams": 4, "no_repeat_ngram_size": 3, "sequence_bias": [[[5, 6], 1.0]], "guidance_scale": 2.0}
    _folder(folder, {**content, **own})
    (tmp_path / "package").mkdir()
    export_model(folder, out=tmp_path / "package", precision="fp32", report=lambda progress: None)
    exported, model = load_package(tmp_path / "package").model, card_of(folder)
    assert exported.generation == model.generation
    assert exported.unheeded == model.unheeded == {"guidance_scale": "2.0"}
    stored = json.loads(json.dumps(asdict(model)))
    assert card_from_json(stored) == model
    del stored["generation"], stored["unheeded"]  # as an older version wrote it
    assert card_from_json(stored).generation == GenerationSettings()
    assert card_from_json(stored).unheeded == {"generation_config.json": "unknown"}


def test_answers_that_were_kept_are_of_this_very_file(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model", "llama")
    before, hashed = card_of(folder), settings_hash(folder)
    content = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    _folder(folder, {**content, "repetition_penalty": 1.1})
    assert card_of(folder).weights_hash == before.weights_hash
    assert card_of(folder) != before
    assert settings_hash(folder) != hashed


def test_a_saved_model_writes_as_its_backbone_says_and_follows_its_file(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "made", "bart")
    content = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    own = {"temperature": 0.6, "early_stopping": True, "min_length": 7, "repetition_penalty": 1.2}
    _folder(folder, {**content, **own})
    save_model(load_model(folder), tmp_path / "saved", provenance={})
    made, saved = card_of(folder), card_of(tmp_path / "saved")
    assert (saved.generation, saved.rules, saved.unheeded) == (made.generation, made.rules, made.unheeded)
    assert saved.generation.min_length == 7
    _folder(tmp_path / "saved" / "backbone", {**content, "min_length": 9})
    with pytest.raises(UsageError, match="where a change of settings is wanted, delete"):
        card_of(tmp_path / "saved")
    (tmp_path / "saved" / "checksums.json").unlink()
    assert card_of(tmp_path / "saved").generation == GenerationSettings(min_length=9)
