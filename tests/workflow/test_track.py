"""Trackers: what is written to them; that of MLflow, TensorBoard and Trackio where they are installed."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from said import Say
from tiny import tiny_checkpoint

from lmtasks.errors import UsageError, WorkError
from lmtasks.workflow import track as tracking
from lmtasks.workflow.track import PACKAGES, Tracked, check_tracker, write_tracked

TASK = "starter_sentiment_en"
MADE = Tracked(
    name="mine",
    parameters={"runtime": "torch", "rows": 20, "lora": None},
    curve=[{"step": 1, "loss": 0.7, "by": {"a": 1}}, {"step": 2, "loss": 0.5, "validation": 0.9}],
    results={f"{TASK}/acc": 0.8, "50 % off/acc": 0.5},
)


class Recorder:
    """A tracker that remembers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.configured: dict[str, object] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict[str, object]) -> None:
        self.configured = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    made: list[Recorder] = []

    def opened(name: str) -> Recorder:
        made.append(Recorder(name))
        return made[-1]

    monkeypatch.setitem(tracking.OPENERS, "mlflow", opened)  # type: ignore[misc]  # a dict, as it stands
    monkeypatch.setattr(tracking, "find_spec", lambda package: object())
    return made


def test_curves_come_by_step_and_results_behind_them(recorded: list[Recorder]) -> None:
    write_tracked("mlflow", [MADE])
    (run,) = recorded
    assert run.configured == {"runtime": "torch", "rows": 20, "lora": "None"}
    assert run.logged == [
        (1, {"train/loss": 0.7}),
        (2, {"train/loss": 0.5, "train/validation": 0.9}),
        (2, {f"{TASK}/acc": 0.8, "50 _ off/acc": 0.5}),
    ]
    assert run.finished


def test_commands_write_what_they_made(
    say: Say, tmp_path: Path, recorded: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backbone = tiny_checkpoint(tmp_path / "llama", "llama")
    settings = ("--rows", 20, "--epochs", 1, "--evaluations", 1, "--offline", "--track", "mlflow")
    assert say("adapt", "--backbone", backbone, "--tasks", TASK, "--out", "runs/mine", *settings).code == 0
    assert say("eval", "--model", "runs/mine", "--model", "majority", "--tasks", TASK, "--track", "mlflow").code == 0
    trained, mine, majority = recorded
    assert trained.name == mine.name == "mine"
    assert any("train/loss" in values for _, values in trained.logged)
    assert trained.configured["settings.seed"] == 1234
    assert set(mine.logged[-1][1]) >= {f"{TASK}/acc", f"{TASK}/macro_f1"}
    assert majority.name == "majority"


def test_a_run_writes_its_variants_with_the_curves_of_their_models(
    say: Say, tmp_path: Path, recorded: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backbone = tiny_checkpoint(tmp_path / "llama", "llama")
    Path("plan.yaml").write_text(
        f"plan: tiny\ntasks: [{TASK}]\nlimit: 4\nbench: null\n"
        f"models: {{small: {{backbone: {backbone}, training: {{epochs: 0.5, rows: 20, evaluations: 1}}}}}}\n"
        "variants: [{name: trivial, baseline: majority}, {name: torch, model: small}]\n"
    )
    said = say("run", "plan.yaml", "--offline", "--track", "mlflow")
    assert said.code == 0, said.err
    trivial, torch = recorded
    assert (trivial.name, torch.name) == ("tiny trivial", "tiny torch")
    assert any("train/loss" in values for _, values in torch.logged)
    assert f"{TASK}/acc" in torch.logged[-1][1]


def test_a_tracker_that_is_not_there_is_told_before_any_work(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda package: None)
    for name in PACKAGES:
        with pytest.raises(UsageError, match=f"--track {name} needs the package {name}, which is not installed"):
            check_tracker(name)
    told = say("eval", "--model", "majority", "--tasks", TASK, "--track", "trackio", "--out", tmp_path / "out")
    assert told.code == 2
    assert not (tmp_path / "out").exists()
    assert "did you mean 'mlflow'" in say("eval", "--model", "majority", "--tasks", TASK, "--track", "mflow").sentence
    check_tracker(None)


def test_a_tracker_that_fails_costs_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Recorder:
        raise ConnectionError("no server at http://tracker")

    monkeypatch.setitem(tracking.OPENERS, "trackio", broken)  # type: ignore[misc]
    with pytest.raises(WorkError, match="everything is kept, but --track trackio failed: no server"):
        write_tracked("trackio", [MADE])


def _installed(name: str) -> None:
    if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):  # type: ignore[index]
        pytest.skip(f"{name} is not installed: pip install {name}")


def _installed_package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install {name}")


def test_mlflows_local_store_holds_parameters_curve_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed("mlflow")
    _installed_package("sqlalchemy")
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_tracked("mlflow", [MADE])
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "lmtasks"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "mine"
    assert run.data.params["rows"] == "20"
    assert run.data.metrics[f"{TASK}/acc"] == 0.8
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "train/loss")] == [
        (1, 0.7),
        (2, 0.5),
    ]


def test_tensorboards_events_hold_curve_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    write_tracked("tensorboard", [MADE])
    events = EventAccumulator(str(tmp_path / "runs" / "tensorboard" / "mine"))
    events.Reload()
    assert [(each.step, round(each.value, 3)) for each in events.Scalars("train/loss")] == [(1, 0.7), (2, 0.5)]
    assert events.Scalars(f"{TASK}/acc")[0].value == pytest.approx(0.8)


def test_trackios_store_holds_parameters_curve_results(tmp_path: Path) -> None:
    _installed("trackio")
    work = (
        "from test_track import MADE\n"
        "from lmtasks.workflow.track import Tracked, write_tracked\n"
        "write_tracked('trackio', [MADE, Tracked(name='other', results={'sst2/acc': 0.7})])\n"
    )
    place = {"TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", work], env={**os.environ, **place}, cwd=tmp_path, check=False,
                           capture_output=True, text=True)  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr  # standard output holds answers alone
    with sqlite3.connect(tmp_path / "trackio" / "lmtasks.db") as store:
        configs = {name: json.loads(text) for name, text in store.execute("select run_name, config from configs")}
        logged = [(name, step, json.loads(text)) for name, step, text in
                  store.execute("select run_name, step, metrics from metrics order by id")]  # fmt: skip
    assert configs["mine"]["rows"] == 20
    assert logged[:2] == [
        ("mine", 1, {"train/loss": 0.7}),
        ("mine", 2, {"train/loss": 0.5, "train/validation": 0.9}),
    ]
    assert logged[2][2][f"{TASK}/acc"] == 0.8
    assert logged[3] == ("other", 0, {"sst2/acc": 0.7})
