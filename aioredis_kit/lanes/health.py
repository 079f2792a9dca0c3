"""The health job of one connection: ping when nothing is read; give the connection up when that helps nothing.

One timer, no task. It refers to the connection as long as that lives.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from aioredis_kit.exceptions import HealthCheckError, ReplyProtocolError
from aioredis_kit.policy.health import Act, judge
from aioredis_kit.transport.command import Query

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.wire.encoder import Payload

_SECOND_LOOK: Final = 0.01
"""How long after a verdict of death the connection is looked at again, in seconds. A loop that was blocked runs
its timers before it reads what has come in the meantime."""

_PONGS: Final = ("PONG", b"PONG", [b"pong", b""])
"""The answers to a PING, the last two on a connection that is subscribed."""


class Pong(NamedTuple):
    """What became of a ping.

    Attributes:
        latency: After how many seconds it was answered; ``None``: the connection has ended before.
        refusal: The error reply that came, if one did.
    """

    latency: float | None
    refusal: Exception | None = None


class HealthCheck:
    """Watches one connection from ``ready`` to its end.

    Args:
        connection: The connection.
        ping: The encoded ``PING``.
        interval: Ping when nothing was read for so long, in seconds; ``None``: only when asked to.
        timeout: How long the server may stay silent after a ping, in seconds.
        is_due: Whether the server can be expected to answer now.
        answered: Told the latency of each ping.
        clock: The client's clock.
    """

    def __init__(
        self,
        connection: Connection,
        ping: Payload,
        *,
        interval: float | None,
        timeout: float,
        is_due: Callable[[], bool],
        answered: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._ping = ping
        self._interval = interval
        self._timeout = timeout
        self._is_due = is_due
        self._answered = answered
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._pinged_at: float | None = None
        self._read_before = 0  # bytes read when the ping was sent
        self._is_suspect = False
        self._asked: list[asyncio.Future[Pong]] = []  # for the next answer
        self._look()

    def ask(self) -> asyncio.Future[Pong]:
        """Ping as ``probe`` does; return what is done with the next answer, or with the end of the connection.

        No more than one unanswered ping is out while nothing is read, however often this is asked.
        """
        answer: asyncio.Future[Pong] = asyncio.get_running_loop().create_future()
        self._asked = [each for each in self._asked if not each.done()]
        self._asked.append(answer)
        self.probe()
        return answer

    def probe(self) -> None:
        """Ping now, unless a ping is out that nothing was read since."""
        if self._pinged_at is None or self._connection.bytes_read != self._read_before:
            self._send_ping()
            self._look()

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Stop watching for good, as the connection has ended."""
        self.stop()
        self._tell(Pong(None))

    def _tell(self, pong: Pong) -> None:
        asked, self._asked = self._asked, []
        for answer in asked:
            if not answer.done():
                answer.set_result(pong)

    def _look(self) -> None:
        self.stop()
        now = self._clock()
        if self._pinged_at is not None and self._connection.bytes_read != self._read_before:
            self._pinged_at = None
        verdict = judge(
            now,
            last_read=self._connection.last_read,
            pinged_at=self._pinged_at,
            interval=self._interval,
            timeout=self._timeout,
        )
        look_again_at = verdict.look_again_at
        if verdict.act is not Act.WAIT and not self._is_due():
            look_again_at = now + (self._interval or self._timeout)
        elif verdict.act is Act.DROP:
            if self._is_suspect:
                self._drop(now)
                return
            look_again_at = now + _SECOND_LOOK
        elif verdict.act is Act.PING:
            self._send_ping()
        self._is_suspect = verdict.act is Act.DROP and self._is_due()
        if look_again_at < float("inf"):
            self._timer = asyncio.get_running_loop().call_later(look_again_at - now, self._look)

    def _send_ping(self) -> None:
        sent_at = self._clock()
        self._pinged_at = sent_at
        self._read_before = self._connection.bytes_read

        def answered(query: Query) -> None:
            if query.reply not in _PONGS and not isinstance(query.reply, Exception):
                # Somebody else's reply: the stream is out of step, whatever damaged it.
                text = f"{self._connection.address} answered a PING with another reply"
                self._connection.drop(ReplyProtocolError(text, address=self._connection.address))
                return
            latency = self._connection.last_read - sent_at
            self._tell(Pong(latency, query.reply if isinstance(query.reply, Exception) else None))
            self._answered(latency)
            if self._timer is not None:  # the next look was for the case that no answer comes
                self._look()

        self._connection.ask([Query(self._ping, answered)], sent_at)

    def _drop(self, now: float) -> None:
        silent_for = now - self._connection.last_read
        self._connection.drop(
            HealthCheckError(
                f"{self._connection.address} has been silent for {silent_for:.1f} s and did not answer a PING "
                f"within {self._timeout:g} s",
                silent_for=silent_for,
                address=self._connection.address,
            )
        )
