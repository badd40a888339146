"""A data set that the Hub does not give is asked for once a command, whatever number of cells wants it."""

import pytest

from lmtasks.data import hub
from lmtasks.errors import WorkError
from lmtasks.settings.data import DataAccess
from lmtasks.task.task import Source


def test_a_set_that_could_not_be_fetched_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def builder(source: Source, *, options: DataAccess) -> None:
        asked.append(f"{source.path}/{source.name}")
        raise ConnectionError("no route")

    monkeypatch.setattr(hub, "_builder", builder)
    options = DataAccess()
    for name in ("one", "two", "one"):
        with pytest.raises(WorkError, match="could not be fetched from the Hub: no route"):
            hub.read_hub(Source(path="org/set", name=name, split="test"), options=options, limit=None)
    assert asked == ["org/set/one"]
    with pytest.raises(WorkError):
        hub.read_hub(Source(path="org/other", split="test"), options=options, limit=None)
    assert asked == ["org/set/one", "org/other/None"]
    with pytest.raises(WorkError):  # the next command tries again
        hub.read_hub(Source(path="org/set", name="one", split="test"), options=DataAccess(), limit=None)
    assert len(asked) == 3
