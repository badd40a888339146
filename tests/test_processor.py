"""The one table of what a processor computes itself, held against what libraries find out on their own."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from lmtasks.processor import INSTRUCTIONS, computes, flags_of, processor_flags
from lmtasks.settings.runtimes import PRECISIONS

GENOA = "processor\t: 0\nmodel name\t: AMD EPYC 9354\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\n"
NAPLES = "processor\t: 0\nmodel name\t: AMD EPYC 7601\nflags\t\t: fpu avx avx2\n"
GRACE = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16 sve\n"


@pytest.mark.parametrize(("text", "bf16", "int8"), [(GENOA, True, True), (NAPLES, False, False), (GRACE, True, False)])
def test_flags_are_read_as_linux_writes_them(text: str, bf16: bool, int8: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text, encoding="ascii")
    flags = flags_of(file)
    assert (computes("bf16", flags=flags), computes("int8", flags=flags)) == (bf16, int8)


def test_where_nobody_tells_nothing_is_promised(tmp_path: Path) -> None:
    assert flags_of(tmp_path / "nothing") == frozenset()
    assert not any(computes(product, flags=frozenset()) for product in INSTRUCTIONS)


def test_every_line_is_a_product_of_a_precision() -> None:
    assert set(INSTRUCTIONS) <= {spec.product for spec in PRECISIONS.values()}


@pytest.mark.skipif(not processor_flags(), reason="the system does not list the processor's instructions")
def test_torch_and_openvino_find_the_same_on_this_processor() -> None:
    import torch

    if "avx512f" in processor_flags():
        assert computes("bf16") == bool(torch.cpu._is_avx512_bf16_supported())
        assert computes("int8") == bool(torch.cpu._is_vnni_supported())
    if find_spec("openvino") is not None:
        from openvino import Core

        assert computes("bf16") == ("BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
