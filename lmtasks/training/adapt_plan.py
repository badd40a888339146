"""Choices of an adaptation, made before anything is computed: how long it learns and looks, at what rate, from which
rows in which step, and what new heads begin with. They follow from the model, the rows and the settings alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from lmtasks.data.examples import HeadExamples, in_units_of
from lmtasks.errors import UsageError
from lmtasks.head import head_of
from lmtasks.head.base import IGNORED
from lmtasks.model.model import Model
from lmtasks.settings.training import PROPORTIONAL, Adaptation, AdaptSettings, ProbeSettings
from lmtasks.training.mixture import plan_steps, rows_a_pass
from lmtasks.training.pace import HEADS_ALONE, WITH_BACKBONE, HeadSize, Pace, is_few, pace_of
from lmtasks.training.tbptt import Streams, streams_of

REFERENCE_PARAMETERS = 11e6
LORA_RATE = 5e-3
"""The most that adapters learn with by themselves."""
MOST_BEGUN = 10_000
"""Training rows of a head that begins with logistic regression because of its words; of more they add little, and
regression takes long."""
FEW_ROWS_RATE = 0.3
"""A trained backbone learns from few rows with so much of its learning rate; from those of N tasks together, each of
which has its steps, with this over the root of N. Tags, of which each row has many, are learned with all of it."""


@dataclass(frozen=True, kw_only=True)
class AdaptPlan:
    """An adaptation before its first step."""

    heads: tuple[HeadExamples, ...]
    """Those that learn, their numbers in the units of the model's heads."""
    pace: Pace
    learning_rate: float
    """The peak."""
    begun: frozenset[str]
    """New heads that begin with logistic regression."""
    judge_first: bool
    """May the weights that it begins with be kept? Only where every head has been fitted by then: else those that have
    been would hold back those that have not."""
    fitted: bool
    """Are the heads found by logistic regression alone? Then there are no steps."""
    mixture: Mapping[str, object] | None
    """Of several tasks: how they are mixed, and the rows of each in a pass."""
    streams: Mapping[int, Streams]
    """Running texts, by the number of the head that learns from them."""
    steps: tuple[tuple[int, tuple[int, ...]], ...]
    """(head, rows) of every batch."""

    def record(self) -> Mapping[str, object]:
        """As a model's folder holds it."""
        begun = "logistic" if self.begun else "random"
        pace = {**asdict(self.pace), "learning_rate": self.learning_rate, "new_heads": begun}
        return {"pace": pace} if self.mixture is None else {"mixture": self.mixture, "pace": pace}

    def in_words(self, *, minutes: float | None) -> str:
        """Tell people what is about to happen.

        Args:
            minutes: after which it ends all the same.
        """
        rows = sum(len(head.train) for head in self.heads)
        judged = sum(min(len(head.validation), self.pace.judged) for head in self.heads)
        tokens = sum(len(head.text) for head in self.heads)
        learned = " and ".join(
            [f"{rows:,} rows"] * bool(rows) + [f"a running text of {tokens:,} tokens"] * bool(tokens)
        )
        most = max((len(places) for number, places in self.steps if number not in self.streams), default=0)
        at_most = f" of at most {_number(most, 'row')}" if most else ""
        seen = _number(judged, "validation row") if judged else "a validation text"
        ends = f", for {minutes:g} minutes at most" if minutes else ""
        begun = f"; heads from logistic regression: {len(self.begun)} of {len(self.heads)}" if self.begun else ""
        return (
            f"learns {learned} of {_number(len(self.heads), 'task')} in {_number(len(self.steps), 'step')}{at_most} "
            f"(each {self.pace.epochs:.2g} times){ends}; rate {self.learning_rate:.2g}; "
            f"{seen}, looked at {_number(self.pace.looks, 'time')}{begun}"
        )


