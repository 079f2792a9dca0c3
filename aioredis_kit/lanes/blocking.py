"""Blocking commands: each on a dedicated connection, and accounted for when its caller has gone.

The server takes an element from a list and sends it to whoever waits there. If that caller has gone meanwhile, closing
the connection would lose the element unseen. So the command is ended with ``CLIENT UNBLOCK`` instead, over the shared
lane, and its reply is read: nil says that nothing was taken; an element is reported.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.exceptions import KitError, one_for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.lanes.dedicated import DedicatedLane, Lease
    from aioredis_kit.transport.command import Command
    from aioredis_kit.wire.encoder import Payload

PATIENCE: Final = 1.0
"""How long a blocking command whose caller has gone may take to end, in seconds; then its connection is closed."""
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class Unblocker:
    """What it takes to end a blocking command from another connection.

    Args:
        ask: Sends a command on a shared link. See ``LinkQueue.ask``.
        encode: Encodes a command.
        spawn: Runs a function as a job of the client; tells whether that can still be done.
    """

    def __init__(
        self,
        ask: Callable[[Payload], asyncio.Future[Any] | None],
        encode: Callable[[tuple[Any, ...]], Payload],
        spawn: Callable[[Any, str], bool],
    ) -> None:
        self._ask = ask
        self._encode = encode
        self.spawn = spawn

    async def unblock(self, client_id: int, settled: asyncio.Future[None]) -> None:
        """Tell the server to end what a connection waits for, until that has been answered, or for a while.

        ``CLIENT UNBLOCK`` answers 0 to a connection that does not wait: not yet, or not any more.

        Cancellation:
            Safe.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        pause = _FIRST_PAUSE
        payload = self._encode(("CLIENT", "UNBLOCK", client_id))
        while not settled.done() and (left := end - loop.time()) > 0:
            answer = self._ask(payload)
            if answer is None:
                await asyncio.wait((settled,), timeout=min(pause, left))
            else:
                await asyncio.wait((settled, answer), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    continue
                if isinstance(answer.result(), Exception):
                    return  # no right to, or no such command
                await asyncio.wait((settled,), timeout=min(left if answer.result() else pause, end - loop.time()))
            pause = min(pause * 2, _LONGEST_PAUSE)


class BlockingCall:
    """One blocking command on a lease, from its dispatch to its reply, whoever waits for that.

    Lifecycle: ``wait`` once. After it, the lease is given back if ``gives_back`` is set, as soon as the command has
    been answered.

    Args:
        lane: The dedicated lane.
        lease: The lease that it is sent on.
        command: The command. It is to have no deadline.
        unblocker: Ends it when its caller has gone.
        gives_back: Whether the lease is given back afterwards.

    Attributes:
        command: The command.
    """

    def __init__(
        self, lane: DedicatedLane, lease: Lease, command: Command, unblocker: Unblocker, *, gives_back: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self._lane = lane
        self._lease = lease
        self._unblocker = unblocker
        self._gives_back = gives_back
        self._refusal: KitError | None = None
        self._is_ending = False
        self._outcome: asyncio.Future[Any] = loop.create_future()  # what the caller waits for
        self._settled: asyncio.Future[None] = loop.create_future()  # the reply is here, or will never be
        command.add_done_callback(self._answered, context=contextvars.Context())

    async def wait(self, timeout: float | None) -> Any:
        """Send it and return its reply, or the exception that takes the place of one.

        Args:
            timeout: How long to wait from now on, in seconds; ``None``: for ever.

        Raises:
            TimeoutError: It was not answered in time. It is being unblocked.
            KitError: The lease can't be used any more; nothing was sent.

        Cancellation:
            It is unblocked in the background, and a reply that comes all the same is reported.
        """
        lease = self._lease
        try:
            self.command.dispatch(lease.queue)
        except BaseException:
            self._give_back()
            raise
        lease.blocked = self
        lease.link.is_reserved = True
        try:
            if timeout is None:
                return await self._outcome
            async with asyncio.timeout(timeout):
                return await self._outcome
        except (asyncio.CancelledError, TimeoutError):
            if self._settled.done():  # it was answered, and at the same moment its caller was called off
                self._note_orphan()
            else:
                self._end()
            raise

    def refuse(self, refusal: KitError) -> None:
        """End it now; if nothing was taken, its caller gets this error."""
        self._refusal = refusal
        self._end()

    def _end(self) -> None:
        if self._is_ending or self._settled.done():
            return
        self._is_ending = True
        if not self._unblocker.spawn(self._unblock, "unblock"):
            self._lane.discard(self._lease, "its blocking command can't be ended otherwise")

    async def _unblock(self) -> None:
        connection = self._lease.link.connection
        client_id = connection.client_id if connection is not None else None
        try:
            if client_id is not None:
                await self._unblocker.unblock(client_id, self._settled)
        finally:
            if not self._settled.done():
                self._lane.discard(self._lease, "its blocking command did not end")

    def _answered(self, command: Command) -> None:
        """Take the reply."""
        lease, reply = self._lease, command.reply
        lease.blocked = None
        lease.link.is_reserved = False
        self._settled.set_result(None)
        if self._outcome.done():
            self._note_orphan()
        elif self._refusal is not None and reply is None:
            self._outcome.set_result(one_for_each(self._refusal))
        else:
            self._outcome.set_result(reply)
        self._give_back()

    def _note_orphan(self) -> None:
        reply = self.command.reply
        if isinstance(reply, KitError):
            self._lane.unknown_outcomes += 1
        elif reply is not None and not isinstance(reply, Exception):
            self._lane.orphaned(self.command)

    def _give_back(self) -> None:
        if self._gives_back:
            self._lane.release(self._lease)
