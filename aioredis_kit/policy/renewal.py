"""When a token is renewed, how long to wait after that failed, and when a connection with an old one is given up.

Instants are seconds since the epoch, as the end of a token is one.

The server closes a connection whose token has ended: Azure asks for a new one at least 3 minutes before
(https://learn.microsoft.com/azure/redis/entra-for-authentication). Its own extension for StackExchange.Redis renews
5 minutes before the end, and so do we; but tokens that live long are renewed earlier, so that an identity provider that
is down for a while does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import to_seconds
from aioredis_kit.policy.backoff import tenacity_backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity.wait import WaitBaseT

    from aioredis_kit.policy.backoff import Backoff

_LATEST: Final = 0.95
"""No token is renewed after more of its life than this."""
_LEAST_PAUSE: Final = 0.5
"""How long to wait at least before asking again, in seconds: no schedule makes a loop of it."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_FIRST_REST: Final = 0.05
_LONGEST_REST: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalSchedule:
    """When a token is renewed.

    Attributes:
        ratio: After how much of its life, from 0 to 0.95.
        margin: How long before its end at the latest, in seconds or as a ``timedelta``; but never before half of its
            life, and not at all for a token that lives shorter than this.
        jitter: By how much of the time until then it varies, from 0 to 0.5, so that a fleet does not renew at once.
        backoff: How long to wait after a renewal that failed: one of tenacity's wait objects. ``None``: 1 s, doubling
            up to 30 s, ± 20 %. Near the token's end the waits are shorter: see ``pause_after_failure``.

    Raises:
        ConfigurationError: A value is of another type or out of range.
    """

    ratio: float = 0.75
    margin: float = 300.0
    jitter: float = 0.1
    backoff: WaitBaseT | None = None

    def __post_init__(self) -> None:
        for name, most in (("ratio", _LATEST), ("jitter", 0.5)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise ConfigurationError(f"{name} must be a number from 0 to {most}, not {value!r}")
        try:
            object.__setattr__(self, "margin", to_seconds(self.margin))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"margin must be seconds or a timedelta: {error}") from None
        if self.backoff is not None and not _is_wait(self.backoff):
            raise ConfigurationError(f"backoff must be one of tenacity's wait objects, not {self.backoff!r}")


def renewal_time(
    schedule: RenewalSchedule, *, now: float, expires_at: float, refresh_on: float | None, is_new: bool, spread: float
) -> float:
    """Return when to renew a token that has just been obtained.

    Args:
        schedule: The schedule.
        now: The time.
        expires_at: When the token ends.
        refresh_on: When the identity provider wants it to be renewed, if it says so: then not later than that, but for
            the jitter. Where that has passed and it gave the same token again nevertheless, it counts no more.
        is_new: Whether it is another one than before. If not, what is left of it counts as a life of its own, and a
            little time passes in any case.
        spread: A random number from -1 to 1.
    """
    life = max(expires_at - now, 0.0)
    delay = life * schedule.ratio
    if life > schedule.margin:
        delay = min(delay, max(life - schedule.margin, life / 2))
    if refresh_on is not None and (is_new or refresh_on > now):
        delay = min(delay, max(refresh_on - now, 0.0))
    delay = min(delay * (1 + schedule.jitter * spread), life * _LATEST)
    return now + max(delay, min(_LEAST_PAUSE, life / 2) if is_new else _LEAST_PAUSE)


def make_backoff(schedule: RenewalSchedule, uniform: Callable[[float, float], float]) -> Backoff:
    """Return what says how long to wait after a renewal that failed.

    Args:
        schedule: The schedule.
        uniform: Returns a random number between two, as ``random.uniform`` does.
    """
    if schedule.backoff is not None:
        return tenacity_backoff(schedule.backoff)
    return lambda failures, _cause, _elapsed: default_pause(failures, uniform)


def default_pause(failures: int, uniform: Callable[[float, float], float]) -> float:
    """Return a wait in seconds that doubles from 1 s to 30 s, ± 20 %.

    Args:
        failures: How many have failed in a row before the latest.
        uniform: Returns a random number between two, as ``random.uniform`` does.
    """
    return min(_FIRST_PAUSE * 2.0 ** min(failures, 10), _LONGEST_PAUSE) * uniform(0.8, 1.2)


def pause_after_failure(wanted: float, *, left: float) -> float:
    """Return how long to wait before a renewal that failed is tried again, in seconds.

    Not longer than a tenth of what is left of the present token, but half a second at least.

    Args:
        wanted: How long the backoff says.
        left: How long the token still lives, in seconds.
    """
    return max(min(wanted, left / 10), _LEAST_PAUSE)


def rest_of_provider(fruitless: int) -> float:
    """Return for how long a provider is not asked after that came to nothing, and there is no token, in seconds.

    Connections come by their own reconnect strategies; together they may be many. So this is the default strategy's
    delay, once for all of them.

    Args:
        fruitless: How many requests in a row came to nothing.
    """
    return min(_FIRST_REST * 2.0 ** min(max(fruitless - 1, 0), 10), _LONGEST_REST)


def recycling_time(*, obtained_at: float, expires_at: float) -> float:
    """Return when a connection is given up that still has a token although there is a newer one.

    Args:
        obtained_at: When the old token was obtained.
        expires_at: When it ends.
    """
    return expires_at - min(60.0, 0.1 * (expires_at - obtained_at))


def _is_wait(value: object) -> bool:
    from tenacity.wait import wait_base  # noqa: PLC0415  # few need it, and it takes 10 ms

    return isinstance(value, wait_base)
