"""A small HTTP server shaped like the Hub, for data sets: what `huggingface_hub` and `datasets` ask, and no more.

Repositories are given as {id: {revision: {file name: bytes}}}. Every request is noted in `requests`.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

Repositories = Mapping[str, Mapping[str, Mapping[str, bytes]]]


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, repositories: Repositories, *, tokens: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.tokens = tokens
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(repositories: Repositories, *, tokens: Mapping[str, str]) -> Iterator[HubServer]:
    """Args: tokens: {id: token} of those repositories that are not open to everybody."""
    server = HubServer(repositories, tokens=tokens)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def commit_of(files: Mapping[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(files.items()))).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        api = path.startswith("/api/datasets/")
        rest = path.removeprefix("/api").removeprefix("/datasets/")
        repo = next((name for name in self.server.repositories if rest == name or rest.startswith(f"{name}/")), None)
        if repo is None:
            return self._fail(404 if not api else 401, "RepoNotFound", "Repository not found")
        token = self.server.tokens.get(repo)
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            return self._fail(401, "GatedRepo", "Access to this data set is restricted.")
        action, _, rest = rest.removeprefix(repo).strip("/").partition("/")
        found = self._revision(repo, rest if action else "main")
        if found is None:
            return self._fail(404, "RevisionNotFound", "Invalid rev id")
        files, rest = found
        if action in ("", "revision"):
            siblings = [{"rfilename": name} for name in files]
            return self._json({"id": repo, "sha": commit_of(files), "private": False, "siblings": siblings})
        if action == "tree":
            entries = [_entry(name, files[name]) for name in files if name.startswith(f"{rest}/") or not rest]
            folders = {name[:index] for name in files for index in range(len(name)) if name[index] == "/"}
            entries += [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]
            return self._json(entries) if entries else self._fail(404, "EntryNotFound", "no such folder")
        if action == "paths-info":
            asked = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
            entries = [_entry(name, files[name]) for name in asked if name in files]
            entries += [
                {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
                for name in asked
                if name not in files and any(file.startswith(f"{name}/") for file in files)
            ]
            return self._json(entries)
        if action == "resolve" and rest in files:
            return self._file(files[rest], commit=commit_of(files))
        return self._fail(404, "EntryNotFound", "Entry not found")

    def _revision(self, repo: str, rest: str) -> tuple[Mapping[str, bytes], str] | None:
        for name, files in self.server.repositories[repo].items():
            for revision in (name, commit_of(files)):
                if rest == revision or rest.startswith(f"{revision}/"):
                    return files, rest.removeprefix(revision).strip("/")
        return None

    def _file(self, data: bytes, *, commit: str) -> None:
        status, part, headers = 200, data, {}
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            status, part = 206, data[start : end + 1]
            headers = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
        headers |= {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        self._send(status, part, headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
