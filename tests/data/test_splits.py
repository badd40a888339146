import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import lmtasks.data.splits as splits
from lmtasks.data.splits import carve, load_task_data, read_once, read_split
from lmtasks.errors import UsageError
from lmtasks.records import Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.index import default_index
from lmtasks.task.load import load_task
from lmtasks.task.task import Source, SplitName, Task

ALL: frozenset[SplitName] = frozenset({"train", "validation", "test"})
NO_NETWORK = DataAccess(offline=True)


def rows(name: str, count: int) -> list[Row]:
    return [{"text": f"{name} {number}", "label": number % 2} for number in range(count)]


def make_task(folder: Path, *, files: Mapping[str, Sequence[Row]], lines: str) -> Task:
    for name, content in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    listed = ", ".join(f"{name}: {name}.jsonl" for name in files)
    (folder / "task.yaml").write_text(
        f"task: demo\nkind: classification\nlabels: [bad, good]\ninputs: {{text: text, label: label}}\n"
        f"dataset_path: json\ndataset_kwargs: {{data_files: {{{listed}}}}}\n{lines}\n"
    )
    return load_task(folder / "task.yaml")


def test_a_tenth_of_train_where_there_is_no_validation(tmp_path: Path) -> None:
    task = make_task(
        tmp_path,
        files={"train": rows("a", 200), "test": rows("b", 30)},
        lines="training_split: train\ntest_split: test",
    )
    data = load_task_data(task, options=NO_NETWORK, need=ALL)
    assert data.train
    assert data.validation
    assert data.test
    assert len(data.train.rows) == 180
    assert len(data.validation.rows) == 20
    assert len(data.test.rows) == 30
    texts = [str(row["text"]) for row in (*data.train.rows, *data.validation.rows)]
    assert sorted(texts) == sorted(str(row["text"]) for row in rows("a", 200))
    assert "20 of 200 rows, seed 1234" in data.validation.where
    assert len({data.train.fingerprint, data.validation.fingerprint, data.test.fingerprint}) == 3
    # The same whichever splits are opened, and whatever the limit.
    alone = load_task_data(task, options=NO_NETWORK, need=frozenset({"train"}))
    assert alone.validation is None
    assert alone.train == data.train
    limited = load_task_data(task, options=NO_NETWORK, need=ALL, limit=7)
    assert limited.test
    assert limited.test.rows == data.test.rows[:7]
    assert (limited.train, limited.validation) == (data.train, data.validation)
    other = load_task_data(task, options=NO_NETWORK, need=ALL, seed=1)
    assert other.validation
    assert other.validation.fingerprint != data.validation.fingerprint


@pytest.mark.parametrize(
    ("lines", "carved"),
    [
        ("training_split: train\nvalidation_split: dev\ntest_split: test", False),
        # The validation split is the scored one.
        ("training_split: train\nvalidation_split: dev", True),
        ("training_split: train\nvalidation_split: test\ntest_split: test", True),
        ("training_split: train\nvalidation_split: test\ntest_split: 'test[:10]'", True),
        ("training_split: train\nvalidation_split: 'test[:10]'\ntest_split: 'test[10:]'", False),
        ("training_split: train\nvalidation_split: 'train[:10]'\ntest_split: test", False),
    ],
)
def test_never_choose_on_what_is_scored(tmp_path: Path, lines: str, carved: bool) -> None:
    files = {"train": rows("a", 50), "dev": rows("b", 20), "test": rows("c", 20)}
    data = load_task_data(make_task(tmp_path, files=files, lines=lines), options=NO_NETWORK, need=ALL)
    assert data.train
    assert data.validation
    assert data.test
    assert len(data.train.rows) == (45 if carved else 50)
    assert (" of 50 rows, seed" in data.validation.where) is carved
    shared = {str(row["text"]) for row in data.validation.rows} & {str(row["text"]) for row in data.test.rows}
    assert not shared


