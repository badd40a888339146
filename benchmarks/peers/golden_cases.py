"""What golden files hold: small tasks over the project's own rows, each for the rules that it exercises.

A case's YAML is in the schema that both harnesses read; FOLDER in it stands for the folder that it is written to.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golden_rows import REFERENCES, SENTENCES, YES_NO
from sides import ROOT, Chat

STARTER = ROOT / "tasks" / "starter"
EVERY = ("tiny-llama", "tiny-gpt2", "tiny-t5", "lmtasks-mini")
CAUSAL = ("tiny-llama", "tiny-gpt2", "lmtasks-mini")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task under one setting."""

    name: str
    about: str
    """The rules that it holds."""
    file: str
    """The golden file that it goes to."""
    yaml: str
    """Without `task`, `dataset_path` and `dataset_kwargs`."""
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    """By split."""
    checkpoints: tuple[str, ...] = EVERY
    num_fewshot: int | None = None
    limit: int | None = None
    chat: Chat = "no"
    system: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Code that lies beside the task file."""


def starter(folder: str, split: str, count: int) -> list[dict[str, Any]]:
    """The first rows of a split of the embedded suite."""
    with (STARTER / folder / f"{split}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(next(lines)) for _ in range(count)]


TOPICS = {"test": starter("topic_en", "test", 10), "train": starter("topic_en", "train", 12)}
TOPICS_ZH = {"test": starter("topic_zh", "test", 8), "train": starter("topic_zh", "train", 8)}
FEELINGS = {"test": starter("sentiment_en", "test", 14), "train": starter("sentiment_en", "train", 8)}
PAIRS = {"test": starter("translation_en_zh", "test", 8), "train": starter("translation_en_zh", "train", 8)}
PARAGRAPHS = {"test": starter("paragraphs_en", "test", 3) + starter("paragraphs_zh", "test", 2)}
SHORT = {"test": [{"text": row["text"][:90]} for row in PARAGRAPHS["test"]] + [{"text": " a  b\n"}]}
QUESTIONS = {
    "test": [
        {"passage": row["context"], "question": row["question"], "choices": ["yes", "no", "it does not say"], "gold": 2}
        for row in starter("qa_en", "test", 5)
    ]
}

TOPIC = """
output_type: multiple_choice
test_split: test
training_split: train
doc_to_text: "{{text}}\\nQuestion: What is this about?\\nAnswer:"
doc_to_choice: [business, culture, science, sports]
doc_to_target: "{{['business', 'culture', 'science', 'sports'].index(label)}}"
"""
MEASURES = "metric_list: [" + ", ".join(f"{{metric: {name}}}" for name in ("acc", "acc_norm", "acc_bytes")) + "]\n"
ALL_MEASURES = (
    "metric_list: ["
    + ", ".join(
        f"{{metric: {name}}}"
        for name in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "brier_score", "mcc")
    )
    + "]\n"
)
FEELING = """
output_type: multiple_choice
test_split: test
training_split: train
doc_to_text: "{{text}}\\nPositive?"
doc_to_choice: ["no", "yes"]
doc_to_target: "{{1 if label == 'positive' else 0}}"
metric_list: [{metric: acc}, {metric: f1}, {metric: mcc}]
"""
BLANKS = """
output_type: multiple_choice
validation_split: test
doc_to_text: "{{answer}}"
doc_to_choice: "{{[sentence.split('_')[0] ~ one, sentence.split('_')[0] ~ two]}}"
doc_to_target: "{{sentence.split('_')[1].strip()}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
TRANSLATE = """
output_type: generate_until
test_split: test
training_split: train
doc_to_text: "{{en}} ="
doc_to_target: "{{zh}}"
generation_kwargs: {until: ["\\n", "。"], max_gen_toks: 16}
metric_list: [{metric: bleu}, {metric: chrf}, {metric: chrf++}, {metric: ter}]
"""
ANSWER = """
output_type: generate_until
test_split: test
training_split: train
doc_to_text: "{{text}}\\nTopic:"
doc_to_target: "{{label}}"
generation_kwargs: {until: ["\\n\\n", "x"], max_gen_toks: 14}
"""
FILTERS = (
    ANSWER
    + """
repeats: 2
metric_list:
  - {metric: exact_match, ignore_case: true, ignore_punctuation: true, ignore_numbers: true, regexes_to_ignore: ["s$"]}
filter_list:
  - {name: word, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
  - {name: last, filter: [{function: regex, regex_pattern: "(\\\\w+)", group_select: -1, fallback: none},
      {function: take_first}]}
  - {name: groups, filter: [{function: regex, regex_pattern: "(qq)|([b-d])"}, {function: map,
      mapping_dict: {b: business, c: culture}, default_value: other}, {function: take_first}]}
  - {name: voted, filter: [{function: lowercase}, {function: remove_whitespace}, {function: take_first_k, k: 2},
      {function: majority_vote}, {function: take_first}]}
  - {name: loud, filter: [{function: uppercase}, {function: take_first}]}
"""
)
PASSAGE = """
output_type: multiple_choice
test_split: test
doc_to_text: "{{passage}}\\nQuestion: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
"""
LAST_WORD = """
output_type: loglikelihood
test_split: test
doc_to_text: "{{text.split(' ')[:-1] | join(' ')}}"
doc_to_target: "{{' ' ~ text.split(' ')[-1]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
"""
ROLLING = """
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{text}}"
"""
HOOKS = """
import re


def longer(rows):
    return rows.filter(lambda row: len(row["text"]) > 110)


def shorter(rows):
    return rows.filter(lambda row: len(row["text"]) <= 130)


def results(row, answers):
    (text,) = answers
    words = re.findall(r"\\w+", text)
    return {"words": len(words), "shared": float(any(word in row["text"] for word in words))}


def biggest(values):
    return max(values)
"""
HOOKED = (
    ANSWER
    + """
process_docs: !function hooks.longer
process_results: !function hooks.results
metric_list:
  - {metric: shared, aggregation: mean, higher_is_better: true}
  - {metric: words, aggregation: !function hooks.biggest, higher_is_better: true}
"""
)

