"""The pictures of a page that README shows, taken of a published report in headless Chromium: the decision, and what
follows it, as a reader sees it first.

    python docs/make_pictures.py reports/starter

Writes docs/images/page.png and page.zh.png, each of at most 250 kB. It needs what the tests of pages need:
`pip install lmtasks[browser]`, and Chromium (`apt-get install chromium`).
"""

import shutil
import sys
import tempfile
from pathlib import Path

from lmtasks.report.records import read_run
from lmtasks.report.samples import read_samples
from lmtasks.report.view import view
from lmtasks.report.write import render_page
from lmtasks.settings.evaluation import PageLanguage

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images"
PICTURES: dict[PageLanguage, str] = {"en": "page.png", "zh": "page.zh.png"}
WIDTH, HEIGHT, SCALE = 1280, 900, 1.5
MOST_BYTES = 250_000


def main(folder: Path) -> int:
    """Take both pictures; 1 where one is too large."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    run, code = read_run(folder), 0
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for language, name in PICTURES.items():
            page = Path(place) / f"{language}.html"
            report = view(run, samples=read_samples(run, out=Path(place)))
            page.write_text(render_page(report, language=language), encoding="utf-8")
            shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=SCALE)
            shown.goto(page.as_uri())
            shown.screenshot(path=OUT / name)
            small(OUT / name)
            size = (OUT / name).stat().st_size
            print(f"{OUT / name}: {size / 1000:.0f} kB")
            code |= size > MOST_BYTES
        browser.close()
    return code


def small(file: Path) -> None:
    """The same picture in 128 colours, which a page of text has fewer than, where Pillow is there."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "reports" / "starter"))
