"""Conditions of a run: tasks, training of its models, machine, library versions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

from lmtasks.records import GENERATION_DEFAULTS
from lmtasks.report import format as show
from lmtasks.report.grid import main_metric, main_score
from lmtasks.report.overlap import is_marked
from lmtasks.report.records import RunRecords
from lmtasks.report.table import Column, Line, Notes, Table, TableCell
from lmtasks.results.cell import CellRecord, TrainedRecord, Variant

TRAININGS_CAPTION = (
    "Seconds of training steps and of looks at the validation rows between them, or of the fit of a family that takes "
    "no steps; without reading the data; the mean over seeds."
)
WAYS: Mapping[str, str] = {"head": "head", "prompt": "prompt", "baseline": "", "answers": "given answers"}
ENDED_EARLY: Mapping[str, str] = {"minutes": "its time was up", "patience": "it had stopped to gain"}
TOLD_BY_WAY = ("num_beams", "temperature", "max_new_tokens")


def conditions_table(run: RunRecords) -> Table:
    """One row a task: what makes its values comparable with another run's."""
    lines = []
    holes = any(cell.conditions.get("rows_left_out") for cell in run.cells)
    for task in run.tasks:
        cells = [cell for cell in run.cells if cell.task.name == task.name and cell.status == "done"]
        metric = main_metric(run, task)
        signatures = [cell.metrics[metric].signature for cell in cells if metric is not None and metric in cell.metrics]
        lines.append(
            Line(
                name=task.name,
                detail=", ".join(filter(None, [task.kind, task.language])),
                cells=(
                    _cell([WAYS.get(str(cell.conditions.get("prompt_way")), "") for cell in cells]),
                    _cell([cell.conditions.get("num_fewshot") for cell in cells]),
                    _cell([_decoding(cell.conditions.get("decoding")) for cell in cells]),
                    _cell([_taken(cell) for cell in cells]),
                    _cell([cell.seed for cell in cells]),
                    _cell([_known(cell) for cell in cells]),
                    _cell(signatures),
                    _cell([cell.conditions.get("task_hash") or task.hash for cell in cells]),
                    _cell([cell.conditions.get("data_fingerprint") for cell in cells]),
                    *([_cell([cell.conditions.get("rows_left_out") for cell in cells])] if holes else []),
                ),
            )
        )
    titles = (
        "answered by",
        "examples shown",
        "decoding",
        "limit",
        "seed",
        "rows known before",
        "signature of the main metric",
        "task",
        "data",
        *(["rows without a label, left out"] if holes else []),
    )
    return Table(
        caption="Values are comparable with those of another run where these are equal.",
        corner="task",
        columns=tuple(Column(title=title) for title in titles),
        lines=tuple(lines),
    )


def machine_facts(run: RunRecords) -> tuple[tuple[str, str], ...]:
    """The machine in words, with its own measured limits."""
    machines = [speed.machine for speed in run.speeds.values()] + [cell.machine for cell in run.cells]
    machine = next((each for each in machines if each), {})
    limits = [speed.limits for speed in run.speeds.values() if speed.limits]
    flags = machine.get("flags")
    memory = machine.get("memory_limit_bytes") or machine.get("memory_bytes")
    cores = f"{machine.get('cores_usable')} usable of {machine.get('cores_logical')}"
    facts = {
        "processor": machine.get("processor"),
        "cores": cores if machine.get("cores_usable") else None,
        "instruction sets": ", ".join(map(str, flags)) if isinstance(flags, list) else None,
        "memory": show.size(memory) if isinstance(memory, int) and memory else None,
        "system": " ".join(str(machine[key]) for key in ("system", "kernel", "architecture") if key in machine),
        "virtual": "yes" if machine.get("virtual") else None,
        "processor limit": f"{machine['cpu_limit_cores']} cores" if machine.get("cpu_limit_cores") else None,
        "governor": machine.get("governor"),
        "reading from memory": _limit([each.read_gb_per_s for each in limits], "GB/s"),
        "copy bandwidth": _limit([each.copy_gb_per_s for each in limits], "GB/s, read and written"),
        "matrix product": _limit([each.gemm_gflop_per_s for each in limits], "GFLOP/s, fp32, 1024 × 1024"),
        **_other_products(run),
    }
    return tuple((name, str(value)) for name, value in facts.items() if value)


def version_facts(run: RunRecords) -> tuple[tuple[str, str], ...]:
    """Library versions; several where the cells do not agree."""
    found: dict[str, list[str]] = {}
    for versions in (*(cell.versions for cell in run.cells), *(speed.versions for speed in run.speeds.values())):
        for name, version in versions.items():
            if str(version) not in found.setdefault(name, []):
                found[name].append(str(version))
    return tuple((name, " and ".join(versions)) for name, versions in found.items())


WORDED = "heads that weigh n-grams of tokens, as TF-IDF does, beside the backbone's states"


