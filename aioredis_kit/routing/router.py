"""What a topology looks like from above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

    from aioredis_kit.exceptions import KitError
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.policy.commands import Arguments
    from aioredis_kit.statistics import Statistics
    from aioredis_kit.transport.command import Command, Taker


class Router(Protocol):
    """Sends each command to its endpoint and knows what to do when that was the wrong one."""

    @property
    def lane(self) -> Taker:
        """Where commands are dispatched to: the lane of the one address, or what chooses among several."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether a command issued now is written now, wherever it goes."""
        ...

    def route(self, args: Arguments) -> Endpoint:
        """Return the endpoint that serves a command, or what has no command yet (then it is empty)."""
        ...

    def report(self, command: Command, error: Exception) -> bool:
        """Take an error reply into account; return whether the command may go out again because of it."""
        ...

    def statistics(self) -> Statistics:
        """Return what its endpoints have done."""
        ...

    def expect_timeout(self, shortest: float) -> None:
        """Know the shortest time-out that commands have from now on, in seconds."""

    def start(self) -> None:
        """Begin to keep the connections alive."""

    def close(self, refusal: KitError) -> asyncio.Future[Any]:
        """Take no command any more; return what is done when all others have ended."""
        ...

    def destroy(self, refusal: KitError) -> None:
        """End everything now."""

    async def wait_closed(self) -> None:
        """Wait until no socket is open any more."""
