"""Reading from the Hub, against a small server on this machine that answers as the Hub does."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hub_server import HubServer, commit_of, serving

from lmtasks.data.rows import fingerprint

HERE = Path(__file__).parent
NO_HUB = "http://127.0.0.1:9"
ROWS = [{"text": f"text {number}", "label": number % 2} for number in range(40)]
CARD = b"""---
configs:
- config_name: plain
  data_files:
  - {split: train, path: plain/train-*}
  - {split: test, path: plain/test-*}
- config_name: raw
  data_files:
  - {split: train, path: raw/train-*}
---
# A data set
"""


def parquet(rows: Sequence[Mapping[str, object]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), out)
    return out.getvalue()


def lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


OLD = {"README.md": b"# old", "data/train.jsonl": lines(ROWS[:3])}
REPOSITORIES = {
    "org/cards": {
        "main": {
            "README.md": CARD,
            "plain/train-00000-of-00002.parquet": parquet(ROWS[:20]),
            "plain/train-00001-of-00002.parquet": parquet(ROWS[20:]),
            "plain/test-00000-of-00001.parquet": parquet(ROWS[:9]),
            "raw/train-00000-of-00001.parquet": parquet(ROWS[:5]),
        },
    },
    "org/lines": {"v1": OLD, "main": {"README.md": b"# new", "data/train.jsonl": lines(ROWS)}},
    "org/script": {
        "main": {"README.md": b"# script", "script.py": b"raise SystemExit('this must not run')"},
        "v7": {"README.md": b"# old script", "script.py": b""},
        "refs/convert/parquet": {
            "plain_text/train/0000.parquet": parquet(ROWS[:25]),
            "plain_text/train/0001.parquet": parquet(ROWS[25:]),
            "plain_text/partial-test/0000.parquet": parquet(ROWS[:9]),
        },
    },
    "org/old_script": {
        "main": {"README.md": b"# script", "old_script.py": b""},
        "refs/convert/parquet": {
            "a/old_script-train-00000-of-00001.parquet": parquet(ROWS[:25]),
            "b/old_script-train.parquet": parquet(ROWS),
        },
    },
    "org/large": {
        "main": {
            "data/train.jsonl": lines(ROWS),
            "data/test.jsonl": lines(ROWS[:9]),
        },
    },
    "org/gated": {"main": {"README.md": b"# mine", "train.jsonl": lines(ROWS)}},
    "org/only_script": {"main": {"README.md": b"# script", "only_script.py": b""}},
}


Case = Mapping[str, object]
Answers = Mapping[str, Mapping[str, object]]


def case(path: str, split: str, *, limit: int | None = None, token: str | None = None, **source: object) -> Case:
    return {"source": {"path": path, "split": split, **source}, "limit": limit, "token": token}


READS: Sequence[tuple[Case, Sequence[Mapping[str, object]]]] = [
    (case("org/cards", "train", name="plain"), ROWS),
    (case("org/cards", "test[2:5]", name="plain"), ROWS[2:5]),
    (case("org/cards", "train+test", name="plain"), ROWS + ROWS[:9]),
    (case("org/lines", "train"), ROWS),
    (case("org/lines", "train", revision="v1"), ROWS[:3]),
    (case("org/lines", "train", revision=commit_of(OLD)), ROWS[:3]),
    (case("org/script", "train"), ROWS),
    (case("org/script", "train[:30]", name="plain_text", revision="v7"), ROWS[:30]),
    (case("org/script", "test", limit=2), ROWS[:2]),
    (case("org/old_script", "train", name="b"), ROWS),
    (case("org/old_script", "train[:5]", name="a", limit=3), ROWS[:3]),
    (case("org/gated", "train", token="secret"), ROWS),
]
ERRORS = [
    (case("org/cards", "train"), "Please pick one among the available configs: ['plain', 'raw']"),
    (case("org/cards", "train", name="plian"), "Available: ['plain', 'raw']"),
    (case("org/cards", "dev", name="plain"), "Should be one of ['train', 'test']"),
    (case("org/cards", "dev", name="plain", limit=3), "Available splits: ['train', 'test']"),
    (case("org/lines", "train", revision="v9"), "Revision 'v9' doesn't exist"),
    (case("org/absent", "train"), "doesn't exist on the Hub or cannot be accessed"),
    (case("org/only_script", "train"), "the Hub has no copy of it in parquet"),
    (case("org/old_script", "train", name="c"), "Known: a, b."),
    (case("org/script", "dev"), "Known: test, train."),
    (case("org/gated", "train"), "is a gated dataset on the Hub"),
]
STREAMED = case("org/large", "train", limit=7)
# Another revision and another configuration than those that were read.
NOT_CACHED = [case("org/lines", "train", revision="v2"), case("org/cards", "train", name="raw"), STREAMED]
DOWN = case("org/large", "train")
DOWN_BUT_CACHED = case("org/cards", "train", name="plain")
DOWN_BUT_ANOTHER_CACHED = case("org/lines", "train", revision="v2")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with serving(REPOSITORIES, tokens={"org/gated": "secret"}) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub_cache")


def by_address(hub: HubServer) -> Case:
    address = f"{hub.address}/datasets/org/lines/resolve/main/data/train.jsonl"
    return case("json", "train", data_files={"train": address, "test": f"{address}.absent"})


@pytest.fixture(scope="module")
def online(hub: HubServer, home: Path) -> Answers:
    """Everything in one process, because it takes seconds to import what it needs."""
    cases = [*(case for case, _ in ERRORS), *(case for case, _ in READS), STREAMED, by_address(hub)]
    return _read(hub.address, home, cases)


@pytest.fixture(scope="module")
def offline(hub: HubServer, home: Path, online: Answers) -> Answers:
    """The same cache, and no Hub. The last cases are not offline, and find the Hub down."""
    cases = [*(case for case, _ in READS), *NOT_CACHED, by_address(hub)]
    down = [DOWN, DOWN_BUT_CACHED, DOWN_BUT_ANOTHER_CACHED]
    return _read(NO_HUB, home, [*({**case, "offline": True} for case in cases), *down])


@pytest.mark.parametrize(("wanted", "rows"), READS)
def test_online(online: Answers, wanted: Case, rows: Sequence[Mapping[str, object]]) -> None:
    got = online[_key(wanted)]
    assert got.get("rows") == rows, got
    assert got["fingerprint"] == fingerprint(rows)


@pytest.mark.parametrize(("wanted", "rows"), READS)
def test_offline_from_the_cache(
    online: Answers, offline: Answers, wanted: Case, rows: Sequence[Mapping[str, object]]
) -> None:
    got = offline[_key({**wanted, "offline": True})]
    assert got.get("rows") == rows, got
    assert got["where"] == str(online[_key(wanted)]["where"]).partition(" (revision")[0] + ", cached"


@pytest.mark.parametrize("wanted", NOT_CACHED)
def test_offline_nothing_else_is_taken_instead(offline: Answers, wanted: Case) -> None:
    got = offline[_key({**wanted, "offline": True})]
    assert got.get("error") == "UsageError", got
    assert "is not on this machine, and --offline forbids to fetch it" in str(got["message"])


@pytest.mark.parametrize(("wanted", "says"), ERRORS)
def test_errors(online: Answers, wanted: Case, says: str) -> None:
    got = online[_key(wanted)]
    assert got.get("error") == "UsageError", got
    assert says in str(got["message"])
    assert "\n" not in str(got["message"])


def test_where(online: Answers) -> None:
    wheres = [str(online[_key(wanted)]["where"]) for wanted, _ in READS]
    assert wheres[0] == f"Hub data set org/cards/plain at {commit_of(REPOSITORIES['org/cards']['main'])[:12]}"
    assert wheres[4] == f"Hub data set org/lines@v1 at {commit_of(OLD)[:12]}"
    assert wheres[6] == "Hub data set org/script/plain_text, a loading script, from its branch refs/convert/parquet"
    assert wheres[7].endswith("(revision v7 could not be kept)")
    log = str(online["log"]["text"])
    assert "org/script is a loading script; read from its branch refs/convert/parquet instead" in log
    assert "only its first 5 GB" in log


def test_a_limit_streams(hub: HubServer, online: Answers) -> None:
    """Rows are the first of the split, and what is not needed is not fetched."""
    assert online[_key(STREAMED)].get("rows") == ROWS[:7]
    fetched = [request for request in hub.requests if request.startswith("GET /datasets/org/large/")]
    assert any(request.endswith("data/train.jsonl") for request in fetched)
    assert not any(request.endswith("data/test.jsonl") for request in fetched)


def test_files_by_address(hub: HubServer, online: Answers, offline: Answers) -> None:
    got = online[_key(by_address(hub))]
    assert got.get("rows") == ROWS, got
    assert got["where"] == f"{hub.address}/datasets/org/lines/resolve/main/data/train.jsonl"
    assert "--offline forbids" in str(offline[_key({**by_address(hub), "offline": True})]["message"])


def test_a_hub_that_is_down(offline: Answers) -> None:
    for wanted in (DOWN, DOWN_BUT_ANOTHER_CACHED):
        down = offline[_key(wanted)]
        assert down.get("error") == "WorkError", down
        assert "could not be fetched from the Hub" in str(down["message"])
        assert "--data-root" in str(down["message"])
    cached = offline[_key(DOWN_BUT_CACHED)]
    assert cached.get("rows") == ROWS, cached
    assert str(cached["where"]).endswith(", cached")
    assert "org/cards/plain could not be fetched from the Hub; read from the cache" in str(offline["log"]["text"])


def _key(wanted: Case) -> str:
    return json.dumps(wanted, sort_keys=True)


def _read(address: str, home: Path, cases: Sequence[Case]) -> Answers:
    """What each case yields, and under "log" what was logged."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_UPDATE_DOWNLOAD_COUNTS": "false",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(HERE.parent.parent),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "read_from_hub.py")],
        input=json.dumps(cases),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {_key(wanted): got for wanted, got in zip(cases, answers, strict=True)} | {"log": {"text": done.stderr}}
