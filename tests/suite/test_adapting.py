"""Adapting to tasks: what is read in place of a data set that the mirror lacks."""

import json
from pathlib import Path

from lmtasks.data.options import DataOptions
from lmtasks.data.stand_in import with_stand_ins
from lmtasks.model.store import read_provenance
from lmtasks.suite.adapting import adapt_to_tasks
from lmtasks.suite.starting import Start
from lmtasks.task.index import default_index
from lmtasks.training.adapt import AdaptSettings


def test_training_reads_what_stands_in_as_scoring_does(tmp_path: Path) -> None:
    """The mirror has `stanfordnlp/sst2` by the sentence, and no `SetFit/sst2`."""
    folder = tmp_path / "mirror" / "stanfordnlp" / "sst2"
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        rows = [{"sentence": f"a {word} film", "label": label} for label, word in enumerate(("bad", "good"))]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows * 4)))
    (named,) = default_index().find("sst2_sentences")
    options = DataOptions(data_root=tmp_path / "mirror", offline=True)
    adapt_to_tasks(
        start=Start(backbone="average:width=4,buckets=10", tokenizer="words:10"),
        tasks=[named],
        settings=AdaptSettings(epochs=1, evaluations=1),
        options=options,
        out=tmp_path / "model",
        report=lambda _: None,
    )
    read = with_stand_ins(named, options=options)
    assert read.hash != named.hash
    assert read.sources["test"].path == "stanfordnlp/sst2"
    assert read_provenance(tmp_path / "model")["task_hashes"] == {"sst2_sentences": read.hash}
