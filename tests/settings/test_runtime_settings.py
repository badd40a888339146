"""The tables of runtimes and precisions, held against who reads them."""

import subprocess
import sys
from importlib.util import find_spec
from typing import get_args

from lmtasks.prove.compare import RULES
from lmtasks.runtime.open import opener_of
from lmtasks.settings.runtimes import (
    PRECISIONS,
    RUNTIMES,
    Precision,
    is_cached,
    needs_gpu,
    package_runtimes,
    product_of,
    runs_packages,
)


def test_every_name_has_a_line_and_every_line_is_carried_out() -> None:
    assert all(opener_of(name) is not None for name in RUNTIMES.own)
    assert tuple(PRECISIONS) == get_args(Precision)
    assert set(PRECISIONS) == set(RULES)


def test_what_a_runtime_imports_is_there() -> None:
    for spec in RUNTIMES.values():
        for module in spec.imports:
            assert module == "openvino" or find_spec(module) is not None, module  # an extra


def test_facts_of_precisions() -> None:
    assert [name for name in PRECISIONS if not is_cached(name)] == ["int8-tensor"]
    assert [name for name in PRECISIONS if needs_gpu(name)] == ["fp16", "bf16"]
    assert not any(needs_gpu(name, runtime="openvino") for name in PRECISIONS)
    assert all(set(RUNTIMES[name].packages) <= set(PRECISIONS) for name in package_runtimes())
    assert not runs_packages("answers")
    assert product_of("int8-static") == product_of("w8") == "int8"
    assert product_of("none") == ""


def test_the_tables_load_nothing_before_a_clock_starts() -> None:
    code = "import sys, lmtasks.settings.runtimes; print('pydantic' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
