"""The server's process: the address it is bound to, and a stop that loses no request."""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn

from tunediff.core.errors import UserError, reason

if TYPE_CHECKING:
    from tunediff.use.service_guard import Guard

GRACE = 1  # seconds in which a connection that is kept open may send one more request
LONGEST = 60  # seconds that a stop waits for what is in work


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, not listening yet: until the models are loaded, a connection is refused.

    Raises UserError if the address is none of this machine, or is taken.
    """
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


def serve(app: "Guard", listener: socket.socket) -> None:
    """Answer requests at `listener` until a signal stops it; print the address when the first can be sent."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=LONGEST)
    Server(config).run([listener])


class Server(uvicorn.Server):
    """uvicorn's, which when told to stop also answers what was sent but not read yet."""

    async def startup(self, sockets: list[socket.socket]) -> None:
        await super().startup(sockets)
        host, port, *_ = sockets[0].getsockname()
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)

    async def shutdown(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        config = self.config
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
