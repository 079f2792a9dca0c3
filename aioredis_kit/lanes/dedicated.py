"""The dedicated lane: connections that one user has alone for a while.

A lease is opened when it is needed and there are not too many, lent to one user at a time, and closed when nobody
needed it for a while. It is never reconnected: what one user did to it must not come back for the next.

Rules of this file:

1. A lease is in one place: idle, lent, or being reset. Whoever takes it out of one puts it into another in the same
   turn of the loop, or closes it. The number of leases, and of those being opened, stays within the limit.
2. Waiting users are served in the order in which they came; nobody overtakes them.
3. Connections are opened by the client's own jobs, not by the users who wait for them, who may be cancelled.
4. Whoever waits gets a connection as connections were to be when the waiting began: a ``SELECT`` that comes later
   does not move a command to another database.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.events import Orphaned, Reauthenticated
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    NotConnectedError,
    one_for_each,
)
from aioredis_kit.lanes.limits import Limits
from aioredis_kit.lanes.queue import LinkQueue
from aioredis_kit.policy.deadlines import exhausted_error
from aioredis_kit.policy.retry import delay_after_refusal
from aioredis_kit.statistics import LaneStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aioredis_kit.credentials import Credentials
    from aioredis_kit.events import Event
    from aioredis_kit.exceptions import KitError, PoolExhaustedError
    from aioredis_kit.lanes.blocking import BlockingCall
    from aioredis_kit.lanes.desired import Desired
    from aioredis_kit.lanes.instruments import Instruments
    from aioredis_kit.lanes.link import Link
    from aioredis_kit.lanes.owners import DedicatedLaneOwner
    from aioredis_kit.options import Options
    from aioredis_kit.transport.command import Command
    from aioredis_kit.wire.encoder import Argument

IDLE_LIFE: Final = 30.0
"""How long a lease that nobody needs is kept, in seconds."""


class Lease:
    """One dedicated connection.

    Args:
        lane: The dedicated lane.
        limits: What its queue may hold.

    Attributes:
        queue: The queue in front of its link.
        holder: What it was lent for: the name of a command, or ``session``.
        turn: How many times it was given back: whoever had it before has it no more.
        is_dirty: Whether something was done to it that the next user must not see.
        is_beyond_reset: Whether that can't be undone for sure.
        is_in_transaction: Whether the server is, or may be, in the middle of a transaction of its user's.
        has_own_user: Whether its user has authenticated as somebody of his own choice.
        is_leaving: Whether its user has given it back, while blocking commands are still on it.
        is_lost: Whether its connection has ended.
        calls: The blocking commands that are on it, in the order in which they were sent.
        on_push: Told what the server pushes.
        on_closing: Told that the client is being closed, so that the lease comes back soon.
    """

    def __init__(self, lane: DedicatedLane, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._lane = lane
        self.queue = LinkQueue(self, limits, may_repeat=None, loop=loop, instruments=lane.instruments)
        self.holder = ""
        self.turn = 0
        self.is_dirty = False
        self.is_beyond_reset = False
        self.is_in_transaction = False
        self.has_own_user = False
        self.is_leaving = False
        self.is_lost = False
        self.calls: list[BlockingCall] = []
        self.on_push: Callable[[list[Any]], object] | None = None
        self.on_closing: Callable[[KitError], object] | None = None

    @property
    def link(self) -> Link:
        """Its link."""
        return self.queue.link

    @property
    def version(self) -> int:
        """As which version of what connections are to be it was introduced."""
        connection = self.link.connection
        return -1 if connection is None else connection.introduction.version

    @property
    def has_hung_up(self) -> bool:
        """Whether the server has hung up, which the event loop may not have told yet."""
        connection = self.link.connection
        return connection is None or connection.has_hung_up()

    @property
    def is_as_new(self) -> bool:
        """Whether the next user would notice nothing of the last one.

        A command that is still in flight may do anything, or block.
        """
        connection = self.link.connection
        return not self.is_dirty and connection is not None and not connection.in_flight

    def reserve(self) -> None:
        """Keep the client's own commands off the connection while they would disturb it, or wait for long."""
        self.link.is_reserved = self.is_in_transaction or bool(self.calls)

    def close(self, reason: str) -> None:
        """Close it, whether it is lent or not."""
        self.link.close()
        self.link.drop(ConnectionLostError(f"{self.link.address}: {reason}", address=self.link.address))

    def give_back(self) -> None:
        """See ``DedicatedLane.release``."""
        self._lane.release(self)

    # What its queue tells.

    def happened(self, queue: LinkQueue, event: Event) -> None:  # noqa: ARG002  # its own
        """See ``QueueOwner``. Other events are about the shared lane."""
        if isinstance(event, Reauthenticated):
            self._lane.happened(event)

    def given_up(self, queue: LinkQueue, error: ConnectError) -> None:
        """See ``QueueOwner``. Never told: nothing is tried again."""

    def disconnected(self, queue: LinkQueue) -> None:  # noqa: ARG002  # its own
        """See ``QueueOwner``."""
        self.is_lost = True
        self.link.close()
        self._lane.lost(self)

    def configure(self, queue: LinkQueue, command: Command) -> None:
        """See ``QueueOwner``. A name given in a session is the session's."""

    def pushed(self, queue: LinkQueue, pushes: list[Any]) -> None:  # noqa: ARG002  # its own
        """See ``QueueOwner``."""
        if self.on_push is not None:
            self.on_push(pushes)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """Who waits for a lease.

    Attributes:
        lease: What was lent.
        desired: What its connection is to be.
    """

    lease: asyncio.Future[Lease]
    desired: Desired


