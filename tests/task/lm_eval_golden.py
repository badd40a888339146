"""Makes `lm_eval_0_4_13_golden.json` with lm-evaluation-harness itself. Run it where lm-eval 0.4.13 is installed:

python tests/task/lm_eval_golden.py MIRROR > tests/task/lm_eval_0_4_13_golden.json

MIRROR is a local mirror of the Hub (LMTASKS_DATA_ROOT); of its rows only counts and hashes are kept. No test imports
this file: the environment of the tests has no lm-eval.
"""

import hashlib
import json
import sys
from pathlib import Path

MADE_CASES = {
    "columns": {
        "output_type": "multiple_choice",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "Q: {{q}}\nA:",
        "doc_to_target": "label",
        "doc_to_choice": ["no", "yes", "perhaps"],
        "description": "Answer {{kind}} questions.\n\n",
    },
    "scored_split_unnamed": {
        "output_type": "multiple_choice",
        "validation_split": "twins",
        "doc_to_text": "q",
        "doc_to_target": "{{label}}",
        "doc_to_choice": "{{['no', 'yes', 'perhaps']}}",
        "target_delimiter": "\n",
        "description": "Judge.",
    },
    "scored_split_named": {
        "output_type": "generate_until",
        "validation_split": "twins",
        "fewshot_split": "twins",
        "doc_to_text": "q",
        "doc_to_target": "{{label}}",
    },
    "first_n": {
        "output_type": "multiple_choice",
        "validation_split": "twins",
        "doc_to_text": "q",
        "doc_to_target": "label",
        "doc_to_choice": ["no", "yes", "perhaps"],
        "fewshot_config": {"sampler": "first_n"},
    },
    "given_beginning": {
        "output_type": "generate_until",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{names}}",
        "gen_prefix": "So {{kind}}:",
        "description": "Go on.",
    },
    "given_beginning_of_choices": {
        "output_type": "multiple_choice",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": "label",
        "doc_to_choice": ["no", "yes", "perhaps"],
        "gen_prefix": "It is",
    },
    "given_beginning_with_blank": {
        "output_type": "multiple_choice",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "{{q}} ",
        "doc_to_target": "label",
        "doc_to_choice": ["no", "yes", "perhaps"],
        "gen_prefix": "It is ",
    },
    "choices_in_context": {
        "output_type": "multiple_choice",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "{{label}}",
        "doc_to_choice": "{{[q ~ ' no', q ~ ' yes', q ~ ' or']}}",
        "doc_to_target": "and so on",
    },
    "continuation": {
        "output_type": "loglikelihood",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{' ' ~ kind}}",
        "description": " Read.\n",
    },
    "other_wording_of_examples": {
        "output_type": "generate_until",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{kind}}",
        "fewshot_config": {
            "doc_to_text": "Example: {{q}}",
            "doc_to_target": "{{names}}",
            "gen_prefix": "Well:",
            "target_delimiter": "->",
            "fewshot_delimiter": "###",
        },
    },
    "own_examples": {
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "q",
        "doc_to_target": "label",
        "doc_to_choice": ["no", "yes", "perhaps"],
        "fewshot_config": {
            "samples": [{"q": f"own {number}?", "label": number, "kind": "own", "names": ["x"]} for number in range(3)]
        },
    },
}
"""Task files without names and data sets; the rows are `rows()`."""

SYSTEMS = (None, "You are careful.")
SHOTS = (0, 2)
SEED = 1234

