"""What queues and the dedicated lane tell, and ask of, those who own them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aioredis_kit.events import Event
    from aioredis_kit.exceptions import ConnectError
    from aioredis_kit.lanes.desired import Desired
    from aioredis_kit.lanes.queue import LinkQueue
    from aioredis_kit.transport.command import Command
    from aioredis_kit.wire.handshake import Introduction


class QueueOwner(Protocol):
    """What a queue tells its lane."""

    def happened(self, queue: LinkQueue, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def given_up(self, queue: LinkQueue, error: ConnectError) -> None:
        """The reconnect strategy gave up."""

    def disconnected(self, queue: LinkQueue) -> None:
        """There is no connection any more."""

    def configure(self, queue: LinkQueue, command: Command) -> None:
        """Do for all other connections what a ``CLIENT SETNAME`` has done for one."""

    def pushed(self, queue: LinkQueue, pushes: list[Any]) -> None:
        """Pushes were read."""


class DedicatedLaneOwner(Protocol):
    """What the dedicated lane asks of its endpoint."""

    def happened(self, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def spawn(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """Run a function as a job of the client; tell whether that can still be done."""
        ...

    desired: Desired
    """What connections are to be."""

    async def introduce(self, *, wants_id: bool) -> Introduction:
        """Return what a connection that is made now is to become."""
        ...
