"""A client's part in a cache: what it may see of it, and what it tells it.

Rules of this file:

1. A lens says what entries are found by. While nobody can be sure what connections are to be (a ``SELECT`` or ``AUTH``
   is under way, the client is closed), it is blind: nothing is found, and commands go out as if there were no cache.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.cache.store import ClientSideCache
from aioredis_kit.exceptions import error_code
from aioredis_kit.lanes.queue import LinkQueue
from aioredis_kit.policy.retry import NOTHING_DONE

if TYPE_CHECKING:
    import asyncio

    from aioredis_kit.cache.store import Load, Space
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.policy.commands import Argument

logger = logging.getLogger(__name__)

NOTHING: Final = object()
"""What those get who waited for a load that had no outcome for them."""


class Lens:
    """Through which the commands of a view see the entries of their own kind.

    Attributes:
        suffix: What the keys of its entries end with, behind the command; ``None`` while it is blind.
        decode: Whether replies are decoded.
        ttl: How long replies are kept at most, in seconds.
    """

    __slots__ = ("__weakref__", "_space", "decode", "suffix", "ttl")

    def __init__(self, *, decode: bool, ttl: float) -> None:
        self.suffix: bytes | None = None
        self._space: Space | None = None  # held, so that it stays the same for others, and when it is seen again
        self.decode = decode
        self.ttl = ttl

    def focus(self, space: Space | None) -> None:
        """See the replies of a kind, or with ``None`` nothing."""
        self._space = space or self._space
        self.suffix = None if space is None else space.suffix


class Caching:
    """A client's part in a cache.

    Lifecycle: ``join`` and ``open`` when the client is opened; ``close`` when it has ended.

    Attributes:
        cache: The cache.
        options: Its options.
        is_optin: Whether only what is read through a view that asks for it is cached.
    """

    def __init__(self, cache: ClientSideCache, equipment: Equipment) -> None:
        self.cache = cache
        self.options = cache.options
        self.is_optin = cache.options.mode == "optin"
        self._equipment = equipment
        self._to_bytes = equipment.encoder.to_bytes
        # Views hold them: each may have another time, and be gone after one command.
        self._lenses: WeakValueDictionary[tuple[bool, float], Lens] = WeakValueDictionary()
        self._endpoint: Endpoint | None = None
        self._suspended = 0
        self._has_complained = False

    @classmethod
    def of(cls, equipment: Equipment) -> Caching | None:
        """Return the part of a client that is made of this, if it has a cache."""
        match equipment.options.client_side_cache:
            case None:
                return None
            case CacheOptions() as options:
                return cls(ClientSideCache(options), equipment)
            case cache:
                return cls(cache, equipment)

    def lens(self, *, decode: bool, ttl: float | None) -> Lens:
        """Return the lens of a view.

        Args:
            decode: Whether its replies are decoded.
            ttl: How long it wants replies to be kept at most, in seconds.
        """
        of_all = math.inf if self.options.ttl is None else self.options.ttl
        kind = (decode, of_all if ttl is None else min(ttl, of_all))
        lens = self._lenses.get(kind)
        if lens is None:
            self._lenses[kind] = lens = Lens(decode=decode, ttl=kind[1])
            self._focus()
        return lens

    def changed(self, key: Argument | None) -> None:
        """Note that this client is about to change a key, or has; ``None``: perhaps any."""
        self.cache.invalidate(None if key is None else self._to_bytes(key))

    def refused(self, name: str, refusal: Exception) -> None:
        """Note that the server refuses what has to accompany reads, so that they are not kept. Says so once.

        Args:
            name: Of the command that it refuses.
            refusal: What it says.
        """
        if self._has_complained or error_code(refusal) in NOTHING_DONE:
            return
        self._has_complained = True
        logger.warning(
            "%s refuses %s (%s), without which nothing is cached: let its ACL allow it%s",
            self._equipment.dialler.address,
            name,
            error_code(refusal),
            ", or set key_expiry=False" if name == "PTTL" else "",
        )

    def lose(self, source: object) -> None:
        """Drop what was read on a connection. Whoever waits for a load of another client's there asks by itself."""
        for load in self.cache.lose(source):
            tell(self.cache.joined, load, NOTHING)

    def is_stuck(self, load: Load) -> bool:
        """Whether a load is another client's, which can't send anything now: others are not to wait for that."""
        source, endpoint = load.source, self._endpoint
        if not isinstance(source, LinkQueue) or source.is_ready:
            return False
        return endpoint is None or source not in endpoint.shared.queues

    def join(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use the cache from now on.

        Raises:
            RuntimeError: Clients on another event loop use it.
        """
        self.cache.join(self, loop, has_ended=lambda its_loop: its_loop.is_closed())

    def open(self, endpoint: Endpoint) -> None:
        """See what is cached of an endpoint."""
        self._endpoint = endpoint
        self._suspended = 0
        self._has_complained = False
        self._focus()

    def close(self) -> None:
        """See nothing, and use the cache no more. Idempotent."""
        self._endpoint = None
        self._focus()
        self.cache.leave(self)

    def suspend(self) -> None:
        """See nothing until ``resume``: what connections are to be is about to change."""
        self._suspended += 1
        self._focus()

    def resume(self, endpoint: Endpoint) -> None:
        """See what is cached for what the connections of an endpoint are now. What was read before is dropped."""
        if endpoint is not self._endpoint:
            return
        self._suspended -= 1
        for queue in endpoint.shared.queues:
            self.cache.lose(queue)
        self._focus()

    def _focus(self) -> None:
        endpoint = None if self._suspended else self._endpoint
        for lens in self._lenses.values():
            lens.focus(None if endpoint is None else self._space(endpoint, lens))

    def _space(self, endpoint: Endpoint, lens: Lens) -> Space:
        options, desired = self._equipment.options, endpoint.desired
        user = None if desired.credentials is None else desired.credentials.username
        provider = options.credential_provider
        text = (options.encoding, options.encoding_errors, lens.decode)
        who = (user, None if provider is None else id(provider))
        return self.cache.space((str(self._equipment.dialler.address), desired.db, who, text, lens.ttl))


def tell(joined: dict[Load, dict[asyncio.Future[Any], None]], load: Load, outcome: Any) -> None:
    """Let those go on who waited for a load.

    Args:
        joined: Who they are.
        load: That load.
        outcome: The reply, the error reply, or ``NOTHING``: they have to ask themselves.
    """
    for waiter in joined.pop(load, ()):
        if not waiter.done() and not waiter.get_loop().is_closed():  # under them all, which are being collected
            waiter.set_result(outcome)
