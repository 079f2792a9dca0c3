"""The shared lane: thousands of commands over a few links, each with a queue of its own.

With one link, commands go straight into its queue. With several, a command goes by the hash slot of its first key, so
that those on one key keep their order; one without keys goes over the first link.

What changes the state of all connections (``SELECT``, ``AUTH``) is a fence: what was issued before ends first, what is
issued later waits, and in between the change is made on every link.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.crc import key_slot

from aioredis_kit.events import Failed, Ready, Reauthenticated, Reconnecting
from aioredis_kit.exceptions import ConnectionLostError, KitError, NotConnectedError
from aioredis_kit.lanes.limits import Limits
from aioredis_kit.lanes.link import LinkState
from aioredis_kit.lanes.queue import LinkQueue
from aioredis_kit.statistics import LaneStatistics
from aioredis_kit.transport.units import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from aioredis_kit.credentials import Credentials
    from aioredis_kit.events import Event
    from aioredis_kit.exceptions import ConnectError
    from aioredis_kit.lanes.instruments import Instruments
    from aioredis_kit.lanes.link import Link
    from aioredis_kit.options import Options
    from aioredis_kit.policy.commands import Argument, Arguments, CommandTable
    from aioredis_kit.transport.command import Command, Taker
    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.transport.units import Barrier
    from aioredis_kit.wire.encoder import Payload

_MOST_NAMES: Final = 2048


class SharedLaneOwner(Protocol):
    """What the shared lane tells its endpoint."""

    def happened(self, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def given_up(self, error: ConnectError) -> None:
        """The reconnect strategy gave up."""

    def became_ready(self) -> None:
        """All links are ready."""

    def disconnected(self) -> None:
        """A connection was lost."""

    def configure(self, command: Command) -> None:
        """Note what a ``CLIENT SETNAME`` has done, for the connections to come."""

    def invalidated(self, keys: list[bytes] | None) -> None:
        """The server says that these keys have changed; ``None``: all of them."""

    def untracked(self, source: object) -> None:
        """The server will not tell any more of changes of what was read on a link.

        Args:
            source: Its queue, the lane of the commands that read it.
        """


class SharedLane:
    """All links that carry everybody's commands.

    Args:
        owner: The endpoint.
        options: How many links there are, and the limits of all together.
        commands: The command table.
        may_repeat: Whether a command may be sent again whose reply was lost.
        make_link: Makes a link for a queue.
        to_bytes: Encodes a key.
        loop: The client's event loop.
        instruments: What all lanes have.

    Attributes:
        queues: The links' queues.
        lane: Takes commands: the only queue, or what chooses among several.
    """

    def __init__(
        self,
        owner: SharedLaneOwner,
        options: Options,
        commands: CommandTable,
        *,
        may_repeat: Callable[[Command], bool],
        make_link: Callable[[LinkQueue], Link],
        to_bytes: Callable[[Argument], bytes],
        loop: asyncio.AbstractEventLoop,
        instruments: Instruments,
    ) -> None:
        count = options.connections
        limits = Limits(
            commands=-(-options.commands_queue_max_length // count),
            size=-(-options.commands_queue_max_bytes // count),
            raises_when_full=options.queue_full == "raise",
            holds_offline=not options.disable_offline_queue,
        )
        self._owner = owner
        self._holds_offline = limits.holds_offline
        self.queues = tuple(
            LinkQueue(self, limits, may_repeat=may_repeat, loop=loop, instruments=instruments) for _ in range(count)
        )
        for queue in self.queues:
            queue.link = make_link(queue)
        self.lane: Taker = self.queues[0] if count == 1 else _Chooser(self.queues, commands, to_bytes)
        self._has_connected = asyncio.Event()
        self._speaker: LinkQueue | None = None  # the one whose attempts to reconnect are told

    @property
    def is_ready(self) -> bool:
        """Whether a command issued now is written now, whatever its key."""
        return all(queue.is_ready for queue in self.queues)

    @property
    def has_written(self) -> bool:
        """Whether the server has ever obeyed a write."""
        return any(queue.has_written for queue in self.queues)

    @property
    def is_connected(self) -> bool:
        """Whether there is any connection."""
        return any(queue.connection is not None for queue in self.queues)

    @property
    def peer(self) -> tuple[str, int | None] | None:
        """Where its first connection leads, see ``Connection.peer``; ``None``: it has none."""
        connection = self.queues[0].connection
        return None if connection is None else connection.peer

    def statistics(self) -> LaneStatistics:
        """Return what its connections are doing."""
        states = [queue.link.state for queue in self.queues]
        return LaneStatistics(
            ready=states.count(LinkState.READY),
            connecting=states.count(LinkState.CONNECTING),
            waiting=states.count(LinkState.WAITING),
        )

    def expect_timeout(self, shortest: float) -> None:
        """Know the shortest time-out that commands have from now on, in seconds."""
        for queue in self.queues:
            queue.shortest_timeout = shortest

    def reauthenticate(self) -> None:
        """Authenticate with the newest credentials on all connections."""
        for queue in self.queues:
            queue.link.reauthenticate()

    def recycle(self, old: Collection[Credentials]) -> None:
        """Go on on new connections instead of those that still have one of these credentials."""
        for queue in self.queues:
            queue.link.recycle(old)

    def replace_connections(self, reason: str) -> None:
        """Go on on new connections; what is in flight on the present ones gets its replies first."""
        for queue in self.queues:
            queue.replace_connection(reason)

    def close(self, refusal: KitError) -> asyncio.Future[Any]:
        """Take no command any more; return what is done when all others have ended."""
        return asyncio.gather(*(queue.close(refusal) for queue in self.queues))

    def destroy(self, refusal: KitError) -> None:
        """End everything now."""
        for queue in self.queues:
            queue.destroy(refusal)

    async def wait_closed(self) -> None:
        """Wait until no socket is open any more.

        Cancellation:
            Safe.
        """
        for queue in self.queues:
            await queue.link.wait_closed()

    def ask(self, payload: Payload) -> asyncio.Future[Any] | None:
        """See ``LinkQueue.ask``: on the first link that is connected."""
        for queue in self.queues:
            if (answer := queue.ask(payload)) is not None:
                return answer
        return None

    def tell_others(self, teller: LinkQueue, payload: Payload) -> None:
        """Send a command on all links but one, whatever becomes of it."""
        for queue in self.queues:
            if queue is not teller:
                queue.ask(payload)

    # What the queues tell.

    def happened(self, queue: LinkQueue, event: Event) -> None:
        """See ``QueueOwner``. While several links are down, one speaks for all."""
        if isinstance(event, Ready):
            self._has_connected.set()
            if not all(each.link.state is LinkState.READY for each in self.queues):
                return
            self._owner.became_ready()
        elif isinstance(event, Reauthenticated) and not event.is_same_user:
            self._owner.untracked(queue)
        elif isinstance(event, Reconnecting | Failed):
            if self._speaker is None or self._speaker.link.state is LinkState.READY:
                self._speaker = queue
            if self._speaker is not queue:
                return
        self._owner.happened(event)

    def given_up(self, queue: LinkQueue, error: ConnectError) -> None:  # noqa: ARG002  # whichever it was
        """See ``QueueOwner``. The client ends, and with it the other links."""
        self._owner.given_up(error)

    def disconnected(self, queue: LinkQueue) -> None:
        """See ``QueueOwner``."""
        self._owner.untracked(queue)
        self._owner.disconnected()

    def configure(self, queue: LinkQueue, command: Command) -> None:
        """See ``QueueOwner``."""
        self._owner.configure(command)
        self.tell_others(queue, command.payload)

    def pushed(self, queue: LinkQueue, pushes: list[Any]) -> None:  # noqa: ARG002  # whichever it was
        """See ``QueueOwner``. Others than those of tracking were not asked for, so they are dropped."""
        for push in pushes:
            if push[:1] == [b"invalidate"] and len(push) > 1:
                self._owner.invalidated(push[1])

    # Fences.

    def hold(self) -> list[Barrier]:
        """Let no command that is issued from now on pass, until ``release``.

        Raises:
            NotConnectedError: There is no connection, and no offline queue.
        """
        if not self._holds_offline and not self.is_connected:
            raise NotConnectedError("the client is not connected and disable_offline_queue is set")
        return [queue.hold() for queue in self.queues]

    def release(self, barriers: list[Barrier]) -> None:
        """Go on."""
        for queue, barrier in zip(self.queues, barriers, strict=True):
            queue.release(barrier)

    async def wait_connected(self) -> None:
        """Wait until there is a connection.

        Cancellation:
            Safe.
        """
        while not self.is_connected:
            self._has_connected.clear()
            await self._has_connected.wait()

    async def ask_all(self, payload: Payload) -> dict[LinkQueue, tuple[Connection, Any]]:
        """Send a command on all links that are connected.

        Returns:
            For each link the connection and the reply, exceptions included. A link whose connection was lost
            meanwhile is left out.

        Cancellation:
            Safe. The command may have been executed all the same.
        """
        asked = [(queue, queue.connection, queue.ask(payload)) for queue in self.queues]
        answers: dict[LinkQueue, tuple[Connection, Any]] = {}
        for queue, connection, answer in asked:
            if connection is None or answer is None:
                continue
            await asyncio.wait((answer,))
            if not isinstance(reply := answer.result(), KitError):
                answers[queue] = connection, reply
        return answers

    def write_now(self) -> None:
        """Write what was issued in this turn of the loop: what is issued next goes over another connection."""
        for queue in self.queues:
            queue.write_now()

    def probe(self) -> None:
        """Ping on all links: there is a doubt about their connections."""
        for queue in self.queues:
            queue.link.probe()

    def replace_but(self, kept: Mapping[LinkQueue, Connection]) -> None:
        """Give all connections up but some: they are not what they should be."""
        for queue in self.queues:
            if queue.connection is not None and queue.connection is not kept.get(queue):
                address = queue.link.address
                queue.drop(ConnectionLostError(f"{address}: it is not what it should be", address=address))


class _Chooser:
    """Takes commands for several links. See ``Taker``; a command's lane becomes the link's queue."""

    def __init__(
        self, queues: tuple[LinkQueue, ...], commands: CommandTable, to_bytes: Callable[[Argument], bytes]
    ) -> None:
        self._queues = queues
        self._commands = commands
        self._to_bytes = to_bytes
        self._registered = 0  # what the command table had been told when that was looked up
        self._key_at: dict[Argument, int | None] = {}  # position of the first key by name; 0: none; None: it varies

    def take(self, command: Command) -> None:
        """See ``Taker``."""
        command.lane = queue = self._choose(command)
        queue.take(command)

    def take_large(self, command: Command) -> None:
        """See ``Taker``."""
        command.lane = queue = self._choose(command)
        queue.take_large(command)

    def _choose(self, command: Command) -> LinkQueue:
        for args in command.commands if isinstance(command, Unit) else (command.args,):
            key = self._first_key(args)
            if key is not None:
                return self._queues[key_slot(self._to_bytes(key)) % len(self._queues)]
        return self._queues[0]

    def _first_key(self, args: Arguments) -> Argument | None:
        if self._commands.registered != self._registered:
            self._registered = self._commands.registered
            self._key_at.clear()
        position = self._key_at.get(args[0], -1)
        if position == -1:
            position = self._remember(args)
        if position is None:
            return self._commands.classify(args).first_key(args)
        return args[position] if 0 < position < len(args) else None

    def _remember(self, args: Arguments) -> int | None:
        """Find out where commands of this name have their first key."""
        if self._commands.depends_on_arguments(args[0]):
            return None
        position = self._commands.classify(args).first_key_at
        if len(self._key_at) >= _MOST_NAMES:
            self._key_at.clear()
        self._key_at[args[0]] = position
        return position
