"""`lmtasks validate`: what a task would do, and what is wrong with it, before anything is answered."""

import json
import re
from pathlib import Path

import pytest
from said import Say

TASK = """task: {name}
output_type: multiple_choice
dataset_path: json
dataset_kwargs: {{data_files: {{train: train.jsonl, test: test.jsonl}}}}
training_split: train
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
num_fewshot: {shots}
{more}
"""
ROW = '{{"question": "{question}", "choices": ["yes", "no"], "answer": {answer}}}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty training rows, ten scored ones; two documents stand in both, one of them with other white space."""
    asked = [f"Is {number} even?" for number in range(30)]
    scored = [*asked[20:28], "Is  3 even? ", asked[4]]
    for split, questions in (("train", asked[:20]), ("test", scored)):
        lines = [ROW.format(question=question, answer=number % 2) for number, question in enumerate(questions)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    return tmp_path


def _task(folder: Path, *, name: str = "even", shots: int = 0, more: str = "") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(TASK.format(name=name, shots=shots, more=more))
    return file


def test_a_task_is_described_and_its_overlap_counted(say: Say, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    said = say("validate", _task(folder))
    assert said.code == 0, said.err
    for piece in (
        "task even: multiple_choice, en, hash",
        "metrics: acc, acc_norm",
        f"train (train of train.jsonl): 20 rows, {folder / 'train.jsonl'}",
        "scored (test of test.jsonl): 10 rows",
        "columns: question, choices, answer",
        "the same document in train and in the scored split: 2 of 10 scored rows (20%), the first is row 8",
        "a row asks for 2 likelihoods; 20 requests in all",
        "a request has 13 to 16 characters",
        "prompt: 'Is 20 even?'",
        "right: ' yes'",
        "choices: 'yes', 'no'",
    ):
        assert piece in said.out, piece
    assert sorted(folder.rglob("*")) == sorted([*before, folder / "even.yaml"])


@pytest.mark.parametrize("draw", ["ours", "lm-eval"])
def test_prompts_that_hold_their_own_answer_are_counted(say: Say, llama: Path, tmp_path: Path, draw: str) -> None:
    """Rows 1 and 4 ask the same under two ids, and worked examples come from the scored rows."""
    rows = [f'{{"id": {n}, "question": "Q{n % 3}", "choices": ["x", "y"], "answer": 0}}\n' for n in range(4)]
    (tmp_path / "test.jsonl").write_text("".join(rows))
    file = tmp_path / "tq.yaml"
    lines = TASK.format(name="tq", shots=2, more="").replace("train: train.jsonl, ", "")
    file.write_text(lines.replace("training_split: train\n", ""))
    line = "prompts that hold their own answer among the worked examples: none; as --fewshot-stream lm-eval draws"
    assert f"{line} them: 3\n" in say("validate", file).out
    assert "own answer" not in say("validate", file, "--num-fewshot", 0).out
    out = tmp_path / "out"
    said = say("eval", "--model", llama, "--tasks", file, "--fewshot-stream", draw, "--out", out)
    counted = json.loads((out / "results.json").read_text())["results"]["tq"]["overlap"]["own_answers"]
    assert counted == (0 if draw == "ours" else 3)
    line = "* llama, tq: 3 of 4 scored rows have their own answer among the worked examples; on the other 1: acc "
    assert (line in said.out) == bool(counted)


@pytest.mark.parametrize("show", [0, 1, 3, 99])
def test_so_many_rows_are_shown(say: Say, folder: Path, show: int) -> None:
    said = say("validate", _task(folder), "--show", show)
    assert len(re.findall(r"^  row \d+:$", said.out, re.MULTILINE)) == min(show, 10)


def test_worked_examples_are_part_of_what_is_measured(say: Say, folder: Path) -> None:
    plain, shot = say("validate", _task(folder)).out, say("validate", _task(folder, shots=2)).out
    assert "after 2 worked examples" in shot
    longest = [int(re.findall(r"to (\d+) characters", out)[0]) for out in (plain, shot)]
    assert longest[1] > longest[0] + 2 * len("Is 1 even? no\n\n")
    assert say("validate", _task(folder, shots=2), "--num-fewshot", 0).out == plain.replace(
        re.findall(r"hash \w+", plain)[0], re.findall(r"hash \w+", shot)[0]
    )


def test_a_pool_of_examples_too_small_is_an_error(say: Say, folder: Path) -> None:
    said = say("validate", _task(folder, shots=1), "--num-fewshot", 30)
    assert said.code == 2
    assert "30 worked examples were asked for" in said.sentence
    assert "WRONG in 10 of 10 rows" in said.out


def test_a_model_counts_tokens_and_time(say: Say, folder: Path, llama: Path) -> None:
    said = say("validate", _task(folder), "--model", llama, "--threads", 1)
    assert said.code == 0, said.err
    assert "tokens of llama" in said.out
    assert "longer than the 64 tokens that the model takes, and cut: none" in said.out
    assert re.search(r"time: about \d+ s; an estimate from 10 rows that took \S+ s in torch fp32 on cpu", said.out)
    said = say("validate", _task(folder, shots=15), "--model", llama, "--limit", 4)
    assert "and cut: 8" in said.out
    assert "an estimate from 4 rows" in said.out


def test_a_model_that_cannot_be_asked(say: Say, folder: Path, classifier: Path) -> None:
    said = say("validate", _task(folder), "--model", classifier)
    assert said.code == 0
    assert "classifier cannot be asked: " in said.out
    assert "is a baseline" in say("validate", _task(folder), "--model", "random").sentence
    assert "unknown model" in say("validate", _task(folder), "--model", "nothing").sentence


def test_a_head_is_asked_as_a_head(say: Say, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("comment,mood\nfine,positive\n" + "very " * 90 + "poor,negative\n")
    file = tmp_path / "mine.yaml"
    file.write_text(
        "task: mine\nkind: classification\ndataset_path: csv\ndataset_kwargs: {data_files: {test: rows.csv}}\n"
        "test_split: test\ninputs: {text: comment, label: mood}\nlabels: [negative, positive]\n"
    )
    said = say("validate", file)
    assert "no prompt (doc_to_text); a model answers with a head" in said.out
    assert "no training rows and no few-shot pool" in said.out
    said = say("validate", file, "--model", classifier)
    assert said.code == 0, said.err
    assert "asked by a head; 2 requests in all" in said.out
    assert "and cut: 1" in said.out


def test_every_wrong_row_is_counted_and_the_first_named(say: Say, folder: Path) -> None:
    with (folder / "test.jsonl").open("a") as rows:
        rows.write(ROW.format(question="x", answer=7) + ROW.format(question="y", answer=-1))
    said = say("validate", _task(folder))
    assert said.code == 2
    assert "WRONG in 2 of 12 rows; the first: task even, row 10: the right choice must be a number" in said.out
    assert "row 10: the right choice must be a number from 0 to 1, was: 7" in said.sentence
    assert "20 requests in all" in said.out  # of those that fit


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("metric_list: [{metric: accuracy}]", "unknown metric 'accuracy'"),
        ("doc_to_txt: x", "did you mean 'doc_to_text'"),
        ("gen_prefix: '{{nothing}}'", "gen_prefix names 'nothing', which the data lacks"),
        ("validation_split: dev", "unknown split of"),
    ],
)
def test_what_is_wrong_with_a_task_is_one_sentence(say: Say, folder: Path, more: str, sentence: str) -> None:
    said = say("validate", _task(folder, more=more))
    assert said.code == 2
    assert sentence in said.sentence


@pytest.mark.parametrize(("labels", "code"), [("[NN, VB]", 2), ("[O, U-PER, B-LOC, L-LOC]", 0)])
def test_tags_of_no_scheme_are_refused_before_any_row_is_read(say: Say, tmp_path: Path, labels: str, code: int) -> None:
    tags = labels.strip("[]").split(", ")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"w": tags, "t": tags}) + "\n")
    (tmp_path / "tags.yaml").write_text(
        "task: tags\nkind: tagging\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\n"
        f"test_split: test\ninputs: {{tokens: w, tags: t}}\nlabels: {labels}\n"
    )
    said = say("validate", tmp_path / "tags.yaml")
    assert said.code == code
    if code:
        assert "entity_f1 reads tags that begin with B, I, M, E, L, S, U, W" in said.sentence
        assert "'NN'" in said.sentence


