"""What a setting may be is declared once: the same number is refused by an option, a plan's key and an argument."""

import importlib
import json
import math
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

import lmtasks.settings
from lmtasks.errors import UsageError
from lmtasks.run.plan import Plan, load_plan
from lmtasks.settings.base import Settings
from lmtasks.settings.bounds import COUNT, MOST_SEED, SEED, Bound
from lmtasks.settings.training import AdaptSettings, LoraSettings, TrainingSettings

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
    with pytest.raises(UsageError, match=rf"{plan.name}:3: models\.m\.training\.{name} must be .*, was "):
        load_plan(plan)


@pytest.mark.parametrize("name", ["steps", "batch_rows", "accumulate", "checkpoint_every"])
def test_a_training_without_steps_is_refused(name: str) -> None:
    given = {"steps": 1, "learning_rate": 0.1, "batch_rows": 1}
    for value in (-1, 0):
        with pytest.raises(
            UsageError, match=f"{name.replace('_', ' ')} must be a whole number of at least 1, was {value}"
        ):
            TrainingSettings(**{**given, name: value})  # type: ignore[arg-type]


def _numbers(settings: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in settings.model_fields.items():
        if {int, float} & {field.annotation, *get_args(field.annotation)}:
            yield name, field


def _all_settings(base: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for each in base.__subclasses__():
        if each.__module__.startswith("lmtasks."):
            yield each
            yield from _all_settings(each)


def test_every_number_of_a_setting_has_a_bound() -> None:
    """One that nobody thought of would be a second fault of this kind."""
    for module in pkgutil.iter_modules(lmtasks.settings.__path__):
        importlib.import_module(f"lmtasks.settings.{module.name}")
    checked = set(_all_settings())
    assert {AdaptSettings, TrainingSettings, LoraSettings, Plan} <= checked
    for settings in checked:
        for name, field in _numbers(settings):
            bounded = any(isinstance(each, Bound | BeforeValidator) for each in field.metadata)
            assert bounded, f"{settings.__name__}.{name}"


def test_a_wrong_bound_in_a_plan_is_told_with_its_line(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "plan: p\ntasks: [starter_topic_en]\nmodels:\n  m:\n    backbone: lmtasks-mini\n    training:\n"
        "      minutes: 3\n      epochs: -1\nvariants: [{name: v, model: m}]\n"
    )
    with pytest.raises(UsageError) as caught:
        load_plan(plan)
    told = "must be a number above 0 and at most 10,000, was"
    assert str(caught.value) == f"{plan}:8: models.m.training.epochs {told} -1."
    with pytest.raises(UsageError, match=f"^epochs {told} -1"):
        AdaptSettings(epochs=-1)
    with pytest.raises(UsageError, match=f"^epochs {told} 'many'"):
        AdaptSettings(epochs="many")  # type: ignore[arg-type]


def test_what_stored_settings_look_like_has_not_changed() -> None:
    """Folders of models hold them, and a hash over their text says whether a training may go on."""
    assert json.dumps(TrainingSettings(steps=8, learning_rate=1e-3, batch_rows=4).stored()) == (
        '{"steps": 8, "learning_rate": 0.001, "batch_rows": 4, "accumulate": 1, "minutes": null, "warmup": 0.05, '
        '"decay": "cosine", "floor": 0.1, "warmup_steps": 200, "cooldown_steps": 0, "optimizer": "adamw", '
        '"weight_decay": 0.1, "betas": [0.9, 0.95], "clip": 1.0, "precision": "fp32", "compile": false, '
        '"evaluate_every": 0, "patience": 0, "checkpoint_every": 200, "seed": 1234}'
    )
    said = AdaptSettings(method="lora", lora=LoraSettings(), rows=9, epochs=4.0, tokens_per_batch=2048, evaluations=8)
    assert json.dumps(said.stored()) == (
        '{"method": "lora", "epochs": 4.0, "minutes": null, "learning_rate": null, "tokens_per_batch": 2048, '
        '"window": 35, "weight_decay": 0.05, "label_smoothing": 0.0, "evaluations": 8, "patience": 3, '
        '"precision": "fp32", "device": "cpu", "seed": 1234, "lora": {"rank": 16, "alpha": null, "dropout": 0.05, '
        '"points": ["attention", "feed-forward"]}}'
    )


@pytest.mark.parametrize(("name", "value"), [("rank", 0), ("alpha", 0), ("alpha", math.nan), ("dropout", 1)])
def test_adapters_have_bounds_too(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be"):
        LoraSettings(**{name: value})  # type: ignore[arg-type]


def test_bounds() -> None:
    assert COUNT.holds(1)
    assert not any(COUNT.holds(value) for value in (0, -1, 1.5, 10**30, math.nan, math.inf))
    assert SEED.holds(MOST_SEED)
    assert not SEED.holds(MOST_SEED + 1)
    with pytest.raises(UsageError, match=r"it must be at most 4,294,967,295, was 1e\+30"):
        SEED.check("it", 10**30)
    with pytest.raises(UsageError, match="was a number of more than 300 digits"):
        Bound(least=0, most=1).check("it", 10**5000)
