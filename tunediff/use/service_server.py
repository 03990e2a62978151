"""The server's process: the address it is bound to, a log that does not flood, and a stop that loses no request."""

import asyncio
import contextlib
import ctypes
import functools
import logging
import socket
import struct
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import uvicorn

from tunediff.core.errors import UserError, reason
from tunediff.use.service_connections import Connection, Connections, most_connections

if TYPE_CHECKING:
    from tunediff.use.service_guard import Guard

GRACE = 1  # seconds in which a connection that is kept open may send one more request
LONGEST = 60  # seconds that a stop waits for what is in work
QUEUE = 2048  # connections that the system keeps until they are accepted

ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux's asm-generic/socket.h, which Python does not name
NO_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the flags of the TCP header
        (0x45, 0, 1, 0x02),  # is SYN among them?
        (0x06, 0, 0, 0),  # then drop the packet,
        (0x06, 0, 0, 0xFFFFFFFF),  # else keep it
    )
)
"""A classic BPF program (linux/filter.h): no connection begins, those that have begun go on."""


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
    server = Server(app)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(OncePerSecond())
    server.run([listener])


def begin_no_more(listener: socket.socket) -> None:
    """Let no connection begin; its client asks again a second later, and is refused when the socket is closed.

    Otherwise the system accepts connections until the socket is closed, and resets those that were not taken.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(NO_SYN, len(NO_SYN))
        pointer = struct.pack("HP", len(NO_SYN) // 8, ctypes.addressof(program))
        with contextlib.suppress(OSError):  # some sandboxes have no filters: there is a gap of microseconds
            listener.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, pointer)


class OncePerSecond(logging.Filter):
    """Passes one record a second from each line of code: clients can cause any number of them."""

    def __init__(self):
        super().__init__()
        self._next: dict[tuple[str, int], float] = {}
        self._left_out: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno)
        now = time.monotonic()
        if now < self._next.get(place, 0):
            self._left_out[place] += 1
            return False
        self._next[place] = now + 1
        if count := self._left_out.pop(place, 0):
            record.msg, record.args = f"{record.getMessage()} ({count} like it were left out)", ()
        return True


class Server(uvicorn.Server):
    """uvicorn's, with a bound on connections; when told to stop it also answers what was sent but not read yet."""

    def __init__(self, app: "Guard"):
        most = most_connections()
        config = uvicorn.Config(
            app,
            http=functools.partial(Connection, Connections(most)),
            ws="none",
            log_level="warning",
            access_log=False,
            # asyncio accepts so many at once, before one of them can be counted.
            backlog=max(1, most // 32),
            timeout_graceful_shutdown=LONGEST,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket]) -> None:
        await super().startup(sockets)
        sockets[0].listen(QUEUE)
        host, port, *_ = sockets[0].getsockname()
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)

    async def shutdown(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        config = self.config
        config.app.stopping = True  # from here on, each answer is the last on its connection
        begin_no_more(sockets[0])
        connections = []
        with contextlib.suppress(OSError):  # there is no more, or no more file may be opened
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
