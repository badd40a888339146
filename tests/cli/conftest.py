"""The command line in this process: what it prints and how it ends, without what it sets for a whole process."""

from pathlib import Path

import pytest
from tiny import tiny_checkpoint


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="session")
def llama_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "llama-two", "llama", seed=1)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with its own classifier of negative and positive."""
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "classifier", "bert-classifier")


@pytest.fixture(scope="session")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, its labels called LABEL_0 and LABEL_1."""
    folder = tiny_checkpoint(tmp_path_factory.mktemp("models") / "nameless", "bert-classifier")
    file = folder / "config.json"
    text = file.read_text().replace('"negative"', '"LABEL_0"').replace('"positive"', '"LABEL_1"')
    file.write_text(text)
    return folder


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Somebody's own data: comments with one to three stars."""
    rows = ["comment,stars", *(f"number {n} was {'bad' if n % 3 else 'good'},{n % 3 + 1}" for n in range(12))]
    file = tmp_path / "reviews.csv"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """The same with the labels negative and positive."""
    rows = ["comment,mood", *(f"number {n} was fine,{'positive' if n % 2 else 'negative'}" for n in range(10))]
    file = tmp_path / "moods.csv"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file
