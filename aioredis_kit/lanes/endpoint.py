"""One address: its lanes, and the state that every connection to it is brought into."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio.to_thread
import redis.credentials

from aioredis_kit.credentials import Credentials, read_credentials
from aioredis_kit.exceptions import ConfigurationError, ConnectError, ConnectTimeoutError
from aioredis_kit.lanes.link import Link
from aioredis_kit.lanes.shared import SharedLane
from aioredis_kit.policy.retry import may_repeat
from aioredis_kit.transport.tasks import foreign
from aioredis_kit.wire.handshake import Introduction

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.events import Event
    from aioredis_kit.exceptions import KitError
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.transport.command import Command

CREDENTIALS_TIMEOUT: Final = 30.0
"""How long a credential provider may take, in seconds."""


class EndpointOwner(Protocol):
    """What an endpoint tells the client."""

    def happened(self, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def disconnected(self) -> None:
        """There is no connection any more."""

    def given_up(self, error: ConnectError) -> None:
        """The reconnect strategy gave up."""


class Endpoint:
    """One server address.

    Args:
        owner: The client.
        equipment: What its connections are made of.
        loop: The client's event loop.

    Attributes:
        shared: The shared lane.
        client_name: The name that its connections get.
    """

    def __init__(self, owner: EndpointOwner, equipment: Equipment, *, loop: asyncio.AbstractEventLoop) -> None:
        options = equipment.options
        self._owner = owner
        self._equipment = equipment
        self.client_name = options.client_name
        self.shared = SharedLane(self, options, may_repeat=self._may_repeat, loop=loop, clock=equipment.clock)
        self.shared.link = Link(self.shared, equipment, introduce=self._introduce)

    async def run(self) -> None:
        """Keep the link alive: the endpoint's job.

        Cancellation:
            Ends it; the connection stays open until ``destroy``.
        """
        await self.shared.link.run()

    def close(self, refusal: KitError) -> asyncio.Future[None]:
        """See ``SharedLane.close``."""
        return self.shared.close(refusal)

    def configure(self, command: Command) -> None:
        """Note the name that a ``CLIENT SETNAME`` gave, for the connections to come."""
        match [str(arg, self._equipment.options.encoding) if isinstance(arg, bytes) else arg for arg in command.args]:
            case [_, str(word), name] if word.upper() == "SETNAME":
                self.client_name = str(name)

    def leave_replica(self) -> bool:
        """Connect anew, because the server turned read-only; return whether that may help.

        It may if this client has written there before: then the name led to a primary, and may do so again.
        """
        if not self.shared.has_written:
            return False
        self.shared.replace_connection("the server has become a replica")
        return True

    def destroy(self, refusal: KitError) -> None:
        """End everything now."""
        self.shared.destroy(refusal)

    async def wait_closed(self) -> None:
        """Wait until no socket is open any more.

        Cancellation:
            Safe.
        """
        await self.shared.link.wait_closed()

    # What the lanes tell.

    def happened(self, event: Event) -> None:
        """See ``LaneOwner``."""
        self._owner.happened(event)

    def disconnected(self) -> None:
        """See ``LaneOwner``."""
        self._owner.disconnected()

    def given_up(self, error: ConnectError) -> None:
        """See ``LaneOwner``."""
        self._owner.given_up(error)

    def _may_repeat(self, command: Command) -> bool:
        traits = self._equipment.commands.classify(command.args)
        return may_repeat(command.args, traits, command.options.retry_unanswered)

    async def _introduce(self) -> Introduction:
        """Return what a connection made now is to become.

        Raises:
            ConnectError: The credential provider failed.
        """
        options = self._equipment.options
        return Introduction(
            protocol=options.protocol,
            credentials=await self._credentials(),
            client_name=self.client_name,
            db=options.db,
            library=self._equipment.library,
        )

    async def _credentials(self) -> Credentials | None:
        options = self._equipment.options
        if options.credential_provider is None:
            return options.credentials
        address = self.shared.link.address
        limit = asyncio.timeout(CREDENTIALS_TIMEOUT)
        try:
            async with limit:
                return read_credentials(await foreign(lambda: _ask(options.credential_provider)))
        except ConfigurationError as error:
            raise ConnectError(f"{address}: {error}", address=address) from error
        except Exception as error:  # the provider is the user's code: it may raise anything
            if isinstance(error, TimeoutError) and limit.expired():
                raise ConnectTimeoutError(
                    f"the credential provider gave nothing within {CREDENTIALS_TIMEOUT:g} seconds", address=address
                ) from None
            # Its text may hold what nobody must see; the cause is there for who wants to look.
            raise ConnectError(f"the credential provider raised {type(error).__name__}", address=address) from error


async def _ask(provider: Any) -> object:
    """Ask a provider, off the loop where it is synchronous."""
    call = _call_of(provider)
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__):
        return await call()
    answer = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    return await answer if inspect.isawaitable(answer) else answer


def _call_of(provider: Any) -> Callable[[], Any]:
    """Return what has to be called: the provider itself, or one of its methods."""
    if isinstance(provider, redis.credentials.CredentialProvider):
        stock = redis.credentials.CredentialProvider.get_credentials_async
        if type(provider).get_credentials_async is not stock:  # that one would call the other on the loop
            return provider.get_credentials_async
    call: Callable[[], Any] = getattr(provider, "get_credentials", provider)
    return call
