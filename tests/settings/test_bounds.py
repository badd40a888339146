"""What a setting may be is declared once: the same number is refused by an option, a plan's key and an argument."""

import math
from dataclasses import fields
from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.model.lora import LoraSettings
from lmtasks.run.plan import LoraPlan, TrainingPlan, load_plan
from lmtasks.settings.bounds import COUNT, MOST_SEED, SEED, Bound
from lmtasks.training.adapt import AdaptSettings
from lmtasks.training.settings import BOUNDS, TrainingSettings

WRONG = {
    "epochs": (-1, 0, math.nan, math.inf, 10**30),
    "minutes": (-1, 0, math.nan, math.inf),
    "learning_rate": (-1, 0, math.nan, math.inf),
    "tokens_per_batch": (-1, 0, 10**30),
    "window": (-1, 0, 10**30),
    "weight_decay": (-1, math.nan, math.inf),
    "label_smoothing": (-0.1, 1, math.nan),
    "evaluations": (-1, 0),
    "patience": (-1,),
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_setting_out_of_bounds_is_refused_wherever_it_comes_from(name: str, value: float, tmp_path: Path) -> None:
    told = f"{name.replace('_', ' ')} must be .*, was "
    with pytest.raises(UsageError, match=told):
        AdaptSettings(**{name: value})  # type: ignore[arg-type]
    written = {"nan": ".nan", "inf": ".inf"}.get(str(value), str(value))
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "plan: p\ntasks: [starter_topic_en]\n"
        f"models: {{m: {{backbone: lmtasks-mini, training: {{{name}: {written}}}}}}}\n"
        "variants: [{name: v, model: m}]\n"
    )
    with pytest.raises(UsageError, match=rf"{plan.name}: models\.m\.training\.{name}: "):
        load_plan(plan)


@pytest.mark.parametrize("name", ["steps", "batch_rows", "accumulate", "checkpoint_every"])
def test_a_training_without_steps_is_refused(name: str) -> None:
    given = {"steps": 1, "learning_rate": 0.1, "batch_rows": 1}
    for value in (-1, 0):
        with pytest.raises(
            UsageError, match=f"{name.replace('_', ' ')} must be a whole number of at least 1, was {value}"
        ):
            TrainingSettings(**{**given, name: value})  # type: ignore[arg-type]


def test_every_number_of_a_setting_has_a_bound() -> None:
    """One that nobody thought of would be a second fault of this kind."""
    for settings in (AdaptSettings, TrainingSettings):
        for each in fields(settings):
            if str(each.type).replace(" | None", "") in ("int", "float", "<class 'int'>", "<class 'float'>"):
                assert each.name in BOUNDS, each.name
    assert set(TrainingPlan.model_fields) - set(BOUNDS) == {"precision"}


@pytest.mark.parametrize(("name", "value"), [("rank", 0), ("alpha", 0), ("alpha", math.nan), ("dropout", 1)])
def test_adapters_have_bounds_too(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} of adapters must be"):
        LoraSettings(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=name):
        LoraPlan(**{name: value})  # type: ignore[arg-type]


def test_bounds() -> None:
    assert COUNT.holds(1)
    assert not any(COUNT.holds(value) for value in (0, -1, 1.5, 10**30, math.nan, math.inf))
    assert SEED.holds(MOST_SEED)
    assert not SEED.holds(MOST_SEED + 1)
    with pytest.raises(UsageError, match=r"it must be at most 4,294,967,295, was 1e\+30"):
        SEED.check("it", 10**30)
    with pytest.raises(UsageError, match="was a number of more than 300 digits"):
        Bound(least=0, most=1).check("it", 10**5000)
