"""Who the client is to the server: the credentials, and where they come from.

A provider is an object with ``get_credentials()``, one of redis-py's among them, or a callable; synchronous or not, it
returns ``Credentials`` or a ``(username, password)`` pair. It is asked before every handshake. A synchronous one is
called in a thread, which can't be interrupted: one that never returns keeps the interpreter from exiting. When ten
calls have not come back, it is not called again until one has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from aioredis_kit.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and what proves it.

    Attributes:
        username: The ACL user; ``None`` is the default user.
        password: The password or token; never part of the ``repr``.
        expires_at: When they stop being valid, in seconds since the epoch; ``None`` is never. Credentials that end are
            renewed before that, and connections authenticate again.
        refresh_on: When whoever issued them wants them to be renewed, if that was said; the same.
    """

    username: str | None = None
    password: str = field(default="", repr=False)
    expires_at: float | None = None
    refresh_on: float | None = field(default=None, repr=False)

    def is_same_as(self, other: Credentials | None) -> bool:
        """Whether a server would see no difference, whatever is known about their end."""
        return other is not None and (self.username, self.password) == (other.username, other.password)


_FAR_FUTURE: Final = 1e11
"""An instant some three thousand years from now; counted in milliseconds, every one since 1973 is later than that."""

CredentialsAnswer: TypeAlias = Credentials | tuple[str | None, str]


class CredentialProvider(Protocol):
    """Something that can be asked for credentials again and again. Its method may be a coroutine function."""

    def get_credentials(self) -> CredentialsAnswer | Awaitable[CredentialsAnswer]:
        """Return the credentials to use for a handshake that begins now.

        Raises:
            Exception: Whatever went wrong. It counts as a failed attempt to connect.

        Cancellation:
            Happens when the client is closed meanwhile, or after 30 seconds.
        """
        ...


CredentialSource: TypeAlias = (
    CredentialProvider | Callable[[], CredentialsAnswer] | Callable[[], Awaitable[CredentialsAnswer]]
)
"""What ``credential_provider=`` takes."""


def read_credentials(answer: object) -> Credentials:
    """Make credentials of what a provider returned.

    Raises:
        ConfigurationError: It returned something else.
    """
    if isinstance(answer, Credentials):
        credentials = answer
    elif isinstance(answer, tuple) and len(answer) in (1, 2) and isinstance(answer[-1], str):
        credentials = Credentials(answer[0] if len(answer) == 2 else None, answer[-1])
    else:
        raise ConfigurationError(
            f"the credential provider returned {type(answer).__name__!r}: it must return Credentials "
            "or a (username, password) pair"
        )
    parts: tuple[object, object] = (credentials.username or "", credentials.password)
    if not all(isinstance(part, str) for part in parts):
        raise ConfigurationError(
            "the credential provider returned a user name or password that is no text: both must be str"
        )
    # Not by encoding it: that error would show it.
    if any("\ud800" <= letter <= "\udfff" for part in parts for letter in str(part)):
        raise ConfigurationError(
            "the credential provider returned a user name or password with half a surrogate pair: it can't be sent"
        )
    for name in ("expires_at", "refresh_on"):
        instant = getattr(credentials, name)
        if instant is None:
            continue
        is_number = isinstance(instant, int | float) and not isinstance(instant, bool)
        if not is_number or not -_FAR_FUTURE < instant < _FAR_FUTURE:  # nor is NaN, which is never less
            raise ConfigurationError(
                f"the credential provider returned an {name} that is no such time: it must be seconds since the epoch, "
                "or None"
            )
    return credentials
