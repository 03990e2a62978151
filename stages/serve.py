"""Serve trained models over HTTP, with a page to try them.

python -m stages.serve --model models/lora-v2
python -m stages.serve --model models/full --model models/lora-v1 --model models/lora-v2 --port 8080
python -m stages.serve --model models/lora-v2-exported
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from tunediff.core.errors import UserError, reason
from tunediff.core.process import run

if TYPE_CHECKING:
    from tunediff.use.classifier import Classifier
    from tunediff.use.classifier_loading import Loader
    from tunediff.use.service import Served

GRACE = 1  # seconds in which a connection that is kept open may send one more request
LONGEST = 60  # seconds that a stop waits for what is in work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        dest="models",
        type=Path,
        action="append",
        required=True,
        help="folder of a trained or exported model; of several, a request names one by its folder's name",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free (default: 8000)")
    parser.add_argument("--batch-size", type=int, default=32, help="texts computed together at most (default: 32)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn puts it back when it is done, and raises the signal

    listener = bind(args.host, args.port)
    # Here, so that --help and a mistake in the arguments answer at once.
    from tunediff.use.service import make_app

    app = make_app(load(args.models), args.batch_size)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=LONGEST)
    Server(config).run([listener])


def bind(host: str, port: int) -> socket.socket:
    """Not listening yet: until the models are loaded, a connection is refused. Raises UserError."""
    try:
        family, kind, _, _, (address, _, *more) = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port, *more))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be listened at: {reason(error)}; choose another"
        ) from None
    return listener


def load(paths: list[Path]) -> "dict[str, Served]":
    """The models by the names of their folders, or of their .onnx files. Raises UserError if one cannot be loaded."""
    from tunediff.use.classifier_loading import Loader
    from tunediff.use.service import Served

    loader, tuned = Loader(), {}
    for path in paths:
        name = path.absolute().name
        if name in tuned:
            raise UserError(f"{path}: another model is named '{name}' already; copy or link one to another name")
        tuned[name] = loader.load(path)
    return {name: Served(tuned[name], original(path, loader)) for name, path in zip(tuned, paths, strict=True)}


def original(path: Path, loader: "Loader") -> "Classifier | None":
    """None for an exported model: its original would bring PyTorch, and the whole base, which it does without."""
    from tunediff.use.classifier_loading import is_exported

    if is_exported(path):
        return None
    try:
        return loader.original(path)
    except UserError as error:
        print(f"{path}: served without the original model: {error}", file=sys.stderr)
        return None


class Server(uvicorn.Server):
    """uvicorn's, which when told to stop also answers what was sent but not read yet."""

    async def startup(self, sockets: list[socket.socket]) -> None:
        await super().startup(sockets)
        host, port, *_ = sockets[0].getsockname()
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)

    async def shutdown(self, sockets: list[socket.socket]) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        config.app.stopping = True  # from here on, each answer is the last on its connection
        connections = []
        with contextlib.suppress(BlockingIOError):
            while True:
                connections.append(sockets[0].accept()[0])
        self.servers[0].close()
        for connection in connections:
            protocol = config.http_protocol_class(config, self.server_state, self.lifespan.state)
            await loop.connect_accepted_socket(lambda made=protocol: made, connection)

        waited_until = loop.time() + GRACE
        while self.server_state.connections and loop.time() < waited_until:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


if __name__ == "__main__":
    run(main)