def training_table(run: RunRecords) -> Table | None:
    """None where the run has trained nothing. Variants that share a model share its row."""
    lines: list[Line] = []
    seen: set[str] = set()
    notes = Notes()
    for variant in run.variants:
        cells = [cell for cell in run.cells if cell.variant.name == variant.name and cell.trained]
        if cells and variant.model not in seen:
            seen.add(variant.model)
            lines.append(_training_line(run, variant, cells, notes))
    if not lines:
        return None
    return Table(
        caption=TRAININGS_CAPTION,
        corner="model",
        columns=(
            Column(title="training", detail="of one seed", lower_is_better=True),
            Column(title="seeds"),
            Column(title="steps"),
            Column(title="weights", detail="that learned"),
            Column(title="scores"),
        ),
        lines=tuple(lines),
        notes=notes.texts,
    )


def _decoding(settings: object) -> str:
    """How texts were written; empty where none were."""
    if not isinstance(settings, dict):
        return ""
    beams, temperature = settings.get("num_beams", 1), settings.get("temperature", 0)
    way = f"{beams} beams" if beams != 1 else f"drawn at temperature {temperature}" if temperature else "greedy"
    length = f"{way}, at most {settings['max_new_tokens']} tokens" if "max_new_tokens" in settings else way
    usual = {**asdict(GENERATION_DEFAULTS), **({} if temperature else {"top_k": 0})}
    others = {name: settings.get(name, value) for name, value in usual.items() if name not in TOLD_BY_WAY}
    parts = [length, *(f"{name}={value}" for name, value in others.items() if value != usual[name])]
    missing = settings.get("not_obeyed")
    if isinstance(missing, dict) and missing:
        parts.append(f"not obeyed: {', '.join(f'{name}={value}' for name, value in missing.items())}")
    return ", ".join(parts)


def _taken(cell: CellRecord) -> object:
    """How many first or drawn rows were scored; None: all."""
    drawn = cell.conditions.get("sample")
    return cell.conditions.get("limit") if drawn is None else f"{drawn} drawn"


def _known(cell: CellRecord) -> str:
    """Scored rows that the model may have known: how many; of some models and old results that is not known."""
    overlap = cell.scores.overlap
    if overlap is None:
        return "not known"
    seen = f"{show.count(overlap.seen)} of {show.count(cell.scores.n)}" if is_marked(overlap) else ""
    learned = "" if overlap.learned is not None else "of training not known"
    return ", ".join(filter(None, [seen, learned])) or "none"


def _other_products(run: RunRecords) -> dict[str, str]:
    """The matrix product in other precisions."""
    found: dict[str, list[float]] = {}
    for speed in run.speeds.values():
        for name, rate in speed.limits.gemm.items() if speed.limits else ():
            found.setdefault(name, []).append(rate)
    return {f"matrix product, {name}": f"{_range(rates)} GFLOP/s" for name, rates in found.items() if name != "fp32"}


def _limit(measured: Sequence[float | None], unit: str) -> str | None:
    """The range over the processes that measured it."""
    values = [value for value in measured if value is not None]
    return f"{_range(values)} {unit}" if values else None


def _range(values: Sequence[float]) -> str:
    low, high = show.rate(min(values)), show.rate(max(values))
    return low if low == high else f"{low} to {high}"


def _cell(values: Sequence[object]) -> TableCell:
    """What all agree on, or everything that occurs."""
    shown = list(dict.fromkeys(str(value) for value in values if value is not None and value != ""))
    return TableCell(text=" / ".join(shown) or show.MISSING, sort=" / ".join(shown), quiet=not shown)


def _training_line(run: RunRecords, variant: Variant, cells: Sequence[CellRecord], notes: Notes) -> Line:
    by_seed = {cell.seed: cell.trained for cell in cells if cell.trained is not None}
    trainings = list(by_seed.values())
    seconds, steps = fmean(each.seconds for each in trainings), fmean(each.steps for each in trainings)
    early = [seed for seed, each in by_seed.items() if each.stopped in ENDED_EARLY]
    marks = [notes.number(f"{variant.model}: {_ended(by_seed[seed])} (seed {seed})") for seed in early]
    worded = dict.fromkeys(cell.task.name for cell in cells if cell.trained is not None and cell.trained.words)
    if worded:
        marks.append(notes.number(f"{variant.model}: {WORDED}: {', '.join(worded)}"))
    return Line(
        name=variant.model,
        cells=(
            TableCell(text=show.duration(seconds), sort=seconds, notes=tuple(marks)),
            TableCell(text=show.count(len(trainings)), sort=len(trainings)),
            TableCell(text=show.count(round(steps)), sort=steps),
            TableCell(text=show.count(trainings[0].weights), sort=trainings[0].weights),
            TableCell(text=_main_scores(run, variant)),
        ),
    )


def _main_scores(run: RunRecords, variant: Variant) -> str:
    scored = [(task, main_score(run, variant=variant, task=task)) for task in run.tasks]
    return ", ".join(f"{task.name} {show.value(each.value, each.scale)}" for task, each in scored if each is not None)


def _ended(trained: TrainedRecord) -> str:
    return f"{ENDED_EARLY[trained.stopped]} after {show.count(trained.steps)} steps"
