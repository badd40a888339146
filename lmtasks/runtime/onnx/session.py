"""ONNX Runtime sessions with every option stated: nothing is left to a default that could change, or be replaced."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.processor import computes

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""By device."""
SHAPES = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Div",
        "Gather",
        "Mul",
        "Range",
        "Reshape",
        "Shape",
        "Slice",
        "Squeeze",
        "Sub",
        "Unsqueeze",
    }
)
"""What onnxruntime works out on the processor for a graph on a GPU, by its own choice: shapes are whole numbers of a
few bytes. Any other operator there was handed over for want of a kernel."""

DISABLED = ("SkipLayerNormFusion",)
"""On CPU the fused operator is 8 times slower than Add and LayerNormalization."""


def config() -> Mapping[str, str]:
    """The settings of every session on this machine."""
    return {
        # Which provider computes what: checked, and recorded with every answer.
        "session.record_ep_graph_assignment_info": "1",
        # Within a call threads spin for the next operator's work, which comes in microseconds. Not longer: on a machine
        # that is busy otherwise they would wait for a thread that does not run. Not between calls either.
        "session.intra_op.allow_spinning": "1",
        "session.intra_op.spin_duration_us": "50",
        "session.force_spinning_stop": "1",
        # Without VNNI 8-bit products saturate, unless they are added up in this way. With it there is nothing to mend,
        # and it makes 8-bit graphs 1.4 to 2.2 times as slow (seen on one AVX-512 core, onnxruntime 1.32).
        "session.x64quantprecision": "0" if computes("int8") else "1",
    }


def devices() -> tuple[str, ...]:
    """Where this onnxruntime can compute."""
    import onnxruntime

    return tuple(device for device, name in PROVIDERS.items() if name in onnxruntime.get_available_providers())


def check_device(device: str) -> None:
    """Raises: UsageError: onnxruntime cannot compute there; nothing else is taken in its place."""
    if device not in PROVIDERS:
        raise unknown("device of onnx", device, PROVIDERS)
    if device not in devices():
        raise UsageError(
            f"onnxruntime has no {PROVIDERS[device]} here; it computes on {', '.join(devices())}. Use --device cpu, or "
            "put onnxruntime-gpu in the place of onnxruntime (each overwrites the other: uninstall both first)."
        )


def open_session(file: Path, *, threads: int, device: str = "cpu") -> "InferenceSession":
    """A session over one graph.

    Raises:
        UsageError: onnxruntime cannot compute on the device.
        WorkError: it cannot run the graph there, or would hand a part of it to the processor.
    """
    import onnxruntime

    check_device(device)
    provider = PROVIDERS[device]

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
            str(file), options, providers=[provider], disabled_optimizers=list(DISABLED)
        )
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        reason = str(error).strip().splitlines()[0]
        raise WorkError(f"onnxruntime {onnxruntime.__version__} cannot open {file}: {reason}") from error
    if session.get_providers()[0] != provider:
        raise WorkError(f"{file} was to run on {provider}, but onnxruntime chose {', '.join(session.get_providers())}.")
    check_assigned(assigned_nodes(session), provider=provider, file=file)
    session.disable_fallback()
    return session


def assigned_nodes(session: "InferenceSession") -> Mapping[str, Mapping[str, int]]:
    """How many nodes of each operator each provider computes."""
    counts: dict[str, dict[str, int]] = {}
    for part in session.get_provider_graph_assignment_info():
        kinds = counts.setdefault(part.ep_name, {})
        for node in part.get_nodes():
            kinds[node.op_type] = kinds.get(node.op_type, 0) + 1
    return counts


def check_assigned(counts: Mapping[str, Mapping[str, int]], *, provider: str, file: Path) -> None:
    """Raises: WorkError: a part of the graph would be computed elsewhere, which nobody asked for."""
    strange = {kind: name for name, kinds in counts.items() if name != provider for kind in kinds if kind not in SHAPES}
    if strange:
        kind, name = next(iter(strange.items()))
        raise WorkError(
            f"{file} was to run on {provider}, but onnxruntime would hand {len(strange)} kinds of operators to others, "
            f"{kind} to {name}: it has no kernel for them there in this precision. Use --device cpu, or another "
            "precision."
        )


def shares(counts: Mapping[str, Mapping[str, int]]) -> str:
    """The share of nodes of each provider, as records have it.

    >>> shares({"CUDAExecutionProvider": {"MatMul": 97}, "CPUExecutionProvider": {"Shape": 3}})
    'CUDAExecutionProvider 97.0%, CPUExecutionProvider 3.0%'
    """
    sizes = {name: sum(kinds.values()) for name, kinds in counts.items()}
    total = max(1, sum(sizes.values()))
    return ", ".join(f"{name} {100 * size / total:.1f}%" for name, size in sorted(sizes.items(), key=lambda i: -i[1]))


def session_options(device: str = "cpu") -> dict[str, str]:
    """Options that are recorded with every answer."""
    return {"provider": PROVIDERS[device], "optimization": "all", "disabled": ",".join(DISABLED), **config()}
