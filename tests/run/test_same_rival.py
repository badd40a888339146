"""A baseline and the family of the same name are one thing: the same tokens, the same fit, the same numbers."""

from pathlib import Path

import pytest
from small_tasks import scored

from lmtasks.evaluation.baselines import BaselineSolver
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.settings.data import DataAccess
from lmtasks.settings.training import AdaptSettings
from lmtasks.task.index import default_index
from lmtasks.workflow.adapt import adapt_to_tasks
from lmtasks.workflow.new_backbone import Start
from lmtasks.workflow.open_model import open_engine

SEED = 1234
"""That evaluations have where nobody says another; it carves validation rows from training rows."""


@pytest.mark.parametrize("task", ["starter_topic_en", "starter_topic_zh"])
@pytest.mark.parametrize("name", ["tfidf", "svm", "naive-bayes"])
def test_a_linear_baseline_is_the_family_of_its_name(name: str, task: str, tmp_path: Path) -> None:
    (found,) = default_index().find(task)
    adapt_to_tasks(
        start=Start(backbone=name),
        tasks=[found],
        settings=AdaptSettings(seed=SEED),
        options=DataAccess(offline=True),
        out=tmp_path / "model",
        report=lambda progress: None,
    )
    baseline = scored(BaselineSolver(name), found)
    with open_engine(tmp_path / "model", runtime="native", device="cpu", precision="fp32", threads=1) as engine:
        family = scored(EngineSolver(engine), found)
    assert [each["answer"] for each in baseline.samples] == [each["answer"] for each in family.samples]
    assert baseline.metrics == family.metrics
