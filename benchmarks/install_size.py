"""Say how much pip is about to download, and about how long that takes: `make` runs it before the first installation.

    python benchmarks/install_size.py '.[test]'

pip itself says what it would fetch (`--dry-run --report`), each server how large that is, and the beginning of the
largest file how fast it comes. Whatever cannot be found out is said; nothing is installed, and nothing fails.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

SAMPLE_BYTES = 4_000_000
"""Of the largest file, by which the rate is measured."""
SECONDS = 20
"""That a server may take to answer."""


def wanted(arguments: Sequence[str]) -> list[str]:
    """The addresses of what pip would fetch.

    Raises:
        subprocess.SubprocessError: pip cannot say, without a network, say.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
    command += ["--report", "-", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return urls_of(json.loads(done.stdout))


def urls_of(report: Mapping[str, object]) -> list[str]:
    """The files of an installation report that come over a network.

    >>> urls_of({"install": [{"download_info": {"url": "https://a/b.whl"}}, {"download_info": {"url": "file:///c"}}]})
    ['https://a/b.whl']
    """
    installed = report.get("install")
    places = [each["download_info"]["url"] for each in installed] if isinstance(installed, list) else []
    return [place for place in places if place.startswith(("http://", "https://"))]


def size_of(url: str) -> int | None:
    """Bytes of a file, as its server says; None: it does not."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=SECONDS) as answer:  # the address is pip's
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None


def rate_of(url: str) -> float | None:
    """Bytes a second at which the beginning of a file comes; None: it does not come."""
    try:
        began = time.monotonic()
        wanted = Request(url, headers={"Range": f"bytes=0-{SAMPLE_BYTES - 1}"})
        with urlopen(wanted, timeout=SECONDS) as answer:
            read = len(answer.read(SAMPLE_BYTES))
        return read / max(1e-3, time.monotonic() - began)
    except OSError:
        return None


def sentence(sizes: Mapping[str, int | None], rate: float | None) -> str:
    """What is told.

    >>> sentence({"a": 900_000_000, "b": 100_000_000, "c": None}, 10_000_000).partition(";")[0]
    'pip downloads 1.0 GB in 3 packages (of 1 the size is not known), which takes 2 min now, and unpacks them'
    >>> sentence({}, None)
    'Everything is installed already.'
    """
    if not sizes:
        return "Everything is installed already."
    known = [size for size in sizes.values() if size is not None]
    total = sum(known)
    amount = f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{total / 1e6:.0f} MB"
    lacking = len(sizes) - len(known)
    unknown = f" (of {lacking} the size is not known)" if lacking else ""
    seconds = 0 if rate is None else total / rate
    takes = f"{-(-seconds // 60):.0f} min" if seconds > 60 else f"{max(1, seconds):.0f} s"
    how_long = "" if rate is None else f", which takes {takes} now,"
    packages = f"{len(sizes)} packages{unknown}"
    return f"pip downloads {amount} in {packages}{how_long} and unpacks them; less where pip has kept some."


def main(arguments: Sequence[str]) -> None:
    """Print the sentence, or why there is none."""
    try:
        urls = wanted(arguments)
    except (subprocess.SubprocessError, OSError, ValueError, KeyError):
        print("How much pip will download is not known before it does; it may be some gigabytes.", flush=True)
        return
    with ThreadPoolExecutor(max_workers=8) as pool:
        sizes = dict(zip(urls, pool.map(size_of, urls), strict=True))
    largest = max(urls, key=lambda url: sizes[url] or 0, default=None)
    print(sentence(sizes, rate_of(largest) if largest is not None else None), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
