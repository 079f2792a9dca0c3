"""A command that changes the state of every shared connection, and what keeps it in its place.

What was issued before it ends first, so that nothing of that is sent again after the change. What is issued later
waits. In between the command is executed on every link that is connected; links that connect later, or did not take
it, are introduced with the new state.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from aioredis_kit.exceptions import ClientClosedError, KitError, one_for_each

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aioredis_kit.lanes.desired import Desired
    from aioredis_kit.lanes.shared import SharedLane
    from aioredis_kit.wire.encoder import Payload


class StateOwner(Protocol):
    """What a fence changes.

    Attributes:
        desired: What all connections are to be.
    """

    desired: Desired


class Fence:
    """One such command.

    Lifecycle: made when the command is issued: from then on commands wait behind it. ``run`` once, as a job of the
    client.

    Args:
        owner: The endpoint.
        shared: The shared lane.
        payload: The encoded command.
        changes: What it changes of what connections are to be.

    Attributes:
        outcome: The reply, or the exception that takes its place.
        is_wanted: Whether somebody still waits for it. If nobody does, and it was not sent yet, it won't be.
        was_sent: Whether it was ever handed to a transport.
    """

    def __init__(self, owner: StateOwner, shared: SharedLane, payload: Payload, changes: Mapping[str, object]) -> None:
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_wanted = True
        self.was_sent = False
        self._owner = owner
        self._shared = shared
        self._payload = payload
        self._changes = changes
        self._barriers = shared.hold()

    async def run(self) -> None:
        """Do it.

        Cancellation:
            Commands go on. Whether it was executed is unknown; the connections' state is what is desired.
        """
        reply: Any = ClientClosedError("the client was closed before the command was executed")
        try:
            for barrier in self._barriers:
                await asyncio.wait((barrier.reached,))
                if (error := barrier.reached.exception()) is not None:
                    reply = error
                    return
            reply = await self._execute()
        finally:
            self._shared.release(self._barriers)
            if not self.outcome.done():
                self.outcome.set_result(one_for_each(reply) if isinstance(reply, KitError) else reply)

    async def _execute(self) -> Any:
        """Send it on all links until one has answered it; return the reply, or the refusal."""
        while self.is_wanted:
            await self._shared.wait_connected()
            self.was_sent = True
            try:
                answers = await self._shared.ask_all(self._payload)
            except asyncio.CancelledError:
                self._shared.replace_but({})
                raise
            accepted = {queue: at for queue, (at, reply) in answers.items() if not isinstance(reply, Exception)}
            if accepted:
                self._owner.desired = self._owner.desired.changed(**self._changes)
                self._shared.replace_but(accepted)
                return answers[next(iter(accepted))][1]
            if answers:
                return next(iter(answers.values()))[1]
        return None
