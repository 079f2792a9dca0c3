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
        previous: The fence before, if that has not ended.

    Attributes:
        outcome: The reply, or the exception that takes its place.
        desired: What connections are to be behind it, once it has ended. ``None`` if it was withdrawn: then that is
            what they are to be behind the one before.
        previous: The one before, while that has not ended.
        was_sent: Whether it was ever handed to a transport.
    """

    def __init__(
        self,
        owner: StateOwner,
        shared: SharedLane,
        payload: Payload,
        changes: Mapping[str, object],
        previous: Fence | None,
    ) -> None:
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.desired: Desired | None = None
        self.previous = previous
        self.was_sent = False
        self._owner = owner
        self._shared = shared
        self._payload = payload
        self._changes = changes
        self._is_unwanted = False
        self._barriers = shared.hold()

    def withdraw(self) -> None:
        """Note that nobody waits for it any more. If it was not sent yet it never is, and commands go on."""
        self._is_unwanted = True
        if not self.was_sent and not self.outcome.done():
            self._release()
            for barrier in self._barriers:
                barrier.reach()
            self.outcome.set_result(None)

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
            self._release()
            self._end(reply)

    def _was_withdrawn(self) -> bool:
        return self._is_unwanted

    def _release(self) -> None:
        self._shared.release(self._barriers)

    def _end(self, reply: Any) -> None:
        if not self.outcome.done():
            self.previous, self.desired = None, self._owner.desired
            self.outcome.set_result(one_for_each(reply) if isinstance(reply, KitError) else reply)

    async def _execute(self) -> Any:
        """Send it on all links until one has answered it; return the reply, or the refusal."""
        while not self._was_withdrawn():
            await self._shared.wait_connected()
            if self._was_withdrawn():
                break
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