class DedicatedLane:
    """All leases of one address.

    Args:
        owner: The endpoint.
        options: How many leases there may be.
        make_link: Makes the link of a lease, whose connection becomes what was desired at some time.
        loop: The client's event loop.
        instruments: What all lanes have.

    Attributes:
        clock: The client's clock.
        instruments: What all lanes have.
        orphaned_replies: How many replies came to blocking commands whose callers had gone.
        unknown_outcomes: How many blocking commands ended without anybody knowing what they did.
    """

    def __init__(
        self,
        owner: DedicatedLaneOwner,
        options: Options,
        *,
        make_link: Callable[[Lease, Desired], Link],
        loop: asyncio.AbstractEventLoop,
        instruments: Instruments,
    ) -> None:
        self.instruments = instruments
        self.clock = instruments.clock
        self.orphaned_replies = 0
        self.unknown_outcomes = 0
        self._has_written = False
        self._owner = owner
        self._limit = options.max_dedicated_connections
        self._holds_offline = not options.disable_offline_queue
        self._reset_timeout = options.connect_timeout
        self._limits = Limits(
            commands=options.commands_queue_max_length,
            size=options.commands_queue_max_bytes,
            raises_when_full=options.queue_full == "raise",
        )
        self._make_link = make_link
        self._loop = loop
        self._is_shared_ready = asyncio.Event()
        self._waiters: deque[_Waiter] = deque()
        self._openers: set[object] = set()
        self._leases: set[Lease] = set()
        self._idle: deque[tuple[float, Lease]] = deque()  # and since when
        self._lent: set[Lease] = set()
        self._unclosed: set[Lease] = set()  # lost, and perhaps their sockets not yet closed
        self._idle_timer: asyncio.TimerHandle | None = None
        self._latest_failure: ConnectError | None = None
        self._refusal: KitError | None = None
        self._drained: asyncio.Future[None] | None = None

    @property
    def has_written(self) -> bool:
        """Whether the server has ever obeyed a write on a lease."""
        return self._has_written or any(lease.queue.has_written for lease in self._leases)

    @property
    def has_leases(self) -> bool:
        """Whether there is any, lent or not."""
        return bool(self._leases)

    @property
    def queues(self) -> list[LinkQueue]:
        """The queues of all leases."""
        return [lease.queue for lease in tuple(self._leases)]  # whoever asks for numbers may do so in another thread

    @property
    def waiting(self) -> int:
        """How many users wait for a lease."""
        return len(self._waiters)

    @property
    def is_exhausted(self) -> bool:
        """Whether somebody waits as all leases are lent."""
        return bool(self._waiters) and len(self._lent) >= self._limit

    def statistics(self) -> LaneStatistics:
        """Return what its connections are doing."""
        lent, idle = len(self._lent), len(self._idle)
        return LaneStatistics(
            ready=lent, idle=idle, connecting=len(self._openers) + len(self._leases - self._lent) - idle
        )

    @property
    def holders(self) -> tuple[str, ...]:
        """What the leases are lent for."""
        return tuple(sorted(lease.holder for lease in self._lent))

    # Lending.

    async def acquire(self, holder: str, due: float, desired: Desired | None = None) -> Lease:
        """Lend a connection.

        Args:
            holder: What for: the name of a command, or ``session``.
            due: When to give up, on the client's clock; infinity is never.
            desired: What the connection is to be, if not what connections are to be now.

        Raises:
            PoolExhaustedError: None became free, or could be opened, in time.
            NotConnectedError: The client is not connected, and there is no offline queue.
            ClientClosedError: The client was closed.
            ConnectError: The credentials were refused.

        Cancellation:
            Safe. Nothing was lent.
        """
        desired = desired or self._owner.desired
        while True:
            lease = self._take_idle(desired) or await self._wait(due, desired)
            if not lease.is_lost and self._refusal is None:
                break
            self.release(lease)  # that happened in the very turn in which it was lent
        lease.holder = holder
        return lease

    def release(self, lease: Lease) -> None:
        """Take a lease back, or as soon as no blocking command is on it any more. Idempotent."""
        if lease not in self._lent:
            return
        lease.queue.fail_waiting(ClientClosedError("the session has ended"))
        if lease.calls:
            lease.is_leaving = True
            for call in list(lease.calls):
                call.refuse(ClientClosedError("the session has ended"))
            return
        self._lent.discard(lease)
        lease.turn += 1
        lease.on_push = lease.on_closing = None
        lease.is_leaving = lease.is_in_transaction = False
        lease.link.is_reserved = lease.is_dirty  # until it was reset: that authenticates, and ends a transaction
        if lease.is_lost:
            self._open_more()
        elif self._refusal is not None:
            lease.close("the client is closed")
        elif lease.is_as_new:
            self._offer(lease)
        elif lease.is_beyond_reset or not self._owner.spawn(functools.partial(self._reset, lease), "reset"):
            lease.close("it can't be reset")
        self._look_if_drained()

    def discard(self, lease: Lease, reason: str) -> None:
        """Take a lease back and close it."""
        lease.close(reason)
        self.release(lease)

    def _take_idle(self, desired: Desired) -> Lease | None:
        """Lend an idle lease, if nobody waits for one and leases are lent."""
        if self._waiters or not self._is_shared_ready.is_set():
            return None
        while self._idle:
            _, lease = self._idle.pop()
            if lease.version == desired.version and not lease.has_hung_up:
                self._lent.add(lease)
                return lease
            lease.close("its time is over")
        return None

    def check_open(self) -> None:
        """See that the client is not being closed.

        Raises:
            KitError: It is, or has given up.
        """
        if self._refusal is not None:
            raise one_for_each(self._refusal)

    async def _wait(self, due: float, desired: Desired) -> Lease:
        self.check_open()
        if not self._holds_offline and not self._is_shared_ready.is_set():
            raise NotConnectedError("the client is not connected and disable_offline_queue is set")
        since = self.clock()
        waiter = _Waiter(self._loop.create_future(), desired)
        self._waiters.append(waiter)
        self._open_more()
        try:
            timeout = None if due == math.inf else max(due - self.clock(), 0.0)
            await asyncio.wait((waiter.lease,), timeout=timeout)
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        if waiter.lease.done():
            return waiter.lease.result()
        self._withdraw(waiter)
        raise self._exhausted(self.clock() - since) from self._latest_failure

    def _exhausted(self, waited: float) -> PoolExhaustedError:
        self.instruments.tally.lease_timeouts += 1
        state = "ready" if self._is_shared_ready.is_set() else "reconnecting"
        return exhausted_error(self._limit, self.holders, self._latest_failure, waited=waited, state=state)

    def _withdraw(self, waiter: _Waiter) -> None:
        if not waiter.lease.done():
            self._waiters.remove(waiter)
        elif waiter.lease.exception() is None:
            self.release(waiter.lease.result())

    def _offer(self, lease: Lease) -> None:
        """Give a free lease to whoever waits for one, or keep it for a while."""
        if self._waiters and self._is_shared_ready.is_set():
            if lease.version == self._waiters[0].desired.version:
                self._lend(lease)
            else:
                lease.close("it is not what it should be")
        elif lease.version == self._owner.desired.version:
            self._idle.append((self.clock(), lease))
            if self._idle_timer is None:
                self._idle_timer = self._loop.call_later(IDLE_LIFE, self._close_idle)
        else:
            lease.close("its time is over")

    def _lend(self, lease: Lease) -> None:
        """Give a lease to the first who waits."""
        self._lent.add(lease)
        self._waiters.popleft().lease.set_result(lease)

    def _serve(self) -> None:
        """Give idle leases to those who have waited until leases were lent again, and open more."""
        idle, self._idle = self._idle, deque()
        for since, lease in idle:
            if self._waiters:
                self._offer(lease)
            else:
                self._idle.append((since, lease))
        self._open_more()

    # Opening and closing.

    def _open_more(self) -> None:
        """Open as many leases as users wait for, and as there may be."""
        if not self._is_shared_ready.is_set() or self._refusal is not None:
            return
        room = self._limit - len(self._leases) - len(self._openers)
        wanted = len(self._waiters) - len(self._openers)
        for _ in range(min(room, wanted)):
            token = object()
            self._openers.add(token)
            if not self._owner.spawn(functools.partial(self._open, token), "lease"):
                self._openers.discard(token)

    async def _open(self, token: object) -> None:
        """Open one lease, for as long as somebody waits for it."""
        self._openers.add(token)
        lease: Lease | None = None
        attempt = 0
        try:
            while lease is None and self._waiters and self._refusal is None and self._is_shared_ready.is_set():
                lease = await self._try_to_open(self._waiters[0].desired)
                if lease is None:
                    await asyncio.sleep(delay_after_refusal(attempt))
                    attempt += 1
        finally:
            self._openers.discard(token)
        if lease is not None and not lease.is_lost:
            self._leases.add(lease)
            if self._refusal is not None:
                lease.close("the client is closed")
            else:
                self._offer(lease)
        self._open_more()

    async def _try_to_open(self, desired: Desired) -> Lease | None:
        lease = Lease(self, self._limits, self._loop)
        lease.queue.link = self._make_link(lease, desired)
        try:
            await lease.link.open()
        except ConnectError as error:
            lease.link.close()
            self._note_unclosed(lease)
            self._latest_failure = error
            if isinstance(error, AuthenticationFailedError):
                self._fail_waiters(error, desired)
            return None
        except BaseException:  # cancelled, say: nobody else knows of the lease yet
            lease.close("opening it failed")
            self._note_unclosed(lease)
            raise
        self._latest_failure = None
        return lease

    async def _reset(self, lease: Lease) -> None:
        """Undo what a user did to a lease, and lend it again."""
        try:
            introduction = await self._owner.introduce(wants_id=True)
            connection = lease.link.connection
            if connection is not None:
                await connection.reset(introduction, timeout=self._reset_timeout)
        except (ConnectError, TimeoutError):
            lease.close("it could not be reset")
        except BaseException:  # cancelled, say: it may be half reset, and nobody gets it any more
            lease.close("it could not be reset")
            raise
        if lease.is_lost or self._refusal is not None:
            lease.close("the client is closed")
        else:
            lease.is_dirty = lease.has_own_user = False
            lease.reserve()
            self._offer(lease)

    def happened(self, event: Event) -> None:
        """Something happened on a lease that listeners may want to know."""
        self._owner.happened(event)

    def reauthenticate(self) -> None:
        """Authenticate with the newest credentials on all connections, between commands. What blocks is interrupted."""
        for lease in list(self._leases):
            if lease.link.is_outdated:  # not one whose user is of his own choice
                for call in list(lease.calls):
                    call.interrupt()
                lease.link.reauthenticate()

    def recycle(self, old: Collection[Credentials]) -> None:
        """Give the connections up that still have one of these. What blocks on them goes on on others."""
        for lease in list(self._leases):
            if lease.link.has(old):
                for call in list(lease.calls):
                    call.interrupt()
                lease.link.recycle(old)

    def replace_connections(self, reason: str) -> None:
        """Lend none of the present connections again."""
        for lease in list(self._leases):
            if lease in self._lent:
                lease.is_dirty = lease.is_beyond_reset = True
            else:  # idle, or being reset
                lease.close(reason)

    def _close_idle(self) -> None:
        """Close what nobody needed for long."""
        self._idle_timer = None
        now = self.clock()
        while self._idle and self._idle[0][0] + IDLE_LIFE <= now:
            self._idle.popleft()[1].close("nobody needed it")
        if self._idle:
            self._idle_timer = self._loop.call_later(self._idle[0][0] + IDLE_LIFE - now, self._close_idle)

    def _fail_waiters(self, error: KitError, desired: Desired | None = None) -> None:
        """Let all give up who wait, or all who wait for such a connection."""
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            if desired is not None and waiter.desired.version != desired.version:
                self._waiters.append(waiter)
            else:
                waiter.lease.set_exception(one_for_each(error))

    def _note_unclosed(self, lease: Lease) -> None:
        """Keep a lease in mind whose connection has ended, until its socket is closed."""
        self._unclosed = {each for each in self._unclosed if not each.link.is_closed}
        self._unclosed.add(lease)

    # What leases and the endpoint tell.

    def lost(self, lease: Lease) -> None:
        """A lease's connection has ended."""
        self._leases.discard(lease)
        self._has_written |= lease.queue.has_written
        self._note_unclosed(lease)
        self._idle = deque(entry for entry in self._idle if entry[1] is not lease)
        if self._waiters:
            self._open_more()

    def shared_lane_changed(self, *, is_ready: bool) -> None:
        """The shared lane is ready, or isn't any more: leases wait with it."""
        if is_ready:
            self._is_shared_ready.set()
            self._serve()
        else:
            self._is_shared_ready.clear()
            if not self._holds_offline:
                self._fail_waiters(NotConnectedError("the connection was lost and disable_offline_queue is set"))

    def orphaned(self, args: tuple[Argument, ...], reply: Any) -> None:
        """A blocking command was answered, and its caller has gone. Nil and refusals say that nothing was taken."""
        if reply is not None and not isinstance(reply, BaseException):
            self.orphaned_replies += 1
            self._owner.happened(Orphaned(args, reply))

    # Ending.

    def close(self, refusal: KitError) -> asyncio.Future[None]:
        """Lend no more, unblock what is blocked; return what is done when all leases are back."""
        self._refusal = refusal
        self._fail_waiters(refusal)
        for _, lease in list(self._idle):
            lease.close("the client is closed")
        for lease in list(self._lent):
            for call in list(lease.calls):
                call.refuse(refusal)
            if lease.on_closing is not None:
                lease.on_closing(refusal)
        self._drained = self._loop.create_future()
        self._look_if_drained()
        return self._drained

    def destroy(self, refusal: KitError) -> None:
        """End everything now."""
        self._refusal = refusal
        self._fail_waiters(refusal)
        for lease in list(self._leases):
            lease.queue.destroy(refusal)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._drained is not None and not self._drained.done():  # whoever has a lease: it is no use any more
            self._drained.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until no socket is open any more, after ``destroy``.

        Cancellation:
            Safe.
        """
        while self._unclosed:
            await self._unclosed.pop().link.wait_closed()

    def _look_if_drained(self) -> None:
        if self._drained is not None and not self._drained.done() and not self._lent:
            self._drained.set_result(None)
