"""The commands that a client sends of its own accord, and what there is without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aioredis_kit.options import Options

__all__ = ["CHANNEL", "KEY", "WANTS", "Want"]

KEY: Final = "aioredis-kit:doctor"
"""A key that is asked about, and never written."""
CHANNEL: Final = "aioredis-kit:doctor"
"""A channel that is asked about, and subscribed to for a moment where nobody can ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One command.

    Attributes:
        args: The command, as it is asked about.
        words: How many of them are its name.
        loss: What there is without it, as completes "without it".
        is_harmless: Whether it may be tried where nobody can ask: it changes nothing, and answers at once.
        is_serious: Whether that is more than a nuisance to everybody.
        option: The option that needs it; empty: none does.
    """

    args: tuple[str, ...]
    words: int = 1
    loss: str
    is_harmless: bool = False
    is_serious: bool = False
    option: str = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return " ".join(self.args[: self.words])

    def is_wanted_by(self, options: Options) -> bool:
        """Whether an option that needs it is set."""
        return self.option != "" and bool(getattr(options, self.option))


WANTS: Final = (
    Want(args=("GET", KEY), loss="keys can't be read", is_harmless=True, is_serious=True),
    Want(args=("SET", KEY, "x"), loss="keys can't be written", is_serious=True),
    Want(args=("PING",), loss="pings are answered with NOPERM, which is taken for a sign of life", is_harmless=True),
    Want(
        args=("CLIENT", "SETINFO", "LIB-NAME", "aioredis_kit"),
        words=2,
        loss="CLIENT LIST does not say which connections are this library's",
    ),
    Want(
        args=("CLIENT", "UNBLOCK", "0"),
        words=2,
        loss=(
            "a blocking command whose caller was cancelled ends with its connection, and an element that it took from "
            "a list is lost"
        ),
        is_harmless=True,
        is_serious=True,
    ),
    Want(
        args=("CLIENT", "TRACKING", "ON"),
        words=2,
        loss="there is no client-side cache and no event invalidate",
        option="client_side_cache",
    ),
    Want(
        args=("PTTL", KEY),
        loss="the client-side cache can't tell when keys end, so it needs key_expiry=False",
        is_harmless=True,
        option="client_side_cache",
    ),
    Want(args=("MULTI",), loss="there are no transactions"),
    Want(args=("WATCH", KEY), loss="there are no transactions that watch keys"),
    Want(args=("SUBSCRIBE", CHANNEL), loss="there are no subscriptions", is_harmless=True),
    Want(args=("PSUBSCRIBE", f"{CHANNEL}*"), loss="there are no subscriptions by pattern"),
    Want(args=("PUBLISH", CHANNEL, "x"), loss="messages can't be published"),
)
"""In the order in which they are told."""
