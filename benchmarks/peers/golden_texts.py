"""Golden cases of likelihoods, of generated texts, and of chats."""

from golden_base import CAUSAL, HOOKS, MEASURES, PAIRS, PARAGRAPHS, SHORT, TOPIC, TOPICS, Case, starter
from golden_rows import REFERENCES

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

TEXTS: tuple[Case, ...] = (
    Case(
        name="last-word",
        about="log-likelihood of a target that brings its own space",
        file="likelihoods",
        rows={"test": starter("paragraphs_en", "test", 8)},
        yaml=LAST_WORD,
    ),
    Case(
        name="rolling",
        about="windows over texts longer than the model takes; default metrics",
        file="likelihoods",
        rows=PARAGRAPHS,
        yaml=ROLLING,
    ),
    Case(
        name="rolling-short",
        about="one window; white space around a text",
        file="likelihoods",
        rows=SHORT,
        yaml=ROLLING,
    ),
    Case(
        name="answers",
        about="generation as it is without filters: stop strings, exact_match",
        file="texts",
        rows=TOPICS,
        yaml=ANSWER,
        limit=6,
    ),
    Case(
        name="filters",
        about="several pipelines of filters over repeated answers",
        file="texts",
        rows=TOPICS,
        yaml=FILTERS,
        num_fewshot=2,
        limit=6,
    ),
    Case(
        name="long-prompts",
        about="prompts cut on the left to leave room for the answer",
        file="texts",
        rows=TOPICS,
        yaml=ANSWER,
        num_fewshot=10,
        limit=4,
        checkpoints=("tiny-gpt2", "tiny-llama", "tiny-t5"),
    ),
    Case(
        name="default-end",
        about="no stop string given: the delimiter of shots stops",
        file="texts",
        rows=TOPICS,
        yaml=ANSWER.replace('until: ["\\n\\n", "x"], ', ""),
        num_fewshot=1,
        limit=4,
        checkpoints=CAUSAL,
    ),
    Case(
        name="references",
        about="several right texts",
        file="texts",
        rows={"test": REFERENCES},
        yaml='output_type: generate_until\ntest_split: test\ndoc_to_text: "{{question}}"\ndoc_to_target: '
        'right\ngeneration_kwargs: {until: [" "], max_gen_toks: 6}\nmetric_list: [{metric: exact_match}]\n'
        "filter_list: [{name: none, filter: [{function: remove_whitespace}, {function: take_first}]}]\n",
    ),
    Case(
        name="translation",
        about="bleu, chrf, chrf++ and ter, with their bootstrap",
        file="texts",
        rows=PAIRS,
        yaml=TRANSLATE + 'target_delimiter: ""\n',
        num_fewshot=3,
    ),
    Case(
        name="translation-en",
        about="the same into English",
        file="texts",
        rows=PAIRS,
        yaml=TRANSLATE.replace("{{en}}", "{{z}}").replace("{{zh}}", "{{en}}").replace("{{z}}", "{{zh}}"),
        num_fewshot=2,
    ),
    Case(
        name="hooks",
        about="process_docs and process_results, an aggregation of the task's own",
        file="texts",
        rows=TOPICS,
        yaml=HOOKED,
        files={"hooks.py": HOOKS},
        num_fewshot=1,
    ),
    Case(
        name="chat",
        about="a chat template, shots as turns, a system instruction and a description",
        file="chats",
        rows=TOPICS,
        yaml=TOPIC + MEASURES + 'description: "Say what it is about."\n',
        num_fewshot=2,
        limit=4,
        chat="multiturn",
        system="You are brief.",
        checkpoints=("tiny-llama",),
    ),
    Case(
        name="chat-in-one",
        about="a chat template, everything in one turn",
        file="chats",
        rows=TOPICS,
        yaml=TOPIC,
        num_fewshot=2,
        limit=4,
        chat="single",
        checkpoints=("tiny-llama",),
    ),
    Case(
        name="chat-begun",
        about="a chat template, the start of the answer given",
        file="chats",
        rows=TOPICS,
        yaml=ANSWER + 'gen_prefix: "It is about"\n',
        num_fewshot=1,
        limit=4,
        chat="multiturn",
        checkpoints=("tiny-llama",),
    ),
    Case(
        name="chat-begun-choices",
        about="choices behind the start of an answer in a chat",
        file="chats",
        rows=TOPICS,
        yaml=TOPIC + MEASURES + 'gen_prefix: "It is about"\n',
        num_fewshot=1,
        limit=4,
        chat="multiturn",
        checkpoints=("tiny-llama",),
    ),
    Case(
        name="begun",
        about="the start of the answer given, no chat",
        file="chats",
        rows=TOPICS,
        yaml=ANSWER + 'gen_prefix: "It is about"\n',
        num_fewshot=2,
        limit=4,
        checkpoints=("tiny-llama", "tiny-t5"),
    ),
    Case(
        name="system",
        about="a system instruction without a chat template",
        file="chats",
        rows=TOPICS,
        yaml=TOPIC + MEASURES + 'description: "Say what it is about.\\n"\n',
        num_fewshot=1,
        limit=4,
        system="You are brief.",
        checkpoints=("tiny-llama", "tiny-gpt2"),
    ),
)
