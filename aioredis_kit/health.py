"""What a probe is told of a client."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Concern(enum.Enum):
    """What is wrong with a client, its server, or what is between them."""

    CLOSED = "closed"
    """The client was closed, or is being closed."""
    GAVE_UP = "gave up"
    """The reconnect strategy gave up: nothing will connect the client again by itself."""
    NOT_CONNECTED = "not connected"
    """There is no connection: the server, the network or a name is down."""
    CREDENTIALS_REFUSED = "credentials refused"
    """There is no connection, because the server takes the credentials no more."""
    NOT_SERVING = "not serving"
    """The server says that it does not serve now: it loads its data, or a script keeps it busy."""
    SILENT = "silent"
    """There is a connection, and the server says nothing on it."""
    SLOW = "slow"
    """The server answers, but late."""
    LOOP_BLOCKED = "event loop blocked"
    """The event loop of this process did not turn for a while: nothing could be sent or read."""
    BACKLOG = "backlog"
    """Commands wait to be sent: more are issued than the server answers."""
    LEASES_EXHAUSTED = "leases exhausted"
    """Blocking commands, sessions or watching transactions wait, as all dedicated connections are in use."""
    MESSAGES_MISSED = "messages missed"
    """There are subscriptions, and no connection for them."""
    TOKEN_ENDED = "token ended"  # noqa: S105  # no token
    """The token has ended and there is no newer one: the next connection will be refused."""
    RECENTLY_LOST = "recently lost"
    """A connection was lost, and that, or that another one took its place, was a moment ago."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a client is not as it should be.

    Attributes:
        concern: What is wrong.
        text: The same in words, with numbers.
    """

    concern: Concern
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a client is.

    Attributes:
        is_live: Whether it can serve again without being made anew. It can while the server is away.
        is_ready: Whether a command issued now can be expected to be answered within the time that was asked for.
        state: What the client is doing, in words.
        reasons: What is wrong, the most important first; empty if nothing is.
        latency: How long a ping took, in seconds; of several connections the slowest. ``None``: it was not answered.
        last_error: The latest error of the client's own, such as that of the last attempt to connect; empty if there
            was none since it was opened.
    """

    is_live: bool
    is_ready: bool
    state: str
    reasons: tuple[Reason, ...] = ()
    latency: float | None = None
    last_error: str = ""

    @property
    def is_degraded(self) -> bool:
        """Whether anything is wrong, ready or not."""
        return bool(self.reasons)

    @property
    def status(self) -> str:
        """All of it in one word: ``ok``, ``degraded``, ``unavailable`` (not ready) or ``dead`` (not live)."""
        if not self.is_live:
            return "dead"
        if not self.is_ready:
            return "unavailable"
        return "degraded" if self.reasons else "ok"

    def as_dict(self) -> dict[str, Any]:
        """Return what a probe answers: of JSON's types alone."""
        return {
            "status": self.status,
            "live": self.is_live,
            "ready": self.is_ready,
            "state": self.state,
            "reasons": [{"concern": each.concern.value, "text": each.text} for each in self.reasons],
            "latency": self.latency,
            "last_error": self.last_error or None,
        }
