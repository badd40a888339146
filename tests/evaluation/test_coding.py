"""What is scored must be the text: tokens that do not say theirs give no perplexity per word and no bits per byte.

A word n-gram had 0.632 bits per byte on Chinese abstracts, where characters have 2.75: its unknown tokens counted as if
they had coded the words that they stood for.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_runtime import FakeRuntime
from small_tasks import WORDS, scored, small_task
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models

from lmtasks.data.tokenizer import Tokenizer
from lmtasks.data.vocabulary import learn_tokenizer
from lmtasks.engine.engine import Engine
from lmtasks.errors import UsageError
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.samples import KeptSamples
from lmtasks.evaluation.write import read_results, write_results
from lmtasks.task.load import load_task
from lmtasks.task.task import Task
from lmtasks.workflow.rescore import Rescoring, rescore

OF_TEXT = {"word_perplexity", "bits_per_byte"}


def solver(tokenizer: Tokenizer) -> EngineSolver:
    return EngineSolver(Engine(FakeRuntime(vocabulary=tokenizer.vocabulary, max_length=64), tokenizer))


def words_task(folder: Path, texts: Sequence[str], *, more: str = "") -> Task:
    task = small_task(folder, "language_modelling", more=more)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "language_modelling-test.jsonl").write_text(lines, encoding="utf-8")
    return task


def test_words_that_are_unknown_give_no_bits(tmp_path: Path) -> None:
    task = words_task(tmp_path, ["the cat sat", "the zebra sat on a quagga"])
    result = scored(solver(learn_tokenizer("words", [" ".join(WORDS)])), task)
    assert set(result.metrics) == {"token_perplexity"}
    assert result.unknown_share == pytest.approx(2 / 9)
    assert set(result.refused) == OF_TEXT == set(task_metrics(task)) - set(result.metrics)
    assert "22 % of the scored tokens (2 of 9) are unknown ones" in result.refused["bits_per_byte"]
    assert "bpe, characters or bytes" in result.refused["bits_per_byte"]
    assert set(result.recipes) == set(result.statistics) == {"token_perplexity"}
    whole, holed = (set(sample["metrics"]) for sample in result.samples)  # type: ignore[call-overload]
    assert (whole, holed) == ({"token_perplexity"} | OF_TEXT, {"token_perplexity"})


def task_metrics(task: Task) -> list[str]:
    return [use.name for use in task.metrics]


@pytest.mark.parametrize("between", ["", "windows: {concatenate: true}"])
def test_the_unknown_word_of_a_data_set_is_a_word_of_its_text(tmp_path: Path, between: str) -> None:
    """PTB and WikiText write <unk> themselves: whoever predicts that predicts the text, and papers count it so."""
    task = words_task(tmp_path, ["the <unk> sat", "<unk> <unk> on a mat"], more=between)
    result = scored(solver(learn_tokenizer("blanks", [" ".join(WORDS)])), task)
    assert set(result.metrics) == {"token_perplexity"} | OF_TEXT
    assert (result.refused, result.unknown_share) == ({}, 0.0)
    mixed = scored(
        solver(learn_tokenizer("blanks", [" ".join(WORDS)])), words_task(tmp_path, ["the <unk> x<unk>"], more=between)
    )
    assert mixed.unknown_share == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe:300"])
def test_what_says_every_text_has_all_metrics(tmp_path: Path, kind: str) -> None:
    task = words_task(tmp_path, ["the zebra 斑马 sat", "Ünïcödé \U0001f993"])
    tokenizer = learn_tokenizer(kind, [" ".join(WORDS)])
    assert tokenizer.unknown is None
    result = scored(solver(tokenizer), task)
    assert (set(result.metrics), result.refused) == ({"token_perplexity"} | OF_TEXT, {})


@pytest.mark.parametrize("kind", ["words", "blanks", "jieba", "unigram:60", "wordpiece:80"])
def test_every_kind_with_an_unknown_token_knows_it(kind: str) -> None:
    tokenizer = learn_tokenizer(kind, [" ".join(WORDS)] * 9)
    assert tokenizer.unknown == tokenizer.raw.token_to_id("<unk>")
    for text in ("the 斑马 sat", "the cat 斑马"):
        assert tokenizer.unknown_in(text, tokenizer.encode(text)) == 1
    assert tokenizer.unknown_in("the cat", tokenizer.encode("the cat")) == 0


def test_a_checkpoints_own_unknown_token_counts_under_its_own_name() -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2}
    merges: list[tuple[str, str]] = []
    raw = RawTokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="[UNK]"))
    tokenizer = Tokenizer(raw, bos=1, eos=1, pad=1)
    assert tokenizer.unknown_in("abz", tokenizer.encode("abz")) == 1


@pytest.mark.parametrize("cleaning", ["lower", "stop=en", "zero-digits"])
def test_a_text_that_cleaning_changed_is_not_the_text(tmp_path: Path, cleaning: str) -> None:
    task = words_task(tmp_path, ["The cat 7", "cat"])
    tokenizer = learn_tokenizer(f"words:90,{cleaning}", ["The cat 7 0 the"])
    result = scored(solver(tokenizer), task)
    assert set(result.metrics) == {"token_perplexity"}
    assert "cleaning changed 1 of 2 texts" in result.refused["word_perplexity"]
    untouched = scored(solver(tokenizer), words_task(tmp_path, ["cat"]))
    assert untouched.refused == {}


def test_where_nothing_is_left_the_task_is_refused(tmp_path: Path) -> None:
    task = words_task(tmp_path, ["the zebra"])
    (tmp_path / "harness.yaml").write_text(
        "task: harness\noutput_type: loglikelihood_rolling\ndataset_path: json\n"
        "dataset_kwargs: {data_files: {test: language_modelling-test.jsonl}}\ntest_split: test\n"
        'doc_to_text: ""\ndoc_to_target: "{{text}}"\n',
        encoding="utf-8",
    )

    with pytest.raises(UsageError, match="no word_perplexity, no byte_perplexity, no bits_per_byte"):
        scored(solver(learn_tokenizer("words", [" ".join(WORDS)])), load_task(tmp_path / "harness.yaml"))
    assert task.name == "language_modelling"


def test_an_unknown_token_is_never_the_text_that_was_asked_for(tmp_path: Path) -> None:
    """Greedy decoding that yields <unk> has not written the word."""
    task = small_task(tmp_path, "last_words")
    rows = [{"text": "the cat zebra", "cut": 2}]
    (tmp_path / "last_words-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = learn_tokenizer("words", ["the cat"])
    found = [score_first(tokenizer, task, start) for start in range(tokenizer.vocabulary)]
    assert [result.metrics["acc"].value for result in found] == [0.0] * len(found)
    assert all("perplexity" in result.refused for result in found)


def score_first(tokenizer: Tokenizer, task: Task, start: int) -> TaskResult:
    runtime = FakeRuntime(vocabulary=tokenizer.vocabulary, max_length=64, start=start)
    return scored(EngineSolver(Engine(runtime, tokenizer)), task)


def test_what_was_refused_is_refused_when_it_is_scored_again(tmp_path: Path) -> None:
    task = words_task(tmp_path, ["the cat sat", "the zebra"])
    asked = solver(learn_tokenizer("words", [" ".join(WORDS)]))
    result = scored(asked, task)
    write_results(tmp_path / "out", results=[result], model=asked.model, runtime=asked.card, machine={}, versions={})
    stored = read_results(tmp_path / "out")
    assert stored.tasks[task.name].scores.unknown_share == pytest.approx(0.2)
    (again,) = rescore(stored, Rescoring(tasks=[task]), samples=KeptSamples())
    assert (again.refused, again.unknown_share) == (result.refused, result.unknown_share)
    with pytest.raises(UsageError, match="unknown ones"):
        rescore(stored, Rescoring(metrics=["byte_perplexity"]), samples=KeptSamples())
