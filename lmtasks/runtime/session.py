"""ONNX Runtime sessions with every option stated: nothing is left to a default that could change, or be replaced."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import WorkError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDER = "CPUExecutionProvider"

PROCESSOR = Path("/proc/cpuinfo")
EXACT_PRODUCTS = ("avx512_vnni", "avx_vnni")
"""Processors with one of these add up 8-bit products exactly."""
DISABLED = ("SkipLayerNormFusion",)
"""On CPU the fused operator is 8 times slower than Add and LayerNormalization."""


def config() -> Mapping[str, str]:
    """The settings of every session on this machine."""
    return {
        # Within a call threads spin for the next operator's work, which comes in microseconds. Not longer: on a machine
        # that is busy otherwise they would wait for a thread that does not run. Not between calls either.
        "session.intra_op.allow_spinning": "1",
        "session.intra_op.spin_duration_us": "50",
        "session.force_spinning_stop": "1",
        # Without VNNI 8-bit products saturate, unless they are added up in this way. With it there is nothing to mend,
        # and it makes 8-bit graphs 1.4 to 2.2 times as slow (seen on one AVX-512 core, onnxruntime 1.32).
        "session.x64quantprecision": "0" if _adds_exactly() else "1",
    }


def open_session(file: Path, *, threads: int) -> "InferenceSession":
    """A session over one graph.

    Raises:
        WorkError: this onnxruntime cannot run the graph on the provider that was asked for.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    for name, value in config().items():
        options.add_session_config_entry(name, value)
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=[PROVIDER], disabled_optimizers=list(DISABLED)
        )
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        reason = str(error).strip().splitlines()[0]
        raise WorkError(f"onnxruntime {onnxruntime.__version__} cannot open {file}: {reason}") from error
    if session.get_providers() != [PROVIDER]:
        raise WorkError(f"{file} was to run on {PROVIDER}, but onnxruntime chose {', '.join(session.get_providers())}.")
    session.disable_fallback()
    return session


def session_options() -> dict[str, str]:
    """What is recorded of the options with every answer."""
    return {"provider": PROVIDER, "optimization": "all", "disabled": ",".join(DISABLED), **config()}


def _adds_exactly() -> bool:
    try:
        words = PROCESSOR.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False  # not Linux: the careful way
    return any(flag in words for flag in EXACT_PRODUCTS)
