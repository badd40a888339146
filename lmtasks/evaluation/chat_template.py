"""A chat template as transformers compiles and renders it (`apply_chat_template`), on a day that does not move.

A template may ask what day it is (`strftime_now`): of the real one, scores would depend on when they were computed.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from lmtasks.errors import UsageError, WorkError, unknown
from lmtasks.task.bounded_jinja import BoundedEnvironment, bounded_copy

if TYPE_CHECKING:
    from jinja2 import Template

    from lmtasks.task.chat_messages import Message

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
        """Is there a system message of which nothing comes to stand in the text?"""
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
