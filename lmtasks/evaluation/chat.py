"""A model's chat template, and how it is used. The template is Jinja, as transformers writes and renders it.

Stored in `chat_template.jinja`, or as `chat_template` in `tokenizer_config.json`: one text, or several with names.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, unknown
from lmtasks.evaluation.chat_template import NO_SETTINGS, ChatTemplate
from lmtasks.records import Json
from lmtasks.task.generation import read_kwargs

if TYPE_CHECKING:
    from lmtasks.task.prompt import Chat

OF_A_MODEL = ("model_specific_special_tokens", "extra_special_tokens")
"""Where a tokenizer's configuration holds special tokens of its model's own."""
DEFAULT = "default"
"""The template that is meant where several are there and none is named."""


@dataclass(frozen=True, kw_only=True)
class ChatUse:
    """Chat template and system instruction of an evaluation."""

    chat: "Chat | None" = None
    """None: prompts are plain text."""
    template: ChatTemplate | None = None
    """What the chat is written by."""
    system: str | None = None
    """The system instruction of plain prompts; a chat has its own."""
    conditions: Json
    """What is recorded."""


def chat_use(
    folder: Path,
    *,
    template: str | None,
    system: str | None,
    multiturn: bool,
    settings: Mapping[str, object] = NO_SETTINGS,
) -> ChatUse | None:
    """What the options mean for the model in `folder`; None where there is neither template nor instruction.

    Args:
        template: the name of a template; `default` for the one that it has; None: no chat.
        settings: variables that the template reads beside the messages, as `ChatTemplate` takes them.

    Raises:
        UsageError: the model has no such template, it reads no such variable, or an option is about a chat and there is
            none.
    """
    if template is None:
        if multiturn:
            raise UsageError("--fewshot-as-multiturn makes turns of a chat; add --apply-chat-template.")
        if settings:
            raise UsageError("--chat-template-args are read by a chat template; add --apply-chat-template.")
        if system is None:
            return None
        return ChatUse(system=system, conditions={"system_instruction": system})
    from lmtasks.task.prompt import Chat

    text = find_template(folder, name=template)
    render = renderer(text, special=_special_tokens(folder), where=str(folder), settings=settings)
    return ChatUse(
        chat=Chat(apply=render, multiturn=multiturn, system=system),
        template=render,
        conditions={
            "template": template,
            "template_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
            "fewshot_as_multiturn": multiturn,
            "system_instruction": system,
            **({"template_args": dict(settings)} if settings else {}),
            **({"date": render.today.isoformat()} if render.today else {}),
        },
    )


def template_settings(text: str) -> Mapping[str, object]:
    """Variables of a chat template as a person types them: names and values, or a JSON object.

    >>> template_settings("enable_thinking=false,reasoning_effort=high")
    {'enable_thinking': False, 'reasoning_effort': 'high'}
    >>> template_settings('{"enable_thinking": true}')
    {'enable_thinking': True}

    Raises:
        UsageError: neither.
    """
    given = read_kwargs(text, what="variables of a chat template")
    typed = {name: _typed(value) if isinstance(value, str) else value for name, value in given.items()}
    return typed if not text.lstrip().startswith("{") else given


def _typed(value: str) -> object:
    """true, false, null and numbers as what they are; any other text as it is."""
    try:
        found: object = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
    except ValueError:
        return value
    return found if found is None or isinstance(found, bool | int | float) else value


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


def renderer(
    text: str, *, special: Mapping[str, str], where: str, settings: Mapping[str, object] = NO_SETTINGS
) -> ChatTemplate:
    """A template ready to be rendered.

    Raises:
        UsageError: as `ChatTemplate`.
    """
    return ChatTemplate(text, special=special, where=where, settings=settings)


def _templates(folder: Path) -> dict[str, str]:
    file = folder / "chat_template.jinja"
    found = {DEFAULT: _text(file)} if file.is_file() else {}
    found |= {each.stem: _text(each) for each in sorted(folder.glob("additional_chat_templates/*.jinja"))}
    stored = _json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(stored, str):
        return {DEFAULT: stored} | found
    if isinstance(stored, list):
        named = [each for each in stored if isinstance(each, Mapping) and {"name", "template"} <= set(each)]
        return {str(each["name"]): str(each["template"]) for each in named} | found
    return found


def _special_tokens(folder: Path) -> dict[str, str]:
    """`bos_token` and the others that templates may name, as transformers takes them from a tokenizer's files: those of
    a kind of its own (`image_token`) too, and special_tokens_map.json only beside a configuration of the old form."""
    config = _json(folder / "tokenizer_config.json")
    old = {} if "added_tokens_decoder" in config else _json(folder / "special_tokens_map.json")
    found: dict[str, str] = {}
    for given in (config, *(config.get(name) for name in OF_A_MODEL), old):
        for name, value in given.items() if isinstance(given, Mapping) else ():
            text = value.get("content") if isinstance(value, Mapping) else value
            if name.endswith("_token") and isinstance(text, str):
                found[name] = text
    return found


def _json(file: Path) -> dict[str, object]:
    try:
        found = json.loads(_text(file)) if file.is_file() else {}
    except ValueError as error:
        raise UsageError(f"{file} is no JSON: {error}.") from None
    return found if isinstance(found, dict) else {}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 (byte {error.start}); write it anew.") from None
