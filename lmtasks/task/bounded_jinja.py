"""Jinja for templates of strangers: a sandbox that also bounds work and size, so that a task file, or the chat template
of a checkpoint, can neither reach Python nor hold the machine.

Bounds hold for each rendering: turns of loops and macros, characters of a text and of all texts that are made, and
seconds. All but the last are the same on every machine; seconds are for what the others let through.

>>> bounded_environment().from_string("{{ 6 * 7 }}").render()
'42'
>>> bounded_environment().from_string("{{ 10 ** 10000000 }}").render()
Traceback (most recent call last):
lmtasks.task.bounded_jinja.TooMuchError: it computes a number of more than 10,000 digits
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, NoReturn

from jinja2 import Environment, Undefined, nodes
from jinja2.exceptions import TemplateRuntimeError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_TURNS = 1_000_000
"""Of all loops and calls of one rendering."""
SHORT = 1000
"""A loop over fewer items is counted at once, before it begins: 0.1 microseconds a turn otherwise, for every row."""
MOST_CHARACTERS = 50_000_000
"""Of one text; also of items in one list."""
MOST_MADE = 200_000_000
"""Characters and items of all that one rendering makes, what it forgets again among them."""
MOST_SECONDS = 10.0
MOST_DIGITS = 10_000
"""Of a number."""
WIDTHS = frozenset(
    {"batch", "center", "expandtabs", "indent", "ljust", "rjust", "round", "slice", "tojson", "wordwrap", "zfill"}
)
"""Filters and methods that make as much as a number says."""
WIDE = re.compile(r"%[-#0 +]*(\*|\d{6,})|%[-#0 +\d]*\.(\*|\d{6,})")
"""A width in a format of `%` that nobody needs, or that a value gives."""
WIDE_BRACES = re.compile(r"\{[^{}]*:[^{}]*(\{|\d{6,})")
"""The same in braces."""


class TooMuchError(TemplateRuntimeError):
    """A template asks for more than a rendering may have; the message says of what, without a full stop."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """jinja2's immutable sandbox, with bounds."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:  # jinja2's own options
        super().__init__(**options)
        self.bound()

    def bound(self) -> None:
        """Put the bounds around filters, globals and what is written, as they stand now."""
        self.begin()
        self.finalize = _bounded_value
        self.globals.pop("lipsum", None)
        self.filters = {name: _bounded_filter(name, filter_) for name, filter_ in self.filters.items()}

    def begin(self) -> None:
        """A rendering starts."""
        self._turns, self._made, self._until = 0, 0, time.monotonic() + MOST_SECONDS

    def turn(self, turns: int = 1) -> None:
        """Turns of a loop, or one call."""
        self._turns += turns
        if self._turns > MOST_TURNS:
            raise TooMuchError(f"it takes more than {MOST_TURNS:,} turns of its loops")
        if time.monotonic() > self._until:
            raise TooMuchError(f"it takes longer than {MOST_SECONDS:g} seconds")

    def counted(self, items: Iterable[object]) -> object:
        """The items that a loop goes over, each turn counted."""
        if isinstance(items, list | tuple | dict | range) and len(items) <= SHORT:
            self.turn(len(items))
            return items
        return items if isinstance(items, Undefined) else _Counted(self, items)

    def joined(self, *parts: object) -> str:
        """`a ~ b`."""
        return self.concat(str(_bounded_value(part)) for part in parts)

    def concat(self, parts: Iterable[str]) -> str:  # type: ignore[override]  # jinja2 declares it as an attribute
        """Pieces of a text, as jinja2 joins blocks, macros and whole renderings."""
        kept = list(parts)
        length = sum(map(len, kept))
        _check_length(length)
        self._make(length)
        return "".join(kept)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`+ * ** %`, once their result is known to be of a sane size."""
        check_operation(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, Sized):
            self._make(len(result))
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` and `str.format_map` of a text, where `value` is one of them."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def bounded(*given: Any, **named: Any) -> str:
            _check_format(value.__self__, WIDE_BRACES)
            return formatted(*given, **named)

        return bounded

    def _make(self, length: int) -> None:
        self._made += length
        if self._made > MOST_MADE:
            raise TooMuchError(f"it makes more than {MOST_MADE:,} characters or items in all")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A function, method or macro."""
        if getattr(__obj, "__self__", None) is __self:  # `counted` and `joined`, put there by us: no name leads to them
            return __obj(*args)
        __self.turn()
        _check_call(getattr(__obj, "__name__", ""), [getattr(__obj, "__self__", None), *args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Bounds().visit(source), *args, **kwargs)


def bounded_environment(**options: Any) -> BoundedEnvironment:
    """A new environment; options as those of `jinja2.Environment`."""
    return BoundedEnvironment(**options)


def bounded_copy(environment: Environment) -> BoundedEnvironment:
    """The same filters, globals, tests, extensions and options, within bounds."""
    copy = object.__new__(BoundedEnvironment)
    copy.__dict__.update(environment.__dict__)
    copy.globals, copy.filters = dict(environment.globals), dict(environment.filters)
    copy.cache = None
    copy.extensions = {name: extension.bind(copy) for name, extension in environment.extensions.items()}
    copy.bound()
    return copy


def check_operation(operator: str, left: object, right: object) -> None:
    """Raises: TooMuchError: the result of `left operator right` would be too large; told before it is computed."""
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(abs(left).bit_length() * abs(right) if abs(left) > 1 else 1)
    elif operator == "*":
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() + right.bit_length())
        for one, times in ((left, right), (right, left)):
            if isinstance(one, Sized) and isinstance(times, int):
                _check_length(len(one) * max(0, times))
            _bounded_value(one)
    elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        _check_length(len(left) + len(right))
    elif operator == "%" and isinstance(left, str):
        _check_format(left, WIDE)


