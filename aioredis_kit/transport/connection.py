"""One connection: built once, connected once, closed once.

Reconnecting makes a new one. It ends in one way only, whatever the reason: ``_end``.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import DataError

from aioredis_kit.exceptions import (
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    ReplyProtocolError,
)
from aioredis_kit.transport.command import Query
from aioredis_kit.transport.protocol import ConnectionProtocol
from aioredis_kit.transport.tcp import unacknowledged_for
from aioredis_kit.wire.handshake import Handshake, Introduction, Progress
from aioredis_kit.wire.inflight import DONE
from aioredis_kit.wire.machine import Machine, Mode, State

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable, Sequence

    from aioredis_kit.credentials import Credentials
    from aioredis_kit.exceptions import KitError
    from aioredis_kit.transport.dial import Dialler
    from aioredis_kit.transport.tally import Tally, Traffic
    from aioredis_kit.wire.encoder import Encoder
    from aioredis_kit.wire.inflight import Slot

_HANGING_UP: Final = getattr(select, "POLLRDHUP", 0)
"""What to ask for; errors and the end of both directions are told unasked."""
_RESET: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""To linger for no time: closing discards what the peer has not acknowledged, and resets the connection."""
LOADING_PAUSE: Final = 0.1
"""How long to wait before asking a server again that does not serve yet, in seconds."""


class ConnectionOwner(Protocol):
    """What a connection tells its link."""

    def connected(self) -> None:
        """The socket is open; the handshake begins."""

    def lost(self, error: KitError, unanswered: list[Slot]) -> None:
        """An open connection has ended, with these commands unanswered."""

    def answered(self) -> None:
        """Replies were read. Only told while ``tell_answers`` asks for it."""

    def woke_half(self) -> None:
        """Half of the many tasks that were answered have issued their next commands; now come the others."""

    def writable_changed(self, *, is_writable: bool) -> None:
        """It should not, or can again, be written to."""

    def pushed(self, pushes: list[Any]) -> None:
        """Pushes were read."""


