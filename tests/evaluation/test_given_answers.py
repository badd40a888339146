"""Answers that exist: what `predict --json` writes of a model scores as the model does, to the last digit; what is
missing, double, unknown or of no form is told."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef
from small_tasks import TASKS, WORDS, model, scored, small_task

from lmtasks.errors import UsageError
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.given_answers import GivenAnswers, held_answers, read_answers
from lmtasks.evaluation.given_solver import GivenSolver
from lmtasks.evaluation.samples import answered_of, line_of
from lmtasks.evaluation.scoring import scorings_for
from lmtasks.records import HeadSpec, Row
from lmtasks.results.sample import SampleRecord
from lmtasks.task.kinds import KINDS, kind_of
from lmtasks.task.kinds.retrieval import CORPUS, Corpus
from lmtasks.task.load import load_task
from lmtasks.task.task import Task
from lmtasks.workflow.predict import Predictor
from lmtasks.workflow.unlabelled_rows import BLANK, unlabelled

CHAT: Sequence[Row] = [
    {"said": f"where is the {word}", "next": ["over there", f"the {word} sat", "no"], "best": number % 3}
    for number, word in enumerate(WORDS[:8])
]
MORE: Mapping[str, tuple[Sequence[Row], str]] = {
    "numbers": (
        [{"text": f"the {word} cost", "price": 3.5 * n - 1} for n, word in enumerate(WORDS[:8])],
        "kind: regression\ninputs: {text: text, number: price}",
    ),
    "alike": (
        [{"one": f"the {word}", "two": f"a {word} near", "score": float(n)} for n, word in enumerate(WORDS[8:16])],
        "kind: similarity\ninputs: {text: one, pair: two, number: score}",
    ),
    "topics": (
        [{"text": f"the {word}", "about": ["cats", "dogs"][: n % 3]} for n, word in enumerate(WORDS[:9])],
        "kind: multi_label\nlabels: [cats, dogs, birds]\ninputs: {text: text, labels: about}",
    ),
    "chat": (
        CHAT,
        "kind: ranking\ninputs: {text: said, candidates: next, right: best}\nmetrics: [recall_1, recall_2, mrr]",
    ),
    "found": (
        [{"asked": f"the {word}?", "right": f"{word} near the mill {n}"} for n, word in enumerate(WORDS[:8])],
        "kind: retrieval\ninputs: {text: asked, right: right}\nmetrics: [mrr, ndcg_10, recall_2]",
    ),
    "roles": (
        [
            {"words": ["the", "cat", "saw", "it"], "at": 2, "tags": ["O", "A", "V", "B"]},
            {"words": ["it", "sat"], "at": 1, "tags": ["A", "V"]},
        ],
        "kind: semantic_roles\nlabels: [O, A, V, B]\ninputs: {tokens: words, predicate: at, tags: tags}\n"
        "metrics: [tag_acc]",
    ),
}
HEADS: Mapping[str, HeadSpec] = {
    "classification": HeadSpec(name="classification", kind="classification", labels=("good", "bad")),
    "span": HeadSpec(name="span", kind="span"),
    "tagging": HeadSpec(name="tagging", kind="tagging", labels=("O", "B")),
    "generation": HeadSpec(name="generation", kind="generation"),
    "numbers": HeadSpec(name="numbers", kind="regression", mean=7.0, deviation=3.0),
    "topics": HeadSpec(name="topics", kind="multi_label", labels=("cats", "dogs", "birds")),
    "chat": HeadSpec(name="chat", kind="ranking"),
    "roles": HeadSpec(name="roles", kind="semantic_roles", labels=("O", "A", "V", "B")),
    "alike": HeadSpec(name="alike", kind="embedding", width=8),
    "found": HeadSpec(name="found", kind="embedding", width=8),
}
UNASKED = ("minimal_pairs", "language_modelling", "last_words")
"""Nothing is answered to a text."""


def task_of(folder: Path, name: str, *, more: str = "") -> Task:
    if name in TASKS:
        return small_task(folder, name, more=more)
    rows, lines = MORE[name]
    (folder / f"{name}-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / f"{name}.yaml"
    file.write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {name}-test.jsonl}}}}\n"
        f"test_split: test\n{lines}\n{more}\n"
    )
    return load_task(file)


def rows_of(name: str) -> Sequence[Row]:
    return TASKS[name][0]["test"] if name in TASKS else MORE[name][0]


def given(lines: Sequence[Row], *, allowed: float = 0.0, id_column: str | None = None) -> GivenSolver:
    held: list[Row] = json.loads(json.dumps(lines))
    return GivenSolver(held_answers(held, name="mine", allowed=allowed, id_column=id_column))


def predicted(task: Task, heads: Sequence[HeadSpec]) -> list[Row]:
    """Lines as `lmtasks predict --json` writes them."""
    corpora: dict[str, Row] = {}
    if kind_of(task).answer == "ranks":
        corpus = Corpus([str(row["right"]) for row in rows_of(task.name)])
        corpora[task.name] = {CORPUS: corpus, BLANK: corpus.texts[0]}
    choice = None
    if kind_of(task).chooses:
        from lmtasks.evaluation.protocols import ChoiceRows

        choice = ChoiceRows(task=task, rows=TASKS[task.name][0]["validation"])
    asked = unlabelled(task)
    predictor = Predictor(model(*heads), [asked], seed=1234, corpora=corpora, choice=choice)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows_of(task.name)]
    found = predictor.answer(lines)
    return [
        {"text": line, "answer": answer, **raw}
        for line, answer, raw in zip(lines, found.answers, found.raw, strict=True)
    ]


def same(one: TaskResult, other: TaskResult) -> None:
    assert list(one.metrics) == list(other.metrics)
    for name, estimate in one.metrics.items():
        assert estimate == other.metrics[name]
        assert np.array_equal(one.statistics[name], other.statistics[name], equal_nan=True)


@pytest.mark.parametrize(
    ("name", "by_head"),
    [*((name, False) for name in TASKS if name not in UNASKED), *((name, True) for name in HEADS)],
)
def test_what_predict_writes_scores_as_the_model_does(name: str, by_head: bool, tmp_path: Path) -> None:
    task = task_of(tmp_path, name)
    heads = [HEADS[name]] if by_head else []
    expected = scored(model(*heads), task)
    found = scored(given(predicted(task, heads)), task)
    same(expected, found)
    assert found.conditions["prompt_way"] == "answers"
    assert found.conditions["answers"] == {
        "name": "mine",
        "sha256": held_answers(json.loads(json.dumps(predicted(task, heads))), name="mine").hash,
        "missing": 0,
        "unknown": 0,
    }


@pytest.mark.parametrize("name", sorted({*TASKS, *MORE} - {"minimal_pairs"}))
def test_samples_of_an_evaluation_are_answers_too(name: str, tmp_path: Path) -> None:
    task = task_of(tmp_path, name)
    heads = [HEADS[name]] if name in MORE else []
    expected = scored(model(*heads), task)
    lines = [json.loads(line_of(sample)) for sample in expected.samples]
    same(expected, scored(given(lines[::-1]), task))


def test_every_form_of_answer_is_read_or_refused_in_words(tmp_path: Path) -> None:
    forms = {kind_of(task_of(tmp_path, name)).answer for name in (*TASKS, *MORE)}
    assert forms == {kind.answer for kind in KINDS.values()}
    pairs = task_of(tmp_path, "minimal_pairs")
    assert given([{"answer": "x"}]).why_not(pairs, way="auto") == (
        "mine is a file of answers: pairs of texts are asked of a model."
    )
    with pytest.raises(UsageError, match=r"line 1: .* a line has its `logprob` in nats and its `tokens`"):
        scored(given([{"answer": "x"}] * 4), task_of(tmp_path, "language_modelling"))


def test_texts_of_filters_and_repeats_come_as_they_were_written(tmp_path: Path) -> None:
    more = (
        "repeats: 2\nfilter_list: [{name: first, filter: [{function: regex, regex_pattern: '(\\w+)'}, "
        "{function: take_first}]}, {name: all, filter: [{function: take_first}]}]\n"
    )
    task = task_of(tmp_path, "generation", more=more)
    same(scored(model(), task), scored(given(predicted(task, [])), task))


def test_labels_are_matched_by_name_and_what_is_none_of_them_is_wrong(tmp_path: Path) -> None:
    task = task_of(tmp_path, "classification", more="metrics: [acc, macro_f1, mcc, brier_score, ece, acc_norm]")
    rows = rows_of("classification")
    written = [str(row["label"]) for row in rows]
    written[0], written[1], written[2], written[3] = " Bad.", "GOOD", "neither", "1"
    truth = [["bad", "good"].index(str(row["label"])) for row in rows]
    answered = [0, 1, -1, 1, *truth[4:]]
    result = scored(given([{"answer": text} for text in written]), task)
    assert result.metrics["acc"].value == np.mean(np.array(truth) == answered)
    assert result.metrics["macro_f1"].value == pytest.approx(
        f1_score(truth, answered, labels=[0, 1], average="macro"), abs=1e-12
    )
    assert result.metrics["mcc"].value == pytest.approx(matthews_corrcoef(truth, answered), abs=1e-12)
    assert list(result.refused) == ["brier_score", "ece", "acc_norm"]
    assert "give `scores` of the choices" in result.refused["ece"]
    assert result.notes[0] == (
        '1 answers are none of the choices, or name none, and count as wrong (row 2; of row 2 "neither").'
    )
    assert [result.samples[place]["answer"] for place in (0, 1, 2, 3)] == ["bad", "good", "neither", "good"]
    assert [result.samples[place]["raw"] for place in (0, 1, 2, 3)] == written[:4]
    assert result.samples[2]["metrics"]["acc"] == 0.0  # type: ignore[index]
    assert result.labels["bad"].answered + result.labels["good"].answered == len(rows) - 1


def test_samples_of_answers_without_scores_score_the_same_again(tmp_path: Path) -> None:
    task = task_of(tmp_path, "classification", more="metrics: [acc, macro_f1, mcc]")
    lines: list[Row] = [{"answer": text} for text in ("bad", "good", "neither", "1")]
    lines += [{"answer": row["label"]} for row in rows_of("classification")[4:]]
    result = scored(given(lines), task)
    stored = [SampleRecord.model_validate(json.loads(line_of(sample))) for sample in result.samples]
    again = [answered_of(sample).outcome for sample in stored]
    assert [(each.chosen, each.scored) for each in again[:4]] == [
        (True, False),
        (True, False),
        (False, False),
        (True, False),
    ]
    for scoring in scorings_for(task):
        assert np.array_equal(scoring.metric.statistics(again), result.statistics[scoring.name])
    same(result, scored(given([json.loads(line_of(sample)) for sample in result.samples]), task))


def test_scores_come_in_order_by_name_or_as_probabilities(tmp_path: Path) -> None:
    task = task_of(tmp_path, "classification", more="metrics: [acc, brier_score]")
    count = len(rows_of("classification"))
    scores = [(-0.1 - n / 10, -2.0 + n / 10) for n in range(count)]
    ways: list[list[Row]] = [
        [{"scores": list(pair)} for pair in scores],
        [{"scores": {"GOOD": pair[1], "bad": pair[0]}} for pair in scores],
        [{"scores": json.dumps(list(pair))} for pair in scores],
    ]
    results = [scored(given(lines), task) for lines in ways]
    for other in results[1:]:
        same(results[0], other)
    shares = [{"probabilities": {"bad": math.exp(a), "good": math.exp(b)}} for a, b in scores]
    assert scored(given(shares), task).metrics["brier_score"].value == pytest.approx(
        results[0].metrics["brier_score"].value, abs=1e-12
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"scores": [-1.0]}, r"line 1: there are 2 choices \(bad, good\), and 1 `scores`"),
        ({"scores": [-1.0, float("nan")]}, "the score nan is no log-probability"),
        ({"scores": {"fine": -1.0}}, r"'fine' of `scores` is none of the 2 choices"),
        ({"probabilities": [-0.5, 1.5]}, "a probability is below 0"),
        ({"scores": [-1.0, -1.0]}, "are all the same, so that they choose nothing"),
    ],
)
def test_scores_that_are_none_are_refused(line: Row, sentence: str, tmp_path: Path) -> None:
    task = task_of(tmp_path, "classification")
    held = held_answers([line] * len(rows_of("classification")), name="mine")
    with pytest.raises(UsageError, match=sentence):
        scored(GivenSolver(held), task)


def test_missing_double_and_unknown_rows_are_told(tmp_path: Path) -> None:
    task = task_of(tmp_path, "classification", more="metrics: [acc]")
    rows = rows_of("classification")
    lines: list[Row] = [{"row": place, "answer": row["label"]} for place, row in enumerate(rows)]
    assert scored(given(lines[::-1]), task).metrics["acc"].value == 1.0
    sentence = (
        r"has no answer to 2 of 20 rows of classification \(rows 3, 7\); with --allow-missing 10% they count as wrong"
    )
    with pytest.raises(UsageError, match=sentence):
        scored(given([each for each in lines if each["row"] not in (3, 7)]), task)
    fewer = [{**each, "answer": None} if each["row"] in (3, 7) else each for each in lines]
    result = scored(given([*fewer, {"row": 99, "answer": "bad"}], allowed=0.1), task)
    assert result.metrics["acc"].value == 0.9
    assert result.n == 20
    assert result.notes == (
        "2 of 20 rows have no answer and count as wrong (rows 3, 7).",
        "1 answers are of rows that are not scored (row 99).",
    )
    with pytest.raises(UsageError, match=r"1 row of classification more than once \(row 4; 4 in lines 5 and 21\)"):
        scored(given([*lines, lines[4]]), task)
    with pytest.raises(UsageError, match="line 2 has no `row`, which others have"):
        scored(given([lines[0], {"answer": "bad"}]), task)
    with pytest.raises(UsageError, match="row 'q1' is no place"):
        scored(given([{"row": "q1", "answer": "bad"}]), task)


def test_every_kind_has_an_answer_for_what_is_missing(tmp_path: Path) -> None:
    worst = {"topics": "subset_acc", "chat": "recall_1", "found": "mrr", "multiple_choice": "acc", "span": "squad_em"}
    for name, metric in worst.items():
        more = f"metrics: [{metric}]" if name != "multiple_choice" else ""
        task = task_of(tmp_path, name, more=more if "metrics:" not in {**TASKS, **MORE}[name][1] else "")
        result = scored(given([{"row": 10_000, "answer": "x"}], allowed=1.0), task)
        assert result.metrics[metric].value == (1 / 8 if name == "found" else 0.0), name  # the last of eight texts
    tagged = scored(given([{"row": 10_000, "answer": "O"}], allowed=1.0), task_of(tmp_path, "roles"))
    assert tagged.notes[0] == "2 of 2 rows have no answer and count as outside, word by word (rows 0, 1)."
    with pytest.raises(UsageError, match="nothing stands for a number that is missing"):
        scored(given([{"row": 10_000, "answer": 1}], allowed=1.0), task_of(tmp_path, "numbers"))


def test_rows_by_an_id_of_the_data(tmp_path: Path) -> None:
    task = task_of(tmp_path, "alike")
    lines: list[Row] = [{"id": row["one"], "answer": row["score"]} for row in rows_of("alike")][::-1]
    assert scored(given(lines, id_column="one"), task).metrics["spearman"].value == pytest.approx(1.0)
    with pytest.raises(UsageError, match=r"no column 'id' .* --answers-id \(one, two, score\)"):
        scored(given(lines), task)
    twice: list[Row] = [{"id": str(row["text"]), "answer": "bad"} for row in rows_of("classification")]
    moods = task_of(tmp_path, "classification")
    with pytest.raises(UsageError, match="'bad' stands in column 'label' of rows 0 and 2, and names no row"):
        scored(given(twice, id_column="label"), moods)


def test_a_file_of_several_tasks_names_them(tmp_path: Path) -> None:
    moods, chats = task_of(tmp_path, "classification"), task_of(tmp_path, "chat")
    lines: list[Row] = [{"task": "chat", "answer": row["next"][row["best"]]} for row in CHAT]  # type: ignore[index, call-overload]
    solver = given(lines)
    assert scored(solver, chats).metrics["recall_1"].value == 1.0
    assert (
        solver.why_not(moods, way="auto")
        == "the answers of mine holds no answers to classification; its lines are of chat."
    )


def test_lists_in_order_of_a_corpus_leave_the_others_last(tmp_path: Path) -> None:
    task = task_of(tmp_path, "found")
    rows = rows_of("found")
    lines: list[Row] = [{"answer": [str(rows[0]["right"]), row["right"]]} for row in rows]
    assert scored(given(lines), task).metrics["mrr"].value == pytest.approx((1 + 7 / 2) / 8)
    lines = [{"answer": [0, 1]} for _ in rows]
    assert scored(given(lines), task).metrics["mrr"].value == pytest.approx((1 + 1 / 2 + 6 / 8) / 8)


def test_files_of_every_form_hold_the_same_answers(tmp_path: Path) -> None:
    lines: list[Row] = [{"row": 0, "answer": "3.50"}, {"row": 1, "answer": "[sic] yes"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "a.json").write_text(json.dumps(lines))
    (tmp_path / "a.csv").write_text("row,answer\n0,3.50\n1,[sic] yes\n")
    (tmp_path / "a.tsv").write_text("row\tanswer\n0\t3.50\n1\t[sic] yes\n")

    def answers(file: GivenAnswers) -> list[tuple[object, object]]:
        return [(str(line["row"]), line["answer"]) for line in file.lines]

    found = [answers(read_answers(tmp_path / f"a.{form}", name="a")) for form in ("jsonl", "json", "csv", "tsv")]
    assert found == [[("0", "3.50"), ("1", "[sic] yes")]] * 4
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="holds no answers"):
        read_answers(tmp_path / "empty.jsonl", name="a")
