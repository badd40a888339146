"""Chat templates as transformers renders them, and prompts that are put by them."""

import json
from pathlib import Path

import pytest
from small_tasks import model, small_task
from tiny import tiny_tokenizer

from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.chat import chat_use, find_template, renderer
from lmtasks.evaluation.evaluate import evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.settings.data import DataAccess

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {% if message['role'] == 'system' %}{{ raise_exception('no system') if strict else '' }}{% endif %}\n"
    "<{{ message['role'] }}>{{ message['content'] | trim }}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def saved(folder: Path, template: object = TEMPLATE) -> Path:
    folder.mkdir(exist_ok=True)
    tiny_tokenizer().save(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
    return folder


@pytest.mark.parametrize(
    ("config", "old"),
    [
        ({"bos_token": "<|endoftext|>", "add_bos_token": True, "pad_token": None}, {}),
        ({"eos_token": {"content": "</s>", "__type": "AddedToken"}, "image_start_token": "<img>"}, {}),
        ({"extra_special_tokens": {"audio_token": "<au>"}, "bos_token": "<s>"}, {}),
        ({"bos_token": "<s>"}, {"bos_token": "<old>", "unk_token": {"content": "<unk>"}}),
        ({"bos_token": "<s>", "added_tokens_decoder": {}}, {"bos_token": "<old>", "unk_token": "<unk>"}),
    ],
)
def test_special_tokens_as_transformers_names_them(
    config: dict[str, object], old: dict[str, object], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    names = ("bos_token", "eos_token", "unk_token", "pad_token", "image_start_token", "audio_token")
    shown = "".join(f"{name}={{{{ {name} }}}} " for name in names)
    folder = saved(tmp_path, shown)
    file = folder / "tokenizer_config.json"
    kept = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": shown}
    file.write_text(json.dumps({**kept, **config}))
    (folder / "special_tokens_map.json").write_text(json.dumps(old))
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(MESSAGES[1:2], tokenize=False)
    found = chat_use(folder, template="default", system=None, multiturn=False)
    assert found is not None
    assert found.chat is not None
    assert found.chat.apply([{"role": "user", "content": "x"}], True) == expected


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What? "},
    {"role": "assistant", "content": "It is"},
]


@pytest.mark.parametrize("begins", [True, False])
def test_as_transformers_renders(begins: bool, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(saved(tmp_path))
    messages = MESSAGES[:2] if begins else MESSAGES
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=begins, continue_final_message=not begins
    )
    render = renderer(TEMPLATE, special={"bos_token": "<|endoftext|>"}, where="here")
    assert render(messages, begins) == expected  # type: ignore[arg-type]


def test_a_template_that_refuses_system_messages_is_asked_without(tmp_path: Path) -> None:
    render = renderer("{% set strict = true %}" + TEMPLATE, special={"bos_token": ""}, where="here")
    assert render(MESSAGES[:2], True).startswith("\n<user>What?</s>") or "<system>" not in render(MESSAGES[:2], True)  # type: ignore[arg-type]
    always = renderer("{{ raise_exception('never') }}", special={}, where="here")
    with pytest.raises(WorkError, match="the chat template of here fails: never"):
        always(MESSAGES[1:], True)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no Jinja"):
        renderer("{% for %}", special={}, where="here")


def test_templates_are_found_by_name(tmp_path: Path) -> None:
    two = saved(tmp_path / "two", [{"name": "default", "template": "a"}, {"name": "tool", "template": "b"}])
    assert (find_template(two, name="default"), find_template(two, name="tool")) == ("a", "b")
    with pytest.raises(UsageError, match="did you mean 'tool'"):
        find_template(two, name="tools")
    one = saved(tmp_path / "one", "c")
    (one / "chat_template.jinja").write_text("d")
    assert find_template(one, name="default") == "d"  # as transformers, which writes the file since version 4.51
    none = saved(tmp_path / "none", None)
    with pytest.raises(UsageError, match="has no chat template"):
        find_template(none, name="default")
    with pytest.raises(UsageError, match="add --apply-chat-template"):
        chat_use(none, template=None, system=None, multiturn=True)
    assert chat_use(none, template=None, system=None, multiturn=False) is None


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "chat_template.jinja").write_bytes(b"{{ messages }} \xe9")
    with pytest.raises(UsageError, match=r"chat_template.jinja is not UTF-8 \(byte 15\)"):
        find_template(folder, name="default")
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(UsageError, match=r"tokenizer_config.json is no JSON"):
        find_template(folder, name="default")


def test_prompts_are_put_by_the_template_and_conditions_say_so(tmp_path: Path) -> None:
    task = small_task(tmp_path, "multiple_choice", more="num_fewshot: 1")
    folder = saved(tmp_path / "model")
    shown = {}
    for multiturn in (False, True):
        chat = chat_use(folder, template="default", system="Be brief.", multiturn=multiturn)
        assert chat is not None
        options = EvalOptions(data=DataAccess(offline=True), resamples=10, chat=chat)
        (result,) = evaluate(solver=model(max_length=400), tasks=[task], options=options)
        assert result.conditions["chat"] == chat.conditions
        shown[multiturn] = str(result.samples[0]["prompt"])
    assert shown[True].count("<assistant>") == 2
    assert shown[False].count("<assistant>") == 1
    assert all("<system>Be brief.</s>" in text and text.endswith("<assistant>") for text in shown.values())
    plain = chat_use(folder, template=None, system="Be brief.", multiturn=False)
    options = EvalOptions(data=DataAccess(offline=True), resamples=10, chat=plain)
    (result,) = evaluate(solver=model(max_length=400), tasks=[task], options=options)
    assert str(result.samples[0]["prompt"]).startswith("Be brief.What did")  # the harness joins them so