def test_several_tasks_are_all_looked_at(say: Say, folder: Path) -> None:
    bad = _task(folder, name="bad", more="metric_list: [{metric: accuracy}]")
    said = say("validate", bad, _task(folder), "starter_topic_*", "starter")
    assert said.code == 2
    assert said.sentence == "lmtasks: 1 of 5 tasks and plans are wrong."
    assert "unknown metric 'accuracy'" in said.err
    assert re.findall(r"^(task|plan) (\w+)", said.out, re.MULTILINE) == [
        ("task", "even"),
        ("task", "starter_topic_en"),
        ("task", "starter_topic_zh"),
        ("plan", "starter"),
    ]


def test_training_rows_may_lack_what_only_scoring_reads(say: Say, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"en": "a cat", "zh": "猫"}\n')
    (tmp_path / "test.jsonl").write_text('{"en": "a dog", "zh": "狗", "plain": "dog", "all": ["狗", "犬"]}\n')
    file = tmp_path / "mine.yaml"
    file.write_text(
        "task: mine\nkind: translation\nlanguage: zh\ndataset_path: json\ndoc_to_text: en\ndoc_to_target: zh\n"
        "dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}\ntraining_split: train\n"
        "test_split: test\ninputs: {source: plain, references: all}\nmetrics: [bleu_zh]\n"
    )
    said = say("validate", file)
    assert (said.code, "WRONG" in said.out) == (0, False), said