CASES: tuple[Case, ...] = (
    Case(name="topics", about="every metric of choices, acc_mutual_info included", file="choices", rows=TOPICS,
         yaml=TOPIC + ALL_MEASURES),
    Case(name="topics-3-shots", about="shots drawn from train, in the order of documents", file="choices",
         rows=TOPICS, yaml=TOPIC, num_fewshot=3),
    Case(name="topics-10-shots", about="prompts longer than a tiny model takes", file="choices", rows=TOPICS,
         yaml=TOPIC + MEASURES, num_fewshot=10, limit=4, checkpoints=("tiny-gpt2", "tiny-llama", "tiny-t5")),
    Case(name="topics-first-shots", about="the first rows of the scored split as shots, but for the document itself",
         file="choices", rows={"test": TOPICS["test"]}, num_fewshot=2, limit=6,
         yaml=TOPIC.replace("training_split: train\n", "") + MEASURES + "fewshot_config: {sampler: first_n}\n"),
    Case(name="topics-own-shots", about="shots drawn from the scored split, but for the document itself",
         file="choices", rows={"test": TOPICS["test"]}, num_fewshot=2, checkpoints=CAUSAL,
         yaml=TOPIC.replace("training_split: train\n", "") + MEASURES),
    Case(name="topics-given-shots", about="shots in the file, a description, other delimiters", file="choices",
         rows=TOPICS, num_fewshot=2, limit=5,
         yaml=TOPIC + MEASURES + 'description: "Say what each text is about.\\n\\n"\nfewshot_delimiter: "\\n---\\n"\n'
         'target_delimiter: "\\n"\nfewshot_config: {sampler: first_n, samples: [{text: Rain stopped play., '
         "label: sports}, {text: Shares fell., label: business}]}\n"),
    Case(name="topics-zh", about="no delimiter between a question and choices in Chinese: tokens that merge over it",
         file="choices", rows=TOPICS_ZH, num_fewshot=2, limit=6,
         yaml=TOPIC.replace("\\nQuestion: What is this about?\\nAnswer:", "\\n这是").replace(
             "[business, culture, science, sports]", "[商业, 文化, 科学, 体育]") + MEASURES + 'target_delimiter: ""\n'),
    Case(name="no-context", about="an empty context: the first token stands for it", file="choices",
         rows={"test": TOPICS["test"][:5]}, checkpoints=EVERY,
         yaml="output_type: multiple_choice\ntest_split: test\ndoc_to_text: \"\"\ndoc_to_choice: "
         "\"{{[text[:30], text[30:60]]}}\"\ndoc_to_target: 0\n" + MEASURES + 'target_delimiter: ""\n'),
    Case(name="white-space", about="white space at the end of a context, line breaks included, moves to the choice",
         file="choices", rows={"test": TOPICS["test"][:5]},
         yaml=TOPIC.replace("Answer:", "Answer: \\n").replace("training_split: train\n", "") + MEASURES),
    Case(name="feelings-4-shots", about="f1 and mcc, with their bootstrap", file="choices", rows=FEELINGS,
         yaml=FEELING, num_fewshot=4),
    Case(name="feelings", about="f1 and mcc where a class may be missing", file="choices", rows=FEELINGS, yaml=FEELING),
    Case(name="several-right", about="a list of right choices", file="choices", rows={"test": YES_NO},
         yaml="output_type: multiple_choice\ntest_split: test\ndoc_to_text: \"{{question}}\"\ndoc_to_choice: "
         "[\"yes\", \"no\", maybe]\ndoc_to_target: right\nmetric_list: [{metric: acc}, {metric: acc_norm}, "
         "{metric: exact_match}]\n"),
    Case(name="right-by-name", about="the right choice given as its text", file="choices", rows={"test": YES_NO},
         yaml="output_type: multiple_choice\ntest_split: test\ndoc_to_text: \"{{question}}\"\ndoc_to_choice: "
         "[\"yes\", \"no\", maybe]\ndoc_to_target: \"{{name}}\"\n"),
    Case(name="blanks", about="choices in the context, one text behind each", file="choices",
         rows={"test": SENTENCES}, yaml=BLANKS),
    Case(name="blanks-2-shots", about="the same with shots of the scored split", file="choices",
         rows={"test": SENTENCES}, yaml=BLANKS, num_fewshot=2),
    Case(name="passages", about="long passages before choices", file="choices", rows=QUESTIONS, yaml=PASSAGE,
         checkpoints=("tiny-gpt2", "tiny-t5", "lmtasks-mini")),
    Case(name="last-word", about="log-likelihood of a target that brings its own space", file="likelihoods",
         rows={"test": starter("paragraphs_en", "test", 8)}, yaml=LAST_WORD),
    Case(name="rolling", about="windows over texts longer than the model takes; default metrics", file="likelihoods",
         rows=PARAGRAPHS, yaml=ROLLING),
    Case(name="rolling-short", about="one window; white space around a text", file="likelihoods", rows=SHORT,
         yaml=ROLLING),
    Case(name="answers", about="generation as it is without filters: stop strings, exact_match", file="texts",
         rows=TOPICS, yaml=ANSWER, limit=6),
    Case(name="filters", about="several pipelines of filters over repeated answers", file="texts", rows=TOPICS,
         yaml=FILTERS, num_fewshot=2, limit=6),
    Case(name="long-prompts", about="prompts cut on the left to leave room for the answer", file="texts",
         rows=TOPICS, yaml=ANSWER, num_fewshot=10, limit=4, checkpoints=("tiny-gpt2", "tiny-llama", "tiny-t5")),
    Case(name="default-end", about="no stop string given: the delimiter of shots stops", file="texts", rows=TOPICS,
         yaml=ANSWER.replace('until: ["\\n\\n", "x"], ', ""), num_fewshot=1, limit=4, checkpoints=CAUSAL),
    Case(name="references", about="several right texts", file="texts", rows={"test": REFERENCES},
         yaml="output_type: generate_until\ntest_split: test\ndoc_to_text: \"{{question}}\"\ndoc_to_target: "
         "right\ngeneration_kwargs: {until: [\" \"], max_gen_toks: 6}\nmetric_list: [{metric: exact_match}]\n"
         "filter_list: [{name: none, filter: [{function: remove_whitespace}, {function: take_first}]}]\n"),
    Case(name="translation", about="bleu, chrf, chrf++ and ter, with their bootstrap", file="texts", rows=PAIRS,
         yaml=TRANSLATE + 'target_delimiter: ""\n', num_fewshot=3),
    Case(name="translation-en", about="the same into English", file="texts", rows=PAIRS,
         yaml=TRANSLATE.replace("{{en}}", "{{z}}").replace("{{zh}}", "{{en}}").replace("{{z}}", "{{zh}}"),
         num_fewshot=2),
    Case(name="hooks", about="process_docs and process_results, an aggregation of the task's own", file="texts",
         rows=TOPICS, yaml=HOOKED, files={"hooks.py": HOOKS}, num_fewshot=1),
    Case(name="shot-hooks", about="process_docs of the shots alone", file="choices", rows=TOPICS, num_fewshot=2,
         limit=4, checkpoints=CAUSAL, files={"hooks.py": HOOKS},
         yaml=TOPIC + MEASURES + "fewshot_config: {sampler: first_n, split: train, "
         "process_docs: !function hooks.shorter}\n"),
    Case(name="chat", about="a chat template, shots as turns, a system instruction and a description", file="chats",
         rows=TOPICS, yaml=TOPIC + MEASURES + 'description: "Say what it is about."\n', num_fewshot=2, limit=4,
         chat="multiturn", system="You are brief.", checkpoints=("tiny-llama",)),
    Case(name="chat-in-one", about="a chat template, everything in one turn", file="chats", rows=TOPICS, yaml=TOPIC,
         num_fewshot=2, limit=4, chat="single", checkpoints=("tiny-llama",)),
    Case(name="chat-begun", about="a chat template, the start of the answer given", file="chats", rows=TOPICS,
         yaml=ANSWER + 'gen_prefix: "It is about"\n', num_fewshot=1, limit=4, chat="multiturn",
         checkpoints=("tiny-llama",)),
    Case(name="chat-begun-choices", about="choices behind the start of an answer in a chat", file="chats", rows=TOPICS,
         yaml=TOPIC + MEASURES + 'gen_prefix: "It is about"\n', num_fewshot=1, limit=4, chat="multiturn",
         checkpoints=("tiny-llama",)),
    Case(name="begun", about="the start of the answer given, no chat", file="chats", rows=TOPICS,
         yaml=ANSWER + 'gen_prefix: "It is about"\n', num_fewshot=2, limit=4, checkpoints=("tiny-llama", "tiny-t5")),
    Case(name="system", about="a system instruction without a chat template", file="chats", rows=TOPICS,
         yaml=TOPIC + MEASURES + 'description: "Say what it is about.\\n"\n', num_fewshot=1, limit=4,
         system="You are brief.", checkpoints=("tiny-llama", "tiny-gpt2")),
)
