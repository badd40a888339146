"""Probes: features are those of the backbone, are computed once, and carry trained and fitted heads alike."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_adapt import finds, moods
from tiny import tiny_checkpoint
from torch import Tensor

from lmtasks.backbone.transformer import TransformerBackbone
from lmtasks.data.examples import HeadExamples, TrainingExample
from lmtasks.errors import UsageError
from lmtasks.evaluation.cache_store import ByteStore, count_answers
from lmtasks.head.base import IGNORED
from lmtasks.model.model import Model
from lmtasks.model.store import load_model, read_provenance
from lmtasks.records import HeadSpec
from lmtasks.settings.attention import Attention
from lmtasks.settings.training import AdaptSettings, ProbeSettings
from lmtasks.training.adapt import adapt
from lmtasks.training.features import FeatureReader
from lmtasks.training.judging import score_heads
from lmtasks.training.probe import STRENGTHS, Targets, fit_logistic

LOGISTIC = AdaptSettings(method="probe", probe=ProbeSettings(fit="logistic"))


def tags() -> HeadExamples:
    """Tag 1 for the tokens 40 and more; the first token has no word."""
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(24):
        ids = tuple(int(token) for token in draw.integers(20, 60, draw.integers(3, 7)))
        rows.append(TrainingExample(ids=ids, targets=(IGNORED, *(int(token >= 40) for token in ids[1:]))))
    head = HeadSpec(name="tags", kind="tagging", labels=("low", "high"))
    return HeadExamples(head=head, train=tuple(rows), validation=tuple(rows[:6]), truncated=0, fingerprint="tags")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every forward pass of a backbone."""
    counts: list[int] = []
    encode = TransformerBackbone.encode

    def counted(self: TransformerBackbone, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        counts.append(len(ids))
        return encode(self, ids, mask, types)

    monkeypatch.setattr(TransformerBackbone, "encode", counted)
    return counts


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ByteStore]:
    with closing(ByteStore(tmp_path / "features.sqlite")) as opened:
        yield opened


def probe(folder: Path, name: str, head: HeadExamples, settings: AdaptSettings, store: ByteStore | None) -> Model:
    backbone = folder / "backbone"
    if not backbone.is_dir():
        tiny_checkpoint(backbone, "bert")
    out = folder / name
    adapt(backbone=backbone, prepare=lambda _: [head], settings=settings, out=out, report=lambda _: None, kept=store)
    return load_model(out)


def test_ten_probes_cost_one_pass(tmp_path: Path, read: list[int], store: ByteStore) -> None:
    """Seeds, strengths, fits, other labels of the same rows, and fewer rows."""
    rows = moods()
    texts = len({row.ids for row in rows.train})
    other = HeadExamples(
        head=HeadSpec(name="place", kind="classification", labels=("a", "b", "c")),
        train=tuple(TrainingExample(ids=row.ids, targets=(number % 3,)) for number, row in enumerate(rows.train)),
        validation=rows.validation,
        truncated=0,
        fingerprint="place",
    )
    steps = AdaptSettings(method="probe", epochs=3, evaluations=1)
    asked = [
        *((rows, steps.but({"seed": seed})) for seed in (1, 2, 3)),
        *((rows, LOGISTIC.but({"probe": ProbeSettings(fit="logistic", strength=c)})) for c in (0.1, 1.0, 10.0)),
        (rows, LOGISTIC),
        (other, steps),
        (other, LOGISTIC),
        (HeadExamples(**{**vars(rows), "train": rows.train[:8]}), LOGISTIC),
    ]
    for number, (head, settings) in enumerate(asked):
        probe(tmp_path, f"model-{number}", head, settings, store)
    assert sum(read) == texts
    assert count_answers(store.file) == texts
    assert read_provenance(tmp_path / "model-0")["features"] == {"read": texts, "found": 40 - texts}
    assert read_provenance(tmp_path / "model-9")["features"] == {"read": 0, "found": 16}
    probe(tmp_path, "alone", rows, steps, None)
    assert sum(read) > texts


