"""A model's chat template, and how it is used. The template is Jinja, as transformers writes and renders it.

Stored in `chat_template.jinja`, or as `chat_template` in `tokenizer_config.json`: one text, or several with names.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.records import Json

if TYPE_CHECKING:
    from jinja2 import Template

    from lmtasks.task.prompt import Chat
    from lmtasks.task.turns import Message

DEFAULT = "default"
"""The template that is meant where several are there and none is named."""


@dataclass(frozen=True, kw_only=True)
class ChatUse:
    """Chat template and system instruction of an evaluation."""

    chat: "Chat | None" = None
    """None: prompts are plain text."""
    system: str | None = None
    """The system instruction of plain prompts; a chat has its own."""
    conditions: Json
    """What is recorded."""


def chat_use(folder: Path, *, template: str | None, system: str | None, multiturn: bool) -> ChatUse | None:
    """What the options mean for the model in `folder`; None where there is neither template nor instruction.

    Args:
        template: the name of a template; `default` for the one that it has; None: no chat.

    Raises:
        UsageError: the model has no such template, or worked examples are to be turns of no chat.
    """
    if template is None:
        if multiturn:
            raise UsageError("--fewshot-as-multiturn makes turns of a chat; add --apply-chat-template.")
        if system is None:
            return None
        return ChatUse(system=system, conditions={"system_instruction": system})
    from lmtasks.task.prompt import Chat

    text = find_template(folder, name=template)
    special = _special_tokens(folder)
    return ChatUse(
        chat=Chat(apply=renderer(text, special=special, where=str(folder)), multiturn=multiturn, system=system),
        conditions={
            "template": template,
            "template_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
            "fewshot_as_multiturn": multiturn,
            "system_instruction": system,
        },
    )


def find_template(folder: Path, *, name: str) -> str:
    """The text of a model's chat template.

    Raises:
        UsageError: it has none, or none of that name.
    """
    found = _templates(folder)
    if not found:
        raise UsageError(
            f"{folder} has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); leave "
            "--apply-chat-template out."
        )
    if name == DEFAULT and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        raise unknown(f"chat template of {folder}", name, found)
    return found[name]


def renderer(text: str, *, special: Mapping[str, str], where: str) -> "Callable[[Sequence[Message], bool], str]":
    """(messages, does the answer begin after them?) -> text, as `apply_chat_template` of transformers renders it.

    Where the answer does not begin after them, the last message is its beginning: what the template puts behind it is
    cut off. A template that knows no system messages is asked again without them, as in lm-evaluation-harness.
    """
    template = _compiled(text, where=where)

    def render(messages: "Sequence[Message]", begins: bool) -> str:
        from jinja2 import TemplateError

        try:
            return _rendered(template, messages, begins=begins, special=special)
        except TemplateError:
            others = [message for message in messages if message["role"] != "system"]
            try:
                return _rendered(template, others, begins=begins, special=special)
            except TemplateError as error:
                raise WorkError(f"the chat template of {where} fails: {error}.") from error

    return render


def _rendered(template: "Template", messages: "Sequence[Message]", *, begins: bool, special: Mapping[str, str]) -> str:
    rendered = template.render(messages=list(messages), add_generation_prompt=begins, **special)
    if begins or not messages:
        return rendered
    # As transformers: up to the last message's end; a template may have stripped it.
    last = messages[-1]["content"]
    for final in (last, last.strip()):
        place = rendered.rfind(final)
        if place >= 0:
            end = rendered[: place + len(final)]
            return end if final == last else end.rstrip()
    raise WorkError("the chat template leaves out the beginning of the answer (gen_prefix), which is to be continued.")


def _compiled(text: str, *, where: str) -> "Template":
    from jinja2 import TemplateSyntaxError
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> str:
        raise TemplateError(message)

    def tojson(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(text)
    except TemplateSyntaxError as error:
        raise UsageError(f"the chat template of {where} is no Jinja: {error.message} (line {error.lineno}).") from error


def _templates(folder: Path) -> dict[str, str]:
    file = folder / "chat_template.jinja"
    found = {DEFAULT: file.read_text(encoding="utf-8")} if file.is_file() else {}
    found |= {
        each.stem: each.read_text(encoding="utf-8") for each in sorted(folder.glob("additional_chat_templates/*.jinja"))
    }
    stored = _config(folder).get("chat_template")
    if isinstance(stored, str):
        return {DEFAULT: stored} | found
    if isinstance(stored, list):
        return {str(each["name"]): str(each["template"]) for each in stored if isinstance(each, Mapping)} | found
    return found


def _special_tokens(folder: Path) -> dict[str, str]:
    """`bos_token` and the others that templates may name."""
    found: dict[str, str] = {}
    for name, value in _config(folder).items():
        if name.endswith("_token") and name.count("_") == 1:
            text = value.get("content") if isinstance(value, Mapping) else value
            found |= {name: text} if isinstance(text, str) else {}
    return found


def _config(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= json.loads((folder / name).read_text(encoding="utf-8"))
    return found
