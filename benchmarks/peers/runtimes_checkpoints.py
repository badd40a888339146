"""The shapes that are raced, with seeded weights; and what they are asked.

Weights come from `peer_checkpoints.seed_weights`, which gives the same bits everywhere. A Marian model needs spreads of
its own: with those of the others its decoder would say one token over and over.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from peer_checkpoints import SPEED, make_checkpoint, seed_weights
from runtimes_works import RECURRENT, ShapeName

GPT2_WORDS, MARIAN_WORDS = 50257, 32000
NEVER = -1e9
"""Added to the score of tokens that must not be written, so that every text has the length that was asked for."""


def make_shape(folder: Path, *, shape: ShapeName, tokenizer: Path) -> Path:
    """The checkpoint of a shape; it is made once.

    Args:
        folder: where to.
        shape: which.
        tokenizer: a `tokenizer.json`, for the shapes that read text or have its vocabulary.
    """
    if not any((folder / name).is_file() for name in ("config.json", "model.json")):
        aside = folder.with_name(folder.name + ".part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        MAKERS[shape](aside, tokenizer)
        aside.rename(folder)
    return folder


def ids_to_continue(words: int) -> list[list[int]]:
    """64 prompts of 64 tokens."""
    draw = np.random.default_rng(0)
    return [draw.integers(5, words, 64).tolist() for _ in range(64)]


def sources() -> list[list[int]]:
    """64 sentences of 8 to 40 tokens."""
    draw = np.random.default_rng(5)
    return [draw.integers(2, 31000, length).tolist() for length in draw.integers(8, 41, 64)]


def sentences(data_root: Path | None, starter: Path, *, count: int) -> tuple[list[str], str]:
    """Real sentences, and where they are from.

    Args:
        data_root: a mirror with `stanfordnlp/sst2`; None: the sentences of the starter tasks, repeated with a number so
            that none is alike.
        starter: the folder of the starter tasks.
        count: how many.
    """
    if data_root is not None:
        import pyarrow.parquet

        found = pyarrow.parquet.read_table(data_root / "stanfordnlp" / "sst2" / "train.parquet")
        return found.column("sentence").to_pylist()[:count], "SST-2"
    lines = [
        json.loads(line)["text"]
        for task in ("sentiment_en", "topic_en")
        for file in sorted((starter / task).glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [f"{lines[at % len(lines)]} {at}" for at in range(count)], "starter tasks"


def _llama(folder: Path, tokenizer: Path) -> None:
    make_checkpoint(folder, shape=SPEED["llama-30m"], tokenizer=tokenizer)


def _gpt2(folder: Path, tokenizer: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=GPT2_WORDS, n_embd=768, n_layer=6, n_head=12, n_positions=1024, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    seed_weights(model, seed=0)
    model.save_pretrained(folder)
    _save_words(folder, ["<|endoftext|>", *(f"t{number}" for number in range(1, GPT2_WORDS))], end="<|endoftext|>")


def _minilm(folder: Path, tokenizer: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=Tokenizer.from_file(str(tokenizer)).get_vocab_size(with_added_tokens=True),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=512,
        num_labels=2,
        pad_token_id=1,
        position_embedding_type="absolute",  # no longer a field in transformers 5; CTranslate2's converter asks for it
    )
    model = BertForSequenceClassification(config)
    seed_weights(model, seed=0)
    model.save_pretrained(folder)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    _describe(folder, end="<|endoftext|>", pad="<|pad|>", unknown=None)


def _marian(folder: Path, tokenizer: Path) -> None:
    import torch
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=MARIAN_WORDS,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        activation_function="swish",
        scale_embedding=True,
        max_position_embeddings=512,
        pad_token_id=MARIAN_WORDS - 1,
        decoder_start_token_id=MARIAN_WORDS - 1,
        eos_token_id=0,
        bos_token_id=None,
        forced_eos_token_id=None,
        tie_word_embeddings=True,
    )
    model = MarianMTModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name or "embed_positions" in name:
                continue
            draw = np.random.RandomState(zlib.crc32(name.encode()))
            numbers = (draw.random_sample(tuple(parameter.shape)) - 0.5) * 12**0.5
            parameter.copy_(torch.from_numpy(_marian_spread(name, parameter.dim()) * numbers))
        model.model.shared.weight[MARIAN_WORDS - 1] = 0
        model.final_logits_bias.zero_()
        for never in (0, MARIAN_WORDS - 1):
            model.final_logits_bias[0, never] = NEVER
    model.tie_weights()
    model.generation_config.max_length, model.generation_config.num_beams = 512, 1
    model.save_pretrained(folder)
    words = ["</s>", "<unk>", *(f"t{number}" for number in range(2, MARIAN_WORDS - 1)), "<pad>"]
    _save_words(folder, words, end="</s>", pad="<pad>", unknown="<unk>")


def _marian_spread(name: str, axes: int) -> float:
    if axes == 1:
        return 0.01
    parts = {
        "shared": 0.12,
        "embed_tokens": 0.12,
        "fc1": 0.02,
        "fc2": 0.3,
        "decoder.layers": 0.015 if "encoder_attn.out_proj" in name else 0.06,
    }
    if "self_attn.out_proj" in name:
        return 0.02
    return next((spread for part, spread in parts.items() if part in name), 0.06)


RECURRENT_WIDTH = 208
"""As many multiplications a token as embeddings of 128 and 128 units a way, the shape that the wanted ratios are of; in
our own families embeddings are as wide as both ways together."""


def _recurrent(family: str) -> Callable[[Path, Path], None]:
    """A model of our own, as `lmtasks adapt --backbone FAMILY` makes it, with a random head."""

    def make(folder: Path, tokenizer: Path) -> None:
        import torch
        from tokenizers import Tokenizer

        from lmtasks.backbone.family import new_backbone
        from lmtasks.backbone.sizes import Vocabulary
        from lmtasks.model.store import load_model, save_model
        from lmtasks.records import HeadSpec

        words = Tokenizer.from_file(str(tokenizer)).get_vocab_size(with_added_tokens=True)
        plain = folder.with_name(folder.name + ".backbone")
        shutil.rmtree(plain, ignore_errors=True)
        torch.manual_seed(0)
        backbone = new_backbone(family, Vocabulary(size=words, bos=0, eos=0, pad=1))
        with torch.no_grad():  # larger than at the start of a training, so that labels differ
            for parameter in backbone.parameters():
                parameter.mul_(3)
        backbone.save(plain)
        shutil.copyfile(tokenizer, plain / "tokenizer.json")
        _describe(plain, end="<|endoftext|>", pad="<|pad|>", unknown=None)
        model = load_model(plain)
        labels = tuple(f"label {number}" for number in range(8))
        model.add_heads([HeadSpec(name="label", kind="classification", labels=labels, pooling="max")])
        with torch.no_grad():
            model.head("label").output.weight.normal_(0.0, 1.0)  # type: ignore[union-attr, operator]
        folder.rmdir()
        save_model(model, folder, provenance={"made": "for a race"})
        shutil.rmtree(plain)

    return make


MAKERS: Mapping[ShapeName, Callable[[Path, Path], None]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "marian": _marian,
    "minilm": _minilm,
    **{family: _recurrent(f"{family}:width={RECURRENT_WIDTH}") for family in RECURRENT},
}


def _save_words(
    folder: Path, words: list[str], *, end: str, pad: str | None = None, unknown: str | None = None
) -> None:
    """A tokenizer of whole words: only its size counts, and that every id has a name."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    numbered = {word: number for number, word in enumerate(words)}
    Tokenizer(WordLevel(numbered, unk_token=unknown or end)).save(str(folder / "tokenizer.json"))
    _describe(folder, end=end, pad=pad, unknown=unknown)


def _describe(folder: Path, *, end: str, pad: str | None, unknown: str | None) -> None:
    names = {"eos_token": end, "bos_token": end, "pad_token": pad or end, "unk_token": unknown or end}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
