"""Pages in Chinese: no word of the interface is left in English."""

import ast
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from synthetic import write_run, write_samples

import lmtasks.report
from lmtasks.prove.parity import LEAST, greedy_case, proof_cases
from lmtasks.report.chinese import CHINESE, chinese
from lmtasks.report.records import RunRecords, read_run
from lmtasks.report.samples import read_samples
from lmtasks.report.view import view
from lmtasks.report.write import KINDS_OF_SAMPLES, SAMPLES_WORDS, render_page, write_report

HERE = Path(lmtasks.report.__file__).parent
PUBLISHED = sorted(file.parent for file in Path(__file__).parents[2].glob("reports/*/run.json"))
NAMES = re.compile(
    r"(?<![a-zA-Z])(?:lmtasks|torch|onnx|fp32|int8|majority|random|copy|lead|chars|empty|tfidf|tf-idf|nearest|ngram|"
    r"linear-tagger|full|probe|lora|max|sacrebleu|conlleval|num_beams|linux|virtual|governor|cells|json|head|score|"
    r"decoder|encoder|heads|processor|default|trivial|classical|mini|svm|naive-bayes)(?![a-zA-Z])",
    re.IGNORECASE,
)
"""Names of things, which have no other in Chinese."""


def words_of(page: str) -> Iterator[str]:
    """What a reader sees of a page but for names, commands, code and samples."""
    page = re.sub(r"<(script|style|pre|h1|title)\b.*?</\1>", "", page, flags=re.DOTALL)
    page = re.sub(r'<p class="question">.*?(?=<p class="scope">)', "", page, flags=re.DOTALL)
    page = re.sub(r'<section id="(published|conditions)">.*?</section>', "", page, flags=re.DOTALL)  # of others; hashes
    for part in re.findall(r">([^<]+)<", page):
        yield unescape(part.strip())


def left_in_english(run: RunRecords, *, samples: bool = True) -> list[str]:
    names = {each.name for each in run.variants} | {each.name for each in run.tasks}
    names |= {each.model for each in run.variants} | {metric for cell in run.cells for metric in cell.metrics}
    names |= {name for cell in run.cells for name in cell.versions}
    names |= {label for cell in run.cells for label in cell.scores.labels or ()}
    flags = [str(flag) for cell in run.cells for flag in (cell.machine.get("flags") or ())]
    names |= {*flags, *(str(cell.machine.get(key)) for cell in run.cells for key in ("processor", "kernel", "system"))}
    known = re.compile("|".join(map(re.escape, sorted(filter(None, names), key=len, reverse=True))))
    shown = read_samples(run, out=run.folder) if samples else ()
    found = []
    for text in words_of(render_page(view(run, samples=shown), language="zh")):
        rest = NAMES.sub("", known.sub("", text))
        if re.search(r"(?<![\w.&-])[a-z]{3,}(?![\w.;-])", rest):
            found.append(text)
    return list(dict.fromkeys(found))


def test_no_word_of_a_made_run_is_left_in_english(folder: Path) -> None:
    write_samples(folder)
    assert left_in_english(read_run(folder)) == []


def test_a_proof_that_was_cut_has_its_chinese(folder: Path) -> None:
    file = folder / "packages/mini-s1234-fp32/parity.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    names = [case.name for case in proof_cases([(5, 6, 7), (8, 9)], longest=9) if case.name not in LEAST]
    content |= {"cases": 10, "seconds": 61.4, "budget_seconds": 60.0, "not_proved": [*names, greedy_case(512)]}
    file.write_text(json.dumps({**content, "checksum": ""} if "checksum" in content else content), encoding="utf-8")
    assert left_in_english(read_run(folder)) == []