FILTER_CASES = [
    {"steps": [{"function": "regex"}], "answers": [["so #### 1,234.", "none"], ["#### -5 #### 6"]]},
    {
        "steps": [{"function": "regex", "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)", "group_select": -1}],
        "answers": [["It is $12.50, or 7", "no number"], ["3"]],
    },
    {
        "steps": [{"function": "regex", "regex_pattern": "is ?(a)?(b)?", "fallback": "?"}],
        "answers": [["it is a", "it is b", "it is", "nothing"]],
    },
    {
        "steps": [{"function": "regex_pos"}],
        "answers": [["[('The', 'DET'), ('cat', 'NOUN')]", "no tags"]],
    },
    {"steps": [{"function": "remove_whitespace"}], "answers": [["  a b\n", "\t"], ["c"]]},
    {"steps": [{"function": "lowercase"}], "answers": [["ÄB c"]]},
    {"steps": [{"function": "uppercase"}], "answers": [["äb ß"]]},
    {
        "steps": [{"function": "map", "mapping_dict": {"A": "x", "B": "y"}, "default_value": "z"}],
        "answers": [["A", "C", "B"]],
    },
    {
        "steps": [{"function": "format_span"}],
        "answers": [["Persons: Ada, Bo $$ country: None", "LOC: Kenya\ntime: May $$", "no entities here"]],
    },
    {"steps": [{"function": "take_first"}], "answers": [["a", "b"], ["c", "d"]]},
    {"steps": [{"function": "take_first_k", "k": 2}], "answers": [["a", "b", "c"], ["d", "e", "f"]]},
    {"steps": [{"function": "majority_vote"}], "answers": [["a", "b", "b"], ["c", "d", "e"], ["y", "x", "x", "y"]]},
    {
        "steps": [
            {"function": "take_first_k", "k": 3},
            {"function": "regex", "regex_pattern": "answer is ([0-9]+)"},
            {"function": "majority_vote"},
            {"function": "take_first"},
        ],
        "answers": [["answer is 4", "answer is 5", "answer is 5", "answer is 4"], ["?", "??", "answer is 1", "1"]],
    },
    {
        "steps": [
            {
                "function": "multi_choice_regex",
                "regex_pattern": "(\\([A-Z]\\))",
                "ignore_case": True,
                "ignore_punctuation": True,
                "regexes_to_ignore": ["the "],
            },
            {"function": "take_first"},
        ],
        "answers": [
            ["I say (B)."],
            ["Clearly the Guilty of Romance!"],
            ["guilty"],
            ["The choice: C"],
            ["nothing"],
        ],
        "rows": [{"choices": ["Guilty", "Guilty of Romance", "The end."]}] * 5,
    },
    {
        "steps": [{"function": "multi_choice_regex", "group_select": -1}],
        "answers": [["iron or milk", ": A or : B", "Milk"]],
        "rows": [{"choices": ["iron", "milk"]}],
    },
]

REAL = {
    "arc_easy": ("allenai/ai2_arc/ARC-Easy", "arc/arc_easy.yaml", (0, 3)),
    "arc_challenge": ("allenai/ai2_arc/ARC-Challenge", "arc/arc_challenge.yaml", (0, 3)),
    "openbookqa": ("allenai/openbookqa/main", "openbookqa/openbookqa.yaml", (0, 3)),
    "piqa": ("baber/piqa", "piqa/piqa.yaml", (0,)),
    "winogrande": ("allenai/winogrande/winogrande_xl", "winogrande/default.yaml", (0,)),
    "lambada_openai": ("EleutherAI/lambada_openai/default", "lambada/lambada_openai.yaml", (0, 2)),
    "wikitext": ("EleutherAI/wikitext_document_level/wikitext-2-v1", "wikitext/wikitext.yaml", (0,)),
}
"""Task to folder in the mirror, file within lm_eval/tasks, and numbers of worked examples. The mirror lacks sciq, and
has wikitext-2-v1 in place of wikitext-2-raw-v1."""


def rows(split):
    """Made-up rows. `twins` holds rows that are equal, so that a drawn example may be the asked row."""
    labels = ("no", "yes", "perhaps")
    made = [
        {
            "q": f"{split} question {number}?",
            "label": number % 3,
            "kind": labels[number % 3],
            "names": [f"n{number}", "m"],
        }
        for number in range(12)
    ]
    return made if split != "twins" else [*made[:4], *made[:3], made[0]]


def template(messages, add_generation_prompt=True):
    """A chat template that shows everything."""
    text = "".join(f"<{message['role']}>{message['content']}</>" for message in messages)
    return text + "<answer>" if add_generation_prompt else text + "<open>"


