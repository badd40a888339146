"""One evaluation divided over hands of a cluster: what one process writes; hands that are lost, shards that are there,
models that fail. The hands are pretended, in this process; the last test has those of Ray, and kills one."""

import json
import pickle
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from lmtasks.cluster.dispatch import ClusterJob, Event, HandLost, JobEnded, JobOutcome, Needs
from lmtasks.cluster.handover import STAGE
from lmtasks.cluster.ray_pool import HandContext, HandPlace, HandSetup
from lmtasks.errors import LmtasksError, UsageError, WorkError
from lmtasks.evaluation.protocols import Solver
from lmtasks.evaluation.shards import Shard
from lmtasks.progress_bars import quiet
from lmtasks.records import Progress
from lmtasks.settings.data import DataAccess, TaskChoice
from lmtasks.settings.evaluation import BesideScores, ResultsOut, Scoring
from lmtasks.settings.training import AdaptSettings
from lmtasks.task.index import default_index
from lmtasks.workflow import shards_on_cluster
from lmtasks.workflow.adapt import adapt_to_tasks
from lmtasks.workflow.choose_models import ChosenModel, OpenOptions
from lmtasks.workflow.choose_tasks import TaskRequest
from lmtasks.workflow.evaluate import EvalRequest, evaluate_models, evaluate_shard
from lmtasks.workflow.new_backbone import Start
from lmtasks.workflow.shards_on_cluster import evaluate_on_cluster