def test_costs_and_largest_rates_have_their_chinese(folder: Path) -> None:
    file = next((folder / "speed").glob("*.json"))
    record = json.loads(file.read_text(encoding="utf-8"))
    task = record["workloads"][0]["task"]
    how = (
        "28 tokens read and 40 written an answer, as they were sent",
        "1,200 tokens read and 8 written an answer, as the server bills them",
        "0.003 core-seconds an answer on 4 cores, at batch 16",
        "0.01 s of the machine an answer, at batch 16",
    )
    record["costs"] = [{"task": task, "per_1000": 0.25, "currency": "EUR", "how": each} for each in how]
    tried = [{"rate": 8.0, "value_ms": 90.0, "held": True}]
    record["max_rates"] = [
        {"task": task, "name": "p95_ms", "limit_ms": 500.0, "rate": 8.0, "rounds": [8.0], "tried": tried}
    ]
    latency = {"p50": 9.0, "p90": 9.0, "p95": 9.0, "p99": 9.0, "n": 500}
    load = {
        "task": task,
        "rate": 20.0,
        "arrival": "even",
        "batching": "apart",
        "latency_ms": latency,
        "busy_share": 0.0,
    }
    record["loads"] = [{**load, "goodput_per_s": 19.0}]
    file.write_text(json.dumps(record), encoding="utf-8")
    page = render_page(view(read_run(folder), samples=()), language="en")
    for words in ("What answers cost", "0.25 EUR", "The largest rate", "good requests/s"):
        assert words in page
    assert left_in_english(read_run(folder), samples=False) == []


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_no_word_of_a_published_report_is_left_in_english(folder: Path) -> None:
    assert left_in_english(read_run(folder)) == []


def test_every_word_of_templates_and_scripts_has_its_translation() -> None:
    text = "".join((HERE / name).read_text(encoding="utf-8") for name in ("page.html.j2", "table.html.j2"))
    words = set(re.findall(r'"([^"]+)" \| (?:t|word)\b', text)) | set(re.findall(r'section\("\w+", "([^"]+)"\)', text))
    words |= {title for _, title in re.findall(r'pick\("(\w+)", "([^"]+)"\)', text)}
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in ("page.js", "samples.js"))
    said = set(re.findall(r'\bsay\("([^"]+)"\)', script))
    assert len(words) > 30
    assert said == set(SAMPLES_WORDS)
    assert not {each for each in (*words, *said, *dict(KINDS_OF_SAMPLES).values()) if chinese(each) == each}


def test_every_title_of_a_column_has_its_translation() -> None:
    titles = set()
    for file in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Column", "Table", "Fact"):
                given = {each.arg: each.value for each in node.keywords}
                values = [given.get(name) for name in ("title", "detail", "corner", "label")]
                titles |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    same = {"p50", "p90", "p95", "p99", "n", "fp32", "× torch", "× torch, batch 1", "95 %", ""}
    assert len(titles) > 40
    assert not {each for each in titles - same if chinese(each) == each}


def test_places_of_a_translation_are_those_of_its_key() -> None:
    for key, text in CHINESE.items():
        places = len(re.findall(r"\{[#*]?\}", key))
        numbered = [int(each) for each in re.findall(r"\{(\d+)\}", text)]
        assert text.count("{}") + len(numbered) == places, key
        assert all(number < places for number in numbered), key


@pytest.mark.parametrize(
    ("english", "expected"),
    [
        ("a b (−0.1 points), int8 (up to 1.9 points)", "a b（−0.1 个百分点），int8（至多 1.9 个百分点）"),
        ("sst2: 12 inputs were cut to fit the model", "sst2：12 个输入为适应模型而被截断"),
        ("greedy, at most 96 tokens / 4 beams, at most 96 tokens", "贪心，至多 96 个词元 / 4 束，至多 96 个词元"),
        ("news and views", "news and views"),
    ],
)
def test_parts_are_translated_in_their_places(english: str, expected: str) -> None:
    assert chinese(english) == expected


def test_report_md_speaks_the_same_language(folder: Path) -> None:
    write_report(folder, language="zh")
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "## 质量" in text
    assert "## Quality" not in text
    assert "lmtasks run benchmarks/first-light.yaml" in text


def test_the_other_language_stands_in_the_page_too(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run")).read_text(encoding="utf-8")
    assert '<html lang="en">' in page
    assert '["Quality","质量"]' in page
