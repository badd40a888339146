"""The plan `joint` on starter tasks: together, apart, by adapters, and over a backbone that stands still."""

from pathlib import Path

import yaml
from tiny import tiny_checkpoint

from lmtasks.model.store import read_provenance
from lmtasks.run.plan import find_plan, load_plan
from lmtasks.run.run_plan import RunOptions, run_plan
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index

TASKS = ["starter_sentiment_en", "starter_topic_en"]


def test_joint_separate_adapters_and_frozen_learn_the_same_rows(tmp_path: Path) -> None:
    backbone = tiny_checkpoint(tmp_path / "backbone", "llama", context=256)
    plan = yaml.safe_load(find_plan("joint").read_text())
    assert set(plan["models"]) == {"joint", "joint-uniform", "joint-temperature", "separate", "adapters", "frozen"}
    reduced = {"epochs": 1, "rows": 16, "evaluations": 1, "words": "no"}  # n-grams outweigh this backbone
    for model in plan["models"].values():
        model |= {"backbone": str(backbone), "training": {**model["training"], **reduced}}
    plan |= {"tasks": TASKS, "sample": 8}
    file = tmp_path / "joint.yaml"
    file.write_text(yaml.safe_dump(plan))
    ran = run_plan(
        load_plan(file), plan_file=file, index=default_index(), out=tmp_path / "run",
        options=RunOptions(data=DataAccess(offline=True), threads=1), report=lambda _: None,
    )  # fmt: skip
    assert (ran.done, ran.failed) == (len(plan["variants"]) * len(TASKS), ())
    folders = sorted((tmp_path / "run" / "models").iterdir())
    records = {folder.name: read_provenance(folder) for folder in folders if (folder / "model.json").is_file()}
    assert len(records) == 3 + 2 + 2 + 1
    mixed = {name: record["mixture"] for name, record in records.items() if "mixture" in record}
    assert sorted(each["by"] for each in mixed.values()) == [  # type: ignore[index]
        "proportional", "proportional", "temperature=2", "uniform"
    ]  # fmt: skip
    assert all(each["rows"] == dict.fromkeys(TASKS, 16) for each in mixed.values())  # type: ignore[index]
    sizes = {folder.name: sum(file.stat().st_size for file in folder.rglob("*.safetensors")) for folder in folders}
    small = [size for name, size in sizes.items() if name.startswith("adapters")]
    assert max(small) < 0.2 * min(size for name, size in sizes.items() if name.startswith("separate"))
