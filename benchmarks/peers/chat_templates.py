"""Chat templates that people use, rendered by lmtasks and by transformers: every conversation must come out the same.

    python benchmarks/peers/chat_templates.py [--folder runs/peers/templates] [--wheels FOLDER]

The templates are those in the wheels of trl and axolotl, which pip fetches into an environment of its own; nothing of
them is copied into the project. Where pip cannot fetch them this says so and ends with code 0; with code 3 where a
template differs, or where there are fewer templates than there were.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from lmtasks.errors import UsageError, WorkError
from lmtasks.evaluation.chat import TODAY, ChatTemplate
from lmtasks.task.prompt import Message

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "runs" / "peers" / "templates"
WHEELS = ("trl==1.16.*", "axolotl==0.19.*")
TEMPLATES = 108
"""In these versions."""
SECONDS = 90
"""For each call of pip."""
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SETTINGS: Mapping[str, tuple[object, ...]] = {"enable_thinking": (False, True), "reasoning_effort": ("high",)}
"""Variables that are set one at a time, where a template reads them."""


def turns(*texts: str, system: str | None = None) -> list[Message]:
    """The user, the assistant, the user, ..."""
    said = [Message(role="assistant" if place % 2 else "user", content=text) for place, text in enumerate(texts)]
    return said if system is None else [Message(role="system", content=system), *said]


CONVERSATIONS: Mapping[str, list[Message]] = {
    "a question": turns("What is 2 + 2?"),
    "with a system turn": turns("What is 2 + 2?", system="Be brief."),
    "blanks around": turns("  What?\n", system=" Be brief. "),
    "other scripts": turns("दिन क्या है?", "一天。", "ฝนตกไหม", system="उत्तर दो।"),
    "worked examples": turns("1 + 1?", "2", "2 + 2?", "4", "3 + 3?", system="Add."),
    "words of templates": turns("<|im_start|>user [INST] {{ x }} </think> <", "e", "What?"),
    "lines": turns("```\ndef f(x):\n    return x\n```\n\nWhat?", "It returns x.", "Sure?"),
    "answer begun": turns("What is 2 + 2?", "It is"),
    "answer begun with <": turns("What is 2 + 2?", "<", system="Be brief."),
    "answer begun with e": turns("1 + 1?", "2", "What is 2 + 2?", "e"),
    "answer begun, blanks around": turns("What?", " Let me see: ", system="Be brief."),
    "answer begun by a thought": turns("What?", "<think>\nLet me see."),
    "answer begun in another script": turns("क्या?", "उत्तर है", system="उत्तर दो।"),
}


@dataclass(kw_only=True)
class Tally:
    """What came of it."""

    equal: int = 0
    refused: int = 0
    """Neither renders them: the template refuses such a conversation."""
    without_system: int = 0
    """The template refuses the system turn, and is asked without it; equal."""
    differing: list[str] = field(default_factory=list)


def fetched(folder: Path, *, wheels: Path | None) -> str:
    """Put the wheels' content into the folder; why that could not be done, else nothing."""
    if len(list(folder.rglob("*.jinja"))) == TEMPLATES:
        return ""
    python = folder / "venv" / "bin" / "python"
    offline = ["--no-index", "--find-links", str(wheels)] if wheels is not None else []
    install = [str(python), "-m", "pip", "install", "--no-deps", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=SECONDS)
        done = subprocess.run(
            [*install, "--retries", "0", "--timeout", "15", *offline, *WHEELS],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"pip took longer than {SECONDS} seconds"
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors[-1] if errors else "pip failed") if done.returncode else ""


def theirs(text: str, messages: Sequence[Message], settings: Mapping[str, object]) -> str | None:
    """As transformers renders it on the same day; None: it does not."""
    begins = messages[-1]["role"] != "assistant"
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[[dict(message) for message in messages]],
            chat_template=text,
            add_generation_prompt=begins,
            continue_final_message=not begins,
            **{**SPECIAL, **settings},
        )
    except (TemplateError, TypeError, ValueError):
        return None
    return str(rendered[0])


def ours(template: ChatTemplate, messages: Sequence[Message]) -> str | None:
    """The same by lmtasks."""
    try:
        return template(messages, messages[-1]["role"] != "assistant")
    except WorkError:
        return None


def templates(text: str) -> Iterator[tuple[dict[str, object], ChatTemplate]]:
    """Without settings, then with each that it reads."""
    for settings in ({}, *({name: value} for name, values in SETTINGS.items() for value in values)):
        try:
            yield settings, ChatTemplate(text, special=SPECIAL, where="the wheel", settings=settings)
        except UsageError:
            if not settings:
                raise


def compare(name: str, text: str, tally: Tally) -> None:
    """Every conversation through one template."""
    for settings, template in templates(text):
        for what, messages in CONVERSATIONS.items():
            mine, wanted = ours(template, messages), theirs(text, messages, settings)
            bare = [message for message in messages if message["role"] != "system"]
            if mine == wanted:
                tally.refused += mine is None
                tally.equal += mine is not None
            elif wanted is None and bare != messages and mine == theirs(text, bare, settings):
                tally.without_system += 1
            else:
                tally.differing.append(f"{name}, {what}, {settings or 'no settings'}:\n  {mine!r}\n  {wanted!r}")


class Fixed(datetime):
    """The clock of transformers, stopped."""

    @classmethod
    def now(cls, tz: Any = None) -> "Fixed":
        return cls(TODAY.year, TODAY.month, TODAY.day)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DEFAULT)
    parser.add_argument("--wheels", type=Path, help="a folder that holds the two wheels already")
    given = parser.parse_args()
    why_not = fetched(given.folder, wheels=given.wheels)
    if why_not:
        print(f"skipped: the wheels of {' and '.join(WHEELS)} cannot be had here ({why_not})")
        return 0
    chat_template_utils.datetime = Fixed
    files = sorted(given.folder.rglob("*.jinja"))
    tally = Tally()
    for file in files:
        compare(f"{file.parent.parent.name}/{file.name}", file.read_text(encoding="utf-8"), tally)
    for line in tally.differing:
        print(line)
    print(
        f"{len(files)} templates, {len(CONVERSATIONS)} conversations: {tally.equal} renderings equal, "
        f"{tally.without_system} equal without the system turn that the template refuses, {tally.refused} refused by "
        f"both, {len(tally.differing)} different"
    )
    return 3 if tally.differing or len(files) < TEMPLATES else 0


if __name__ == "__main__":
    sys.exit(main())
