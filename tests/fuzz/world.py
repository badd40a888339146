"""A small world of everything that `lmtasks` reads, made once, of which every case damages a copy."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tiny import tiny_checkpoint

TASK = """task: mine
kind: classification
dataset_path: csv
dataset_kwargs: {data_files: {train: rows.csv, test: rows.csv}}
training_split: train
test_split: test
inputs: {text: comment, label: mood}
labels: [negative, positive]
doc_to_text: "{{comment}}\\nMood:"
num_fewshot: 1
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
WRITING = """task: writing
kind: generation
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{comment}}"
doc_to_target: mood
generation_kwargs: {max_gen_toks: 4, until: ["\\n"], temperature: 0.7, top_p: 0.9, do_sample: true}
filter_list:
  - {name: first, filter: [{function: regex, regex_pattern: "(\\\\w+)"}, {function: take_first}]}
metric_list: [{metric: exact_match}, {metric: bleu}]
"""
PLAN = """plan: mine
tasks: [mine.yaml]
limit: 2
models:
  small: {backbone: "svm", training: {epochs: 1, rows: 8}}
variants:
  - {name: trivial, baseline: [majority]}
  - {name: small, model: small}
bench: null
"""
ROWS = [
    {"comment": f"number {n} was {'bad' if n % 2 else 'good'}", "mood": ("positive", "negative")[n % 2]}
    for n in range(12)
]
ARPA = (
    "\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1.0\t<s>\t-0.3\n-0.5\ta\t-0.2\n-0.7\t</s>\n\n"
    "\\2-grams:\n-0.1\t<s> a\n\n\\end\\\n"
)

Run = Callable[..., object]


def make_world(folder: Path, run: Run) -> None:
    """Lay everything out in `folder`; `run` carries out a command line."""
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(TASK)
    (folder / "writing.yaml").write_text(WRITING)
    (folder / "plan.yaml").write_text(PLAN)
    lines = [json.dumps(row) for row in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "rows.json").write_text(f"[{', '.join(lines)}]")
    for name, mark in (("rows.csv", ","), ("rows.tsv", "\t")):
        (folder / name).write_text(
            "".join(f"{mark.join(row)}\n" for row in [list(ROWS[0]), *(row.values() for row in ROWS)])
        )
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    (folder / "lm.arpa").write_text(ARPA)
    (folder / "vectors.txt").write_text("2 3\ngood 0.1 0.2 0.3\nbad 0.3 0.2 0.1\n")
    tiny_checkpoint(folder / "llama", "llama")
    tiny_checkpoint(folder / "bert", "bert-classifier")
    run("adapt", "--backbone", "svm", "--tasks", "mine.yaml", "--out", "svm")
    run(
        "adapt",
        "--backbone",
        "ngram:order=2,fallback=1",
        "--tokenizer",
        "characters:100",
        "--tasks",
        "mine.yaml",
        "--out",
        "ngram",
    )
    run(
        "adapt",
        "--backbone",
        "cnn:width=8,filters=4,widths=1+2",
        "--tokenizer",
        "words:50",
        "--tasks",
        "mine.yaml",
        "--epochs",
        "1",
        "--out",
        "cnn",
    )
    run("export", "--model", "cnn", "--out", "package")
    run("eval", "--model", "majority", "--model", "random", "--tasks", "mine.yaml", "--out", "scores")
    run("eval", "--model", "copy", "--tasks", "writing.yaml", "--out", "written")
    run("run", "plan.yaml", "--out", "ran")
    for each in folder.rglob("checksums.json"):  # else damage is found before any reader meets it
        each.unlink()
    for each in folder.rglob("*.lock"):
        each.unlink()
    shutil.rmtree(folder / "answers", ignore_errors=True)


READERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "mine.yaml": (
        ("validate", "mine.yaml"),
        ("eval", "--model", "majority", "--tasks", "mine.yaml", "--out", "out"),
        ("eval", "--model", "svm", "--tasks", "mine.yaml", "--out", "out"),
    ),
    "writing.yaml": (
        ("validate", "writing.yaml"),
        ("eval", "--model", "copy", "--tasks", "writing.yaml", "--out", "out"),
    ),
    "plan.yaml": (("validate", "plan.yaml"), ("run", "plan.yaml", "--out", "out")),
    "rows.csv": (("validate", "mine.yaml"), ("eval", "--model", "tfidf", "--tasks", "mine.yaml", "--out", "out")),
    "rows.jsonl": (
        ("eval", "--model", "copy", "--tasks", "writing.yaml", "--out", "out"),
        ("eval", "--model", "majority", "--data", "rows.jsonl", "--text", "comment", "--label", "mood", "--out", "out"),
    ),
    "rows.json": (
        ("eval", "--model", "majority", "--data", "rows.json", "--text", "comment", "--label", "mood", "--out", "out"),
    ),
    "rows.tsv": (
        ("eval", "--model", "majority", "--data", "rows.tsv", "--text", "comment", "--label", "mood", "--out", "out"),
    ),
    "rows.parquet": (
        (
            "eval",
            "--model",
            "majority",
            "--data",
            "rows.parquet",
            "--text",
            "comment",
            "--label",
            "mood",
            "--out",
            "out",
        ),
    ),
    "lm.arpa": (("export", "--model", "lm.arpa", "--out", "out"),),
    "vectors.txt": (
        (
            "adapt",
            "--backbone",
            "cnn:width=3,filters=2",
            "--vectors",
            "vectors.txt",
            "--tokenizer",
            "words:20",
            "--tasks",
            "mine.yaml",
            "--epochs",
            "0.1",
            "--out",
            "out",
        ),
    ),
    "llama": (
        ("predict", "--model", "llama", "--new-tokens", "2", "a cat"),
        ("eval", "--model", "llama", "--tasks", "writing.yaml", "--limit", "1", "--out", "out"),
    ),
    "bert": (("predict", "--model", "bert", "a good film"),),
    "svm": (("predict", "--model", "svm", "a good film"), ("export", "--model", "svm", "--out", "out")),
    "ngram": (("predict", "--model", "ngram", "--tasks", "mine.yaml", "good"),),
    "cnn": (("predict", "--model", "cnn", "a good film"),),
    "package": (("predict", "--model", "package", "a good film"),),
    "scores": (
        ("compare", "scores/majority", "scores/random"),
        ("eval", "--rescore", "scores/majority", "--metrics", "acc", "--out", "out"),
    ),
    "written": (
        ("eval", "--rescore", "written", "--metrics", "chrf", "--out", "out"),
        ("compare", "written", "written"),
    ),
    "ran": (("report", "ran"), ("run", "plan.yaml", "--out", "ran")),
}
"""A file or a folder, and the commands that read it."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "eval --model majority --tasks mine.yaml --out out": (
        "--limit",
        "--num-fewshot",
        "--seed",
        "--threads",
        "--batch-size",
        "--resamples",
        "--split",
        "--cache",
        "--gen-kwargs",
        "--tasks",
        "--model",
        "--label-map",
        "--system-instruction",
        "--fewshot-stream",
        "--draws",
        "--runtime",
        "--device",
        "--precision",
        "--data-root",
        "--include-path",
        "--out",
    ),
    "eval --model majority --data rows.csv --text comment --label mood --out out": (
        "--data",
        "--text",
        "--label",
        "--pair",
        "--name",
        "--language",
        "--out",
    ),
    "adapt --backbone svm --tasks mine.yaml --out out": (
        "--epochs",
        "--minutes",
        "--rows",
        "--learning-rate",
        "--tokens-per-batch",
        "--window",
        "--weight-decay",
        "--label-smoothing",
        "--evaluations",
        "--patience",
        "--seed",
        "--backbone",
        "--tokenizer",
        "--vectors",
        "--method",
        "--lora-rank",
        "--lora-alpha",
        "--lora-dropout",
        "--lora-points",
        "--out",
        "--precision",
        "--device",
    ),
    "pretrain --data rows.csv --text comment --out out --steps 1 --vocabulary 300 --window 8 --batch-rows 4": (
        "--weights",
        "--mix",
        "--start",
        "--beside",
        "--backbone",
        "--hide",
        "--vocabulary",
        "--tokenizer",
        "--window",
        "--steps",
        "--minutes",
        "--batch-rows",
        "--accumulate",
        "--learning-rate",
        "--warmup",
        "--cooldown",
        "--evaluate-every",
        "--checkpoint-every",
        "--seed",
        "--objective",
        "--schedule",
    ),
    "predict --model svm text": (
        "--new-tokens",
        "--gen-kwargs",
        "--tasks",
        "--label-map",
        "--batch-size",
        "--seed",
        "--model",
        "--threads",
    ),
    "compare scores/majority scores/random": ("--only", "--examples", "--seed", "--out"),
    "validate mine.yaml": ("--show", "--limit", "--model", "--num-fewshot", "--seed", "--include-path"),
    "list tasks": ("--include-path",),
    "bench --model svm --tasks mine.yaml --out out --require nonsense": (
        "--rate",
        "--seconds",
        "--rounds",
        "--sweep",
        "--require",
        "--arrival",
    ),
    "export --model svm --out out": ("--precision", "--max-drop", "--limit", "--threads", "--label-map", "--model"),
}
"""A command, and the options whose values are mutated."""
