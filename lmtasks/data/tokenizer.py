"""A tokenizer read from `tokenizer.json`, needing the `tokenizers` library alone (no transformers).

>>> tokenizer = train_byte_bpe(["a cat", "a hat"], vocabulary=270)
>>> tokenizer.decode(tokenizer.encode("a cat"))
'a cat'
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as RawTokenizer

from lmtasks.errors import UsageError
from lmtasks.files import read_object, reading
from lmtasks.records import EncodedText

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
SEPARATOR = "<|sep|>"
MASK = "<|mask|>"
"""Of encoders that learn from hidden tokens."""
CLEANING, STOP_WORDS = "lmtasks_cleaning", "lmtasks_stop_words"
"""Keys in tokenizer_config.json, which other readers pass over."""
# One piece is a word with its leading space, one digit, a run of marks, or white space (as GPT-2 cuts, digits apart).
PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class Tokenizer:
    """Text to token ids and back, with the special ids that models need.

    Args:
        raw: the tokenizer itself.
        bos, eos, pad: their ids, None where the tokenizer has none.
        takes_types: does its model read segment ids?
        cleaning: the steps that `raw` and `stop_words` carry out, for people.
        stop_words: tokens that are left out of every text, in small letters.
    """

    def __init__(
        self,
        raw: RawTokenizer,
        *,
        bos: int | None,
        eos: int | None,
        pad: int | None,
        takes_types: bool = False,
        cleaning: Sequence[str] = (),
        stop_words: frozenset[str] = frozenset(),
    ) -> None:
        raw.no_padding()
        raw.no_truncation()
        self.raw = raw
        self.bos = bos
        self.eos = eos
        self.pad = pad if pad is not None else (eos if eos is not None else 0)
        self.takes_types = takes_types
        self.cleaning = tuple(cleaning)
        self.stop_words = stop_words
        words = raw.get_vocab(with_added_tokens=False).items() if stop_words else ()
        self._left_out = frozenset(index for word, index in words if word.lower() in stop_words)
        self.adds_special = bool(raw.encode("a").special_tokens_mask.count(1))

    @property
    def vocabulary(self) -> int:
        """Number of token ids, added ones included."""
        return int(self.raw.get_vocab_size(with_added_tokens=True))

    @cached_property
    def unknown(self) -> int | None:
        """The token of whatever the vocabulary lacks; None where every text can be said."""
        if isinstance(self.raw.model, models.Unigram):  # which tells its own from Python no other way
            index = json.loads(self.raw.to_str())["model"]["unk_id"]
            return None if index is None else int(index)
        token = getattr(self.raw.model, "unk_token", None)
        return None if token is None else self.raw.token_to_id(token)

    def unknown_in(self, text: str, ids: Sequence[int]) -> int:
        """Number of a text's tokens that stand for something that they do not say.

        A text may hold the unknown token itself, as PTB's does: that one stands for itself, and does not count.

        Args:
            ids: the text's tokens, with whatever stands around them.
        """
        if self.unknown is None or self.unknown not in ids:
            return 0
        name = self.raw.id_to_token(self.unknown)
        encoded = self.raw.encode(text, add_special_tokens=False)
        literal = sum(
            index == self.unknown and text[start:end].strip() == name
            for index, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
        )
        return max(0, list(ids).count(self.unknown) - literal)

    def alters(self, text: str) -> bool:
        """Do its cleaning steps change the text, or leave a part of it out?"""
        if not self.cleaning:
            return False
        if self._left_out and not self._left_out.isdisjoint(self.raw.encode(text, add_special_tokens=False).ids):
            return True
        normalizer = self.raw.normalizer
        return normalizer is not None and normalizer.normalize_str(text) != text

    @property
    def hash(self) -> str:
        """First 16 hex digits of the sha256 over `tokenizer.json`, and the words that are left out."""
        text = self.raw.to_str() + "".join(sorted(self.stop_words))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def with_special(self, tokens: Sequence[str]) -> "Tokenizer":
        """The same with more special tokens behind its own, as far as it lacks them."""
        raw = RawTokenizer.from_str(self.raw.to_str())
        raw.add_special_tokens([AddedToken(token, special=True) for token in tokens])
        return Tokenizer(
            raw,
            bos=self.bos,
            eos=self.eos,
            pad=self.pad,
            takes_types=self.takes_types,
            cleaning=self.cleaning,
            stop_words=self.stop_words,
        )

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of one text; with `special`, with whatever the tokenizer puts around a text."""
        return self._kept(self.raw.encode(text, add_special_tokens=special).ids)

    def encode_many(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """`encode` for several texts, in parallel inside `tokenizers`, which then leaves out where tokens stand."""
        return [self._kept(item.ids) for item in self.raw.encode_batch_fast(list(texts), add_special_tokens=special)]

    def encode_for_head(self, first: str, second: str | None = None) -> EncodedText:
        """Tokens as a head reads them, without stop words: with the tokenizer's own special tokens if it adds any.

        A tokenizer that adds none (those of causal models) gets a separator between the texts, or a line break
        if it has no separator token, and the end token behind them, which a `last` pooling reads.
        """
        if self.adds_special:
            pair = self.raw.encode(first, second) if second is not None else self.raw.encode(first)
            sequences = tuple(-1 if item is None else int(item) for item in pair.sequence_ids)
            offsets = tuple((int(a), int(b)) for a, b in pair.offsets)
            found = EncodedText(ids=tuple(pair.ids), offsets=offsets, sequences=sequences, types=tuple(pair.type_ids))
            return self._without_stop_words(found)
        ids: list[int] = []
        offsets_: list[tuple[int, int]] = []
        sequence: list[int] = []
        for index, text in enumerate([first] if second is None else [first, second]):
            if index:
                between = self._between()
                ids += between
                offsets_ += [(0, 0)] * len(between)
                sequence += [-1] * len(between)
            item = self.raw.encode(text, add_special_tokens=False)
            ids += item.ids
            offsets_ += [(int(a), int(b)) for a, b in item.offsets]
            sequence += [index] * len(item.ids)
        if self.eos is not None:
            ids.append(self.eos)
            offsets_.append((0, 0))
            sequence.append(-1)
        return self._without_stop_words(
            EncodedText(ids=tuple(ids), offsets=tuple(offsets_), sequences=tuple(sequence), types=(0,) * len(ids))
        )

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of token ids."""
        return str(self.raw.decode(list(ids), skip_special_tokens=skip_special))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and the `tokenizer_config.json` that transformers reads."""
        self.raw.save(str(folder / "tokenizer.json"))
        names = {
            "bos_token": self.bos,
            "eos_token": self.eos,
            "pad_token": self.pad,
            "mask_token": self.raw.token_to_id(MASK),
        }
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **{name: self.raw.id_to_token(index) for name, index in names.items() if index is not None},
            **({"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]} if self.takes_types else {}),
            **({CLEANING: list(self.cleaning)} if self.cleaning else {}),
            **({STOP_WORDS: sorted(self.stop_words)} if self.stop_words else {}),
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _kept(self, ids: Sequence[int]) -> list[int]:
        return [index for index in ids if index not in self._left_out] if self._left_out else list(ids)

    def _without_stop_words(self, encoded: EncodedText) -> EncodedText:
        if not self._left_out:
            return encoded
        kept = [place for place, index in enumerate(encoded.ids) if index not in self._left_out]
        return EncodedText(
            ids=tuple(encoded.ids[place] for place in kept),
            offsets=tuple(encoded.offsets[place] for place in kept),
            sequences=tuple(encoded.sequences[place] for place in kept),
            types=tuple(encoded.types[place] for place in kept),
        )

    def _between(self) -> list[int]:
        separator = self.raw.token_to_id(SEPARATOR)
        return [separator] if separator is not None else list(self.raw.encode("\n", add_special_tokens=False).ids)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read a tokenizer from a model folder.

    Raises:
        UsageError: the folder has no `tokenizer.json`, or it cannot be read.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UsageError(
            f"{folder} has no tokenizer.json; save the model's fast tokenizer beside its weights "
            "(transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder))."
        )
    with reading(f"the tokenizer {file}"):
        raw = RawTokenizer.from_file(str(file))
        raw.encode("")  # a file may name parts that fail over every text
    config = read_object(folder / "tokenizer_config.json")
    names = {**read_object(folder / "special_tokens_map.json"), **config}
    inputs = config.get("model_input_names")
    kind = str(read_object(folder / "config.json").get("model_type", ""))
    takes_types = "token_type_ids" in inputs if isinstance(inputs, list) else kind in {"bert", "electra", "albert"}
    with reading(f"the settings of the tokenizer in {folder}"):
        return Tokenizer(
            raw,
            bos=_special(raw, names.get("bos_token")),
            eos=_special(raw, names.get("eos_token")),
            pad=_special(raw, names.get("pad_token")),
            takes_types=takes_types,
            cleaning=_texts(config, CLEANING),
            stop_words=frozenset(_texts(config, STOP_WORDS)),
        )


def train_byte_bpe(texts: Iterable[str], *, vocabulary: int, special: Sequence[str] = ()) -> Tokenizer:
    """Learn a byte-level BPE vocabulary: any text can be encoded, Chinese as well as English.

    Args:
        texts: what to learn from.
        vocabulary: number of tokens, the special ones and the 256 bytes included.
        special: more special tokens than the 3 that every tokenizer here has.
    """
    raw = RawTokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(name, special=True) for name in (END_OF_TEXT, PADDING, SEPARATOR, *special)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    end = raw.token_to_id(END_OF_TEXT)
    return Tokenizer(raw, bos=end, eos=end, pad=raw.token_to_id(PADDING))


def _texts(config: dict[str, object], key: str) -> list[str]:
    found = config.get(key, [])
    return [str(item) for item in found] if isinstance(found, list) else []


def _special(raw: RawTokenizer, token: object) -> int | None:
    if token is None:
        return None
    text = str(token["content"]) if isinstance(token, dict) else str(token)
    index = raw.token_to_id(text)
    return None if index is None else int(index)