@pytest.mark.parametrize(("architecture", "attention"), [("llama", None), ("llama", "both"), ("bert", None)])
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
def test_features_are_what_the_head_reads(
    architecture: str, attention: Attention | None, pooling: str, tmp_path: Path, store: ByteStore
) -> None:
    """Computed in padded batches and found again, a row's feature gives the logits of the row by itself."""
    model = load_model(tiny_checkpoint(tmp_path / "there", architecture))
    spec = HeadSpec(name="mood", kind="classification", labels=("a", "b"), attention=attention)
    model.add_heads([replace(spec, pooling=pooling)])  # type: ignore[arg-type]
    model.eval()
    rows = [TrainingExample(ids=tuple(range(5, 5 + length)), targets=(0,)) for length in (7, 2, 5, 7)]
    fresh = FeatureReader(model, kept=store, precision="fp32")
    kept = FeatureReader(model, kept=store, precision="fp32")
    for reader in (fresh, kept):
        for row, states in zip(rows, reader.read("mood", rows), strict=True):
            assert states.shape == (1, 32)
            ids = torch.tensor([row.ids])
            with torch.no_grad():
                wanted = model.head_logits("mood", ids, torch.ones_like(ids, dtype=torch.bool))
                found = model.head("mood")(torch.from_numpy(states.copy())[None], torch.ones(1, 1, dtype=torch.bool))
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (fresh.computed, kept.computed) == (3, 0)


def test_features_are_those_of_the_way_that_a_head_is_read(tmp_path: Path, store: ByteStore) -> None:
    """Causally is what a causal backbone does by itself: whether a head says so is no matter."""
    rows = [TrainingExample(ids=(5, 6, 7), targets=(0,))]
    found = []
    for attention, computed in ((None, 1), ("both", 1), ("causal", 0), ("both", 0)):
        for kind in ("classification", "tagging"):
            model = load_model(tiny_checkpoint(tmp_path / "there", "llama"))
            model.add_heads([HeadSpec(name="mood", kind=kind, labels=("a", "b"), attention=attention)])  # type: ignore[arg-type]
            reader = FeatureReader(model, kept=store, precision="fp32")
            found.append(reader.read("mood", rows)[0])
            assert reader.computed == computed
    assert not np.allclose(found[0], found[2])
    assert np.array_equal(found[3], found[7])


def test_features_of_another_pooling_precision_or_model_are_others(tmp_path: Path, store: ByteStore) -> None:
    rows = [TrainingExample(ids=(5, 6, 7), targets=(0,))]
    for seed, pooling, precision in (
        (0, "mean", "fp32"),
        (0, "last", "fp32"),
        (0, "mean", "bf16"),
        (1, "mean", "fp32"),
    ):
        model = load_model(tiny_checkpoint(tmp_path / f"{seed}", "llama", seed=seed))
        model.add_heads([HeadSpec(name="mood", kind="classification", labels=("a", "b"), pooling=pooling)])  # type: ignore[arg-type]
        reader = FeatureReader(model, kept=store, precision=precision)  # type: ignore[arg-type]
        reader.read("mood", rows)
        assert reader.computed == 1
    changed = (tmp_path / "0" / "config.json").read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05')
    (tmp_path / "0" / "config.json").write_text(changed)
    model = load_model(tmp_path / "0")
    model.add_heads([HeadSpec(name="mood", kind="classification", labels=("a", "b"))])
    reader = FeatureReader(model, kept=store, precision="fp32")
    reader.read("mood", rows)
    assert reader.computed == 1


def test_a_damaged_file_of_features_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "features.sqlite"
    with closing(ByteStore(file)) as store:
        whole = probe(tmp_path, "whole", moods(), LOGISTIC, store)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)
    with closing(ByteStore(file)) as store:
        again = probe(tmp_path, "again", moods(), LOGISTIC, store)
        assert read_provenance(tmp_path / "again")["features"]["read"] > 0  # type: ignore[index]
    assert torch.equal(whole.heads[0].output.weight, again.heads[0].output.weight)
    assert list(tmp_path.glob("features.sqlite.*"))


def test_two_that_read_at_once_keep_each_text_once(tmp_path: Path) -> None:
    """Both have opened the file before either has written."""
    model = load_model(tiny_checkpoint(tmp_path / "there", "llama"))
    model.add_heads([HeadSpec(name="mood", kind="classification", labels=("a", "b"))])
    rows = [TrainingExample(ids=(5, 6, number), targets=(0,)) for number in range(9)]
    file = tmp_path / "features.sqlite"
    with closing(ByteStore(file)) as one, closing(ByteStore(file)) as two:
        readers = [FeatureReader(model, kept=each, precision="fp32") for each in (one, two)]
        readers[0].read("mood", rows[:6])
        readers[1].read("mood", rows[3:])
        assert readers[1].found == 3
    assert count_answers(file) == 9


