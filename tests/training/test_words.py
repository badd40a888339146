"""Words of a head: TF-IDF of n-grams beside the states, alike in the fit, in torch and in graphs, padded anyhow."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from test_adapt import finds, moods
from tiny import TEXTS, tiny_checkpoint

from lmtasks.data.examples import HeadExamples, TrainingExample
from lmtasks.data.tokenizer import load_tokenizer
from lmtasks.errors import UsageError
from lmtasks.export.package import load_package
from lmtasks.head.module import TokenRows
from lmtasks.head.words import FIRST, MOST_WEIGHTS, KnownNgrams, most_ngrams, ngrams_of
from lmtasks.model.store import card_of, load_model, read_provenance, save_model
from lmtasks.prove.export import export_and_prove
from lmtasks.records import Floats32, HeadSpec, TokenBatch
from lmtasks.runtime.open import open_runtime
from lmtasks.settings.training import AdaptSettings, ProbeSettings
from lmtasks.training.adapt import adapt
from lmtasks.training.features import FeatureReader
from lmtasks.training.judging import score_heads
from lmtasks.training.probe import Targets, fit_logistic

LOGISTIC = AdaptSettings(method="probe", probe=ProbeSettings(fit="logistic", strength=0.3))
STILL = AdaptSettings(learning_rate=1e-12, epochs=1, evaluations=1)


def rows_of(count: int, *, seed: int = 0, most: int = 60) -> list[tuple[int, ...]]:
    draw = np.random.default_rng(seed)
    return [tuple(int(token) for token in draw.integers(5, most, draw.integers(1, 9))) for _ in range(count)]


def made(folder: Path, architecture: str, head: HeadExamples, settings: AdaptSettings) -> Path:
    backbone = folder / f"{architecture}-backbone"
    if not backbone.is_dir():
        tiny_checkpoint(backbone, architecture)
    out = folder / f"model-{len(list(folder.iterdir()))}"
    adapt(backbone=backbone, prepare=lambda _: [head], settings=settings, out=out, report=lambda _: None)
    return out


def padded(rows: Sequence[Sequence[int]], *, left: int, right: int) -> TokenBatch:
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), left + width + right), 7)
    mask = np.zeros(ids.shape, dtype=np.bool_)
    for number, row in enumerate(rows):
        ids[number, left : left + len(row)], mask[number, left : left + len(row)] = row, True
    return TokenBatch(ids=ids, mask=mask)


def answers(folder: Path, runtime: str, batch: TokenBatch, *, head: str = "mood") -> Floats32:
    opened = open_runtime(folder, runtime=runtime, threads=1)
    found: Floats32 = opened.predict(head, batch)
    opened.close()
    return found


def test_rows_are_what_scikit_learn_has() -> None:
    """Where no n-gram stands twice in a row; a repeated one counts by its places, in the product and in the length."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = [tuple(dict.fromkeys(row)) for row in rows_of(50)]
    theirs = TfidfVectorizer(token_pattern=r"\d+", ngram_range=(1, 2))
    texts = [" ".join(map(str, row)) for row in rows]
    wanted = theirs.fit_transform(texts[:40]).toarray()
    ours = KnownNgrams.of([ngrams_of(row) for row in rows[:40]], most=10_000)
    assert ours.matrix([ngrams_of(row) for row in rows[:40]]).shape == wanted.shape
    unseen = theirs.transform(texts[40:]).toarray()
    for found, texts_ in ((rows[:40], wanted), (rows[40:], unseen)):
        matrix = ours.matrix([ngrams_of(row) for row in found]).toarray()
        np.testing.assert_allclose(matrix @ matrix.T, texts_ @ texts_.T, atol=1e-12)
    twice = ours.matrix([ngrams_of((rows[0][0],)), ngrams_of((rows[0][0], 4, rows[0][0]))]).toarray()
    np.testing.assert_allclose(twice.sum(1)[1], twice.sum(1)[0] * 2**0.5)


def test_every_ngram_is_found_and_no_other() -> None:
    known = KnownNgrams.of([ngrams_of(row) for row in rows_of(9000, most=3000)], most=20_000)
    table = known.table(np.arange(len(known.ngrams), dtype=np.float64)[None] + 1)
    assert len(known.ngrams) == 20_000
    assert sorted(table.slots[table.slots > 0]) == list(range(1, 20_001))
    assert len(table.slots) < 3 * 20_000
    assert most_ngrams(4) == 65_536
    assert most_ngrams(150) == MOST_WEIGHTS // 150


def test_the_most_frequent_ones_are_kept() -> None:
    rows = [ngrams_of(row) for row in ((5, 6), (5, 7), (5, 6), (8,))]
    assert KnownNgrams.of(rows, most=2).ngrams.tolist() == [5, 6]


