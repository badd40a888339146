"""`lmtasks compare`: stored results side by side, paired by example: is the difference more than chance?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.output import speeds_of, tell
from lmtasks.cli.table import print_table
from lmtasks.errors import GateError
from lmtasks.settings.base import Setting
from lmtasks.settings.bounds import COUNT_OR_NONE
from lmtasks.settings.evaluation import Seed, Slower

if TYPE_CHECKING:
    from lmtasks.bench.compare import SideBySide
    from lmtasks.evaluation.comparing import Compared, DifferingExample, MetricComparison
    from lmtasks.evaluation.write import StoredResults
    from lmtasks.results.sample import SampleRecord

SHOWN = 300
"""Characters of a document, a target or an answer that are printed."""

COLUMNS = (
    *("task", "n", "metric", "base", "this", "difference", "95 %", "p", "p (Holm)", "effect", "could show"),
    *("better", "same", "worse", "verdict"),
)


def command(
    results: Annotated[
        list[Path], typer.Argument(metavar="A B...", help="Folders that `lmtasks eval` wrote; the first is the base.")
    ],
    only: Annotated[
        tuple[str, ...],
        Setting(
            "Compare only this task, or this metric of it; * stands for any text. May be given several times.",
            metavar="TASK/METRIC",
        ),
    ] = (),
    examples: Annotated[
        int,
        COUNT_OR_NONE,
        Setting("Show so many examples of each task on which the results differ most.", metavar="NUMBER"),
    ] = 0,
    fail_if_worse: Annotated[
        bool, Setting("Exit with 3 if another is significantly worse than A in any metric that is compared.")
    ] = False,
    fail_if_slower: Slower = None,
    markdown: Annotated[bool, Setting("Print Markdown, for a pull request.")] = False,
    out: Annotated[Path | None, Setting("Write every number to this file too.", metavar="FILE.json")] = None,
    seed: Seed = 1234,
) -> None:
    """Compare stored results, paired by example; all are held to the first."""
    from lmtasks.evaluation.comparing import examples_that_differ
    from lmtasks.workflow.compare import compare_folders, compare_speeds, compared_record, write_comparison

    compared = compare_folders(results, only=only, seed=seed)
    base = compared.base
    speeds = () if fail_if_slower is None else compare_speeds(base, compared.others)
    tell(lambda: {"comparisons": compared_record(compared).comparisons, "speeds": speeds_of(speeds)})
    if markdown:
        _print_markdown(compared, speeds)
    else:
        _print(compared)
        _print_speeds(speeds)
    for comparison in _first_of_each_task(compared) if examples else ():
        _print_examples(base, comparison, examples_that_differ(base, comparison, count=examples))
    if out is not None:
        write_comparison(compared, out)
        print(f"\nEvery number is in {out}.")
    if fail_if_slower is not None:
        slower = [
            f"{row.variant} on {row.task}, batch {row.batch_size} ({row.sentence})"
            for row in speeds
            if row.verdict == "slower" and 1 - row.ratio.value > fail_if_slower / 100
        ]
        if slower:
            raise GateError(f"slower than {base.folder} by more than {fail_if_slower:g} %: {'; '.join(slower)}.")
    worse = [_named(comparison) for comparison in compared.comparisons if comparison.verdict == "worse"]
    if fail_if_worse and worse:
        raise GateError(f"worse than {base.folder}: {'; '.join(worse)}.")


MARKDOWN = ("task", "metric", "n", "base", "this", "difference", "95 %", "p (Holm)", "verdict")


def _print_markdown(compared: Compared, speeds: Sequence[SideBySide]) -> None:
    base = compared.base
    lines = [f"**Base:** {_escaped(f'{base.folder} ({_what(base)})')}", ""]
    for other in compared.others:
        mine = [comparison for comparison in compared.comparisons if comparison.other is other]
        worse, better = (sum(each.verdict == verdict for each in mine) for verdict in ("worse", "better"))
        lines += [
            f"**{_escaped(str(other.folder))}** ({_escaped(_what(other))}): {len(mine)} metrics, {worse} worse and "
            f"{better} better by more than chance.",
            "",
            *_markdown_table(MARKDOWN, [_markdown_row(base, each) for each in mine]),
            "",
        ]
    if speeds:
        rows = [(row.variant, row.task, str(row.batch_size), *_speed_cells(row), row.verdict) for row in speeds]
        lines += [*_markdown_table(("variant", "task", "batch", "times as fast", "95 %", "verdict"), rows), ""]
    lines += [f"Not compared: {_escaped(reason)}" for reason in compared.left_out]
    lines.append("Paired by example; differences in points, p by Holm's procedure over all of the table.")
    print("\n".join(lines))


def _markdown_row(base: StoredResults, comparison: MetricComparison) -> Sequence[str]:
    row = dict(zip(COLUMNS, _row(base, comparison), strict=True))
    verdict = row["verdict"]
    return tuple(
        f"**{verdict}**" if name == "verdict" and verdict in ("worse", "better") else row[name] for name in MARKDOWN
    )


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(_escaped(cell) for cell in line)} |"


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is; bold stays."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("|", "\\|").replace("`", "\\`").replace("_", "\\_")


def _print_speeds(speeds: Sequence[SideBySide]) -> None:
    if speeds:
        print()
        rows = [(row.variant, row.task, str(row.batch_size), *_speed_cells(row), row.verdict) for row in speeds]
        print_table(("variant", "task", "batch", "times as fast", "95 %", "verdict"), rows, right=(2, 3))


def _speed_cells(row: SideBySide) -> tuple[str, str]:
    ends = row.ratio.ci95
    return f"{row.ratio.value:.2f}", "" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def _print(compared: Compared) -> None:
    from lmtasks.metric.paired import SURE

    base = compared.base
    print(f"base: {base.folder} ({_what(base)})")
    for note in _known_rows(base, compared.comparisons):
        print(note)
    for other in compared.others:
        mine = [comparison for comparison in compared.comparisons if comparison.other is other]
        print(f"\n{other.folder} ({_what(other)})")
        print_table(COLUMNS, [_row(base, comparison) for comparison in mine], right=(1, *range(3, 14)))
        for note in _known_rows(other, mine):
            print(note)
        for comparison in mine:
            if comparison.note:
                print(f"note: {comparison.note}.")
        _tell_missing(base, other)
    for reason in compared.left_out:
        print(f"not compared: {reason}")
    count = len(compared.comparisons)
    print(
        f"""
