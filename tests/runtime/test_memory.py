"""Running out of memory, as each library says it."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lmtasks.runtime.memory
from lmtasks.runtime.memory import OutOfMemory, free_host_bytes, let_go_of_pages, memory_errors, ran_out

OUT = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8000000000000 bytes."),
    Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 9"),
    RuntimeError("std::bad_alloc"),
)


@pytest.mark.parametrize("error", OUT, ids=lambda error: type(error).__name__)
def test_each_library_is_understood(error: Exception) -> None:
    assert ran_out(error)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), memory_errors("scoring"):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(KeyError), memory_errors("scoring"):
        raise KeyError("a")


def test_torchs_own_refusal_is_understood() -> None:
    with pytest.raises(OutOfMemory, match="while scoring 2 rows") as caught, memory_errors("scoring 2 rows"):
        torch.empty(1 << 60, dtype=torch.float32)
    assert caught.value.__cause__ is None  # its traceback would hold the tensors that are to be freed


def test_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmtasks.runtime.memory, "CGROUP", tmp_path)
    machine = free_host_bytes()
    assert machine > 0
    (tmp_path / "memory.current").write_text("600")
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_host_bytes() == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert free_host_bytes() > 400


def _resident_file_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep their pages")
def test_pages_of_a_file_are_given_back_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(np.arange(4 << 20, dtype=np.int32).tobytes())
    with file.open("rb") as opened:
        read = np.frombuffer(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.int32)
        total, before = int(read.sum(dtype=np.int64)), _resident_file_kb()
        let_go_of_pages(read.ctypes.data, read.nbytes)
        assert _resident_file_kb() < before - 8 * 1024
        assert int(read.sum(dtype=np.int64)) == total


def test_memory_that_is_no_file_keeps_what_it_holds() -> None:
    held = np.arange(1 << 20)
    let_go_of_pages(held.ctypes.data, held.nbytes)
    assert np.array_equal(held, np.arange(1 << 20))
