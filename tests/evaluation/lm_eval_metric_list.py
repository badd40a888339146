"""Makes `lm_eval_0_4_13_metric_list.json` with lm-evaluation-harness itself. Run it where lm-eval 0.4.13 is installed:

DISABLE_MULTIPROC=1 HF_HUB_OFFLINE=1 python tests/evaluation/lm_eval_metric_list.py \
    > tests/evaluation/lm_eval_0_4_13_metric_list.json

Each case is a task file, rows and what a model said to each; the harness' own task scores and aggregates them
(`process_results`, `_compute_task_aggregations`). No test imports this file: the environment of the
tests has no lm-eval.
"""

import json
import re
import sys
import tempfile
from collections import defaultdict
from contextlib import redirect_stdout
from pathlib import Path

UTILS = """
def mean_right(items):
    return sum(gold == answer for gold, answer in items) / len(items)

def any_right(items):
    return sum(answer in gold for gold, answer in items) / len(items)

def macro_f1(items):
    classes = sorted({gold for gold, _ in items} | {answer for _, answer in items})
    found = []
    for name in classes:
        hits = sum(gold == answer == name for gold, answer in items)
        seen = sum(gold == name for gold, _ in items) + sum(answer == name for _, answer in items)
        found.append(2 * hits / seen)
    return sum(found) / len(found)

def probability_of_right(items):
    return sum(probabilities[gold] for gold, probabilities in items) / len(items)

def margin(items):
    return sum(scores[gold] - max(scores) for gold, scores in items) / len(items)

def lowest(items):
    return min(items)

def per_unit(items):
    return sum(first for first, _ in items) / sum(second for _, second in items)

def shared_words(items):
    shared = [len(set(gold.split()) & set(answer.split())) / len(gold.split()) for gold, answer in items]
    return sum(shared) / len(shared)

def both(references, predictions, k=()):
    return {f"shorter@{size}": float(len(predictions[0]) < size) for size in k}

def of_lists(references, predictions):
    return sum(len(text) for text in predictions[0]) / len(references[0])

def split(answers, docs):
    return [[part for text in each for part in text.split()] for each in answers]

def values(doc, results):
    made = {"listed": len(results[0]), "more": float(len(doc["q"]))}
    if "a" in results[0]:
        made["sometimes"] = 1 + results[0].count("a")
    return made

def length(references, predictions, scale=1):
    return scale * abs(len(references[0]) - len(predictions[0]))
"""

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_target": "label",
    "doc_to_choice": ["no", "maybe so", "yes"],
}
TWO = {**CHOICE, "doc_to_choice": ["no", "yes"]}
TEXT = {"output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{answer}}"}
CONTINUED = {"output_type": "loglikelihood", "doc_to_text": "{{q}}", "doc_to_target": "{{answer}}"}
ROLLING = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{answer}}"}

LABELS = [0, 1, 2, 2, 1, 0, 2, 1]
ANSWERS = ["the cat sat", "A dog!", "nothing at all", "the 3 cats sat there", "a b c d", "the cat sat", "x", "1,000"]
ROWS = [{"q": f"q{place}", "label": label, "answer": ANSWERS[place]} for place, label in enumerate(LABELS)]
TWO_ROWS = [{**row, "label": row["label"] % 2} for row in ROWS]
SEVERAL_ROWS = [{**row, "label": [row["label"], 0]} for row in ROWS]

THREE_SAID = [
    [[-1.0, False], [-2.0, False], [-3.0, False]],
    [[-1.5, True], [-2.0, False], [-9.0, False]],
    [[-4.0, False], [-2.5, False], [-1.0, True]],
    [[-4.0, False], [-2.5, False], [-3.0, False]],
    [[-3.0, False], [-0.5, True], [-3.0, False]],
    [[-3.0, False], [-3.5, False], [-3.25, False]],
    [[-0.25, True], [-3.0, False], [-3.0, False]],
    [[-2.0, False], [-2.0, False], [-5.0, False]],
]
TWO_SAID = [said[:2] for said in THREE_SAID]
TEXTS_SAID = ["the cat sat", "a dog", "nothing", "the cats sat here", "a b c d", "The cat sat.", "y", "1000"]
SCORES_SAID = [[-1.0 - place, place % 3 == 0] for place in range(8)]
SUMS_SAID = [-4.0 - 3 * place for place in range(8)]

