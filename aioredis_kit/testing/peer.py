"""A RESP peer that does exactly what a test says, on real sockets.

It speaks the handshake by itself; everything else is up to the test: replies by rule
(`ScriptedPeer.on`), or by hand (`PeerConnection.expect`, then `PeerConnection.send`).

Rules of this file:

1. A command for which there is a rule is answered at once, inside the read that completed it.
   Any other waits, unanswered, for `PeerConnection.expect`.
2. Every command is recorded, in the order of arrival, with the chunk that completed it.
3. No task: the test is the script.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from aioredis_kit.policy.secrets import masked
from aioredis_kit.testing import resp
from aioredis_kit.testing.sockets import Listener, SocketEnd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["PeerConnection", "ReceivedCommand", "ScriptedPeer"]


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A command as it came in.

    Attributes:
        words: The command's name and arguments, as sent.
        connection: The connection on which it came.
        chunk: The number, from 0, of the socket read that completed it. What a client writes at
            once is one chunk, as long as it fits the kernel's buffers.
    """

    words: tuple[bytes, ...]
    connection: PeerConnection
    chunk: int

    def __repr__(self) -> str:
        return f"<ReceivedCommand {masked(self.words)} on {self.connection!r}, chunk {self.chunk}>"

    @property
    def name(self) -> str:
        """The first word in upper case."""
        return self.words[0].decode("utf-8", "replace").upper()


Answer = bytes | Callable[[ReceivedCommand], bytes | None] | None
"""A rule's answer: frames; a callable that returns them (or None, having acted on the command's
connection itself); or None, for a command that is never answered."""


