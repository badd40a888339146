"""Heads on random hidden states: shapes, padding on either side, and that each can learn."""

import pytest
import torch

from lmtasks.errors import UsageError
from lmtasks.head import HEADS
from lmtasks.head.generation import projected_loss
from lmtasks.head.module import HeadModule, build_head
from lmtasks.records import HeadSpec

B, T, D, C = 3, 5, 8, 4


def built(kind: str, *, pooling: str = "mean") -> HeadModule:
    labels = tuple(f"l{number}" for number in range(C))
    module = build_head(HeadSpec(name="a", kind=kind, labels=labels, pooling=pooling), width=D)  # type: ignore[arg-type]
    assert module is not None
    return module


def padded(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The same three rows of 5, 3 and 1 real states, padded to 7 on one side with noise."""
    rows = [torch.randn(count, D, generator=torch.Generator().manual_seed(count)) for count in (5, 3, 1)]
    hidden, mask = torch.randn(B, 7, D) * 9, torch.zeros(B, 7, dtype=torch.bool)
    for number, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(7 - len(row), 7)
        hidden[number, where], mask[number, where] = row, True
    return hidden, mask


@pytest.mark.parametrize("pooling", ["mean", "last", "first"])
def test_classification_does_not_see_padding(pooling: str) -> None:
    head = built("classification", pooling=pooling).eval()
    right, left = head(*padded("right")), head(*padded("left"))
    assert right.shape == (B, C)
    assert torch.allclose(right, left, atol=1e-6)


def test_last_pooling_reads_the_last_real_state() -> None:
    head = built("classification", pooling="last").eval()
    hidden, mask = padded("right")
    assert torch.allclose(head(hidden, mask)[1], head.get_submodule("output")(hidden[1, 2]))


def test_span_shuts_padding_out() -> None:
    head = built("span").eval()
    hidden, mask = padded("left")
    logits = head(hidden, mask)
    assert logits.shape == (B, 7, 2)
    assert (logits.softmax(1)[~mask] == 0).all()


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("classification", torch.tensor([[0], [3], [1]])),
        ("span", torch.tensor([[0, 1], [2, 2], [4, 4]])),
        ("tagging", torch.tensor([[0, 1, 2, 3, -100]] * 3)),
    ],
)
def test_every_head_learns(kind: str, targets: torch.Tensor) -> None:
    head, loss = built(kind), HEADS[kind].loss
    torch.manual_seed(0)
    hidden, mask = torch.randn(B, T, D), torch.ones(B, T, dtype=torch.bool)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    first = last = 0.0
    for step in range(60):
        value = loss(head(hidden, mask), targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        first, last = (value.item(), last) if step == 0 else (first, value.item())
    assert last < first / 3


def test_a_smoothed_target_gives_every_answer_its_share() -> None:
    """(1 - s) of the right answer's nats, and s of the mean over all answers (Szegedy et al. 2016, section 7)."""
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, C), torch.tensor([[0, 1, -100], [3, -100, 2]])
    nats = -logits.log_softmax(-1)
    asked = [(0, 0, 0), (0, 1, 1), (1, 0, 3), (1, 2, 2)]
    wanted = sum(0.9 * nats[row, place, target] + 0.1 * nats[row, place].mean() for row, place, target in asked) / 4
    for kind in ("generation", "tagging"):
        assert torch.allclose(HEADS[kind].loss(logits, targets, smoothing=0.1), wanted)
    alone = 0.9 * nats[0, 0, 2] + 0.1 * nats[0, 0].mean()
    assert torch.allclose(HEADS["classification"].loss(logits[:1, 0], torch.tensor([[2]]), smoothing=0.1), alone)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_hidden_states_is_that_of_their_logits(biased: bool, smoothing: float) -> None:
    """Of 1,200 positions, more than are computed at once, a third is not asked; value and gradients."""
    torch.manual_seed(0)
    hidden = torch.randn(3, 400, D, requires_grad=True)
    weight, bias = torch.randn(C, D, requires_grad=True), torch.randn(C, requires_grad=biased) if biased else None
    targets = torch.randint(0, C, (3, 400)).masked_fill(torch.rand(3, 400) < 0.3, -100)
    learned = [part for part in (hidden, weight, bias) if part is not None]
    wanted = HEADS["generation"].loss(torch.nn.functional.linear(hidden, weight, bias), targets, smoothing=smoothing)
    found = projected_loss(hidden, targets, weight, bias, smoothing=smoothing)
    assert torch.allclose(found, wanted, atol=1e-6)
    for ours, theirs in zip(torch.autograd.grad(found, learned), torch.autograd.grad(wanted, learned), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = projected_loss(hidden, targets, weight, bias, smoothing=smoothing)
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded, wanted, atol=1e-2)


def test_the_table_builds_every_kind() -> None:
    for kind in HEADS:
        spec = HeadSpec(name="a", kind=kind, labels=("x", "y"))
        module = build_head(spec, width=D)
        assert (module is None) == (kind == "generation")
    with pytest.raises(UsageError, match="did you mean 'span'"):
        build_head(HeadSpec(name="a", kind="spam"), width=D)
