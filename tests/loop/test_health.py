"""How a client is, asked at any time: the answer is true, comes in time, and costs one ping."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from aioredis_kit import Concern
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.lanes.health import Pong
from aioredis_kit.testing import resp
from tests.support.observing import outcome, timers, turns, until

LATE = 0.05


def concerns(health):
    return [each.concern for each in health.reasons]


def pings(connection):
    return [each.name for each in connection.commands].count("PING") - 1  # the handshake's


async def test_all_is_well(peer, client):
    health = await client.health()
    assert (health.status, health.state, health.reasons, health.last_error) == ("ok", "ready", (), "")
    assert 0 < health.latency < 0.5
    assert pings(peer.connections[0]) == 1


async def test_it_opens_a_client_that_is_new(peer, make_client):
    """A probe that lets nobody in before it is ready would wait for ever for the first command."""
    client = make_client()
    assert (await client.health(timeout=5)).status == "ok"
    assert client.is_ready


async def test_without_time_it_only_looks(peer, make_client):
    client = make_client()
    health = await client.health(timeout=0)
    assert (health.status, health.state, client.is_open) == ("unavailable", "never connected", False)
    await client.connect()
    health = await client.health(timeout=0)
    assert (health.status, health.latency) == ("ok", None)
    assert pings(peer.connections[0]) == 0


@pytest.mark.parametrize("timeout", [0.5, timedelta(milliseconds=500)])
async def test_a_server_that_says_nothing(peer, clock, make_client, timeout):
    client = await make_client(ping_interval=None).connect()
    peer.connections[0].pause_reading()
    begun = clock()
    health = await client.health(timeout=timeout)
    assert (health.status, concerns(health), health.latency) == ("unavailable", [Concern.SILENT], None)
    assert clock() - begun == pytest.approx(0.5, abs=LATE)


async def test_it_raises_a_doubt_about_the_connection(peer, clock, make_client):
    """However often it is asked, one ping is out; and after `ping_timeout` the connection is given up."""
    client = await make_client(ping_interval=None, ping_timeout=3, reconnect_strategy=60).connect()
    peer.on("PING", None)
    connection = peer.connections[0]
    for _ in range(20):
        await client.health(timeout=0.1)
    assert pings(connection) == 1
    await connection.wait_closed()
    assert clock() == pytest.approx(3, abs=2 * LATE)
    health = await client.health(timeout=0.1)
    assert (health.status, concerns(health)) == ("unavailable", [Concern.NOT_CONNECTED])
    assert "has been silent for" in health.last_error


async def test_others_are_answered(peer, clock, make_client):
    """The ping waits behind a thousand commands that the server gets through: that is late, but no silence."""
    client = await make_client(ping_interval=None).connect()
    peer.on("GET", None)
    peer.on("PING", None)
    tasks = [asyncio.create_task(client.get(number)) for number in range(3)]
    await peer.wait_for_command("GET", count=3)
    asking = asyncio.create_task(client.health(timeout=1))
    await peer.wait_for_command("PING", count=2)
    peer.connections[0].send(resp.bulk("0"))
    health = await asking
    assert (health.status, concerns(health), health.latency) == ("degraded", [Concern.SLOW], None)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_reconnect_is_waited_for(peer, make_client):
    client = await make_client(reconnect_strategy=0.02).connect()
    peer.connections[0].reset()
    await until(lambda: not client.is_ready)
    health = await client.health(timeout=2)
    assert (health.status, concerns(health)) == ("degraded", [Concern.RECENTLY_LOST])
    assert health.latency is not None


async def test_the_connection_is_lost_while_it_waits(peer, make_client):
    client = await make_client(reconnect_strategy=60).connect()
    peer.on("PING", None)
    asking = asyncio.create_task(client.health(timeout=0.2))
    await peer.wait_for_command("PING", count=2)
    peer.connections[0].reset()
    health = await asking
    assert (health.status, concerns(health)) == ("unavailable", [Concern.NOT_CONNECTED])


@pytest.mark.parametrize("refusal", ["LOADING not yet", "MASTERDOWN gone", "BUSY a script"])
async def test_the_server_does_not_serve(peer, client, refusal):
    peer.on("PING", resp.error(refusal))
    health = await client.health()
    assert (health.status, concerns(health)) == ("unavailable", [Concern.NOT_SERVING])


async def test_a_user_who_may_not_ping_is_answered(peer, client):
    peer.on("PING", resp.error("NOPERM no"))
    assert (await client.health()).status == "ok"


async def test_it_loads_while_connecting(peer, make_client):
    peer.on("PING", resp.error("LOADING not yet"))
    health = await make_client().health(timeout=0.15)
    assert (health.status, health.is_live, concerns(health)) == ("unavailable", True, [Concern.NOT_SERVING])


async def test_the_credentials_are_refused(peer, make_client):
    client = await make_client(password="s3cret-of-ada", reconnect_strategy=0.01).connect()
    peer.on("HELLO", resp.error("WRONGPASS no"))
    peer.connections[0].reset()
    await until(lambda: client.statistics().connections.failures)
    health = await client.health(timeout=0.05)
    assert (health.status, concerns(health)) == ("unavailable", [Concern.CREDENTIALS_REFUSED])
    assert "s3cret" not in str(health.as_dict())


async def test_all_connections_are_asked(peer, make_client):
    """One that is silent is enough: its keys are not served."""
    client = await make_client(connections=2).connect()
    assert (await client.health()).status == "ok"
    peer.connections[1].pause_reading()
    assert concerns(await client.health(timeout=0.1)) == [Concern.SILENT]


async def test_leases_are_exhausted(peer, make_client):
    peer.on("BLPOP", None)
    peer.on("CLIENT UNBLOCK", resp.integer(1))
    client = await make_client(max_dedicated_connections=1).connect()
    tasks = [asyncio.create_task(client.blpop("k", 0)) for _ in range(2)]
    await peer.wait_for_command("BLPOP")
    health = await client.health()
    assert (health.status, concerns(health)) == ("degraded", [Concern.LEASES_EXHAUSTED])
    client.destroy()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_end(peer, make_client):
    """It says so and doesn't raise."""
    client = await make_client(close_timeout=0.2).connect()
    peer.on("GET", None)
    task = asyncio.create_task(client.get("k"))
    await peer.wait_for_command("GET")
    closing = asyncio.create_task(client.close())
    await turns()
    health = await client.health()
    assert (health.status, concerns(health), health.state) == ("unavailable", [Concern.CLOSED], "closing")
    await closing
    await outcome(task)
    health = await client.health()
    assert (health.status, concerns(health), health.state) == ("dead", [Concern.CLOSED], "closed")


