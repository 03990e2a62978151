"""The connections to the service: how many may be open, and for how long each may keep it waiting."""

import asyncio
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 1024  # connections, if the process may open enough files
HEADER_SECONDS = 10  # until a request's header is complete, from the connection's start or from the last answer on it
ANSWER_SECONDS = 60  # until the client has read an answer


def most_connections() -> int:
    """How many connections may be open: three quarters of the files that this process may open, at most `MOST`.

    The other files are for models, pages, and connections that are accepted and not counted yet.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else min(MOST, files * 3 // 4)


class Connections:
    """The open connections, of which one address has half at most.

    A new one that would be too many takes the place of the one that has waited for its client for the longest time.
    """

    def __init__(self, most: int):
        self.most = most
        self.most_of_address = most // 2
        self._open: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._waiting: dict[Connection, None] = {}
        """Those that wait for their clients, in the order in which they began to."""

    def admit(self, new: "Connection") -> bool:
        """Add a connection, unless there are too many that are all in work."""
        reason, rivals = "", []
        if self._of_address[new.address] >= self.most_of_address:
            reason = f"{new.address} has {self.most_of_address} connections, the most for one address"
            rivals = [one for one in self._waiting if one.address == new.address]
        elif len(self._open) >= self.most:
            reason = f"there are {self.most} connections, the most at a time"
            rivals = [*self._waiting]
        if reason:
            new.logger.warning(f"{reason}: {'the one that waits longest' if rivals else 'a new one'} is closed")
            if not rivals:
                return False
            self.remove(rivals[0])
            rivals[0].transport.abort()
        self._open.add(new)
        self._of_address[new.address] += 1
        return True

    def note(self, one: "Connection", waits: bool) -> None:
        """Keep whether a connection waits for its client."""
        self._waiting.pop(one, None)
        if waits and one in self._open:
            self._waiting[one] = None

    def remove(self, one: "Connection") -> None:
        """Forget a connection, if it is there."""
        if one in self._open:
            self._open.remove(one)
            self._waiting.pop(one, None)
            self._of_address[one.address] -= 1
            if not self._of_address[one.address]:
                del self._of_address[one.address]


class Connection(H11Protocol):
    """uvicorn's, which ends when the client takes too long to send a header or to read an answer.

    For a request's body, the guard has a limit.
    """

    def __init__(self, connections: Connections, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self.address = ""
        """The client's."""
        self._all = connections
        self._awaited = ""
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # writing is paused as long as anything is not sent
        self.address = self.client[0] if self.client else ""
        if self._all.admit(self):
            self._watch()
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.remove(self)
        if self._limit:
            self._limit.cancel()

    def _watch(self) -> None:
        """Start the time limit of what the client has to do now, if it is not what it had to do before."""
        awaited = self._what_is_awaited()
        if awaited == self._awaited:
            return
        self._awaited = awaited
        self._all.note(self, waits=bool(awaited))
        if self._limit:
            self._limit.cancel()
        seconds = {"header": HEADER_SECONDS, "reading": ANSWER_SECONDS}.get(awaited)
        self._limit = self.loop.call_later(seconds, self.transport.abort) if seconds else None

    def _what_is_awaited(self) -> str:
        """What the client has to do: nothing while its request is in work."""
        if self.flow.write_paused:
            return "reading"
        if self.cycle is None or self.cycle.response_complete:
            return "header"
        return "body" if self.cycle.more_body else ""
