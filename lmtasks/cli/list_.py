"""`lmtasks list`: tasks, changes, backbones, tokenizers, cleaning, baselines, heads, metrics, runtimes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmtasks.cli.table import print_table
from lmtasks.errors import LmtasksError, UsageError, unknown
from lmtasks.settings.base import Setting
from lmtasks.settings.data import IncludePath

if TYPE_CHECKING:
    from lmtasks.backbone.sizes import FittedSizes, Sizes

WHAT = "tasks, models, changes, backbones, tokenizers, cleaning, baselines, heads, metrics or runtimes"


def command(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=f"{WHAT}.")],
    include_path: IncludePath = (),
    kind: Annotated[str, Setting("Of tasks: those of this kind alone.", metavar="NAME")] = "",
    language: Annotated[str, Setting("Of tasks: those in this language alone, or from or to it.", metavar="CODE")] = "",
) -> None:
    """List tasks, models, changes, backbones, tokenizers, cleaning, baselines, heads, metrics or runtimes."""
    if what not in LISTS:
        raise unknown("list", what, LISTS)
    if what == "tasks":
        _tasks(include_path, kind=kind, language=language)
        return
    if include_path:
        raise UsageError(f"--include-path names folders of task files; {what} are not in them.")
    if kind or language:
        raise UsageError(f"--kind and --language choose among tasks; leave them out of `list {what}`.")
    LISTS[what]()


def _tasks(include: Sequence[Path], *, kind: str = "", language: str = "") -> None:
    from lmtasks.task.index import default_index
    from lmtasks.task.kinds import KINDS

    if kind and kind not in KINDS:
        raise unknown("kind of task", kind, KINDS)
    entries = list(default_index(include=include).entries())
    there = {code for entry in entries for code in (entry.language, *entry.language.split("-"))}
    if language and language not in there:
        raise unknown("language of the tasks", language, there)
    rows = [
        (entry.name, entry.kind, entry.language, entry.source, entry.about)
        for entry in entries
        if kind in ("", entry.kind) and language in ("", entry.language, *entry.language.split("-"))
    ]
    if not rows:
        raise UsageError(f"no task is of kind {kind} in the language {language}; leave one of the two out.")
    print_table(("task", "kind", "language", "data", "about"), rows)


def _models() -> None:
    """What --model takes that is on this machine."""
    from lmtasks.export.package import is_package, load_package
    from lmtasks.model.resolve import resolve, shipped_names
    from lmtasks.workflow.open_model import card_in

    def line(name: str, folder: Path, what: str) -> tuple[str, ...]:
        try:
            card = card_in(folder)
            package = f", package in {load_package(folder).precision}" if is_package(folder) else ""
        except LmtasksError as error:
            return (name, f"{what}, which cannot be read", "", "", str(error))
        heads = ", ".join(head.name for head in card.heads) or "–"
        return (name, f"{what}{package}", card.kind, f"{card.parameters:,}", heads)

    rows = [line(name, resolve(name, offline=True), "shipped") for name in shipped_names()]
    rows += [line(str(folder), folder, "made here") for folder in _made_here(Path("runs"))]
    rows += [line(name, folder, "from the Hub") for name, folder in _from_the_hub()]
    print_table(("model", "is", "kind", "weights", "heads"), rows, right=(3,))
    print("\nAnd every transformers checkpoint, as a folder or a Hub id; baselines: lmtasks list baselines")


def _made_here(root: Path) -> Iterator[Path]:
    """Folders of models and packages below a folder of runs, models inside of packages left out."""
    found = {file.parent for name in ("model.json", "package.json") for file in root.glob(f"**/{name}")}
    for folder in sorted(found):
        if not any(parent in found for parent in folder.parents) and folder.suffix != ".part":
            yield folder


def _from_the_hub() -> Iterator[tuple[str, Path]]:
    """Checkpoints that were fetched before: id and folder."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = sorted(scan_cache_dir().repos, key=lambda each: each.repo_id)
    except CacheNotFound:
        return
    for repository in repositories:
        latest = max(repository.revisions, key=lambda each: each.last_modified, default=None)
        if repository.repo_type == "model" and latest is not None and (latest.snapshot_path / "config.json").is_file():
            yield repository.repo_id, latest.snapshot_path


def _backbones() -> None:
    from lmtasks.backbone.closed_form import FITTED
    from lmtasks.backbone.family import FAMILIES
    from lmtasks.model.resolve import shipped_names

    shipped = [(name, "shipped", "ready to use: --model or --backbone " + name) for name in shipped_names()]
    families = [
        (name, f"family, {family.kind}", f"{family.about}; {_settings(name, family.sizes)}")
        for name, family in FAMILIES.items()
    ]
    fitted = [
        (name, "family, fitted at once", f"{family.about}; {_settings(name, family.sizes)}")
        for name, family in FITTED.items()
    ]
    print_table(("backbone", "is", "about"), [*shipped, *families, *fitted])
    print("\nAnd every transformers checkpoint, as a folder or a Hub id: causal, encoder or encoder-decoder.")


