"""One address: its lanes, and the state that every connection to it is brought into."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from aioredis_kit.events import Failed, Reauthenticated, Renewed
from aioredis_kit.exceptions import ConfigurationError, ConnectError, ConnectTimeoutError, PoolExhaustedError
from aioredis_kit.lanes.blocking import Unblocker
from aioredis_kit.lanes.counting import statistics_of
from aioredis_kit.lanes.dedicated import DedicatedLane
from aioredis_kit.lanes.desired import Desired
from aioredis_kit.lanes.fence import Fence
from aioredis_kit.lanes.instruments import Instruments
from aioredis_kit.lanes.link import Link
from aioredis_kit.lanes.providers import renewal_of
from aioredis_kit.lanes.push import PushLane
from aioredis_kit.lanes.renewal import ProviderTimeoutError, WallTimer
from aioredis_kit.lanes.shared import SharedLane
from aioredis_kit.lanes.watch import LoopWatch
from aioredis_kit.policy.retry import may_repeat
from aioredis_kit.transport.tally import Tally
from aioredis_kit.transport.timings import Timings
from aioredis_kit.transport.units import Unit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aioredis_kit.credentials import Credentials
    from aioredis_kit.events import Event
    from aioredis_kit.exceptions import KitError, TokenRenewalError
    from aioredis_kit.lanes.dedicated import Lease
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.lanes.queue import LinkQueue
    from aioredis_kit.policy.commands import CommandTable
    from aioredis_kit.statistics import Statistics
    from aioredis_kit.transport.command import Command
    from aioredis_kit.wire.encoder import Payload
    from aioredis_kit.wire.handshake import Introduction


PATIENCE: Final = 5.0
"""How long connections may take to authenticate with a new token, in seconds, where the old one has all but ended."""

_MOST_OUTGOING: Final = 64
"""Of so many old tokens it is known when the connections that have them have to go: a provider may push ever more."""


class EndpointOwner(Protocol):
    """What an endpoint tells, and asks of, the client."""

    def happened(self, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def disconnected(self) -> None:
        """There is no connection any more."""

    def given_up(self, error: ConnectError) -> None:
        """The reconnect strategy gave up."""

    def spawn_job(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """Run a function as a job of the client; tell whether that can still be done."""
        ...

    def invalidated(self, keys: list[bytes] | None) -> None:
        """See ``SharedLaneOwner``."""

    def untracked(self, source: object) -> None:
        """See ``SharedLaneOwner``."""


class Endpoint:
    """One server address.

    Args:
        owner: The client.
        equipment: What its connections are made of.
        loop: The client's event loop.

    Attributes:
        shared: The shared lane.
        dedicated: The dedicated lane.
        push: The push lane.
        unblocker: Ends blocking commands.
        encode: Encodes a command.
        clock: The client's clock.
        desired: What its connections are to be.
        tally: Counts what it does.
        watch: Watches the event loop.
    """

    def __init__(self, owner: EndpointOwner, equipment: Equipment, *, loop: asyncio.AbstractEventLoop) -> None:
        options, clock = equipment.options, equipment.clock
        self._owner = owner
        self._equipment = equipment
        self._latest_fence: Fence | None = None  # that may not have ended
        provider = options.credential_provider
        self._renewal = None if provider is None else renewal_of(provider, loop, equipment.now, equipment.uniform)
        self._has_left = False  # the renewal, which others may share
        self._renewals = 0
        self._failed_renewals = 0
        self._reauthentications = 0
        self._outgoing: list[tuple[float, Credentials]] = []  # older ones, and when connections with them have to go
        self._recycling = WallTimer(loop, self._recycle, equipment.now)
        self.desired = Desired(
            credentials=options.credentials,
            db=options.db,
            client_name=options.client_name,
            client_info=equipment.client_info,
        )
        self.tally = Tally(Timings() if any(hook.wants_durations for hook in options.hooks) else None)
        self.watch = LoopWatch(loop, clock)
        instruments = Instruments(clock, self.tally, self.watch)
        self.shared = SharedLane(
            self,
            options,
            equipment.commands,
            may_repeat=self.may_repeat,
            make_link=self._make_link,
            to_bytes=equipment.encoder.to_bytes,
            loop=loop,
            instruments=instruments,
        )
        self.dedicated = DedicatedLane(
            self, options, make_link=self._make_lease_link, loop=loop, instruments=instruments
        )
        self.push = PushLane(self, equipment, introducer=_Introducer(self), tally=self.tally, loop=loop)
        self.encode = equipment.encoder.encode
        self.clock = equipment.clock
        self.unblocker = Unblocker(self.ask, self.encode, self.spawn)

    def start(self) -> None:
        """Begin to keep the shared links alive."""
        for queue in self.shared.queues:
            self.spawn(queue.link.run, "link")

    def close(self, refusal: KitError) -> asyncio.Future[Any]:
        """Take no command any more; return what is done when all others have ended."""
        self.push.close(refusal)
        return asyncio.gather(self.dedicated.close(refusal), self.shared.close(refusal))

    def destroy(self, refusal: KitError) -> None:
        """End everything now."""
        self._leave_renewal()
        self.watch.stop()
        self.push.close(refusal)
        self.dedicated.destroy(refusal)
        self.shared.destroy(refusal)

    async def wait_closed(self) -> None:
        """Wait until no socket is open any more.

        Cancellation:
            Safe.
        """
        await self.shared.wait_closed()
        await self.dedicated.wait_closed()
        await self.push.wait_closed()

    @property
    def command_table(self) -> CommandTable:
        """What is known of commands."""
        return self._equipment.commands

    def statistics(self) -> Statistics:
        """Return what it has done."""
        credentials = self.newest_credentials()
        return replace(
            statistics_of(self),
            renewals=self._renewals,
            failed_renewals=self._failed_renewals,
            reauthentications=self._reauthentications,
            token_expires_at=None if credentials is None else credentials.expires_at,
        )

    def leave_replica(self) -> bool:
        """Connect anew, because the server turned read-only; return whether that may help.

        It may if this client has written there before: then the name led to a primary, and may do so again.
        """
        if not self.shared.has_written and not self.dedicated.has_written:
            return False
        for lane in (self.shared, self.dedicated):
            lane.replace_connections("the server has become a replica")
        return True

    def make_fence(self, args: tuple[Any, ...], **changes: object) -> Fence:
        """Hold all commands back that are issued from now on, until a command was executed on every shared link.

        Args:
            args: The command.
            changes: What it changes of ``desired``.

        Raises:
            NotConnectedError: There is no connection, and no offline queue.
        """
        previous = self._unended_fence()
        self._latest_fence = fence = Fence(self, self.shared, self.encode(args), changes, previous)
        if "credentials" in changes:
            fence.outcome.add_done_callback(lambda _: self.push.expect_user(self.desired.credentials))
        if not self.spawn(fence.run, "fence"):
            fence.withdraw()
        return fence

    async def desired_behind_fences(self, due: float) -> Desired:
        """Return what a connection is to be for what is issued now: what they are to be behind all fences before it.

        What later ones change is not its concern.

        Args:
            due: When to give up, on the client's clock; infinity is never.

        Raises:
            PoolExhaustedError: They have not ended in time.

        Cancellation:
            Safe.
        """
        fence = self._unended_fence()
        while fence is not None:
            timeout = None if due == math.inf else max(due - self._equipment.clock(), 0.0)
            await asyncio.wait((fence.outcome,), timeout=timeout)
            if not fence.outcome.done():
                raise PoolExhaustedError(
                    "no dedicated connection could be lent in time, as an earlier SELECT or AUTH has not ended",
                    limit=self._equipment.options.max_dedicated_connections,
                    holders=self.dedicated.holders,
                )
            if fence.desired is not None:
                return fence.desired
            fence = fence.previous
        return self.desired

    def _unended_fence(self) -> Fence | None:
        """Return the latest fence that has not ended, leaving out those that were withdrawn."""
        while self._latest_fence is not None and self._latest_fence.outcome.done():
            self._latest_fence = self._latest_fence.previous
        return self._latest_fence

    # What the lanes ask.

    def spawn(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """See ``DedicatedLaneOwner``."""
        return self._owner.spawn_job(function, name)

    def ask(self, payload: Payload) -> asyncio.Future[Any] | None:
        """See ``DedicatedLaneOwner``."""
        return self.shared.ask(payload)

    async def introduce(
        self,
        *,
        wants_id: bool = False,
        desired: Desired | None = None,
        tracking: tuple[str | bytes, ...] | None = None,
    ) -> Introduction:
        """Return what a connection made now is to become.

        Raises:
            ConnectError: The credential provider failed.
        """
        # In this order: what changes while a provider is asked is noticed when the connection is ready.
        desired = desired or self.desired
        credentials = await self._credentials(desired)
        return desired.introduction(
            protocol=self._equipment.options.protocol, credentials=credentials, wants_id=wants_id, tracking=tracking
        )

    def may_repeat(self, command: Command) -> bool:
        """Tell whether a command may be sent again whose reply was lost."""
        classify, allowed = self._equipment.commands.classify, command.options.retry_unanswered
        if isinstance(command, Unit):
            return not command.is_transaction and all(
                classify(args).is_readonly and may_repeat(args, classify(args), allowed) for args in command.commands
            )
        return may_repeat(command.args, classify(command.args), allowed)

    # Tokens.

    @property
    def has_connections(self) -> bool:
        """See ``TokenUser``."""
        return self.shared.is_connected or self.dedicated.has_leases or self.push.is_ready

    def newest_credentials(self) -> Credentials | None:
        """Return who connections are to be that are open for long; ``None``: who they are."""
        token = None if self._renewal is None else self._renewal.token
        return None if token is None else token.credentials

    def refused(self, introduction: Introduction) -> None:
        """Note that the server did not take a connection's credentials."""
        if self._renewal is not None:
            self._renewal.refused(introduction.credentials)

    def token_renewed(self, old: Credentials | None, recycle_at: float) -> None:
        """See ``TokenUser``."""
        self._renewals += 1
        credentials = self.newest_credentials()
        if credentials is not None and credentials.expires_at is not None:
            self._owner.happened(Renewed(credentials.expires_at))
        for lane in (self.shared, self.dedicated, self.push):
            lane.reauthenticate()
        if old is not None:
            now = self._equipment.now()
            self._outgoing.append((recycle_at if recycle_at > now else now + PATIENCE, old))
            del self._outgoing[:-_MOST_OUTGOING]
            self._plan_recycling()

    def renewal_failed(self, error: TokenRenewalError) -> None:
        """See ``TokenUser``."""
        self._failed_renewals += 1
        self._owner.happened(Failed(error))

    def _plan_recycling(self) -> None:
        self._recycling.set(min((at for at, _ in self._outgoing), default=math.inf))

    def _recycle(self) -> None:
        now = self._equipment.now()
        old = [credentials for at, credentials in self._outgoing if at <= now]
        self._outgoing = [(at, credentials) for at, credentials in self._outgoing if at > now]
        for lane in (self.shared, self.dedicated, self.push):
            lane.recycle(old)
        self._plan_recycling()

    def _leave_renewal(self) -> None:
        self._has_left = True
        self._recycling.cancel()
        if self._renewal is not None:
            self._renewal.leave(self)

    # What the lanes tell.

    def happened(self, event: Event) -> None:
        """See ``SharedLaneOwner``."""
        self._reauthentications += isinstance(event, Reauthenticated)
        self._owner.happened(event)

    def became_ready(self) -> None:
        """See ``SharedLaneOwner``."""
        self.dedicated.shared_lane_changed(is_ready=True)

    def disconnected(self) -> None:
        """See ``SharedLaneOwner``."""
        self.dedicated.shared_lane_changed(is_ready=False)
        self._owner.disconnected()

    def given_up(self, error: ConnectError) -> None:
        """See ``SharedLaneOwner``."""
        self._owner.given_up(error)

    def invalidated(self, keys: list[bytes] | None) -> None:
        """See ``SharedLaneOwner``."""
        self._owner.invalidated(keys)

    def untracked(self, source: object) -> None:
        """See ``SharedLaneOwner``."""
        self._owner.untracked(source)

    def configure(self, command: Command) -> None:
        """See ``SharedLaneOwner``."""
        to_bytes = self._equipment.encoder.to_bytes
        match [to_bytes(arg).decode("ascii", "replace") for arg in command.args]:
            case [_, word, name] if word.upper() == "SETNAME":  # and the server takes no other than ASCII
                self.desired = self.desired.changed(client_name=name or None)
            case [_, word, attribute, value] if word.upper() == "SETINFO":
                info = dict(self.desired.client_info) | {attribute.upper(): value}
                self.desired = self.desired.changed(client_info=tuple(info.items()))

    def _make_link(self, queue: LinkQueue) -> Link:
        introducer = _Introducer(self, tracking=self._equipment.options.tracking)
        return Link(queue, self._equipment, introducer=introducer, tally=self.tally)

    def _make_lease_link(self, lease: Lease, desired: Desired) -> Link:
        """Make a link for a connection that is what its user asked for, whatever is desired by then."""
        return Link(lease.queue, self._equipment, introducer=_Introducer(self, lease, desired), tally=self.tally)

    async def _credentials(self, desired: Desired) -> Credentials | None:
        if self._renewal is None:
            return desired.credentials
        address = str(self._equipment.dialler.address)
        if self._has_left:  # what was begun before the end: it would be a user again, and for good
            raise ConnectError(f"{address}: the client is closed", address=address)
        try:
            return await self._renewal.credentials(self)
        except ConfigurationError as error:
            raise ConnectError(f"{address}: {error}", address=address) from error
        except Exception as error:  # the provider is the user's code: it may raise anything
            if isinstance(error, ProviderTimeoutError):
                raise ConnectTimeoutError(str(error), address=address) from None
            # Its text may hold what nobody must see; the cause is there for who wants to look.
            raise ConnectError(f"the credential provider raised {type(error).__name__}", address=address) from error


@dataclass(frozen=True, slots=True)
class _Introducer:
    """See ``lanes.link.Introducer``.

    Attributes:
        endpoint: The endpoint.
        lease: The lease, if it is one's link.
        desired: What its connection is to be, whatever is desired by then.
        tracking: What follows ``CLIENT TRACKING ON``, if the server is to announce changes of keys on it.
    """

    endpoint: Endpoint
    lease: Lease | None = None
    desired: Desired | None = None
    tracking: tuple[str | bytes, ...] | None = None

    async def introduce(self) -> Introduction:
        return await self.endpoint.introduce(
            wants_id=self.lease is not None, desired=self.desired, tracking=self.tracking
        )

    def is_current(self, introduction: Introduction) -> bool:
        return self.desired is not None or introduction.version == self.endpoint.desired.version

    def refused(self, introduction: Introduction) -> None:
        self.endpoint.refused(introduction)

    def newest_credentials(self) -> Credentials | None:
        if self.lease is not None and self.lease.has_own_user:
            return None
        return self.endpoint.newest_credentials()
