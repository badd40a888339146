"""Every command of the documents is carried out, on small data with tiny models, or at least read to its last option.

A block of commands is fenced as `sh`. All of its lines are carried out in the order of the page, unless a comment above
it says `<!-- parsed only: WHY -->`; `<!-- exit code 0 or 3 -->` says what else than 0 is right, and
`<!-- in the background -->` that a server runs from there on, here behind another port than the page's.
"""

import functools
import importlib
import importlib.util
import io
import json
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from test_docs import CHINESE as CHINESE_README
from test_docs import PROSE, README, ROOT, named
from tiny import tiny_checkpoint

from lmtasks.cli.defaults import Defaults
from lmtasks.cli.main import COMMANDS, TAKEN, load_command, run
from lmtasks.cli.signature import derived
from lmtasks.run.plan import VariantPlan, load_plan, shipped_plans
from lmtasks.task.index import default_index
from lmtasks.task.load import load_task

BLOCK = re.compile(
    r"(?:<!-- (?P<rule>[^\n]*) -->\n)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
CODES = re.compile(r"^exit code ([\d or]+)\b")
OTHERS: Mapping[str, Callable[[list[str]], bool]] = {
    "make": lambda words: re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None,
    ".": lambda words: words[1] == ".venv/bin/activate",
    "python": lambda words: (ROOT / words[1]).is_file(),
    ".venv/bin/python": lambda words: words[1] == "-m",
    ".ci/run": lambda words: (ROOT / ".ci" / "run").is_file(),
    "sbatch": lambda words: words[-2] == "--wrap" and shlex.split(words[-1])[:2] == ["lmtasks", "eval"],
    "bash": lambda words: (ROOT / words[1]).is_file() or words[1] == "starter.sh",  # which the line above it writes
}
"""Programs beside `lmtasks` that a page may name, each with what must hold of its words."""
BACKGROUND = "in the background"
ADDRESS = "127.0.0.1:8000"
"""Of the pages' server."""
PLACEHOLDER = re.compile(r"^[A-Z]+$")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One command of a page."""

    words: list[str]
    stdin: str
    codes: tuple[int, ...]
    """Exit codes that are right; none: it is not carried out."""
    background: bool = False
    """Does it run until the page ends?"""

    @property
    def arguments(self) -> list[str] | None:
        """What `lmtasks` is given; None: it is another program."""
        if self.words[0] == "lmtasks":
            return self.words[1:]
        return self.words[self.words.index("lmtasks") + 1 :] if self.words[0] == "torchrun" else None


def lines(page: Path) -> Iterator[Line]:
    """The commands of a page's blocks."""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["language"] != "sh":
            continue
        rule = block["rule"] or ""
        codes = CODES.match(rule)
        allowed = tuple(map(int, codes[1].split(" or "))) if codes else (0,)
        for text in block["code"].replace("\\\n", " ").splitlines():
            before, _, command = re.sub(r" > \S+$", "", text).rpartition(" | ")
            words = shlex.split(command, comments=True)
            if words:
                given = " ".join(shlex.split(before)[1:]) + "\n" if before else ""
                codes = () if rule.startswith("parsed only: ") else allowed
                yield Line(words=words, stdin=given, codes=codes, background=rule == BACKGROUND)


WITH_COMMANDS = [page for page in PROSE if any(lines(page))]


@pytest.mark.parametrize("page", PROSE, ids=named)
def test_no_command_stands_in_a_block_that_nobody_reads(page: Path) -> None:
    blocks = BLOCK.finditer(page.read_text(encoding="utf-8"))
    wrong = [block["code"] for block in blocks if block["language"] != "sh"]
    assert not [code for code in wrong if re.search(r"^(\$ )?lmtasks ", code, re.MULTILINE)]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=named)
def test_every_command_is_read_to_its_last_option(page: Path) -> None:
    for line in lines(page):
        arguments = line.arguments
        if arguments is None:
            assert OTHERS[line.words[0]](line.words), line.words
            continue
        assert arguments[0] in COMMANDS, line.words
        given = settings_of(arguments)
        index = default_index()
        for name in re.split(",", str(given.get("--tasks", ""))):
            if name and not PLACEHOLDER.match(name) and not name.endswith(".yaml"):
                assert index.find(name)  # an unknown one is an error
        if arguments[0] == "run":
            plan = arguments[1]
            assert PLACEHOLDER.match(plan) or plan in shipped_plans() or plan.endswith(".yaml"), f"no plan {plan}"


def yaml_blocks() -> list[str]:
    """Plans and task files of the pages, and parts of plans."""
    blocks = (block for page in PROSE for block in BLOCK.finditer(page.read_text(encoding="utf-8")))
    return list(dict.fromkeys(block["code"] for block in blocks if block["language"] == "yaml"))


