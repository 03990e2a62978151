"""A Python that has imported the libraries already: a stage or DVC that a test runs is a fork of it, seconds sooner.

`environment()` gives one in which `python -m stages.NAME`, `dvc` and launchers ask a server for such a fork, with its
own folder, environment, input and output; it imports `tunediff` anew. Any other `python` is the true one. The fork's
parent is the server, and all forks have one hash seed: tests of kills, of starting and of equal bytes take the true
one.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Mapping
from pathlib import Path

LIBRARIES = (
    *("torch", "torch.distributed.checkpoint.state_dict", "transformers.trainer", "transformers.pipelines"),
    *("transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert"),
    *("transformers.models.bert.tokenization_bert", "transformers.conversion_mapping", "safetensors.numpy"),
    *("accelerate", "peft", "datasets.io.parquet", "evaluate", "pandas", "pyarrow.parquet", "pydantic.type_adapter"),
    *("sklearn.linear_model", "sklearn.feature_extraction.text", "sklearn.model_selection", "sklearn.metrics"),
    *("sklearn.pipeline", "sklearn.multiclass", "scipy.stats", "statsmodels.stats.multitest", "cleanlab.filter"),
    *("pycrfsuite", "rensa", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "jinja2", "psutil", "yaml"),
    *("dvclive", "dvc.cli", "dvc.repo.reproduce", "dvc.repo.plots", "dvc.repo.experiments.run", "dulwich.porcelain"),
    *("dvc.repo.experiments.queue.celery", "dvc_task.app", "platformdirs"),
    *("torch.distributed.run", "accelerate.commands.launch", "torch.distributed.fsdp"),
)
ASK_CUDA = ("transformers.trainer", "peft")  # by bitsandbytes, if it is there; then no fork can use CUDA
# Read when the libraries are imported.
READ_AT_IMPORT = ("PYTHON", "HF_", "OMP_", "MKL_", "TORCH", "TRANSFORMERS_", "DATASETS_", "MPL", "http", "HTTP")
OF_LAUNCHERS = ("PYTHON_EXEC", "TORCHELASTIC_", "TORCH_NCCL_")  # begin so, too, and are read later
# A command, and the module that it is.
COMMANDS = {
    "python": "",
    "dvc": "dvc",
    "torchrun": "torch.distributed.run",
    "accelerate": "accelerate.commands.accelerate_cli",
}

CLIENT = """#!{python} -IS
import json, os, socket, sys
arguments = {first} + sys.argv[1:]
asked = arguments[1:] if arguments[:1] == ["-u"] else arguments
if asked[:1] != ["-m"] or not (asked[1] in {modules} or asked[1].startswith("stages.")):
    os.execv("{python}", ["{python}", *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect("{address}")
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps([asked, os.getcwd(), dict(os.environ)]).encode() + b"\\n")
code = int(server.recv(16))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""

_folders: dict[tuple, str] = {}


def environment(wanted: Mapping[str, str]) -> dict[str, str]:
    """`wanted` with such a Python first on its path; one server for each set of what libraries read at import."""
    key = read_at_import(wanted)
    if key not in _folders:
        _folders[key] = start(wanted)
    folder = _folders[key]
    return {**wanted, "PATH": f"{folder}{os.pathsep}{wanted['PATH']}", "PYTHON_EXEC": f"{folder}/python"}


def read_at_import(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = [item for item in values.items() if item[0].startswith(READ_AT_IMPORT)]
    return tuple(sorted(item for item in found if not item[0].startswith(OF_LAUNCHERS)))


def start(wanted: Mapping[str, str]) -> str:
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    address = Path(folder.name, "server")
    for name, module in COMMANDS.items():
        client = Path(folder.name, name)
        first = ["-m", module] if module else []
        values = {"python": sys.executable, "address": address, "first": first, "modules": [*COMMANDS.values()]}
        client.write_text(CLIENT.format(**values), encoding="utf-8")
        client.chmod(client.stat().st_mode | stat.S_IXUSR)
    command = [sys.executable, __file__, address]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=wanted, cwd=folder.name)
    assert server.stdout.readline() == b"ready\n", "the server did not start"
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)  # which closes its input, and so ends it
    return folder.name


def serve(address: str) -> tuple[list[str], str, dict[str, str]] | None:
    """Fork for each client; returns in the fork with what the client wants, and in the server when its input ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    events = selectors.DefaultSelector()
    for source in (sys.stdin.buffer, listener, woken):
        events.register(source, selectors.EVENT_READ)
    clients: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        for key, _ in events.select():
            if key.fileobj is sys.stdin.buffer:
                return None
            if key.fileobj is woken:
                woken.recv(64)
                answer(clients, events)
            elif key.fileobj is listener:
                client, _ = listener.accept()
                _, standard, _, _ = socket.recv_fds(client, 1, 3)
                wish = json.loads(client.makefile("rb").readline())
                if child := os.fork():
                    clients[child] = client
                    events.register(client, selectors.EVENT_READ)
                    for each in standard:
                        os.close(each)
                else:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for each in (listener, woken, wake, client, *clients.values()):
                        each.close()
                    for number, each in enumerate(standard):
                        os.dup2(each, number)
                        os.close(each)
                    return wish
            else:  # the client is gone
                child = next(child for child, client in clients.items() if client is key.fileobj)
                os.kill(child, signal.SIGKILL)
                events.unregister(key.fileobj)


def answer(clients: dict[int, socket.socket], events: selectors.BaseSelector) -> None:
    """Tell the clients whose stage has ended its exit code."""
    while clients:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        client = clients.pop(child)
        if client in events.get_map():
            events.unregister(client)
            client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        client.close()


def become(arguments: list[str], folder: str, wanted: dict[str, str], started: dict[str, str]) -> None:
    """Go on as `python ARGUMENTS` in the folder; `started` is the environment before the libraries were imported."""
    os.chdir(folder)
    if read_at_import(wanted) != read_at_import(started):
        os.execve(sys.executable, [sys.executable, *arguments], wanted)
    # What libraries set when they are imported, a true DVC or launcher would not hand on to its stages.
    before = os.environ if arguments[1] in COMMANDS.values() else started
    for name in before.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    sys.argv = ["-m", *arguments[2:]]
    sys.path[0] = folder
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        runpy._run_module_as_main(arguments[1])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)  # not through the interpreter's end, which touches each page of what was imported


if __name__ == "__main__":
    started = dict(os.environ)
    for library in LIBRARIES:
        if library not in ASK_CUDA or not sys.modules["torch"].cuda.device_count():
            importlib.import_module(library)
    # What these two make when they are first used.
    sys.modules["pydantic"].create_model("First")
    sys.modules["transformers.conversion_mapping"].get_checkpoint_conversion_mapping("bert")
    gc.freeze()
    if wish := serve(sys.argv[1]):
        become(*wish, started)