SWITCHED = {"ignore_case": True, "ignore_punctuation": True, "regexes_to_ignore": [",", "\\$"]}

CASES = {
    "options_of_acc": (
        CHOICE,
        ROWS,
        THREE_SAID,
        [
            {"metric": "acc", "aggregation": "mean", **SWITCHED},
            {"metric": "acc_norm", "aggregation": "mean", "weight_by_size": True},
            {"metric": "acc_bytes"},
            {"metric": "exact_match", "aggregation": "mean", **SWITCHED},
            {"metric": "brier_score", "anything": 3},
            {"metric": "mcc", "average": "macro"},
        ],
    ),
    "f1_of_three_classes_own_aggregation": (
        CHOICE,
        ROWS,
        THREE_SAID,
        [
            {"metric": "f1", "aggregation": "!function utils.macro_f1", "average": "weighted", **SWITCHED},
            {"metric": "mcc", "aggregation": "!function utils.mean_right"},
            {"metric": "brier_score", "aggregation": "!function utils.probability_of_right"},
            {"metric": "likelihood", "aggregation": "!function utils.margin", "high_is_better": True},
            {"metric": "acc", "aggregation": "!function utils.lowest"},
            {"metric": "acc_norm", "aggregation": "median"},
        ],
    ),
    "f1_of_two_classes_average_is_not_looked_at": (
        TWO,
        TWO_ROWS,
        TWO_SAID,
        [
            {"metric": "f1", "average": "macro"},
            {"metric": "mcc", "aggregation": "f1"},
        ],
    ),
    "f1_aggregated_as_mcc": (CHOICE, ROWS, THREE_SAID, [{"metric": "f1", "aggregation": "matthews_corrcoef"}]),
    "f1_of_two_of_three_choices": (CHOICE, TWO_ROWS[:4], [THREE_SAID[0], THREE_SAID[4]] * 2, [{"metric": "f1"}]),
    "no_value_of_others": (CHOICE, ROWS, THREE_SAID, [{"metric": "acc"}, {"metric": "bleu"}, {"metric": "bypass"}]),
    "several_right_choices": (
        CHOICE,
        SEVERAL_ROWS,
        THREE_SAID,
        [
            {"metric": "f1", "aggregation": "!function utils.any_right"},
            {"metric": "acc", "ignore_case": True},
        ],
    ),
    "continuations": (
        CONTINUED,
        ROWS,
        SCORES_SAID,
        [
            {"metric": "acc", "aggregation": "mean", "ignore_case": True},
            {"metric": "perplexity", "aggregation": "mean"},
        ],
    ),
    "continuations_own_aggregation": (
        CONTINUED,
        ROWS,
        SCORES_SAID,
        [
            {"metric": "perplexity", "aggregation": "!function utils.lowest"},
            {"metric": "acc", "aggregation": "median"},
        ],
    ),
    "rolling": (
        ROLLING,
        ROWS,
        SUMS_SAID,
        [
            {"metric": "word_perplexity", "aggregation": "!function utils.per_unit", "anything": 1},
            {"metric": "byte_perplexity", "aggregation": "bits_per_byte"},
            {"metric": "bits_per_byte"},
        ],
    ),
    "pairs_of_texts": (
        TEXT,
        ROWS,
        TEXTS_SAID,
        [
            {"metric": "f1", "aggregation": "!function utils.shared_words", **SWITCHED},
            {"metric": "acc", "aggregation": "!function utils.mean_right", **SWITCHED},
            {"metric": "mcc"},
            {"metric": "bleu", "ignore_case": True},
            {"metric": "chrf", "aggregation": "chrf++"},
            {"metric": "bypass"},
        ],
    ),
    "texts_compared": (
        TEXT,
        ROWS,
        TEXTS_SAID,
        [
            {"metric": "exact_match", "ignore_case": 'true - "."', "ignore_punctuation": "false", "ignore_numbers": 0},
            {"metric": "!function utils.length", "aggregation": "median", "higher_is_better": False, "scale": 2},
        ],
    ),
    "a_function_of_several_names": (
        TEXT,
        ROWS,
        TEXTS_SAID,
        [{"metric": "!function utils.both", "aggregation": "mean", "higher_is_better": True, "k": [3, 12]}],
    ),
    "a_function_of_lists": (
        {
            **TEXT,
            "filter_list": [{"name": "none", "filter": [{"function": "custom", "filter_fn": "!function utils.split"}]}],
        },
        ROWS,
        TEXTS_SAID,
        [{"metric": "!function utils.of_lists", "aggregation": "mean", "higher_is_better": True}],
    ),
    "process_results_of_more": (
        {**TEXT, "process_results": "!function utils.values"},
        ROWS,
        TEXTS_SAID,
        [{"metric": "listed", "aggregation": "median", "higher_is_better": True, "k": 3}],
    ),
    "patterns_in_one_text": (TEXT, ROWS, TEXTS_SAID, [{"metric": "exact_match", "regexes_to_ignore": ",t"}]),
}
"""Name to keys, rows, what a model said to each, and the metric_list."""


