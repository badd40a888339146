"""Files of vectors: whole or refused; and passages, the same whoever cuts."""

from pathlib import Path

import numpy as np
import pytest

from lmtasks.data.documents import passages
from lmtasks.data.vectors import EmbeddingModel, read_vectors, text_key, write_vectors
from lmtasks.errors import UsageError

ENCODER = EmbeddingModel(name="one", hash="h", pooling="mean", prefix="query: ", max_length=8, passages=400)


def written(folder: Path) -> Path:
    file = folder / "v.safetensors"
    write_vectors(file, encoder=ENCODER, vectors={text_key(text): [1.0, len(text) / 8] for text in ("a", "bb", "ccc")})
    return file


def test_vectors_come_back_by_text(tmp_path: Path) -> None:
    found = read_vectors(written(tmp_path))
    assert found.encoder == ENCODER
    assert found.width == 2
    assert found.values[found.keys.index(text_key("bb"))].tolist() == [1.0, 0.25]


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    whole = file.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="cut short or damaged"):
            read_vectors(file)


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match="was changed since"):
        read_vectors(file)


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(UsageError, match="other tensors"):
        read_vectors(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="lmtasks embed makes one"):
        read_vectors(tmp_path / "none.safetensors")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not finite in 16 bits"):
        write_vectors(tmp_path / "v.safetensors", encoder=ENCODER, vectors={b"0" * 16: [1e6]})


def test_passages_are_whole_sentences_of_many_lengths() -> None:
    draw = np.random.default_rng(0)
    sentences = [" ".join(["word"] * int(draw.integers(2, 30))) + f" {number}." for number in range(400)]
    cut = list(passages(" ".join(sentences), limit=200))
    assert " ".join(cut).split() == " ".join(sentences).split()
    sizes = [len(passage.encode()) for passage in cut]
    assert max(sizes) <= 200
    assert min(sizes) < 40 < 120 < max(sizes)


def test_a_passage_is_cut_alike_wherever_its_document_begins() -> None:
    chinese = "今天天气很好。我们去公园吧！她说：“走吧。”路上有很多人，大家都很高兴。回家的时候已经很晚了。"
    cut = list(passages(chinese, limit=90))
    assert "".join(cut) == chinese
    assert list(passages(f"第一句。\n\n{chinese}", limit=90))[-1] == cut[-1]
