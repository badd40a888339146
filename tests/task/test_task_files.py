"""Contract of every shipped task file: it loads, its metrics exist and fit, and its templates fit its rows."""

import json
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import pytest

from lmtasks.data.mirror import with_stand_ins
from lmtasks.metric import METRICS
from lmtasks.settings.data import DataAccess
from lmtasks.task import (
    Source,
    Task,
    baseline_source,
    build_prompt,
    default_index,
    head_input,
    load_task,
    pick_shots,
    scored_text,
)
from lmtasks.task.hooks import process_rows
from lmtasks.task.kinds import kind_of

FILES = {entry.name: entry.file for entry in default_index().entries()}
NAMES = sorted(FILES)
EMBEDDED = [name for name in NAMES if name.startswith(("starter_", "bias_", "speech_"))]
HUB = [name for name in NAMES if name not in EMBEDDED]
MIRROR = os.environ.get("LMTASKS_DATA_ROOT")
REAL_ROWS = 400

WANTED = [
    "sst2",
    "imdb",
    "trec",
    "ag_news",
    "cola",
    "mrpc",
    "chnsenticorp",
    "tnews",
    "multi30k_en_de",
    "multi30k_de_en",
    "tatoeba_en_zh",
    "tatoeba_zh_en",
    "dialogsum",
    "csl",
    "squad_v2",
    "cmrc2018",
    "ptb",
    "wikitext",
    "lambada",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "piqa",
    "winogrande",
    "starter_sentiment_en",
    "starter_sentiment_zh",
    "starter_topic_en",
    "starter_topic_zh",
    "starter_translation_en_zh",
    "starter_summarization_en",
    "starter_summarization_zh",
    "starter_qa_en",
    "starter_qa_zh",
    "starter_paragraphs_en",
    "starter_paragraphs_zh",
    "starter_continuation_en",
    "starter_continuation_zh",
    "starter_stars_en",
    "starter_stars_zh",
    "starter_aspects_en",
    "starter_aspects_zh",
    "sst5_grades",
    "atis_intent_sets",
    "speech_en",
    *(f"bias_{group}_{language}" for group in ("gender", "names", "places", "age") for language in ("en", "zh")),
    "daily_dialog",
    "starter_match_en",
    "starter_match_zh",
    *("sst5", "multi30k_en_fr", "multi30k_fr_en", "newstest2021_en_zh", "daily_dialog_text", "daily_dialog_replies"),
    *(f"{name}_{way}" for name in ("3am", "python_docs") for way in ("en_zh", "zh_en")),
    *("mrpc_likeness", "squad_passages", "cmrc2018_passages", "csl_abstracts", "newstest2021_paraphrases_zh"),
    *("tatoeba_bitext_en_zh", "starter_passages_en", "starter_passages_zh"),
    *("csl_pairs", "cmrc2018_pairs"),
    *("csl_title_choice", "cmrc2018_answer_choice", "corpus_zh", "government_en", "legal_zh"),
    *(f"{name}_{language}" for name in ("technical", "encyclopaedia") for language in ("en", "zh")),
]


