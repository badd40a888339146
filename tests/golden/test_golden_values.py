"""Values that lm-evaluation-harness 0.4.13 found, found again: prompts, log-probabilities, texts, metrics, errors.

`benchmarks/peers/make_golden.py` made the files; each names versions and weights. Bounds are in `equality.py`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from equality import compare, compare_metrics
from golden_files import MINI, TOKENIZER, write_case
from golden_groups import write_groups
from golden_mirror import hashes
from near_tie import near_ties
from peer_checkpoints import TINY, make_checkpoint, weights_hash
from side_lmtasks import evaluated, evaluated_tasks, grouped

from lmtasks.engine.engine import Engine
from lmtasks.task import load_task
from lmtasks.workflow.open_model import open_engine

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = ("choices", "likelihoods", "texts", "chats")
Opened = tuple[Engine, Path]


def _read(name: str) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return content


GOLDEN = {name: _read(name) for name in ROWS}
MIRROR = _read("mirror")
GROUPS = _read("groups")
CASES = [
    pytest.param(case, checkpoint, id=f"{case['name']}-{checkpoint}")
    for content in GOLDEN.values()
    for case in content["cases"]
    for checkpoint in case["expected"]
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Opened]]:
    """A checkpoint's engine, opened once."""
    engines: dict[str, Opened] = {}
    with ExitStack() as stack:

        def opened_once(name: str) -> Opened:
            if name not in engines:
                folder = MINI
                if name in TINY:
                    folder = make_checkpoint(tmp_path_factory.mktemp(name), shape=TINY[name], tokenizer=TOKENIZER)
                engine = stack.enter_context(open_engine(folder, runtime="torch", precision="fp32", threads=2))
                engines[name] = (engine, folder)
            return engines[name]

        yield opened_once


@pytest.mark.parametrize("name", [*TINY, "lmtasks-mini"])
def test_the_weights_are_those_of_the_golden_files(name: str, opened: Callable[[str], Opened]) -> None:
    found = weights_hash(opened(name)[1])
    stored = {content["weights"][name] for content in (*GOLDEN.values(), GROUPS, MIRROR) if name in content["weights"]}
    assert stored == {found}, (
        f"the weights of {name} are not those that lm-evaluation-harness was asked with; if they were changed on "
        "purpose, run benchmarks/peers/make_golden.py again"
    )


@pytest.mark.parametrize(("case", "checkpoint"), CASES)
def test_values_of_lm_evaluation_harness(
    case: Mapping[str, Any], checkpoint: str, opened: Callable[[str], Opened], tmp_path: Path
) -> None:
    engine, folder = opened(checkpoint)
    job = asdict(write_case(case, tmp_path))
    (task,) = job["tasks"]
    ours = evaluated(engine, job, checkpoint=folder)
    stored = case["expected"][checkpoint]
    theirs = {"samples": {task: stored["samples"]}, "results": {task: stored["results"]}}
    checks = compare(case["name"], theirs, ours, near_tie=near_ties(folder))
    wrong = [
        f"{check.what}: {check.worst:.3g} over {check.bound:.0e}; {check.detail}" for check in checks if not check.equal
    ]
    assert not wrong, "\n".join(wrong)
    _same_answers(stored["samples"], ours["samples"][task])


def test_values_of_groups(opened: Callable[[str], Opened], tmp_path: Path) -> None:
    """Means by rows and by tasks, their errors, and groups in groups."""
    (checkpoint,) = GROUPS["weights"]
    engine, folder = opened(checkpoint)
    cases = {case["name"]: case for case in GOLDEN["choices"]["cases"] if case["name"] in GROUPS["members"]}
    jobs = write_groups({name: cases[name] for name in GROUPS["members"]}, GROUPS["groups"], tmp_path)
    for job in jobs:
        theirs, ours = GROUPS["expected"][job.name], grouped(engine, asdict(job), checkpoint=folder)
        assert set(ours) == set(theirs)
        for name, stored in theirs.items():
            assert set(ours[name]) == set(stored), name
            checks = list(compare_metrics(job.name, name, stored, ours[name]))
            assert checks
            assert not [check for check in checks if not check.equal], name


def _same_answers(theirs: list[Mapping[str, Any]], ours: list[Mapping[str, Any]]) -> None:
    """What each pipeline of filters made of the same texts."""
    for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        if one["replies"] == _listed(other["replies"]) and other["answers"]:
            made = {name: answers[0] for name, answers in one["answers"].items()}
            assert {name: other["answers"][name] for name in made} == made, f"document {number}"


def _listed(replies: Any) -> list[list[Any]]:
    return [replies] if isinstance(replies, list) else [[replies]]


@pytest.mark.real_data
@pytest.mark.parametrize("stored", MIRROR["tasks"], ids=lambda stored: str(stored["name"]))
def test_values_on_data_of_the_mirror(
    stored: Mapping[str, Any], opened: Callable[[str], Opened], data_root: Path
) -> None:
    engine, folder = opened("lmtasks-mini")
    task = load_task(ROOT / "tasks" / stored["file"])
    job = {
        "num_fewshot": stored["num_fewshot"],
        "limit": stored["limit"],
        "chat": "no",
        "system": None,
        "resamples": MIRROR["settings"]["resamples"],
        "samples": True,
    }
    ours = evaluated_tasks(engine, [task], job, checkpoint=folder, data_root=data_root)
    samples = ours["samples"][task.name]
    assert hashes(samples)["prompts"] == stored["prompts"], "the prompts are not lm-evaluation-harness'"
    shared = {
        key: value for key, value in stored["results"].items() if key.partition(",")[0] in ours["results"][task.name]
    }
    assert shared, f"no metric of lm-evaluation-harness is among {list(ours['results'][task.name])}"
    checks = list(compare_metrics(str(stored["name"]), task.name, shared, ours["results"][task.name]))
    assert not [check for check in checks if not check.equal]
    assert hashes(samples)["texts"] == stored["texts"]
