"""`lmtasks eval --rescore`, and groups under the table: what a person sees of both."""

import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from said import Say

from lmtasks.cli.main import run

GROUP = """group: moods
group_alias: Moods
task: [starter_sentiment_en, starter_sentiment_zh]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


@pytest.fixture
def moods(tmp_path: Path) -> Path:
    """A group of two tasks that come with lmtasks."""
    file = tmp_path / "moods.yaml"
    file.write_text(GROUP)
    return file


@pytest.fixture(scope="module")
def evaluated(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of both tasks, and of their group, made once."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "moods.yaml").write_text(GROUP)
    arguments = ["eval", "--model", llama, "--tasks", folder / "moods.yaml", "--limit", 5, "--cache", "off"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setattr("lmtasks.cli.main.quiet_libraries", lambda **_: None)
        assert run([str(argument) for argument in (*arguments, "--out", folder / "stored")]) == 0
    return folder / "stored"


@pytest.fixture
def stored(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of them of one's own."""
    return shutil.copytree(evaluated, tmp_path / "stored")


def _results(out: Path) -> dict[str, dict[str, dict[str, object]]]:
    return dict(json.loads((out / "results.json").read_text()))


def _lines(out: str, name: str) -> list[str]:
    """The lines of the table that begin with a name."""
    return [re.sub(r" +", " ", line) for line in out.splitlines() if line.startswith(name)]


