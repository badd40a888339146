import pytest
from tokenizers_for_tests import KINDS, bert, causal, with_bos

from lmtasks.data.continuation import continuation_row, prompt_ids, rolling_windows, seq2seq_row
from lmtasks.data.tokenizer import Tokenizer
from lmtasks.errors import UsageError

BARE = Tokenizer(causal().raw, bos=None, eos=None, pad=0)


def text_of(ids: tuple[int, ...]) -> str:
    return causal().decode(ids)


@pytest.mark.parametrize(
    ("context", "target", "contexts", "targets"),
    [
        ("The fox", " jumps", "The fox", " jumps"),
        # White space at the end of the context belongs to the target, line ends too.
        ("The fox ", "jumps", "The fox", " jumps"),
        ("Question?\n", "Yes", "Question?", "\nYes"),
        ("老码头", "为什么", "老码头", "为什么"),
        (" \n", "x", None, " \nx"),
        ("", "The fox", None, "The fox"),
    ],
)
@pytest.mark.parametrize("make", [causal, with_bos])
def test_pairs(make, context: str, target: str, contexts: str | None, targets: str) -> None:  # type: ignore[no-untyped-def]
    tokenizer = make()
    row = continuation_row(context=context, target=target, tokenizer=tokenizer, max_length=64, end=False)
    own = () if make is causal else (tokenizer.bos,)
    if contexts is None:
        assert row.context_ids == (tokenizer.bos,)
    else:
        assert row.context_ids == (*own, *tokenizer.encode(contexts))
    assert text_of(row.target_ids) == targets
    assert not row.truncated
    ended = continuation_row(context=context, target=target, tokenizer=tokenizer, max_length=64, end=True)
    assert ended.target_ids == (*row.target_ids, tokenizer.eos)
    assert ended.context_ids == row.context_ids


def test_encoded_together() -> None:
    """`TemplateLM._encode_pair` of lm-evaluation-harness 0.4.13: the target is what stands behind the context."""
    tokenizer = causal()
    row = continuation_row(context="The quick", target=" brown fox", tokenizer=tokenizer, max_length=64, end=False)
    assert [*row.context_ids, *row.target_ids] == tokenizer.encode("The quick brown fox")


def test_a_merge_over_the_joint_loses_nothing() -> None:
    tokenizer = causal()
    merged = [
        pair
        for pair in ("码头", "th", "er", "ox")
        if len(tokenizer.encode(pair)) < sum(len(tokenizer.encode(character)) for character in pair)
    ]
    assert merged
    for pair in merged:
        row = continuation_row(context=pair[0], target=pair[1:], tokenizer=tokenizer, max_length=64, end=False)
        assert row.context_ids == tuple(tokenizer.encode(pair[0]))
        assert row.target_ids == tuple(tokenizer.encode(pair[1:]))


def test_a_context_that_brings_its_first_token_gets_no_second() -> None:
    tokenizer = with_bos()
    row = continuation_row(context="<|endoftext|>The", target=" fox", tokenizer=tokenizer, max_length=64, end=False)
    assert row.context_ids == (tokenizer.bos, *tokenizer.encode("The"))
    row = continuation_row(context="", target="<|endoftext|>The", tokenizer=tokenizer, max_length=64, end=False)
    assert (row.context_ids, row.target_ids) == ((tokenizer.bos,), tuple(tokenizer.encode("The")))


@pytest.mark.parametrize("max_length", [2, 3, 5, 8])
def test_too_long(max_length: int) -> None:
    tokenizer = causal()
    row = continuation_row(context="abcdefgh", target="xyz", tokenizer=tokenizer, max_length=max_length, end=False)
    assert row.truncated
    assert len(row.context_ids) + len(row.target_ids) == max_length
    assert "abcdefgh".endswith(text_of(row.context_ids))
    assert "xyz".startswith(text_of(row.target_ids))
    assert len(row.target_ids) == min(3, max_length - 1)


