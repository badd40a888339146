"""Which file answers are kept in, and for whom."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from lmtasks.engine.requests import ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.evaluation.cache_store import count_answers
from lmtasks.workflow.open_model import cache_file, default_file, open_engine, settings_hash, with_cache


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("caching") / "model", "llama")


def test_the_file_is_the_one_that_is_named_or_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMTASKS_CACHE", str(tmp_path / "mine"))
    assert default_file() == tmp_path / "mine" / "answers.sqlite"
    monkeypatch.delenv("LMTASKS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_file(None) == tmp_path / "xdg" / "lmtasks" / "answers.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_file(None) == tmp_path / ".cache" / "lmtasks" / "answers.sqlite"
    assert cache_file("off") is None
    assert cache_file(str(tmp_path / "a.db")) == tmp_path / "a.db"
    with pytest.raises(UsageError, match="is a folder"):
        cache_file(str(tmp_path))


def test_settings_beside_the_weights_are_hashed(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert settings_hash(copy) == settings_hash(model)
    (copy / "notes.json").write_text("{}")
    assert settings_hash(copy) == settings_hash(model)
    (copy / "checkpoint-500").mkdir()  # of a training: no loader looks there
    (copy / "checkpoint-500" / "config.json").write_text("{}")
    assert settings_hash(copy) == settings_hash(model)
    (copy / "generation_config.json").write_text('{"eos_token_id": 3}')
    other = settings_hash(copy)
    assert other != settings_hash(model)
    (copy / "model.json").write_text("{}")
    assert settings_hash(copy) not in (other, settings_hash(model))


@pytest.mark.parametrize(("precision", "kept"), [("fp32", 1), ("int8-tensor", 0)])
def test_answers_that_depend_on_their_neighbours_never_enter(
    precision: str, kept: int, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "kept"
    with open_engine(model, threads=1) as engine:
        engine.runtime.card = replace(engine.card, precision=precision)  # type: ignore[arg-type]
        for cache in (file, None):
            with with_cache(engine, folder=model, cache=cache) as answers:
                assert (answers is engine) is (cache is None or not kept)
                answers.score([ScoreRequest(context_ids=(5, 6), target_ids=(7,))], on_progress=None)
    assert (count_answers(file) if file.exists() else 0) == kept


def test_without_a_usable_file_the_engine_is_as_it_is(model: Path) -> None:
    with (
        open_engine(model, threads=1) as engine,
        with_cache(engine, folder=model, cache=Path("/proc/no/answers")) as answers,
    ):
        assert answers is engine
