"""The site of the documents: the pages that mkdocs.yml names, and whatever they lead to, laid side by side as in the
repository, so that a link is the same there, on a code host and here; then zensical, which holds every link.

python docs/make_site.py
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import yaml

ROOT = Path(__file__).parents[1]
HOW_TO_READ = "build/site/index.html; with search: python -m http.server --directory build/site"
PAGES, SITE = ROOT / "build" / "pages", ROOT / "build" / "site"
NO_LINKS = re.compile(r"```.*?```|`[^`\n]*`|<!--.*?-->", re.DOTALL)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s#]+)[^)\n]*\)")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def named(nav: object) -> Iterator[str]:
    """The pages of mkdocs.yml, in their order."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict | list):
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named(part)


def navigation() -> list[str]:
    """The pages of the site's own navigation."""
    return list(named(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))


def linked(page: Path) -> list[Path]:
    """Files of the repository that a page leads to, relative to its root."""
    text = NO_LINKS.sub("", page.read_text(encoding="utf-8"))
    targets = ((page.parent / link).resolve() for link in LINK.findall(text) if "://" not in link)
    return [target.relative_to(ROOT) for target in targets if target.is_relative_to(ROOT)]


def lay(pages: Sequence[str], *, out: Path) -> list[Path]:
    """Copy pages and what they lead to, and what that leads to.

    Returns:
        The files, relative to the root. A link that leads nowhere is left to zensical, which names its place.
    """
    shutil.rmtree(out, ignore_errors=True)
    waiting, seen = [Path(page) for page in pages], dict[Path, None]()
    while waiting:
        file = waiting.pop(0)
        notebook = (ROOT / file).with_suffix(".ipynb")
        if file in seen or not ((ROOT / file).is_file() or notebook.is_file()):
            continue
        seen[file] = None
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        if not (ROOT / file).is_file():
            (out / file).write_text(page_of(notebook), encoding="utf-8")
            shutil.copyfile(notebook, out / file.with_suffix(".ipynb"))
            continue
        shutil.copyfile(ROOT / file, out / file)
        if file.suffix == ".md":
            waiting += linked(ROOT / file)
    return list(seen)


def page_of(notebook: Path) -> str:
    """A notebook as a page: its texts, and its code without outputs."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = ("".join(cell["source"]) for cell in cells)
    shown = (
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
    )
    return "\n\n".join(shown) + f"\n\n[The notebook itself]({notebook.name})\n"


class Page(HTMLParser):
    """What a built page links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note down one element."""
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        target = given.get("href") or given.get("src")
        if target and not re.match(r"[a-z]+:|//", target):
            self.links.append(unquote(target))


def broken(site: Path) -> list[str]:
    """Links of the built pages that lead to no file of the site, or to no place in one."""
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html") if file.name != "404.html"}
    found = []
    for file, page in pages.items():
        for link in page.links:
            path, _, anchor = link.partition("#")
            target = (file.parent / path.partition("?")[0]).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file() and (not anchor or target not in pages or anchor in pages[target].anchors)
            if not there:
                found.append(f"{file.relative_to(site)}: {link}")
    return found


def build() -> int:
    """The exit code of zensical, whose complaints are printed without the lines that they are about; 1 where a link of
    the built pages leads nowhere, since zensical looks at those to pages alone."""
    lay(navigation(), out=PAGES)
    zensical = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(ROOT / "mkdocs.yml")]
    done = subprocess.run(zensical, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = COLOURS.sub("", done.stdout + done.stderr).partition("Traceback")[0].splitlines()
        print("\n".join(line[:200] for line in lines if "│" not in line), file=sys.stderr)
        return done.returncode
    wrong = broken(SITE)
    print("\n".join([*wrong, f"{len(wrong)} broken links"]) if wrong else HOW_TO_READ)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(build())
