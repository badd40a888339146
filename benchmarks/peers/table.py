"""The table of all parts that stand, as markdown and as one JSON file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from operators import shares

IN_THE_WAY = {
    "fp32": "the products run near to what the processor multiplies (`lmtasks bench` measures that rate), over tokens "
    "of which each is read once; fewer tokens are not to be had.",
    "int8": "half of the time are products that run near to what the processor multiplies; most of the other half, "
    "attention and the scales of rows, is in fp32; a tenth of the whole are sessions that are opened when first asked.",
}
"""Why a ratio of packages is missed, where it is."""
PARTS = ("equality", "speed", "onnx", "growth")


def write_table(out: Path, *, publish: Path | None) -> bool:
    """Write `peers.md` and `peers.json`.

    Args:
        out: where the parts' files are.
        publish: a second folder for both.

    Returns:
        Is anything unequal that should be equal?
    """
    found = {
        part: json.loads((out / f"{part}.json").read_text(encoding="utf-8"))
        for part in PARTS
        if (out / f"{part}.json").is_file()
    }
    lines = ["# lm-evaluation-harness beside lmtasks", ""]
    for part, content in found.items():
        lines += [*_HEADS[part](content), ""]
    text = "\n".join(lines).rstrip() + "\n"
    for folder in (out, publish):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "peers.md").write_text(text, encoding="utf-8")
            (folder / "peers.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return any(not each["equal"] for each in found.get("equality", {}).get("compared", ()))


def _equality(content: Mapping[str, Any]) -> Iterator[str]:
    compared: Sequence[Mapping[str, Any]] = content["compared"]
    equal = sum(each["equal"] for each in compared)
    yield from _conditions("Equality", content)
    yield f"{equal} of {len(compared)} comparisons are equal within their bounds."
    yield ""
    yield "| checkpoint | task | requests | largest gap of a log-probability | texts | metrics equal | errors equal |"
    yield "|---|---|---:|---:|---|---:|---:|"
    for checkpoint, job in dict.fromkeys((each["checkpoint"], each["job"]) for each in compared):
        mine = [each for each in compared if (each["checkpoint"], each["job"]) == (checkpoint, job)]
        by = {each["what"]: each for each in mine}
        scored, written = by.get("log-probabilities"), by.get("texts")
        rest = [each for each in mine if each["what"] not in ("prompts", "log-probabilities", "texts", "documents")]
        errors = [each for each in rest if each["what"].startswith("stderr of")]
        values = [each for each in rest if each not in errors]
        requests = (scored or written or {"n": 0})["n"]
        yield (
            f"| {checkpoint} | {job} | {requests} | {_number(scored)} | {_yes(written)} "
            f"| {sum(each['equal'] for each in values)} of {len(values)} "
            f"| {sum(each['equal'] for each in errors)} of {len(errors)} |"
        )
    for each in compared:
        if not each["equal"]:
            yield f"\nUnequal: {each['checkpoint']}, {each['job']}, {each['what']}: {each['worst']:.3g} over "
            yield f"{each['bound']:.0e}. {each['detail']}"


def _speed(content: Mapping[str, Any]) -> Iterator[str]:
    yield from _conditions("Speed", content)
    yield f"{content['checkpoint']}, fp32, {content['threads']} threads, batches of {content['batch_size']}."
    yield ""
    yield "| workload | lm-eval, s | lmtasks, s | times as fast | rounds | wanted | reached |"
    yield "|---|---:|---:|---:|---|---:|---|"
    for each in content["timed"]:
        seconds = each["median_seconds"]
        yield (
            f"| {each['name']} | {seconds['lm-eval']:.3g} | {seconds['lmtasks']:.3g} | {each['ratio']:.2f} "
            f"| {', '.join(f'{ratio:.2f}' for ratio in each['ratios'])} | {each['wanted']:g} "
            f"| {'yes' if each['ratio'] >= each['wanted'] else 'no'} |"
        )
    yield ""
    yield "| memory of | lm-eval, MB | lmtasks, MB | share | above the model: lm-eval | lmtasks | share |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for each in content["timed"]:
        if "memory_mb" in each:
            theirs, ours = each["memory_mb"]["lm-eval"], each["memory_mb"]["lmtasks"]
            yield (
                f"| {each['name']} | {theirs['peak']:.0f} | {ours['peak']:.0f} | {ours['peak'] / theirs['peak']:.0%} "
                f"| {theirs['above_model']:.0f} | {ours['above_model']:.0f} "
                f"| {ours['above_model'] / max(1.0, theirs['above_model']):.0%} |"
            )


def _onnx(content: Mapping[str, Any]) -> Iterator[str]:
    yield from _conditions("Packages for ONNX Runtime beside lm-evaluation-harness on torch", content)
    yield f"{content['checkpoint']}, {content['threads']} threads, batches of {content['batch_size']}."
    yield ""
    yield "| workload | precision | lm-eval, s | lmtasks, s | times as fast | rounds | wanted | reached | acc: both |"
    yield "|---|---|---:|---:|---:|---|---:|---|---|"
    for each in content["timed"]:
        precision, seconds, wanted = each["precision"], each["median_seconds"], each["wanted"]
        reached = "" if wanted is None else "yes" if each["ratio"] >= wanted else "no"
        rounds = ", ".join(f"{ratio:.2f}" for ratio in each["ratios"])
        yield (
            f"| {each['name']} | {precision} | {seconds['lm-eval']:.3g} | {seconds[precision]:.3g} "
            f"| {each['ratio']:.2f} | {rounds} | {'' if wanted is None else f'{wanted:g}'} | {reached} "
            f"| {each['acc']['lm-eval']:.3f}, {each['acc'][precision]:.3f} |"
        )
    yield ""
    for each in content["timed"]:
        if "operators" in each:
            why = IN_THE_WAY[each["precision"]]
            yield (
                f"- What stands in the way of {each['name']}, {each['precision']}: {why} "
                f"Time by operator: {shares(each['operators'])}."
            )


def _growth(content: Mapping[str, Any]) -> Iterator[str]:
    yield from _conditions("Growth", content)
    yield "| task | documents | ten times as many take | allowed | above the model, MB |"
    yield "|---|---:|---:|---:|---|"
    for each in content["growth"]:
        above = " and ".join(f"{value:.0f}" for value in each["above_model_mb"].values())
        yield f"| {each['task']} | {each['documents']} | {each['ratio']:.2f} times | {each['allowed']} | {above} |"
    rows = content["million"]
    yield ""
    yield (
        f"{rows['rows']:,} short rows: {rows['seconds']:.0f} s, {rows['above_model_mb']:.0f} MB above the model "
        f"(allowed: {rows['allowed_mb']})."
    )


_HEADS = {"equality": _equality, "speed": _speed, "onnx": _onnx, "growth": _growth}


def _conditions(title: str, content: Mapping[str, Any]) -> Iterator[str]:
    machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items() if isinstance(value, str | int))
    yield f"## {title}"
    yield ""
    yield f"`{content['command']}`, {content['seconds']:.0f} s. Machine: {machine}."
    for side, versions in content.get("versions", {}).items():
        yield f"{side}: {', '.join(f'{name} {version}' for name, version in versions.items())}."
    yield ""


def _number(compared: Mapping[str, Any] | None) -> str:
    return "" if compared is None else f"{compared['worst']:.1e}"


def _yes(compared: Mapping[str, Any] | None) -> str:
    if compared is None:
        return ""
    return (
        ("equal" if compared["worst"] == 0 else f"part at a near tie ({compared['worst']:.0e})")
        if compared["equal"]
        else "unequal"
    )
