"""Templates of strangers: what they may ask for, and that nothing else of Jinja changes."""

import pytest

from lmtasks.errors import UsageError
from lmtasks.task import bounded_jinja
from lmtasks.task.bounded_jinja import TooMuchError, bounded_copy, bounded_environment
from lmtasks.task.templates import Place, render

PLACE = Place(task="t", field="doc_to_text")


def nested(value: object, times: int) -> object:
    for _ in range(times):
        value = [value]
    return value


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in many %}{% for b in many %}{% for c in many %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ 10 ** 10000000 }}",
        "{{ (10 ** 9999) * (10 ** 9999) }}",
        "{{ lipsum(100000) }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ [many] * 10 ** 9 }}",
        "{{ [['x'] * 1000] * 1000 * 1000 }}",
        "{{ (['x' * 1000000] * 1000) | string }}",
        "{{ (['x' * 1000000] * 1000) | join }}",
        "{{ many | join('x' * 1000000) }}",
        "{{ ('x' * 1000000).replace('', 'y' * 1000) }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000) }}",
        "{{ 'a'.center(10 ** 9) }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ 'a' | indent(10 ** 9, true) }}",
        "{{ 'a'.zfill(10 ** 9) }}",
        "{{ 'a' | batch(10 ** 9, 'x') | list }}",
        "{{ [1] | tojson(indent=10 ** 9) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ '%*d' % (10 ** 9, 1) }}",
        "{{ '%.999999999f' % 1 }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10 ** 9) }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * 60 + "{{ a }}",
        "{% set n = namespace(l=[]) %}{% for a in many %}{% set n.l = [n.l, 'x' * 9999999] %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ deep }}",
    ],
)
def test_what_would_hold_the_machine_is_refused(template: str) -> None:
    row = {"many": list(range(300)), "deep": nested(1, 5000)}
    with pytest.raises(UsageError, match=r"task t: doc_to_text (asks for too much|calls itself|names 'lipsum')"):
        render(template, row=row, place=PLACE)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{% for i in [1, 2, 3] %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}",
            "1/3,2/3,3/3",
        ),
        ("{% for k, v in d.items() %}{{ k }}={{ v }} {% endfor %}{% for k in d %}{{ k }}{% endfor %}", "a=1 b=2 ab"),
        ("{% for i in range(3) if i > 0 %}{{ i }}{% else %}none{% endfor %}", "12"),
        ("{% for i in [] %}{% else %}none{% endfor %}", "none"),
        ("{% for i in tree recursive %}{{ i.n }}{{ loop(i.c) }}{% endfor %}", "12"),
        ("{{ 'a' ~ 1 ~ 'b' }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ [1] + [2] }}{{ 2 * 'ab' }}", "a1b10243[1, 2]abab"),
        (
            "{{ '%s has 1000000 of 100 %%' % 3 }}{{ '%05d' | format(42) }}{{ '{:5}|{a}'.format(1, a=2) }}",
            "3 has 1000000 of 100 %00042    1|2",
        ),
        ("{{ words | join(', ') }}{{ words | map('upper') | list }}{{ 'a' | center(5) }}", "ab, c['AB', 'C']  a  "),
        ("{% set n = namespace(i=0) %}{% for i in range(4) %}{% set n.i = n.i + i %}{% endfor %}{{ n.i }}", "6"),
        ("{{ 'a1b22' | regex_replace('[0-9]+', '#') }}", "a#b#"),
    ],
)
def test_everything_else_is_as_in_jinja(template: str, text: str) -> None:
    row = {"d": {"a": 1, "b": 2}, "words": ["ab", "c"], "tree": [{"n": 1, "c": [{"n": 2, "c": []}]}]}
    assert render(template, row=row, place=PLACE) == text


def test_a_long_document_is_no_attack() -> None:
    text = "word " * 2_000_000
    assert render("{{ text }}\nSummary:", row={"text": text}, place=PLACE) == f"{text}\nSummary:"


def test_bounds_begin_anew_with_each_rendering() -> None:
    for _ in range(20):
        render("{% for i in range(99999) %}{% endfor %}", row={}, place=PLACE)


def test_seconds_end_what_the_other_bounds_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_jinja, "MOST_SECONDS", 0.0)
    with pytest.raises(UsageError, match="takes longer than 0 seconds"):
        render("{% for i in range(9) %}{% endfor %}", row={}, place=PLACE)


def test_a_pattern_in_a_template_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtasks.timed_regex.MOST_SECONDS", 0.05)
    with pytest.raises(UsageError, match=r"'\(a\|aa\)\+\$' took longer than 0.05 seconds on a text of 61"):
        render("{{ text | regex_replace('(a|aa)+$', '') }}", row={"text": "a" * 60 + "b"}, place=PLACE)


def test_an_environment_of_somebody_else_is_bounded_with_its_own_filters() -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    other = ImmutableSandboxedEnvironment(trim_blocks=True)
    other.filters["shout"] = lambda text: f"{text}!"
    copy = bounded_copy(other)
    copy.begin()
    assert copy.from_string("{{ 'a' | shout }}{% if true %}\nb{% endif %}").render() == "a!b"
    copy.begin()
    with pytest.raises(TooMuchError):
        copy.from_string("{{ 'x' * 10 ** 9 }}").render()
    assert other.from_string("{{ 2 ** 3 }}").render() == "8"


def test_digits_without_end_are_a_text_and_brackets_without_end_no_list() -> None:
    from lmtasks.task.templates import column_value

    assert render("{{ n }}", row={"n": "9" * 6000}, place=PLACE) == "9" * 6000
    text = "[" * 100_000 + "]" * 100_000
    assert column_value("{{ t }}", row={"t": text}, place=PLACE) == text


def test_a_bounded_environment_knows_no_lipsum() -> None:
    assert "lipsum" not in bounded_environment().globals
