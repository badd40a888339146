"""JSON Schema of every stored file, as docs/schema/ holds it, for whoever reads the files without this package."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from lmtasks.results.answer import AnswerRecord
from lmtasks.results.base import StoredModel
from lmtasks.results.cell import CellRecord
from lmtasks.results.comparison import ComparedRecord, PairedRecords
from lmtasks.results.decision import DecisionRecord
from lmtasks.results.proof import GateRecord, ProofRecord
from lmtasks.results.run import RunRecord, TryRecord
from lmtasks.results.sample import SampleRecord, WordsRecord
from lmtasks.results.scores import ResultsRecord, StatisticsRecord
from lmtasks.results.shard import ShardRecord
from lmtasks.results.speed import BenchRecord, RequiredRecord, SpeedRecord
from lmtasks.results.sweep import SweepRecord

SCHEMAS: Mapping[str, type[StoredModel]] = {
    "results": ResultsRecord,
    "statistics": StatisticsRecord,
    "sample": SampleRecord,
    "words": WordsRecord,
    "shard": ShardRecord,
    "cell": CellRecord,
    "run": RunRecord,
    "try": TryRecord,
    "paired": PairedRecords,
    "decision": DecisionRecord,
    "required": RequiredRecord,
    "compared": ComparedRecord,
    "speed": SpeedRecord,
    "sweep": SweepRecord,
    "bench": BenchRecord,
    "parity": ProofRecord,
    "gate": GateRecord,
    "answer": AnswerRecord,
}
"""Name of a stored file, or `answer` of what a command prints with --json, as docs/schema/<name>.json, to its model."""

ALIASES: Mapping[str, str] = {"schema_": "schema", "tables": "statistics"}
"""Fields that go by another name in the file."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(name: str) -> Mapping[str, object]:
    """The JSON Schema of one line of `SCHEMAS`. Descriptions are the docstrings of the fields."""
    model = SCHEMAS[name]
    schema = model.model_json_schema(mode="validation")
    for each in (schema, *schema.get("$defs", {}).values()):
        described = _field_docstrings().get(each["title"], {}) if "properties" in each else {}
        for field, text in described.items():
            each["properties"][field]["description"] = text
    return {"$schema": DIALECT, **schema}


@cache
def _field_docstrings() -> Mapping[str, Mapping[str, str]]:
    """Class of results/ to its fields' docstrings, by the name that a field has in the file."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = dict(_docstrings(node))
    return found


def _docstrings(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(node.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and "ClassVar" not in ast.unparse(field.annotation)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            name = ALIASES.get(field.target.id, field.target.id)
            yield name, inspect.cleandoc(str(text.value.value)).replace("\n", " ")
