"""A Hugging Face Hub of one process: repositories of small files in memory, over HTTP on loopback."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class FakeHub(ThreadingHTTPServer):
    """commits: the files of every commit of a repository, the newest last; a commit's ID is the sha1 of its number.

    Datasets are named as in addresses, ``datasets/me/set``. private: whether a repository was made so.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """One that answers until the block ends."""
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def environment(url: str, home: Path) -> dict[str, str]:
    """Of a process that takes it for the Hub: huggingface_hub reads its environment once."""
    return {
        **os.environ,
        **{"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"},
        **{"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"},
    }


def _kind(repo_type: str | None) -> str:
    return "datasets/" if repo_type == "dataset" else ""


def commit_id(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self._chunks()
        path = self.path.partition("?")[0]
        commits = self.server.commits
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = _kind(asked.get("type")) + f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
            known = name in commits
            commits.setdefault(name, [])
            self._json({"url": f"{self.server.url}/{name}", "id": name}, 409 if known else 200)
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
            self._json({"files": modes})
        elif "/commit/" in path:
            name = path.removeprefix("/api/").removeprefix("models/").partition("/commit/")[0]
            files = dict(commits[name][-1]) if commits[name] else {}
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            commits[name].append(files)
            made = commit_id(len(commits[name]))
            self._json({"commitUrl": f"{self.server.url}/{name}/commit/{made}", "commitOid": made, "hookOutput": ""})
        else:
            self._json({"error": f"POST {path}"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0]
        name, found, rest = path.strip("/").partition("/resolve/")
        if found and name in self.server.commits:
            revision, _, file = rest.partition("/")
            commits = self.server.commits[name]
            numbers = {commit_id(n): n for n in range(1, len(commits) + 1)} | {"main": len(commits)}
            files = commits[numbers[revision] - 1]
            self.server.asked.append(f"{revision} {file}")
            if file in files:
                data = files[file]
                self.send_response(200)
                self.send_header("X-Repo-Commit", commit_id(numbers[revision]))
                self.send_header("ETag", json.dumps(hashlib.sha1(data).hexdigest()))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data if body else b"")
                return
            self._json({"error": "Entry not found"}, 404, "EntryNotFound", commit=commit_id(numbers[revision]))
            return
        about = path.removeprefix("/api/").removeprefix("models/")
        name, tree, revision = about.partition("/tree/" if "/tree/" in about else "/revision/")
        if name in self.server.commits:
            self._about(name, revision or "main", as_tree="tree" in tree)
            return
        self._json({"error": "Repository not found"}, 404, "RepoNotFound")

    def _about(self, name: str, revision: str, as_tree: bool) -> None:
        """What a repository holds at a revision."""
        commits = self.server.commits[name]
        numbers = {commit_id(n): n for n in range(1, len(commits) + 1)} | {"main": len(commits)}
        if revision not in numbers:
            self._json({"error": f"Invalid rev id: {revision}"}, 404, "RevisionNotFound")
            return
        files = commits[numbers[revision] - 1] if commits else {}
        if as_tree:
            hashes = {file: hashlib.sha1(data).hexdigest() for file, data in files.items()}
            self._json([{"type": "file", "path": f, "size": len(files[f]), "oid": hashes[f]} for f in files])
            return
        names = [{"rfilename": file} for file in files]
        self._json({"id": name, "sha": commit_id(numbers[revision]), "siblings": names, "tags": [], "downloads": 0})

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value: Any, status: int = 200, code: str = "", commit: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Nothing on the test's screen."""
