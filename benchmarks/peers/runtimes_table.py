"""The table of the raced runtimes, as markdown and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from operators import shares
from runtimes_works import BANDWIDTH_SHARE, CONTENDERS, IN_THE_WAY, PEERS, PYTHON_MICROSECONDS, SHAPES, WANTED, WORKS

MOST_DISTURBED = 0.1
"""Of the machine, by other processes, in the middle one of all turns."""


def missed(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(work, our contender) of every wanted ratio that was not reached."""
    rows = [row for row in _ratios(found) if not row["reached"]]
    return list(dict.fromkeys((row["work"], row["ours"]) for row in rows))


def write_runtimes(found: Mapping[str, Any], *, out: Path, publish: Path | None) -> None:
    """Write `runtimes.md` and `runtimes.json`.

    Args:
        found: `{"runs": [...], "works": {name: record}, "profiles": [...]}`.
        out: where to.
        publish: a second folder for both.
    """
    content = {**found, "ratios": _ratios(found), "limits": _limits(found)}
    text = "\n".join(_lines(content)).rstrip() + "\n"
    for folder in (out, publish):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "runtimes.md").write_text(text, encoding="utf-8")
            (folder / "runtimes.json").write_text(
                json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Paired by round: how many times as fast, in the middle, at least and at most.

    >>> ratios([20.0, 30.0, 44.0], [10.0, 10.0, 11.0])
    {'ratio': 3.0, 'least': 2.0, 'most': 4.0}
    """
    each = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"ratio": median(each), "least": min(each), "most": max(each)}


def _ratios(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for wanted in WANTED:
        rates = found["works"].get(wanted.work, {}).get("rates", {})
        if wanted.ours in rates and wanted.against in rates:
            each = ratios(rates[wanted.ours], rates[wanted.against])
            rows.append(
                {
                    "work": wanted.work,
                    "ours": wanted.ours,
                    "against": wanted.against,
                    "wanted": wanted.ratio,
                    **{name: round(value, 3) for name, value in each.items()},
                    "reached": each["ratio"] >= wanted.ratio,
                    "disturbed": _is_disturbed(found["works"][wanted.work]),
                }
            )
    return rows


def _limits(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Our own Python for a token, and the share of what memory gives, by work and precision."""
    rows: list[dict[str, Any]] = []
    for work, record in found["works"].items():
        steps = record.get("steps")
        if steps is None:
            continue
        rates = {name: max(each[name] for each in steps["memory"]) for name in ("as_many_bytes", "memory")}
        for name in ("lmtasks onnx fp32", "lmtasks onnx int8"):
            python = [median(each["python_us"]) for each in steps[name]]
            step = median(median(each["step_ms"]) for each in steps[name])
            size = steps[name][0]["weight_bytes"]
            # The int8 package's bytes were read over and over; an fp32 one is larger, and comes from memory.
            limit = rates["as_many_bytes" if name.endswith("int8") else "memory"]
            rows.append(
                {
                    "work": work,
                    "ours": name,
                    "python_us": round(median(python), 1),
                    "python_us_least": round(min(python), 1),
                    "python_us_most": round(max(python), 1),
                    "step_ms": round(step, 3),
                    "weight_mb": round(size / 1e6, 1),
                    "read_gb_per_s": round(limit, 2),
                    "share": round(size / 1e6 / step / limit, 3),
                }
            )
    return rows


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    yield "# Runtimes on the same checkpoints, side by side"
    yield ""
    yield (
        "Seeded weights; every contender in a process of its own that sleeps until its turn, in random order within "
        "each round, in its own best thread layout (CTranslate2: one worker of two threads for one stream, two workers "
        "of one thread else; lmtasks: what its engine chooses). Ratios are paired by round: the middle one, and the "
        "range."
    )
    yield ""
    for run in content["runs"]:
        machine = ", ".join(f"{key} {value}" for key, value in run["machine"].items() if isinstance(value, str | int))
        versions = ", ".join(f"{name} {version}" for name, version in sorted(run["versions"].items()))
        shapes = ", ".join(SHAPES[name] for name in run["shapes"])
        yield (
            f"- {shapes}: `{run['command']}`, {run['rounds']} rounds, {run['threads']} threads, "
            f"{run['seconds']:.0f} s until its last work was done. Machine: {machine}. {versions}."
        )
    yield ""
    yield "## What was wanted"
    yield ""
    yield "| work | ours | against | wanted | found | range | reached |"
    yield "|---|---|---|---:|---:|---|---|"
    for row in content["ratios"]:
        yield (
            f"| {_title(row['work'])} | {row['ours']} | {row['against']} | {row['wanted']:g} | {row['ratio']:.2f} "
            f"| {row['least']:.2f}-{row['most']:.2f} | {_verdict(row)} |"
        )
    yield from _own(content["limits"])
    yield from _works(content["works"])
    yield from _profiles(content.get("profiles", ()))
    absent = list(_absent(content["works"]))
    if absent:
        yield ""
        yield "## Not raced"
        yield ""
        yield from absent


def _absent(works: Mapping[str, Any]) -> Iterator[str]:
    """Works that nobody did, and contenders that were missing from a work that they can do."""
    for name in WORKS:
        if name not in works:
            yield f"- {_title(name)}: not raced in these runs."
    for name, contender in CONTENDERS.items():
        able = [work for work in works if WORKS[work].shape in contender.shapes]
        missing = [_title(work) for work in able if name not in works[work]["rates"]]
        if missing:
            peer = PEERS.get(contender.side)
            own = f"not installed (`{contender.lacks}`)" if contender.lacks else "not raced in these runs"
            why = f"not installed (`{peer.get}`; `--{contender.side} PYTHON`)" if peer else own
            where = "all works" if len(missing) == len(able) else "; ".join(missing)
            yield f"- {name}: {why}; missing from {where}."


def _own(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield "## One stream: our own Python, and the limit of memory"
    yield ""
    yield (
        f"Python is what passes between two runs of the session (wanted: under {PYTHON_MICROSECONDS:g} microseconds). "
        "A step cannot be faster than its weights can be read; read rates are the best of several, measured between "
        f"the steps. Wanted: int8 at {BANDWIDTH_SHARE:.0%}."
    )
    yield ""
    yield "| work | ours | Python a token, us | range | enough | step, ms | weights, MB | read, GB/s | share | enough |"
    yield "|---|---|---:|---|---|---:|---:|---:|---:|---|"
    for row in rows:
        enough = "yes" if row["share"] >= BANDWIDTH_SHARE else "no"
        yield (
            f"| {_title(row['work'])} | {row['ours']} | {row['python_us']:.0f} "
            f"| {row['python_us_least']:.0f}-{row['python_us_most']:.0f} "
            f"| {'yes' if row['python_us'] < PYTHON_MICROSECONDS else 'no'} | {row['step_ms']:.2f} "
            f"| {row['weight_mb']:.0f} | {row['read_gb_per_s']:.1f} | {row['share']:.0%} "
            f"| {enough if row['ours'].endswith('int8') else ''} |"
        )
    yield ""
    yield (
        "What stands in the way: weights of some dozen megabytes stay in the processor's cache, which reads them faster"
        " than a step's hundreds of small operators can be called one behind the other; and our own Python meets cold "
        "caches behind a step that read all weights, at several times its usual time."
    )


def _works(works: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "## All contenders"
    yield ""
    yield (
        "Median and range of the rounds; memory is the process' peak during the work; agreement is the share of tokens "
        "(or labels) equal to those of transformers in fp32, or of torch with packed sequences. Greedy texts of random "
        "weights never come together again after a first difference. Contenders that run torch are asked for some "
        "whole batches only, at the same batch size."
    )
    for name, record in works.items():
        yield ""
        yield f"### {_title(name)}"
        yield ""
        yield f"Inputs: {record['inputs']}.{_varied(record)}{_batched(record)}{_disturbed(record)}"
        yield ""
        yield f"| contender | {record['unit']} | range | peak, MB | agreement |"
        yield "|---|---:|---|---:|---:|"
        for contender, rates in record["rates"].items():
            yield (
                f"| {contender} | {_rate(median(rates))} | {_rate(min(rates))}-{_rate(max(rates))} "
                f"| {record['peak_mb'][contender]:.0f} | {record['agreement'][contender]:.1%} |"
            )


def _batched(record: Mapping[str, Any]) -> str:
    """The batch that each contender took, where it was to have its own best one."""
    taken = ", ".join(f"{name} {batch or 'chooses'}" for name, batch in record.get("batches", {}).items())
    return f" Batches: {taken}." if taken else ""


def _profiles(profiles: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not profiles:
        return
    yield ""
    yield "## What stands in the way, where a ratio was missed"
    yield ""
    for each in profiles:
        why = IN_THE_WAY.get((each["work"], each["ours"].rsplit(" ", 1)[1]), "")
        said = [why, f"Time by operator: {shares(each['operators'])}."]
        yield f"- {_title(each['work'])}, {each['ours']}: {' '.join(filter(None, said))}"


def _title(work: str) -> str:
    return f"{SHAPES[WORKS[work].shape]}, {WORKS[work].about}"


def _varied(record: Mapping[str, Any]) -> str:
    """Texts that say one token over and over agree easily; that is told."""
    if "distinct" not in record:
        return ""
    if record["unit"] != "tokens/s":
        return f" The reference gives {record['distinct']:.0f} different labels."
    return f" The reference writes {record['distinct']:.1f} different tokens a text."


def _verdict(row: Mapping[str, Any]) -> str:
    if row["disturbed"]:
        return "disturbed: not decided"
    return "yes" if row["reached"] else "no"


def _is_disturbed(record: Mapping[str, Any]) -> bool:
    """Did other processes take so much that its ratios say nothing?"""
    shares = [share for each in record.get("others", {}).values() for share in each]
    return bool(record.get("disturbed", False)) or bool(shares and median(shares) > MOST_DISTURBED)


def _disturbed(record: Mapping[str, Any]) -> str:
    shares = [share for each in record.get("others", {}).values() for share in each]
    if not shares:
        return f" {record['note']}" if "note" in record else ""
    return f" Other processes took {median(shares):.0%} of the machine during a turn, at most {max(shares):.0%}."


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
