from pathlib import Path

import pytest
from synthetic import write_run, write_samples

from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.write import write_report


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report."""
    folder = write_run(tmp_path_factory.mktemp("report") / "first-light")
    write_samples(folder)
    write_report(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder of one's own, to be changed."""
    return write_run(tmp_path / "run")


@pytest.fixture
def run(folder: Path) -> RunRecords:
    return read_run(folder)
