"""A small task of each kind, written to a folder as task file and data, and models that answer them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fake_runtime import FakeRuntime

from lmtasks.data.tokenizer import Tokenizer, train_byte_bpe
from lmtasks.engine.engine import Engine
from lmtasks.evaluation.engine_solver import EngineSolver
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.evaluation.protocols import AskedWay, Solver
from lmtasks.records import HeadSpec, Row
from lmtasks.settings.data import DataAccess
from lmtasks.task.load import load_task
from lmtasks.task.task import Task

TEXT = "the cat sat on a mat and the dog saw it near old mill where birds sing every day in May"
WORDS = TEXT.split()

REVIEWS: Mapping[str, Sequence[Row]] = {
    "train": [{"text": f"{word} is {mood}", "label": mood} for word in WORDS for mood in ("bad", "good", "good")],
    "test": [{"text": f"{word} was {mood}", "label": mood} for word in WORDS[:10] for mood in ("bad", "good")],
}
QUESTIONS: Sequence[Row] = [
    {
        "question": f"Where is the {word}?",
        "context": f"In May the {word} sat near the old mill. " + " ".join(WORDS),
        "answers": {"text": ["near the old mill"] if word != "dog" else [], "answer_start": [16]},
    }
    for word in ("cat", "dog", "bird", "mat")
]
SENTENCES: Sequence[Row] = [
    {"en": f"The {word} is here. It sat. Why? Nobody knows.", "zh": f"{word}在这里。"} for word in WORDS[:6]
]
CHOICES: Sequence[Row] = [
    {"q": f"What did the {word} do", "options": ["sat", "ran off fast", "sang"], "right": number % 3}
    for number, word in enumerate(WORDS[:8])
]
TEXTS: Sequence[Row] = [{"text": " ".join(WORDS[:length]), "cut": length // 2} for length in (1, 3, 9, 19)]
TAGGED: Sequence[Row] = [{"tokens": ["the", "cat"], "tags": ["O", "B"]}, {"tokens": ["it"], "tags": ["O"]}]
BLANKS: Sequence[Row] = [
    {"s": f"The {word} saw _ near", "a": "it", "b": "the mat", "n": number % 2} for number, word in enumerate(WORDS[:4])
]

LISTS: Sequence[Row] = [
    {
        "said": f"the {word} sat on a mat",
        "heard": [
            {"text": text, "acoustic": -20.0 + 3 * place - number, "language": -9.0 + 2 * place}
            for place, text in enumerate((f"{word} hat on a mat", f"the {word} sat on a mat", "the", ""))
            if place < 2 + number % 3
        ],
    }
    for number, word in enumerate(WORDS[:8])
]

TASKS: Mapping[str, tuple[Mapping[str, Sequence[Row]], str]] = {
    "classification": (
        REVIEWS,
        "kind: classification\nlabels: [bad, good]\ninputs: {text: text, label: label}\n"
        'doc_to_text: "{{text}}\\nMood:"\nmetrics: [acc, macro_f1, mcc]',
    ),
    "span": (
        {"test": QUESTIONS},
        "kind: span\ninputs: {question: question, context: context, answers: answers}\nno_answer: none\n"
        'doc_to_text: "{{context}}\\n{{question}}"\ngeneration_kwargs: {max_gen_toks: 6, until: ["\\n"]}',
    ),
    "translation": (
        {"test": SENTENCES},
        'kind: translation\nlanguage: zh\ndoc_to_text: "{{en}}\\n中文："\ndoc_to_target: zh\n'
        "inputs: {source: en}\nmetrics: [bleu_zh, chrf]\ngeneration_kwargs: {max_gen_toks: 6, num_beams: 2}",
    ),
    "summarization": (
        {"test": SENTENCES},
        'kind: summarization\ndoc_to_text: "{{en}} TLDR:"\ndoc_to_target: "{{en}}"\ninputs: {source: en}\n'
        "generation_kwargs: {max_gen_toks: 5}",
    ),
    "generation": (
        {"test": SENTENCES},
        'kind: generation\ndoc_to_text: en\ndoc_to_target: "A cat."\nmetrics: [exact_match, distinct_1]\n'
        "generation_kwargs: {max_gen_toks: 4, temperature: 0.8, do_sample: true}",
    ),
    "multiple_choice": (
        {"train": CHOICES[:5], "test": CHOICES},
        'output_type: multiple_choice\ndoc_to_text: "{{q}}?"\ndoc_to_choice: options\ndoc_to_target: right\n'
        "metric_list: [{metric: acc}, {metric: acc_norm}]",
    ),
    "blanks": (
        {"test": BLANKS},
        'output_type: multiple_choice\ndoc_to_text: "{{n}}"\ndoc_to_target: "the mill"\n'
        "doc_to_choice: \"{{[s.replace('_', a), s.replace('_', b)]}}\"",
    ),
    "language_modelling": (
        {"test": TEXTS},
        "kind: language_modelling\ninputs: {text: text}\nmetrics: [token_perplexity, word_perplexity, bits_per_byte]",
    ),
    "last_words": (
        {"test": TEXTS[2:]},
        "output_type: loglikelihood\ndoc_to_text: \"{{text.split(' ')[:cut] | join(' ')}}\"\n"
        "doc_to_target: \"{{' ' + text.split(' ')[cut:] | join(' ')}}\"",
    ),
    "rescoring": (
        {"validation": LISTS[:5], "test": LISTS},
        "kind: rescoring\ninputs: {hypotheses: heard, references: said}\nmetrics: [wer, cer]",
    ),
    "minimal_pairs": (
        {"test": [{"first": f"the {word} sat", "second": f"a {word} sat"} for word in WORDS[:6]]},
        "kind: minimal_pairs\ninputs: {first: first, second: second}",
    ),
    "tagging": (
        {"test": TAGGED},
        "kind: tagging\nlabels: [O, B]\ninputs: {tokens: tokens, tags: tags}\nmetrics: [exact_match]\n"
        "doc_to_text: \"{{tokens | join(' ')}}\"\ndoc_to_target: \"{{tags | join(' ')}}\"\n"
        "generation_kwargs: {max_gen_toks: 3}",
    ),
}


def small_task(folder: Path, name: str, *, more: str = "") -> Task:
    """One of the tasks above."""
    files, lines = TASKS[name]
    for split, rows in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}-{split}.jsonl").write_text(text, encoding="utf-8")
    listed = ", ".join(f"{split}: {name}-{split}.jsonl" for split in files)
    splits = "".join(f"{split}{'ing' if split == 'train' else ''}_split: {split}\n" for split in files)
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{{listed}}}}}\n{splits}{lines}\n{more}\n",
        encoding="utf-8",
    )
    return load_task(folder / f"{name}.yaml")


@cache
def tokenizer() -> Tokenizer:
    """Byte-level BPE of a few words."""
    return train_byte_bpe([" ".join(WORDS)] * 3, vocabulary=330)


def model(*heads: HeadSpec, kind: str = "causal", max_length: int = 64, rows: int | None = None) -> EngineSolver:
    """A solver over the fake runtime."""
    runtime = FakeRuntime(
        vocabulary=tokenizer().vocabulary, kind=kind, heads=heads, max_length=max_length, start=tokenizer().pad
    )
    return EngineSolver(Engine(runtime, tokenizer(), rows_per_batch=rows))


def scored(
    solver: Solver,
    task: Task,
    *,
    way: AskedWay = "auto",
    limit: int | None = None,
    shots: int | None = None,
) -> TaskResult:
    """The result of one task, without network."""
    options = EvalOptions(data=DataAccess(offline=True), way=way, limit=limit, num_fewshot=shots, resamples=50)
    (result,) = evaluate(solver=solver, tasks=[task], options=options)
    return result


def without_prompt(task: Task) -> Task:
    """The task without a question to prompt with."""
    asked = replace(task.templates.asked, question=None)
    return replace(task, templates=replace(task.templates, asked=asked))
