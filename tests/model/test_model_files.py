"""What makes a model is what its loader opens: the same files for its hash, its size, its copies and its cache key."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint

from lmtasks.errors import UsageError
from lmtasks.model.files import copy_tokenizer, tokenizer_files
from lmtasks.model.store import card_of, load_model
from lmtasks.model.weights import weight_facts, weight_files

IDS = torch.tensor([[5, 6, 7, 8]])
MASK = torch.ones(1, 4, dtype=torch.bool)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "llama", "llama", seed=1)


def _as_bin(folder: Path) -> None:
    torch.save(load_file(str(folder / "model.safetensors")), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _sharded(folder: Path, place: str = "") -> None:
    load_model(folder).hf.save_pretrained(folder / "cut", max_shard_size="20KB")  # type: ignore[operator]
    (folder / "model.safetensors").unlink()
    for file in (folder / "cut").glob("model*"):
        file.rename(folder / file.name)
    shutil.rmtree(folder / "cut")
    if place:
        (folder / place).mkdir()
        index = folder / "model.safetensors.index.json"
        content = json.loads(index.read_text())
        for file in folder.glob("model-*.safetensors"):
            file.rename(folder / place / file.name)
        content["weight_map"] = {name: f"{place}/{file}" for name, file in content["weight_map"].items()}
        index.write_text(json.dumps(content))


def test_a_bin_beside_a_sub_folder_of_safetensors_is_hashed(folder: Path, tmp_path: Path) -> None:
    """Every sentence-transformers folder: of two such models the cache gave the second the answers of the first."""
    other = tiny_checkpoint(tmp_path / "other", "llama", seed=2)
    hashes = []
    for each in (folder, other):
        _as_bin(each)
        (each / "2_Dense").mkdir()
        save_file({"linear.weight": torch.ones(2, 2)}, str(each / "2_Dense" / "model.safetensors"))
        assert weight_files(each) == (each / "pytorch_model.bin",)
        hashes.append(card_of(each).weights_hash)
    assert hashes[0] != hashes[1]
    assert not torch.equal(load_model(folder).lm_logits(IDS, MASK), load_model(other).lm_logits(IDS, MASK))


@pytest.mark.parametrize(
    "beside",
    ["model_old.safetensors", "consolidated.safetensors", "checkpoint-500/model.safetensors", "model.fp16.safetensors",
     "original/model.safetensors", "pytorch_model.bin", "onnx/model.safetensors", "heads/x/head.safetensors",
     "model-00001-of-00002.safetensors"],
)  # fmt: skip
def test_what_no_loader_opens_changes_neither_hash_nor_count(folder: Path, beside: str) -> None:
    before, answer = weight_facts(folder), load_model(folder).lm_logits(IDS, MASK)
    (folder / beside).parent.mkdir(parents=True, exist_ok=True)
    save_file({"some.weight": torch.ones(3, 3)}, str(folder / beside))
    assert weight_facts(folder) == before
    assert torch.equal(load_model(folder).lm_logits(IDS, MASK), answer)


def test_the_loader_opens_what_is_hashed_in_every_form(folder: Path) -> None:
    """One file before an index, safetensors before bin, as transformers: each form is taken away after it was asked."""
    whole = weight_facts(folder)
    answer = load_model(folder).lm_logits(IDS, MASK)
    _sharded(folder)
    assert len(weight_files(folder)) > 1
    assert weight_facts(folder).hash == whole.hash
    assert weight_facts(folder).parameters == whole.parameters
    assert torch.equal(load_model(folder).lm_logits(IDS, MASK), answer)
    single = folder / "model.safetensors"
    save_file(
        {name: tensor * 1.5 for file in weight_files(folder) for name, tensor in load_file(str(file)).items()},
        str(single),
        metadata={"format": "pt"},
    )
    assert weight_files(folder) == (single,)
    assert weight_facts(folder).hash != whole.hash
    assert not torch.equal(load_model(folder).lm_logits(IDS, MASK), answer)


def test_shards_in_a_sub_folder_and_behind_links_are_read(folder: Path, tmp_path: Path) -> None:
    """The Hub's cache holds links to files elsewhere; what an index names lies in its folder all the same."""
    whole = weight_facts(folder).hash
    _sharded(folder, "shards")
    assert weight_facts(folder).hash == whole
    snapshot = tmp_path / "snapshot"
    (snapshot / "shards").mkdir(parents=True)
    for file in (file for file in folder.rglob("*") if file.is_file()):
        (snapshot / file.relative_to(folder)).symlink_to(file)
    assert weight_facts(snapshot).hash == whole
    assert torch.equal(load_model(snapshot).lm_logits(IDS, MASK), load_model(folder).lm_logits(IDS, MASK))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("../other/model.safetensors", r"names '\.\./other/model\.safetensors', which lies outside its folder"),
        ("/etc/model.safetensors", "names '/etc/model.safetensors', which lies outside its folder"),
        (r"C:\models\model.safetensors", "which lies outside its folder"),
        ("model-00009-of-00009.safetensors", "names model-00009-of-00009.safetensors, which is missing"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(folder: Path, named: str, said: str) -> None:
    tiny_checkpoint(folder.parent / "other", "llama", seed=2)
    _sharded(folder)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.norm.weight"] = named
    index.write_text(json.dumps(content))
    for ask in (card_of, load_model):
        with pytest.raises(UsageError, match=said):
            ask(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', '{"metadata": {}}'])
def test_an_index_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UsageError, match=r"index\.json is damaged: .*; copy the model again"):
        card_of(folder)


def test_weights_that_no_loader_opens_are_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(UsageError, match=r"has no weights: none of .*; consolidated\.safetensors there is not loaded"):
        card_of(folder)


def test_adapters_of_peft_beside_whole_weights_are_refused(folder: Path) -> None:
    """transformers merges them where peft is installed, and passes over them where it is not."""
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds adapters of peft .* merge them"):
        card_of(folder)


def test_everything_that_a_tokenizer_is_loaded_from_is_carried_along(folder: Path, tmp_path: Path) -> None:
    for name in ("chat_template.jinja", "additional_chat_templates/tools.jinja", "added_tokens.json", "vocab.json",
                 "merges.txt", "tokenizer.model", "sentencepiece.bpe.model", "chat_template.json"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    (folder / "notes.txt").write_text("nobody's")
    copy_tokenizer(folder, tmp_path / "copy")
    copied = [file.relative_to(tmp_path / "copy") for file in tokenizer_files(tmp_path / "copy")]
    assert copied == [file.relative_to(folder) for file in tokenizer_files(folder)]
    assert len(copied) == 10
    assert not (tmp_path / "copy" / "notes.txt").exists()


def test_every_vocabulary_file_of_transformers_is_known(tmp_path: Path) -> None:
    """Names that tokenizers of transformers give their files, read from its own sources."""
    import re

    import transformers

    names: set[str] = set()
    for file in Path(transformers.__file__).parent.glob("models/*/tokenization_*.py"):
        for table in re.findall(r"VOCAB_FILES_NAMES\s*=\s*\{([^}]*)\}", file.read_text(encoding="utf-8")):
            names |= set(re.findall(r':\s*"([^"]+)"', table))
    assert len(names) > 15
    for name in names:
        (tmp_path / name).write_text("")
    assert {file.name for file in tokenizer_files(tmp_path)} == names
