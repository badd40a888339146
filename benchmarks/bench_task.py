"""Hot paths of task/: rows through their templates, with and without worked examples."""

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lmtasks.task.index import default_index
from lmtasks.task.prompt import build_prompt
from lmtasks.task.task import Task

TASK = """
task: capitals
dataset_path: json
test_split: test
output_type: multiple_choice
doc_to_text: "Asked: {{question.strip()}}\\n{% for each in choices %}{{loop.index}}. {{each}}\\n{% endfor %}Answer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}]
"""


def _task(folder: Path) -> Task:
    file = folder / "capitals.yaml"
    file.write_text(TASK, encoding="utf-8")
    (task,) = default_index().find(str(file))
    return task


def _rows(count: int) -> list[dict[str, object]]:
    return [
        {"question": f" What stands at place {number}? ", "choices": [f"{number + k}" for k in range(4)], "answer": 0}
        for number in range(count)
    ]


@pytest.mark.parametrize("shots", [0, 5])
def test_prompts_of_1000_rows(benchmark: BenchmarkFixture, tmp_path: Path, shots: int) -> None:
    task, rows = _task(tmp_path), _rows(1000)
    prompts = benchmark(lambda: [build_prompt(task, row, shots=rows[:shots]) for row in rows])
    assert prompts[7].context.endswith("4. 10\nAnswer:")
