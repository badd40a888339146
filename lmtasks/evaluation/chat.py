"""A model's chat template: where it is stored, how it is chosen, and how it writes messages.

Stored in `chat_template.jinja`, or as `chat_template` in `tokenizer_config.json`: one text, or several with names.
Jinja, compiled and rendered as transformers does (`apply_chat_template`), on a day that does not move: a template may
ask what day it is (`strftime_now`), and with the real one scores would depend on when they were computed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.records import Json
from lmtasks.task.bounded_jinja import BoundedEnvironment, bounded_copy
from lmtasks.task.generation import read_kwargs

if TYPE_CHECKING:
    from jinja2 import Template

    from lmtasks.task.prompt import Chat, Message


TODAY = date(2024, 7, 26)
"""The day that Llama 3's templates write where none is given to them."""
MARK = "CONTINUE_FINAL_MESSAGE_TAG "
"""Stands behind a message while its place is looked for; as transformers marks it, blank included, so that templates
which cut blanks off do to it what they do there."""
OURS = frozenset({"messages", "add_generation_prompt"})
"""Variables of templates that are no settings."""
DAY = "strftime_now"
"""The function by which a template asks for the day, and the setting that gives it one."""
NO_SETTINGS: Mapping[str, object] = MappingProxyType({})
NEEDS = (
    "chat templates are rendered by transformers (with jinja2 3.1.6 or newer), which cannot be imported here: {error}. "
    "Install it, or leave --apply-chat-template out."
)

OF_A_MODEL = ("model_specific_special_tokens", "extra_special_tokens")
"""Where a tokenizer's configuration holds special tokens of its model's own."""
SERVERS_OWN = "the server's own"
DEFAULT = "default"
"""The template that is meant where several are there and none is named."""


class ChatTemplate:
    """Writes messages as a model was trained to read them.

    Called with (messages, does the answer begin after them?). Where it does not begin, the last message is its
    beginning, and the text ends with that. A template that knows no system messages is asked again without them, as in
    lm-evaluation-harness.

    Args:
        text: Jinja.
        special: the tokenizer's special tokens, as templates name them (`bos_token`).
        where: for messages.
        settings: variables that it reads beside the messages (`enable_thinking`), and the day under `strftime_now`.

    Raises:
        UsageError: it is no Jinja, reads no variable of that name, or transformers cannot be imported.
    """

    def __init__(
        self, text: str, *, special: Mapping[str, str], where: str, settings: Mapping[str, object] = NO_SETTINGS
    ) -> None:
        self._text = text
        self._where = where
        self._template = compiled(text, where=where)
        read = _variables(self._template, text)
        for name in settings:
            if name in OURS or name not in read:
                known = read - OURS - set(special) - {DAY} | ({DAY} & read)
                raise unknown(f"variable of the chat template of {where}", name, known)
        self.today: date | None = _day(settings.get(DAY)) if DAY in read else None
        """What the template is told where it asks; None: it does not ask."""
        self._given = {**special, **{name: value for name, value in settings.items() if name != DAY}}

    def __call__(self, messages: "Sequence[Message]", begins: bool) -> str:
        """The text that a model reads.

        Raises:
            WorkError: the template fails, or leaves out or changes what is to be continued.
        """
        from jinja2 import TemplateError

        try:
            return self._written(messages, begins)
        except TemplateError:
            others = [message for message in messages if message["role"] != "system"]
            try:
                return self._written(others, begins)
            except TemplateError as error:
                raise WorkError(f"the chat template of {self._where} fails: {error}.") from error

    def drops_system(self, messages: "Sequence[Message]", begins: bool) -> bool:
        """True where there is a system message, and the text holds nothing of it."""
        from jinja2 import TemplateError

        if all(message["role"] != "system" for message in messages):
            return False
        marked = [_marked(message) if message["role"] == "system" else message for message in messages]
        try:
            return MARK.strip() not in self._rendered(marked, begins)
        except TemplateError:
            return True

    def _written(self, messages: "Sequence[Message]", begins: bool) -> str:
        if begins or not messages:
            return self._rendered(messages, begins)
        rendered = self._rendered([*messages[:-1], _marked(messages[-1])], begins)
        place = rendered.rfind(MARK.strip())
        if place < 0:
            raise WorkError(
                f"the chat template of {self._where} leaves out the beginning of the answer (gen_prefix), which is to "
                "be continued."
            )
        start = rendered[:place]
        if not rendered.startswith(MARK, place):  # it cuts off the blanks behind a message
            start = start.rstrip()
        begun = messages[-1]["content"]
        if not start.endswith((begun, begun.strip())):
            raise WorkError(
                f"the chat template of {self._where} changes the beginning of the answer (gen_prefix): {begun!r} "
                f"becomes {start[-len(begun) - 20 :]!r}."
            )
        return start

    def _rendered(self, messages: "Sequence[Message]", begins: bool) -> str:
        """As `render_jinja_template` of transformers calls it."""
        from jinja2 import TemplateError

        today = self.today or TODAY
        if isinstance(environment := self._template.environment, BoundedEnvironment):
            environment.begin()
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=begins,
                **{DAY: today.strftime, **self._given},
            )
        except TemplateError:
            raise
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise WorkError(
                f"the chat template of {self._where} fails: {type(error).__name__}: {str(error).rstrip('.')}."
            ) from error