class Connection:
    """One socket that speaks RESP.

    Lifecycle: ``open`` once; then ``send``; ended by the peer, by ``drop`` or by ``close``.

    Attributes:
        address: Where it leads to, as text.
        in_flight: The slots that wait for their replies, the oldest first.
        protocol: The protocol agreed on: 2 or 3.
        introduction: What it became.
        credentials: Who it is to the server, as far as the client has a say in that.
        ended: Done when it has ended.
        client_id: Its number at the server, as far as that was told.
        writes: How many times it wrote to the transport.
        not_serving: The word with which the server said in the handshake that it does not serve yet; else empty.
        abandoned: How many commands were abandoned on it, whether their replies have come or not.
    """

    def __init__(
        self,
        owner: ConnectionOwner,
        dialler: Dialler,
        machine: Machine,
        encoder: Encoder,
        *,
        clock: Callable[[], float],
        tally: Tally,
    ) -> None:
        self.address = str(dialler.address)
        self.protocol = 0
        self.introduction = Introduction()
        self.credentials: Credentials | None = None
        self.client_id: int | None = None
        self.writes = 0
        self.not_serving = ""
        self.abandoned = 0
        self.in_flight: deque[Slot] = machine.in_flight
        self._owner = owner
        self._dialler = dialler
        self._machine = machine
        self._encoder = encoder
        self._clock = clock
        self._tally = tally
        self._own: list[Query] = []  # of the client's own commands those that may be in flight
        self._own_sent = 0
        self._pushes = 0
        self._errors_before = 0  # in the handshake
        self._loop = asyncio.get_running_loop()
        self._shell: ConnectionProtocol | None = None
        self._transport: asyncio.Transport  # there when the shell is
        self._round: asyncio.Future[None] | None = None  # the handshake's, while it waits for answers
        self._poll: select.poll | None = None
        self._failure: KitError | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._closed = self._loop.create_future()  # the socket is closed
        tally.connections.add(self)

    @property
    def last_read(self) -> float:
        """When something was last read, on the client's clock."""
        return self._shell.last_read if self._shell is not None else 0.0

    @property
    def bytes_read(self) -> int:
        """How much was read."""
        return self._shell.bytes_read if self._shell is not None else 0

    @property
    def bytes_in_flight(self) -> int:
        """The size of the commands in flight."""
        return self._machine.bytes_in_flight

    def count_bytes_in_flight(self) -> int:
        """Return the same, in any thread."""
        return self._machine.count_bytes_in_flight()

    @property
    def replies_read(self) -> int:
        """How many slots were answered."""
        return self._machine.answered

    @property
    def abandoned_in_flight(self) -> int:
        """How many of the commands in flight nobody waits for any more."""
        return self.abandoned - self._machine.dropped

    @property
    def peer(self) -> tuple[str, int | None] | None:
        """The IP address and port that it leads to, or the path of a Unix socket; ``None``: it has ended."""
        match self._transport.get_extra_info("peername"):
            case str(path):
                return path, None
            case (str(host), int(port), *_):
                return host, port
        return None

    def unacknowledged_for(self) -> float | None:
        """For how long the peer's machine has acknowledged nothing of what was sent to it.

        Returns:
            Seconds; 0 if it has acknowledged everything; ``None`` where the system does not tell.
        """
        return unacknowledged_for(self._transport.get_extra_info("socket"))

    def add_to(self, traffic: Traffic) -> None:
        """Add what it has carried. The client's own commands don't count as answered, nor what a subscriber sends."""
        machine = self._machine
        traffic.writes += self.writes
        traffic.bytes_written += machine.bytes_sent
        traffic.bytes_read += self.bytes_read
        traffic.pushes += self._pushes
        if machine.mode is Mode.REPLIES:
            own = self._own_sent - sum(query.state != DONE for query in self._own)
            traffic.answered += machine.answered - machine.dropped - own
            traffic.errors += machine.errors - self._errors_before
            traffic.dropped_replies += machine.dropped

    @property
    def failure(self) -> KitError | None:
        """Why it has ended, once it has."""
        return self._failure

    @property
    def is_ready(self) -> bool:
        """Whether the handshake is done and the connection neither ended nor is being closed."""
        return self._machine.state is State.READY

    @property
    def takes_commands(self) -> bool:
        """Whether any command can be sent on it: not while it is subscribed under RESP2, or monitors."""
        mode = self._machine.mode
        return mode is Mode.REPLIES or (mode is Mode.SUBSCRIBER and self.protocol == 3)

    def change_mode(self, mode: Mode) -> None:
        """Say what kind of frames is to be expected from now on."""
        self._machine.mode = mode

    async def reset(self, introduction: Introduction, *, timeout: float) -> None:
        """Undo all that was done to its state at the server.

        Args:
            introduction: What it is to become.
            timeout: Limit for each round of the handshake, in seconds.

        Raises:
            ConnectError: It failed. The connection has to be dropped.
            TimeoutError: It took too long. The same.

        Cancellation:
            The connection has to be dropped.
        """
        async with asyncio.timeout(timeout) as limit:
            await self._shake_hands(introduction, limit, timeout, is_reset=True)

    async def open(self, introduction: Introduction, *, timeout: float) -> None:
        """Dial and shake hands.

        Args:
            introduction: What the connection is to become.
            timeout: Limit for dialling and for each round of the handshake, in seconds. The time during
                which the server says that it does not serve yet does not count.

        Raises:
            ConnectTimeoutError: It took too long.
            AuthenticationFailedError: The server refused the credentials.
            HandshakeError: The server refused something else.
            ConnectError: It failed otherwise.

        Cancellation:
            Safe. The socket is closed.
        """
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await self._dial(timeout)
                await self._shake_hands(introduction, limit, timeout)
            self._machine.move_to(State.READY)
            self._errors_before = self._machine.errors
        except BaseException as error:  # cancelled too: nobody else would close the socket
            self._end(ConnectionLostError("the connection attempt failed", address=self.address))
            if isinstance(error, TimeoutError) and limit.expired():
                raise ConnectTimeoutError(
                    f"{self.address} did not answer within {timeout:g} seconds", address=self.address
                ) from None
            if isinstance(error, OSError):
                raise ConnectError(f"{self.address}: {error.strerror or error}", address=self.address) from error
            if isinstance(error, DataError):  # it names no value: those are the credentials
                raise ConnectError(
                    f"{self.address}: the handshake can't be sent: {error}", address=self.address
                ) from None
            raise

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight, and no tasks are just going on that may issue several commands."""
        return not self.in_flight and self._shell is not None and not self._shell.is_waking

    def has_hung_up(self) -> bool:
        """Ask the system whether the peer has hung up, which the event loop may not have told yet."""
        if self._poll is None:
            if not hasattr(select, "poll"):  # Windows: the event loop tells it a turn later
                return False
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), _HANGING_UP)
        return bool(self._poll.poll(0))

    def ask(self, queries: Sequence[Query], now: float) -> bool:
        """Write commands of the client's own. See ``send``."""
        self._own = [query for query in self._own if query.state != DONE]
        self._own += queries
        self._own_sent += len(queries)
        return self.send(queries, now)

    def send(self, slots: Iterable[Slot], now: float) -> bool:
        """Write commands, in this order, in one go. Those whose callers have gone are left out.

        Args:
            slots: The commands.
            now: The time, on the client's clock.

        Returns:
            Whether they were handed to the transport. If not, the connection has just ended.
        """
        if self._transport.is_closing():  # and nobody has said so yet
            self.hung_up(None)
            return False
        try:
            data = self._machine.send(slots, (now, self.bytes_read, self._machine.answered))
        except BaseException as error:  # no memory, or an interrupt: some are in flight that were never written
            self.hung_up(error)
            raise
        if data:
            self.writes += 1
            if isinstance(data, bytes):
                self._transport.write(data)
            else:
                self._transport.writelines(data)
                # Pauses if the buffer is full: writelines itself forgets to in CPython 3.12 and 3.13.0.
                self._transport.set_write_buffer_limits()
        return True

    def tell_answers(self, *, wanted: bool) -> None:
        """Say whether the owner is to be told of each read that answered commands."""
        if self._shell is not None:
            self._shell.tells_answers = wanted

    def drop(self, error: KitError) -> None:
        """End at once; what is in flight stays unanswered."""
        self._end(error)

    @property
    def is_closed(self) -> bool:
        """Whether its socket is closed."""
        return self._shell is None or self._closed.done()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed, after the end.

        Cancellation:
            Safe.
        """
        if self._shell is not None and not self._closed.done():
            await asyncio.wait((self._closed,))

    # What the protocol tells.

    def hung_up(self, error: BaseException | None) -> None:
        """See ``ProtocolOwner``."""
        lost = ConnectionLostError(
            f"{self.address} closed the connection"
            if error is None
            else f"{self.address}: {str(error) or repr(error)}",
            address=self.address,
        )
        lost.__cause__ = error
        self._end(lost)

    def closed(self) -> None:
        """See ``ProtocolOwner``."""
        if not self._closed.done():
            self._closed.set_result(None)

    def broke(self) -> None:
        """See ``ProtocolOwner``."""
        failure = self._machine.failure
        error = ReplyProtocolError(f"{self.address} sent {failure}", address=self.address)
        error.__cause__ = failure
        self._end(error)

    def answered(self) -> None:
        """See ``ProtocolOwner``."""
        self._owner.answered()

    def woke_half(self) -> None:
        """See ``ProtocolOwner``."""
        if self._dialler.tls is None:  # a write under TLS is a record: another one costs more than it wins
            self._owner.woke_half()

    def pushed(self) -> None:
        """See ``ProtocolOwner``."""
        pushes, self._machine.pushes = self._machine.pushes, []
        self._pushes += len(pushes)
        self._owner.pushed(pushes)

    def writable_changed(self, *, is_writable: bool) -> None:
        """See ``ProtocolOwner``."""
        if self._machine.state is State.READY:
            self._owner.writable_changed(is_writable=is_writable)

    async def _dial(self, timeout: float) -> None:
        self._transport, self._shell = await self._dialler.dial(
            lambda: ConnectionProtocol(self, self._machine, self._clock, self._tally.timings), timeout=timeout
        )
        if self._failure is None:
            self._owner.connected()
        else:  # the server spoke, or hung up, before it was asked
            self._transport.abort()

    async def _shake_hands(
        self, introduction: Introduction, limit: asyncio.Timeout, timeout: float, *, is_reset: bool = False
    ) -> None:
        handshake = Handshake(introduction, address=self.address, is_reset=is_reset)
        while True:
            match handshake.receive(await self._ask(handshake)):
                case Progress.DONE:
                    self.not_serving = ""
                    self.protocol = handshake.protocol
                    self.introduction = introduction
                    self.credentials = introduction.credentials
                    self.client_id = handshake.client_id
                    return
                case Progress.ASK_LATER:
                    self.not_serving = handshake.not_serving
                    limit.reschedule(self._loop.time() + LOADING_PAUSE + timeout)
                    await asyncio.sleep(LOADING_PAUSE)
                case Progress.ASK_NOW:
                    pass

    async def _ask(self, handshake: Handshake) -> list[object]:
        """Send one round of the handshake in one write and return the replies."""
        self._round = finished = self._loop.create_future()
        queries = [Query(self._encoder.encode(step.args)) for step in handshake.steps[:-1]]
        queries.append(Query(self._encoder.encode(handshake.steps[-1].args), self._finish_round))
        if self._failure is not None:
            self._finish_round()
        elif self._transport.is_closing() or self.has_hung_up():
            pass  # the loop is about to say why: writing would put its own error before that, a TLS alert perhaps
        elif not self.ask(queries, self._clock()):
            self._finish_round()
        await finished
        self._round = None
        if self._failure is not None:
            raise self._explained(self._failure) from self._failure
        return [query.reply for query in queries]

    def _explained(self, failure: KitError) -> ConnectError:
        """Return why the handshake failed: with TLS 1.3 the server looks at a certificate after its own is done."""
        explained = self._dialler.explain(failure)
        if explained is not None:
            return explained
        is_reset = isinstance(failure.__cause__, ConnectionError) and self.bytes_read == 0
        hint = self._dialler.explain_reset(self._transport) if is_reset else ""
        return ConnectError(f"{failure} during the handshake{hint}", address=self.address)

    def _finish_round(self, _: Query | None = None) -> None:
        if self._round is not None and not self._round.done():
            self._round.set_result(None)

    def _end(self, error: KitError) -> None:
        """The one way to end: close the socket and hand the unanswered commands back, once."""
        if self._failure is not None:
            return
        self._failure = error
        was_open = self._machine.state is not State.HANDSHAKING and self.protocol != 0
        is_awaited = was_open and bool(self._machine.in_flight)
        unanswered = self._machine.unanswered()
        self._tally.note_end(self)
        if self._shell is not None:
            if is_awaited:
                self._discard_unsent()
            self._transport.abort()
        self._finish_round()
        self.ended.set_result(None)
        if was_open:
            self._owner.lost(error, unanswered)

    def _discard_unsent(self) -> None:
        """Let the kernel forget what it has not got through yet.

        Else it tries again for minutes, also when the socket is closed: a write whose caller was told that its outcome
        is unknown would be executed behind later ones, which went by the next connection.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is not None:  # TLS has none any more when its connection is lost
            with contextlib.suppress(OSError):  # it is closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
