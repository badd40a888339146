"""Operators that must stand in a graph, by the model's shape alone."""

import shutil
from pathlib import Path

import pytest
from packed import model_folder, package
from tiny import TEXTS

from lmtasks.errors import WorkError
from lmtasks.export.emitters.architecture import missing_operators
from lmtasks.export.package import load_package, write_manifest
from lmtasks.prove.export import export_and_prove
from lmtasks.records import Progress

LAYERS = {
    "llama": {"score": {"GroupQueryAttention": 1}, "decoder": {"GroupQueryAttention": 1}},
    "gpt2": {"score": {"GroupQueryAttention": 2}, "decoder": {"GroupQueryAttention": 2, "LayerNormalization": 5}},
    "bert": {"heads": {"MultiHeadAttention": 1, "LayerNormalization": 3}},
    "modernbert": {"heads": {"MultiHeadAttention": 3, "LayerNormalization": 7}},
    "marian": {"encoder": {"MultiHeadAttention": 1}, "decoder": {"GroupQueryAttention": 1, "MultiHeadAttention": 1}},
    "t5": {"encoder": {"MultiHeadAttention": 2}, "decoder": {"GroupQueryAttention": 2, "MultiHeadAttention": 2}},
    "bilstm": {"heads": {"LSTM": 2}},
    "bigru": {"heads": {"GRU": 1}},
    "rnn": {"score": {"RNN": 1}, "decoder": {"RNN": 1}, "heads": {"RNN": 1}},
    "lstm": {"score": {"LSTM": 2}, "decoder": {"LSTM": 2}, "heads": {"LSTM": 2}},
    "gru": {"score": {"GRU": 2}, "decoder": {"GRU": 2}, "heads": {"GRU": 2}},
}


def ignored(progress: Progress) -> None:
    """A report that nobody reads."""


@pytest.mark.parametrize("name", LAYERS)
def test_the_proof_counts_them(name: str) -> None:
    """How many layers each tiny model has stands in `tiny.py` and `packed.py`."""
    proof = load_package(package(name)).parity
    for graph, operators in LAYERS[name].items():
        for operator, number in operators.items():
            assert proof["wanted"][graph][operator] == number  # type: ignore[index]
            assert proof["operators"][graph][operator] == number  # type: ignore[index]
        assert proof["wanted"][graph]["SkipLayerNormalization"] == 0  # type: ignore[index]


@pytest.mark.slow  # traced
def test_a_traced_package_wants_nothing_and_shows_what_it_has() -> None:
    proof = load_package(package("blenderbot")).parity
    assert proof["wanted"] == {}
    assert proof["operators"]["decoder"]["MatMul"] > 0  # type: ignore[index]


def test_rounding_keeps_what_is_wanted() -> None:
    proof = load_package(package("llama", "int8")).parity
    assert proof["operators"]["decoder"]["GroupQueryAttention"] == 1  # type: ignore[index]
    assert proof["operators"]["decoder"]["MatMulInteger"] == 5  # type: ignore[index]


def test_a_graph_that_lacks_one_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is right; a layer was built of something else."""

    def taken_apart(model_folder: Path, *, out: Path, **rest: object) -> None:
        shutil.copytree(package("gpt2"), out, dirs_exist_ok=True)
        made = load_package(out)
        write_manifest(
            out,
            model=made.model,
            precision=made.precision,
            graphs=made.graphs,
            emitter=made.emitter,
            operators={"decoder": {"GroupQueryAttention": 3}},
        )

    monkeypatch.setattr("lmtasks.prove.export.export_model", taken_apart)
    said = r"failed its proof .*: the decoder graph has 2 GroupQueryAttention, and the shape of the model asks for 3\."
    with pytest.raises(WorkError, match=said):
        export_and_prove(model_folder("gpt2"), out=tmp_path / "out", precision="fp32", texts=TEXTS, report=ignored)
    assert not list(tmp_path.iterdir())


def test_what_is_slower_is_told_too() -> None:
    wanted = {"heads": {"SkipLayerNormalization": 0}}
    assert missing_operators(wanted, {"heads": {"SkipLayerNormalization": 2}}).startswith("the heads graph has 2 Skip")
    assert not missing_operators(wanted, {"heads": {"LayerNormalization": 2}})