class PeerConnection:
    """One connection of a client to the peer.

    Lifecycle: made by the peer when a client connects; ended by the client, by `close` or
    `reset`, or with the peer.

    Attributes:
        number: Counts the peer's connections, from 0.
        commands: What came in so far.
        chunks: The bytes of each socket read so far.
    """

    def __init__(self, sock: socket.socket, number: int, script: _Script) -> None:
        self.number = number
        self.commands: list[ReceivedCommand] = []
        self.chunks: list[bytes] = []
        self._script = script
        self._parser = resp.CommandParser()
        self._unanswered: deque[ReceivedCommand] = deque()
        self._client_has_left = False
        self._end = SocketEnd(sock, on_data=self._receive, on_end=self._leave)
        self._end.start()

    def __repr__(self) -> str:
        return f"<PeerConnection {self.number}: {len(self.commands)} commands>"

    def send(self, *frames: bytes) -> None:
        """Send *frames* now, whole or in pieces: see `aioredis_kit.testing.resp` for builders."""
        self._end.send(b"".join(frames))

    def close(self) -> None:
        """Send FIN behind what was sent; what the client still sends is discarded."""
        self._end.finish()

    def reset(self) -> None:
        """End the connection with RST (on a socket pair: close it)."""
        self._end.reset()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`, so that the client's writes pile up."""
        self._end.pause_reading()

    def resume_reading(self) -> None:
        """Read again after `pause_reading`."""
        self._end.resume_reading()

    async def expect(self, name: bytes | str, *arguments: bytes | str | int, timeout: float = 5.0) -> ReceivedCommand:
        """Wait for the next command for which there is no rule, and compare it.

        Args:
            name: Its name, in any case.
            arguments: Its arguments; none given: any will do.
            timeout: Seconds to wait.

        Raises:
            AssertionError: Another command came, or the client has left.
            TimeoutError: None came in time.

        Cancellation:
            Safe: nothing is consumed.
        """
        wanted = tuple(_word(word) for word in (name, *arguments))
        await self._script.wait_until(lambda: bool(self._unanswered) or self._client_has_left, f"for {wanted}", timeout)
        if not self._unanswered:
            raise AssertionError(f"expected {wanted}, but the client has left")
        received = self._unanswered.popleft()
        got = received.words if arguments else received.words[:1]
        if (got[0].upper(), got[1:]) != (wanted[0].upper(), wanted[1:]):
            raise AssertionError(f"expected {wanted}, got {received.words}")
        return received

    async def wait_closed(self, *, timeout: float = 5.0) -> None:
        """Wait until the client has ended the connection, by FIN or RST.

        Raises:
            TimeoutError: It is still open after *timeout* seconds.

        Cancellation:
            Safe.
        """
        await self._script.wait_until(lambda: self._client_has_left, f"for the end of {self!r}", timeout)

    def _receive(self, data: bytes) -> None:
        self.chunks.append(data)
        for words in self._parser.feed(data):
            received = ReceivedCommand(tuple(words), self, len(self.chunks) - 1)
            self.commands.append(received)
            self._script.record(received)
            rule = self._script.rule_for(received)
            if rule is None:
                self._unanswered.append(received)
                continue
            answer = next(rule)
            frames = answer(received) if callable(answer) else answer
            if frames is not None:
                self.send(frames)

    def _leave(self, error: OSError | None) -> None:  # noqa: ARG002 -- FIN and RST mean the same
        self._client_has_left = True
        self._end.close()
        self._script.announce()


class _Script:
    """What a peer's connections share: the rules, the record, and who waits for it to grow."""

    def __init__(self) -> None:
        self.rules: dict[str, Iterator[Answer]] = {}
        self.commands: list[ReceivedCommand] = []
        self._changed = asyncio.Event()

    def rule_for(self, received: ReceivedCommand) -> Iterator[Answer] | None:
        """Return the answers to this command: by its first two words, else by its name."""
        for name in reversed(_names(received)):
            if name in self.rules:
                return self.rules[name]
        return None

    def record(self, received: ReceivedCommand) -> None:
        """Add a command to the record."""
        self.commands.append(received)
        self.announce()

    def announce(self) -> None:
        """Let all who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until(self, is_met: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait for a condition that only `announce` can make true."""
        try:
            async with asyncio.timeout(timeout):
                while not is_met():
                    await self._changed.wait()
        except TimeoutError:
            received = ", ".join(each.name for each in self.commands) or "nothing"
            raise TimeoutError(f"waited {timeout} s {what}; received: {received}") from None


class ScriptedPeer:
    """A server that answers as told.

    Lifecycle: entered and left once, on the event loop of the test; leaving closes all sockets.

    By default HELLO, AUTH, SELECT, PING and CLIENT SETNAME, SETINFO and TRACKING are answered as
    a Redis 8 would, and any other CLIENT is refused; `on` replaces that.

    Args:
        on_connection: Called with each new connection before anything is read from it.
    """

    def __init__(self, on_connection: Callable[[PeerConnection], None] | None = None) -> None:
        self._on_connection = on_connection
        self._connections: list[PeerConnection] = []
        self._listener: Listener | None = None
        self._script = _Script()
        self.on("HELLO", _hello)
        self.on("PING", resp.simple("PONG"))
        self.on("CLIENT", resp.error("ERR unknown subcommand"))
        for name in ("AUTH", "SELECT", "CLIENT SETNAME", "CLIENT SETINFO", "CLIENT TRACKING"):
            self.on(name, resp.simple("OK"))

    async def __aenter__(self) -> Self:
        self._listener = Listener(self._serve)
        self._listener.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.close()
        for connection in self._connections:
            connection.reset()

    @property
    def host(self) -> str:
        """The loopback address to connect to."""
        return self._entered.host

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self._entered.port

    @property
    def url(self) -> str:
        """``redis://host:port``."""
        return f"redis://{self.host}:{self.port}"

    @property
    def connections(self) -> tuple[PeerConnection, ...]:
        """Every connection so far, in the order of connecting."""
        return tuple(self._connections)

    @property
    def commands(self) -> tuple[ReceivedCommand, ...]:
        """Every command so far on any connection, in the order of arrival."""
        return tuple(self._script.commands)

    def on(self, name: str, *answers: Answer) -> None:
        """Answer the command *name* by rule from now on.

        Args:
            name: A command (``"GET"``) or a command with its first argument
                (``"CLIENT SETINFO"``), which goes before the rule for the command alone.
            answers: The answers to successive commands; the last one repeats.

        Raises:
            ValueError: No answer is given.
        """
        if not answers:
            raise ValueError(f"on({name!r}) needs an answer; for silence pass None")
        self._script.rules[name.upper()] = itertools.chain(answers, itertools.repeat(answers[-1]))

    def connect(self) -> socket.socket:
        """Return a non-blocking socket that is connected to this peer without a port."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.settimeout(0)
        self._serve(ours)
        return theirs

    async def wait_for_command(self, name: str, *, count: int = 1, timeout: float = 5.0) -> ReceivedCommand:
        """Wait until *name* has come in *count* times on any connection; return the last of them.

        Args:
            name: A command, or a command with its first argument, as for `on`.
            count: Counted from the start of the peer; what came before the call counts too.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: Fewer came in time; the message lists what came.

        Cancellation:
            Safe.
        """
        wanted = name.upper()

        def matching() -> list[ReceivedCommand]:
            return [each for each in self._script.commands if wanted in _names(each)]

        await self._script.wait_until(lambda: len(matching()) >= count, f"for {wanted} number {count}", timeout)
        return matching()[count - 1]

    async def wait_for_connections(self, count: int = 1, *, timeout: float = 5.0) -> tuple[PeerConnection, ...]:
        """Wait until clients have connected *count* times, and return all connections.

        Raises:
            TimeoutError: Fewer connected within *timeout* seconds.

        Cancellation:
            Safe.
        """
        await self._script.wait_until(
            lambda: len(self._connections) >= count, f"for connection number {count}", timeout
        )
        return self.connections

    @property
    def _entered(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("this peer isn't running; use `async with ScriptedPeer()`")
        return self._listener

    def _serve(self, sock: socket.socket) -> None:
        connection = PeerConnection(sock, len(self._connections), self._script)
        self._connections.append(connection)
        self._script.announce()
        if self._on_connection is not None:
            self._on_connection(connection)


def _hello(received: ReceivedCommand) -> bytes:
    protocol = 3 if received.words[1:2] == (b"3",) else 2
    fields = {
        resp.bulk("server"): resp.bulk("redis"),
        resp.bulk("version"): resp.bulk("8.0.0"),
        resp.bulk("proto"): resp.integer(protocol),
        resp.bulk("id"): resp.integer(received.connection.number + 1),
        resp.bulk("mode"): resp.bulk("standalone"),
        resp.bulk("role"): resp.bulk("master"),
        resp.bulk("modules"): resp.array(),
    }
    if protocol == 3:
        return resp.mapping(fields)
    return resp.array(*itertools.chain.from_iterable(fields.items()))


def _names(received: ReceivedCommand) -> tuple[str, ...]:
    """Return a command's name, and its first two words if it has two."""
    words = [word.decode("utf-8", "replace").upper() for word in received.words[:2]]
    return tuple(" ".join(words[: count + 1]) for count in range(len(words)))


def _word(word: bytes | str | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
