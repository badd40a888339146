"""Similarity and retrieval go the whole line: answered by pooled states before anything is adapted, better afterwards,
in torch and in packages alike."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_checkpoint

import lmtasks
from lmtasks.cli.main import run
from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.evaluation.baseline_fitted import Bm25
from lmtasks.model.store import card_of
from lmtasks.settings.data import DataAccess
from lmtasks.task.kinds.retrieval import CORPUS, Corpus
from lmtasks.task.load import load_task

WORDS = ("apple", "river", "engine", "violin", "desert", "candle", "harbour", "pepper", "ladder", "meadow")
Rows = list[dict[str, object]]
LOOK = "inputs: {text: q, right: a}\nmetrics: [ndcg_10, recall_1, mrr]\n"
ALIKE = "inputs: {text: q, pair: a, number: n}\n"


def asked(count: int, *, start: int = 0) -> Rows:
    """Each text answers the query of its own number."""
    return [
        {"q": f"who has the {WORDS[n % 10]} number {n}", "a": f"i kept the {WORDS[n % 10]} of day {n}"}
        for n in range(start, start + count)
    ]


def alike(count: int) -> Rows:
    """The more words are of the same half of the vocabulary, the more alike, whichever words they are."""
    draw = np.random.default_rng(count)
    rows: Rows = []
    for _ in range(count):
        first, second = (int(draw.integers(5)) for _ in range(2))  # words of the second half, of four
        texts = [
            " ".join([*draw.choice(WORDS[5:], size=half), *draw.choice(WORDS[:5], size=4 - half)])
            for half in (first, second)
        ]
        rows.append({"q": texts[0], "a": texts[1], "n": 4.0 - abs(first - second)})
    return rows


def written(folder: Path, rows: Rows, *, kind: str, more: str, train: Rows | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    files = {"test": rows, **({"train": train} if train else {})}
    for split, part in files.items():
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in part))
    listed = ", ".join(f"{split}: {split}.jsonl" for split in files)
    (folder / "task.yaml").write_text(
        f"task: {kind}_task\nkind: {kind}\ndataset_path: json\ndataset_kwargs: {{data_files: {{{listed}}}}}\n"
        f"{'training_split: train' if train else ''}\ntest_split: test\n{more}"
    )
    return folder / "task.yaml"


def scores(folder: Path, metric: str) -> Mapping[str, float]:
    found = {}
    for file in folder.glob("*/results.json"):
        (task,) = json.loads(file.read_text())["results"].values()
        found[file.parent.name] = task["metrics"][metric]["value"]
    return found


@pytest.mark.parametrize("kind", ["similarity", "retrieval"])
def test_a_checkpoint_answers_and_its_package_answers_alike(tmp_path: Path, kind: str) -> None:
    look = kind == "retrieval"
    task = written(
        tmp_path / "task",
        asked(30) if look else alike(50),
        train=asked(60, start=30) if look else alike(200),
        kind=kind,
        more=LOOK if look else ALIKE,
    )
    bare = tiny_checkpoint(tmp_path / "bert", "bert")
    package = lmtasks.export(bare, out=tmp_path / "package", progress=False)
    assert json.loads((package.folder / "parity.json").read_text())["ok"] is True
    model = lmtasks.adapt(bare, task, out=tmp_path / "model", epochs=25, learning_rate=3e-3, progress=False)
    adapted = lmtasks.export(model, out=tmp_path / "adapted", progress=False)
    results = lmtasks.evaluate(
        [bare, package, model, adapted, "trivial", "classical"], task, out=tmp_path / "out", progress=False
    )
    assert not results.failed
    found = scores(tmp_path / "out", "ndcg_10" if look else "spearman")
    assert found["bert"] == pytest.approx(found["package"], abs=1e-6)
    assert found["model"] == pytest.approx(found["adapted"], abs=1e-6)
    assert found["model"] > found["bert"] + 0.05
    assert found["classical"] > (0.9 if look else 0.1)
    text = "who has the river number 1"
    typed = text if look else json.dumps({"q": "apple river", "a": "river apple"})
    (one,) = lmtasks.predict(model, [typed], task, progress=False).answers
    (two,) = lmtasks.predict(adapted, [typed], task, progress=False).answers
    assert one == two
    assert one.startswith("i kept the") if look else -1 <= float(one) <= 1


def test_prompt_gives_a_causal_model_a_head_that_is_exported(tmp_path: Path) -> None:
    task = written(tmp_path / "task", asked(20), kind="retrieval", more=LOOK)
    bare = tiny_checkpoint(tmp_path / "llama", "llama")
    plain = lmtasks.export(bare, out=tmp_path / "plain", progress=False)
    with pytest.raises(UsageError, match="has no doc_to_text to prompt with; it is answered by a head alone"):
        lmtasks.evaluate(plain, task, out=tmp_path / "no", progress=False)
    model = lmtasks.adapt(
        bare, task, out=tmp_path / "model", method="prompt", pooling="last", attention="both", progress=False
    )
    (head,) = card_of(model.folder).heads
    assert (head.name, head.kind, head.pooling, head.attention) == ("retrieval_task", "embedding", "last", "both")
    package = lmtasks.export(model, out=tmp_path / "package", progress=False)
    lmtasks.evaluate([model, package, bare], task, out=tmp_path / "out", progress=False)
    found = scores(tmp_path / "out", "mrr")
    assert found["model"] == pytest.approx(found["package"], abs=1e-6)
    assert set(found) == {"model", "package", "llama"}


def test_a_probe_of_vectors_alone_has_nothing_to_learn(tmp_path: Path) -> None:
    task = written(tmp_path / "task", alike(10), train=alike(30), kind="similarity", more=ALIKE)
    with pytest.raises(UsageError, match="a probe trains heads alone, and heads that write or answer with vectors"):
        lmtasks.adapt(
            tiny_checkpoint(tmp_path / "bert", "bert"), task, out=tmp_path / "m", method="probe", progress=False
        )


def test_a_folder_of_sentence_transformers_says_its_pooling_and_prompts(tmp_path: Path) -> None:
    bare = tiny_checkpoint(tmp_path / "bert", "bert")
    own = card_of(bare).vectors
    assert own is not None
    assert (own.pooling, own.query_prefix, own.width) == ("mean", "", 32)
    (bare / "1_Pooling").mkdir()
    (bare / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (bare / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "document": "passage: "}})
    )
    own = card_of(bare).vectors
    assert own is not None
    assert (own.pooling, own.query_prefix, own.text_prefix) == ("first", "query: ", "passage: ")
    (bare / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    assert card_of(bare).vectors is None


def test_prefixes_that_are_given_count_and_stand_in_the_package(tmp_path: Path) -> None:
    task = written(tmp_path / "task", asked(20), kind="retrieval", more=LOOK)
    bare = tiny_checkpoint(tmp_path / "bert", "bert")
    model = lmtasks.adapt(
        bare,
        task,
        out=tmp_path / "model",
        method="prompt",
        query_prefix="query: ",
        text_prefix="passage: ",
        progress=False,
    )
    package = lmtasks.export(model, out=tmp_path / "package", progress=False)
    lmtasks.evaluate([bare, model, package], task, out=tmp_path / "out", progress=False)
    found = scores(tmp_path / "out", "mrr")
    assert found["model"] == pytest.approx(found["package"], abs=1e-6)
    samples = [json.loads(line) for line in (tmp_path / "out" / "model" / "samples-retrieval_task.jsonl").open()]
    plain = [json.loads(line) for line in (tmp_path / "out" / "bert" / "samples-retrieval_task.jsonl").open()]
    assert [each["raw"] for each in samples] != [each["raw"] for each in plain]
    assert all(len(each["raw"]) == 10 for each in samples)
    assert samples[0]["doc"]["corpus"].startswith("20 texts, ")


def test_the_corpus_is_the_whole_split_whatever_is_scored(tmp_path: Path) -> None:
    task = load_task(written(tmp_path / "task", [*asked(12), *asked(1)], kind="retrieval", more=LOOK))
    for limit in (None, 3):
        data = load_task_data(task, options=DataAccess(offline=True), need=frozenset({"test"}), limit=limit)
        assert data.test is not None
        corpus = data.test.rows[0][CORPUS]
        assert isinstance(corpus, Corpus)
        assert len(corpus.texts) == 12


def test_a_corpus_of_its_own_and_several_right_texts(tmp_path: Path) -> None:
    rows: Rows = [{"q": "river", "a": ["the river", "a river"]}, {"q": "lone candle", "a": "candle light"}]
    texts = ["the river", "a river", "candle light", "desert sand", "an engine"]
    file = written(
        tmp_path / "task",
        rows,
        kind="retrieval",
        more="inputs: {text: q, right: a}\nmetrics: [recall_1, recall_2, ndcg_10]\n"
        "corpus: {path: json, data_files: corpus.jsonl, text: t}\n",
    )
    (tmp_path / "task" / "corpus.jsonl").write_text("\n".join(json.dumps({"t": text}) for text in texts))
    lmtasks.evaluate("bm25", file, out=tmp_path / "out", progress=False)
    (found,) = json.loads((tmp_path / "out" / "results.json").read_text())["results"].values()
    assert found["metrics"]["recall_1"]["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["metrics"]["recall_2"]["value"] == found["metrics"]["ndcg_10"]["value"] == 1.0
    (tmp_path / "task" / "corpus.jsonl").write_text(json.dumps({"t": "the river"}) + "\n" + json.dumps({"t": "sand"}))
    with pytest.raises(UsageError, match="row 0: the right text 'a river' is none of the 2 of the corpus"):
        lmtasks.evaluate("bm25", file, out=tmp_path / "other", progress=False)


def test_bm25_of_a_corpus_is_bm25_of_each_text() -> None:
    texts = ["red apple", "red pear tree red", "blue", ""]
    terms = Bm25(texts)
    asked = ["red car", "blue apple apple", "green"]
    table = (terms.asked(asked) @ terms.weights(texts)).toarray()
    assert table == pytest.approx(np.array([terms.scores(each, texts) for each in asked]))


def test_stored_samples_are_scored_again(tmp_path: Path) -> None:
    task = written(tmp_path / "task", asked(20), kind="retrieval", more=LOOK)
    lmtasks.evaluate("tfidf-cosine", task, out=tmp_path / "out", progress=False)
    before = json.loads((tmp_path / "out" / "results.json").read_text())["results"]["retrieval_task"]["metrics"]
    run(["eval", "--rescore", str(tmp_path / "out"), "--metrics", "mrr,recall_5", "--out", str(tmp_path / "again")])
    after = json.loads((tmp_path / "again" / "results.json").read_text())["results"]["retrieval_task"]["metrics"]
    assert after["mrr"]["value"] == before["mrr"]["value"]
    assert after["recall_5"]["value"] >= before["recall_1"]["value"]


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("retrieval", {"a": []}, r"row 1: 'a' \(inputs.right\) names no right text"),
        ("retrieval", {"a": ["x", 3]}, r"row 1: 'a' \(inputs.right\) must be a text or a list of texts, was: '3'"),
        ("similarity", {"n": "much"}, r"row 1: 'n' \(inputs.number\) must be a finite number, was: 'much'"),
        ("similarity", {"n": [1, 2]}, r"row 1: 'n' \(inputs.number\) must be a finite number, was: '\[1, 2\]'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, kind: str, row: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"q": "who", "a": "i", "n": 1.0}
    rows = [good, {**good, **row}, {**good, "a": "you", "n": 2.0}]
    file = written(tmp_path / "task", rows, kind=kind, more=LOOK if kind == "retrieval" else ALIKE)
    with pytest.raises(UsageError, match=message):
        lmtasks.evaluate("bm25" if kind == "retrieval" else "shared-words", file, out=tmp_path / "o", progress=False)


def test_what_leaves_nothing_to_look_for_is_refused(tmp_path: Path) -> None:
    one: Rows = [{"q": "who", "a": "i"}, {"q": "when", "a": "i"}]
    with pytest.raises(UsageError, match=r"a corpus of 1 different texts \(2 rows\) leaves nothing to look for"):
        lmtasks.evaluate(
            "bm25", written(tmp_path / "a", one, kind="retrieval", more=LOOK), out=tmp_path / "o", progress=False
        )
    with pytest.raises(UsageError, match="an example has 6 candidates, fewer than the 10 of recall_10"):
        lmtasks.evaluate(
            "bm25",
            written(tmp_path / "b", asked(6), kind="retrieval", more="inputs: {text: q, right: a}\n"),
            out=tmp_path / "o",
            progress=False,
        )
    text = written(tmp_path / "c", alike(6), kind="similarity", more=ALIKE).read_text()
    (tmp_path / "c" / "task.yaml").write_text(text + "corpus: {path: json, data_files: test.jsonl, text: a}\n")
    with pytest.raises(UsageError, match="a corpus is what a retrieval looks in, and a similarity task has none"):
        load_task(tmp_path / "c" / "task.yaml")
