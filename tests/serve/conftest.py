"""Servers over tiny models, in threads of this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from asker import Asker, Start
from tiny import tiny_checkpoint

pytest.importorskip("starlette", reason="lmtasks serve needs starlette and uvicorn: make install")
pytest.importorskip("uvicorn", reason="lmtasks serve needs starlette and uvicorn: make install")

from lmtasks.serve.server import ServeRequest, serving
from lmtasks.settings.serve import ServeSettings


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts a server over a folder; settings are those of `ServeSettings`."""

    @contextmanager
    def started(folder: Path, **settings: object) -> Iterator[Asker]:
        request = ServeRequest(model=str(folder), settings=ServeSettings(**{"port": 0, **settings}))
        with serving(request) as server:
            yield Asker(server)

    return started


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="session")
def ask(start: Start, llama: Path) -> Iterator[Asker]:
    """A server over a tiny causal model."""
    with start(llama) as asker:
        yield asker