@pytest.mark.parametrize("head", [moods(), tags()], ids=["labels", "tags"])
def test_logistic_regression_is_an_ordinary_head(head: HeadExamples, tmp_path: Path) -> None:
    """Its folded weights give scikit-learn's own probabilities over standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings = LOGISTIC.but({"probe": ProbeSettings(fit="logistic", strength=0.3), "words": "no"})
    model = probe(tmp_path, "model", head, settings, None)
    assert score_heads(model, [head], pad_id=1) > 0.8
    reader = FeatureReader(model, kept=None, precision="fp32")
    states = np.concatenate(reader.read(head.head.name, head.train))
    labels = np.array([target for row in head.train for target in row.targets])
    states, labels = states[labels >= 0], labels[labels >= 0]
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000)).fit(states, labels)
    ours = torch.from_numpy(states) @ model.heads[0].output.weight.T + model.heads[0].output.bias
    np.testing.assert_allclose(ours.softmax(-1).detach().numpy(), theirs.predict_proba(states), atol=2e-3)
    record = read_provenance(tmp_path / "model")
    assert record["trained"]["stopped"] == "fitted"  # type: ignore[index]
    assert record["tasks"][head.head.name]["strength"] == 0.3  # type: ignore[index]


def test_a_strength_is_chosen_by_what_was_not_learned_from() -> None:
    """Of pure noise the weakest fit is best; of well separated classes a strong one."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 200)
    noise = Targets(states=draw.normal(size=(200, 20)), labels=labels)
    clear = Targets(states=noise.states + 3 * labels[:, None], labels=labels)
    weak = fit_logistic(noise, classes=2, judged=None, strength=None, seed=0)
    strong = fit_logistic(clear, classes=2, judged=None, strength=None, seed=0)
    assert weak.strength == STRENGTHS[0]
    assert strong.strength > 0.05
    assert weak.chosen_on == "5 parts of the training rows"
    by_rows = fit_logistic(noise.where(np.arange(200) < 50), classes=2, judged=noise, strength=None, seed=0)
    assert by_rows.chosen_on == "200 validation rows"


def test_a_class_of_one_row_and_a_class_of_none() -> None:
    states = np.array([[0.0, 0], [0, 1], [5, 0], [5, 1], [9, 9]])
    fitted = fit_logistic(
        Targets(states=states, labels=np.array([0, 0, 1, 1, 3])), classes=4, judged=None, strength=None, seed=0
    )
    logits = states @ fitted.weights.T + fitted.bias
    assert logits[:, 2].max() < -1000
    assert logits.argmax(1).tolist()[:4] == [0, 0, 1, 1]
    with pytest.raises(UsageError, match="at least two labels; these have 1"):
        fit_logistic(
            Targets(states=states, labels=np.zeros(5, np.int64)), classes=2, judged=None, strength=None, seed=0
        )


def test_a_span_head_is_no_logistic_regression(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the span head 'find' answers otherwise; use the fit by steps"):
        probe(tmp_path, "model", finds(), LOGISTIC, None)
    steps = AdaptSettings(method="probe", epochs=30, learning_rate=2e-2, tokens_per_batch=64, evaluations=1)
    assert score_heads(probe(tmp_path, "steps", finds(), steps, None), [finds()], pad_id=1) > 0.8


def test_features_too_large_to_hold_are_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = AdaptSettings(method="probe", epochs=3, learning_rate=1e-2, tokens_per_batch=64, evaluations=1)
    held = probe(tmp_path, "held", tags(), steps, None)
    monkeypatch.setattr("lmtasks.training.features.HELD_BYTES", 100)
    streamed = probe(tmp_path, "streamed", tags(), steps, None)
    torch.testing.assert_close(held.heads[0].output.weight, streamed.heads[0].output.weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "full", "probe": ProbeSettings()}, "fit and strength belong to the method probe, was full"),
        ({**dict(LOGISTIC), "epochs": 3.0}, "epochs is about training by steps, and logistic regression takes none"),
        ({**dict(LOGISTIC), "label_smoothing": 0.1}, "label smoothing is about training by steps"),
    ],
)
def test_settings_that_say_nothing_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AdaptSettings(**given)
    with pytest.raises(UsageError, match="a strength belongs to the logistic fit, was steps"):
        ProbeSettings(strength=1.0)
