"""What is said of a command whose deadline passed."""

from __future__ import annotations

from typing import Final

from aioredis_kit.exceptions import CommandTimeoutError, TimeoutDiagnosis

RESOLUTION: Final = 0.025
"""How often, at most, deadlines are looked at, in seconds. With the loop's own delay a command ends no later
than 50 ms after its deadline."""

_BLOCKED: Final = 0.1
_BIG: Final = 1 << 20


def timeout_error(name: str, diagnosis: TimeoutDiagnosis, *, was_sent: bool) -> CommandTimeoutError:
    """Make the error for a command.

    Args:
        name: The command's name.
        diagnosis: Where its time went.
        was_sent: Whether it was ever handed to a transport.
    """
    where = f"{diagnosis.queued:.3f} s in the queue"
    if diagnosis.in_flight:
        where += f", {diagnosis.in_flight:.3f} s in flight"
    message = (
        f"{name} was not answered within {diagnosis.timeout:g} s ({where}; {diagnosis.commands_ahead} commands "
        f"with {diagnosis.bytes_ahead} bytes ahead; {diagnosis.bytes_read} bytes read since; connection "
        f"{diagnosis.state}; event loop {diagnosis.lag:.3f} s late): {_advice(diagnosis, was_sent=was_sent)}"
    )
    return CommandTimeoutError(message, diagnosis=diagnosis, maybe_executed=was_sent)


def _advice(diagnosis: TimeoutDiagnosis, *, was_sent: bool) -> str:
    if diagnosis.lag > _BLOCKED:
        return "the event loop was blocked: look for synchronous work in this process"
    if was_sent and not diagnosis.in_flight:
        return "its reply was lost with the connection, and it was not sent again in time"
    if not was_sent:
        if diagnosis.state != "ready":
            return "it was never sent, as there was no connection: see the error and reconnecting events"
        return "it was never sent: the queue is longer than the server is fast, so send less or raise the timeout"
    if not diagnosis.bytes_read:
        return "nothing at all was read since it was sent: the server or the network is stalled"
    if diagnosis.bytes_read > _BIG:
        return "large replies were being read before its own: move them to a client of their own"
    return "the server was answering, but slowly: look for slow commands before it (SLOWLOG GET)"
