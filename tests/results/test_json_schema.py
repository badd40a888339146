"""JSON Schema of stored files: docs/schema/ is current, and the committed reports fit it.

After a change that is meant:  python tests/results/test_json_schema.py
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from lmtasks.results.json_schema import SCHEMAS, json_schema

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "schema"
COMMITTED = {"cell": "cells/*.json", "speed": "speed/*.json", "parity": "parity/*.json"}
COMMITTED |= {"paired": "paired.json", "run": "run.json"}


def text_of(name: str) -> str:
    return json.dumps(json_schema(name), indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schema_is_current(name: str) -> None:
    file = FOLDER / f"{name}.json"
    assert file.read_text(encoding="utf-8") == text_of(name), f"renew it: python {Path(__file__).relative_to(ROOT)}"


def test_no_schema_is_left_over() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(SCHEMAS)


def committed() -> Iterator[tuple[str, Path]]:
    for name, pattern in COMMITTED.items():
        yield from ((name, file) for file in sorted(ROOT.glob(f"reports/*/{pattern}")))


def test_committed_reports_fit_their_schemas() -> None:
    """As they are read by somebody without this package; no migration is needed for what is committed."""
    validators = {name: Draft202012Validator(json_schema(name)) for name in COMMITTED}
    seen = set()
    for name, file in committed():
        seen.add(name)
        errors = [error.message for error in validators[name].iter_errors(json.loads(file.read_text(encoding="utf-8")))]
        assert not errors, f"{file}: {errors[0]}"
    assert seen == set(COMMITTED)


if __name__ == "__main__":
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for each in SCHEMAS:
        (FOLDER / f"{each}.json").write_text(text_of(each), encoding="utf-8")
