"""Plans: what is refused, and in which words; what is found by name."""

from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.run.plan import find_plan, load_plan, shipped_plans

GOOD = """
plan: mine
tasks: [starter_sentiment_en]
variants: [{name: floor, baseline: [majority]}]
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plan: [", r"plan\.yaml:2: this is not YAML"),
        ("- a list", "is no plan"),
        ("plan: mine\nvariants: []\ntasks: [a]", "variants"),
        (GOOD + "tasc: 1", "did you mean 'tasks'"),
        (GOOD + "bench: {row: 3}", "did you mean 'rows'"),
        (GOOD + "models: {m: {backbone: x, training: {epoch: 3}}}", "did you mean 'epochs'"),
        (GOOD + "models: {m: {backbone: x, adaptation: lora, lora: {rnk: 3}}}", "did you mean 'rank'"),
        (GOOD + "models: {m: {backbone: x, adaptation: lora, lora: {points: heads}}}", "points"),
        (GOOD + "models: {m: {backbone: x, lora: {rank: 3}}}", "goes with `adaptation: lora`"),
        (GOOD + "models: {m: {backbone: x, probe: {fit: logistic}}}", "goes with `adaptation: probe`"),
        (
            GOOD + "models: {m: {backbone: x, adaptation: probe, probe: {fit: logistic}, training: {epochs: 2}}}",
            "model 'm': epochs is about training by steps",
        ),
        (GOOD + "limit: 0", "limit"),
        (
            GOOD + "models: {m: {backbone: x, bidirectional: true}}",
            "plan.yaml:5: models.m.bidirectional is no key any more: attention says it now, and is 'both' where this",
        ),
        (GOOD + "models: {m: {backbone: x, attention: twoways}}", "attention 'twoways'.*Known: both, causal"),
        ("plan: m\ntasks: [a]\nvariants: [{name: a}]", "needs one of `model`, `baseline` and `answers`"),
        ("plan: m\ntasks: [a]\nvariants: [{name: a, model: x}, {name: a, model: y}]", "two variants"),
        ("plan: m\ntasks: [a]\nvariants: [{name: a b, model: x}, {name: A-b, model: y}]", "two variants"),
        ("plan: m\ntasks: [a]\nvariants: [{name: +, model: x}]", "letters or digits"),
        ("plan: m\ntasks: [a]\nvariants: [{name: a, model: x, runtime: onix}]", "runtime"),
        (
            "plan: m\ntasks: [a]\nmodels: {m: {backbone: svm}}\nvariants: [{name: a, model: m, runtime: torch}]",
            "runs in native alone",
        ),
        (
            "plan: m\ntasks: [a]\nvariants: [{name: a, model: x, generation_kwargs: {num_beam: 4}}]",
            "variant 'a': unknown key of generation_kwargs 'num_beam'; did you mean 'num_beams'",
        ),
        (
            "plan: m\ntasks: [a]\nvariants: [{name: a, baseline: copy, generation_kwargs: {num_beams: 4}}]",
            "`generation_kwargs` are for models",
        ),
        ("plan: m/n\ntasks: [a]\nvariants: [{name: a, model: x}]", "plan"),
    ],
)
def test_a_bad_plan_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_plan(file)
    assert str(file) in str(caught.value)


def test_every_shipped_plan_is_right() -> None:
    assert "starter" in shipped_plans()
    for name in shipped_plans():
        assert load_plan(find_plan(name)).plan == name


def test_tasks_may_be_written_with_commas(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(GOOD.replace("[starter_sentiment_en]", "a, b"))
    assert load_plan(file).tasks == ("a", "b")


def test_one_baseline_needs_no_list(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(GOOD.replace("[majority]", "majority"))
    assert load_plan(file).variants[0].baseline == ("majority",)


def test_the_hash_follows_the_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(GOOD)
    two.write_text(GOOD + "about: ''\n# a comment\n")
    assert load_plan(one).hash == load_plan(two).hash
    two.write_text(GOOD + "limit: 3")
    assert load_plan(one).hash != load_plan(two).hash


def test_a_path_that_is_not_there_is_no_shipped_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "starter.yaml").write_text(GOOD)
    with pytest.raises(UsageError, match=r"starter\.yml does not exist; did you mean benchmarks/starter\.yaml\?"):
        find_plan("benchmarks/starter.yml")
    for ref in ("starter.yaml", "./starter", "benchmarks/starter", "elsewhere/benchmarks/starter.yaml"):
        with pytest.raises(UsageError, match=r"does not exist.* Shipped plans go by name: "):
            find_plan(ref)


@pytest.mark.parametrize(
    ("ref", "message"),
    [("startre", "did you mean 'starter'"), ("no/such.yaml", "does not exist"), ("no/such", "does not exist")],
)
def test_an_unknown_plan_is_explained(ref: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_plan(ref)
