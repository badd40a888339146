"""Where the time of a job through a package goes, by operator: for jobs whose wanted ratio was missed.

python onnx_profile.py REQUEST.json      prints {"operator": share, ...}
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from operators import asked_apart, spent_by_operator


def profile(request: Path) -> Mapping[str, float]:
    """Share of the time inside the sessions, of the operators that take most; in a process of its own."""
    return asked_apart(__file__, str(request), about=str(request))


def main(file: Path) -> None:
    """Carry out the first job of a request with profiling on."""
    from side_lmtasks import evaluated, opened_engine

    request = json.loads(file.read_text(encoding="utf-8"))

    def work() -> None:
        with opened_engine(request) as engine:
            evaluated(engine, request["jobs"][0], checkpoint=Path(request["checkpoint"]))

    print(json.dumps(spent_by_operator(work)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
