"""Golden files: values that lm-evaluation-harness finds, to hold lmtasks against on every test run.

    python benchmarks/peers/make_golden.py [--peer PYTHON] [--data-root MIRROR]

Writes tests/golden/<file>.json for cases over the project's own rows, and for groups of them. With --data-root also
tests/golden/mirror.json: metrics and hashes over data sets that are not ours to copy. Answers that stand in --work are
taken again.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from equality import distinct_prompts
from golden_base import Case
from golden_cases import CASES
from golden_files import FOLDER, MINI, RESAMPLES, TOKENIZER, write_case
from golden_groups import CHECKPOINT, GROUPS, MEMBERS, write_groups
from golden_mirror import mirror_records
from lm_eval_setup import DEFAULT, set_up, task_files
from peer_checkpoints import TINY, make_checkpoint, weights_hash
from sides import ROOT, Job, Request, ask

DIGITS = 7
"""Of log-probabilities behind the point."""


def main() -> None:
    """Make the tokenizer if it is missing, ask lm-evaluation-harness, write what it says."""
    options = _options()
    peer = options.peer or set_up(DEFAULT)
    _tokenizer()
    work: Path = options.work
    checkpoints = _checkpoints(work)
    if options.only in ("", "rows"):
        _rows(work, checkpoints, peer)
    if options.only in ("", "groups"):
        _groups(work, checkpoints, peer)
    if options.data_root is not None and options.only in ("", "mirror"):
        content = mirror_records(
            work, checkpoints["lmtasks-mini"], peer=peer, peer_files=task_files(peer), data_root=options.data_root
        )
        _write("mirror", {**_provenance(content.pop("versions"), checkpoints, ["lmtasks-mini"]), **content})


def _rows(work: Path, checkpoints: Mapping[str, Path], peer: Path) -> None:
    records: dict[str, dict[str, Any]] = {case.name: _record(case) for case in CASES}
    jobs = {name: write_case(record, work / "cases" / name) for name, record in records.items()}
    versions: Mapping[str, str] = {}
    for checkpoint, folder in checkpoints.items():
        asked = [jobs[case.name] for case in CASES if checkpoint in case.checkpoints]
        answer = _asked(folder, asked, peer=peer, work=work / "work" / checkpoint)
        versions = answer["versions"]
        for job in asked:
            records[job.name]["expected"][checkpoint] = _expected(answer["jobs"][job.name])
    for file in dict.fromkeys(case.file for case in CASES):
        mine = [records[case.name] for case in CASES if case.file == file]
        used = sorted({name for record in mine for name in record["expected"]})
        _write(file, {**_provenance(versions, checkpoints, used), "cases": mine})


def _groups(work: Path, checkpoints: Mapping[str, Path], peer: Path) -> None:
    members = {name: next(_record(case) for case in CASES if case.name == name) for name in MEMBERS}
    jobs = write_groups(members, GROUPS, work / "cases" / "groups")
    answer = _asked(checkpoints[CHECKPOINT], jobs, peer=peer, work=work / "work" / "groups")
    found = {job.name: answer["jobs"][job.name]["groups"] for job in jobs}
    content = {"members": list(MEMBERS), "groups": dict(GROUPS), "expected": found}
    _write("groups", {**_provenance(answer["versions"], checkpoints, [CHECKPOINT]), **content})


def _asked(folder: Path, jobs: Sequence[Job], *, peer: Path, work: Path) -> Mapping[str, Any]:
    # One row a batch: no padding, so nothing but the model itself is in the numbers.
    request = Request(checkpoint=str(folder), jobs=tuple(jobs), batch_size=1)
    return ask("lm-eval", request, peer=peer, folder=work, reuse=True)


def _record(case: Case) -> dict[str, Any]:
    record = asdict(case)
    del record["file"], record["checkpoints"]
    return {**record, "expected": {}}


def _expected(answer: Mapping[str, Any]) -> dict[str, Any]:
    (results,) = answer["results"].values()
    (samples,) = answer["samples"].values()
    return {"results": results, "samples": [_short(sample) for sample in samples]}


def _short(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample without what its task file says already; equal prompts once."""
    return {
        "prompts": distinct_prompts(sample["prompts"]),
        "replies": _rounded(sample["replies"]),
        "answers": sample["answers"] if isinstance(sample["replies"][0][0], str) else {},
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _provenance(versions: Mapping[str, str], checkpoints: Mapping[str, Path], used: Sequence[str]) -> dict[str, Any]:
    return {
        "what": "values that lm-evaluation-harness found; lmtasks must find the same",
        "command": "python benchmarks/peers/make_golden.py",
        "versions": {**versions, "python": sys.version.split()[0]},
        "settings": {"dtype": "float32", "device": "cpu", "batch_size": 1, "resamples": RESAMPLES},
        "weights": {name: weights_hash(checkpoints[name]) for name in used},
        "tokenizer": hashlib.sha256(TOKENIZER.read_bytes()).hexdigest()[:16],
    }


def _write(name: str, content: Mapping[str, Any]) -> None:
    """One case, sample or row a line, so that a change can be read."""
    file = FOLDER / f"{name}.json"
    file.write_text(_lines(content, depth=5) + "\n", encoding="utf-8")
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def _lines(value: Any, *, depth: int, indent: int = 0) -> str:
    """JSON with line breaks down to a depth, and none below."""
    if depth == 0 or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = " " * (indent + 1)
    if isinstance(value, list):
        parts = [_lines(item, depth=depth - 1, indent=indent + 1) for item in value]
    else:
        parts = [
            f"{json.dumps(key)}: {_lines(item, depth=depth - 1, indent=indent + 1)}" for key, item in value.items()
        ]
    opening, closing = ("[", "]") if isinstance(value, list) else ("{", "}")
    return opening + "\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * indent + closing


def _checkpoints(work: Path) -> dict[str, Path]:
    made = {name: make_checkpoint(work / name, shape=shape, tokenizer=TOKENIZER) for name, shape in TINY.items()}
    return {**made, "lmtasks-mini": MINI}


def _tokenizer() -> None:
    """A byte-level BPE of the embedded suite's training texts, made once and committed."""
    if TOKENIZER.is_file():
        return
    from lmtasks.data.tokenizer import train_byte_bpe

    texts: list[str] = []
    for file in sorted((ROOT / "tasks" / "starter").glob("*/*.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        texts += [value for row in rows for value in row.values() if isinstance(value, str)]
    FOLDER.mkdir(parents=True, exist_ok=True)
    train_byte_bpe(texts, vocabulary=1000).raw.save(str(TOKENIZER))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="Python of an environment with lm-eval; None: one is made")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "peers" / "golden", help="answers that stay")
    parser.add_argument("--only", choices=("", "rows", "groups", "mirror"), default="")
    return parser.parse_args()


if __name__ == "__main__":
    main()
