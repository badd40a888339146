"""How each model of a run was trained: the loss on training rows beside that on validation rows, and where the one goes
on falling while the other rises.
"""

from collections.abc import Iterator, Mapping, Sequence

from lmtasks.report import format as show
from lmtasks.report.charts import Chart
from lmtasks.report.plot import PlotPoint, Series, draw_lines
from lmtasks.report.records import RunRecords
from lmtasks.results.training import TrainingLook

RISE = 0.05
"""A validation loss that ends so much of itself above its lowest point has risen, by more than a look's noise."""
MOST_CHARTS = 24
"""Of a page; the sentences are of all trainings."""


def training_charts(run: RunRecords) -> tuple[Chart, ...]:
    """A chart for each training and what it learned, the first `MOST_CHARTS` of them."""
    found = (_chart(name, learned, looks) for name, learned, looks in _each(run))
    return tuple(chart for _, chart in zip(range(MOST_CHARTS), (each for each in found if each), strict=False))


def training_sentences(run: RunRecords) -> tuple[str, ...]:
    """Trainings in which the gap grew: the loss on validation rows rose while that on training rows fell."""
    return tuple(sentence for name, learned, looks in _each(run) if (sentence := _overfitting(name, learned, looks)))


def _each(run: RunRecords) -> Iterator[tuple[str, str, Sequence[TrainingLook]]]:
    for name, looks in run.trainings.items():
        for learned in dict.fromkeys(learned for look in looks for learned in look.losses):
            yield name, learned, [look for look in looks if learned in {*look.losses, *look.validation_losses}]


def _title(name: str, learned: str) -> str:
    return ", ".join(filter(None, [name, learned]))


def _chart(name: str, learned: str, looks: Sequence[TrainingLook]) -> Chart | None:
    """None where there were fewer than two looks: nothing is seen to move."""
    if len(looks) < 2:
        return None
    training = [PlotPoint(x=look.step, y=look.losses[learned]) for look in looks if learned in look.losses]
    judged = [
        PlotPoint(x=look.step, y=look.validation_losses[learned]) for look in looks if learned in look.validation_losses
    ]
    series = [Series(name="training", points=training, is_main=False)]
    if judged:
        series.append(Series(name="validation", points=judged))
    kept = _kept(looks)
    top = f"kept: step {show.count(kept.step)}" if kept else ""
    said = "; ".join(f"step {look.step}: {_loss(look.losses, learned)} and {_loss(look.validation_losses, learned)}"
                     for look in looks)  # fmt: skip
    return Chart(
        task=f"training {_title(name, learned)}",
        about=f"{_title(name, learned)}, loss on training and on validation rows by step. {said}.",
        svg=draw_lines(series, title=_title(name, learned), subtitle=top, x_title="step", y_title="loss", height=220),
    )


def _kept(looks: Sequence[TrainingLook]) -> TrainingLook | None:
    """The look whose weights the model has; earlier versions kept those with the best score. None: nobody scored."""
    if any(look.kept for look in looks):
        return [look for look in looks if look.kept][-1]
    scored = [look for look in looks if look.validation is not None]
    return max(scored, key=lambda look: look.validation or 0.0, default=None)


def _loss(losses: Mapping[str, float], learned: str) -> str:
    return f"{losses[learned]:.3f}" if learned in losses else "none"


def _overfitting(name: str, learned: str, looks: Sequence[TrainingLook]) -> str:
    """The sentence; empty where the gap did not grow."""
    seen = [look for look in looks if learned in look.losses and learned in look.validation_losses]
    if len(seen) < 2:
        return ""
    lowest = min(seen, key=lambda look: look.validation_losses[learned])
    last = seen[-1]
    before, after = lowest.validation_losses[learned], last.validation_losses[learned]
    trained, to = lowest.losses[learned], last.losses[learned]
    if after <= before * (1 + RISE) or to >= trained:
        return ""
    return (
        f"{_title(name, learned)} overfits from step {show.count(lowest.step)} on: until step {show.count(last.step)} "
        f"the loss on validation rows rose from {before:.3f} to {after:.3f}, while that on training rows fell from "
        f"{trained:.3f} to {to:.3f}; the gap grew from {before - trained:.3f} to {after - to:.3f}."
    )