def _settings(name: str, sizes: "Sizes | FittedSizes") -> str:
    """A family as it is written, with all its settings."""
    from dataclasses import fields

    values = ((field.name, getattr(sizes, field.name)) for field in fields(sizes))
    return f"{name}:" + ",".join(f"{key}={'+'.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in values)


def _tokenizers() -> None:
    from lmtasks.data.vocabulary import TOKENIZERS

    rows = [(name, str(kind.size), kind.about) for name, kind in TOKENIZERS.items()]
    print_table(("tokenizer", "size", "about"), rows)
    print("\nOf a family trained from nothing: lmtasks adapt --backbone lstm --tokenizer words:10000,lower,least=2")


def _cleaning() -> None:
    from lmtasks.data.cleaning import STEPS, STOP, STOP_WORDS

    stop = [
        (f"{STOP}{language}", f"{len(words)} words that say little are left out, where tokens are words")
        for language, words in STOP_WORDS.items()
    ]
    print_table(("step", "about"), [*((name, step.about) for name, step in STEPS.items()), *stop])
    print("\nOf a new tokenizer, and kept with it: lmtasks adapt --backbone tfidf --tokenizer words:100000,nfkc,lower")


def _baselines() -> None:
    from lmtasks.evaluation.baselines import BASELINES, group_of
    from lmtasks.evaluation.rivals import GROUPS

    learns = {"train": "training rows", "validation": "validation rows", "test": "", None: "nothing"}
    rows = [
        (name, group_of(name), ", ".join(line.kinds), learns[line.learns], line.about)
        for name, line in BASELINES.items()
    ]
    print_table(("baseline", "is", "answers", "learns from", "about"), rows)
    print()
    print_table(("rival", "about"), list(GROUPS.items()))
    print("\nA bound looks at the right answers: no system can be better than it, and it is no rival.")
    print("\nWhat a model must beat: lmtasks eval --model MODEL --model trivial --model classical --tasks TASKS")


def _heads() -> None:
    from lmtasks.head import HEADS

    print_table(("head", "about"), [(name, head.about) for name, head in HEADS.items()])


def _metrics() -> None:
    from lmtasks.metric import METRICS

    scales = {"fraction": "0-1", "points": "0-100", "raw": "raw"}
    rows = [
        (
            name,
            scales[line.scale],
            "higher" if line.higher_is_better else "lower",
            ", ".join(line.takes),
            f"{line.description}{_by(METRICS.package(name))}",
        )
        for name, line in METRICS.items()
    ]
    print_table(("metric", "scale", "better", "scores", "about"), rows)


def _by(package: str) -> str:
    return f" (by {package})" if package else ""


def _runtimes() -> None:
    from lmtasks.runtime.open import list_runtimes
    from lmtasks.settings.runtimes import RUNTIMES

    found = list_runtimes()
    rows = [
        (
            info.name,
            info.version or "not installed",
            ", ".join(info.devices),
            ", ".join(info.precisions),
            f"{info.about}{_by(RUNTIMES.package(info.name))}",
        )
        for info in found
    ]
    print_table(("runtime", "version", "devices", "precisions", "about"), rows)
    notes = [f"{info.name}: {info.note}" for info in found if info.note]
    if notes:
        print("\n" + "\n".join(notes))


def _changes() -> None:
    from lmtasks.task.changes import CHANGES, PAIR_LANGUAGES, PAIRS

    rows = [(name, ", ".join(line.languages) or "any", line.about) for name, line in CHANGES.items()]
    print_table(("change", "language", "about"), rows)
    print()
    print_table(
        ("pairs", "language", "about"), [(name, ", ".join(PAIR_LANGUAGES), line.about) for name, line in PAIRS.items()]
    )
    print("\nA task with its scored rows changed, and what that costs: lmtasks eval --model MODEL --tasks TASK@CHANGE")
    print("TASK@* takes all that suit the language, TASK@CHANGE:7 draws with seed 7.")


LISTS: Mapping[str, Callable[[], None]] = {
    "tasks": lambda: _tasks(()),
    "models": _models,
    "changes": _changes,
    "backbones": _backbones,
    "baselines": _baselines,
    "tokenizers": _tokenizers,
    "cleaning": _cleaning,
    "heads": _heads,
    "metrics": _metrics,
    "runtimes": _runtimes,
}
