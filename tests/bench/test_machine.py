import getpass
import json
import socket
from pathlib import Path

from lmtasks.bench.machine import machine, usable_cores, versions
from lmtasks.bench.machine_peaks import copy_bandwidth, gemm_rate


def test_the_machine_is_described_without_names_or_paths() -> None:
    facts = machine()
    text = json.dumps(facts)
    assert facts["processor"]
    assert int(str(facts["memory_bytes"])) > 1 << 28
    assert 1 <= usable_cores() <= int(str(facts["cores_logical"]))
    for private in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert len(private) < 4 or private not in text
    assert getpass.getuser() not in facts.values()


def test_versions_of_what_is_installed() -> None:
    import numpy

    found = versions()
    assert found["numpy"] == numpy.__version__
    assert all(found.values())


def test_limits_are_plausible() -> None:
    assert 0.1 < copy_bandwidth(threads=2, seconds=0.02, size_bytes=8 << 20) < 5000
    assert 0.1 < gemm_rate(seconds=0.02, size=256) < 100_000
