"""Whatever a file or an option holds, a command ends with an exit code of the table and a sentence: never with a
traceback, never as "a fault of lmtasks", and nothing outside the folders that it was given is touched.

LMTASKS_FUZZ_CASES sets another number of cases, LMTASKS_FUZZ_SEED other ones.
"""

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fuzz.world import OPTIONS, READERS, make_world
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lmtasks.cli.main import run

pytestmark = pytest.mark.slow
CASES = int(os.environ.get("LMTASKS_FUZZ_CASES", "500"))
SEED = os.environ.get("LMTASKS_FUZZ_SEED")
CODES = (0, 1, 2, 3)
LONGEST_ERROR = 6000
CASE_SECONDS = 60

VALUES: Sequence[object] = (
    None, True, False, 0, 1, -1, 3, 10**30, -(10**30), 2**63, 1e308, 1.5, float("nan"), float("inf"), float("-inf"),
    "", " ", "x",
    "\ud800", "a\x00b", "a/../../b", "nan", "1", "[", "{{", "{{ x", "{% for %}", "(", "é" * 5, "word " * 5000,
    "mine.yaml", "中",
    [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, [1, "a", None], ["x"] * 200, {"function": "no.such"},
)  # fmt: skip
TEXTS: Sequence[str] = (
    "", " ", "-1", "0", "1", "2", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 30, "-" + "9" * 30, "9" * 5000,
    "0x10", "1_0", "٣", "x",
    "a\x00b", "\ud800", "caf\udce9", "/no/such", "/dev/null", "..", "~", "no/such", "mine.yaml", "rows.csv", "svm",
    "lm.arpa", ",", ",,", "=", "a=b",
    "a=", "=b", "a=1,a=2", "{", "[]", "null", '{"a": 1}', '{"temperature": NaN}', "temperature=nan",
    "num_beams=99999999999999999999",
    "max_gen_toks=-1", "x" * 5000, "*", "[", "**", "scores*", "a:b", "words:", "words:-1", "words:nan",
    "bpe:99999999999999999999",
    "llama:width=-1", "llama:width=nan", "lstm:width=99999999999999999999", "cnn:widths=0", "svm:c=nan",
    "ngram:order=-1", "batch=0",
    "p95_ms<=nan", "p95_ms<=1@0rps", "drop<=", "@", "org/name@", "-", "--", "%s", "\x1b[31m", "\u202e", "\n", "中",
    "cuda", "cpu", "off",
)  # fmt: skip
INSERTED: Sequence[bytes] = (
    b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x80", b"\n", b"\r", b"\"", b"'", b"{", b"[", b"[" * 100_000,
    b"{\"a\":" * 50_000,
    b"NaN", b"1e999", b"9" * 5000, b"\\ud800", b"\x1b", b"&a [*a]", b"!!python/object:os.system x", b"\t", b",",
    b"-" * 100, b"x" * 100_000,
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """What is done to which file; places are shares of a file's length, or of its values."""

    target: str
    file: float
    kind: str
    place: float
    value: int
    command: int


DAMAGES = st.builds(
    Damage,
    target=st.sampled_from(sorted(READERS)),
    file=st.floats(0, 1, exclude_max=True),
    kind=st.sampled_from(
        ["value", "value", "value", "drop", "key", "cut", "insert", "flip", "empty", "folder", "gone", "other"]
    ),
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 10**6),
    command=st.integers(0, 10),
)
OPTION_CASES = st.tuples(
    st.sampled_from([(line, option) for line, options in OPTIONS.items() for option in options]), st.sampled_from(TEXTS)
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "world"

    def carry_out(*arguments: str) -> None:
        code, err = said(folder, arguments)
        assert code == 0, (arguments, err)

    make_world(folder, carry_out)
    return folder


@contextmanager
def _limited() -> Iterator[None]:
    """What takes so long hangs."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"it took more than {CASE_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(CASE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def said(folder: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code and standard error of a command that runs in `folder`."""
    before, environment = Path.cwd(), dict(os.environ)
    out, err = io.StringIO(), io.StringIO()
    stdin, sys.stdin = sys.stdin, io.StringIO("")
    os.chdir(folder)
    os.environ["LMTASKS_CACHE"] = str(folder / "answers")
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(list(arguments))
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin = stdin
    return code, err.getvalue()


def check(folder: Path, arguments: Sequence[str], *, touched: Sequence[str]) -> None:
    """Carry out a command and hold it against what every command promises."""
    before = _files(folder, touched)
    with _limited():
        code, err = said(folder, arguments)
    told = f"lmtasks {' '.join(arguments)[:300]!r} ended with {code} and said {err[-1500:]!r}"
    assert code in CODES, told
    assert "fault of lmtasks" not in err, told
    assert "Traceback" not in err, told
    assert len(err) < LONGEST_ERROR, told
    assert code == 0 or err.strip(), told
    assert _files(folder, touched) == before, told


def _files(folder: Path, touched: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Everything but what the command was given to write."""
    found = {}
    for file in folder.parent.rglob("*"):
        name = file.relative_to(folder.parent).as_posix()
        inside = name.removeprefix(f"{folder.name}/").split("/")[0]
        if file.is_file() and not any(inside == each or inside.startswith(f"{each}.") for each in touched):
            found[name] = (file.stat().st_size, file.stat().st_mtime_ns)
    return found


def offline(words: Sequence[str]) -> list[str]:
    """The command, which touches no network."""
    return [*words] if words[0] in ("compare", "list", "report") or "--rescore" in words else [*words, "--offline"]


def damage(folder: Path, case: Damage) -> str:
    """Do it; returns what was damaged."""
    root = folder / case.target
    files = (
        [root]
        if root.is_file()
        else sorted(file for file in root.rglob("*") if file.is_file() and file.suffix != ".html")
    )
    file = files[int(case.file * len(files))]
    content = file.read_bytes()
    at = int(case.place * len(content))
    match case.kind:
        case "value" | "drop" | "key" if file.suffix in (".json", ".yaml", ".jsonl"):
            file.write_bytes(_changed(content, file.suffix, case))
        case "cut":
            file.write_bytes(content[:at])
        case "insert" | "value" | "key":
            file.write_bytes(content[:at] + INSERTED[case.value % len(INSERTED)] + content[at:])
        case "flip" | "drop":
            file.write_bytes(
                content[:at] + bytes([(content[at] if content else 0) ^ (1 << case.value % 8)]) + content[at + 1 :]
            )
        case "empty":
            file.write_bytes(b"")
        case "gone":
            file.unlink()
        case "folder":
            file.unlink()
            file.mkdir()
        case "other":
            others = sorted(each for each in folder.rglob("*") if each.is_file())
            shutil.copyfile(others[case.value % len(others)], file) if others[
                case.value % len(others)
            ] != file else None
    return str(file.relative_to(folder))


def _changed(content: bytes, suffix: str, case: Damage) -> bytes:
    """One value, or one key, of a structured file changed."""
    lines = content.decode().splitlines() if suffix == ".jsonl" else [content.decode()]
    if not lines:
        return content
    line = int(case.place * len(lines))
    tree = yaml.safe_load(lines[line]) if suffix == ".yaml" else json.loads(lines[line])
    places = list(_places(tree))
    if not places:
        return content
    holder, key = places[int(case.place * 997 * len(places)) % len(places)]
    if case.kind == "drop":
        del holder[key]  # type: ignore[attr-defined]
    elif case.kind == "key" and isinstance(holder, dict):
        holder[str(VALUES[case.value % len(VALUES)])[:50]] = holder.pop(key)
    else:
        holder[key] = VALUES[case.value % len(VALUES)]  # type: ignore[index]
    if suffix == ".yaml":
        return _yaml(tree).encode("utf-8", "surrogatepass")
    lines[line] = json.dumps(tree)
    return ("\n".join(lines) + "\n").encode()


def _yaml(tree: object) -> str:
    try:
        return str(yaml.safe_dump(tree, allow_unicode=True))
    except yaml.YAMLError:
        return json.dumps(tree)


def _places(tree: object) -> Iterator[tuple[object, object]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from _places(value)


def fuzzed(share: float):  # type: ignore[no-untyped-def]  # hypothesis' own decorators
    def decorate(test):  # type: ignore[no-untyped-def]
        chosen = settings(
            max_examples=max(1, int(CASES * share)), deadline=None, database=None, derandomize=SEED is None,
            suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
        )  # fmt: skip
        return chosen(test) if SEED is None else chosen(seed(int(SEED))(test))

    return decorate


@pytest.mark.timeout(3600)
@fuzzed(0.6)
@given(case=DAMAGES)
def test_a_damaged_file_is_told_in_a_sentence(
    world: Path, case: Damage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = world.parent / "case" / "here"
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(world, folder)
    damage(folder, case)
    commands = READERS[case.target]
    check(folder, offline(commands[case.command % len(commands)]), touched=("out", "answers", "ran"))


@pytest.mark.timeout(3600)
@fuzzed(0.4)
@given(case=OPTION_CASES)
def test_an_odd_value_of_an_option_is_told_in_a_sentence(world: Path, case: tuple[tuple[str, str], str]) -> None:
    (line, option), value = case
    folder = world.parent / "case" / "here"
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(world, folder)
    words = line.split()
    if option in words:
        del words[words.index(option) : words.index(option) + 2]
    check(
        folder,
        [*offline(words), f"{option}={value}"],
        touched=("out", "answers", *([value.split("/")[0]] if option == "--out" else [])),
    )
