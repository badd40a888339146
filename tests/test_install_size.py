"""What `make` says before pip downloads: sizes of servers, a rate that was measured, and what is not known."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType

import pytest
from listening import listening

FILE = Path(__file__).parents[1] / "benchmarks" / "install_size.py"
CONTENT = {"/a.whl": 300_000, "/b.whl": 5_000_000}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_size", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Packages(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        size = CONTENT.get(self.path)
        self.send_response(404 if size is None else 200)
        self.send_header("Content-Length", str(size or 0))
        self.end_headers()
        if with_body and size:
            self.wfile.write(b"x" * size)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with listening(_Packages) as address:
        yield address


def test_sizes_and_the_rate_are_asked_of_the_servers(
    script: ModuleType, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [f"{server}/{name}" for name in ("a.whl", "b.whl", "gone.whl")]
    monkeypatch.setattr(script, "wanted", lambda arguments: urls)
    script.main(["-e", "."])
    told = capsys.readouterr().out
    assert told.startswith("pip downloads 5 MB in 3 packages (of 1 the size is not known), which takes 1 s")
    monkeypatch.setattr(script, "wanted", lambda arguments: [])
    script.main([])
    assert capsys.readouterr().out == "Everything is installed already.\n"


def test_minutes_are_rounded_up_and_an_unknown_rate_is_left_out(script: ModuleType) -> None:
    sizes = {"a": 900_000_000, "b": 100_000_000}
    assert "1.0 GB in 2 packages, which takes 2 min" in script.sentence(sizes, 10_000_000)
    assert "takes" not in script.sentence(sizes, None)


def test_what_pip_reports_is_read(script: ModuleType) -> None:
    files = ["https://a/b.whl", "file:///c"]
    assert script.urls_of({"install": [{"download_info": {"url": url}} for url in files]}) == files[:1]
    assert script.urls_of({}) == []


def test_a_pip_that_cannot_say_is_no_failure() -> None:
    done = subprocess.run(
        [sys.executable, str(FILE), "--no-such-option"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "How much pip will download is not known before it does; it may be some gigabytes.\n"


def test_make_says_it_of_what_it_installs() -> None:
    rules = (FILE.parents[1] / "Makefile").read_text()
    assert "install_size.py $(WANTED)" in rules
    assert rules.index("install_size.py") < rules.index("pip install")
