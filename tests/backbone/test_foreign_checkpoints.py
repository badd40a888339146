"""Checkpoints of others: what their configuration states, and what their files may hold."""

import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_checkpoint, tiny_tokenizer
from transformers import GPT2Config, PreTrainedConfig, T5Config, XLNetConfig, XLNetForSequenceClassification

from lmtasks.backbone.sizes import NO_LIMIT
from lmtasks.backbone.transformer import load_transformer, read_config, traits_of
from lmtasks.errors import UsageError
from lmtasks.model.store import load_model


def test_xlnet_reads_texts_of_any_length(tmp_path: Path) -> None:
    """It states -1 positions, so that every text was cut to none."""
    config = XLNetConfig(vocab_size=300, d_model=16, n_layer=1, n_head=2, d_inner=16, pad_token_id=1, num_labels=2)
    XLNetForSequenceClassification(config).save_pretrained(tmp_path)
    tiny_tokenizer().save(tmp_path)
    model = load_model(tmp_path)
    assert model.card.max_length_tokens == NO_LIMIT
    ids = torch.arange(700)[None] % 290 + 2
    assert model.head_logits("own", ids, torch.ones_like(ids, dtype=torch.bool)).shape == (1, 2)


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (GPT2Config(n_positions=64), 64),
        (GPT2Config(n_positions=-1), NO_LIMIT),
        (T5Config(n_positions=None), NO_LIMIT),
        (T5Config(n_positions=256), 256),
        (T5Config(), 512),
    ],
)
def test_minus_one_and_none_are_no_limit(config: PreTrainedConfig, longest: int) -> None:
    assert traits_of(config).max_length_tokens == longest


class _Code:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return subprocess.call, (["touch", str(self.file)],)


@pytest.mark.parametrize("what", ["code", "a path", "no pickle", "nothing"])
def test_a_bin_of_more_than_tensors_is_refused_without_torch_s_advice(tmp_path: Path, what: str) -> None:
    """What torch advises, `weights_only=False`, would run the code in it."""
    folder = tiny_checkpoint(tmp_path / "llama", "llama")
    tensors = load_file(str(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    if what in ("code", "a path"):
        torch.save({**tensors, "more": _Code(tmp_path / "ran") if what == "code" else tmp_path}, file)
    else:
        file.write_bytes(b"model,score\n" if what == "no pickle" else b"")
    with pytest.raises(UsageError, match=r"hold more than tensors, or are damaged.*save it as safetensors") as raised:
        load_transformer(folder)
    assert "weights_only" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


def test_a_setting_of_a_wrong_type_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_positions": "many"}')
    with pytest.raises(UsageError, match=r"config\.json cannot be read: .*n_positions"):
        read_config(tmp_path)
