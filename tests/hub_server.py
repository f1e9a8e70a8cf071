# SPDX-License-Identifier: Apache-2.0
"""A local server that stands for the hub: facts, trees and files of models, commits and uploads.

Its endpoints are those that huggingface_hub's client asks: a branch points to a commit, large
files are sent first (LFS), and a commit is a list of JSON lines.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants

from pippin.system.offline import LIBRARY_SWITCHES, SWITCH

COMMIT = "a" * 40
"""The commit of models that nobody has pushed."""


@dataclass
class Hub:
    """State of the server, and what it was asked."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Model -> file name -> content; of a pushed one, those of its branch main."""
    requests: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Model, or a path of the API, -> status and error code of every answer."""
    reason: str = ""
    """Words of every refusal."""
    damage: list[str] = field(default_factory=list)
    """Files that are sent damaged, once for each entry."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Path -> content of plain files, which may be asked for in parts."""
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    """Pushed model -> branch -> commit."""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> file name -> content."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """sha256 -> content of an uploaded large file."""
    private: dict[str, bool] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    """Values of the header Authorization."""
    url: str = ""

    def resolve(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(commit, files) of a branch or commit; None where there is none."""
        if name not in self.branches:
            return COMMIT, self.models[name]
        commit = self.branches[name].get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None

    def create(self, name: str) -> None:
        self.branches[name] = {}
        self.commit(name, "main", {".gitattributes": b""})

    def commit(self, name: str, branch: str, files: dict[str, bytes]) -> str:
        text = repr((name, branch, len(self.commits), sorted(files)))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit], self.branches[name][branch] = files, commit
        if branch == "main":
            self.models[name] = files
        return commit