async def test_the_strategy_gave_up(make_client, unused_port):
    client = make_client(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=False)
    health = await client.health(timeout=2)
    assert (health.status, concerns(health)) == ("dead", [Concern.GAVE_UP])
    assert f"127.0.0.1:{unused_port}" in health.last_error


async def test_an_error_of_the_users_own_code_is_not_shown(client):
    """Such as that of a reconnect strategy."""
    client._core.life.latest_failure = LookupError("s3cret-of-ada")
    assert (await client.health()).last_error == "LookupError"


async def test_cancelled_and_late_callers_leave_nothing(peer, client):
    peer.on("PING", None)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.health(timeout=5)
    check = client._core.lane.link._health
    assert len([each for each in check._asked if not each.done()]) == 0
    asked = check.ask()
    client.destroy()
    assert await asked == Pong(None)


async def test_the_loop_is_watched_no_longer_than_the_client_lives(peer, client):
    await client.health()
    assert timers(asyncio.get_running_loop())
    await client.close()
    await until(lambda: not timers(asyncio.get_running_loop()))


@pytest.mark.parametrize("timeout", [-1, "soon", None, float("nan")])
async def test_a_time_that_is_none(client, timeout):
    with pytest.raises(ConfigurationError, match="timeout must be seconds"):
        await client.health(timeout=timeout)
