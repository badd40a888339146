"""Commands that work: what they print, and what they write."""

import json
import shlex
from pathlib import Path

import pytest
from said import Say


def test_bare_is_help_and_version_is_one_line(say: Say) -> None:
    assert "Commands:" in say().out
    assert say("--version").out.startswith("lmtasks ")
    assert say("eval", "--version").code == 0


def test_list_tasks(say: Say) -> None:
    said = say("list", "tasks")
    assert said.code == 0
    assert "starter_topic_zh" in said.out


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("backbones", "llama"),
        ("baselines", "longest-choice"),
        ("changes", "homophones"),
        ("heads", "span"),
        ("metrics", "bleu_zh"),
        ("runtimes", "onnx"),
    ],
)
def test_list(what: str, name: str, say: Say) -> None:
    said = say("list", what)
    assert (said.code, name in said.out) == (0, True)


def test_eval_of_one_model_writes_results_and_samples(say: Say, llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = say("eval", "--model", llama, "--tasks", "starter_sentiment_en", "--limit", 4, "--out", out)
    assert said.code == 0, said.err
    assert "starter_sentiment_en  4  acc" in said.out
    assert f"Next: lmtasks compare {out} OTHER" in said.out
    assert f"The report is {out / 'index.html'}" in said.out
    assert sorted(file.name for file in out.iterdir()) == [
        "charts",
        "decision.json",
        "index.html",
        "report.md",
        "results.csv",
        "results.json",
        "samples-starter_sentiment_en.jsonl",
        "statistics.json",
    ]
    stored = json.loads((out / "results.json").read_text())
    assert stored["results"]["starter_sentiment_en"]["n"] == 4
    assert stored["runtime"]["runtime"] == "torch"
    assert len((out / "samples-starter_sentiment_en.jsonl").read_text().splitlines()) == 4


def test_eval_of_several_models_gives_each_a_folder(say: Say, llama: Path, llama_two: Path, tmp_path: Path) -> None:
    arguments = ("--tasks", "starter_sentiment_en,starter_paragraphs_en", "--limit", 2, "--no-samples")
    said = say(
        "eval", "--model", llama, "--model", llama_two, "--model", "random", *arguments, "--out", tmp_path / "out"
    )
    assert said.code == 0, said.err
    head = said.out.splitlines()[0].split()
    assert head == ["task", "n", "metric", "llama", "llama-two", "random"]
    assert "\nrandom does not answer language_modelling tasks" in said.out
    assert {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.json*")} == {
        "decision.json",
        *(f"{name}/{file}.json" for name in ("llama", "llama-two", "random") for file in ("results", "statistics")),
    }
    assert "\nRecommended: " in said.out
    said = say("compare", tmp_path / "out")
    assert said.code == 0, said.err
    assert "only in" in said.out
    said = say("report", tmp_path / "out", "--markdown")
    assert said.code == 0, said.err
    assert said.out.startswith("### out\n")
    assert "> - **" in said.out
    said = say("report", tmp_path / "out", "--latex")
    assert (said.code, "\\begin{tabular}" in said.out) == (0, True)
    assert "give one of them" in say("report", tmp_path / "out", "--latex", "--markdown").err
    said = say("report", tmp_path / "out", "--every-eval-ever", tmp_path / "eee")
    assert said.code == 0, said.err
    assert said.out.count("\nWritten: ") == 3


def test_without_out_nothing_is_overwritten(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert say("eval", "--model", "majority", "--tasks", "starter_topic_zh", "--limit", 2).code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["eval-1", "eval-2"]


def test_own_data_needs_no_task_file(say: Say, llama: Path, reviews: Path, tmp_path: Path) -> None:
    arguments = ("--data", reviews, "--text", "comment", "--label", "stars", "--out", tmp_path / "out")
    said = say("eval", "--model", llama, "--model", "random", *arguments)
    assert said.code == 0, said.err
    samples = (tmp_path / "out" / "llama" / "samples-reviews.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(samples[0])
    assert (first["doc"], first["target"]) == ({"comment": "number 0 was good", "stars": 1}, "1")
    assert len(samples) == 12


def test_own_data_in_chinese_encoding(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "评论.csv"
    file.write_bytes("评论,星\n很好看的电影,好\n浪费时间,坏\n".encode("gb18030"))
    said = say("eval", "--model", "random", "--data", file, "--text", "评论", "--label", "星", "--out", tmp_path / "o")
    assert said.code == 0, said.err
    sample = json.loads((tmp_path / "o" / "samples-评论.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert sample["target"] == "好"


def test_a_checkpoint_with_its_own_head_is_scored_as_it_is(
    say: Say, classifier: Path, nameless: Path, pairs: Path, tmp_path: Path
) -> None:
    data = ("--data", pairs, "--text", "comment", "--label", "mood")
    assert say("eval", "--model", classifier, *data, "--out", tmp_path / "a").code == 0
    swapped = "LABEL_0=positive,LABEL_1=negative"
    for name, labels in (("b", "LABEL_0=negative,LABEL_1=positive"), ("c", swapped)):
        said = say("eval", "--model", nameless, *data, "--label-map", labels, "--out", tmp_path / name)
        assert said.code == 0, said.err
    answers = {
        name: [
            json.loads(line)["answer"] for line in (tmp_path / name / "samples-moods.jsonl").read_text().splitlines()
        ]
        for name in "abc"
    }
    assert answers["a"] == answers["b"]
    assert all(one != other for one, other in zip(answers["a"], answers["c"], strict=True))


def test_texts_that_are_cut_are_counted(say: Say, llama: Path, tmp_path: Path) -> None:
    said = say("eval", "--model", llama, "--tasks", "starter_topic_en", "--limit", 3, "--out", tmp_path / "out")
    assert "are longer than the model takes, and were cut" in said.out  # 64 tokens of a 300 token vocabulary


def test_compare_and_its_gate(say: Say, tmp_path: Path) -> None:
    rows = "\n".join(f"text {n},{'yes' if n % 10 else 'no'}" for n in range(60))
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(f"text,label\n{rows}\n")
    data = ("--data", folder, "--label", "label")
    for name in ("majority", "random"):
        assert say("eval", "--model", name, *data, "--out", tmp_path / name).code == 0
    said = say("compare", tmp_path / "majority", tmp_path / "random")
    assert said.code == 0
    assert "acc" in said.out
    said = say("compare", tmp_path / "majority", tmp_path / "random", "--fail-if-worse")
    assert said.code == 3
    assert f"worse than {tmp_path / 'majority'}: {tmp_path / 'random'} in acc of" in said.sentence
    better = say("compare", tmp_path / "random", tmp_path / "majority", "--fail-if-worse", "--only", "*/acc")
    assert better.code == 0
    assert "macro_f1" not in better.out
    said = say(
        *("compare", tmp_path / "majority", tmp_path / "random", tmp_path / "majority"),
        *("--examples", 2, "--out", tmp_path / "compared.json"),
    )
    assert said.code == 0
    assert said.out.count("asked  {") == 2
    assert "no example is right in one and wrong in the other, so p is 1" in said.out
    written = json.loads((tmp_path / "compared.json").read_text(encoding="utf-8"))
    assert [line["verdict"] for line in written["comparisons"] if line["metric"] == "acc"] == ["worse", "open"]
    assert {"p_value", "p_holm", "ci95", "detectable", "effect", "signature"} <= set(written["comparisons"][0])
    assert say("compare", tmp_path / "majority", tmp_path / "majority", "--fail-if-worse").code == 0


def test_predict_answers_a_line_for_each_line(say: Say, llama: Path, classifier: Path) -> None:
    said = say("predict", "--model", llama, "--tasks", "starter_sentiment_en", stdin="a fine film\nbad\n\n")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == 3
    assert set(said.out.split()) <= {"negative", "positive"}
    said = say("predict", "--model", classifier, "a fine film")
    assert said.out.strip() in ("negative", "positive")
    question = json.dumps({"context": "Anna lives in Rome.", "question": "Where?"})
    assert say("predict", "--model", llama, "--tasks", "starter_qa_en", question).code == 0
    assert len(say("predict", "--model", llama, "--new-tokens", 3, "the cat").out.splitlines()) == 1


def test_how_a_text_is_written_can_be_said(say: Say, llama: Path, tmp_path: Path) -> None:
    def written(*more: object) -> str:
        said = say("predict", "--model", llama, "--new-tokens", 12, *more, "the cat")
        assert said.code == 0, said.err
        return said.out

    drawn = written("--gen-kwargs", "temperature=1.5")
    assert drawn == written("--gen-kwargs", "temperature=1.5") != written()
    assert drawn != written("--gen-kwargs", "temperature=1.5", "--seed", 7)
    assert written("--gen-kwargs", '{"max_gen_toks": 2}') != written()
    asked = ("eval", "--model", llama, "--tasks", "starter_summarization_en", "--limit", 2, "--out", tmp_path / "out")
    assert say(*asked, "--gen-kwargs", "num_beams=2,max_gen_toks=5").code == 0
    stored = json.loads((tmp_path / "out" / "results.json").read_text())["results"]["starter_summarization_en"]
    decoding = stored["conditions"]["decoding"]
    assert (decoding["num_beams"], decoding["max_new_tokens"]) == (2, 5)


def test_choices_are_made_on_validation_rows(say: Say, classifier: Path, tmp_path: Path) -> None:
    asked = ("eval", "--model", classifier, "--tasks", "starter_sentiment_en")
    said = say(*asked, "--split", "validation", "--out", tmp_path / "chosen")
    assert (said.code, "These are validation rows" in said.out) == (0, True), said.err
    assert say(*asked, "--out", tmp_path / "scored").code == 0
    conditions, rows = {}, {}
    for name in ("chosen", "scored"):
        stored = json.loads((tmp_path / name / "results.json").read_text())["results"]["starter_sentiment_en"]
        conditions[name] = stored["conditions"]
        lines = (tmp_path / name / "samples-starter_sentiment_en.jsonl").read_text().splitlines()
        rows[name] = {json.dumps(json.loads(line)["doc"], sort_keys=True) for line in lines}
    assert (conditions["chosen"]["split"], "split" in conditions["scored"]) == ("validation", False)
    assert rows["chosen"]
    assert not rows["chosen"] & rows["scored"]
    said = say("compare", tmp_path / "chosen", tmp_path / "scored")
    assert (said.code, "has another data" in said.err) == (2, True), said.err
    assert "--split 'dev'" in say(*asked, "--split", "dev").err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("num_beams", "'num_beams' has no value"),
        ("beams=3", "unknown key of generation_kwargs 'beams'; did you mean 'num_beams'"),
        ("num_beams=0", "num_beams must be at least 1, was: '0'"),
        ("num_beams=2,temperature=1", "beam search draws nothing"),
        ('{"until": [}', "no JSON object"),
        ("penalty_alpha=0.6", "no runtime here carries out"),
    ],
)
def test_a_wrong_way_of_writing_is_explained(settings: str, message: str, say: Say, llama: Path) -> None:
    said = say("predict", "--model", llama, "--gen-kwargs", settings, "the cat")
    assert (said.code, message in said.err) == (2, True), said.err


def test_predict_answers_like_eval(say: Say, classifier: Path, pairs: Path, tmp_path: Path) -> None:
    arguments = ("--data", pairs, "--text", "comment", "--label", "mood", "--out", tmp_path / "out")
    assert say("eval", "--model", classifier, *arguments).code == 0
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples-moods.jsonl").read_text().splitlines()]
    said = say("predict", "--model", classifier, stdin="".join(f"{each['doc']['comment']}\n" for each in samples))
    assert said.out.splitlines() == [each["answer"] for each in samples]


def test_validate_says_what_a_task_would_do(say: Say) -> None:
    said = say("validate", "starter_sentiment_zh", "--offline")
    assert said.code == 0, said.err
    for piece in ("labels: negative, positive", "75 rows", "columns: text, label", "2 likelihoods", "metrics: acc"):
        assert piece in said.out
    assert "not looked at (--offline)" in say("validate", "sst2", "--offline").out


def test_validate_says_what_a_plan_would_do(say: Say) -> None:
    said = say("validate", "starter")
    assert said.code == 0, said.err
    assert "cells" in said.out


@pytest.mark.parametrize("line", ["eval --model majority --tasks starter_topic_en", "run starter"])
def test_interrupted_says_how_to_go_on(line: str, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lmtasks.task.index.default_index", interrupt)
    said = say(*line.split())
    assert said.code == 130
    assert "the same command again" in said.sentence


def test_debug_shows_the_traceback(say: Say) -> None:
    with pytest.raises(Exception, match="unknown task"):
        say("eval", "--model", "majority", "--tasks", "nothing", "--debug")


def test_a_fault_of_ours_is_one_sentence_too(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no\nluck")

    monkeypatch.setattr("lmtasks.task.index.default_index", fail)
    said = say("list", "tasks")
    assert (said.code, said.sentence) == (
        1,
        "lmtasks: unexpected ZeroDivisionError: no luck (a fault of lmtasks; --debug shows where).",
    )


def test_from_own_data_to_a_model_that_answers(say: Say, llama: Path, tmp_path: Path) -> None:
    folder, model = tmp_path / "moods", tmp_path / "model"
    folder.mkdir()
    for split, count in (("train", 40), ("test", 10)):
        rows = "".join(f"{'a good film' if n % 2 else 'a bad bird'} {n},{n % 2 + 1}\n" for n in range(count))
        (folder / f"{split}.csv").write_text(f"comment,stars\n{rows}", encoding="utf-8")
    data = ("--data", folder, "--text", "comment", "--label", "stars")
    said = say("adapt", "--backbone", llama, *data, "--epochs", 8, "--learning-rate", 0.01, "--out", model)
    assert said.code == 0, said.err
    assert f"lmtasks eval --model {model}" in said.out
    said = say("eval", "--model", model, "--model", "majority", "--model", "tfidf", *data, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    line = next(line for line in said.out.splitlines() if " acc " in line)
    assert line.split()[:4] == ["moods", "10", "acc", "100.0"]
    said = say("predict", "--model", model, stdin="a good film 1\na bad bird 2\n")
    assert said.out.split() == ["2", "1"]
    assert say("adapt", "--backbone", llama, *data, "--out", model).code == 2


def test_baselines_print_the_floor_of_what_they_answer(say: Say, tmp_path: Path) -> None:
    line = ("eval", "--model", "random", "--model", "majority", "--tasks", "starter_topic_*,starter_qa_en")
    said = say(*line, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    table, notes = said.out.split("\n\n", maxsplit=1)
    assert [row.split()[0] for row in table.splitlines() if not row.startswith(" ")] == [
        "task",
        "starter_topic_en",
        "starter_topic_zh",
    ]
    assert notes.startswith("random does not answer span tasks: ")
    assert "\nmajority does not answer span tasks: " in notes


def test_what_adapt_learned_of_a_single_file_is_not_what_its_next_command_scores(say: Say, tmp_path: Path) -> None:
    """It used to end with `eval` of the very rows that it had learned."""
    file, model = tmp_path / "my moods.csv", tmp_path / "model"
    rows = "".join(f"{'good' if n % 2 else 'bad'} film {n},{n % 2 + 1}\n" for n in range(50))
    file.write_text(f"comment,stars\n{rows}", encoding="utf-8")
    data = ("--data", file, "--text", "comment", "--label", "stars", "--name", "moods")
    said = say("adapt", "--backbone", "svm", *data, "--out", model)
    assert said.code == 0, said.err
    assert "(10 of 50 rows, for testing)" in said.out
    following = shlex.split(said.out.rpartition("Next: lmtasks ")[2])
    said = say(*following, "--model", "tfidf", "--out", tmp_path / "scored")
    assert said.code == 0, said.err
    assert next(line for line in said.out.splitlines() if " acc " in line).split()[:3] == ["moods", "10", "acc"]
    assert "moods: the 10 rows of the file that adapt sets aside" in said.out
    docs = {
        name: {
            json.loads(line)["doc"]["comment"]
            for line in (tmp_path / "scored" / name / "samples-moods.jsonl").read_text().splitlines()
        }
        for name in ("model", "tfidf")
    }
    assert docs["model"] == docs["tfidf"]
    assert "*" not in said.out.partition("Scores are")[0]
    plain = ("eval", "--model", model, *data)
    whole = say(*plain, "--out", tmp_path / "whole").out
    assert "moods  50" in whole
    assert "* model, moods: 36 of 50 scored rows were learned from; on the other 14: acc " in whole
    assert [line.endswith(" *") for line in whole.splitlines()[1:3]] == [True, True]
    overlap = json.loads((tmp_path / "whole" / "results.json").read_text())["results"]["moods"]["overlap"]
    assert overlap["learned"] == {"seen": 36, "rows": 36, "inputs": 36, "targets": 0}
    assert (overlap["clean"]["n"], set(overlap["clean"]["metrics"])) == (14, {"acc", "macro_f1"})
    rival = ("eval", "--model", "random", *data, "--out", tmp_path / "rival")
    assert say(*rival).code == 0
    file = tmp_path / "rival" / "results.json"
    for known in (True, False):  # results of earlier versions say nothing of it
        said = say("compare", tmp_path / "whole", tmp_path / "rival", "--out", tmp_path / "compared.json")
        assert said.code == 0, said.err
        assert f"* {tmp_path / 'whole'}, moods: 36 of 50 scored rows were learned from; on the other 14" in said.out
        assert (f"Not known: which rows {tmp_path / 'rival'} learned from." in said.out) is not known
        (row, *_) = [line for line in said.out.splitlines() if line.startswith("moods")]
        assert row.split()[4] == "*"
        first = json.loads((tmp_path / "compared.json").read_text())["comparisons"][0]
        assert first["known_rows"] == {"base": 36, "other": 0 if known else None}
        stored = json.loads(file.read_text())
        stored["results"]["moods"].pop("overlap", None)
        stored.pop("checksum", None)
        file.write_text(json.dumps(stored))
    assert "moods  50" in say(*plain, "--split", "all", "--out", tmp_path / "all").out
    assert say(*plain, "--split", "validation", "--out", tmp_path / "validation").code == 0
    said = say("eval", "--model", "tfidf", "--model", model, *data, "--out", tmp_path / "both")
    assert "moods: the 10 rows of the file that adapt sets aside" in said.out, said.err
    assert "--split test scores a fifth" in say("eval", "--model", "tfidf", *data, "--split", "all").err
    assert "single --data file" in say("eval", "--model", "majority", "--tasks", "starter_*", "--split", "all").err


def test_first_rows_of_one_class_are_told_and_a_sample_has_all(say: Say, tmp_path: Path) -> None:
    """Of IMDB and THUCNews the first 500 rows hold one class."""
    file = tmp_path / "moods.csv"
    rows = "".join(f"{'good' if n < 100 else 'bad'} film {n},{int(n < 100)}\n" for n in range(200))
    file.write_text(f"comment,stars\n{rows}", encoding="utf-8")
    line = ("eval", "--model", "random", "--data", file, "--text", "comment", "--label", "stars")
    said = say(*line, "--limit", 40, "--out", tmp_path / "first")
    assert said.code == 0, said.err
    note = "the first 40 of 200 rows are unlike the whole by more than chance: 0% 0 instead of 50%"
    assert f"random, moods: {note}" in said.out
    stored = json.loads((tmp_path / "first" / "results.json").read_text())["results"]["moods"]
    assert stored["notes"][0].startswith(note)
    said = say(*line, "--sample", 40, "--out", tmp_path / "drawn")
    assert (said.code, "by more than chance" in said.out) == (0, False), said.err
    stored = json.loads((tmp_path / "drawn" / "results.json").read_text())["results"]["moods"]
    assert (stored["n"], stored["conditions"]["limit"], stored["conditions"]["sample"]) == (40, None, 40)
    samples = (tmp_path / "drawn" / "samples-moods.jsonl").read_text().splitlines()
    assert sorted(json.loads(sample)["target"] for sample in samples) == ["0"] * 20 + ["1"] * 20
    said = say(*line, "--sample", 40, "--limit", 40)
    assert (said.code, "give one of them" in said.err) == (2, True)


def test_models_keep_the_order_that_they_were_given_in(say: Say, tmp_path: Path) -> None:
    models = ("--model", "random", "--model", "majority")
    out = tmp_path / "out"
    asked = ("eval", *models, "--tasks", "starter_sentiment_en", "--limit", 6, "--out", out, "--page-language", "zh")
    assert say(*asked).code == 0
    assert '<html lang="zh">' in (out / "index.html").read_text(encoding="utf-8")
    compared = say("compare", out).out
    assert compared.index("random") < compared.index("majority")
    assert say("report", out, "--page-language", "en").code == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert '<html lang="en">' in page
    assert page.index('data-sort="random"') < page.index('data-sort="majority"')
    assert say("report", out, "--language", "zh").code == 0
    assert say("report", out, "--language", "fr").code == 2


def test_a_file_of_defaults_names_the_language_of_all_pages(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lmtasks.toml").write_text('page_language = "zh"\n')
    assert say("eval", "--model", "majority", "--tasks", "starter_topic_zh", "--limit", 4, "--out", "out").code == 0
    assert '<html lang="zh">' in Path("out/index.html").read_text(encoding="utf-8")
    assert say("report", "out").code == 0
    assert '<html lang="zh">' in Path("out/index.html").read_text(encoding="utf-8")
