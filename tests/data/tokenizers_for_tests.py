"""Tokenizers of the kinds that there are, made on the spot: no file, no network."""

from functools import cache

from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from lmtasks.data.tokenizer import END_OF_TEXT, Tokenizer, train_byte_bpe

TEXTS = [
    "The quick brown fox jumps over the lazy dog. Who jumps? The fox does, every day, over the dog.",
    "石榴渡是清溪河下游的一处老码头。老码头为什么后来没什么船来了？铁路通车以后，货船渐渐少了。",
    "A café near the old wharf, where boats were tied: 1794, 1856 and 2009.",
]


@cache
def causal() -> Tokenizer:
    """Byte-level BPE that puts nothing around texts, as GPT-2, Qwen and lmtasks-mini."""
    return train_byte_bpe(TEXTS * 3, vocabulary=400)


@cache
def with_bos() -> Tokenizer:
    """The same, with a first token before a text, as Llama 3: nothing at the end."""
    raw = RawTokenizer.from_str(causal().raw.to_str())
    end = raw.token_to_id(END_OF_TEXT)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A {END_OF_TEXT}:1 $B:1",
        special_tokens=[(END_OF_TEXT, end)],
    )
    return Tokenizer(raw, bos=end, eos=end, pad=causal().pad)


@cache
def bert() -> Tokenizer:
    """WordPiece with [CLS] and [SEP], lower-casing, every Chinese character by itself."""
    words = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
    pieces = {piece for text in TEXTS for piece in text.lower()} | {f"##{chr(code)}" for code in range(97, 123)}
    names = [*sorted(words), *sorted(pieces | {chr(code) for code in range(97, 123)} | {"the", "fox", "##ox"})]
    vocabulary = {name: number for number, name in enumerate(names)}
    raw = RawTokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return Tokenizer(raw, bos=None, eos=None, pad=vocabulary["[PAD]"], takes_types=True)


KINDS = {"causal": causal, "with_bos": with_bos, "bert": bert}
