"""How long to wait before connecting again, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from aioredis_kit.exceptions import AuthenticationFailedError, HandshakeError
from aioredis_kit.kinds import to_seconds
from aioredis_kit.policy.backoff import tenacity_backoff
from aioredis_kit.policy.tls_failures import TLSFailure, find_failure, tls_error_behind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aioredis_kit.options import Options, ReconnectStrategy, StrategyAnswer

    Uniform: TypeAlias = Callable[[float, float], float]

_HOPELESS: Final = frozenset(
    {
        TLSFailure.OTHER_NAME,
        TLSFailure.UNKNOWN_AUTHORITY,
        TLSFailure.EXPIRED,
        TLSFailure.UNVERIFIED,
        TLSFailure.CERTIFICATE_MISSING,
        TLSFailure.VERSION,
    }
)


@dataclass(frozen=True, slots=True)
class Delay:
    """Connect again after a while.

    Attributes:
        seconds: After how long; 0 is at once.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Don't connect again.

    Attributes:
        error: What the strategy itself has to say about it, if anything.
    """

    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Strategy:
    """A reconnect strategy, in whichever form it was given.

    Attributes:
        ask: Called with the number of failed attempts since the loss, the error of the last one (or the loss
            itself), and the seconds since the loss. What it returns is for ``read_answer``; or it is awaitable,
            and its result is.
        is_default: Whether it is the one used if none is given.
    """

    ask: Callable[[int, Exception, float], StrategyAnswer | Awaitable[StrategyAnswer]]
    is_default: bool = False


def make_strategy(option: ReconnectStrategy | None, uniform: Uniform) -> Strategy:
    """Make a strategy of a checked option.

    Args:
        option: ``Options.reconnect_strategy``.
        uniform: Returns a random number between two, as ``random.uniform`` does.
    """
    if option is None:
        return Strategy(lambda retries, _cause, _elapsed: default_delay(retries, uniform), is_default=True)
    if isinstance(option, tuple):
        return Strategy(tenacity_backoff(*option))
    if not callable(option):
        return Strategy(lambda _retries, _cause, _elapsed: option)

    from tenacity.wait import wait_base  # noqa: PLC0415  # few need it, and it takes 10 ms

    if isinstance(option, wait_base):
        return Strategy(tenacity_backoff(option))
    return Strategy(lambda retries, cause, _elapsed: option(retries, cause))


def default_delay(retries: int, uniform: Uniform) -> float:
    """Return a delay in seconds that doubles up to 2 s, with up to 0.2 s more so that not all clients come at once.

    Args:
        retries: How many attempts have failed since the loss.
        uniform: Returns a random number between two, as ``random.uniform`` does.
    """
    capped = min(retries, 6)  # 2**6 * 0.05 is beyond the 2 s already
    return min(2.0**capped * 0.05, 2.0) + uniform(0, 0.2)


def read_answer(answer: object) -> Delay | GiveUp:
    """Return what a strategy decided.

    Raises:
        TypeError: It returned none of what it may return.
        ValueError: It returned a negative, infinite or overlong delay, or NaN.
    """
    if answer is False:
        return GiveUp()
    if isinstance(answer, Exception):
        return GiveUp(answer)
    try:
        return Delay(to_seconds(answer))
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"the reconnect strategy must return seconds (0 or more), a timedelta, False or an exception: {error}"
        ) from None


def is_hopeless(cause: BaseException, options: Options) -> bool:
    """Return whether waiting can't mend it, as long as the client has never been ready.

    That is: refused credentials that are always the same, a server that lacks what was asked for, a certificate that
    fails verification, and what else TLS needs that this client's options do not have. A certificate that is not valid
    yet will be; one of the client's own that the server refuses may be renewed on disk.
    """
    if isinstance(cause, AuthenticationFailedError):
        return options.credential_provider is None
    if isinstance(cause, HandshakeError):
        return cause.is_unsupported
    error = tls_error_behind(cause)
    return error is not None and find_failure(error) in _HOPELESS