HOOKS = """def upper(dataset):
    return dataset.filter(lambda row: row["answer"] == 1).map(lambda row: {"question": row["question"].upper()})


def clean(answers, docs):
    return answers
"""


def test_rows_are_checked_as_process_docs_makes_them(say: Say, folder: Path) -> None:
    (folder / "hooks.py").write_text(HOOKS)
    file = _task(folder, shots=2, more="process_docs: !function hooks.upper")
    assert "--trust-code" in say("validate", file).sentence
    said = say("validate", file, "--trust-code", "--limit", 3)
    assert said.code == 0, said.err
    assert "train (train of train.jsonl): 10 rows" in said.out  # of twenty every second one
    assert "scored (test of test.jsonl): 3 rows" in said.out  # the limit counts what the code leaves
    assert re.search(r"prompt: 'IS \d+ EVEN\? yes|no\\n\\nIS \d+ EVEN\? ", said.out)


def test_filters_are_said_with_their_options(say: Say, folder: Path) -> None:
    (folder / "hooks.py").write_text(HOOKS)
    file = folder / "write.yaml"
    file.write_text(
        "task: write\noutput_type: generate_until\ndataset_path: json\ntest_split: test\n"
        "dataset_kwargs: {data_files: {test: test.jsonl}}\ndoc_to_text: question\ndoc_to_target: 'yes'\n"
        "generation_kwargs: {until: ['.']}\nmetric_list: [{metric: exact_match}]\nfilter_list:\n"
        "- {name: own, filter: [{function: custom, filter_fn: !function hooks.clean}, {function: take_first}]}\n"
        "- {name: plain, filter: [{function: regex, regex_pattern: '(no|yes)'}, {function: take_first}]}\n"
    )
    said = say("validate", file, "--trust-code")
    assert said.code == 0, said.err
    assert "metrics: exact_match,own, exact_match,plain" in said.out
    assert "filter own: custom(filter_fn=!function hooks.clean), take_first" in said.out
    assert "filter plain: regex(regex_pattern='(no|yes)'), take_first" in said.out
    file.write_text(file.read_text().replace("function: regex,", "function: regexx,"))
    assert "unknown filter" in say("validate", file, "--trust-code").sentence


