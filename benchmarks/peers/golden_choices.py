"""Golden cases of choices."""

from golden_base import CAUSAL, EVERY, FEELINGS, HOOKS, MEASURES, QUESTIONS, TOPIC, TOPICS, TOPICS_ZH, Case
from golden_rows import SENTENCES, YES_NO

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
PASSAGE = """
output_type: multiple_choice
test_split: test
doc_to_text: "{{passage}}\\nQuestion: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
"""

CHOICES: tuple[Case, ...] = (
    Case(
        name="topics",
        about="every metric of choices, acc_mutual_info included",
        file="choices",
        rows=TOPICS,
        yaml=TOPIC + ALL_MEASURES,
    ),
    Case(
        name="topics-3-shots",
        about="shots drawn from train, in the order of documents",
        file="choices",
        rows=TOPICS,
        yaml=TOPIC,
        num_fewshot=3,
    ),
    Case(
        name="topics-10-shots",
        about="prompts longer than a tiny model takes",
        file="choices",
        rows=TOPICS,
        yaml=TOPIC + MEASURES,
        num_fewshot=10,
        limit=4,
        checkpoints=("tiny-gpt2", "tiny-llama", "tiny-t5"),
    ),
    Case(
        name="topics-first-shots",
        about="the first rows of the scored split as shots, but for the document itself",
        file="choices",
        rows={"test": TOPICS["test"]},
        num_fewshot=2,
        limit=6,
        yaml=TOPIC.replace("training_split: train\n", "") + MEASURES + "fewshot_config: {sampler: first_n}\n",
    ),
    Case(
        name="topics-own-shots",
        about="shots drawn from the scored split, but for the document itself",
        file="choices",
        rows={"test": TOPICS["test"]},
        num_fewshot=2,
        checkpoints=CAUSAL,
        yaml=TOPIC.replace("training_split: train\n", "") + MEASURES,
    ),
    Case(
        name="topics-given-shots",
        about="shots in the file, a description, other delimiters",
        file="choices",
        rows=TOPICS,
        num_fewshot=2,
        limit=5,
        yaml=TOPIC + MEASURES + 'description: "Say what each text is about.\\n\\n"\nfewshot_delimiter: "\\n---\\n"\n'
        'target_delimiter: "\\n"\nfewshot_config: {sampler: first_n, samples: [{text: Rain stopped play., '
        "label: sports}, {text: Shares fell., label: business}]}\n",
    ),
    Case(
        name="topics-zh",
        about="no delimiter between a question and choices in Chinese: tokens that merge over it",
        file="choices",
        rows=TOPICS_ZH,
        num_fewshot=2,
        limit=6,
        yaml=TOPIC.replace("\\nQuestion: What is this about?\\nAnswer:", "\\n这是").replace(
            "[business, culture, science, sports]", "[商业, 文化, 科学, 体育]"
        )
        + MEASURES
        + 'target_delimiter: ""\n',
    ),
    Case(
        name="no-context",
        about="an empty context: the first token stands for it",
        file="choices",
        rows={"test": TOPICS["test"][:5]},
        checkpoints=EVERY,
        yaml='output_type: multiple_choice\ntest_split: test\ndoc_to_text: ""\ndoc_to_choice: '
        '"{{[text[:30], text[30:60]]}}"\ndoc_to_target: 0\n' + MEASURES + 'target_delimiter: ""\n',
    ),
    Case(
        name="white-space",
        about="white space at the end of a context, line breaks included, moves to the choice",
        file="choices",
        rows={"test": TOPICS["test"][:5]},
        yaml=TOPIC.replace("Answer:", "Answer: \\n").replace("training_split: train\n", "") + MEASURES,
    ),
    Case(
        name="feelings-4-shots",
        about="f1 and mcc, with their bootstrap",
        file="choices",
        rows=FEELINGS,
        yaml=FEELING,
        num_fewshot=4,
    ),
    Case(name="feelings", about="f1 and mcc where a class may be missing", file="choices", rows=FEELINGS, yaml=FEELING),
    Case(
        name="several-right",
        about="a list of right choices",
        file="choices",
        rows={"test": YES_NO},
        yaml='output_type: multiple_choice\ntest_split: test\ndoc_to_text: "{{question}}"\ndoc_to_choice: '
        '["yes", "no", maybe]\ndoc_to_target: right\nmetric_list: [{metric: acc}, {metric: acc_norm}, '
        "{metric: exact_match}]\n",
    ),
    Case(
        name="right-by-name",
        about="the right choice given as its text",
        file="choices",
        rows={"test": YES_NO},
        yaml='output_type: multiple_choice\ntest_split: test\ndoc_to_text: "{{question}}"\ndoc_to_choice: '
        '["yes", "no", maybe]\ndoc_to_target: "{{name}}"\n',
    ),
    Case(
        name="blanks",
        about="choices in the context, one text behind each",
        file="choices",
        rows={"test": SENTENCES},
        yaml=BLANKS,
    ),
    Case(
        name="blanks-2-shots",
        about="the same with shots of the scored split",
        file="choices",
        rows={"test": SENTENCES},
        yaml=BLANKS,
        num_fewshot=2,
    ),
    Case(
        name="passages",
        about="long passages before choices",
        file="choices",
        rows=QUESTIONS,
        yaml=PASSAGE,
        checkpoints=("tiny-gpt2", "tiny-t5", "lmtasks-mini"),
    ),
    Case(
        name="shot-hooks",
        about="process_docs of the shots alone",
        file="choices",
        rows=TOPICS,
        num_fewshot=2,
        limit=4,
        checkpoints=CAUSAL,
        files={"hooks.py": HOOKS},
        yaml=TOPIC + MEASURES + "fewshot_config: {sampler: first_n, split: train, "
        "process_docs: !function hooks.shorter}\n",
    ),
)
