"""Tokens: obtained from a provider, kept, and renewed before they end.

A provider belongs to whoever made it, and may serve several clients: its tokens are obtained and renewed once for all
of them. The work is done by the jobs of those that use it, so that nothing goes on when the last one is closed.

Rules of this file:

1. There is one request at a time. Whoever needs a token meanwhile waits for that one, and shares its failure.
2. A token's end is an instant of wall-clock time, and a suspended machine's monotonic clock may stand still: so the
   wall clock is looked at every 30 s at least.
3. Without a token connections ask at the pace of their reconnect strategies, and there may be many of them: a provider
   is not asked again sooner than by one of them alone.
4. What a provider raises may show a secret in its text: it is a ``__cause__``, and never part of a text of ours.
"""

from __future__ import annotations

import asyncio
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from aioredis_kit.credentials import read_credentials
from aioredis_kit.exceptions import ConfigurationError, TokenRenewalError
from aioredis_kit.kinds import to_seconds
from aioredis_kit.policy.renewal import (
    default_pause,
    make_backoff,
    pause_after_failure,
    recycling_time,
    renewal_time,
    rest_of_provider,
)
from aioredis_kit.transport.tasks import foreign

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aioredis_kit.credentials import Credentials
    from aioredis_kit.policy.renewal import RenewalSchedule

CREDENTIALS_TIMEOUT: Final = 30.0
"""How long a credential provider may take, in seconds."""
_LONGEST_LOOK: Final = 30.0
"""How often the wall clock is looked at, in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """Credentials, and when they were obtained.

    Attributes:
        credentials: The credentials.
        obtained_at: When, in seconds since the epoch.
    """

    credentials: Credentials
    obtained_at: float

    @property
    def expires_at(self) -> float:
        """When it ends, in seconds since the epoch; infinity is never."""
        return math.inf if self.credentials.expires_at is None else self.credentials.expires_at


class TokenUser(Protocol):
    """Uses tokens, and lends a hand in renewing them."""

    @property
    def has_connections(self) -> bool:
        """Whether any of its connections is open."""
        ...

    def spawn(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """Run a function as a job of the client; tell whether that can still be done."""
        ...

    def token_renewed(self, old: Credentials | None, recycle_at: float) -> None:
        """There is a new token. Connections that still have the old one at that time, since the epoch, have to go."""

    def renewal_failed(self, error: TokenRenewalError) -> None:
        """The token was not renewed. It is tried again."""


class ProviderTimeoutError(TimeoutError):
    """A credential provider took too long."""


class WallTimer:
    """Calls something at an instant of wall-clock time.

    Args:
        loop: The event loop.
        call: What is called.
        now: The wall clock: seconds since the epoch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object], now: Callable[[], float]) -> None:
        self._loop = loop
        self._call = call
        self._now = now
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Call at this instant, and not at any other."""
        self.cancel()
        if at < math.inf:
            self._timer = self._loop.call_later(min(max(at - self._now(), 0.0), _LONGEST_LOOK), self._look, at)

    def cancel(self) -> None:
        """Don't call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, at: float) -> None:
        self._timer = None
        if self._now() < at:
            self.set(at)
        else:
            self._call()


