"""What the documents say is there: links lead somewhere, folders and files exist, commands take what is shown."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
import yaml
from test_imports import MAY_IMPORT

import lmtasks
from lmtasks.cli.main import COMMANDS, load_command

ROOT = Path(lmtasks.__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import make_site  # noqa: E402  # lies with the pages

README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("reports/*.md"), *ROOT.glob("*/*/*.md"))
    if page.name not in ("report.md",)  # held by the tests of reports
)
PROSE = sorted({README, CHINESE, ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")})
"""Pages about the code as it is now; the changelog names what was."""
ELSEWHERE = ("http://", "https://", "mailto:")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def links(text: str) -> Iterator[str]:
    """The targets of a page's links, those in code and in comments left out."""
    yield from re.findall(r"\[[^\]\n]*\]\(([^)\s]+)\)", make_site.NO_LINKS.sub("", text))


def anchors(page: Path) -> set[str]:
    """The anchors that a code host gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        file = (page.parent / target) if target else page
        if link.startswith(ELSEWHERE):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", PROSE, ids=named)
def test_files_that_are_named_exist(page: Path) -> None:
    """`a/b.py` stands below the root, `lmtasks/` or `tests/`; `<placeholders>` and globs name no one file."""
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|md|yaml|json|txt))`", text)
    wrong = [path for path in paths if not any((ROOT / base / path).exists() for base in ("", "lmtasks", "tests"))]
    assert not [path for path in wrong if not path.startswith(("runs/", "reviews/", "adapters/"))]  # of users


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of every `lmtasks COMMAND ...` in a page's code."""
    code = re.findall(r"```.*?```|`[^`\n]*`", text.replace("\\\n", " "), flags=re.DOTALL)
    for block in code:
        for line in block.strip("`").splitlines():
            for part in re.findall(r"(?:^|[|;] ?|-m )lmtasks ([a-z].*)", line.strip()):
                yield part.split()


