"""A small Hugging Face Hub on this machine: what huggingface_hub asks for a look and a commit, and nothing more."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_of_this_test"


@dataclass
class FakeHub:
    """`private` and `files` of each repository. Large files are taken by git-lfs when `lfs`, else in the commit."""

    url: str = ""
    lfs: bool = False
    private: dict[str, bool] = field(default_factory=dict[str, bool])
    files: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    commits: list[str] = field(default_factory=list[str])
    cards: list[str] = field(default_factory=list[str])
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON for a request."""
        if path.startswith("/lfs/"):
            self.objects[path.removeprefix("/lfs/")] = body
            return 200, {}
        said = json.loads(body) if body and not path.endswith("/commit/main") else {}
        if path == "/api/repos/create":
            repo = f"{said['organization']}/{said['name']}"
            if repo in self.private:
                return 409, {"error": "You already created this model repo", "url": f"{self.url}/{repo}"}
            self.private[repo], self.files[repo] = said.get("visibility") == "private", {}
            return 200, {"url": f"{self.url}/{repo}", "name": repo}
        if path == "/api/validate-yaml":
            self.cards.append(said["content"])
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            large = [f["path"] for f in said["files"] if self.lfs and f["path"].endswith(".safetensors")]
            modes = {f["path"]: "lfs" if f["path"] in large else "regular" for f in said["files"]}
            return 200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [{**o, "actions": {"upload": {"href": f"{self.url}/lfs/{o['oid']}"}}} for o in said["objects"]]
            return 200, {"transfer": "basic", "objects": objects}
        if path.endswith("/commit/main"):
            return 200, self._commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
        repo = path.removeprefix("/api/models/")
        if repo not in self.private:
            return 404, {"error": "Repository not found"}
        siblings = [{"rfilename": name} for name in self.files[repo]]
        return 200, {"id": repo, "private": self.private[repo], "siblings": siblings}

    def _commit(self, repo: str, body: bytes) -> dict[str, str]:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.files[repo][value["path"]]
            else:
                self.files[repo][value["path"]] = self.objects[value["oid"]]
        return {"commitUrl": f"{self.url}/{repo}/commit/1", "commitOid": "1" * 40}


@contextmanager
def fake_hub(lfs: bool = False) -> Iterator[FakeHub]:
    """A hub that lets in whoever has TOKEN."""
    hub = FakeHub(lfs=lfs)

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.path.startswith("/lfs/") or self.headers.get("Authorization") == f"Bearer {TOKEN}"
            repo, _, file = self.path.removeprefix("/").partition("/resolve/main/")
            if known and file:
                status, data = 200, hub.files[repo][file]
            else:
                status, said = hub.answer(self.path, body) if known else (401, {"error": "Invalid credentials"})
                data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "1" * 40)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = respond  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