def digest(requests):
    """sha256 over the requests of all rows."""
    return hashlib.sha256(json.dumps(requests, ensure_ascii=False).encode()).hexdigest()


def made_by(config, dataset):
    """The task, over rows that are handed in."""
    from lm_eval.api.task import ConfigurableTask

    task = ConfigurableTask(config={**config, "custom_dataset": lambda **given: dataset})
    task.set_fewshot_seed(SEED)
    return task


def requests_of(task, *, shots, system=None, chat=None):
    """What a model is asked, row by row: texts alone."""
    asked = []
    for _, doc in task.doc_iterator():
        context = task.fewshot_context(
            doc,
            num_fewshot=shots,
            system_instruction=system,
            apply_chat_template=chat is not None,
            fewshot_as_multiturn=chat == "multi",
            chat_template=template if chat else None,
            gen_prefix=task.doc_to_prefix(doc),
        )
        found = task.construct_requests(
            doc=doc, ctx=context, metadata=(task.config.task, 0, 1), apply_chat_template=chat is not None
        )
        found = found if isinstance(found, list) else [found]
        asked.append([[text for text in each.args if isinstance(text, str)] for each in found])
    return asked


def made_up():
    from datasets import Dataset

    dataset = {split: Dataset.from_list(rows(split)) for split in ("train", "test", "twins")}
    cases = []
    for name, config in MADE_CASES.items():
        for shots in SHOTS:
            for system in SYSTEMS:
                for chat in (None, "one", "multi"):
                    task = made_by({"task": name, **config}, dataset)
                    asked = requests_of(task, shots=shots, system=system, chat=chat)[:4]
                    cases.append({"task": name, "shots": shots, "system": system, "chat": chat, "requests": asked})
    return cases


def filtered():
    from lm_eval.api.instance import Instance
    from lm_eval.filters import build_filter_ensemble

    cases = []
    for case in FILTER_CASES:
        given = case.get("rows") or [{}] * len(case["answers"])
        steps = [[step["function"], {k: v for k, v in step.items() if k != "function"}] for step in case["steps"]]
        instances = [
            Instance(request_type="generate_until", doc=row, arguments=("",), idx=0, resps=list(answers))
            for row, answers in zip(given, case["answers"], strict=True)
        ]
        build_filter_ensemble("made", steps).apply(instances)
        handed = [instance.filtered_resps["made"] for instance in instances]
        cases.append({**case, "rows": given, "handed": handed})
    return cases


def real(mirror):
    import lm_eval.tasks
    from datasets import Dataset
    from lm_eval.tasks._yaml_loader import load_yaml

    found = {}
    for name, (folder, file, shots) in REAL.items():
        config = load_yaml(Path(lm_eval.tasks.__file__).parent / file, resolve_func=True)
        for key in ("tag", "group"):
            config.pop(key, None)
        if name == "wikitext":
            # The text as it is: the tests bring no copy of the harness' detokenizer.
            config |= {"doc_to_target": "page", "process_results": None}
        dataset = {
            split.stem: Dataset.from_parquet(str(split), keep_in_memory=True)
            for split in sorted((mirror / folder).glob("*.parquet"))
        }
        for split in ("training_split", "validation_split"):
            # A split that the mirror lacks; it is looked at for worked examples only.
            dataset.setdefault(config.get(split), next(iter(dataset.values())))
        for count in shots:
            asked = requests_of(made_by(config, dataset), shots=count)
            found[f"{name}, {count} shots"] = {"rows": len(asked), "sha256": digest(asked)}
    return found


def main():
    import importlib.metadata

    print(
        json.dumps(
            {
                "made_by": f"lm-eval {importlib.metadata.version('lm-eval')}, tests/task/lm_eval_golden.py",
                "rows": {split: rows(split) for split in ("train", "test", "twins")},
                "files": MADE_CASES,
                "prompts": made_up(),
                "filters": filtered(),
                "real": real(Path(sys.argv[1])),
            },
            ensure_ascii=False,
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