class _Counted:
    """Items, each of which is a turn. Of a length where the items have one, since a loop may ask for it."""

    def __init__(self, environment: BoundedEnvironment, items: Iterable[object]) -> None:
        self._environment = environment
        self._items = items

    def __iter__(self) -> Iterator[object]:
        for item in self._items:
            self._environment.turn()
            yield item

    def __len__(self) -> int:
        return len(self._items) if isinstance(self._items, Sized) else _no_length(self._items)


class _Bounds(NodeTransformer):
    """Puts counting around what loops go over, and bounds around `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if not node.recursive:  # those call themselves, and calls are counted
            node.iter = self._through("counted", [node.iter], node.lineno)
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        return self.generic_visit(self._through("joined", node.nodes, node.lineno))

    @staticmethod
    def _through(name: str, arguments: Sequence[nodes.Node], line: int) -> nodes.Call:
        given = [argument for argument in arguments if isinstance(argument, nodes.Expr)]
        return nodes.Call(nodes.EnvironmentAttribute(name), given, [], None, None, lineno=line)


def _bounded_filter(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """The filter behind a look at what it is given."""

    def bounded(*given: Any, **named: Any) -> Any:
        values = [value for value in given if not isinstance(value, Environment | Context)]
        _check_call(name, [*values, *named.values()])
        return filter_(*given, **named)

    bounded.__dict__.update(getattr(filter_, "__dict__", {}))  # jinja2 marks there what a filter wants to be handed
    bounded.__name__ = getattr(filter_, "__name__", name)
    return bounded


def _check_call(name: str, values: list[Any]) -> None:
    """Raises: TooMuchError: the filter or method would make something too large of these."""
    if name in WIDTHS and any(isinstance(value, int) and value > MOST_CHARACTERS for value in values):
        raise TooMuchError(f"{name} is asked for more than {MOST_CHARACTERS:,} characters")
    texts = [value for value in values if isinstance(value, str)]
    if name == "replace" and len(texts) >= 3:
        text, old, new = texts[:3]
        _check_length(len(text) + text.count(old) * len(new))
    elif name == "format" and texts:
        _check_format(texts[0], WIDE)
    elif name == "join" and texts:
        items = max((len(value) for value in values if isinstance(value, list | tuple)), default=0)
        _check_length(items * max(map(len, texts)))
    for value in values:
        _bounded_value(value)


def _check_format(text: str, wide: re.Pattern[str]) -> None:
    if wide.search(text):
        raise TooMuchError(f"the format {text[:40]!r} may ask for any number of characters")


def _bounded_value(value: object) -> object:
    """The value, if it is not too large to be written: what stands several times in a list is written several times."""
    if isinstance(value, list | tuple | set | dict):
        _check_length(_size(value, {}))
    return value


def _size(value: object, known: dict[int, int]) -> int:
    """Characters and items, about."""
    if isinstance(value, str | bytes):
        return len(value)
    if not isinstance(value, list | tuple | set | dict):
        return 1
    if id(value) not in known:
        known[id(value)] = 1  # one that holds itself is written once more, as "..."
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


def _check_length(length: int) -> None:
    if length > MOST_CHARACTERS:
        raise TooMuchError(f"it makes more than {MOST_CHARACTERS:,} characters or items")


def _check_bits(bits: int) -> None:
    if bits > MOST_DIGITS * 3.33:
        raise TooMuchError(f"it computes a number of more than {MOST_DIGITS:,} digits")


def _no_length(items: object) -> NoReturn:
    raise TypeError(f"object of type {type(items).__name__!r} has no len()")
