"""A Hugging Face Hub on this machine: a server that speaks its protocol.

`Hub` answers what huggingface_hub, transformers and datasets ask when HF_ENDPOINT points to it, can fail on purpose and
keeps a log of the requests. What it serves: hub_models.py, hub_data.py.
"""

import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from urllib.parse import parse_qs, unquote

LARGE = (".safetensors", ".parquet")  # the Hub keeps such files apart and redirects to another host
ID = r"(?P<id>[^/]+(?:/(?!(?:revision|tree|paths-info|resolve)/)[^/]+)?)"
API = re.compile(
    rf"/api/(?P<kind>models|datasets)/{ID}(?:/(?P<what>revision|tree|paths-info)/(?P<rev>[^/]+)(?P<path>/.*)?)?"
)
FILE = re.compile(rf"(?:/(?P<kind>datasets))?/{ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
BLOB = re.compile(r"/blob/(?P<sha>[0-9a-f]{64})/.+")


@dataclass
class Repo:
    kind: str
    """`models` or `datasets`"""
    id: str
    commits: dict[str, Path] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def resolve(self, revision: str) -> str | None:
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class Fault:
    """What happens to the next `times` requests whose path has a match of the regular expression `path`."""

    path: str
    times: int
    status: int = 0
    """Answered instead; 0: the connection is cut after `after` bytes of a file."""
    after: int = 0


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    status: int
    sent: int
    """Bytes of the body, as far as it went."""


class Hub:
    """`with Hub() as hub:` serves on 127.0.0.1; `hub.url` is what HF_ENDPOINT wants."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "Hub":
        self.server = Server(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": self}))
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add(
        self, kind: str, id: str, folder: Path, *, alias: str = "", commit: str = "", ref: str = "main", gated=False
    ) -> str:
        """Put the files in `folder` on `ref` and return the commit; `alias` is a former name that redirects."""
        repo = self.repos.setdefault((kind, id), Repo(kind, id))
        repo.gated = gated
        names = [(name, digest(folder / name)) for name in files(folder)]
        commit = commit or hashlib.sha1(repr(names).encode()).hexdigest()
        repo.commits[commit] = folder
        repo.refs[ref] = commit
        if alias:
            self.aliases[kind, alias] = id
        return commit

    def sent(self, part: str) -> int:
        """Bytes sent from paths that contain `part`."""
        return sum(request.sent for request in self.requests if part in request.path)

    def fault(self, path: str, of_status: bool) -> Fault | None:
        """The fault due now, counted down."""
        with self.lock:
            for fault in self.faults:
                if fault.times and bool(fault.status) == of_status and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that has ended
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    timeout = 30

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        form = parse_qs(self.rfile.read(length).decode())
        path, _, query = self.path.partition("?")
        if fault := self.hub.fault(path, of_status=True):
            self.error(fault.status, "", "Service Unavailable")
        elif match := BLOB.fullmatch(path):
            self.blob(match["sha"])
        elif match := API.fullmatch(path):
            self.api(match, parse_qs(query), form)
        elif match := FILE.fullmatch(path):
            self.file(match)
        else:
            self.error(404, "", "Not Found")

    do_GET = do_HEAD = do_POST = do_CONNECT = answer

    # What the Hub answers

    def api(self, match: re.Match, query: dict[str, list[str]], form: dict[str, list[str]]) -> None:
        if not (repo := self.repo(match["kind"], match["id"])):
            return
        commit = self.commit(repo, unquote(match["rev"] or "main"))
        if not commit:
            return
        folder, path = repo.commits[commit], unquote(match["path"] or "").strip("/")
        if match["what"] == "tree":
            entries = tree(folder, path, query.get("recursive", ["false"])[0].lower() == "true")
            if not entries:
                return self.error(404, "EntryNotFound", f"{path} does not exist on '{unquote(match['rev'])}'", commit)
            self.json(entries)
        elif match["what"] == "paths-info":
            wanted = [entry for entry in tree(folder, "", True) if entry["path"] in form.get("paths", [])]
            self.json(wanted)
        else:
            self.json(
                {
                    "id": repo.id,
                    "sha": commit,
                    "private": False,
                    "gated": "auto" if repo.gated else False,
                    "tags": [],
                    "siblings": [{"rfilename": name} for name in files(folder)],
                }
            )

    def file(self, match: re.Match) -> None:
        kind = match["kind"] or "models"
        if not (repo := self.repo(kind, match["id"])):
            return
        if repo.gated:
            message = f"Access to {kind[:-1]} {repo.id} is restricted."
            if self.headers.get("Authorization"):
                return self.error(403, "GatedRepo", f"{message} Visit its page to ask for access.")
            return self.error(401, "GatedRepo", f"{message} You must have access to it and be authenticated.")
        if not (commit := self.commit(repo, unquote(match["rev"]))):
            return
        if unquote(match["path"]) not in files(repo.commits[commit]):
            return self.error(404, "EntryNotFound", "Entry not found", commit)
        path = repo.commits[commit] / unquote(match["path"])
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes", "ETag": f'"{digest(path)}"'}
        if path.suffix in LARGE:
            # By another name, so another host: the client must not send its token there.
            headers["Location"] = f"http://localhost:{self.hub.port}/blob/{digest(path)}/{path.name}"
            headers["X-Linked-Size"] = str(path.stat().st_size)
            headers["X-Linked-ETag"] = headers["ETag"]
            return self.send(302, b"Found", headers)
        self.content(path, headers)

    def blob(self, sha: str) -> None:
        for repo in self.hub.repos.values():
            for folder in repo.commits.values():
                for name in files(folder):
                    if digest(folder / name) == sha:
                        return self.content(folder / name, {"ETag": f'"{sha}"', "Accept-Ranges": "bytes"})
        self.error(404, "", "No such blob")

    def repo(self, kind: str, id: str) -> Repo | None:
        if new := self.hub.aliases.get((kind, id)):
            self.send(307, b"Temporary Redirect", {"Location": self.path.replace(id, new, 1)})
            return None
        repo = self.hub.repos.get((kind, id))
        if repo is None and self.headers.get("Authorization"):
            self.error(404, "RepoNotFound", "Repository not found")
        elif repo is None:  # it could be a private one; of an https endpoint, 401 alone means this to the client
            self.error(401, "RepoNotFound", "Invalid username or password.")
        return repo

    def commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.resolve(revision)
        if not commit:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # How it goes over the wire

    def content(self, path: Path, headers: dict[str, str]) -> None:
        body, status = path.read_bytes(), 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            size, start = len(body), int(match[1])
            end = min(int(match[2] or size - 1), size - 1)
            if start >= size:
                return self.send(416, b"", {"Content-Range": f"bytes */{size}"})
            body, status = body[start : end + 1], 206
            headers = {**headers, "Content-Range": f"bytes {start}-{end}/{size}"}
        fault = self.hub.fault(self.path, of_status=False) if self.command == "GET" else None
        self.send(status, body, headers, fault.after if fault else None)

    def json(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str, message: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self.send(status, json.dumps({"error": message}).encode(), {k: v for k, v in headers.items() if v})

    def send(self, status: int, body: bytes, headers: dict[str, str], cut_after: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        body = b"" if self.command == "HEAD" else body[:cut_after]
        with self.hub.lock:
            self.hub.requests.append(Request(self.command, self.path, status, len(body)))
        self.wfile.write(body)
        if cut_after is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr: `hub.requests` is the log."""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@cache
def digest(path: Path) -> str:
    """What the Hub gives as ETag: the SHA-256 of a large file, git's hash of any other. Served files never change."""
    content = path.read_bytes()
    if path.suffix in LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def tree(folder: Path, path: str, recursive: bool) -> list[dict]:
    entries = {}
    for name in files(folder):
        if path and name != path and not name.startswith(f"{path}/"):
            continue
        below = name.removeprefix(path).strip("/").split("/")
        for depth in range(1, len(below)):
            parent = "/".join(filter(None, [path, *below[:depth]]))
            entries[parent] = {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
        size = (folder / name).stat().st_size
        entries[name] = {"type": "file", "path": name, "oid": digest(folder / name), "size": size}
        if name.endswith(LARGE):
            entries[name]["lfs"] = {"oid": digest(folder / name), "size": size, "pointerSize": 134}
    return [entry for name, entry in entries.items() if recursive or "/" not in name.removeprefix(path).strip("/")]