difference   this minus base, in points (perplexities and bits as they are)
p (Holm)     counts all {count} comparisons together; verdicts go by it (below {SURE})
effect       Cohen's h of shares, d_z of other means
could show   the smallest difference that as many examples would show four times in five"""
    )


def _known_mark(results: StoredResults, task: str) -> str:
    from lmtasks.report.overlap import MARK, is_marked

    return f" {MARK}" if is_marked(results.tasks[task].scores.overlap) else ""


def _known_rows(results: StoredResults, comparisons: Sequence[MetricComparison]) -> Iterator[str]:
    """Notes on rows that the model may have seen before it was scored."""
    from lmtasks.report.overlap import MARK, is_marked, on_the_others, seen_rows

    unknown = False
    for task in dict.fromkeys(comparison.task for comparison in comparisons):
        scores = results.tasks[task].scores
        overlap = scores.overlap
        unknown |= overlap is None or overlap.learned is None
        if overlap is not None and is_marked(overlap):
            yield f"{MARK} {results.folder}, {task}: {seen_rows(overlap, n=scores.n)}; {on_the_others(overlap)}."
    if unknown:
        yield f"Not known: which rows {results.folder} learned from."


def _row(base: StoredResults, comparison: MetricComparison) -> Sequence[str]:
    from lmtasks.report import format as form

    paired, scale = comparison.result, comparison.metric.scale
    ends = (form.difference(end, scale) for end in paired.ci95 or ())
    interval = f"[{', '.join(ends)}]" if paired.ci95 is not None else ""
    return (
        comparison.task,
        str(paired.n),
        comparison.name,
        form.value(paired.a, scale) + _known_mark(base, comparison.task),
        form.value(paired.b, scale) + _known_mark(comparison.other, comparison.task),
        form.difference(paired.difference, scale),
        interval,
        _p_value(paired.p_value),
        _p_value(comparison.p_adjusted),
        form.MISSING if paired.effect is None else f"{paired.effect_name} {form.effect(paired.effect)}",
        form.MISSING
        if paired.detectable is None
        else form.value(paired.detectable, "raw" if scale == "raw" else "points"),
        str(paired.wins),
        str(paired.ties),
        str(paired.losses),
        {"better": "better", "worse": "worse", "open": form.MISSING}[comparison.verdict],
    )


def _p_value(p_value: float) -> str:
    return f"{p_value:.3f}" if p_value >= 0.001 else "<0.001"


def _what(results: StoredResults) -> str:
    runtime = results.record.runtime
    return f"{results.record.model.name}, {runtime.runtime} {runtime.device} {runtime.precision}"


def _named(comparison: MetricComparison) -> str:
    where = f"{comparison.other.folder} in {comparison.name} of {comparison.task}"
    return f"{where} ({comparison.result.difference:+.2f}, p = {comparison.p_adjusted:.2g})"


def _tell_missing(base: StoredResults, other: StoredResults) -> None:
    for one, two in ((base, other), (other, base)):
        alone = [task for task in one.tasks if task not in two.tasks]
        if alone:
            print(f"only in {one.folder}: {', '.join(alone)}")


def _first_of_each_task(compared: Compared) -> list[MetricComparison]:
    """The main metric of each task, for each of the others."""
    found: dict[tuple[Path, str], MetricComparison] = {}
    for comparison in compared.comparisons:
        found.setdefault((comparison.other.folder, comparison.task), comparison)
    return list(found.values())


def _print_examples(base: StoredResults, comparison: MetricComparison, examples: Sequence[DifferingExample]) -> None:
    title = f"{comparison.task}, {comparison.name}: {base.folder} against {comparison.other.folder}"
    print(f"\n{title}" if examples else f"\n{title}: no example differs")
    for example in examples:
        values = " and ".join(_value(sample, comparison.name) for sample in (example.base, example.other))
        print(f"  {example.doc_id}: {'better' if example.gain > 0 else 'worse'} ({values})")
        for name, value in (
            ("asked", example.base.doc),
            ("right", example.base.target),
            ("base", example.base.answer or example.base.raw),
            ("this", example.other.answer or example.other.raw),
        ):
            print(f"    {name:5}  {_cut(value)}")


def _value(sample: SampleRecord, metric: str) -> str:
    found = sample.metrics.get(metric)
    return str(found) if found is None else f"{found:.4g}"


def _cut(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
