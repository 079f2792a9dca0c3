"""Credential providers, in all their forms, and which of them share their tokens."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import redis.credentials

from aioredis_kit.credentials import Credentials, read_credentials
from aioredis_kit.lanes.renewal import ProviderTimeoutError, Renewal
from aioredis_kit.policy.claims import end_of
from aioredis_kit.policy.renewal import RenewalSchedule
from aioredis_kit.transport.tasks import foreign, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tenacity.wait import WaitBaseT

    from aioredis_kit.credentials import CredentialSource


_LATE: Final = 0.9
"""After how much of a token's life those are asked that renew it by themselves; redis-entraid does at 0.7."""


_MOST_LEFT: Final = 10
"""So many threads may be waiting for one provider that nobody waits for any more."""


class _Threads:
    """Calls a synchronous provider in threads, and no more of it while too many of them do not come back.

    A thread can't be interrupted: one that hangs goes on when its time is over, and the provider is asked again.
    """

    def __init__(self) -> None:
        self._left: set[object] = set()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call it.

        Raises:
            ProviderTimeoutError: Too many calls have not come back.
            BaseException: Whatever it raised.

        Cancellation:
            Not waited for.
        """
        if len(self._left) >= _MOST_LEFT:
            raise ProviderTimeoutError(f"the credential provider has not come back from {_MOST_LEFT} earlier calls")
        mark = object()
        has_ended = threading.Event()

        def run() -> Any:
            try:
                return function()
            finally:
                has_ended.set()
                self._left.discard(mark)

        try:
            return await in_thread(run)
        except asyncio.CancelledError:
            self._left.add(mark)
            if has_ended.is_set():  # in the same moment
                self._left.discard(mark)
            raise


class TokenCredentials:
    """A provider of credentials that end, with a schedule for their renewal.

    Any provider whose ``Credentials`` have ``expires_at`` is renewed; this one says when.

    Args:
        source: The provider: an object with ``get_credentials()``, or a callable; synchronous or not.
        ratio: After how much of its life a token is renewed, from 0 to 0.95.
        margin: How long before its end at the latest, in seconds; but never before half of its life.
        jitter: By how much of the time until then it varies, from 0 to 0.5.
        backoff: How long to wait after a renewal that failed: one of tenacity's wait objects, such as
            ``wait_fixed(5)``. ``None``: 1 s, doubling up to 30 s, ± 20 %. It is cut to a tenth of what is left of the
            token.

    Raises:
        ConfigurationError: A value is of another type or out of range.
    """

    def __init__(
        self,
        source: CredentialSource,
        *,
        ratio: float = 0.75,
        margin: float = 300.0,
        jitter: float = 0.1,
        backoff: WaitBaseT | None = None,
    ) -> None:
        self._source = source
        self._schedule = RenewalSchedule(ratio=ratio, margin=margin, jitter=jitter, backoff=backoff)
        self._threads = _Threads()
        self._renewals: dict[asyncio.AbstractEventLoop, Renewal] = {}

    async def get_credentials(self) -> Credentials:
        """Ask the provider.

        Raises:
            Exception: What it raised.

        Cancellation:
            Passed on to it.
        """
        return read_credentials(await foreign(lambda: _ask(self._source, self._threads)))

    def renewal_on(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], uniform: Callable[[float, float], float]
    ) -> Renewal:
        """Return what all clients on an event loop share."""
        if loop not in self._renewals:
            for ended in [each for each in list(self._renewals) if each.is_closed()]:  # other threads may do the same
                self._renewals.pop(ended, None)
            self._renewals[loop] = Renewal(
                lambda: _ask(self._source, self._threads), self._schedule, loop=loop, now=now, uniform=uniform
            )
        return self._renewals[loop]


class _Awaitable:
    """What a listener returns to those who don't await it, and to those who do: redis-entraid has both ways."""

    def __await__(self) -> Iterator[None]:
        return iter(())


