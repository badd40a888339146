"""Tokenizers that are learned from texts, asked for in one word: `words:10000,nfkc,lower`, `bpe:8000`, `characters`.

Every kind ends as one `tokenizer.json`, which needs nothing but `tokenizers` to be read.

>>> tokenizer = learn_tokenizer("words:4", ["a cat , a hat", "a cat"])
>>> tokenizer.decode(tokenizer.encode("a cat, a dog"))
'a cat , a <unk>'
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as RawTokenizer

from lmtasks.data.cleaning import STEPS, checked_steps, clean, is_step, normalizer_of, stop_words_of
from lmtasks.data.spacing import SCRIPTS, runs_words_together
from lmtasks.data.tokenizer import END_OF_TEXT, PADDING, SEPARATOR, Tokenizer, train_byte_bpe
from lmtasks.errors import UsageError, unknown
from lmtasks.settings.bounds import MOST

log = logging.getLogger(__name__)

UNKNOWN = "<unk>"
RUN_TOGETHER = frozenset({"words", "blanks", "wordpiece"})
"""Kinds that take what stands between blanks or marks for a word."""
NOTED = 2000
"""Texts that are looked at for that."""
SPECIAL = (END_OF_TEXT, PADDING, SEPARATOR)
BYTES = 256
BLANKS = r"\n|[^\s]+"
"""What stands between blanks; the end of a line is a token of its own, since it may be predicted."""
JOINERS = r"\x{200C}\x{200D}"
"""Persian and Indic spelling: they stand within words."""
WORDS = (
    rf"\n|<unk>|[\p{{L}}\p{{M}}\p{{N}}][\p{{L}}\p{{M}}\p{{N}}{JOINERS}]*(?:['’][\p{{L}}\p{{M}}]+)*"
    r"|[^\s\p{L}\p{M}\p{N}]"
)
"""Words with their apostrophes, and every mark by itself."""
WORDS_OR_CHARACTERS = (
    rf"\n|<unk>|[[{SCRIPTS}]&&[\p{{L}}\p{{Nl}}]]\p{{M}}*"
    rf"|[[\p{{L}}\p{{M}}\p{{N}}]&&[^{SCRIPTS}]][[\p{{L}}\p{{M}}\p{{N}}{JOINERS}]&&[^{SCRIPTS}]]*"
    rf"(?:['’][\p{{L}}\p{{M}}]+)*|[^\s\p{{L}}\p{{M}}]"
)
"""The same, and of scripts that put no spaces between words every letter by itself, with the marks on it."""


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """A tokenizer as a person asked for it."""

    kind: str
    size: int
    """Tokens at most, the special ones not counted."""
    cleaning: tuple[str, ...] = ()
    """Steps of `cleaning`, in their order."""
    least: int = 1
    """Words that stand in the texts less often than this are unknown ones."""


@dataclass(frozen=True, kw_only=True)
class TokenizerKind:
    """One line of the table."""

    about: str
    learn: Callable[[Iterable[str], TokenizerSpec], RawTokenizer]
    size: int
    """Where nobody says another."""
    whole_words: bool = True
    """Are its tokens words, or characters, so that stop words can be left out?"""


def parse_tokenizer(text: str) -> TokenizerSpec:
    """`words:10000,lower,least=2` -> a wish.

    Raises:
        UsageError: unknown kind or setting, or a number that is none.
    """
    name, _, settings = text.partition(":")
    if name not in TOKENIZERS:
        raise unknown("tokenizer", name, TOKENIZERS, hint="Written as words:10000 or words:10000,lower,least=2.")
    spec = TokenizerSpec(kind=name, size=TOKENIZERS[name].size)
    steps: list[str] = []
    for item in filter(None, settings.split(",")):
        key, _, value = item.partition("=")
        if is_step(item):
            steps.append(item)
        elif (size := _count(item)) is not None:
            spec = replace(spec, size=size)
        elif key == "least" and (least := _count(value)) is not None:
            spec = replace(spec, least=least)
        else:
            raise UsageError(
                f"{text!r}: {item!r} is no setting of a tokenizer; it takes a size, least=2, and the cleaning steps "
                f"{', '.join(STEPS)}, stop=en, stop=zh; numbers go from 1 to {MOST:,}."
            )
    cleaning = checked_steps(steps)
    if stop_words_of(cleaning) and not TOKENIZERS[name].whole_words:
        fitting = ", ".join(key for key, kind in TOKENIZERS.items() if kind.whole_words)
        raise UsageError(f"{text!r}: stop words are words, and tokens of {name} are pieces of words; use {fitting}.")
    return replace(spec, cleaning=cleaning)


def _count(text: str) -> int | None:
    """A number of tokens or of texts; None for anything else, and for what no text can have."""
    found = int(text) if text.isdecimal() and len(text) <= len(str(MOST)) else 0
    return found if 0 < found <= MOST else None


def learn_tokenizer(text: str, texts: Iterable[str]) -> Tokenizer:
    """Learn a tokenizer.

    Args:
        text: as `parse_tokenizer` reads it.
        texts: what to learn from.

    Raises:
        UsageError: the wish is malformed, or the texts are empty.
    """
    spec = parse_tokenizer(text)
    seen: list[str] = []
    raw = _unknown_is_a_word(TOKENIZERS[spec.kind].learn(map(clean(spec.cleaning), _noted(texts, seen)), spec))
    if spec.kind in RUN_TOGETHER and runs_words_together(seen):
        log.warning(
            "the tokenizer %s makes one word of a whole run of a script without spaces, as this text has it; use "
            "words-or-characters, characters or jieba (Chinese)",
            spec.kind,
        )
    normalizer = normalizer_of(spec.cleaning)
    if normalizer is not None:
        raw.normalizer = normalizer
    end, pad = raw.token_to_id(END_OF_TEXT), raw.token_to_id(PADDING)
    if end is None:
        raise UsageError(f"the tokenizer {text!r} was to be learned from texts without a single word.")
    return Tokenizer(raw, bos=end, eos=end, pad=pad, cleaning=spec.cleaning, stop_words=stop_words_of(spec.cleaning))


def _noted(texts: Iterable[str], seen: list[str]) -> Iterator[str]:
    """The texts as they are, the first of them noted."""
    for text in texts:
        if len(seen) < NOTED:
            seen.append(text)
        yield text


def tokenizer_of_words(words: Sequence[str]) -> Tokenizer:
    """A tokenizer of words that are given, (V,), cut at blanks; the end of a line is a word of its own, and `UNKNOWN`,
    `END_OF_TEXT`, `PADDING` and `SEPARATOR` are among them."""
    vocabulary = {word: number for number, word in enumerate(words)}
    raw = RawTokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    raw.pre_tokenizer = _pieces(BLANKS, "removed")
    raw.add_special_tokens(_special())
    end = vocabulary[END_OF_TEXT]
    return Tokenizer(raw, bos=end, eos=end, pad=vocabulary[PADDING])


def _unknown_is_a_word(raw: RawTokenizer) -> RawTokenizer:
    """Trainers make every token that they are given a special one, which no decoded text would show; and they leave a
    number out where the texts themselves hold such a word, as PTB does."""
    content = json.loads(raw.to_str())
    words = content["model"]["vocab"]
    if content["model"]["type"] == "WordLevel":
        content["model"]["vocab"] = {word: number for number, word in enumerate(sorted(words, key=words.get))}
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != UNKNOWN]
    return RawTokenizer.from_str(json.dumps(content))


def _pieces(pattern: str, behavior: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=behavior == "removed")


def _counted(pattern: str) -> Callable[[Iterable[str], TokenizerSpec], RawTokenizer]:
    """The most frequent pieces by a pattern; all others are unknown."""

    def learn(texts: Iterable[str], spec: TokenizerSpec) -> RawTokenizer:
        raw = RawTokenizer(models.WordLevel(unk_token=UNKNOWN))
        raw.pre_tokenizer = _pieces(pattern, "removed")
        trainer = trainers.WordLevelTrainer(
            vocab_size=spec.size + len(SPECIAL) + 1,
            min_frequency=spec.least,
            special_tokens=[*_special(), AddedToken(UNKNOWN, special=False, normalized=False)],
            show_progress=False,
        )
        raw.train_from_iterator(texts, trainer)
        return raw

    return learn


def _characters(texts: Iterable[str], spec: TokenizerSpec) -> RawTokenizer:
    """The most frequent characters; all others are written in UTF-8 bytes, so that there is a token for every text."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    kept = sorted((letter for letter in counts if counts[letter] >= spec.least), key=lambda letter: -counts[letter])
    pieces = [*kept[: spec.size], *(f"<0x{byte:02X}>" for byte in range(BYTES))] if counts else []
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *pieces])} if pieces else {}
    raw = RawTokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    if pieces:
        raw.add_special_tokens(_special())
    return raw


