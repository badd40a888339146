"""Any stored file: what is written, what is read, and what a damaged or later one says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pytest

from lmtasks.checksums import sealed
from lmtasks.errors import UsageError
from lmtasks.results.base import SPARSE, Flag, Number, StoredFile, StoredModel, Table, Whole


class Reading(StoredModel):
    celsius: Number
    station: str
    note: Annotated[str, SPARSE] = ""


class Weather(StoredFile):
    remedy: ClassVar[str] = "measure again."

    days: Whole
    dry: Flag
    readings: tuple[Reading, ...]
    tables: Mapping[str, Table] = {}  # a model's default


CONTENT: Mapping[str, object] = {
    "schema": 1,
    "days": 2,
    "dry": True,
    "readings": [{"celsius": "inf", "station": "a"}, {"celsius": 21.5, "station": "b", "note": "sun"}],
    "tables": {"wind": [[1.0, "nan"], [3.0, 4.0]]},
}


def test_what_is_written_is_read_and_written_again_alike(tmp_path: Path) -> None:
    weather = Weather.of(CONTENT, file=tmp_path)
    assert weather.readings[0].celsius == float("inf")
    assert np.isnan(weather.tables["wind"][0, 1])
    weather.write(tmp_path / "weather.json")
    content = json.loads((tmp_path / "weather.json").read_text(encoding="utf-8"))
    assert list(content) == ["schema", "days", "dry", "readings", "tables", "checksum"]
    assert content == sealed(CONTENT)
    assert Weather.read(tmp_path / "weather.json").content() == weather.content()


def test_fields_that_an_older_file_lacked_stay_out() -> None:
    older = {name: value for name, value in CONTENT.items() if name != "tables"}
    assert Weather.of(older, file=Path("older")).content() == older


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"days": "many"}, 'the field days should be a whole number, but it is "many"'),
        ({"days": True}, "the field days should be a whole number, but it is true"),
        ({"dry": 1}, "the field dry should be true or false, but it is 1"),
        ({"readings": 3}, "the field readings should be a list, but it is 3"),
        ({"readings": [4]}, "the field readings[0] should be an object, but it is 4"),
        (
            {"readings": [{"celsius": "warm", "station": "a"}]},
            'readings[0].celsius should be a number, but it is "warm"',
        ),
        ({"readings": [{"celsius": 1}]}, "the field readings[0].station is missing"),
        ({"tables": {"wind": "strong"}}, 'the field tables.wind should be rows of numbers, but it is "strong"'),
    ],
)
def test_a_damaged_field_names_file_key_and_value(change: Mapping[str, object], complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "weather.json"
    file.write_text(json.dumps({**CONTENT, **change}), encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        Weather.read(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert complaint in str(raised.value)
    assert str(raised.value).endswith("measure again.")
    assert Weather.read_if_whole(file) is None
    assert Weather.is_damaged(file)


def test_a_file_of_a_later_version_is_named_with_the_version_that_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "weather.json"
    file.write_text(json.dumps({**CONTENT, "schema": 3, "versions": {"lmtasks": "0.9"}}), encoding="utf-8")
    for read in (Weather.read, Weather.read_if_whole):  # nobody takes it for a damaged one and writes over it
        with pytest.raises(UsageError, match=r"weather\.json has schema 3, .*; lmtasks 0\.9 wrote it and reads it"):
            read(file)


@pytest.mark.parametrize(("text", "complaint"), [("{", "is no JSON"), ("[1]", "holds no JSON object")])
def test_what_is_no_record_is_said(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "weather.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=complaint):
        Weather.read(file)
    assert Weather.read_if_whole(file) is None
    assert Weather.read_if_whole(tmp_path / "none.json") is None
    assert not Weather.is_damaged(tmp_path / "none.json")
