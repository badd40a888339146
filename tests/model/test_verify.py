"""A flipped bit in a model's files is told of, by name, before anything is answered."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_checkpoint

import lmtasks.model.weights as digests
from lmtasks.errors import UsageError
from lmtasks.installation import shipped_backbones
from lmtasks.model.store import card_of, load_model, save_model
from lmtasks.model.verify import CHECKSUMS, check_files, write_checksums
from lmtasks.model.weights import digest_of
from lmtasks.records import HeadSpec


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = load_model(tiny_checkpoint(tmp_path / "llama", "llama"))
    model.add_heads((HeadSpec(name="mood", kind="classification", labels=("bad", "good")),))
    save_model(model.eval(), tmp_path / "model", provenance={})
    return tmp_path / "model"


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-len(raw) // 3] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize(
    "name",
    ["model.json", "backbone/config.json", "backbone/generation_config.json", "backbone/model.safetensors",
     "backbone/tokenizer.json", "backbone/tokenizer_config.json", "heads/mood/head.safetensors"],
)  # fmt: skip
def test_one_flipped_bit_is_told_of_with_its_file(saved: Path, name: str) -> None:
    check_files(saved)
    _flip(saved / name)
    with pytest.raises(UsageError, match=rf"{name}.* (is damaged|cut short).*"):
        load_model(saved)


def test_a_bit_of_an_older_model_is_told_of_by_the_hash_on_its_card(saved: Path) -> None:
    (saved / CHECKSUMS).unlink()
    card_of(saved)
    _flip(saved / "heads" / "mood" / "head.safetensors")
    with pytest.raises(UsageError, match=r"the weights in .* are damaged: .* model\.json was written with"):
        card_of(saved)


def test_weights_that_came_later_are_not_loaded_in_place_of_those_that_were_written(saved: Path) -> None:
    backbone = saved / "backbone"
    write = {"a.weight": torch.ones(2)}
    (backbone / "model.safetensors").rename(backbone / "shard.safetensors")
    (backbone / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "shard.safetensors"}}))
    write_checksums(saved)
    save_file(write, str(backbone / "model.safetensors"))
    with pytest.raises(UsageError, match=r"model\.safetensors was not there when the model was written"):
        card_of(saved)


def test_settings_may_be_changed_on_purpose(saved: Path) -> None:
    file = saved / "backbone" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "note": 1}))
    with pytest.raises(UsageError, match="where a change of settings is wanted, delete"):
        card_of(saved)
    (saved / CHECKSUMS).unlink()
    assert card_of(saved).name == "model"


def test_the_shipped_backbone_is_what_was_published() -> None:
    folder = shipped_backbones() / "lmtasks-mini"
    assert set(json.loads((folder / CHECKSUMS).read_text())["files"]) == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    check_files(folder)
    assert card_of(folder).weights_hash == "b8cbe235eb71c45e"  # published scores stand under it


def test_a_large_file_is_read_once_and_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMTASKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED_SECONDS", 0.0)
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(2**20, dtype=torch.float32), "b": torch.ones(2**19)}, str(file))
    time.sleep(0.05)
    first = digest_of(file)
    assert [tensor.count for tensor in first.tensors] == [2**20, 2**19]
    read = []
    monkeypatch.setattr(digests, "_of_tensors", lambda file: read.append(file) or first)
    assert digest_of(file) == first
    assert not read  # known
    stat = file.stat()
    monkeypatch.undo()
    monkeypatch.setenv("LMTASKS_CACHE", str(tmp_path / "cache"))
    _flip(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # whoever sets the time back is noticed all the same
    assert digest_of(file).hash != first.hash
    for kept in (tmp_path / "cache" / "digests").iterdir():
        kept.write_text("{")
    assert digest_of(file).hash != first.hash  # a damaged memory is none


def test_a_backbone_beside_the_model_is_no_file_of_it(tmp_path: Path) -> None:
    """Adapters stand over it by a hash of their own; it may move, or be copied into the model."""
    from lmtasks.model.weights import ADAPTERS, base_facts, write_base

    base = tiny_checkpoint(tmp_path / "base", "llama")
    folder = tmp_path / "over"
    (folder / ADAPTERS).mkdir(parents=True)
    write_base(folder, base=base, weights_hash=base_facts(base).hash)
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    write_checksums(folder)
    assert set(json.loads((folder / CHECKSUMS).read_text())["files"]) == {"config.json"}