TASKS = "starter_sentiment_en,starter_topic_en"
LIMIT = 23
T = TypeVar("T")
OFFLINE = DataAccess(offline=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "small"
    adapt_to_tasks(
        start=Start(backbone="average:width=8,buckets=50"),
        tasks=default_index().find(TASKS),
        settings=AdaptSettings(epochs=0.3, evaluations=1),
        options=OFFLINE,
        out=out,
        report=quiet,
        rows=20,
    )
    return out


def asked(out: Path, *models: str, **changes: object) -> EvalRequest:
    request = EvalRequest(
        models=models,
        tasks=TaskRequest.of(TaskChoice(tasks=TASKS)),
        data=OFFLINE,
        scoring=Scoring(limit=LIMIT),
        output=ResultsOut(out=out),
        given={"limit": LIMIT},
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def sent(value: T) -> T:
    """The value as it arrives on another machine."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301


@dataclass(kw_only=True)
class Hands:
    """Two hands in this process. A job's work passes through pickle, as it does on its way to another machine."""

    root: Path
    setup: HandSetup
    lose: deque[int]
    """Numbers of the jobs that end with their hand, after they have written."""
    given: list[str] = field(default_factory=list)
    _waiting: deque[tuple[int, ClusterJob]] = field(default_factory=deque)
    _contexts: dict[int, HandContext] = field(default_factory=dict)
    _count: int = 0
    _live: set[int] = field(default_factory=set)

    def fits(self, needs: Needs) -> bool:
        return needs.cores == 1

    def largest(self) -> str:
        return "1 core"

    def start(self, needs: Needs) -> int | None:
        if len(self._live) == 2:
            return None
        self._count += 1
        self._live.add(self._count)
        return self._count

    def give(self, hand: int, job: ClusterJob) -> None:
        self.given.append(job.name)
        self._waiting.append((hand, job))

    def wait(self, seconds: float) -> Sequence[Event]:
        hand, job = self._waiting.popleft()
        try:
            if hand not in self._contexts:
                setup: HandSetup = sent(self.setup)
                self._contexts[hand] = setup.open(HandPlace(root=self.root, shared=True, host="here"))
            value = self._contexts[hand].carry_out(sent(job.work))
        except LmtasksError as error:
            return [JobEnded(hand=hand, outcome=JobOutcome(error=str(error)))]
        if self.lose and self.lose[0] == len(self.given):
            self.lose.popleft()
            self._live.discard(hand)
            return [HandLost(hand=hand, why="killed", machine=False)]
        return [JobEnded(hand=hand, outcome=JobOutcome(value=value))]

    def stop(self, hand: int) -> None:
        self._live.discard(hand)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> list[Hands]:
    """Pools that were opened; a lost job is asked for by `LOSE`."""
    opened: list[Hands] = []

    @contextmanager
    def pool(on: str, *, folder: Path, setup: HandSetup) -> Iterator[Hands]:
        opened.append(Hands(root=folder, setup=setup, lose=deque((3,))))
        yield opened[-1]

    monkeypatch.setattr(shards_on_cluster, "ray_pool", pool)
    monkeypatch.setattr(shards_on_cluster, "check_on", lambda on: None)
    return opened


def assert_same(one: Path, other: Path) -> None:
    assert sorted(file.name for file in one.rglob("*")) == sorted(file.name for file in other.rglob("*"))
    for file in one.rglob("samples-*.jsonl"):
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes()
    for file in one.rglob("results.json"):
        here, there = (json.loads(each.read_text()) for each in (file, other / file.relative_to(one)))
        assert json.dumps(here["asked"]) == json.dumps(there["asked"])
        for name, result in here["results"].items():
            for key in result.keys() - {"seconds", "seconds_total"}:
                assert json.dumps(result[key]) == json.dumps(there["results"][name][key]), (name, key)


def test_shards_of_a_cluster_are_what_one_process_writes(model: Path, hands: list[Hands], tmp_path: Path) -> None:
    """A model and a baseline, five shards of 23 rows, one lost once it had written."""
    evaluate_models(asked(tmp_path / "one", str(model), "majority"), report=quiet)
    seen: list[Progress] = []
    request = asked(tmp_path / "five", str(model), "majority")
    evaluated = evaluate_on_cluster(request, on="ray", shards=5, report=seen.append)
    assert_same(tmp_path / "one", tmp_path / "five")
    assert evaluated.failure() is None
    assert (len(hands[0].given), len(set(hands[0].given))) == (6, 5), "the lost one is answered again"
    assert (seen[0].done, seen[0].total, seen[0].unit) == (0, 5, "shards")
    assert any(each.done == 5 for each in seen)


def test_shards_that_are_there_are_not_answered_again(model: Path, hands: list[Hands], tmp_path: Path) -> None:
    out = tmp_path / "out"
    request = asked(out, str(model))
    for index in (1, 4):
        evaluate_shard(request, Shard(index=index, count=5), report=quiet)
    next((out / "shard-4-of-5").glob("samples-*")).unlink()
    (out / STAGE / "of-a-killed-run").mkdir(parents=True)
    evaluate_on_cluster(request, on="ray", shards=5, report=quiet)
    assert sorted(set(hands[0].given)) == [f"shard {index} of 5 of small" for index in (2, 3, 4, 5)]
    assert {file.suffix for file in out.iterdir()} == {".json", ".jsonl"}, "no shard and no stage is left"


def test_shards_of_another_question_stay_and_are_told(model: Path, hands: list[Hands], tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate_on_cluster(asked(out, str(model)), on="ray", shards=2, report=quiet)
    other = asked(out, str(model), scoring=Scoring(limit=5), given={"limit": 5})
    with pytest.raises(UsageError, match="holds results of something else"):
        evaluate_on_cluster(other, on="ray", shards=2, report=quiet)


def test_a_model_whose_shards_fail_does_not_stop_the_others(
    model: Path, hands: list[Hands], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    opened = shards_on_cluster.open_solver

    def refuse(chosen: ChosenModel, opening: OpenOptions) -> AbstractContextManager[Solver]:
        if chosen.label == "broken":
            raise WorkError("there is no memory for it.")
        return opened(chosen, opening)

    monkeypatch.setattr(shards_on_cluster, "open_solver", refuse)
    request = asked(tmp_path / "out", str(model), str(broken))
    evaluated = evaluate_on_cluster(request, on="ray", shards=2, report=quiet)
    assert [len(each.results) for each in evaluated.models] == [2, 0]
    told = str(evaluated.failure())
    assert "shard 1 of 2 of broken: " in told
    assert "(and 1 more); the same command again answers what is missing." in told
    assert told.count("the same command again") == 1


@pytest.mark.parametrize(
    ("shards", "changes", "told"),
    [(None, {}, "--on needs --shards"), (2, {"speed": True}, "--speed times a model on a machine")],
)
def test_what_does_not_go_together_is_refused(
    shards: int | None, changes: dict[str, object], told: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told):
        evaluate_on_cluster(asked(tmp_path / "out", str(model), **changes), on="ray", shards=shards, report=quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "told"), [({"shard": "1/2", "on": "ray"}, "has many"), ({"shards": 2}, "is about --on ray")]
)
def test_one_shard_and_all_of_them_exclude_each_other(given: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        BesideScores(**given)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_over_ray_a_killed_process_changes_nothing(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `cluster` (ray) is not installed")
    import psutil

    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if killed or not progress.done:
            return
        for process in psutil.Process().children(recursive=True):
            if "ray::Hand.carry_out" in " ".join(process.cmdline()):
                process.kill()
                killed.append(process.pid)
                return

    evaluate_models(asked(tmp_path / "one", str(model)), report=quiet)
    evaluated = evaluate_on_cluster(asked(tmp_path / "ray", str(model)), on="ray", shards=12, report=kill_one)
    assert killed
    assert evaluated.failure() is None
    assert_same(tmp_path / "one", tmp_path / "ray")
