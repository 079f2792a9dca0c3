"""Looks how a client is: one ping on each shared connection, and what its lanes know. The verdict is ``policy``'s."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aioredis_kit.client.base import ClientState
from aioredis_kit.client.journal import in_words
from aioredis_kit.exceptions import AuthenticationFailedError, error_code
from aioredis_kit.policy.assessment import RECENT, Answer, Signs, assess

if TYPE_CHECKING:
    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.client.life import Life
    from aioredis_kit.health import Health
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.lanes.health import Pong

_WATCH: Final = 60.0
"""For how long the event loop is watched after somebody has asked, in seconds: until the next probe, in most places."""
_LATE: Final = 0.01
"""If the loop is so late with the end of the time, in seconds, what came meanwhile is read before the verdict."""


async def look(core: ClientCore, timeout: float) -> Health:
    """Tell how a client is. See ``RedisClient.health``."""
    core.check_home()
    if core.state is ClientState.NEW and timeout:
        core.admit()
    life = core.life
    if life is None or not core.is_open:
        return assess(_signs_of_closed(core, timeout))
    endpoint = life.router.route(())
    due = core.equipment.clock() + timeout
    endpoint.watch.keep(core.equipment.clock() + _WATCH)
    answers: tuple[Answer, ...] = ()
    while _lives_on(core, life) and (left := due - core.equipment.clock()) > 0:
        if _is_connected(endpoint):
            answers = await _ping(core, endpoint, due)
            if _is_connected(endpoint):
                break
        else:
            await asyncio.wait((life.outcome,), timeout=left)
            await asyncio.sleep(0)  # what made it ready goes on in this very turn
    if not _lives_on(core, life):
        return assess(_signs_of_closed(core, timeout))
    return assess(_signs(core, life, endpoint, timeout, answers))


async def _ping(core: ClientCore, endpoint: Endpoint, due: float) -> tuple[Answer, ...]:
    """Ping on all shared connections, and wait for the answers until then."""
    clock = core.equipment.clock
    asked_at = clock()
    asked = []
    for queue in endpoint.shared.queues:
        connection, answer = queue.connection, queue.link.ask_latency()
        if connection is not None and answer is not None:
            asked.append((connection, connection.bytes_read, answer))
    pongs = [answer for *_, answer in asked]
    try:
        if pongs:
            await asyncio.wait(pongs, timeout=max(due - clock(), 0.0))
        if clock() - due > _LATE:
            for _ in range(2):
                await asyncio.sleep(0)
        waited = clock() - asked_at
        return tuple(
            _answer(pong, waited, is_heard=connection.bytes_read > before) for connection, before, pong in asked
        )
    finally:
        for pong in pongs:
            pong.cancel()  # if it has not come: nobody waits any more


def _answer(pong: asyncio.Future[Pong], waited: float, *, is_heard: bool) -> Answer:
    if not pong.done():
        return Answer(latency=None, is_heard=is_heard)
    latency, refusal = pong.result()
    if latency is not None:
        latency = min(latency, waited)  # it may answer a ping from before, which was held up then
    return Answer(latency=latency, is_heard=is_heard, refusal="" if refusal is None else error_code(refusal))


def _lives_on(core: ClientCore, life: Life) -> bool:
    return core.is_open and core.life is life


def _is_connected(endpoint: Endpoint) -> bool:
    return all(queue.connection is not None for queue in endpoint.shared.queues)


def _signs_of_closed(core: ClientCore, timeout: float) -> Signs:
    return Signs(
        state=core.state.value,
        timeout=timeout,
        is_connected=False,
        is_closing=core.state is ClientState.CLOSING,
        has_closed=core.state is ClientState.CLOSED,
        has_given_up=core.state is ClientState.TERMINATED,
        last_error=in_words(core.closed_error().__cause__),
    )


def _signs(core: ClientCore, life: Life, endpoint: Endpoint, timeout: float, answers: tuple[Answer, ...]) -> Signs:
    now, tally = core.equipment.clock(), endpoint.tally
    queues = endpoint.shared.queues
    down = [queue.link for queue in queues if queue.connection is None]
    credentials = endpoint.newest_credentials()
    ends_at = None if credentials is None else credentials.expires_at
    ended_for = 0.0 if ends_at is None else core.equipment.now() - ends_at
    return Signs(
        state=core.state.value,
        timeout=timeout,
        is_connected=not down,
        down_for=max((now - link.down_since for link in down), default=0.0),
        not_serving=next((link.not_serving for link in down if link.not_serving), ""),
        is_refused=isinstance(life.latest_failure, AuthenticationFailedError),
        answers=() if down else answers,
        delayed=endpoint.watch.delayed(now - RECENT, now),
        lost_ago=None if tally.lost_at is None else now - tally.lost_at,
        back_ago=None if tally.reconnected_at is None else now - tally.reconnected_at,
        latest_loss=tally.latest_loss,
        waiting=sum(queue.waiting for queue in queues),
        oldest=max(queue.oldest(now) for queue in queues),
        waiting_for_lease=endpoint.dedicated.waiting if endpoint.dedicated.is_exhausted else 0,
        misses_messages=endpoint.push.misses_messages,
        token_ended_for=ended_for if ended_for > 0 else None,
        last_error=in_words(life.latest_failure),
    )
