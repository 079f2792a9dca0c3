"""Blocking commands: each on a dedicated connection, and accounted for when its caller has gone.

The server takes an element from a list and sends it to whoever waits there. If that caller has gone meanwhile, closing
the connection would lose the element unseen. So the command is ended with ``CLIENT UNBLOCK`` instead, over the shared
lane, and its reply is read: nil says that nothing was taken; an element is reported.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final, Protocol

from aioredis_kit.exceptions import KitError, one_for_each
from aioredis_kit.wire.inflight import UNWRITTEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.lanes.link import Link
    from aioredis_kit.lanes.queue import LinkQueue
    from aioredis_kit.transport.command import Command
    from aioredis_kit.wire.encoder import Argument, Payload

PATIENCE: Final = 1.0
"""How long a blocking command whose caller has gone may take to end, in seconds; then its connection is closed."""
INTERRUPTED: Final = object()
"""What takes the place of a reply if a command was interrupted, and nothing came of it."""
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class Outcome(asyncio.Future[Any]):
    """What the caller of a blocking command waits for.

    Attributes:
        command: The command.
    """

    def __init__(self, command: Command) -> None:
        super().__init__(loop=command.loop)
        self.command = command


class BlockableLease(Protocol):
    """What a blocking command is sent on: see ``Lease``."""

    queue: LinkQueue
    calls: list[BlockingCall]
    is_leaving: bool

    @property
    def link(self) -> Link:
        """Its link."""
        ...

    def reserve(self) -> None:
        """Keep the client's own commands off the connection while there are calls."""

    def close(self, reason: str) -> None:
        """Close the connection."""

    def give_back(self) -> None:
        """Let others have the connection, as soon as nothing is on it any more."""


