"""What every test gets: no network, no caches of the person who runs it, real data only where named."""

import io
import logging
import os
import signal
import socket
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from said import Said, Say

DATA_ROOT = "LMTASKS_DATA_ROOT"
collect_ignore_glob = ["conftest.py", "*/conftest.py"]
"""Looked into for doctests, several files of this one name would be taken for one module."""

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody listens on: what a child process asks of the network fails at once."""

SHARED = "LMTASKS_TESTS_SHARED"
"""A folder of what takes long to make, which the processes of one test run share (`tests/packed.py`)."""
if SHARED not in os.environ:  # workers are children of the process that made it, and that removes it
    _SHARED_FOLDER = tempfile.TemporaryDirectory(prefix="lmtasks-tests-shared-")
    os.environ[SHARED] = _SHARED_FOLDER.name

# Read by libraries while they are imported, hence set before any test module is.
_HOME = tempfile.TemporaryDirectory(prefix="lmtasks-tests-")
os.environ.update(
    HF_HOME=_HOME.name,
    LMTASKS_CACHE=_HOME.name,
    HTTP_PROXY=NOWHERE,
    HTTPS_PROXY=NOWHERE,
    http_proxy=NOWHERE,
    https_proxy=NOWHERE,
    NO_PROXY="localhost,127.0.0.1,::1",
    no_proxy="localhost,127.0.0.1,::1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # a thread that waits for others leaves its core to them
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    # Workers share the cores: each computes with its part of them, and so do the processes that it starts.
    _cores = sorted(os.sched_getaffinity(0))
    _part = _cores[int(os.environ["PYTEST_XDIST_WORKER"][2:]) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
    if _part:
        os.sched_setaffinity(0, _part)
        os.environ["OMP_NUM_THREADS"] = str(len(_part))
for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests on real data, with the reason, where no mirror is named."""
    if os.environ.get(DATA_ROOT):
        return
    skip = pytest.mark.skip(reason=f"reads real data: set {DATA_ROOT} to a local mirror of the Hub")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The local mirror of the Hub; for tests marked `real_data`."""
    return Path(os.environ[DATA_ROOT])


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Refuse every connection that would leave this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect):  # type: ignore[no-untyped-def]  # the standard library's own signature
    def guarded(self: socket.socket, address: object):  # type: ignore[no-untyped-def]
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and not str(host).startswith(LOOPBACK):
            raise OSError(f"tests are offline; something wanted to reach {address!r}")
        return connect(self, address)

    return guarded


@pytest.fixture
def signals_of_a_terminal() -> Iterator[None]:
    """As a command has them that somebody types, also where the tests were begun behind `nohup` or `&`."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Say]:
    """Carries out a command line; `stdin` is what it may read."""
    from lmtasks.cli.main import run

    logger, before = logging.getLogger("lmtasks"), dict(os.environ)
    kept = logger.handlers, logger.propagate, logger.level

    monkeypatch.setenv("LMTASKS_CACHE", str(tmp_path / "answers"))  # no test is answered by another

    def carry_out(*arguments: object, stdin: str = "") -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        with warnings.catch_warnings():
            code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(code=code, out=out, err=err)

    yield carry_out
    logger.handlers, logger.propagate = kept[0], kept[1]
    logger.setLevel(kept[2])
    os.environ.clear()
    os.environ.update(before)
