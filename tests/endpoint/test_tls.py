"""A certificate that does not hold is refused in a sentence, on loopback too; one that the environment names is not."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from toy_server import Toy, serving

from lmtasks.endpoint.client import Client, ServerError
from lmtasks.endpoint.probe import probe
from lmtasks.errors import UsageError
from lmtasks.settings.endpoint import Endpoint

QUICK = Endpoint(retries=3, request_timeout=20)
HERE, ELSEWHERE = "IP:127.0.0.1", "DNS:models.example"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name, signed by its own key, and that key."""
    made, key = folder / "made.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=toy", "-addext", f"subjectAltName={name}"]
    subprocess.run([*command, "-keyout", key, "-out", made, *subject], check=True, capture_output=True)
    return made, key


@contextmanager
def behind_tls(made: Path, key: Path) -> Iterator[tuple[Toy, str]]:
    toy, context = Toy(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    with serving(toy, tls=context) as address:
        yield toy, address


def refused(address: str) -> str:
    with closing(Client(address, QUICK)) as client, pytest.raises(ServerError) as error:
        probe(client, QUICK, tokenizer=None)
    return str(error.value)


def test_a_certificate_that_nobody_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with behind_tls(*certificate(tmp_path, HERE)) as (toy, address):
        said = refused(address)
    assert said.startswith(f"{address}: the server's certificate or its TLS does not hold (self-signed certificate")
    assert "nothing was sent" in said
    assert said.count("\n") == 0
    assert not toy.asked


def test_a_certificate_for_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, key = certificate(tmp_path, ELSEWHERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    with behind_tls(made, key) as (toy, address):
        assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in refused(address)
    assert not toy.asked


def test_a_certificate_that_the_environment_names_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, too, where a proxy of the environment does not count."""
    made, key = certificate(tmp_path, HERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with behind_tls(made, key) as (toy, address), closing(Client(address, QUICK)) as client:
        assert probe(client, QUICK, tokenizer=None).name == "toy"
    assert toy.asked


def test_a_file_of_certificates_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(UsageError, match="SSL_CERT_FILE or SSL_CERT_DIR names no certificates to be read"):
        Client("https://127.0.0.1:1/v1", QUICK)


def test_a_server_without_tls_that_is_asked_for_it() -> None:
    toy = Toy()
    with serving(toy) as address:
        assert "certificate or its TLS does not hold" in refused(address.replace("http:", "https:"))
    assert not toy.asked