def main() -> None:
    """Score and print."""
    import lm_eval

    cases = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "utils.py").write_text(UTILS, encoding="utf-8")
        for name, (keys, rows, said, metric_list) in CASES.items():
            text = _yaml(name, keys, metric_list)
            with redirect_stdout(sys.stderr):  # its bootstrap prints
                made = _scored(text, rows, said, folder)
            cases.append({"name": name, "yaml": text, "rows": rows, "said": said, **made})
    content = {"made_by": "tests/evaluation/lm_eval_metric_list.py", "lm_eval": lm_eval.__version__, "utils": UTILS}
    head = json.dumps({**content, "cases": "CASES"}, indent=1, ensure_ascii=False)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    print(head.replace('"CASES"', f"[\n{lines}\n ]"))


def _yaml(name: str, keys: dict, metric_list: list[dict]) -> str:
    import yaml

    whole = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        **keys,
        "metric_list": metric_list,
    }
    return re.sub(r"'(!function [\w.]+)'", r"\1", yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))


def _scored(text: str, rows: list[dict], said: list, folder: str) -> dict:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator_utils import _compute_task_aggregations
    from lm_eval.tasks._yaml_loader import load_yaml

    name = text.split("task: ")[1].split("\n")[0]
    file = Path(folder) / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    data = Path(folder) / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = load_yaml(file, resolve_func=True)
    config["dataset_kwargs"] = {"data_files": {"test": str(data)}}
    task = ConfigurableTask(config=config)
    values = defaultdict(list)
    for row, answer in zip(task.eval_docs, _filtered(task, said), strict=True):
        results = answer if task.OUTPUT_TYPE == "multiple_choice" else [answer]
        for metric, value in task.process_results(
            row, [tuple(r) if isinstance(r, list) and task.OUTPUT_TYPE != "generate_until" else r for r in results]
        ).items():
            values[metric, "none"].append(value)
    found, _ = _compute_task_aggregations(task, values, bootstrap_iters=200)
    metrics = {key.partition(",")[0]: float(value) for key, value in found.items() if "_stderr" not in key}
    errors = {
        key.partition("_stderr")[0]: float(value) for key, value in found.items() if "_stderr" in key and value != "N/A"
    }
    return {"metrics": metrics, "stderrs": errors, "bootstrap_iters": 200}


def _filtered(task, said: list) -> list:
    """What the task's only pipeline leaves of texts."""
    if task.OUTPUT_TYPE != "generate_until":
        return said
    from lm_eval.api.instance import Instance

    instances = [
        Instance(request_type="generate_until", doc=row, arguments=("", {}), idx=0, resps=[text])
        for row, text in zip(task.eval_docs, said, strict=True)
    ]
    (pipeline,) = task._filters
    pipeline.apply(instances)
    return [instance.filtered_resps["none"] for instance in instances]


if __name__ == "__main__":
    main()