def plan_adaptation(
    model: Model,
    heads: Sequence[HeadExamples],
    settings: AdaptSettings,
    *,
    new: frozenset[str],
    pretrained: bool,
) -> AdaptPlan:
    """Choose what nobody said.

    Args:
        model: with its new heads.
        heads: of all tasks; a probe moves those that have weights of their own.
        new: those that the model has not learned before.
        pretrained: has the backbone been trained, or are its weights random?

    Raises:
        UsageError: a probe has nothing to learn, or the rows cannot be mixed so.
    """
    heads = [in_units_of(head, model.spec(head.head.name)) for head in heads]
    if settings.method == "probe":
        heads = [head for head in heads if head.head.predicts and not head_of(head.head).vectors]
        if not heads:
            raise UsageError(
                "a probe trains heads alone, and heads that write or answer with vectors have no weights; use full or "
                "lora, or prompt, which takes the backbone's vectors as they are."
            )
    probe = settings.method == "probe"
    few = pretrained and is_few([len(head.train) for head in heads])
    spared = few and not all(_is_tagged(head) for head in heads)
    mixture = _mixture(heads, settings) if len(heads) > 1 else None
    pace = _pace(heads, settings)
    size = sum(parameter.numel() for parameter in model.parameters())
    rate = settings.learning_rate or _suited(model, settings.method)
    fitted = probe and (settings.probe or ProbeSettings()).fit == "logistic"
    if settings.words == "yes":
        _check_words(model, heads, new=frozenset(head.head.name for head in heads) if fitted else new)
    streams = _streams(heads, pace, window=settings.window)
    by_itself = [few or (pretrained and _is_begun_with_words(head, settings)) for head in heads]
    begun = frozenset(
        head.head.name
        for head, suited in zip(heads, by_itself, strict=True)
        if head.head.name in new and not probe and _begins_fitted(settings, by_itself=suited) and _is_linear(head)
    )
    return AdaptPlan(
        heads=tuple(heads),
        pace=pace,
        learning_rate=rate or default_learning_rate(settings.method, size, few=len(heads) if spared else 0),
        begun=begun,
        judge_first=bool(begun) and all(head.head.name in begun or head.head.name not in new for head in heads),
        fitted=fitted,
        mixture=mixture,
        streams=streams,
        steps=() if fitted else _steps(heads, pace, settings, streams),
    )


def _check_words(model: Model, heads: Sequence[HeadExamples], *, new: frozenset[str]) -> None:
    """Refuse words where no head takes them: another kind, or one that has learned without.

    Args:
        new: heads that are found anew.
    """
    able = [head for head in heads if head_of(head.head).takes_words]
    if not any(head.head.name in new or model.spec(head.head.name).words for head in able):
        kinds = ", ".join(dict.fromkeys(head.head.kind for head in heads))
        why = (
            "the heads here have learned without; begin from the backbone, or make a probe of them"
            if able
            else f"no task here has such a head ({kinds}); leave words out"
        )
        raise UsageError(f"weights of words stand in a new head for one label of a text, and {why}.")


def check_head(model: Model, head: HeadExamples) -> None:
    """Refuse a head that the model cannot carry.

    Raises:
        UsageError: it writes and the backbone does not, it has another head's name, or it has no training rows.
    """
    if not head.head.predicts and model.card.kind == "encoder":
        raise UsageError(
            f"{model.card.family} is read as an encoder, which cannot generate, so it cannot be adapted to "
            f"{head.head.name!r}; use a causal backbone or an encoder-decoder."
        )
    known = next((spec for spec in model.card.heads if spec.name == head.head.name), None)
    if known is not None and (known.kind, known.labels) != (head.head.kind, head.head.labels):
        there, asked = (f"{spec.kind} ({', '.join(spec.labels) or 'no labels'})" for spec in (known, head.head))
        raise UsageError(
            f"the backbone has a head {known.name!r} already, {there}, and the task of that name asks for {asked}; "
            "give the task another name."
        )
    if not head.train and not head.text:
        raise UsageError(f"task {head.head.name!r} has no training rows; adapt needs a train split.")


