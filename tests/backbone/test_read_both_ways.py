"""Reading with the attention that a head asks for: one set of weights, pass by pass."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_checkpoint
from transformers import MptConfig, MptForCausalLM

from lmtasks.backbone.base import Backbone
from lmtasks.backbone.family import FAMILIES, new_backbone
from lmtasks.backbone.load import load_backbone
from lmtasks.backbone.sizes import Vocabulary
from lmtasks.errors import UsageError
from lmtasks.settings.attention import Attention

IDS = torch.tensor([[5, 6, 7, 8]])
MASK = torch.ones(1, 4, dtype=torch.bool)


@torch.no_grad()
def _sees_ahead(backbone: Backbone, attention: Attention | None) -> bool:
    other = IDS + torch.tensor([0, 0, 0, 1])
    one, two = (backbone.read(ids, MASK, attention=attention)[0, 0] for ids in (IDS, other))
    return not torch.equal(one, two)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma2"])
def test_one_causal_backbone_reads_either_way_in_turn(family: str, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_checkpoint(tmp_path, family))
    asked: tuple[Attention | None, ...] = (None, "both", "causal", "both", None)
    assert [_sees_ahead(backbone, each) for each in asked] == [False, True, False, True, False]
    assert backbone.attention == "causal"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_both_ways_is_what_a_folder_of_earlier_versions_says(family: str, tmp_path: Path) -> None:
    """There `is_causal: false` stood in config.json, and turned the whole model."""
    folder = tiny_checkpoint(tmp_path, family)
    turned = load_backbone(folder)
    config = json.loads((folder / "config.json").read_text())
    body = config["architectures"][0].replace("ForCausalLM", "Model").replace("LMHeadModel", "Model")
    (folder / "config.json").write_text(json.dumps({**config, "is_causal": False, "architectures": [body]}))
    old = load_backbone(folder)
    assert (old.traits.kind, old.attention) == ("encoder", "both")
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    ids = torch.cat([IDS, IDS])
    with torch.no_grad():
        assert torch.equal(turned.read(ids, mask, attention="both"), old.encode(ids, mask))


@pytest.mark.parametrize("attention", ["causal", "both"])
def test_padding_on_either_side_changes_nothing(attention: Attention, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_checkpoint(tmp_path, "llama"))
    padding = torch.tensor([[9, 9]])
    with torch.no_grad():
        plain = backbone.read(IDS, MASK, attention=attention)
        for left in (True, False):
            parts = [padding, IDS] if left else [IDS, padding]
            masks = [torch.zeros_like(padding).bool(), MASK] if left else [MASK, torch.zeros_like(padding).bool()]
            padded = backbone.read(torch.cat(parts, 1), torch.cat(masks, 1), attention=attention)
            found = padded[:, 2:] if left else padded[:, :4]
            assert torch.allclose(plain, found, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_reads_as_it_says_or_says_why_not(name: str) -> None:
    torch.manual_seed(0)
    backbone = new_backbone(name, Vocabulary(size=16, bos=0, eos=0, pad=1)).eval()
    own, other = backbone.attention, {"causal": "both", "both": "causal"}[backbone.attention]
    assert own == ("causal" if FAMILIES[name].kind == "causal" else "both")
    assert backbone.why_not(own) == ""
    with torch.no_grad():
        assert torch.equal(backbone.read(IDS, MASK, attention=own), backbone.encode(IDS, MASK))
    if name in {"llama", "gpt2"}:
        assert _sees_ahead(backbone, "both")
        return
    with pytest.raises(UsageError, match=f"cannot read {'both ways: it carries' if other == 'both' else 'causally: '}"):
        backbone.read(IDS, MASK, attention=other)  # type: ignore[arg-type]


def test_one_that_asks_nobody_how_to_attend_says_so(tmp_path: Path) -> None:
    sizes = {"vocab_size": 32, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 16}
    MptForCausalLM(MptConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="mpt shows a token those before it alone, whatever it is asked for"):
        load_backbone(tmp_path).check_attention("both")


def test_a_body_without_a_head_for_language_is_read_as_it_is(tmp_path: Path) -> None:
    """Its kind is that of an encoder, and its attention is causal all the same."""
    folder = tiny_checkpoint(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaModel"]}))
    backbone = load_backbone(folder)
    assert (backbone.traits.kind, backbone.attention) == ("encoder", "causal")
    assert not _sees_ahead(backbone, "causal")
    with pytest.raises(UsageError, match="names a body without a language-model head"):
        backbone.check_attention("both")