@pytest.mark.parametrize("page", PROSE, ids=named)
def test_commands_take_the_options_that_are_shown(page: Path) -> None:
    commands = {name: load_command(name) for name in COMMANDS}
    wrong = []
    for words in command_lines(page.read_text(encoding="utf-8")):
        command = commands.get(words[0])
        options = {word.split("=")[0] for word in words if word.startswith("--") and len(word) > 2}
        if command is None or not options <= {"--debug", "--help", *options_of(command)}:
            wrong.append(" ".join(words))
    assert not wrong


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_both_readmes_show_every_command() -> None:
    commands = set(COMMANDS)
    for page in (README, CHINESE):
        rows = set(re.findall(r"^\| `lmtasks (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert rows == commands, page.name


@pytest.mark.parametrize("page", [README, CHINESE], ids=named)
def test_a_readme_is_read_at_one_sitting(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize("page", PROSE, ids=named)
def test_make_knows_the_targets_that_are_named(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)) <= targets


def test_everything_is_tested_before_a_change_goes_in() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = {name: rule for name, rule in re.findall(r"^([a-z-]+):.*\n\t(.*)$", makefile, re.MULTILINE)}
    assert "make test-all" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "pytest" in rules["test-all"]
    assert "-m" not in rules["test-all"].split("pytest")[1]
    assert rules["test"].startswith(rules["test-all"])  # the one is the other without the slow ones
    assert "not slow" in rules["test"]


def test_architecture_names_every_folder_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `lmtasks/(\w+)` \|", text, re.MULTILINE)
    there = sorted(file.parent.name for file in (ROOT / "lmtasks").glob("*/__init__.py"))
    assert sorted(rows) == there
    assert set(rows) == set(MAY_IMPORT)


def test_the_worked_request_goes_through_functions_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("\n## One request, from the command line to the page\n")[1].split("\n## ")[0]
    steps = re.findall(r"`(lmtasks/[\w/]+\.py)` `(\w+)`", section)
    assert len(steps) > 20
    for path, name in steps:
        defined = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert name in defined, f"{path} has no {name}"


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lmtasks.__version__
    assert citation["license"] == "Apache-2.0"


def test_the_glossary_has_each_word_once_and_names_what_is_there() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [word for cell in re.findall(r"^\| (?!word)([^|]+) \|", text, re.MULTILINE) for word in cell.split(", ")]
    assert sorted({word for word in words if words.count(word) > 1}) == []
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "lmtasks").rglob("*.py"))
    options = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([^`]+)`", text):
        where = options if name.startswith("--") else code
        assert all(word in where for word in re.split(r"[ =:]", name)[:1]), f"`{name}` is not there"


EXTENDED: Mapping[str, int] = {
    "A task": 1,
    "A metric": 2,
    "A kind of task with its head": 4,
    "A family with its graph": 4,
    "An architecture": 2,
    "A runtime": 2,
    "A rival": 2,
    "An option that reaches the report": 3,
}
"""How many files are touched to add each."""


def test_each_extension_touches_as_many_files_as_its_checklist_says() -> None:
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    sections = {
        (name, int(count)): re.findall(r"^- \[ \] (\*new\* )?`([^`]+)`: ", body, re.MULTILINE)
        for name, count, body in re.findall(r"^## ([^:\n]+): (\d+) files?\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    }
    assert dict(sections) == {(name, count): sections.get((name, count)) for name, count in EXTENDED.items()}
    for (name, count), items in sections.items():
        assert len(items) == count, name
        assert all((ROOT / path).is_file() for _, path in items), name
        listed = {path for _, path in items}
        for new, path in items:
            if new and path.endswith(".py"):
                others = importers(path.removesuffix(".py").replace("/", ".")) - listed
                assert not others, f"{name}: {path} is imported by {others}"


def importers(module: str) -> set[str]:
    """The files of lmtasks that import a module, or name it to be imported (`module:Class`)."""
    folder, _, name = module.rpartition(".")
    found = set()
    for file in (ROOT / "lmtasks").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.ImportFrom(module=given, names=names):
                    named_here = given == module or (given == folder and name in {alias.name for alias in names})
                case ast.Constant(value=str(text)):
                    named_here = text.startswith(f"{module}:")
                case _:
                    continue
            if named_here:
                found.add(named(file))
    return found


def test_the_site_has_every_page_and_every_page_is_there() -> None:
    """Pages that are read; `docs/schema` is for programs, and reports are reached from their gallery."""
    named_there = [ROOT / page for page in make_site.navigation()]
    assert len(set(named_there)) == len(named_there)
    assert all(page.is_file() or page.with_suffix(".ipynb").is_file() for page in named_there)
    written = {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb")}
    assert {page for page in written if page.with_suffix(".md") not in named_there} == set()


def test_the_reference_has_every_name_of_the_front_door() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    shown = {name.rsplit(".", 1)[1] for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)}
    assert set(lmtasks.__all__) <= shown


def test_broken_links_of_the_built_site_are_found(tmp_path: Path) -> None:
    """zensical looks at links from page to page alone."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text('<p id="there">')
    (tmp_path / "page.html").write_text(
        '<a href="folder/">1</a><a href="folder/index.html#there">2</a><a href="https://a.b/c">3</a>'
        '<a href="folder/index.html#gone">4</a><a href="other.html">5</a><img src="none.png"><a href="#top">6</a>'
    )
    assert make_site.broken(tmp_path) == [
        f"page.html: {link}" for link in ("folder/index.html#gone", "other.html", "none.png", "#top")
    ]


def test_pages_are_laid_with_what_they_lead_to(tmp_path: Path) -> None:
    laid = {file.as_posix() for file in make_site.lay(["README.md", "docs/notebook.md"], out=tmp_path / "out")}
    assert {"docs/start.md", "reports/few-rows/index.html", "benchmarks/starter.yaml", "docs/notebook.md"} <= laid
    page = (tmp_path / "out" / "docs" / "notebook.md").read_text(encoding="utf-8")
    assert "```python\nimport pandas as pd" in page
    assert (tmp_path / "out" / "docs" / "notebook.ipynb").is_file()