def test_every_promised_task_is_there() -> None:
    assert set(WANTED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_file_loads_and_says_what_it_is(name: str) -> None:
    task = load_task(FILES[name])
    assert task.name == name
    assert task.about, "a line for `lmtasks list tasks`"
    assert set(task.language) <= set("abcdefghijklmnopqrstuvwxyz")
    assert json.loads(json.dumps(task.fields)) == task.fields
    assert len(task.hash) == 16
    others = [source for split, source in task.sources.items() if split != "test"]
    assert task.sources["test"] not in others or (task.keep is not None and task.keep.held_out)


@pytest.mark.parametrize("name", NAMES)
def test_metrics_exist_and_score_what_the_task_yields(name: str) -> None:
    task = load_task(FILES[name])
    for use in task.metrics:
        assert use.name in METRICS
        assert kind_of(task).outcome in METRICS[use.name].takes
    chinese_metrics = {"bleu_zh"} & {use.name for use in task.metrics}
    assert (task.kind == "translation" and task.language == "zh") == bool(chinese_metrics)


@pytest.mark.parametrize("name", EMBEDDED)
def test_templates_fit_the_embedded_rows(name: str) -> None:
    task = load_task(FILES[name])
    for split, source in task.sources.items():
        assert source.base is not None
        assert source.data_files is not None
        rows = _json_rows(source.base / str(source.data_files[source.split]))
        _check_rows(task, rows, split=split)


@pytest.mark.real_data
@pytest.mark.skipif(not MIRROR, reason="LMTASKS_DATA_ROOT names no mirror of the Hub")
@pytest.mark.parametrize("name", HUB)
def test_templates_fit_the_rows_of_the_mirror(name: str) -> None:
    task = with_stand_ins(load_task(FILES[name]), options=DataAccess(data_root=Path(str(MIRROR))))
    for split, source in task.sources.items():
        rows = _mirror_rows(source, whole=task.keep is not None)
        if not rows:
            continue
        _check_rows(task, rows, split=split)


def _check_rows(task: Task, rows: Sequence[Mapping[str, object]], *, split: str) -> None:
    rows = process_rows(task, rows, learned=split == "train")
    for number, row in enumerate(rows):
        answer = head_input(task, row, row_number=number)
        if task.kind in ("tagging", "semantic_roles"):  # answered by heads alone, never prompted
            where = f"{task.name} {split} {number}"
            assert len(answer.tokens) == len(answer.tags) > 0, where
            assert all(0 <= tag < len(task.labels) for tag in answer.tags), where
            continue
        if not kind_of(task).prompted:
            right = (answer.number, answer.labels, answer.answers or None)
            assert any(each is not None for each in right), f"{task.name} {split} {number}"
            continue
        prompt = build_prompt(task, row, row_number=number)
        where = f"{task.name} {split} {number}"
        assert "{{" not in prompt.context, where
        if task.output_type == "multiple_choice":
            assert len(prompt.choices) >= 2, where
            assert all(choice.strip() for choice in prompt.choices), where
            assert all(0 <= gold < len(prompt.choices) for gold in prompt.gold), where
            assert prompt.contexts == () or len(prompt.contexts) == len(prompt.choices), where
        if task.output_type == "generate_until":
            assert prompt.context.strip(), where
            assert prompt.target.strip(), where
            assert task.kind == "span" or prompt.references, where
        if task.kind == "classification":
            assert answer.label is not None, where
            assert 0 <= answer.label < len(task.labels), where
            assert prompt.gold == (answer.label,), where
        if task.kind == "span":
            assert answer.second is not None
            for text, start in zip(answer.answers, answer.starts, strict=True):
                assert start == -1 or answer.second[start : start + len(text)] == text, where
            if split == "train":
                assert -1 not in answer.starts, where
        if task.kind == "language_modelling":
            assert scored_text(task, row), where
        if task.kind == "ranking":
            assert prompt.gold == (answer.label,), where
        assert isinstance(baseline_source(task, row), str)
    if kind_of(task).prompted and task.kind not in ("language_modelling", "tagging", "semantic_roles", "minimal_pairs"):
        shots = pick_shots(task, pool=rows, row=rows[0], row_number=0, count=2, seed=1)
        with_shots = build_prompt(task, rows[0], shots=shots)
        plain = build_prompt(task, rows[0])
        assert len(with_shots.context) > len(plain.context) or with_shots.contexts != plain.contexts


def _json_rows(file: Path) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _mirror_rows(source: Source, *, whole: bool) -> list[Mapping[str, object]]:
    from pyarrow.parquet import ParquetFile

    rows: list[Mapping[str, object]] = []
    for split in source.split.split("+"):
        file = Path(str(MIRROR)) / source.path / (source.name or "") / f"{split}.parquet"
        if not file.is_file():
            pytest.fail(f"the mirror has no {file}")
        batches = ParquetFile(file).iter_batches(batch_size=REAL_ROWS)
        rows += [row for batch in islice(batches, None if whole else 1) for row in batch.to_pylist()]
    return rows
