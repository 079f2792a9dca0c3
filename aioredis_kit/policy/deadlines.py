"""What is said of a command whose deadline passed: where the time went, why, and what to do.

The advice comes from numbers alone, and names one cause: the first in this order that explains the wait.

1. The event loop. While it is blocked nothing else can be told apart.
2. The connection: there was none, or it was lost with the reply.
3. Silence: whether the peer's machine has acknowledged what was sent tells a dead peer from a server that is busy.
4. What was read instead of the reply: few large replies, many small ones, or hardly anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aioredis_kit.exceptions import CommandTimeoutError, PoolExhaustedError, TimeoutCause, TimeoutDiagnosis

if TYPE_CHECKING:
    from collections.abc import Sequence

RESOLUTION: Final = 0.025
"""How often, at most, deadlines are looked at, in seconds. With the loop's own delay a command ends no later
than 50 ms after its deadline."""

_DELAYED: Final = 1 / 3
"""A loop that did not turn for this share of the wait is to blame. One that was blocked for less had time to read an
answer. Of blocks that follow each other this much is noticed if they take 75 ms each: it is looked at every 50 ms."""
_SILENT: Final = 1 / 2
"""If the connection was silent for this share of the wait, that is why a command was not sent. Before that, it may have
waited for what was answered."""
_TOLERANCE: Final = 0.05
"""By how much an acknowledgement of what was sent before a command may come after it was written, in seconds: a machine
delays them by up to 40 ms."""
_BIG: Final = 256 * 1024
"""So many bytes, if they are few replies, keep a connection longer than most commands take."""
_BIG_REPLY: Final = 64 * 1024
"""Replies of this size on average, in bytes, are large: two thousand of them fill a gigabit link for a second."""
_FAST: Final = 2000.0
"""A server that answers so many commands a second has hardly slow ones among them: a client may send a hundred times as
many."""


# What to do about it.
_BLOCKED_LOOP: Final = "the event loop was blocked: look for synchronous work in this process"
_REPLY_LOST: Final = "its reply was lost with the connection, and it was not sent again in time"
_NOT_CONNECTED: Final = "it was never sent, as there was no connection: see the error and reconnecting events"
_NEVER_SENT: Final = "it was never sent: the queue is longer than the server is fast, so send less or raise the timeout"
_STALLED: Final = "nothing at all was read since it was sent: the server or the network is stalled"
_NOT_ACKNOWLEDGED: Final = (
    "nothing was even acknowledged since it was sent: the server's machine is gone, or a firewall or the network "
    "swallows what is sent to it"
)
_NOT_ANSWERED: Final = (
    "the server's machine has got it, and nothing at all was read since: the server is stopped, or busy with something "
    "slow such as a script or KEYS (SLOWLOG GET)"
)
_LARGE_REPLIES: Final = (
    "large replies were being read before its own: move them to a client of their own, or ask for less at once"
)
_TOO_MUCH_SENT: Final = (
    "the server was answering fast, but too much was sent before it: send less at once, or raise the timeout"
)
_ANSWERED_SLOWLY: Final = "the server was answering, but slowly: look for slow commands before it (SLOWLOG GET)"


def diagnosed(diagnosis: TimeoutDiagnosis, *, was_sent: bool) -> TimeoutDiagnosis:
    """Return a diagnosis with its cause and the advice.

    Args:
        diagnosis: The numbers.
        was_sent: Whether the command was ever handed to a transport.
    """
    cause, advice = _judge(diagnosis, was_sent=was_sent)
    return replace(diagnosis, cause=cause, advice=advice)


def timeout_error(name: str, diagnosis: TimeoutDiagnosis, *, was_sent: bool, note: str = "") -> CommandTimeoutError:
    """Make the error for a command.

    Args:
        name: The command's name.
        diagnosis: Where its time went. If it has no cause yet, one is found.
        was_sent: Whether it was ever handed to a transport.
        note: What else is to be said of the time-out.
    """
    if diagnosis.cause is TimeoutCause.UNKNOWN and not diagnosis.advice:
        diagnosis = diagnosed(diagnosis, was_sent=was_sent)
    where = f"{diagnosis.queued:.3f} s in the queue"
    if diagnosis.in_flight:
        where += f", {diagnosis.in_flight:.3f} s in flight"
    message = (
        f"{name} was not answered within {diagnosis.timeout:g} s{note} ({where}; {diagnosis.commands_ahead} commands "
        f"with {diagnosis.bytes_ahead} bytes ahead; {diagnosis.bytes_read} bytes read since, {diagnosis.replies_read} "
        f"replies; connection {diagnosis.state}; event loop delayed for {diagnosis.delayed:.3f} s, and "
        f"{diagnosis.lag:.3f} s late): {diagnosis.advice}"
    )
    return CommandTimeoutError(message, diagnosis=diagnosis, maybe_executed=was_sent)


def exhausted_error(
    limit: int, holders: Sequence[str], failure: Exception | None, *, waited: float, state: str
) -> PoolExhaustedError:
    """Make the error for who was lent no dedicated connection in time.

    Args:
        limit: How many there may be.
        holders: What the present ones are lent for.
        failure: Why the latest attempt to open one failed, if it did.
        waited: For how long they waited, in seconds.
        state: What the client's shared connection is doing.
    """
    if len(holders) >= limit:
        cause = TimeoutCause.LEASES_EXHAUSTED
        text = f"all {limit} dedicated connections (max_dedicated_connections) were in use, by {', '.join(holders)}"
        advice = "raise max_dedicated_connections, or end blocking commands and sessions sooner"
    else:
        cause = TimeoutCause.DISCONNECTED
        text = f"no dedicated connection could be opened in time, and {len(holders)} were in use"
        text += "" if failure is None else f"; last: {failure}"
        advice = "look at the error and reconnecting events, and at the server's maxclients"
    diagnosis = TimeoutDiagnosis(timeout=waited, queued=waited, state=state, cause=cause, advice=advice)
    return PoolExhaustedError(f"{text}: {advice}", limit=limit, holders=tuple(holders), diagnosis=diagnosis)


def _judge(diagnosis: TimeoutDiagnosis, *, was_sent: bool) -> tuple[TimeoutCause, str]:
    waited = diagnosis.queued + diagnosis.in_flight
    if diagnosis.delayed and diagnosis.delayed >= waited * _DELAYED:
        return TimeoutCause.BLOCKED_LOOP, _BLOCKED_LOOP
    if was_sent and not diagnosis.in_flight:
        return TimeoutCause.DISCONNECTED, _REPLY_LOST
    if was_sent and diagnosis.bytes_read:
        return _judge_replies(diagnosis)
    if was_sent:
        return _judge_silence(diagnosis, diagnosis.in_flight)
    if diagnosis.state != "ready":
        return TimeoutCause.DISCONNECTED, _NOT_CONNECTED
    if diagnosis.silent_for and diagnosis.silent_for >= waited * _SILENT:
        cause, advice = _judge_silence(diagnosis, diagnosis.silent_for)
        return cause, f"it was never sent; and of what was sent before, {advice}"
    return TimeoutCause.LONG_QUEUE, _NEVER_SENT


def _judge_silence(diagnosis: TimeoutDiagnosis, silent_for: float) -> tuple[TimeoutCause, str]:
    unacknowledged_for = diagnosis.unacknowledged_for
    if unacknowledged_for is None:
        return TimeoutCause.STALLED, _STALLED
    if unacknowledged_for and unacknowledged_for >= silent_for - _TOLERANCE:
        return TimeoutCause.DEAD_PEER, _NOT_ACKNOWLEDGED
    return TimeoutCause.SLOW_SERVER, _NOT_ANSWERED


def _judge_replies(diagnosis: TimeoutDiagnosis) -> tuple[TimeoutCause, str]:
    if diagnosis.bytes_read >= _BIG and diagnosis.bytes_read >= (diagnosis.replies_read + 1) * _BIG_REPLY:
        return TimeoutCause.BIG_REPLY, _LARGE_REPLIES
    if diagnosis.replies_read >= diagnosis.in_flight * _FAST:
        return TimeoutCause.LONG_QUEUE, _TOO_MUCH_SENT
    return TimeoutCause.SLOW_SERVER, _ANSWERED_SLOWLY