class Renewal:
    """The tokens of one provider, on one event loop.

    Lifecycle: a client uses it from its first ``credentials`` to ``leave``.

    Args:
        ask: Asks the provider.
        schedule: When to renew.
        loop: The event loop.
        now: The wall clock: seconds since the epoch.
        uniform: ``random.uniform``, or what stands for it.

    Attributes:
        token: The present token, if the provider's credentials ever end.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        schedule: RenewalSchedule,
        *,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        uniform: Callable[[float, float], float],
    ) -> None:
        self.token: Token | None = None
        self._ask_provider = ask
        self._schedule = schedule
        self._loop = loop
        self._now = now
        self._uniform = uniform
        self._users: dict[TokenUser, None] = {}
        self._request: asyncio.Future[Token | Exception | None] | None = None
        self._latest: Token | None = None  # even if it can't be used any more: open connections may still be it
        self._fruitless = 0  # requests in a row that led to no token that the server took
        self._ask_from = -math.inf  # on the loop's clock
        self._failures = 0
        self._failing_since = 0.0
        self._backoff = make_backoff(schedule, uniform)
        self._renew_at = math.inf
        self._timer = WallTimer(loop, self._renew, now)

    async def credentials(self, user: TokenUser) -> Credentials:
        """Return credentials that are valid now. Those that never end are asked for each time.

        Raises:
            Exception: What the provider raised; ``TimeoutError`` if it took too long.
            ConfigurationError: It returned no credentials, or some that had ended.
            RuntimeError: The client is closed.

        Cancellation:
            Safe. The request goes on for others that wait for it.
        """
        if user not in self._users:
            self._users[user] = None
            self._plan(self._renew_at)  # nobody did while there was no user
        while True:
            if self.token is not None and self.token.expires_at > self._now():
                return self.token.credentials
            request = self._request or self._begin((user, *self._users))
            if request is None:
                raise RuntimeError("the client is closed")
            await asyncio.wait((request,))
            outcome = request.result()
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:  # else the client that had asked was closed
                return outcome.credentials

    def refused(self, credentials: Credentials | None) -> None:
        """Forget a token that the server did not take.

        Connections that are open may have it all the same: it may be another server, or have let them in before. They
        need another one before it ends, whether or not whoever was refused asks for one.
        """
        if self.token is not None and self.token.credentials.is_same_as(credentials):
            self.token = None
            self._rest()
            self._plan(self._now() if self._is_needed() else math.inf)

    def pushed(self, credentials: Credentials) -> None:
        """Take credentials that the provider, which renews them by itself, has just obtained.

        If nothing comes in time it is asked nevertheless.
        """
        token = _checked(credentials, self._now())
        if isinstance(token, Token):
            self._use(token)
        else:
            self.push_failed(token)

    def push_failed(self, cause: Exception) -> None:
        """Tell that the provider, which renews by itself, could not. It may have given up: so it is asked again."""
        if self.token is not None and self._now() < self.token.expires_at < math.inf:
            self._note_failure(cause)
            return
        expires_at = None if self.token is None else self.token.credentials.expires_at
        text = f"the credential provider could not renew its token ({type(cause).__name__})"
        self._tell(_failure(text, expires_at, cause))

    def leave(self, user: TokenUser) -> None:
        """Use it no more. Idempotent."""
        self._users.pop(user, None)
        if not self._users:
            self._timer.cancel()

    def _begin(self, users: Iterable[TokenUser]) -> asyncio.Future[Token | Exception | None] | None:
        """Ask for a token, in a job of one of these."""
        self._request = request = self._loop.create_future()
        for user in users:
            if user.spawn(functools.partial(self._ask, request), "token"):
                return request
        self._request = None
        return None

    async def _ask(self, request: asyncio.Future[Token | Exception | None]) -> None:
        if request.done():  # this job failed after that
            return
        outcome: Token | Exception | None = None
        try:
            if (rest := self._ask_from - self._loop.time()) > 0:
                await asyncio.sleep(rest)
            outcome = await self._answer()
        finally:
            self._request = None
            request.set_result(outcome)
            if isinstance(outcome, Token):
                self._take(outcome)
            elif outcome is not None:
                self._note_failure(outcome)
            elif self.token is not None:  # the client was closed; another one shall ask
                self._plan(self._renew_at)

    async def _answer(self) -> Token | Exception:
        limit = asyncio.timeout(CREDENTIALS_TIMEOUT)
        try:
            async with limit:
                answer = await foreign(self._ask_provider)
        except Exception as error:  # noqa: BLE001  # the provider is the user's code: it may raise anything
            if isinstance(error, TimeoutError) and limit.expired():
                text = f"the credential provider gave nothing within {CREDENTIALS_TIMEOUT:g} seconds"
                return ProviderTimeoutError(text)
            return error
        return _checked(answer, self._now())

    def _take(self, token: Token) -> None:
        if token.credentials.expires_at is not None or self._latest is not None:  # else each handshake asks
            self._use(token)

    def _use(self, token: Token) -> None:
        """Let this be the present token."""
        if self.token is not None:  # the server took that one, all the time
            self._fruitless = 0
        old, self.token, self._latest, self._failures = self._latest, token, token, 0
        is_new = old is None or not old.credentials.is_same_as(token.credentials)
        self._plan(
            renewal_time(
                self._schedule,
                now=token.obtained_at,
                expires_at=token.expires_at,
                refresh_on=token.credentials.refresh_on,
                is_new=is_new,
                spread=self._uniform(-1, 1),
            )
        )
        if is_new and (old is not None or self._is_needed()):  # those that never end are not known here
            before, recycle_at = None, math.inf
            if old is not None and old.expires_at < math.inf:
                before = old.credentials
                recycle_at = recycling_time(obtained_at=old.obtained_at, expires_at=old.expires_at)
            for user in list(self._users):
                user.token_renewed(before, recycle_at)

    def _note_failure(self, cause: Exception) -> None:
        now = self._now()
        ends = -math.inf if self._latest is None else self._latest.expires_at
        if self.token is None or ends <= now:
            was_live, self.token = self.token is not None, None
            self._rest()
            if not now < ends < math.inf or not self._is_needed():  # who waited for it is told; the next one asks anew
                self._plan(math.inf)
                if was_live and self._is_needed():
                    text = f"the token could not be renewed ({type(cause).__name__}), and has ended"
                    self._tell(_failure(text, ends, cause))
                return
        if not self._failures:
            self._failing_since = now
        left = ends - now
        pause = pause_after_failure(self._wanted_pause(cause, now), left=left)
        self._failures += 1
        self._plan(now + pause)
        text = (
            f"the token could not be renewed ({type(cause).__name__}); it ends in {left:.0f} s, and is asked for again "
            f"in {pause:.1f} s"
        )
        self._tell(_failure(text, ends, cause))

    def _wanted_pause(self, cause: Exception, now: float) -> float:
        try:
            return to_seconds(self._backoff(self._failures, cause, now - self._failing_since))
        except Exception as error:  # noqa: BLE001  # a wait object may be the user's own code
            self._tell(_failure(f"the backoff can't be used ({type(error).__name__})", None, error))
            return default_pause(self._failures, self._uniform)

    def _tell(self, failure: TokenRenewalError) -> None:
        for user in list(self._users):
            user.renewal_failed(failure)

    def _is_needed(self) -> bool:
        """Whether there are open connections, which may have the latest token."""
        return any(user.has_connections for user in self._users)

    def _rest(self) -> None:
        """Leave the provider in peace for a moment."""
        self._fruitless += 1
        self._ask_from = self._loop.time() + rest_of_provider(self._fruitless)

    def _plan(self, renew_at: float) -> None:
        self._renew_at = renew_at
        self._timer.set(renew_at if self._users else math.inf)

    def _renew(self) -> None:
        if self._request is None:
            self._begin(self._users)


def _checked(answer: object, now: float) -> Token | ConfigurationError:
    """Return the token that a provider gave, or what is wrong with it."""
    try:
        token = Token(read_credentials(answer), now)
    except ConfigurationError as error:
        return error
    if token.expires_at <= now:
        return ConfigurationError("the credential provider returned credentials that have ended already")
    return token


def _failure(text: str, expires_at: float | None, cause: Exception) -> TokenRenewalError:
    error = TokenRenewalError(text, expires_at=expires_at)
    error.__cause__ = cause
    return error