def _bytes(texts: Iterable[str], spec: TokenizerSpec) -> RawTokenizer:
    del spec
    return train_byte_bpe(texts, vocabulary=BYTES + len(SPECIAL)).raw


def _bpe(texts: Iterable[str], spec: TokenizerSpec) -> RawTokenizer:
    return train_byte_bpe(texts, vocabulary=spec.size + len(SPECIAL)).raw


def _unigram(texts: Iterable[str], spec: TokenizerSpec) -> RawTokenizer:
    raw = RawTokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=spec.size + len(SPECIAL) + 1,
        special_tokens=[*_special(), AddedToken(UNKNOWN, special=False, normalized=False)],
        unk_token=UNKNOWN,
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return raw


def _wordpiece(texts: Iterable[str], spec: TokenizerSpec) -> RawTokenizer:
    raw = RawTokenizer(models.WordPiece(unk_token=UNKNOWN))
    raw.pre_tokenizer = _pieces(WORDS, "removed")
    raw.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=spec.size + len(SPECIAL) + 1,
        min_frequency=spec.least,
        special_tokens=[*_special(), AddedToken(UNKNOWN, special=False, normalized=False)],
        continuing_subword_prefix="##",
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return raw


def _jieba(texts: Iterable[str], spec: TokenizerSpec) -> RawTokenizer:
    """Words as jieba cuts them, counted. A text is then cut the way that makes it most likely by these counts, which
    is how jieba itself chooses among the words that it knows, so that reading needs no jieba."""
    import jieba

    jieba.setLogLevel("WARNING")
    words: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for text in texts:
        words.update(jieba.lcut(text))
        letters.update(text)
    kept = [word for word, count in words.most_common(spec.size) if count >= spec.least]
    counts = {word: words[word] for word in kept} | {letter: 1 for letter in letters if letter not in kept}
    total = math.log(max(1, sum(counts.values())))
    scored = [(word, math.log(count) - total) for word, count in counts.items()]
    raw = RawTokenizer(models.Unigram([(UNKNOWN, 0.0), *scored], unk_id=0, byte_fallback=False))
    raw.decoder = decoders.Fuse()
    raw.add_special_tokens(_special())
    return raw


