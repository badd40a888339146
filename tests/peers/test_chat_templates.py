"""The script that holds chat templates against transformers: it tells what differs, and why it is skipped."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import chat_templates as script
import pytest

TEXT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


def test_equal_templates_count_and_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = script.Tally()
    script.compare("t", TEXT, tally)
    assert (tally.equal, tally.differing) == (len(script.CONVERSATIONS), [])
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}" + TEXT
    script.compare("strict", strict, tally)
    assert tally.without_system == sum(each[0]["role"] == "system" for each in script.CONVERSATIONS.values())
    monkeypatch.setattr(script, "ours", lambda template, messages: "something else")
    script.compare("t", TEXT, tally)
    assert len(tally.differing) == len(script.CONVERSATIONS)


def test_wheels_that_cannot_be_had_are_a_reason_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = SimpleNamespace(returncode=1, stderr="WARNING: hm\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: failed)
    monkeypatch.setattr("sys.argv", ["chat_templates.py", "--folder", str(tmp_path)])
    assert script.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("skipped: ")
    assert "No matching distribution" in said