@pytest.mark.parametrize("architecture", ["llama", "bert", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_torch_and_graphs_answer_as_the_fit(architecture: str, tmp_path: Path) -> None:
    """Whatever is padded on either side; also of unknown n-grams, of one token, and in a batch of others. Gemma 2 is
    traced."""
    model = made(tmp_path, architecture, moods(), LOGISTIC)
    package = tmp_path / "package"
    assert export_and_prove(model, out=package, precision="fp32", texts=TEXTS, report=lambda _: None).parity.ok
    assert load_package(package).emitted == (architecture != "gemma2")
    loaded = load_model(model)
    rows = [*dict.fromkeys(row.ids for row in moods().train[:6]), (40,), (90, 91, 92, 93), (13, 40, 40, 40, 10)]
    examples = [TrainingExample(ids=row, targets=(0,)) for row in rows]
    states = np.concatenate(FeatureReader(loaded, kept=None, precision="fp32").read("mood", examples))
    train = moods().train
    learned = np.concatenate(FeatureReader(loaded, kept=None, precision="fp32").read("mood", train))
    fitted = fit_logistic(
        Targets(
            states=learned.astype(np.float64),
            labels=np.array([row.targets[0] for row in train]),
            ngrams=[ngrams_of(row.ids) for row in train],
        ),
        classes=2,
        judged=None,
        strength=0.3,
        seed=0,
    )
    known = KnownNgrams.of([ngrams_of(row.ids) for row in train], most=most_ngrams(2))
    assert fitted.words is not None
    columns = fitted.words.weights[1:].T / known.idf
    wanted = states @ fitted.weights.T + fitted.bias + known.matrix([ngrams_of(row) for row in rows]) @ columns.T
    for runtime, folder in (("torch", model), ("onnx", package)):
        together = answers(folder, runtime, padded(rows, left=0, right=3))
        np.testing.assert_allclose(together, wanted, atol=2e-3)
        np.testing.assert_allclose(answers(folder, runtime, padded(rows, left=4, right=0)), together, atol=1e-4)
        alone = np.concatenate([answers(folder, runtime, padded([row], left=0, right=0)) for row in rows])
        np.testing.assert_allclose(alone, together, atol=1e-4)
    silent = load_model(model)
    silent.head("mood").get_submodule("words").weight.data.zero_()  # type: ignore[union-attr, operator]
    ids = torch.tensor([rows[0]])
    with torch.no_grad():
        without = silent.head_logits("mood", ids, torch.ones_like(ids, dtype=torch.bool)).numpy()
    assert np.abs(without - wanted[:1]).max() > 0.05


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_tables_are_rounded_as_others_are(precision: str, tmp_path: Path) -> None:
    """Of 1,024 rows and more in 8 bits; what finds n-grams stays as it is."""
    train = tuple(
        TrainingExample(ids=(*row, 5 if number % 2 else 6), targets=(number % 2,))
        for number, row in enumerate(rows_of(600, most=200))
    )
    head = HeadExamples(
        head=HeadSpec(name="mood", kind="classification", labels=("a", "b")),
        train=train,
        validation=train[:20],
        truncated=0,
        fingerprint="many",
    )
    model = made(tmp_path, "llama", head, LOGISTIC)
    assert card_of(model).heads[0].words > 1024
    package = tmp_path / "package"
    export_and_prove(model, out=package, precision="fp32", texts=TEXTS, report=lambda _: None)
    rounded = tmp_path / precision
    if precision == "fp16":
        from lmtasks.export.emit import load_graphs
        from lmtasks.export.graph import save_graphs
        from lmtasks.export.half import to_half

        graphs = load_graphs(load_package(package))
        assert to_half(graphs["heads"], precision=precision) > 10
        rounded.mkdir()
        save_graphs({rounded / "heads.onnx": graphs["heads"]}, weights=rounded / "weights.bin")
        names = {str(node.inputs[0].name) for node in graphs["heads"].graph if node.op_type == "Gather"}  # type: ignore[union-attr]
        assert "head.mood.words.weight" in names
        tables = graphs["heads"].graph.initializers
        assert tables["head.mood.words.ngrams"].dtype is not None
        assert tables["head.mood.words.ngrams"].dtype.name == "INT64"
        return
    export_and_prove(model, out=rounded, precision=precision, texts=TEXTS, report=lambda _: None)
    batch = padded([row.ids for row in train[:40]], left=0, right=2)
    whole, less = (answers(folder, "onnx", batch) for folder in (package, rounded))
    assert 0 < np.abs(whole - less).max() < 0.5
    assert (whole.argmax(1) == less.argmax(1)).mean() > 0.9


def test_no_ngram_reaches_over_the_border_of_two_texts(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_checkpoint(tmp_path / "there", "llama"))
    one, two = tokenizer.encode("the cat"), tokenizer.encode("a dog")
    pair = tokenizer.encode_for_head("the cat", "a dog").ids
    assert pair[: len(one)] == tuple(one)
    assert ngrams_of((one[-1], two[0]))[-1] not in ngrams_of(pair)
    assert ngrams_of((one[-1], two[0]))[-1] in ngrams_of((*one, *two))


def test_words_say_nothing_while_a_head_learns(tmp_path: Path) -> None:
    """They know the training rows by heart: a backbone behind them would have nothing to learn from."""
    head = load_model(made(tmp_path, "llama", moods(), STILL)).head("mood")
    head.dropout.p = 0.0
    states, mask = torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool)
    known = head.word_table.ngrams[1:4]  # type: ignore[union-attr]
    tokens = TokenRows(ids=torch.from_numpy(known % FIRST).expand(2, 3), mask=mask)
    learning, answering = head.train()(states, mask, tokens), head.eval()(states, mask, tokens)
    table = head.get_submodule("words")
    torch.testing.assert_close(learning + table(tokens), answering)
    assert (learning - answering).abs().max() > 1e-3
    assert not table.weight.requires_grad


def test_words_are_found_where_regression_is_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few rows, and of more up to a number; random weights of a backbone are not worth it."""
    rows = len(moods().train)
    monkeypatch.setattr("lmtasks.training.pace.FEW_ROWS", rows - 1)
    assert card_of(made(tmp_path, "llama", moods(), STILL)).heads[0].words > 10
    monkeypatch.setattr("lmtasks.training.adapt_plan.MOST_BEGUN", rows - 1)
    assert card_of(made(tmp_path, "llama", moods(), STILL)).heads[0].words == 0


def test_few_rows_have_words_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    model = made(tmp_path, "llama", moods(), STILL)
    count = card_of(model).heads[0].words
    assert count > 10
    assert read_provenance(model)["tasks"]["mood"]["words"] == count  # type: ignore[index]
    assert score_heads(load_model(model), [moods()], pad_id=1) == 1.0
    for settings in (STILL.but({"words": "no"}), STILL.but({"new_heads": "random"})):
        other = made(tmp_path, "llama", moods(), settings)
        assert card_of(other).heads[0].words == 0
        assert "words" not in read_provenance(other)["tasks"]["mood"]  # type: ignore[index, operator]
    asked = made(tmp_path, "llama", moods(), STILL.but({"words": "yes", "method": "lora"}))
    assert card_of(asked).heads[0].words == count


def test_a_model_with_words_is_read_as_it_was_written_and_learns_on(tmp_path: Path) -> None:
    model = made(tmp_path, "llama", moods(), STILL)
    loaded = load_model(model)
    save_model(loaded, tmp_path / "again", provenance={})
    assert card_of(tmp_path / "again").weights_hash == card_of(model).weights_hash
    again = load_model(tmp_path / "again").head("mood").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in loaded.head("mood").state_dict().items())
    spec = card_of(model).heads[0]
    backbone = sum(parameter.numel() for parameter in loaded.backbone.parameters())
    assert card_of(model).parameters == backbone + 2 * 32 + 2 + 3 * (spec.words + 1)
    out = tmp_path / "on"
    better = iter(range(99))
    adapt(
        backbone=model,
        prepare=lambda _: [moods()],
        settings=AdaptSettings(learning_rate=1e-2, epochs=2, evaluations=1),
        out=out,
        report=lambda _: None,
        validate=lambda _: next(better),
    )
    learned, before = (load_model(folder).head("mood").state_dict() for folder in (out, model))
    assert torch.equal(learned["words.weight"], before["words.weight"])
    assert (learned["output.weight"] - before["output.weight"]).abs().max() > 1e-3
    assert card_of(out).heads[0].words == spec.words
    adapt(
        backbone=model,
        prepare=lambda _: [moods()],
        settings=LOGISTIC.but({"words": "no"}),
        out=tmp_path / "without",
        report=lambda _: None,
    )
    assert card_of(tmp_path / "without").heads[0].words == 0


def test_a_folder_of_an_earlier_version_has_no_words(tmp_path: Path) -> None:
    model = made(tmp_path, "llama", moods(), STILL.but({"words": "no"}))
    file = model / "model.json"
    content = json.loads(file.read_text())
    assert content["card"]["heads"][0].pop("words") == 0
    file.write_text(json.dumps(content))
    (model / "checksums.json").unlink()
    assert card_of(model).heads[0].words == 0
    assert load_model(model).head("mood").word_table is None


def test_a_temperature_is_divided_out_of_words_too(tmp_path: Path) -> None:
    batch = padded([row.ids for row in moods().train[:8]], left=0, right=0)
    settings = AdaptSettings(learning_rate=1e-12, epochs=1, evaluations=1)
    head = HeadExamples(**{**vars(moods()), "validation": moods().train})
    plain, calm = (made(tmp_path, "llama", head, settings.but({"calibrate": each})) for each in (False, True))
    temperature = read_provenance(calm)["calibration"]["mood"]["temperature"]  # type: ignore[index]
    assert abs(temperature - 1) > 0.05
    np.testing.assert_allclose(
        answers(calm, "torch", batch) * temperature, answers(plain, "torch", batch), rtol=1e-3, atol=1e-3
    )


def test_what_cannot_have_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no task here has such a head \(span\)"):
        made(tmp_path, "llama", finds(), STILL.but({"words": "yes"}))
    assert AdaptSettings.model_validate({"words": False}).words == "no"
    for settings in ({"method": "prompt"}, {"method": "probe"}, {"new_heads": "random"}):
        with pytest.raises(UsageError, match=r"found by logistic regression|learns none"):
            AdaptSettings(words="yes", **settings)  # type: ignore[arg-type]
