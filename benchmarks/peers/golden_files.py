"""How a golden case becomes files that a harness reads, and where golden files lie."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sides import ROOT, Job

FOLDER = ROOT / "tests" / "golden"
TOKENIZER = FOLDER / "tokenizer.json"
MINI = ROOT / "lmtasks" / "backbone" / "presets" / "lmtasks-mini"
RESAMPLES = 2000
"""Of the bootstrap: two chunks of lm-evaluation-harness' draws."""


def write_case(case: Mapping[str, Any], folder: Path) -> Job:
    """Task file, rows and code of a case; the job that asks it.

    Args:
        case: as it stands in a golden file.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, rows in case["rows"].items():
        files[split] = str(folder / f"{split}.jsonl")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        Path(files[split]).write_text(lines, encoding="utf-8")
    for name, code in case["files"].items():
        (folder / name).write_text(code, encoding="utf-8")
    name = case["name"].replace("-", "_")
    source = json.dumps({"data_files": files}, ensure_ascii=False)
    text = f"task: {name}\ndataset_path: json\ndataset_kwargs: {source}\n{case['yaml']}"
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return Job(
        name=case["name"],
        task_folder=str(folder),
        tasks=(name,),
        num_fewshot=case["num_fewshot"],
        limit=case["limit"],
        resamples=RESAMPLES,
        chat=case["chat"],
        system=case["system"],
    )
