"""Words that say little of what a text is about, by language. Both lists hold negations ("not", "不"), which sentiment
needs: measure before you leave them out.
"""

from collections.abc import Mapping

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
