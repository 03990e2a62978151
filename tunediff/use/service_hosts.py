"""The names and addresses that the service answers to.

A page of another site can let its own name lead to this machine (DNS rebinding), and would then read the answers.
"""

import ipaddress
import re
from collections.abc import Iterable

from tunediff.core.errors import UserError


class Hosts:
    """The address that a connection came to, `localhost` if that is this machine's own, and the names given."""

    def __init__(self, listening_at: str, more: Iterable[str] = ()):
        """Raises UserError if one of `more` is neither a name nor an address."""
        for name in more:
            if not re.fullmatch(r"[\w.-]+", name) and not _address(name):
                raise UserError(f"--allowed-host {name}: expected a name or an address, without http:// and port")
        self._names = {name.lower() for name in (listening_at, *more)}

    def allow(self, header: str, server: tuple[str, int | None] | None) -> bool:
        """Whether a request's header Host is one of them; `server` is the address that its connection came to."""
        match = re.fullmatch(r"(\[[^]]+\]|[^:\[\]]+)(:\d*)?", header.lower())
        if not match:
            return False
        host = match[1].strip("[]")
        own = server[0].removeprefix("::ffff:").partition("%")[0] if server else ""
        address = _address(own)
        return host in self._names or host == own or (host == "localhost" and bool(address) and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