class CallOwner(Protocol):
    """What blocking commands tell, and ask of, the dedicated lane."""

    unknown_outcomes: int

    def check_open(self) -> None:
        """See that the client is not being closed; raise if it is."""

    def orphaned(self, args: tuple[Argument, ...], reply: Any) -> None:
        """One was answered, and its caller has gone."""


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

    async def unblock(self, client_id: int, settled: asyncio.Future[None]) -> bool:
        """Tell the server to end what a connection waits for, until that has been answered, or for a while.

        ``CLIENT UNBLOCK`` answers 0 to a connection that does not wait: not yet, or not any more.

        Returns:
            Whether none of them is still on its way. One that is might end the connection's next blocking command.

        Cancellation:
            Safe.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        pause = _FIRST_PAUSE
        payload = self._encode(("CLIENT", "UNBLOCK", client_id))
        answer: asyncio.Future[Any] | None = None
        was_lost = False
        while not settled.done() and (left := end - loop.time()) > 0:
            answer = self._ask(payload)
            wanted = (settled,) if answer is None else (settled, answer)
            wait = min(pause, left) if answer is None else left
            await asyncio.wait(wanted, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if answer is not None and answer.done():
                reply = answer.result()
                was_lost |= isinstance(reply, KitError)
                if isinstance(reply, Exception) and not isinstance(reply, KitError):
                    break  # no right to, or no such command
                has_hit = isinstance(reply, int) and reply > 0
                await asyncio.wait((settled,), timeout=max(min(left if has_hit else pause, end - loop.time()), 0.0))
            pause = min(pause * 2, _LONGEST_PAUSE)
        if answer is not None and not answer.done():
            await asyncio.wait((answer,), timeout=max(end - loop.time(), 0.0))
        return not was_lost and (answer is None or (answer.done() and not isinstance(answer.result(), KitError)))


class BlockingCall:
    """One blocking command on a lease, from its dispatch to its reply, whoever waits for that.

    Lifecycle: ``wait`` once. The lease can be given back after that; it is, as soon as the command has been answered
    and nothing is on its way any more that was to end it.

    Args:
        lane: The dedicated lane.
        lease: The lease that it is sent on.
        command: The command. It is to have no deadline.
        unblocker: Ends it when its caller has gone.
        takes: Whether its reply is something that the server has given away, and nobody will see again.
        may_be_interrupted: Whether nothing is missed if it ends without an answer, and is sent again.

    Attributes:
        command: The command.
        settled: Done when its reply is here, or will never be.
        ended: Done when the connection is free of it.
        is_ending: Whether it is being unblocked.
    """

    def __init__(
        self,
        lane: CallOwner,
        lease: BlockableLease,
        command: Command,
        unblocker: Unblocker,
        *,
        takes: bool,
        may_be_interrupted: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self.settled: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.is_ending = False
        self._lane = lane
        self._lease = lease
        self._unblocker = unblocker
        self._takes = takes
        self._may_be_interrupted = may_be_interrupted
        self._is_interrupted = False
        self._refusal: KitError | None = None
        self._is_orphan_noted = False
        self._outcome = Outcome(command)
        command.add_done_callback(self._answered, context=contextvars.Context())

    async def wait(self, timeout: float | None) -> Any:
        """Send it and return its reply, or the exception that takes the place of one; or ``INTERRUPTED``.

        Args:
            timeout: How long to wait from now on, in seconds; ``None``: for ever.

        Raises:
            TimeoutError: It was not answered in time. It is being unblocked.
            KitError: The lease can't be used any more; nothing was sent.

        Cancellation:
            If it was not written yet it never is. Otherwise it is unblocked in the background, and a reply that comes
            all the same is reported.
        """
        lease = self._lease
        lease.calls.append(self)
        lease.reserve()
        try:
            self._lane.check_open()
            self.command.dispatch(lease.queue)
        except BaseException:  # whatever it was: nothing was sent, so no reply will end the call
            self._end()
            raise
        try:
            if timeout is None:
                return await self._outcome
            async with asyncio.timeout(timeout):
                return await self._outcome
        except (asyncio.CancelledError, TimeoutError) as error:
            self._lease.queue.tally.cancelled += isinstance(error, asyncio.CancelledError)
            if self.command.state == UNWRITTEN:
                self.command.abandon()
                self._settle()
            elif self.settled.done():  # it was answered, and at the same moment its caller was called off
                self._note_orphan()
            else:
                self._call_off()
            raise

    def refuse(self, refusal: KitError) -> None:
        """End it now; if nothing was taken, its caller gets this error."""
        self._refusal = self._refusal or refusal
        if self.command.state == UNWRITTEN:
            self.command.fail(one_for_each(refusal))
        else:
            self._call_off()

    def interrupt(self) -> None:
        """Let it end, so that the connection can be used for something else; it is for the caller to send it again.

        If that is not possible it goes on.
        """
        if self._may_be_interrupted and not self.settled.done() and not self.is_ending:
            self._is_interrupted = True
            self._call_off()

    def _call_off(self) -> None:
        if self.is_ending or self.settled.done():
            return
        self.is_ending = True
        if not self._unblocker.spawn(self._unblock, "unblock"):
            self._lease.close("its blocking command can't be ended otherwise")
            self._end()

    async def _unblock(self) -> None:
        """Have the server end it. If that can't be done, or could end the next one as well, close the connection.

        Where it was but to be interrupted, and the server or the user's rights don't let it, it simply goes on.
        """
        lease = self._lease
        is_over = False
        if self.ended.done():  # this job failed before
            return
        try:
            for call in lease.calls[: lease.calls.index(self)]:  # to unblock is to unblock the first
                await asyncio.wait((call.settled,))
            connection = lease.link.connection
            client_id = connection.client_id if connection is not None else None
            if client_id is not None:
                is_over = await self._unblocker.unblock(client_id, self.settled)
        finally:
            if is_over and not self.settled.done() and self._is_awaited():
                self.is_ending = False
            else:
                if not self.settled.done() or not is_over:
                    lease.close("its blocking command did not end")
                self._end()

    def _is_awaited(self) -> bool:
        """Whether it was but to be interrupted, and its caller still waits: to go on blocking does no harm."""
        return self._is_interrupted and self._refusal is None and not self._outcome.done()

    def _answered(self, command: Command) -> None:
        """Take the reply."""
        if self._outcome.done():
            self._note_orphan()
        elif self._refusal is not None and command.reply is None:
            self._outcome.set_result(one_for_each(self._refusal))
        else:
            is_nothing = self._is_interrupted and command.reply is None
            self._outcome.set_result(INTERRUPTED if is_nothing else command.reply)
        self._settle()

    def _settle(self) -> None:
        self.settled.set_result(None)
        if not self.is_ending:
            self._end()

    def _note_orphan(self) -> None:
        reply = self.command.reply
        if self._is_orphan_noted:
            return
        self._is_orphan_noted = True
        if isinstance(reply, KitError):
            self._lane.unknown_outcomes += 1
        elif self._takes:
            self._lane.orphaned(self.command.args, reply)

    def _end(self) -> None:
        lease = self._lease
        self.ended.set_result(None)
        lease.calls.remove(self)
        lease.reserve()
        if lease.is_leaving:
            lease.give_back()
