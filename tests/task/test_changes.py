"""Scored rows changed by a seed: what each change does, which columns it reaches, and what it costs, paired."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmtasks.data.splits import load_task_data
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.rivals import RivalSolver
from lmtasks.metric import compare, make_metric
from lmtasks.records import HeadSpec
from lmtasks.settings.data import DataAccess
from lmtasks.task.changes import CHANGES, changed, changed_columns, fitting, with_clean
from lmtasks.task.index import default_index
from lmtasks.task.task import Task

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from small_tasks import model, small_task

OFFLINE = DataAccess(offline=True)
ALWAYS = ("typos", "lower", "upper", "no-punctuation", "fullwidth")


def scored_rows(task: Task) -> list[object]:
    data = load_task_data(task, options=OFFLINE, need=frozenset({"test"}))
    assert data.test is not None
    return list(data.test.rows)


@pytest.mark.parametrize("name", ALWAYS)
def test_a_change_depends_on_text_and_seed_alone(name: str) -> None:
    text = "The Quick brown fox, who jumped over nothing, wasn't amused."
    line = CHANGES[name]
    assert line.text(text, seed=1) == line.text(text, seed=1) != text
    other = {line.text(text, seed=seed) for seed in range(20)}
    assert (len(other) > 5) == (name == "typos")


def test_typos_keep_short_words_and_change_each_text() -> None:
    for seed in range(50):
        words = CHANGES["typos"].text("it is a big house and the cat", seed=seed).split()
        assert words[:4] == ["it", "is", "a", "big"]
        assert words[4] != "house"
    long = "something wonderful happened yesterday evening between several children " * 20
    differing = sum(a != b for a, b in zip(long.split(), CHANGES["typos"].text(long, seed=3).split(), strict=True))
    assert 0.08 * 160 < differing < 0.24 * 160


def test_marks_go_and_words_stay() -> None:
    line = CHANGES["no-punctuation"]
    assert line.text("他说：“走吧！”(3.5)", seed=1) == "他说 走吧 3 5"
    assert line.text("it's rock-solid, isn't it?", seed=1) == "its rock solid isnt it"


def test_opencc_and_pypinyin_do_what_they_say() -> None:
    pytest.importorskip("opencc")
    pytest.importorskip("pypinyin")
    assert CHANGES["traditional"].text("他们后面发现了头发", seed=1) == "他們後面發現了頭髮"
    assert CHANGES["simplified"].text("他們後面發現了頭髮", seed=1) == "他们后面发现了头发"
    from pypinyin import Style, pinyin

    text = "今天天气很好，我们去公园散步ok。"
    for seed in range(20):
        found = CHANGES["homophones"].text(text, seed=seed)
        assert found != text
        assert len(found) == len(text)
        assert found[6] == "，"
        for one, two in zip(text, found, strict=True):
            if one != two:
                alike = [set(pinyin(each, style=Style.TONE, heteronym=True)[0]) for each in (one, two)]
                assert alike[0] & alike[1], (one, two)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opencc", None)
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    from lmtasks.task.changes import _converter

    _converter.cache_clear()
    for name in ("traditional", "homophones"):
        with pytest.raises(UsageError, match=r"pip install 'lmtasks\[chinese\]'"):
            CHANGES[name].text("他们", seed=1)
    _converter.cache_clear()


def test_what_is_read_is_changed_and_what_is_right_stays(tmp_path: Path) -> None:
    columns = {
        "classification": ("text",),
        "span": ("question",),
        "tagging": ("tokens",),
        "translation": ("en",),
        "multiple_choice": ("q",),
    }
    for name, wanted in columns.items():
        task = small_task(tmp_path, name)
        assert changed_columns(task) == wanted, name
        upper = changed(task, "upper")
        for before, after in zip(scored_rows(task), scored_rows(upper), strict=True):
            assert {key: after[key] for key in before if key not in wanted} == {
                key: before[key] for key in before if key not in wanted
            }
            assert any(after[key] != before[key] for key in wanted)
            if name == "tagging":
                assert after["tokens"] == [word.upper() for word in before["tokens"]]


def test_words_that_are_tagged_stay_words(tmp_path: Path) -> None:
    task = changed(small_task(tmp_path, "tagging"), "no-punctuation")
    rows, (dots,) = scored_rows(task), ([".", "it's"],)
    assert all(len(row["tokens"]) == len(row["tags"]) for row in rows)
    from lmtasks.task.changes import changed_rows
    from lmtasks.task.task import ChangedRows

    (row,), count = changed_rows(ChangedRows(change="no-punctuation", seed=1, columns=("tokens",)), [{"tokens": dots}])
    assert (row["tokens"], count) == ([".", "its"], 1)


def test_training_rows_stay_and_the_name_and_hash_tell_change_and_seed(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    one, two, same = (changed(task, change) for change in ("typos", "typos:7", "typos:1234"))
    assert (one.name, two.name) == ("classification@typos", "classification@typos:7")
    assert len({task.hash, one.hash, two.hash}) == 3
    assert one.sources["test"] == same.sources["test"]
    need = frozenset({"train", "test"})
    before, after = (load_task_data(each, options=OFFLINE, need=need) for each in (task, one))
    assert before.train is not None
    assert after.train is not None
    assert before.train.rows == after.train.rows
    assert one.head_name == "classification"
    assert [each.name for each in with_clean([one, two])] == ["classification", one.name, two.name]


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("language_modelling", "typos", "what a language_modelling task reads is what is scored"),
        ("rescoring", "typos", "what a rescoring task reads is what is scored"),
        ("classification", "typo", "did you mean 'typos'"),
        ("classification", "typos:x", "the seed of a change is a whole number, was 'x'"),
    ],
)
def test_what_cannot_be_changed_is_told(tmp_path: Path, name: str, change: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        changed(small_task(tmp_path, name), change)
    with pytest.raises(UsageError, match="one change at a time"):
        changed(changed(small_task(tmp_path, "classification"), "upper"), "typos")


def test_names_with_a_change_are_found() -> None:
    index = default_index()
    (one,) = index.find("starter_sentiment_en@typos")
    assert one.clean is not None
    english = [task.name.partition("@")[2] for task in index.find("starter_sentiment_en@*")]
    assert tuple(english) == fitting(one) == ALWAYS
    assert "homophones" in [task.name.partition("@")[2] for task in index.find("starter_topic_zh@*")]
    assert {task.kind for task in index.find("starter_*@upper")} >= {"classification", "span", "translation"}
    with pytest.raises(UsageError, match="what a language_modelling task reads"):
        index.find("starter_paragraphs_en@upper")


def test_what_a_change_costs_is_paired_with_the_rows_as_they_are(tmp_path: Path) -> None:
    """Against the same computation by hand; the model answers both with one head."""
    task = small_task(tmp_path, "classification")
    upper = changed(task, "upper")
    head = HeadSpec(name="classification", kind="classification", labels=("bad", "good"))
    solvers: list[EngineSolver | RivalSolver] = [model(head), RivalSolver(["nearest"])]
    for solver in solvers:
        options = EvalOptions(data=OFFLINE, resamples=50)
        before, after = evaluate(solver=solver, tasks=[task, upper], options=options)
        assert before.changed is None
        assert after.changed is not None
        assert (after.changed.clean, after.changed.change, after.changed.metric) == ("classification", "upper", "acc")
        metric = make_metric("acc", labels=("bad", "good"))
        wanted = compare(
            metric, before.statistics["acc"], after.statistics["acc"], resamples=1000, seed=1234, clusters=None
        )
        assert after.changed.difference == wanted.difference
        assert after.changed.ci95 == wanted.ci95
        assert after.data_fingerprint != before.data_fingerprint
        (alone,) = evaluate(solver=solver, tasks=[upper], options=options)
        assert alone.changed is None


def test_a_change_that_finds_nothing_is_told(tmp_path: Path) -> None:
    task = small_task(tmp_path, "classification")
    data = load_task_data(changed(task, "simplified"), options=OFFLINE, need=frozenset({"train"}))
    assert data.train is not None
    lower = changed(replace(task, alias="x"), "lower")
    found = load_task_data(lower, options=OFFLINE, need=frozenset({"test"}))
    assert found.test is not None
    assert any("scored rows are changed" in note for note in found.test.notes)
