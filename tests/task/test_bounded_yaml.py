"""YAML of strangers: depth, aliases, values that cannot be."""

from pathlib import Path

import pytest

from lmtasks.errors import UsageError
from lmtasks.run.plan import load_plan
from lmtasks.task.yaml_file import load_yaml, read_task_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000 + "]" * 200_000, "more than 100 deep"),
        ("a: " + "{b: " * 50_000 + "}" * 50_000, "more than 100 deep"),
        ("- " * 50_000 + "x", "more than 100 deep"),
        ("? " * 50_000 + "x", "more than 100 deep"),
        ("".join(f"{' ' * n}a:\n" for n in range(300)), r"x\.yaml:10\d: lists and mappings"),
        (LAUGHS, "aliases .* stand for more than 1,000,000 values"),
        ("a: &a [1, *a]", "aliases .* stand for more than"),
        ("a: &a {b: *a}", "aliases .* stand for more than"),
        ("when: 2020-13-45", "cannot be read"),
        ("n: " + "9" * 6000, "cannot be read"),
        ("a: [", "this is not YAML"),
        ("a: \x00", "this is not YAML"),
    ],
)
def test_what_would_hold_or_end_the_process_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_yaml(text, where="x.yaml")


def test_aliases_that_mean_no_harm_are_read(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("base: &base {a: 1}\nboth: [*base, *base]\nmerged: {<<: *base, b: 2}\n")
    assert read_task_yaml(file).keys == {"base": {"a": 1}, "both": [{"a": 1}, {"a": 1}], "merged": {"a": 1, "b": 2}}


def test_plans_are_read_within_the_same_bounds(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(LAUGHS)
    with pytest.raises(UsageError, match="aliases"):
        load_plan(file)
    file.write_bytes(b"plan: \xff")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        load_plan(file)