@pytest.mark.parametrize(
    ("context", "target", "tokenizer", "max_length", "end", "says"),
    [
        ("a", "", causal(), 8, False, "target is an empty text"),
        ("", "a", BARE, 8, False, "has neither"),
        ("a", "b", BARE, 8, True, "no end token"),
        ("a", "b", causal(), 1, True, "2 tokens or more"),
    ],
)
def test_refused(context: str, target: str, tokenizer: Tokenizer, max_length: int, end: bool, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        continuation_row(context=context, target=target, tokenizer=tokenizer, max_length=max_length, end=end)


def test_an_empty_target_teaches_to_stop() -> None:
    row = continuation_row(context="a", target="", tokenizer=causal(), max_length=8, end=True)
    assert row.target_ids == (causal().eos,)


@pytest.mark.parametrize("make", [causal, with_bos])
@pytest.mark.parametrize("context", ["", "The fox", "The fox\n", "\n"])
def test_a_prompt_is_what_was_trained(make, context: str) -> None:  # type: ignore[no-untyped-def]
    tokenizer = make()
    row = continuation_row(context=context, target=" jumps", tokenizer=tokenizer, max_length=64, end=True)
    assert prompt_ids(context, tokenizer=tokenizer, max_length=64, strip=True) == (row.context_ids, False)
    whole, _ = prompt_ids(context, tokenizer=tokenizer, max_length=64, strip=False)
    assert text_of(whole).endswith(context)
    assert prompt_ids("abcdef", tokenizer=tokenizer, max_length=2, strip=True) == (tuple(tokenizer.encode("ef")), True)


def test_seq2seq() -> None:
    tokenizer = Tokenizer(bert().raw, bos=None, eos=bert().encode("a", special=True)[-1], pad=0)
    row = seq2seq_row(context="the fox", target="a dog", tokenizer=tokenizer, max_length=16)
    assert list(row.context_ids) == tokenizer.encode("the fox", special=True)
    assert list(row.target_ids) == [*tokenizer.encode("a dog"), tokenizer.eos]
    assert not row.truncated
    cut = seq2seq_row(context="a b c d e f", target="x y z", tokenizer=tokenizer, max_length=5, max_target_length=2)
    assert list(cut.context_ids) == tokenizer.encode("d e f", special=True)
    assert list(cut.target_ids) == tokenizer.encode("x y")
    assert cut.truncated
    scored = seq2seq_row(context="the fox", target="a dog", tokenizer=tokenizer, max_length=16, end=False)
    assert list(scored.target_ids) == tokenizer.encode("a dog")


P = -1


@pytest.mark.parametrize(
    ("count", "max_length", "context", "windows"),
    [
        # lm-evaluation-harness 0.4.13, utils.get_rolling_token_windows: harness-semantics.md 2.6.
        (10, 4, 1, [((P,), (0, 1, 2, 3)), ((3,), (4, 5, 6, 7)), ((5, 6, 7), (8, 9))]),
        (5, 4, 1, [((P,), (0, 1, 2, 3)), ((0, 1, 2, 3), (4,))]),
        (0, 4, 1, []),
        (3, 4, 1, [((P,), (0, 1, 2))]),
        (4, 4, 1, [((P,), (0, 1, 2, 3))]),
        (3, 1, 1, [((P,), (0,)), ((0,), (1,)), ((1,), (2,))]),
        (7, 4, 4, [((P,), (0, 1, 2, 3)), ((0, 1, 2, 3), (4,)), ((1, 2, 3, 4), (5,)), ((2, 3, 4, 5), (6,))]),
        (9, 4, 2, [((P,), (0, 1, 2, 3)), ((2, 3), (4, 5, 6)), ((4, 5, 6), (7, 8))]),
    ],
)
def test_rolling_windows(
    count: int, max_length: int, context: int, windows: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    found = rolling_windows(range(count), prefix=P, max_length=max_length, context=context)
    assert [(window.context_ids, window.target_ids) for window in found] == windows
    assert [token for window in found for token in window.target_ids] == list(range(count))
    assert all(len(window.context_ids) + len(window.target_ids) <= max_length + 1 for window in found)


@pytest.mark.parametrize("context", [0, 5])
def test_rolling_windows_refuse(context: int) -> None:
    with pytest.raises(UsageError, match="1 to 4 tokens"):
        rolling_windows([1, 2], prefix=P, max_length=4, context=context)


def test_kinds_are_what_they_claim() -> None:
    assert not causal().adds_special
    assert with_bos().adds_special
    assert bert().adds_special
    assert set(KINDS) == {"causal", "with_bos", "bert"}
