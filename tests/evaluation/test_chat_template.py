"""Chat templates are compiled by transformers, and rendered as it renders them; the day is fixed, and nothing is lost
without a word."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import pytest
from small_tasks import model, small_task
from tiny import tiny_tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.chat import TODAY, ChatTemplate, ChatUse, chat_use, template_settings
from lmtasks.evaluation.evaluate import TaskResult, evaluate
from lmtasks.evaluation.prepare import EvalOptions
from lmtasks.settings.data import DataAccess
from lmtasks.task.prompt import Message

TURN = "<{{ m['role'] }}>{{ m['content'] }}</e>\n"
PLAIN = f"{{% for m in messages %}}{TURN}{{% endfor %}}{{% if add_generation_prompt %}}<assistant>{{% endif %}}"
TRIMMED = PLAIN.replace("m['content']", "m['content'] | trim")
GENERATION = PLAIN.replace(TURN, "{% generation %}" + TURN + "{% endgeneration %}")
WITHOUT_SYSTEM = PLAIN.replace(TURN, "{% if m['role'] != 'system' %}" + TURN + "{% endif %}")
INTO_THE_FIRST = (
    "{% set before = messages[0]['content'] + ' ' if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages if m['role'] != 'system' %}"
    "<{{ m['role'] }}>{{ before if loop.first }}{{ m['content'] }}</e>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSING = PLAIN.replace(TURN, "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURN)
WHAT_TRANSFORMERS_ADDS = (
    "{{ {'b': 1, 'a': 'é<'} | tojson(separators=(',', ':'), sort_keys=true) }}{% set found = namespace(n=0) %}"
    "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{% set found.n = found.n + 1 %}{% endfor %}"
    "{{ found.n }}{{ dict(a=1)['a'] }}" + PLAIN
)
TEMPLATES = (PLAIN, TRIMMED, GENERATION, WITHOUT_SYSTEM, INTO_THE_FIRST, WHAT_TRANSFORMERS_ADDS)
USER = Message(role="user", content="What is e < 3?")
SYSTEM = Message(role="system", content="Be brief.")


def template(text: str, **settings: object) -> ChatTemplate:
    return ChatTemplate(text, special={"bos_token": "<s>"}, where="here", settings=settings)


def theirs(text: str, messages: Sequence[Message], *, begins: bool) -> str:
    rendered, _ = render_jinja_template(
        conversations=[[dict(message) for message in messages]],
        chat_template=text,
        add_generation_prompt=begins,
        continue_final_message=not begins,
        bos_token="<s>",
    )
    return str(rendered[0])


@pytest.mark.parametrize("text", TEMPLATES)
@pytest.mark.parametrize("prefix", ["<", "e", ">", "</e>", "<assistant>", "user", " It is ", "\n", "It is", "é", "e\n"])
def test_the_prompt_ends_with_the_beginning_of_the_answer(text: str, prefix: str) -> None:
    messages = [SYSTEM, USER, Message(role="assistant", content=prefix)]
    found = template(text)(messages, False)
    assert found == theirs(text, messages, begins=False)
    assert found.rstrip().endswith(prefix.strip())


@pytest.mark.parametrize("text", TEMPLATES)
def test_conversations_as_transformers_renders_them(text: str) -> None:
    long = [SYSTEM, USER, Message(role="assistant", content="No."), USER]
    for messages in ([USER], [SYSTEM, USER], long):
        assert template(text)(messages, True) == theirs(text, messages, begins=True)


def test_a_template_that_loses_or_changes_the_beginning_is_refused() -> None:
    messages = [USER, Message(role="assistant", content="It is")]
    with pytest.raises(WorkError, match="leaves out the beginning of the answer"):
        template(WITHOUT_SYSTEM.replace("system", "assistant"))(messages, False)
    with pytest.raises(WorkError, match=r"changes the beginning of the answer .*'It is' becomes .*IT IS"):
        template(PLAIN.replace("m['content']", "m['content'] | upper"))(messages, False)


DAY = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}" + PLAIN


def test_the_day_does_not_move_and_can_be_given() -> None:
    prompt_context = template(DAY)
    assert (prompt_context.today, template(PLAIN).today) == (TODAY, None)
    assert prompt_context([USER], True).startswith("26 Jul 2024<user>")
    given = template(DAY, strftime_now="2025-02-03")
    assert given.today == date(2025, 2, 3)
    assert given([USER], True).startswith("03 Feb 2025<user>")
    with pytest.raises(UsageError, match="strftime_now is the day"):
        template(DAY, strftime_now="tomorrow")


THINKING = PLAIN + "{% if add_generation_prompt and enable_thinking is false %}<think></think>{% endif %}"


def test_settings_reach_the_template_and_one_that_it_does_not_read_is_refused() -> None:
    assert template(THINKING)([USER], True).endswith("<assistant>")
    assert template(THINKING, **template_settings("enable_thinking=false"))([USER], True).endswith("<think></think>")
    for text, name in ((THINKING, "enable_thinkin"), (PLAIN, "strftime_now"), (PLAIN, "messages"), (PLAIN, "loop")):
        with pytest.raises(UsageError, match=f"unknown variable of the chat template of here '{name}'"):
            template(text, **{name: "2025-01-01"})
    assert template_settings("n=3,f=0.5,t=True,nothing=null,word=high,list=[1]") == {
        "n": 3,
        "f": 0.5,
        "t": True,
        "nothing": None,
        "word": "high",
        "list": "[1]",
    }


@pytest.mark.parametrize(
    ("text", "dropped"),
    [(PLAIN, False), (TRIMMED, False), (INTO_THE_FIRST, False), (WITHOUT_SYSTEM, True), (REFUSING, True)],
)
def test_a_system_turn_that_is_dropped_is_noticed(text: str, dropped: bool) -> None:
    # The instruction stands in the question too: it is not looked for by its text.
    messages = [SYSTEM, Message(role="user", content="Be brief. What?")]
    assert template(text).drops_system(messages, True) == dropped
    assert not template(text).drops_system([USER], True)


@pytest.mark.parametrize("text", ["{{ messages[0].content + 1 }}", "{{ 1 // 0 }}", "{{ messages[9].content.x }}"])
def test_whatever_a_template_fails_with_is_told_as_its_fault(text: str) -> None:
    with pytest.raises(WorkError, match="the chat template of here fails: "):
        template(text)([USER], True)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 10 ** 10000000 }}",
        "{{ 'x' * 10 ** 10 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_that_would_hold_the_machine_is_told_as_its_fault(text: str) -> None:
    with pytest.raises(WorkError, match=r"the chat template of here fails: (it |RecursionError)"):
        template(text)([USER], True)


def used(folder: Path, text: str, *, system: str | None = None, settings: Mapping[str, object] = {}) -> ChatUse:
    folder.mkdir(exist_ok=True)
    tiny_tokenizer().save(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": text}))
    found = chat_use(folder, template="default", system=system, multiturn=False, settings=settings)
    assert found is not None
    return found


def result_of(folder: Path, chat: ChatUse, *, more: str = "") -> TaskResult:
    task = small_task(folder, "multiple_choice", more=more)
    options = EvalOptions(data=DataAccess(offline=True), resamples=10, chat=chat)
    (result,) = evaluate(solver=model(max_length=400), tasks=[task], options=options)
    return result


def test_what_a_template_was_told_and_what_it_dropped_is_stored_and_said(tmp_path: Path) -> None:
    chat = used(tmp_path / "m", DAY.replace(PLAIN, WITHOUT_SYSTEM) + "{{ mood }}", system="Hm.", settings={"mood": "!"})
    result = result_of(tmp_path, chat)
    stored = result.conditions["chat"]
    assert isinstance(stored, Mapping)
    assert (stored["date"], stored["template_args"], stored["system_dropped"]) == ("2024-07-26", {"mood": "!"}, 8)
    assert result.notes == ("the chat template drops the system turn: the model did not read it.",)
    kept = result_of(tmp_path, used(tmp_path / "m", PLAIN, system="Hm."))
    assert kept.notes == ()
    assert not {"date", "template_args", "system_dropped"} & set(kept.conditions["chat"])  # type: ignore[call-overload]


def test_a_task_s_description_is_a_system_turn_too(tmp_path: Path) -> None:
    result = result_of(tmp_path, used(tmp_path / "m", WITHOUT_SYSTEM), more='description: "Choose."')
    assert len(result.notes) == 1


def test_a_template_fails_before_the_first_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It fails on the last of eight rows alone.
    text = "{% if 'and' in messages[-1]['content'] %}{{ raise_exception('no and') }}{% endif %}" + PLAIN
    asked: list[int] = []
    solver = model(max_length=400)
    monkeypatch.setattr(type(solver.engine), "score", lambda self, requests, **_: asked.append(len(requests)))
    task = small_task(tmp_path, "multiple_choice")
    options = EvalOptions(data=DataAccess(offline=True), resamples=10, chat=used(tmp_path / "m", text))
    with pytest.raises(WorkError, match=r"task multiple_choice, row 6: the chat template of .* fails: no and\."):
        evaluate(solver=solver, tasks=[task], options=options)
    assert asked == []


def test_a_chat_without_transformers_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers.utils.chat_template_utils", None)
    with pytest.raises(UsageError, match=r"rendered by transformers .* cannot be imported here"):
        template("{{ 'a template that nobody compiled before' }}")
