"""A TCP proxy that misbehaves on demand, for tests.

Rules of this file:

1. Without a fault the proxy is transparent: bytes, FIN and RST pass in order, both ways. Where
   the upstream refuses, the accepted connection is reset.
2. A fault applies to the connections that are open when it is set (``"present"``), to those
   accepted later (``"future"``), or to both (``"all"``). A connection counts as open as soon as
   its client's connect has succeeded.
3. No task and no thread: `FaultProxy` works in callbacks of the event loop that entered it.
"""

from __future__ import annotations

import asyncio
import copy
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from aioredis_kit.testing.flows import Corruption, Cut, Faults, Flow
from aioredis_kit.testing.sockets import Listener, SocketEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

__all__ = ["Direction", "FaultProxy", "ProxyStatistics", "Scope"]

Direction = Literal["to_server", "to_client", "both"]
Scope = Literal["present", "future", "all"]

_DIRECTIONS: dict[Direction, tuple[Direction, ...]] = {
    "to_server": ("to_server",),
    "to_client": ("to_client",),
    "both": ("to_server", "to_client"),
}


@dataclass(frozen=True, slots=True)
class ProxyStatistics:
    """What has gone through a proxy since it was entered.

    Attributes:
        connections_seen: Connections accepted.
        connections_open: Those of them that still carry bytes.
        bytes_to_server: Bytes passed on to the server.
        bytes_to_client: Bytes passed on to clients.
    """

    connections_seen: int
    connections_open: int
    bytes_to_server: int
    bytes_to_client: int


