"""How a client is, of what was seen of it: a table with words.

A client is live as long as it will come back by itself. It is ready if a command issued now can be expected to be
answered in the time that the caller has. All else that is wrong makes it degraded, and is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aioredis_kit.health import Concern, Health, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

RECENT: Final = 5.0
"""How long what is over is told, in seconds: longer than between two probes that come often, and short enough that
a graph shows when it was."""
BLOCKED: Final = 0.1
"""So many seconds of the recent ones without a turn of the event loop are told. Requests notice as much."""
SLOW: Final = 1 / 2
"""A ping that took this share of the caller's time is slow: the next command may be late."""

_NOT_SERVING: Final = frozenset({"LOADING", "MASTERDOWN", "BUSY"})
"""Error replies to a ping that every command would get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a ping on one connection.

    Attributes:
        latency: After how many seconds it was answered; ``None``: not in time.
        is_heard: Whether anything was read since it was sent.
        refusal: The word with which the answer began, if that was an error reply.
    """

    latency: float | None
    is_heard: bool = True
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What was seen of a client. Times are in seconds.

    Attributes:
        state: What it is doing, in words.
        timeout: How much time the caller had.
        is_closing: Whether it was closed, or is being closed.
        has_closed: Whether it was closed.
        has_given_up: Whether the reconnect strategy gave up.
        is_connected: Whether all shared connections are there.
        down_for: For how long the one has been away that has been longest.
        not_serving: The word with which the server says to a new connection that it does not serve yet.
        is_refused: Whether the latest attempt to connect failed because of the credentials.
        answers: What came of pings, if there were any.
        delayed: For how long the event loop did not turn, of the last ``RECENT`` seconds.
        lost_ago: How long ago a connection was lost; ``None``: none was.
        back_ago: How long ago another took the place of one that was lost; ``None``: none did.
        latest_loss: Why.
        waiting: How many commands wait to be sent.
        oldest: For how long the oldest of them has waited.
        waiting_for_lease: How many users wait for a dedicated connection while all are in use.
        misses_messages: Whether there are subscriptions and no connection for them.
        token_ended_for: For how long the token has ended; ``None``: it has not, or there is none.
        last_error: The latest error, in words.
    """

    state: str
    timeout: float
    is_closing: bool = False
    has_closed: bool = False
    has_given_up: bool = False
    is_connected: bool = True
    down_for: float = 0.0
    not_serving: str = ""
    is_refused: bool = False
    answers: tuple[Answer, ...] = ()
    delayed: float = 0.0
    lost_ago: float | None = None
    back_ago: float | None = None
    latest_loss: str = ""
    waiting: int = 0
    oldest: float = 0.0
    waiting_for_lease: int = 0
    misses_messages: bool = False
    token_ended_for: float | None = None
    last_error: str = ""


def assess(signs: Signs) -> Health:
    """Tell how a client is."""
    hindrances = tuple(_hindrances(signs))
    latencies = [answer.latency for answer in signs.answers if answer.latency is not None]
    is_over = signs.has_closed or signs.has_given_up
    return Health(
        is_live=not is_over,
        is_ready=not hindrances,
        state=signs.state,
        reasons=hindrances if is_over else hindrances + tuple(_worries(signs)),
        latency=max(latencies) if latencies and len(latencies) == len(signs.answers) else None,
        last_error=signs.last_error,
    )


def _hindrances(signs: Signs) -> Iterator[Reason]:
    """Yield why no command can be expected to be answered in time."""
    if signs.has_given_up:
        yield Reason(Concern.GAVE_UP, "the client gave up reconnecting: call connect(), or make another one")
    elif signs.is_closing or signs.has_closed:
        yield Reason(Concern.CLOSED, f"the client is {signs.state}")
    elif not signs.is_connected:
        yield _absence(signs)
    elif word := next((each.refusal for each in signs.answers if each.refusal in _NOT_SERVING), ""):
        yield Reason(Concern.NOT_SERVING, f"the server answers {word}: it does not serve now")
    elif any(answer.latency is None and not answer.is_heard for answer in signs.answers):
        yield Reason(
            Concern.SILENT,
            f"the server has said nothing for {signs.timeout:g} s, not even to a ping: it is stopped or busy, or the "
            "network is stalled",
        )


def _absence(signs: Signs) -> Reason:
    since = f"{signs.state} for {signs.down_for:.1f} s"
    if signs.not_serving:
        return Reason(Concern.NOT_SERVING, f"{since}: the server answers {signs.not_serving}, it does not serve yet")
    if signs.is_refused:
        return Reason(Concern.CREDENTIALS_REFUSED, f"{since}: the server refuses the credentials")
    return Reason(Concern.NOT_CONNECTED, since + (f"; last: {signs.last_error}" if signs.last_error else ""))


def _worries(signs: Signs) -> Iterator[Reason]:
    """Yield what else is wrong."""
    if signs.delayed >= BLOCKED:
        yield Reason(
            Concern.LOOP_BLOCKED,
            f"the event loop of this process did not turn for {signs.delayed:.2f} s of the last {RECENT:g} s: look "
            "for synchronous work",
        )
    if slow := _slowness(signs):
        yield Reason(Concern.SLOW, slow)
    if signs.is_connected and signs.waiting and signs.oldest >= signs.timeout * SLOW > 0:
        yield Reason(Concern.BACKLOG, f"{signs.waiting} commands wait to be sent, for up to {signs.oldest:.2f} s")
    if signs.waiting_for_lease:
        yield Reason(
            Concern.LEASES_EXHAUSTED,
            f"all dedicated connections are in use, and {signs.waiting_for_lease} users wait for one",
        )
    if signs.misses_messages:
        yield Reason(Concern.MESSAGES_MISSED, "the connection for messages is down: they are being missed")
    if signs.token_ended_for is not None:
        yield Reason(Concern.TOKEN_ENDED, f"the token has ended {signs.token_ended_for:.0f} s ago")
    if signs.is_connected and signs.lost_ago is not None:
        back_ago = signs.lost_ago if signs.back_ago is None else signs.back_ago
        if min(signs.lost_ago, back_ago) <= RECENT:
            yield Reason(
                Concern.RECENTLY_LOST, f"a connection was lost {signs.lost_ago:.1f} s ago: {signs.latest_loss}"
            )


def _slowness(signs: Signs) -> str:
    if not signs.is_connected:
        return ""
    if any(answer.latency is None and answer.is_heard for answer in signs.answers):
        return f"the server answers others, but did not get to a ping within {signs.timeout:g} s"
    latency = max((answer.latency or 0.0 for answer in signs.answers), default=0.0)
    return f"a ping took {latency:.3f} s" if latency >= signs.timeout * SLOW > 0 else ""