def _special() -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False) for name in SPECIAL]


TOKENIZERS: Mapping[str, TokenizerKind] = {
    "bytes": TokenizerKind(about="UTF-8 bytes", learn=_bytes, size=BYTES, whole_words=False),
    "characters": TokenizerKind(
        about="characters; rare ones by their bytes, so that there is no unknown one", learn=_characters, size=10_000
    ),
    "words": TokenizerKind(
        about="words, and marks by themselves; rare ones unknown",
        learn=_counted(WORDS),
        size=30_000,
    ),
    "words-or-characters": TokenizerKind(
        about="words; of scripts without spaces (Chinese, Japanese, Thai, ...) characters; rare ones unknown",
        learn=_counted(WORDS_OR_CHARACTERS),
        size=30_000,
    ),
    "blanks": TokenizerKind(
        about="what stands between blanks, for text that is cut already (PTB, ATIS); rare ones unknown",
        learn=_counted(BLANKS),
        size=30_000,
    ),
    "jieba": TokenizerKind(
        about="Chinese words as jieba cuts them; characters for rare ones", learn=_jieba, size=30_000
    ),
    "bpe": TokenizerKind(about="byte-level BPE: any text, any language", learn=_bpe, size=8_000, whole_words=False),
    "unigram": TokenizerKind(
        about="pieces by a unigram model (SentencePiece)", learn=_unigram, size=8_000, whole_words=False
    ),
    "wordpiece": TokenizerKind(about="pieces of words, as in BERT", learn=_wordpiece, size=8_000, whole_words=False),
}
