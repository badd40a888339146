"""What only the native runtime does: classes weighed by n-grams, every way of sampling, and what its folders refuse."""

from pathlib import Path

import numpy as np
import pytest
from packed import native_folder, padded, random_rows

from lmtasks.engine.engine import Engine
from lmtasks.engine.requests import GenerateRequest, ScoreRequest
from lmtasks.errors import UsageError
from lmtasks.model.closed_form import FittedModel, NgramClasses, load_fitted
from lmtasks.model.store import card_of, load_model
from lmtasks.records import TokenBatch
from lmtasks.runtime.native import NativeRuntime
from lmtasks.runtime.open import list_runtimes, open_runtime
from lmtasks.settings.generation import Decoding
from lmtasks.workflow.open_model import runtime_for


@pytest.fixture(scope="module")
def folder() -> Path:
    """An n-gram model with a head of two classes: texts of cats, and of dogs."""
    return native_folder()


@pytest.fixture(scope="module")
def runtime(folder: Path) -> NativeRuntime:
    return NativeRuntime(load_fitted(folder))


ROWS = [[number % 12 for number in row] for row in random_rows(6, 2, 9, 4)]


def test_a_head_weighs_its_classes_by_their_models(runtime: NativeRuntime, folder: Path) -> None:
    from lmtasks.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder / "backbone")
    rows = [list(tokenizer.encode_for_head(text).ids) for text in ("the cat sat on the mat", "a dog saw a cat")]
    logits = runtime.predict("which", padded(rows))
    assert logits.argmax(1).tolist() == [0, 1]
    model = load_fitted(folder).heads["which"]
    assert isinstance(model, NgramClasses)
    wanted = [float(each.row_logprobs([np.array(rows[0])])[0]) for each in model.models] + model.prior
    np.testing.assert_allclose(logits[0], wanted, rtol=1e-6)
    np.testing.assert_allclose(runtime.predict("which", padded(rows[1:])), logits[1:], rtol=1e-6)


def test_the_engine_writes_by_every_way_of_sampling(runtime: NativeRuntime, folder: Path) -> None:
    from lmtasks.data.tokenizer import load_tokenizer

    engine = Engine(runtime, load_tokenizer(folder / "backbone"))
    prompt = tuple(engine.tokenizer.encode("the cat sat"))
    ways = [
        Decoding(max_new_tokens=6),
        Decoding(max_new_tokens=6, num_beams=3),
        Decoding(max_new_tokens=6, temperature=0.8, top_k=5, top_p=0.9, min_p=0.05),
        Decoding(max_new_tokens=6, repetition_penalty=1.3),
    ]
    asked = [GenerateRequest(prompt_ids=prompt, settings=way, seed=1) for way in ways]
    found = engine.generate(asked)
    assert found[0].text.strip().startswith("on the")
    assert [each.ids for each in engine.generate(asked)] == [each.ids for each in found]
    greedy = (*found[0].ids, *([engine.tokenizer.eos] if found[0].stopped == "end" else []))
    scored = engine.score([ScoreRequest(context_ids=prompt, target_ids=tuple(greedy))])[0]
    assert scored.greedy


def test_a_folder_opens_in_its_own_runtime_alone(folder: Path, tmp_path: Path) -> None:
    assert runtime_for(folder, wanted=None) == "native"
    opened = open_runtime(folder, runtime="native")
    assert (opened.card.runtime, opened.card.precision, opened.card.device) == ("native", "fp32", "cpu")
    assert opened.card.size_bytes > 0
    assert opened.model == card_of(folder)
    assert opened.model.weights_hash
    assert "native" in [info.name for info in list_runtimes()]
    with pytest.raises(UsageError, match="runs in native alone, and is neither trained further nor exported"):
        load_model(folder)
    with pytest.raises(UsageError, match=r"native cannot compute in .int8. here; it can in: fp32"):
        open_runtime(folder, runtime="native", precision="int8")
    with pytest.raises(UsageError, match=r"is no model of ngram, .* use --runtime torch"):
        open_runtime(tmp_path, runtime="native")


def test_what_it_cannot_do_is_said(runtime: NativeRuntime, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown head 'wich'; did you mean 'which'\?"):
        runtime.predict("wich", padded(ROWS))
    with pytest.raises(UsageError, match="head 'say' of model writes text"):
        runtime.predict("say", padded(ROWS))
    model = load_fitted(folder)
    heads_only = NativeRuntime(FittedModel(card=model.card, sizes=model.sizes, ends=model.ends, heads=model.heads))
    assert not heads_only.sharing.prefix
    assert heads_only.slots(rows=1, length=1) is None
    with pytest.raises(UsageError, match="answers by heads alone; it predicts no tokens"):
        heads_only.prefill(TokenBatch(ids=np.array([[1]]), mask=np.array([[True]])))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("backbone/config.json", b"{", "is damaged"),
        ("backbone/config.json", b'{"sizes": {"ordr": 3}, "ends": []}', "is damaged"),
        ("backbone/model.safetensors", b"123", "not a safetensors file|cut short|cannot be read"),
        ("heads/which/head.safetensors", None, "lacks heads/which/head.safetensors"),
    ],
)
def test_a_damaged_folder_is_said(folder: Path, tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "model")
    if content is None:
        (tmp_path / "model" / file).unlink()
    else:
        (tmp_path / "model" / file).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_fitted(tmp_path / "model")