class Handler(BaseHTTPRequestHandler):
    """The requests of the hub's client."""

    def do_HEAD(self):
        self.do_GET(send_body=False)

    def do_GET(self, send_body=True):
        hub, path = self.begin()
        if path in hub.files:
            return self.send_part(hub.files[path])
        name = self.model_of(path)
        if name is None:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"}, send_body)
        if refused := self.refusal(name, path):
            return self.answer(refused[0], b"", {"X-Error-Code": refused[1]}, send_body)
        rest = path.partition(name)[2].strip("/").split("/")
        if rest[0] == "refs":
            return self.answer_json(refs(hub, name))
        resolved = hub.resolve(name, rest[1] if len(rest) > 1 else "main")
        if resolved is None:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"}, send_body)
        commit, files = resolved
        if path.startswith("api/models/"):
            facts = tree(files) if rest[:1] == ["tree"] else model_facts(name, commit, files)
            return self.answer(200, json.dumps(facts).encode(), {}, send_body)
        return self.send_file(files, "/".join(rest[2:]), commit, send_body)

    def send_file(self, files, file, commit, send_body):
        """Answer resolve/COMMIT/FILE."""
        hub = self.server.hub
        if file not in files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"}, send_body)
        content = files[file]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        if send_body and file in hub.damage:
            hub.damage.remove(file)
            content = bytes(len(content))
        return self.answer(200, content, headers, send_body)

    def do_POST(self):
        hub, path = self.begin()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "api/validate-yaml":
            return self.answer_json({"warnings": [], "errors": []})
        if path == "api/repos/create":
            return self.create(json.loads(body))
        name = self.model_of(path)
        if name is None:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"}, True)
        if refused := self.refusal(name, path):
            return self.answer(refused[0], b"", {"X-Error-Code": refused[1]}, True)
        if path.endswith("objects/batch"):
            return self.answer_json(batch(hub, json.loads(body)))
        verb, _, branch = path.partition(f"{name}/")[2].partition("/")
        if verb == "branch":
            hub.branches[name][branch] = hub.branches[name]["main"]
            return self.answer_json({})
        if verb == "preupload":
            return self.answer_json(upload_modes(json.loads(body)))
        return self.commit(name, branch, body)

    def do_PUT(self):
        hub, path = self.begin()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        digest = path.removeprefix("upload/")
        if hashlib.sha256(body).hexdigest() != digest:
            return self.answer(400, b"", {}, True)
        hub.blobs[digest] = body
        return self.answer(200, b"", {}, True)

    def create(self, values):
        hub: Hub = self.server.hub
        name = "/".join(filter(None, (values.get("organization"), values["name"])))
        if refused := self.refusal(name, "api/repos/create"):
            return self.answer(refused[0], b"{}", {"X-Error-Code": refused[1]}, True)
        hub.create(name)
        hub.private[name] = values.get("visibility") == "private" or bool(values.get("private"))
        return self.answer_json({"url": f"{hub.url}/{name}"})

    def commit(self, name, branch, body):
        """Apply a commit's lines: its header, files, large files and removals."""
        hub: Hub = self.server.hub
        head = hub.branches[name][branch]
        files = dict(hub.commits[head])
        for line in body.splitlines():
            entry = json.loads(line)
            kind, value = entry["key"], entry["value"]
            if kind == "header" and value.get("parentCommit", head) != head:
                return self.answer(412, b"", {}, True)
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = hub.blobs[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        commit = hub.commit(name, branch, files)
        url = f"{hub.url}/{name}/commit/{commit}"
        return self.answer_json({"commitUrl": url, "commitOid": commit})

    def begin(self):
        hub: Hub = self.server.hub
        path = unquote(urlsplit(self.path).path).strip("/")
        hub.requests.append(f"{self.command} {path}")
        if self.headers.get("Authorization"):
            hub.tokens.add(self.headers["Authorization"])
        return hub, path

    def model_of(self, path):
        """The model that a path is about."""
        hub: Hub = self.server.hub
        names = {**hub.models, **hub.refusals}
        return next((n for n in names if f"{n}/" in f"{path}/".replace(".git/", "/")), None)

    def refusal(self, name, path):
        refusals = self.server.hub.refusals
        return next((r for key, r in refusals.items() if key == name or key in path), None)

    def send_part(self, content):
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=")[:-1])
        self.answer(206 if start else 200, content[start:], {}, True)

    def answer_json(self, values):
        self.answer(200, json.dumps(values).encode(), {"Content-Type": "application/json"}, True)

    def answer(self, status, body, headers, send_body):
        self.send_response(status)
        if status >= 400 and self.server.hub.reason:
            headers = headers | {"X-Error-Message": self.server.hub.reason}
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def lfs(content):
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def model_facts(name, commit, files):
    """Answer to a question for a model, with metadata of its files."""
    siblings = [
        {"rfilename": file, "size": len(content), "blobId": "0" * 40}
        | ({"lfs": lfs(content) | {"pointerSize": 100}} if file.endswith("tensors") else {})
        for file, content in files.items()
    ]
    return {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []}


def tree(files):
    return [
        {"type": "file", "path": file, "size": len(content), "oid": "0" * 40}
        | ({"lfs": lfs(content) | {"oid": lfs(content)["sha256"], "pointerSize": 100}})
        for file, content in files.items()
    ]


def refs(hub, name):
    branches = [
        {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commit}
        for branch, commit in hub.branches.get(name, {"main": COMMIT}).items()
    ]
    return {"branches": branches, "converts": [], "tags": []}


def upload_modes(values):
    """Large files go by LFS, as the hub's .gitattributes say; others are part of the commit."""
    return {
        "files": [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith("safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in values["files"]
        ]
    }


def batch(hub, values):
    """Where to send large files; those that are there already need no upload."""
    objects = []
    for entry in values["objects"]:
        upload = {"upload": {"href": f"{hub.url}/upload/{entry['oid']}", "header": {}}}
        objects.append(entry | ({} if entry["oid"] in hub.blobs else {"actions": upload}))
    return {"transfer": "basic", "objects": objects}


@contextmanager
def serving_hub(monkeypatch, cache, models=None):
    """The server instead of the hub, a cache, no switch of offline mode, and no token.

    Args:
        monkeypatch: pytest's.
        cache: folder of the hub's cache.
        models: models that exist.
    """
    for name in (SWITCH, *LIBRARY_SWITCHES, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    server.hub = Hub(models=models or {}, url=url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_DISABLE_XET": True,  # its uploads need servers of their own
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