def test_a_group_stands_under_its_tasks(say: Say, llama: Path, moods: Path, tmp_path: Path) -> None:
    said = say("eval", "--model", llama, "--model", "majority", "--tasks", moods, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    order = ["starter_sentiment_en", "starter_sentiment_zh", "moods (group)"]
    places = [next(place for place, line in enumerate(lines) if line.startswith(name)) for name in order]
    assert places == sorted(places)
    assert (
        len(_lines(said.out, "moods (group)")[0].split(" acc ")[1].split("±")) == 3
    )  # two models, each with an interval
    for model in ("llama", "majority"):
        content = _results(tmp_path / "out" / model)
        group, tasks = content["groups"]["moods"], list(content["results"].values())
        assert group["n"] == sum(task["n"] for task in tasks)
        right = sum(task["n"] * task["metrics"]["acc"]["value"] for task in tasks)
        assert group["metrics"]["acc"]["value"] == pytest.approx(right / group["n"])


def test_aliases_stand_behind_names(say: Say, llama: Path, tmp_path: Path) -> None:
    """`task_alias` and `group_alias`: in the table, also where it comes from stored results."""
    member = "{task: starter_sentiment_en, task_alias: English moods}"
    (tmp_path / "moods.yaml").write_text(GROUP.replace("starter_sentiment_en", member))
    out, again = tmp_path / "out", tmp_path / "again"
    for line in (
        ("--model", llama, "--tasks", tmp_path / "moods.yaml", "--limit", 3, "--out", out),
        ("--rescore", out, "--out", again),
    ):
        said = say("eval", *line)
        assert said.code == 0, said.err
        starts = (
            "starter_sentiment_en: English moods 3 acc",
            "starter_sentiment_zh 3 acc",
            "moods (group): Moods 6 acc",
        )
        assert all(_lines(re.sub(r" +", " ", said.out), start) for start in starts), said.out


def test_the_same_scores_come_from_the_samples(say: Say, stored: Path, tmp_path: Path) -> None:
    said = say("eval", "--rescore", stored, "--out", tmp_path / "again")
    assert said.code == 0, said.err
    one, two = _results(stored), _results(tmp_path / "again")
    assert two["model"] == one["model"]
    assert {task: each["metrics"] for task, each in two["results"].items()} == {
        task: each["metrics"] for task, each in one["results"].items()
    }
    assert two["groups"] == one["groups"]
    assert _lines(said.out, "moods (group)")
    assert f"Scores are in {tmp_path / 'again' / 'results.json'}." in said.out


def test_other_metrics_are_computed_without_a_model(say: Say, stored: Path, tmp_path: Path) -> None:
    said = say("eval", "--rescore", stored, "--metrics", "mcc, acc_bytes", "--out", tmp_path / "again")
    assert said.code == 0, said.err
    again = _results(tmp_path / "again")
    assert all(set(each["metrics"]) == {"mcc", "acc_bytes"} for each in again["results"].values())
    assert not again.get("groups")  # of a metric that is no longer there
    assert say("eval", "--rescore", tmp_path / "again", "--metrics", "acc", "--out", tmp_path / "third").code == 0
    assert (
        _results(tmp_path / "third")["results"]["starter_sentiment_en"]["metrics"]["acc"]
        == _results(stored)["results"]["starter_sentiment_en"]["metrics"]["acc"]
    )


def test_only_the_tasks_that_are_named(say: Say, stored: Path, moods: Path, tmp_path: Path) -> None:
    said = say("eval", "--rescore", stored, "--tasks", "starter_sentiment_zh", "--out", tmp_path / "one")
    assert said.code == 0, said.err
    assert list(_results(tmp_path / "one")["results"]) == ["starter_sentiment_zh"]
    assert "group" not in said.out
    said = say("eval", "--rescore", stored, "--tasks", moods, "--out", tmp_path / "both")
    assert _results(tmp_path / "both")["groups"] == _results(stored)["groups"]


def _rewrite(folder: Path, old: str, new: str) -> None:
    file = folder / "samples-starter_sentiment_en.jsonl"
    first, rest = file.read_text().split("\n", maxsplit=1)
    assert old in first
    file.write_text(first.replace(old, new) + "\n" + rest)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"target":', '"target":"other","was":', "sample 0 of starter_sentiment_en in .* does not fit its hash"),
        ('{"doc_id":', '{"doc_id"', "samples-starter_sentiment_en.jsonl, line 1 is damaged"),
        ('"outcome":', '"was":', "samples-starter_sentiment_en.jsonl, line 1 is damaged"),
        ('"doc":', '"was":', "samples-starter_sentiment_en.jsonl, line 1 is damaged"),
    ],
)
def test_a_changed_sample_is_not_scored(
    say: Say, stored: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    _rewrite(stored, old, new)
    said = say("eval", "--rescore", stored, "--out", tmp_path / "again")
    assert (said.code, bool(re.search(sentence, said.sentence))) == (2, True), said.err
    assert not list((tmp_path / "again").glob("*"))


def test_samples_that_are_gone(say: Say, stored: Path, llama: Path, tmp_path: Path) -> None:
    file = stored / "samples-starter_sentiment_en.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    said = say("eval", "--rescore", stored, "--out", tmp_path / "again")
    assert (said.code, "holds 4 samples of starter_sentiment_en, but 5 rows" in said.sentence) == (2, True)
    line = ("eval", "--model", llama, "--tasks", "starter_sentiment_en", "--limit", 2, "--no-samples")
    assert say(*line, "--out", tmp_path / "bare").code == 0
    said = say("eval", "--rescore", tmp_path / "bare", "--out", tmp_path / "again")
    assert (said.code, "were they switched off (--no-samples)?" in said.sentence) == (2, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--model", "random"), "--model is about answers that are made; --rescore takes those that are stored"),
        (("--gen-kwargs", "num_beams=4"), "--gen-kwargs is about answers that are made"),
        (("--split", "validation"), "--split is about answers that are made"),
        (("--metrics", "accc"), "unknown metric 'accc'; did you mean 'acc'"),
        (("--metrics", "bleu"), "bleu"),
        (("--tasks", "starter_topic_en"), "unknown task of"),
    ],
)
def test_options_that_do_not_fit(
    say: Say, stored: Path, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    said = say("eval", "--rescore", stored, "--out", tmp_path / "again", *options)
    assert (said.code, sentence in said.sentence) == (2, True), said.err


def test_folders_that_hold_no_results(say: Say, stored: Path, tmp_path: Path) -> None:
    for folder, sentence in (
        (tmp_path, "is no results folder: it has no results.json"),
        (stored, "give another folder"),
    ):
        said = say("eval", "--rescore", folder, "--out", stored)
        assert (said.code, sentence in said.sentence) == (2, True), said.err
    (stored / "results.json").write_text("{")
    assert "is damaged" in say("eval", "--rescore", stored, "--out", tmp_path / "again").sentence
