"""Cleaning: what is done to a text before it is cut into tokens, step by step. One line of the table each.

The steps become part of the tokenizer and are saved with it, so that training, scoring and every export read the same
text. They are carried out in the order of the table, whatever the order in which they are asked for.

>>> clean(("lower", "nfkc"))("ＡＢＣ ﬁne")
'abc fine'
>>> clean(("no-punctuation",))("Well, don't!")
"Well  don't "
>>> clean(("zero-digits",))("flight 417 at 9")
'flight 000 at 0'
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Regex, normalizers

from lmtasks.errors import unknown

ENGLISH = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it
its itself they them their theirs themselves what which who whom this that these those am is are was were be been
being have has had having do does did doing would should could ought i'm you're he's she's it's we're they're i've
you've we've they've i'd you'd he'd she'd we'd they'd i'll you'll he'll she'll we'll they'll isn't aren't wasn't
weren't hasn't haven't hadn't doesn't don't didn't won't wouldn't shan't shouldn't can't cannot couldn't mustn't
let's that's who's what's here's there's when's where's why's how's a an the and but if or because as until while of
at by for with about against between into through during before after above below to from up down in out on off over
under again further then once here there when where why how all any both each few more most other some such no nor
not only own same so than too very
"""
"""Snowball's list, 174 words: https://snowballstem.org/algorithms/english/stop.txt (BSD-3-Clause)."""

CHINESE = (
    "的地得和跟与及向并等更已含做我你他她们某该各每这那哪什么谁年月日时分秒几多来在"
    "就又很呢吧吗了嘛哇儿哼啊嗯是着都不说也看把还个有小到一为中于对会之第此或共按请"
)
"""stopword's list, 78 characters: https://github.com/fergiemcdowall/stopword (MIT), as stopwords-iso keeps it."""

STOP_WORDS: Mapping[str, frozenset[str]] = {"en": frozenset(ENGLISH.split()), "zh": frozenset(CHINESE)}

PUNCTUATION = r"(?<!\p{L})['’]|['’](?!\p{L})|[\p{P}&&[^'’]]"
"""Marks, but no apostrophe inside a word and no symbol such as $ or <."""
STOP = "stop="


@dataclass(frozen=True, kw_only=True)
class CleaningStep:
    """One line of the table."""

    about: str
    make: Callable[[], Sequence[normalizers.Normalizer]]


def _half_width() -> Sequence[normalizers.Normalizer]:
    """U+FF01 to U+FF5E are ASCII's marks, digits and letters; U+3000 is the blank."""
    pairs = [("\u3000", " "), *((chr(0xFF00 + place), chr(0x20 + place)) for place in range(1, 0x5F))]
    return [normalizers.Replace(wide, narrow) for wide, narrow in pairs]


STEPS: Mapping[str, CleaningStep] = {
    "nfkc": CleaningStep(
        about="Unicode's NFKC: one form for what looks alike, full-width forms among it",
        make=lambda: [normalizers.NFKC()],
    ),
    "half-width": CleaningStep(about="full-width Latin letters, digits and marks become ASCII's", make=_half_width),
    "lower": CleaningStep(about="letters become small", make=lambda: [normalizers.Lowercase()]),
    "no-punctuation": CleaningStep(
        about="marks become blanks, apostrophes inside words stay",
        make=lambda: [normalizers.Replace(Regex(PUNCTUATION), " ")],
    ),
    "zero-digits": CleaningStep(
        about="every digit becomes 0, so that numbers of a length are one word",
        make=lambda: [normalizers.Replace(Regex(r"\p{Nd}"), "0")],
    ),
}
"""What is done to the characters. Stop words are left out behind that, token by token: `stop=en`, `stop=zh`."""


def is_step(name: str) -> bool:
    """True for the name of a step, or of stop words."""
    return name in STEPS or name.startswith(STOP)


def checked_steps(names: Sequence[str]) -> tuple[str, ...]:
    """Steps in the order in which they are carried out, each once.

    Raises:
        UsageError: there is no such step, or there are no stop words of a language.
    """
    for name in names:
        if name.startswith(STOP):
            if name[len(STOP) :] not in STOP_WORDS:
                raise unknown("stop words", name[len(STOP) :], STOP_WORDS)
        elif name not in STEPS:
            raise unknown("cleaning step", name, [*STEPS, *(STOP + language for language in STOP_WORDS)])
    order = [*STEPS, *(STOP + language for language in STOP_WORDS)]
    return tuple(sorted(set(names), key=order.index))


def normalizer_of(steps: Sequence[str]) -> normalizers.Normalizer | None:
    """The tokenizer's normalizer for these steps; None where there are none."""
    made = [part for name in steps if name in STEPS for part in STEPS[name].make()]
    return normalizers.Sequence(made) if len(made) > 1 else made[0] if made else None


def stop_words_of(steps: Sequence[str]) -> frozenset[str]:
    """The words that are left out."""
    languages = [name[len(STOP) :] for name in steps if name.startswith(STOP)]
    return frozenset(word for language in languages for word in STOP_WORDS[language])


def clean(steps: Sequence[str]) -> Callable[[str], str]:
    """A function that carries out the steps on the characters of a text; stop words are no part of it."""
    normalizer = normalizer_of(checked_steps(steps))
    return str if normalizer is None else lambda text: str(normalizer.normalize_str(text))