@pytest.mark.parametrize(("count", "apart"), [(2, 1), (5, 1), (25, 2), (1000, 100), (50_000, 1000)])
def test_carve(count: int, apart: int) -> None:
    whole = [{"n": number} for number in range(count)]
    kept, taken = carve(whole, seed=7)
    assert len(taken) == apart
    assert sorted([*kept, *taken], key=lambda row: row["n"]) == whole  # type: ignore[arg-type, return-value]
    assert carve(whole, seed=7) == (kept, taken)


@pytest.mark.parametrize(
    ("lines", "need", "says"),
    [
        ("test_split: test", "train", "task demo has no training data"),
        ("test_split: test", "validation", "task demo has no validation data; give it a training_split or"),
        ("training_split: one\ntest_split: test", "train", "is one row"),
        ("training_split: other\ntest_split: test", "train", "inputs.text, train data names 'text'"),
        ("test_split: other", "test", "Columns: sentence, label."),
        ("test_split: absent", "test", "unknown split"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, lines: str, need: SplitName, says: str) -> None:
    files: dict[str, Sequence[Row]] = {
        "test": rows("a", 3),
        "one": rows("b", 1),
        "other": [{"sentence": "x", "label": 0}] * 4,
    }
    task = make_task(tmp_path, files=files, lines=lines)
    with pytest.raises(UsageError) as error:
        load_task_data(task, options=NO_NETWORK, need=frozenset({need}))
    assert says in str(error.value)


def test_only_what_is_needed_is_opened(tmp_path: Path) -> None:
    task = make_task(tmp_path, files={"test": rows("a", 3)}, lines="training_split: absent\ntest_split: test")
    data = load_task_data(task, options=NO_NETWORK, need=frozenset({"test"}))
    assert data.test
    assert data.train is None


def test_a_split_is_read_once_within_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are those of a reading of their own; whoever first reads aloud hears the notices, and nobody else does."""
    answers = [*rows("b", 30), {"text": " ", "label": 0}]
    lines = "training_split: train\ntest_split: test"
    task = make_task(tmp_path, files={"train": rows("a", 40), "test": answers}, lines=lines)
    apart = load_task_data(task, options=NO_NETWORK, need=ALL)
    caplog.set_level("INFO", "lmtasks")
    read: list[str] = []
    reader = splits.read_rows

    def counted(source: Source, **others: object) -> object:
        read.append(source.split)
        return reader(source, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(splits, "read_rows", counted)
    with read_once():
        assert read_split(task, "test", options=NO_NETWORK) == list(answers)
        caplog.clear()
        assert load_task_data(task, options=NO_NETWORK, need=ALL) == apart
        assert "no text" in caplog.text
        caplog.clear()
        again = replace(task, sources={split: replace(source) for split, source in task.sources.items()})
        assert load_task_data(again, options=NO_NETWORK, need=ALL) == apart  # as a mirror's stand-ins are made anew
        assert "no text" not in caplog.text
        limited = load_task_data(task, options=NO_NETWORK, need=frozenset({"test"}), limit=7).test
        assert limited is not None
        assert len(limited.rows) == 7
    assert read == ["test", "train", "test"]
    monkeypatch.setattr(splits, "ROWS_KEPT", 50)  # both do not fit
    read.clear()
    with read_once():
        for _ in range(2):
            load_task_data(task, options=NO_NETWORK, need=ALL)
    assert read == ["train", "test"] * 2
    load_task_data(task, options=NO_NETWORK, need=frozenset({"test"}))
    assert read[4:] == ["test"]


def test_whoever_opens_a_task_reads_what_stands_in_for_its_data(tmp_path: Path) -> None:
    """An export's texts, a gate and a prediction open tasks, too, and found that the data set is not there."""
    folder = tmp_path / "mirror" / "stanfordnlp" / "sst2"
    folder.mkdir(parents=True)
    labelled = [{"sentence": f"row {number}", "text": f"row {number}", "label": number % 2} for number in range(6)]
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    (task,) = default_index().find("sst2_sentences")
    options = DataAccess(offline=True, data_root=tmp_path / "mirror")
    data = load_task_data(task, options=options, need=frozenset({"test"}))
    assert data.test is not None
    assert len(data.test.rows) == 6