def test_a_mirror_may_lack_what_nothing_asks_for(say: Say, folder: Path) -> None:
    (folder / "hub" / "org" / "even").mkdir(parents=True)
    (folder / "test.jsonl").rename(folder / "hub" / "org" / "even" / "test.jsonl")
    file = folder / "even.yaml"
    lines = TASK.format(name="even", shots=0, more="validation_split: validation").splitlines()
    file.write_text("\n".join(line for line in lines if "data_files" not in line).replace(": json", ": org/even"))
    line = ("validate", file, "--data-root", folder / "hub", "--offline")
    said = say(*line)
    assert said.code == 0, said.err
    for split in ("train", "validation"):
        assert f"{split} ({split} of org/even): not in the mirror, not looked at: unknown split" in said.out
    assert "scored (test of org/even): 10 rows" in said.out
    file.write_text(file.read_text().replace("num_fewshot: 0", "num_fewshot: 2"))
    said = say(*line)  # now the training rows are needed
    assert (said.code, "unknown split of" in said.sentence, "'train'" in said.sentence) == (2, True, True)


def test_what_stands_in_for_lacking_data_is_said(say: Say, tmp_path: Path) -> None:
    rows = tmp_path / "hub" / "EleutherAI" / "wikitext_document_level" / "wikitext-2-v1"
    rows.mkdir(parents=True)
    (rows / "test.jsonl").write_text('{"page": "a page"}\n')
    file = tmp_path / "pages.yaml"
    file.write_text(
        "task: pages\noutput_type: loglikelihood_rolling\ndataset_path: EleutherAI/wikitext_document_level\n"
        "dataset_name: wikitext-2-raw-v1\ntest_split: test\ndoc_to_text: ''\ndoc_to_target: '{{page}}'\n"
        "metric_list: [{metric: word_perplexity}]\n"
    )
    said = say("validate", file, "--data-root", tmp_path / "hub", "--offline")
    assert said.code == 0, said.err
    assert "in place of EleutherAI/wikitext_document_level/wikitext-2-raw-v1 (the same articles tokenized" in said.out
    assert said.err.count("it is read instead") == 1


def test_groups_and_tags_are_their_tasks(say: Say, folder: Path) -> None:
    _task(folder, name="odd", more="tag: numbers")
    _task(folder, more="tag: numbers")
    file = folder / "both.yaml"
    file.write_text("group: both\ntask: [even, odd]\naggregate_metric_list: [{metric: acc, weight_by_size: false}]\n")
    said = say("validate", file)
    assert said.code == 0, said.err
    assert "group both: 2 tasks, even, odd\n  acc: the mean, tasks count alike\n" in said.out
    assert re.findall(r"^task (\w+)", said.out, re.MULTILINE) == ["even", "odd"]
    file.write_text("group: both\ntask: [even, numbers, odds]\n")
    assert "'odds'" in say("validate", file).sentence


def test_of_several_prompts_the_right_one_is_marked(say: Say, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"s": "He and _ sang", "a": "I", "b": "it", "n": 1}\n', encoding="utf-8")
    (tmp_path / "blanks.yaml").write_text(
        "task: blanks\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{n}}"\ndoc_to_target: "{{s.split(\'_\')[1].strip()}}"\n'
        "doc_to_choice: \"{{[s.split('_')[0] + a, s.split('_')[0] + b]}}\"\n",
        encoding="utf-8",
    )
    said = say("validate", tmp_path / "blanks.yaml")
    assert said.code == 0, said.err
    assert [line.strip() for line in said.out.splitlines()[-3:]] == [
        "wrong prompt: 'He and I'",
        "right prompt: 'He and it'",
        "behind each: ' sang'",
    ]