@pytest.mark.parametrize("text", yaml_blocks(), ids=lambda text: text.splitlines()[0])
def test_every_plan_and_task_file_is_one(text: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(text, encoding="utf-8")
    content = yaml.safe_load(text)
    match next(iter(content)):
        case "plan":
            assert load_plan(file).variants
        case "task":
            assert load_task(file).metrics
        case "variants":
            assert [VariantPlan.model_validate(variant) for variant in content["variants"]]
        case other:
            assert other == "name", f"nobody checks {text}"  # a workflow of a code host


def test_the_file_of_defaults_is_one() -> None:
    page = ROOT / "docs" / "reference" / "commands.md"
    (block,) = [each for each in BLOCK.finditer(page.read_text(encoding="utf-8")) if each["language"] == "toml"]
    defaults = Defaults(file=page, content=tomllib.loads(block["code"]))
    set_there = defaults.of("eval", load=load_command, commands=COMMANDS)
    assert set_there.keys() == {"data_root", "threads", "sample"}


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, CHINESE_README], ids=named)
def test_the_example_in_python_does_what_it_says(
    page: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = [each for each in BLOCK.finditer(page.read_text(encoding="utf-8")) if each["language"] == "python"]
    exec(compile(block["code"], str(page), "exec"), {"frame": pd.read_csv(workspace / "reviews.csv")})


CHINESE = {ROOT / "README.zh-CN.md": ROOT / "README.md"} | {
    page: next(other for other in (ROOT / "docs" / page.name, ROOT / "docs" / "how-to" / page.name) if other.is_file())
    for page in sorted((ROOT / "docs" / "zh").glob("*.md"))
}


@pytest.mark.parametrize("page", CHINESE, ids=named)
def test_a_page_in_chinese_has_the_commands_and_headings_of_the_english_one(page: Path) -> None:
    """So those that are carried out are its own."""
    other = CHINESE[page]
    assert list(lines(page)) == list(lines(other))
    depths = [re.findall(r"^(#+) ", BLOCK.sub("", each.read_text(encoding="utf-8")), re.M) for each in (page, other)]
    assert depths[0] == depths[1]


def test_every_page_where_a_person_starts_is_there_in_chinese() -> None:
    pages = {*(ROOT / "docs" / "how-to").glob("*.md"), ROOT / "docs" / "start.md", ROOT / "README.md"}
    assert pages <= set(CHINESE.values())


def settings_of(arguments: list[str]) -> Mapping[str, object]:
    """The options of a command line, all settings built and checked, nothing carried out."""
    command, *rest = [each for each in arguments if each not in ("--quiet", "--json") or arguments[0] == "predict"]
    function = importlib.import_module(f"lmtasks.cli.{command}{'_' if command in TAKEN else ''}").command
    alone = typer.Typer(add_completion=False)
    alone.command(command)(derived(functools.wraps(function)(lambda **_: None)))
    click_command = typer.main.get_command(alone)
    with click_command.make_context(command, rest) as context:
        context.command.invoke(context)
        return {option: context.params.get(each.name) for each in click_command.params for option in each.opts}


ROWS = [("works well, would buy again", "5"), ("broke at once, money back", "1")]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a reader stands in: `reviews.csv`, `reviews/`, and tiny models called as the pages call them."""
    folder = tmp_path_factory.mktemp("reader")
    rows = [(f"item {number}: {ROWS[number % 2][0]}", ROWS[number % 2][1]) for number in range(80)]
    (folder / "reviews").mkdir()
    for file, part in (("reviews.csv", rows), ("reviews/train.csv", rows[:60]), ("reviews/test.csv", rows[60:])):
        text = "".join(f'"{comment}",{stars}\n' for comment, stars in rows if (comment, stars) in part)
        (folder / file).write_text(f"comment,stars\n{text}", encoding="utf-8")
    for name, architecture in (("A", "llama"), ("B", "gpt2"), ("lmtasks-mini", "llama")):
        tiny_checkpoint(folder / name, architecture, context=256)
    answers = [{"row": place, "answer": stars} for place, (_, stars) in enumerate(rows[60:])]
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in answers), encoding="utf-8")
    return folder


@contextmanager
def served(arguments: Sequence[str]) -> Iterator[str]:
    """The server of a page in a process of its own, behind a port that is free; its address without the scheme."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        str(port) if before == "--port" else word for before, word in zip(["", *arguments], arguments, strict=False)
    ]
    server = subprocess.Popen([sys.executable, "-m", "lmtasks", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert "is served at" in server.stdout.readline()
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


DONE: set[str] = set()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_COMMANDS if "zh" not in named(page)], ids=named)
def test_commands_do_what_the_page_says(
    page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One folder for all pages: the same line on two of them is carried out once."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("LMTASKS_CACHE", str(workspace / "answers"))
    address, missing = ADDRESS, set[str]()
    with ExitStack() as running:
        for line in lines(page):
            told = shlex.join(line.words)
            if line.arguments is None or not line.codes or told in DONE:
                continue
            if line.background:
                if importlib.util.find_spec("starlette") is None:
                    missing = {ADDRESS}
                else:
                    address = running.enter_context(served(line.arguments))
                continue
            if any(each in told for each in missing):  # the extra of the server is not installed
                missing |= {line.words[line.words.index("--out") + 1]} if "--out" in line.words else set()
                continue
            monkeypatch.setattr("sys.stdin", io.StringIO(line.stdin))
            code = run([word.replace(ADDRESS, address) for word in line.arguments])
            said = capsys.readouterr()
            assert code in line.codes, f"{told}\n{said.out}\n{said.err}"
            DONE.add(told)
