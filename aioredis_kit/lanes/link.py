"""One address-bound connection that keeps itself alive: dial, handshake, ready, lost, back-off.

Reconnecting, health pings and (later) re-authentication exist here once, for every lane.

Rules of this file:

1. One job owns the connection: everything between a loss and the next ``ready`` happens in ``run``.
2. ``retries`` counts 0, 1, 2 … from a loss until the next ``ready``, and the strategy's first answer is
   honoured.
3. A strategy that raises or answers nonsense is reported; the default one decides that attempt.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import DataError

from aioredis_kit.events import Connected, Event, Failed, Pinged, Ready, Reauthenticated, Reconnecting
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ConnectError,
    ConnectionLostError,
    ReconnectStrategyError,
)
from aioredis_kit.lanes.health import HealthCheck, Pong
from aioredis_kit.policy.reconnect import Delay, GiveUp, default_delay, is_hopeless, read_answer
from aioredis_kit.transport.command import Query
from aioredis_kit.transport.connection import Connection
from aioredis_kit.transport.tasks import foreign
from aioredis_kit.wire.decoder import Decoder
from aioredis_kit.wire.handshake import without_credentials
from aioredis_kit.wire.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Collection

    from aioredis_kit.credentials import Credentials
    from aioredis_kit.exceptions import KitError
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.transport.tally import Tally
    from aioredis_kit.wire.handshake import Introduction
    from aioredis_kit.wire.inflight import Slot

STRATEGY_TIMEOUT: Final = 5.0
"""How long an asynchronous reconnect strategy may take, in seconds; then the default one decides."""


class LinkState(enum.Enum):
    """What a link is doing."""

    IDLE = "not connected"
    CONNECTING = "connecting"
    READY = "ready"
    WAITING = "reconnecting"
    """Waiting before the next attempt."""
    CLOSED = "closed"


class LinkOwner(Protocol):
    """What a link tells its lane."""

    def ready(self, connection: Connection) -> None:
        """Commands can be sent on this connection."""

    def lost(self, error: KitError, unanswered: list[Slot]) -> None:
        """That connection has ended, with these commands unanswered."""

    def given_up(self, error: ConnectError) -> None:
        """The strategy gave up; the link is closed."""

    def answered(self) -> None:
        """Replies were read. Only told while the lane asked the connection for it."""

    def woke_half(self) -> None:
        """Half of the many tasks that were answered have issued their next commands; now come the others."""

    def writable_changed(self, *, is_writable: bool) -> None:
        """The connection should not, or can again, be written to."""

    def pushed(self, pushes: list[Any]) -> None:
        """Pushes were read."""

    def happened(self, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def outdated(self, reason: str) -> None:
        """Another connection has to take the place of the present one; what is in flight is to be answered before."""


class Introducer(Protocol):
    """What says what connections are to be."""

    async def introduce(self) -> Introduction:
        """Return what a new connection is to become.

        Raises:
            ConnectError: Nobody knows who to be.
        """
        ...

    def is_current(self, introduction: Introduction) -> bool:
        """Whether that is still what a connection is to be."""
        ...

    def refused(self, introduction: Introduction) -> None:
        """The server did not take the credentials."""

    def newest_credentials(self) -> Credentials | None:
        """Who connections are to be that are open for long; ``None``: who they are."""
        ...


class Link:
    """Keeps one connection to one address.

    Lifecycle: ``run`` is a job of the client that keeps it connected; or ``open`` connects it once. ``close`` ends it
    for good.

    Args:
        owner: The lane.
        equipment: What its connections are made of.
        introducer: Says what connections are to be.
        tally: Counts what it does.

    Attributes:
        address: Where it leads to, as text.
        state: What it is doing.
        down_since: Since when it has not been ready, on the client's clock.
        connection: The connection, while there is one that is ready.
    """

    def __init__(
        self,
        owner: LinkOwner,
        equipment: Equipment,
        *,
        introducer: Introducer,
        tally: Tally,
    ) -> None:
        self.address = str(equipment.dialler.address)
        self.state = LinkState.IDLE
        self.connection: Connection | None = None
        self.down_since = equipment.clock()
        self._is_reserved = False
        self._asked: Credentials | None = None  # what it was last asked to authenticate as, on this connection
        self._owner = owner
        self._equipment = equipment
        self._introducer = introducer
        self._tally = tally
        self._was_ready = False
        self._health: HealthCheck | None = None
        self._loss: asyncio.Future[KitError] | None = None
        self._latest: Connection | None = None  # the last connection made

    @property
    def is_reserved(self) -> bool:
        """Whether nothing of the client's own is to be sent.

        The server holds a reply back, so that silence is no sign of death, or is in the middle of a transaction.
        """
        return self._is_reserved

    @is_reserved.setter
    def is_reserved(self, is_reserved: bool) -> None:
        self._is_reserved = is_reserved
        if not is_reserved:
            self.reauthenticate()

    @property
    def is_outdated(self) -> bool:
        """Whether there is a connection, and it is not yet who it should be."""
        newest = self._introducer.newest_credentials()
        return self.connection is not None and newest is not None and not newest.is_same_as(self.connection.credentials)

    @property
    def not_serving(self) -> str:
        """The word with which the server said to a connection that it does not serve yet; empty: it has not."""
        return "" if self._latest is None or self._latest.failure is not None else self._latest.not_serving

    def has_closed(self) -> bool:
        """Whether no further connection is made."""
        return self.state is LinkState.CLOSED

    async def run(self) -> None:
        """Connect, and reconnect, until the strategy gives up or the link is closed.

        Cancellation:
            Ends it. A connection that is open stays open: ``close`` ends that.
        """
        clock = self._equipment.clock
        if self.connection is not None:  # this job failed before: nobody looked after its connection since
            self.connection.drop(ConnectionLostError("the link failed", address=self.address))
        retries = 0
        cause: Exception | None = None
        failing_since = clock()
        while not self.has_closed():
            if cause is not None:
                delay = await self._delay(retries, cause, clock() - failing_since)
                if delay is None:
                    return
                retries += 1
                await asyncio.sleep(delay)
                if self.has_closed():
                    return
            try:
                connection = await self._connect()
            except ConnectError as error:
                error.attempts = retries + 1
                cause = error
                continue
            if self.has_closed():
                connection.drop(ConnectionLostError("closed while connecting", address=self.address))
                return
            if not self._introducer.is_current(connection.introduction):  # that changed meanwhile
                connection.drop(ConnectionLostError("it is not what it should be", address=self.address))
                cause = None
                continue
            cause = await self._keep(connection)
            retries = 0
            failing_since = clock()

    async def open(self) -> None:
        """Connect once. When that connection ends, so does the link.

        Raises:
            ConnectError: It failed. The link can't be used.

        Cancellation:
            Safe. The link can't be used.
        """
        connection = await self._connect()
        if self.has_closed():
            connection.drop(ConnectionLostError("closed while connecting", address=self.address))
            raise ConnectError("closed while connecting", address=self.address)
        if not self._introducer.is_current(connection.introduction):
            connection.drop(ConnectionLostError("it is not what it should be", address=self.address))
            raise ConnectError("what connections are to be has changed meanwhile", address=self.address)
        self._begin(connection)

    def reauthenticate(self) -> None:
        """Authenticate as who the connection should be, if it is another one; later if it is reserved."""
        connection, newest = self.connection, self._introducer.newest_credentials()
        if connection is None or newest is None or self.is_reserved or not self.is_outdated:
            return
        if newest.is_same_as(self._asked):
            return
        self._asked = newest
        if not connection.takes_commands:
            self._owner.outdated("it can't authenticate with the new credentials while it is subscribed")
            return
        user = () if newest.username is None else (newest.username,)
        try:
            payload = self._equipment.encoder.encode(("AUTH", *user, newest.password))
        except DataError as error:  # it names no value; whoever it is for goes on until the old ones end
            self._owner.happened(Failed(error))
            return

        def answered(query: Query) -> None:
            if not isinstance(query.reply, Exception):
                before, connection.credentials = connection.credentials, newest
                self._owner.happened(
                    Reauthenticated(is_same_user=before is not None and before.username == newest.username)
                )
            elif connection is self.connection:
                self._owner.happened(Failed(without_credentials(query.reply, newest)))
                self._owner.outdated("the server did not take the new credentials")

        connection.ask((Query(payload, answered),), self._equipment.clock())

    def has(self, old: Collection[Credentials]) -> bool:
        """Whether there is a connection that still is somebody of these, and should not be."""
        return self.is_outdated and any(
            each.is_same_as(self.connection.credentials) for each in old if self.connection is not None
        )

    def recycle(self, old: Collection[Credentials]) -> None:
        """Have the connection replaced if it still is somebody of these, and should not be."""
        if self.has(old):
            self._owner.outdated("its credentials end, and it did not authenticate with the new ones in time")

    def probe(self) -> None:
        """Ping now: there is a doubt about the connection."""
        if self._health is not None and not self.is_reserved:
            self._health.probe()

    def ask_latency(self) -> asyncio.Future[Pong] | None:
        """Ping now; return what is done with the next answer to a ping. ``None``: there is no connection."""
        return None if self._health is None else self._health.ask()

    def drop(self, error: KitError) -> None:
        """Give the present connection up, if there is one."""
        if self.connection is not None:
            self.connection.drop(error)

    def close(self) -> None:
        """Make no further connection. One that is open stays open."""
        self.state = LinkState.CLOSED
        if self._health is not None:
            self._health.stop()

    @property
    def is_closed(self) -> bool:
        """Whether the last connection's socket is closed."""
        return self._latest is None or self._latest.is_closed

    async def wait_closed(self) -> None:
        """Wait until the last connection's socket is closed.

        Cancellation:
            Safe.
        """
        if self._latest is not None:
            await self._latest.wait_closed()

    # What the connection tells.

    def connected(self) -> None:
        """See ``ConnectionOwner``."""
        self._owner.happened(Connected())

    def lost(self, error: KitError, unanswered: list[Slot]) -> None:
        """See ``ConnectionOwner``."""
        self.connection = None
        self.down_since = self._equipment.clock()
        if not self.has_closed():
            self._tally.losses += 1
            self._tally.latest_loss, self._tally.lost_at = str(error), self.down_since
        if self._health is not None:
            self._health.end()
            self._health = None
        if self.state is LinkState.READY:
            self.state = LinkState.WAITING
        self._owner.lost(error, unanswered)
        if self._loss is not None and not self._loss.done():
            self._loss.set_result(error)

    def answered(self) -> None:
        """See ``ConnectionOwner``."""
        self._owner.answered()

    def woke_half(self) -> None:
        """See ``ConnectionOwner``."""
        self._owner.woke_half()

    def writable_changed(self, *, is_writable: bool) -> None:
        """See ``ConnectionOwner``."""
        self._owner.writable_changed(is_writable=is_writable)

    def pushed(self, pushes: list[Any]) -> None:
        """See ``ConnectionOwner``."""
        self._owner.pushed(pushes)

    async def _connect(self) -> Connection:
        self.state = LinkState.CONNECTING
        introduction = await self._introducer.introduce()
        equipment, options = self._equipment, self._equipment.options
        most_bytes = options.max_reply_bytes
        decoder = Decoder(options.encoding, options.encoding_errors, equipment.error_reply, most_bytes=most_bytes)
        machine = Machine(decoder, decode=options.decode_responses, most_bytes=most_bytes)
        connection = Connection(
            self, equipment.dialler, machine, equipment.encoder, clock=equipment.clock, tally=self._tally
        )
        self._latest = connection
        try:
            await connection.open(introduction, timeout=options.connect_timeout)
        except ConnectError as error:
            self._tally.failures += 1
            if isinstance(error, AuthenticationFailedError):
                self._introducer.refused(introduction)
            raise
        return connection

    async def _keep(self, connection: Connection) -> KitError:
        """Hand a connection to the lane and wait for its end."""
        self._loss = asyncio.get_running_loop().create_future()
        self._begin(connection)
        return await self._loss

    def _begin(self, connection: Connection) -> None:
        equipment, options = self._equipment, self._equipment.options
        self.connection = connection
        self.state = LinkState.READY
        self._tally.opened += 1
        if self._was_ready:
            self._tally.reconnects += 1
            self._tally.reconnected_at = equipment.clock()
        self._was_ready = True
        self._health = HealthCheck(
            connection,
            equipment.encoder.encode(("PING",)),
            interval=options.ping_interval,
            timeout=options.ping_timeout,
            is_due=lambda: not self.is_reserved,
            answered=self._note_latency,
            clock=equipment.clock,
        )
        self._asked = None
        self._owner.happened(Ready(connection.protocol))
        self.reauthenticate()  # there may be a newer token than that of the handshake
        self._owner.ready(connection)

    def _note_latency(self, latency: float) -> None:
        self._tally.note_latency(latency)
        self._owner.happened(Pinged(latency))

    async def _delay(self, retries: int, cause: Exception, elapsed: float) -> float | None:
        """Ask the strategy; return how long to wait, or ``None`` after it gave up."""
        self.state = LinkState.WAITING
        decision = await self._decide(retries, cause, elapsed)
        if isinstance(decision, GiveUp):
            self.close()
            self._owner.given_up(self._final_error(cause, decision.error, retries))
            return None
        self._owner.happened(Failed(cause))
        self._owner.happened(Reconnecting(retries, decision.seconds))
        return decision.seconds

    async def _decide(self, retries: int, cause: Exception, elapsed: float) -> Delay | GiveUp:
        strategy = self._equipment.strategy
        if strategy.is_default and not self._was_ready and is_hopeless(cause, self._equipment.options):
            return GiveUp(None)
        try:
            async with asyncio.timeout(STRATEGY_TIMEOUT):
                answer = await foreign(lambda: strategy.ask(retries, cause, elapsed))
            return read_answer(answer)
        except Exception as error:  # noqa: BLE001  # the strategy is the user's code: it may raise anything
            self._owner.happened(Failed(error))
            return Delay(default_delay(retries, self._equipment.uniform))

    def _final_error(self, cause: Exception, answer: Exception | None, retries: int) -> ConnectError:
        if answer is not None:
            error: ConnectError = ReconnectStrategyError(str(answer), address=self.address, attempts=retries + 1)
            error.__cause__ = answer
            return error
        if isinstance(cause, ConnectError):
            return cause
        error = ConnectError(f"{cause}; the reconnect strategy gave up", address=self.address, attempts=retries + 1)
        error.__cause__ = cause
        return error
