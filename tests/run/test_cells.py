"""When a stored cell is taken as it is, and when it is scored again."""

from dataclasses import replace
from pathlib import Path

from lmtasks.evaluation.evaluate import TaskResult
from lmtasks.evaluation.protocols import decoding_record
from lmtasks.records import GenerationSettings, ModelCard, TokenRules
from lmtasks.results.cell import Variant
from lmtasks.run.folder import Cell, Ended, RunFolder, is_finished, write_cell
from lmtasks.run.plan import VariantPlan
from lmtasks.run.trials import Trial
from lmtasks.task.generation import with_generation
from lmtasks.task.index import default_index

MODEL = ModelCard(
    name="mini",
    family="llama",
    kind="causal",
    adaptation="prompt",
    parameters=1,
    weights_hash="a" * 16,
    tokenizer_hash="",
    max_length_tokens=64,
    vocabulary=9,
    generation=GenerationSettings(repetition_penalty=1.1),
)


def test_texts_are_scored_again_where_they_would_be_written_otherwise(tmp_path: Path) -> None:
    """Weights stay the same when generation_config.json is edited between two runs of a plan."""
    (task,) = default_index().find("starter_summarization_en")
    cell = Cell(variant=VariantPlan(name="v", model="m"), task=task, trial=Trial(seed=1))
    result = TaskResult(
        task=task.name,
        alias=task.alias,
        kind=task.kind,
        language=task.language,
        task_hash=task.hash,
        data_fingerprint="",
        n=0,
        seconds=0.0,
        seconds_total=0.0,
        truncated=0,
        metrics={},
        conditions={"decoding": decoding_record(MODEL, task.generation)},
        recipes={},
        statistics={},
    )
    folder = RunFolder(root=tmp_path)
    (tmp_path / "cells").mkdir()
    ended = Ended(status="done", model=MODEL, runtime=None, result=result)
    write_cell(folder, cell, ended, variant=Variant(name="v"), rows=None, trained=None)
    assert is_finished(folder, cell, model=MODEL)
    assert not is_finished(folder, cell, model=replace(MODEL, generation=GenerationSettings()))
    assert not is_finished(folder, cell, model=replace(MODEL, rules=TokenRules(never=(3,))))
    (said,) = with_generation([task], {"repetition_penalty": 1.0})  # the task's hash stays
    assert not is_finished(folder, replace(cell, task=said), model=MODEL)
