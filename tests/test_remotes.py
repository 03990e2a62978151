"""Data and models over SSH and S3, to servers on this machine: pushed, cut off, resumed, pulled by a colleague."""

import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from conftest import ENVIRONMENT, GOAL, Project, copy_of
from moto.server import ThreadedMotoServer

pytestmark = pytest.mark.slow

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


class Proxy:
    """Passes connections on to a port of this machine; ends all of them, old and new, after `limit` bytes to there."""

    def __init__(self, port: int, limit: int):
        self.target, self.left = port, limit
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.open: list[socket.socket] = [self.server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while self.left > 0:
            try:
                near, _ = self.server.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.open += [near, far]
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                self.left -= len(data) * counted
                if self.left <= 0:
                    self.close()
                target.sendall(data)

    def close(self) -> None:
        for each in self.open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Remote:
    """A server, and how a project is told of it."""

    def __init__(self, kind: str, port: int, folder: Path):
        self.kind, self.port, self.folder = kind, port, folder
        self.environment = {
            **{key: value for key, value in ENVIRONMENT.items() if not key.lower().endswith("_proxy")},
            "HOME": str(folder),  # with no keys, hosts or settings of the user's
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def use(self, project: Project, port: int) -> None:
        """As default remote, in settings that git does not track."""
        if self.kind == "ssh":
            options = {"url": f"ssh://127.0.0.1:{port}{self.folder}/store", "keyfile": self.folder / "key"}
        else:
            options = {"url": "s3://store/tiny", "endpointurl": f"http://127.0.0.1:{port}"}
        lines = ["['remote \"storage\"']", *(f"{key} = {value}" for key, value in options.items())]
        (project.folder / ".dvc/config.local").write_text("\n".join(lines) + "\n")

    def contents(self) -> dict[str, bytes]:
        """What is there, by its name without slashes from `md5` on."""
        if self.kind == "ssh":
            files = {str(path): path.read_bytes() for path in (self.folder / "store").rglob("*") if path.is_file()}
        else:
            bucket = boto3.resource("s3", **self.login()).Bucket("store")
            files = {each.key: each.get()["Body"].read() for each in bucket.objects.all()}
        return {name.partition("/md5/")[2].replace("/", ""): content for name, content in files.items()}

    def damage(self, name: str, content: bytes) -> None:
        place = f"files/md5/{name[:2]}/{name[2:]}"
        if self.kind == "ssh":
            (self.folder / "store" / place).write_bytes(content)
        else:
            boto3.client("s3", **self.login()).put_object(Bucket="store", Key=f"tiny/{place}", Body=content)

    def login(self) -> dict[str, str]:
        return {
            "endpoint_url": f"http://127.0.0.1:{self.port}",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "region_name": "us-east-1",
        }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Remote]:
    if SSHD is None:
        pytest.skip("no sshd: Debian has it in openssh-server")
    folder = tmp_path / "ssh"
    folder.mkdir()
    for key in ("key", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    port = free_port()
    config = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "key.pub",
        "PidFile": folder / "pid",
        "StrictModes": "no",  # pytest's folders are others' to read
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd wants, and a container may lack
    log = (folder / "log").open("w")
    with log, subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log) as server:
        try:
            for _ in range(100):
                if server.poll() is not None:
                    pytest.fail((folder / "log").read_text())
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield Remote("ssh", port, folder)
        finally:
            server.terminate()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[Remote]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        folder = tmp_path / "s3"
        folder.mkdir()
        remote = Remote("s3", server.get_host_and_port()[1], folder)
        boto3.client("s3", **remote.login()).create_bucket(Bucket="store")
        yield remote
    finally:
        server.stop()


@pytest.mark.parametrize("kind", ["ssh", "s3"])
def test_a_push_that_is_cut_off_goes_on_and_a_colleague_runs_nothing_again(
    trained: Project, tmp_path: Path, request: pytest.FixtureRequest, kind: str
):
    remote: Remote = request.getfixturevalue(kind)
    project = copy_of(trained, tmp_path / "project")

    def dvc(project: Project, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        return project.run("dvc", *command, check=check, environment=remote.environment)

    # Cut off in the middle: an error, and nothing in the remote that is not whole.
    cache = [path for path in (project.folder / ".dvc/cache").rglob("*") if path.is_file()]
    proxy = Proxy(remote.port, sum(path.stat().st_size for path in cache) // 2)
    try:
        remote.use(project, proxy.port)
        cut = dvc(project, "push", "--with-deps", GOAL, check=False)
    finally:
        proxy.close()
    assert proxy.left <= 0
    assert cut.returncode and "ERROR: " in cut.stderr and "Traceback" not in cut.stderr, cut.stderr
    before = remote.contents()
    assert all(
        name.startswith(hashlib.md5(content).hexdigest()) for name, content in before.items() if ".tmp" not in name
    )

    # Resumed: what lacks, and no more.
    remote.use(project, remote.port)
    dvc(project, "push", "--with-deps", GOAL)
    assert "Everything is up to date" in dvc(project, "push", "--with-deps", GOAL).stdout
    stored = remote.contents()
    assert len(before) < len(stored)

    # A colleague clones and pulls: nothing runs.
    colleague = Project(tmp_path / "colleague")
    project.run("git", "clone", "-q", str(project.folder), str(colleague.folder))
    remote.use(colleague, remote.port)
    dvc(colleague, "pull", "--with-deps", GOAL)
    assert "Running stage" not in dvc(colleague, "repro", GOAL).stdout
    name = "models/lora-v1/adapter_model.safetensors"
    weights = (colleague.folder / name).read_bytes()
    assert weights == (project.folder / name).read_bytes()

    # A file that is damaged there is named, and not taken.
    hashed = hashlib.md5(weights).hexdigest()
    remote.damage(hashed, weights[:-1] + bytes([weights[-1] ^ 1]))
    shutil.rmtree(colleague.folder / ".dvc/cache")
    shutil.rmtree(colleague.folder / "models")
    refused = dvc(colleague, "pull", "models/lora-v1", check=False)
    assert refused.returncode and "models/lora-v1" in refused.stderr, refused.stderr
    assert not (colleague.folder / name).exists()


def test_a_colleague_changes_one_parameter_and_sees_the_difference(trained: Project, tmp_path: Path):
    """With the remote that the project comes with: a folder beside it."""
    project = copy_of(trained, tmp_path / "mine/project")
    project.run("dvc", "push", "--with-deps", GOAL)
    colleague = Project(tmp_path / "mine/colleague")
    project.run("git", "clone", "-q", str(project.folder), str(colleague.folder))
    colleague.run("dvc", "pull", "--with-deps", GOAL)
    train = colleague.read_yaml("params.yaml")["train"]
    colleague.edit_yaml("params.yaml", train={**train, "epochs": 2})
    ran = [line for line in colleague.run("dvc", "repro", GOAL).stdout.splitlines() if line.startswith("Running stage")]
    assert [line.split("'")[1] for line in ran] == [
        *("settings", "train_lora@v1", "evaluate@lora-v1", "package@lora-v1")
    ]
    changed = {line.split()[1] for line in colleague.run("dvc", "params", "diff").stdout.splitlines()[1:]}
    assert changed == {"train.epochs"}
    assert "metrics/lora-v1.json" in colleague.run("dvc", "metrics", "diff").stdout