class FaultProxy:
    """A proxy on a loopback port in front of a server.

    Lifecycle: entered and left once, on the event loop of the test. Leaving closes every socket.

    Invariants: the port stays the same, also while connections are refused. Every method but
    ``async with`` is a plain function and has taken effect when it returns.

    Args:
        host: The server's host.
        port: The server's port.
        url: The server's URL, from which `url` takes scheme, credentials and database.
    """

    def __init__(self, host: str, port: int, *, url: str = "redis://") -> None:
        self._upstream = (host, port)
        self._parts = urlsplit(url)
        self._family = socket.AF_INET
        self._address: Any = None
        self._listener: Listener | None = None
        self._connections: list[_Connection] = []
        self._future: dict[Direction, Faults] = {"to_server": Faults(), "to_client": Faults()}
        self._passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self._seen = 0

    @classmethod
    def for_url(cls, url: str) -> Self:
        """Return a proxy in front of the server at *url* (``redis://host:port/…``).

        Raises:
            ValueError: The URL names no host: a Unix socket can't be proxied.
        """
        parts = urlsplit(url)
        if parts.hostname is None:
            raise ValueError(
                f"a fault proxy needs the URL of a TCP server, got one with scheme {parts.scheme!r}"
                " and no host; pass a server that listens on TCP"
            )
        return cls(parts.hostname, parts.port or 6379, url=url)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*self._upstream, type=socket.SOCK_STREAM)
        # Servers for tests often listen on IPv4 alone, and "localhost" is both.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        self._family, _, _, _, self._address = found[0]
        self._listener = Listener(self._open_connection)
        self._listener.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.close()
        self._listener = None
        for connection in self._connections:
            connection.close()

    @property
    def host(self) -> str:
        """The host to connect to instead of the server's."""
        return self._entered.host

    @property
    def port(self) -> int:
        """The port to connect to instead of the server's."""
        return self._entered.port

    @property
    def url(self) -> str:
        """The server's URL with this proxy's host and port."""
        userinfo, at, _ = self._parts.netloc.rpartition("@")
        address = f"{self.host}:{self.port}"
        return self._parts._replace(netloc=f"{userinfo}{at}{address}").geturl()

    def statistics(self) -> ProxyStatistics:
        """Return what has gone through so far."""
        return ProxyStatistics(
            connections_seen=self._seen,
            connections_open=sum(1 for _ in self._open_connections()),
            bytes_to_server=self._passed["to_server"],
            bytes_to_client=self._passed["to_client"],
        )

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay open."""
        self._entered.shut()

    def accept(self) -> None:
        """Accept connections again after `refuse`, on the same port."""
        self._entered.open()

    def cut(self, *, reset: bool = False) -> None:
        """End all open connections on both sides; what is on its way is lost.

        Args:
            reset: End them with RST instead of FIN.
        """
        for connection in list(self._open_connections()):
            connection.cut(reset=reset)

    def half_close(self, direction: Direction) -> None:
        """Send FIN in *direction* on all open connections; the other direction carries on.

        What waits in that direction, and what is still sent, is lost.
        """
        for connection in list(self._open_connections()):
            for name in _directions(direction):
                connection.flows[name].shut()

    def stall(self, direction: Direction = "both", *, scope: Scope = "all") -> None:
        """Hold back all bytes, FINs and RSTs until `resume`. Connections are still accepted.

        The proxy goes on reading up to a limit (some 256 KiB a direction), then lets the sender's
        window fill up.
        """
        for faults in self._changing(direction, scope):
            faults.is_stalled = True

    def resume(self, direction: Direction = "both", *, scope: Scope = "all") -> None:
        """End a `stall`: what was held back goes out in order."""
        for faults in self._changing(direction, scope):
            faults.is_stalled = False

    def delay(self, seconds: float, direction: Direction = "both", *, scope: Scope = "all") -> None:
        """Pass each byte on *seconds* after it came. 0 ends the delay."""
        if seconds < 0:
            raise ValueError(f"seconds must be >= 0, got {seconds}")
        for faults in self._changing(direction, scope):
            faults.delay = seconds

    def split(self, direction: Direction = "both", *, scope: Scope = "all") -> None:
        """Send every byte by itself, slowly enough to be read by itself on this loop, until `heal`."""
        for faults in self._changing(direction, scope):
            faults.is_split = True

    def corrupt(
        self,
        direction: Direction,
        *,
        skip: int = 0,
        mask: int = 0xFF,
        scope: Scope = "present",
    ) -> None:
        """Change one byte that is still to come on each connection.

        Args:
            direction: The direction in which the byte travels.
            skip: Bytes to leave alone before it.
            mask: What the byte is XORed with, 1 to 255.
            scope: Which connections.
        """
        if skip < 0 or not 1 <= mask <= 255:
            raise ValueError(f"skip must be >= 0 and mask 1 to 255, got {skip} and {mask}")
        for faults in self._changing(direction, scope):
            faults.corruption = Corruption(skip, mask)

    def cut_after(self, count: int, direction: Direction, *, reset: bool = False, scope: Scope = "present") -> None:
        """Pass exactly *count* more bytes in *direction*, then cut that connection.

        Args:
            count: 0 cuts as soon as the next byte comes, without passing it on.
            direction: The direction whose bytes count.
            reset: Cut with RST instead of FIN; bytes not yet read may be lost with it.
            scope: Which connections.
        """
        if count < 0:
            raise ValueError(f"count must be >= 0, got {count}")
        for faults in self._changing(direction, scope):
            faults.cut = Cut(count, reset)

    def heal(self) -> None:
        """End every fault, for present and future connections, and accept."""
        for faults in self._changing("both", "all"):
            faults.heal()
        self.accept()

    @property
    def _entered(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("this fault proxy isn't running; use `async with FaultProxy(…)`")
        return self._listener

    def _open_connections(self) -> Iterator[_Connection]:
        if self._listener is not None:
            # Whose connect has succeeded is open, even if the loop hasn't told us yet.
            self._listener.accept_pending()
        return (connection for connection in self._connections if connection.is_carrying)

    def _changing(self, direction: Direction, scope: Scope) -> Iterator[Faults]:
        """Yield the faults to change, and act on each change once it is made."""
        if scope not in {"present", "future", "all"}:
            raise ValueError(f'scope must be "present", "future" or "all", got {scope!r}')
        present = list(self._open_connections())
        for name in _directions(direction):
            if scope != "present":
                yield self._future[name]
            if scope != "future":
                for connection in present:
                    yield connection.flows[name].faults
                    connection.flows[name].replan()

    def _open_connection(self, client: socket.socket) -> None:
        self._seen += 1
        self._connections = [each for each in self._connections if each.is_open]
        try:
            server = socket.socket(self._family, socket.SOCK_STREAM)
        except OSError:  # no descriptor is left: as if the server refused
            client.close()
            return
        server.settimeout(0)
        server.connect_ex(self._address)  # its outcome shows when the socket becomes writable
        self._connections.append(_Connection(client, server, self._future, self._count))

    def _count(self, direction: Direction, length: int) -> None:
        self._passed[direction] += length


class _Connection:
    """A client's socket, the server's, and a flow each way.

    Lifecycle: made with both sockets, ends by itself when both sides have closed, or by `cut`
    or `close`.
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        faults: dict[Direction, Faults],
        count: Callable[[Direction, int], None],
    ) -> None:
        self.flows: dict[Direction, Flow] = {
            name: Flow(
                copy.deepcopy(faults[name]),
                on_cut=lambda reset: self.cut(reset=reset),
                on_finished=self._finish,
                on_passed=partial(count, name),
            )
            for name in _directions("both")
        }
        to_server, to_client = self.flows["to_server"], self.flows["to_client"]
        self._client = SocketEnd(
            client,
            on_data=to_server.feed,
            on_end=to_server.feed_end,
            on_sent=to_client.pump,
        )
        self._server = SocketEnd(
            server,
            on_data=to_client.feed,
            on_end=to_client.feed_end,
            on_sent=to_server.pump,
            is_connecting=True,
        )
        to_server.attach(self._client, self._server)
        to_client.attach(self._server, self._client)
        self._client.start()
        self._server.start()

    @property
    def is_open(self) -> bool:
        """Whether a socket of this connection is still open."""
        return self._client.is_open or self._server.is_open

    @property
    def is_carrying(self) -> bool:
        """Whether bytes still pass in some direction."""
        return not all(flow.is_finished for flow in self.flows.values())

    def cut(self, *, reset: bool) -> None:
        """End both sides now, with RST or with FIN."""
        for flow in self.flows.values():
            flow.close()
        for end in (self._client, self._server):
            if reset:
                end.reset()
            else:
                end.finish()

    def close(self) -> None:
        """Close both sockets, whatever is under way."""
        for flow in self.flows.values():
            flow.close()
        self._client.close()
        self._server.close()

    def _finish(self) -> None:
        if not self.is_carrying:
            self._client.finish()
            self._server.finish()


def _directions(direction: Direction) -> tuple[Direction, ...]:
    names = _DIRECTIONS.get(direction)
    if names is None:
        raise ValueError(f'direction must be "to_server", "to_client" or "both", got {direction!r}')
    return names