@lru_cache(maxsize=64)
def compiled(text: str, *, where: str) -> "Template":
    """The template by transformers' own compiler: its tags, filters and functions, in a sandbox
    that bounds its work too.

    Raises:
        UsageError: it is no Jinja, or transformers cannot be imported.
    """
    from jinja2 import TemplateSyntaxError

    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        # Its environment is what is wanted: without bounds, even compiling may compute 'x' * 10 ** 10.
        template: Template = bounded_copy(_compile_jinja_template("").environment).from_string(text)
    except ImportError as error:
        raise UsageError(NEEDS.format(error=str(error).rstrip("."))) from error
    except TemplateSyntaxError as error:
        raise UsageError(f"the chat template of {where} is no Jinja: {error.message} (line {error.lineno}).") from error
    return template


def _variables(template: "Template", text: str) -> frozenset[str]:
    """What it reads and does not set itself: variables, and the function that tells the day."""
    from jinja2 import meta, nodes

    tree = template.environment.parse(text)
    asks = any(name.name == DAY for name in tree.find_all(nodes.Name))
    return frozenset(meta.find_undeclared_variables(tree) | ({DAY} if asks else set()))


def _marked(message: "Message") -> "Message":
    return {"role": message["role"], "content": message["content"] + MARK}


def _day(given: object) -> date:
    if given is None:
        return TODAY
    try:
        return date.fromisoformat(str(given))
    except ValueError:
        raise UsageError(f"{DAY} is the day that a chat template is told, as 2025-01-31, was: {given!r}.") from None


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
    """Chat template and system instruction for the model in `folder`, by the options; None where there is neither
    template nor instruction.

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


def server_chat(
    apply: "Callable[[Sequence[Message], bool], str]",
    *,
    asked: bool,
    system: str | None,
    multiturn: bool,
    settings: Mapping[str, object] = NO_SETTINGS,
) -> ChatUse | None:
    """A server's own chat template, and the system instruction; None where there is neither.

    Args:
        apply: writes messages as the engine sends them.
        asked: prompts are chats; else plain text.

    Raises:
        UsageError: an option is about a template that lies on this machine.
    """
    if settings:
        raise UsageError("--chat-template-args are read by a template on this machine; a server has its own.")
    if not asked:
        if multiturn:
            raise UsageError("--fewshot-as-multiturn makes turns of a chat; add --apply-chat-template.")
        return None if system is None else ChatUse(system=system, conditions={"system_instruction": system})
    from lmtasks.task.prompt import Chat

    return ChatUse(
        chat=Chat(apply=apply, multiturn=multiturn, system=system),
        conditions={"template": SERVERS_OWN, "fewshot_as_multiturn": multiturn, "system_instruction": system},
    )


def chat_template(folder: Path, *, name: str = DEFAULT) -> ChatTemplate:
    """A model's chat template, ready to be rendered.

    Raises:
        UsageError: it has none, none of that name, or it cannot be read.
    """
    return renderer(find_template(folder, name=name), special=_special_tokens(folder), where=str(folder))


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
