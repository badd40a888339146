"""Words that moved an answer: what is said of a word is what the model says of the text without it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import lmtasks
from lmtasks.errors import UsageError
from lmtasks.evaluation.outcome import Answered
from lmtasks.evaluation.protocols import Solved
from lmtasks.evaluation.write import read_samples
from lmtasks.records import Row, Text
from lmtasks.results.sample import WordsRecord
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import AdaptSettings
from lmtasks.task.index import default_index
from lmtasks.task.task import Task
from lmtasks.workflow.adapt import AdaptRequest, adapt_model
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.explain import explain, why_not, word_spans
from lmtasks.workflow.new_backbone import Start
from lmtasks.workflow.predict import PredictRequest, open_predictor
from tests.said import Say

TEXT = "The food was wonderful, and the staff weren't rude."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explain") / "model"
    request = AdaptRequest(
        start=Start(backbone="naive-bayes"),
        tasks=default_index().find("starter_sentiment_en"),
        settings=AdaptSettings(),
        data=DataAccess(offline=True),
        out=out,
    )
    adapt_model(request, report=lambda _: None)
    return out


def test_a_word_has_the_effect_of_leaving_it_out(model: Path) -> None:
    request = PredictRequest(model=str(model), tasks=TaskRequest(tasks="starter_sentiment_en"))
    with open_predictor(request) as predictor:
        (found,) = explain(predictor, [TEXT])
        assert [word.word for word in found.words] == [
            "The", "food", "was", "wonderful", "and", "the", "staff", "weren't", "rude",
        ]  # fmt: skip
        for word in found.words:
            without = " ".join((TEXT[: word.start] + TEXT[word.start + len(word.word) :]).split())
            answered = predictor.answer([TEXT, without])
            (before, after) = answered.probabilities
            assert before is not None
            assert after is not None
            assert word.change == pytest.approx(before[found.answer] - after[found.answer], abs=1e-9)
            assert word.moved == (() if answered.answers[1] == found.answer else (answered.answers[1],))
        assert found.probability == pytest.approx(before[found.answer])
        strongest = found.strongest(3)
        assert [abs(word.change) for word in strongest] == sorted((abs(w.change) for w in found.words), reverse=True)[
            :3
        ]


def test_texts_are_explained_together_as_alone(model: Path) -> None:
    with open_predictor(PredictRequest(model=str(model), tasks=TaskRequest(tasks="starter_sentiment_en"))) as predictor:
        together = explain(predictor, [TEXT, "Awful.", ""])
        assert together == tuple(explain(predictor, [text])[0] for text in (TEXT, "Awful.", ""))
        assert together[2].words == ()


def test_a_long_text_says_how_many_words_were_not_asked_about(model: Path) -> None:
    with open_predictor(PredictRequest(model=str(model), tasks=TaskRequest(tasks="starter_sentiment_en"))) as predictor:
        (found,) = explain(predictor, ["good " * 230])
    assert (len(found.words), found.left) == (200, 30)


@dataclass(frozen=True)
class _Tagger:
    """Says B-LOC of a word behind "in", else O."""

    task: Task

    def solve(self, rows: Sequence[Row], *, report: object = None) -> Solved:
        del report
        return Solved(examples=tuple(map(self._answered, rows)), truncated=0, seconds=0.0)

    def _answered(self, row: Row) -> Answered:
        words = row[self.task.inputs["tokens"]]
        assert isinstance(words, list)
        tags = " ".join("B-city" if number and words[number - 1] == "in" else "O" for number in range(len(words)))
        return Answered(outcome=Text(references=(), prediction=tags), prompt="", target=(), raw="", answer=tags)


def test_of_tags_it_says_which_words_are_tagged_otherwise() -> None:
    (task,) = default_index().find("snips_slots")
    (found,) = explain(_Tagger(task), ["I live in Paris now"])  # type: ignore[arg-type]
    assert found.answer == "O O O B-city O"
    effects = {word.word: (word.change, word.moved) for word in found.words}
    assert effects["in"] == (1.0, ("Paris: B-city -> O",))
    assert effects["Paris"] == (1.0, ("now: O -> B-city",))
    assert effects["live"] == (0.0, ())


def test_what_is_written_is_not_explained(tmp_path: Path) -> None:
    (task,) = default_index().find("starter_summarization_en")
    with pytest.raises(UsageError, match="--explain is about labels and tags of texts"):
        explain(_Tagger(task), ["text"])  # type: ignore[arg-type]


def test_chinese_is_cut_into_words() -> None:
    text = "这家酒店很好，service 不错！"
    words = [text[start:end] for start, end in word_spans(text)]
    assert "酒店" in words
    assert "service" in words
    assert "，" not in words


def test_the_command_prints_words_or_json(say: Say, model: Path) -> None:
    line = ("predict", "--model", model, "--tasks", "starter_sentiment_en", "--explain", TEXT)
    told = say(*line)
    assert told.code == 0
    assert "points  " in told.out
    as_json = say(*line, "--json")
    found = json.loads(as_json.out)
    assert set(found["probabilities"]) == {"negative", "positive"}
    assert found["words"][1]["word"] == "food"
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    plain = json.loads(say("predict", "--model", model, "--tasks", "starter_sentiment_en", "--json", TEXT).out)
    assert plain.pop("choices") == ["negative", "positive"]
    assert len(plain.pop("raw")) == 2
    assert plain == {name: found[name] for name in ("text", "answer", "probabilities")}


def test_python_gets_probabilities_and_words(model: Path) -> None:
    with lmtasks.load_model(model) as loaded:
        found = loaded.predict([TEXT], "starter_sentiment_en", explain=True, progress=False)
        plain = loaded.predict([TEXT], "starter_sentiment_en", progress=False)
    (shares,), (explanation,) = found.probabilities, found.explanations
    assert shares is not None
    assert explanation.probability == pytest.approx(shares[found.answers[0]])
    assert plain.explanations == ()


def test_eval_tells_the_words_of_samples_wrong_ones_first(say: Say, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    models = ("--model", model, "--model", "majority")
    asked = ("eval", *models, "--tasks", "starter_sentiment_en", "--limit", 40, "--out", out, "--cache", "off")
    said = say(*asked, "--explain", 3)
    assert said.code == 0, said.err
    assert "note: words that moved an answer are told of models; a baseline" in said.out
    record = WordsRecord.read(out / "model" / "words-starter_sentiment_en.json")
    samples = {each.doc_id: each for each in read_samples(out / "model", "starter_sentiment_en")}
    wrong = {each.doc_id for each in samples.values() if each.answer != each.target}
    assert len(record.asked) == 3
    assert len(wrong & set(record.asked)) == min(3, len(wrong)) > 0
    with open_predictor(PredictRequest(model=str(model), tasks=TaskRequest(tasks="starter_sentiment_en"))) as predictor:
        for each in record.rows:
            (found,) = explain(predictor, [str(samples[each.doc_id].doc["text"])])
            assert each.answer == samples[each.doc_id].answer == found.answer
            assert [(word.word, word.start) for word in each.words] == [(w.word, w.start) for w in found.words]
            assert [w.change for w in each.words] == pytest.approx([w.change for w in found.words], abs=1e-6)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert '"words":{"pieces":[' in page
    # The same command without words replaces the results, and words of samples that are no more go with them.
    assert say(*asked).code == 0
    assert not (out / "model" / "words-starter_sentiment_en.json").exists()
    assert '"words":{"pieces":[' not in (out / "index.html").read_text(encoding="utf-8")
    assert "leave out --no-samples" in say(*asked, "--explain", 3, "--no-samples").sentence


def test_a_plan_tells_words_and_says_of_which_tasks_it_cannot(say: Say, model: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    text = (
        "plan: tiny\ntasks: [starter_sentiment_en]\nlimit: 20\nbench: null\n"
        f"variants: [{{name: trivial, baseline: majority}}, {{name: mine, model: {model}}}]\n"
    )
    plan.write_text(text)
    out = tmp_path / "run"
    assert say("run", plan, "--out", out).code == 0
    assert not (out / "words").exists()
    plan.write_text(text + "explain: 4\nreference: mine\n")
    said = say("run", plan, "--out", out)
    assert said.code == 0, said.err
    assert "0 cells scored, 2 found from before" in said.out  # what is asked beside scores changes none of them
    (file,) = (out / "words").iterdir()
    assert len(WordsRecord.read(file).rows) == 4
    before = file.stat().st_mtime_ns
    assert say("run", plan, "--out", out).code == 0
    assert file.stat().st_mtime_ns == before


def test_answers_without_words_say_why_in_a_sentence() -> None:
    (task,) = default_index().find("starter_summarization_en")
    assert re.fullmatch(
        r"--explain is about labels and tags of texts; starter_summarization_en asks for .+\.", why_not(task)
    )


def test_a_task_that_reads_its_text_by_a_template_has_words_too(say: Say, model: Path, tmp_path: Path) -> None:
    rows = [
        {"sentence": TEXT, "title": "Awful", "label": "negative"},
        {"sentence": "Dull.", "title": "", "label": "positive"},
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = tmp_path / "starter_sentiment_en.yaml"
    task.write_text(
        "task: starter_sentiment_en\nkind: classification\nlanguage: en\nlabels: [negative, positive]\n"
        "dataset_path: json\ndataset_kwargs: {data_files: {test: test.jsonl}}\ntest_split: test\n"
        "inputs: {text: '{{ title }}: {{ sentence }}', label: label}\ndoc_to_text: '{{ sentence }}'\n"
    )
    said = say("eval", "--model", model, "--tasks", task, "--out", tmp_path / "out", "--explain", 2, "--cache", "off")
    assert said.code == 0, said.err
    first, second = WordsRecord.read(tmp_path / "out" / "words-starter_sentiment_en.json").rows
    assert {word.column for word in first.words} == {"title", "sentence"}
    assert any(word.change for word in first.words)
    assert [word.word for word in second.words] == ["Dull"]