class _StreamingCredentials(TokenCredentials):
    """The tokens of a provider of redis-py's that renews them by itself, and tells one listener.

    This is that listener, for all clients. The provider is asked in a thread: what redis-entraid calls asynchronous
    blocks the loop for as long as the identity provider takes, and leaves a timer on the loop that nothing stops.

    redis-entraid never tries again once a renewal of its own has failed; and another listener may have taken our place,
    such as a client of redis-py's that was given the same provider. So it is also asked by a schedule, which is late
    enough that it has usually told by then.
    """

    def __init__(self, provider: redis.credentials.StreamingCredentialProvider) -> None:
        super().__init__(self._obtain, ratio=_LATE, jitter=0.05)
        self._provider = weakref.ref(provider)
        self._username: str | None = None
        listens: Any = provider  # its types know nothing of those who await what a listener returns
        listens.on_next(self._note)
        listens.on_error(self._note_failure)

    async def _obtain(self) -> Any:
        provider: Any = self._provider()
        answer = await self._threads.call(provider.get_credentials)
        credentials = read_credentials(answer)
        self._username = credentials.username
        return dataclasses.replace(credentials, expires_at=end_of(credentials.password))

    def _note(self, token: Any) -> _Awaitable:
        """Take a token, in whatever thread."""
        try:
            ends = token.get_expires_at_ms()
            username = token.try_get("oid") or self._username
            credentials = Credentials(username, token.get_value(), expires_at=None if ends < 0 else ends / 1000)
        except Exception as error:  # noqa: BLE001  # the token is of the user's code: an error is for us, not for it
            return self._note_failure(error)
        self._tell(lambda renewal: renewal.pushed(credentials))
        return _Awaitable()

    def _note_failure(self, error: Exception) -> _Awaitable:
        self._tell(lambda renewal: renewal.push_failed(error))
        return _Awaitable()

    def _tell(self, call: Callable[[Renewal], None]) -> None:
        for loop, renewal in list(self._renewals.items()):
            with suppress(RuntimeError):  # it was closed, in its own thread
                loop.call_soon_threadsafe(call, renewal)


_KNOWN: Final[weakref.WeakKeyDictionary[Any, tuple[TokenCredentials, weakref.ref[Any]]]] = weakref.WeakKeyDictionary()
"""State of this module, against the rule: two clients that were given the same object have nothing else in common.

By provider: what is shared, and a reference to the provider that it asks. Others may be equal to that: each mention of
a method makes another object.
"""


def renewal_of(
    source: CredentialSource,
    loop: asyncio.AbstractEventLoop,
    now: Callable[[], float],
    uniform: Callable[[float, float], float],
) -> Renewal:
    """Return the renewal of a provider's tokens, the same for all clients that have it on an event loop."""
    if isinstance(source, TokenCredentials):
        return source.renewal_on(loop, now, uniform)
    try:
        shared, asked = _KNOWN.get(source, (None, None))
        if shared is None:
            provider: Any = source  # redis-py's kinds are not among those that we ask for
            if isinstance(provider, redis.credentials.StreamingCredentialProvider):
                shared = _StreamingCredentials(provider)
            else:
                shared = TokenCredentials(_weakly(source))
            _KNOWN[source] = shared, weakref.ref(source)
        elif asked is not None and (first := asked()) is not source:  # which has to live as long as this one
            weakref.finalize(source, lambda _: None, first).atexit = False
    except TypeError:  # it can't be a key
        shared = TokenCredentials(source)
    return shared.renewal_on(loop, now, uniform)


def _weakly(source: Any) -> CredentialSource:
    """Return a provider that does not keep another alive, which is the key that it is found by."""
    reference, threads = weakref.ref(source), _Threads()

    async def ask() -> Any:
        return await _ask(reference(), threads)

    return ask


async def _ask(provider: Any, threads: _Threads) -> object:
    """Ask a provider, off the loop where it is synchronous."""
    call = _call_of(provider)
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__):
        return await call()
    answer = await threads.call(call)
    return await answer if inspect.isawaitable(answer) else answer


def _call_of(provider: Any) -> Callable[[], Any]:
    """Return what has to be called: the provider itself, or one of its methods."""
    if isinstance(provider, redis.credentials.StreamingCredentialProvider):  # see above
        return provider.get_credentials
    if isinstance(provider, redis.credentials.CredentialProvider):
        stock = redis.credentials.CredentialProvider.get_credentials_async
        if type(provider).get_credentials_async is not stock:  # that one would call the other on the loop
            return provider.get_credentials_async
    call: Callable[[], Any] = getattr(provider, "get_credentials", provider)
    return call
