"""Metrics and runtimes of other packages, by their entry points: used, listed, left out where they are wrong."""

import importlib
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from said import Say

from lmtasks.metric import METRICS
from lmtasks.settings.runtimes import RUNTIMES

MODULE = """
from dataclasses import replace

import numpy as np

from lmtasks.metric import MetricSpec
from lmtasks.metric.base import mean
from lmtasks.runtime.base import RuntimeInfo, RuntimeOpener
from lmtasks.settings.runtimes import RuntimeSpec

FIRST = MetricSpec(
    description="share of answers that are the first label",
    scale="fraction",
    build={"choice": lambda settings: mean(
        lambda outcomes: np.array([float(np.argmax(each.scores) == 0) for each in outcomes]), signature="first:1"
    )},
)
FAILING = replace(FIRST, build={"choice": lambda settings: mean(lambda outcomes: outcomes[0].nothing, signature="x")})
TWIN = RuntimeSpec(
    about="torch under another name", folders="torch", devices=("cpu",), imports=("torch",), opener="tiny_plugin:Opener"
)
LOST = replace(TWIN, opener="tiny_plugin:Nowhere")


class Opener(RuntimeOpener):
    def info(self):
        return RuntimeInfo(name="twin", about=TWIN.about, version="7", devices=("cpu",), precisions=("fp32",))

    def open(self, request):
        from lmtasks.runtime.open import open_runtime

        self.check(device=request.device, precision=request.precision)
        made = open_runtime(request.ref, runtime="torch", device=request.device, threads=request.threads)
        made.card = replace(made.card, runtime="twin")
        return made
"""
ENTRY_POINTS = """[lmtasks.metrics]
first_label = tiny_plugin:FIRST
failing = tiny_plugin:FAILING
acc = tiny_plugin:FIRST
broken = tiny_broken:METRIC
number = tiny_plugin:MODULE_OF_NOTHING
runtime_here = tiny_plugin:TWIN

[lmtasks.runtimes]
twin = tiny_plugin:TWIN
lost = tiny_plugin:LOST
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with a metric and a runtime, as pip would leave it."""
    home = tmp_path / "site"
    info = home / "tiny_plugin-1.2.dist-info"
    info.mkdir(parents=True)
    (home / "tiny_plugin.py").write_text(MODULE)
    (home / "tiny_broken.py").write_text("raise RuntimeError('no licence\\nhere')\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(home)
    importlib.invalidate_caches()
    for table in (METRICS, RUNTIMES):
        table.__dict__.pop("_others", None)  # what an earlier test has found
    yield
    for table in (METRICS, RUNTIMES):
        table.__dict__.pop("_others", None)


@pytest.mark.usefixtures("plugin")
def test_what_is_wrong_is_named_in_a_line_each_and_the_rest_goes_on(say: Say) -> None:
    said = say("list", "metrics")
    assert said.code == 0
    line = next(line for line in said.out.splitlines() if line.startswith("first_label"))
    assert line.endswith("share of answers that are the first label (by tiny-plugin 1.2)")
    what = "of tiny-plugin 1.2 (entry point lmtasks.metrics) is left out:"
    assert said.err.splitlines() == [
        f"lmtasks: acc {what} the name is taken by lmtasks; call it otherwise",
        f"lmtasks: broken {what} it does not load: RuntimeError: no licence here",
        f"lmtasks: number {what} it does not load: AttributeError: module 'tiny_plugin' has no attribute "
        "'MODULE_OF_NOTHING'",
        f"lmtasks: runtime_here {what} it must be a MetricSpec, and is a RuntimeSpec",
    ]
    said = say("list", "runtimes")
    assert "torch under another name (by tiny-plugin 1.2)" in said.out


@pytest.mark.usefixtures("plugin")
def test_a_metric_and_a_runtime_of_another_package_are_used(say: Say, classifier: Path, pairs: Path) -> None:
    folder = pairs.parent
    (folder / "mine.yaml").write_text(
        "task: mine\nkind: classification\ndataset_path: csv\ntest_split: test\nlabels: [negative, positive]\n"
        "dataset_kwargs: {data_files: {test: moods.csv}}\ninputs: {text: comment, label: mood}\n"
        "metrics: [acc, first_label]\n"
    )
    asked = ("--tasks", folder / "mine.yaml", "--runtime", "twin", "--out", folder / "out")
    said = say("eval", "--model", classifier, *asked)
    assert said.code == 0, said.err
    content = json.loads((folder / "out" / "results.json").read_text())
    assert content["runtime"]["runtime"] == "twin"
    assert content["results"]["mine"]["metrics"]["first_label"]["signature"].endswith("first:1")
    text = (folder / "mine.yaml").read_text().replace("first_label", "failing")
    (folder / "fails.yaml").write_text(text)
    said = say("eval", "--model", "random", "--tasks", folder / "fails.yaml")
    assert "metric failing of tiny-plugin 1.2 failed: AttributeError: 'Choice' object has no" in said.sentence
    again = say("eval", "--model", classifier, *asked, "--overwrite")
    assert "answers were known from before" in again.out  # kept in the cache under the runtime's own name
    said = say("eval", "--model", classifier, "--tasks", folder / "mine.yaml", "--runtime", "lost")
    assert said.code == 2
    assert "the runtime 'lost' of tiny-plugin 1.2 (tiny_plugin:Nowhere) cannot be imported: module" in said.sentence
    said = say("eval", "--model", classifier, *asked, "--device", "cuda", "--overwrite")
    assert said.sentence == "lmtasks: twin cannot compute on 'cuda' here; it can on: cpu."
    assert "did you mean 'twin'" in say("eval", "--model", classifier, "--tasks", "sst2", "--runtime", "twinn").sentence


def test_nobody_looks_for_other_packages_before_they_are_wanted(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(**given: object) -> None:
        raise AssertionError(f"looked up {given}")

    monkeypatch.setattr(importlib.metadata, "entry_points", looked_up)
    for table in (METRICS, RUNTIMES):
        table.__dict__.pop("_others", None)
    for words in (("--help",), ("eval", "--help"), ("list", "tasks")):
        assert say(*words).code == 0
    assert "acc" in METRICS
    assert RUNTIMES["torch"].folders == "torch"