def default_learning_rate(method: Adaptation, parameters: int, *, few: int = 0) -> float:
    """A peak learning rate that suits the size of what moves.

    New heads alone bear 1e-2. A whole model of 11M parameters bears 1e-3, and it gets less as it grows: 5e-5 at 110M,
    which is what BERT's authors fine-tune its base size with (Devlin et al., 2019, appendix A.3: 2e-5 to 5e-5).
    Adapters get ten times as much, 5e-4 at 110M: Hu et al. 2021 (https://arxiv.org/abs/2106.09685, table 9) give
    RoBERTa base 4e-4 to 5e-4.

    Args:
        parameters: of the model, those that stand still counted.
        few: tasks of which a trained backbone learns from few rows; 0: the rows are many, or of tags, or it is new.
    """
    if method == "probe":
        return 1e-2
    full = 1e-3 * (REFERENCE_PARAMETERS / max(1, parameters)) ** 1.3
    found = min(LORA_RATE, 10 * full) if method == "lora" else min(1e-3, full)
    return float(found * (FEW_ROWS_RATE / few**0.5 if few else 1.0))


def _mixture(heads: Sequence[HeadExamples], settings: AdaptSettings) -> Mapping[str, object]:
    """How several tasks are mixed, and the rows of each in a pass, as a model's record holds it.

    Raises:
        UsageError: rows cannot be divided so.
    """
    running = next((head.head.name for head in heads if head.text), None)
    if running is not None and settings.mixture != PROPORTIONAL:
        raise UsageError(
            f"--mixture {settings.mixture} says how many rows of each task stand in a pass, and {running} is learned "
            f"from a running text, in its order; leave the mixture {PROPORTIONAL}, or learn {running} by itself."
        )
    rows = rows_a_pass([len(head.train) for head in heads], settings.mixture)
    return {"by": settings.mixture, "rows": {head.head.name: count for head, count in zip(heads, rows, strict=True)}}


def _streams(heads: Sequence[HeadExamples], pace: Pace, *, window: int) -> Mapping[int, Streams]:
    found = [streams_of(head, tokens_per_batch=pace.tokens_per_batch, window=window) for head in heads]
    return {number: stream for number, stream in enumerate(found) if stream is not None}


def _steps(
    heads: Sequence[HeadExamples], pace: Pace, settings: AdaptSettings, streams: Mapping[int, Streams]
) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return plan_steps(
        heads,
        epochs=pace.epochs,
        tokens_per_batch=pace.tokens_per_batch,
        rows_at_once=pace.rows_at_once,
        seed=settings.seed,
        windows={number: len(stream) for number, stream in streams.items()},
        mixture=settings.mixture,
    )


def _pace(heads: Sequence[HeadExamples], settings: AdaptSettings) -> Pace:
    return pace_of(
        [_counted(head, window=settings.window) for head in heads],
        HEADS_ALONE if settings.method == "probe" else WITH_BACKBONE,
        epochs=settings.epochs,
        tokens_per_batch=settings.tokens_per_batch,
        looks=settings.evaluations,
    )


def _counted(head: HeadExamples, *, window: int) -> HeadSize:
    if head.text:
        train, judged = (-(-len(text) // window) for text in (head.text, head.validation_text))
        return HeadSize(train=train, judged=judged, tokens=window, streamed=True)
    tokens = sum(len(row.ids) + len(row.decoder_ids) for row in head.train) / max(1, len(head.train))
    return HeadSize(train=len(head.train), judged=len(head.validation), tokens=tokens, per_token=_is_tagged(head))


def _is_tagged(head: HeadExamples) -> bool:
    """Has it one answer a token?"""
    kind = head_of(head.head)
    return kind.per_token and not kind.over_tokens


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def _begins_fitted(settings: AdaptSettings, *, by_itself: bool) -> bool:
    """Does a new head begin with logistic regression: because somebody says so, or by itself?"""
    return settings.new_heads == "logistic" or settings.words == "yes" or (settings.new_heads is None and by_itself)


def _is_begun_with_words(head: HeadExamples, settings: AdaptSettings) -> bool:
    """Do words stand beside the states of a head for one label, and is it worth finding their weights?"""
    return head_of(head.head).takes_words and settings.words != "no" and len(head.train) <= MOST_BEGUN


def _is_linear(head: HeadExamples) -> bool:
    """Is it one layer, whose weights regression finds, and are there labels to tell apart?"""
    labels = {int(label) for row in head.train for label in row.targets} - {IGNORED}
    return bool(head_of(head.head).linear_layer) and len(labels) > 1


def _suited(model: Model, method: Adaptation) -> float | None:
    """The learning rate of a family of our own that moves whole."""
    return model.backbone.traits.learning_rate if method == "full" else None
