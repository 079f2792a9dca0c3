"""``monitor()``: a connection of its own, told of in order, bounded, and closed afterwards."""

from __future__ import annotations

import asyncio
import gc

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit.exceptions import ClientClosedError, CommandTimeoutError, ConfigurationError, ConnectionLostError
from aioredis_kit.testing import resp
from tests.support.observing import outcome, sockets_to, turns, until

LINE = '1339518083.107412 [0 127.0.0.1:60866] "keys" "*"'


def line(number):
    return resp.simple(f'1.5 [0 127.0.0.1:{number}] "set" "k" "{number}"')


@pytest.fixture
def monitored(peer):
    """A list of the peer's connections that were asked to monitor."""
    asked = []

    def answer(received):
        asked.append(received.connection)
        return resp.simple("OK")

    peer.on("MONITOR", answer)
    return asked


@pytest.mark.pins("P1")
async def test_lines_are_told_in_their_order(client, monitored, peer):
    async with client.monitor() as monitor:
        (connection,) = monitored
        connection.send(resp.simple(LINE), line(1))
        assert await monitor.next_command() == {
            "time": 1339518083.107412,
            "db": 0,
            "client_address": "127.0.0.1",
            "client_port": "60866",
            "client_type": "tcp",
            "command": "keys *",
        }
        told = []
        connection.send(*(line(number) for number in range(2, 10)))
        async for command in monitor.listen():
            told.append(int(command["client_port"]))
            if told[-1] == 9:
                break
        assert told == list(range(1, 10))
        # The others' commands have nothing to do with it.
        assert await client.get("k") == b"k"
        assert connection.number == 1
    await until(lambda: len(sockets_to(peer.port)) == 1, "the end of the monitor's connection")
    assert await client.get("k") == b"k"


@pytest.mark.pins("P7")
async def test_secrets_are_not_shown(client, monitored):
    async with client.monitor() as monitor:
        monitored[0].send(resp.simple('1.5 [0 127.0.0.1:5] "config" "set" "requirepass" "s3 cret"'))
        assert (await monitor.next_command())["command"] == "config set requirepass ***"


async def test_lines_in_the_packet_of_the_answer(client, peer):
    peer.on("MONITOR", resp.simple("OK") + line(1) + line(2))
    async with client.monitor() as monitor:
        assert [(await monitor.next_command())["client_port"] for _ in range(2)] == ["1", "2"]


@pytest.mark.pins("P1")
async def test_its_connection_is_never_used_again(client, monitored):
    for _ in range(3):
        async with client.monitor():
            pass
        async with client.dedicated() as session:
            assert await session.get("k") == b"k"
    assert len(set(monitored)) == 3
    assert [each.commands[-1].name for each in monitored] == ["MONITOR"] * 3


@pytest.mark.pins("P5")
async def test_the_oldest_lines_are_dropped_and_counted(client, monitored):
    async with client.monitor(buffered=3) as monitor:
        monitored[0].send(*(line(number) for number in range(5)))
        await until(lambda: monitor.dropped == 2, "the drop")
        monitored[0].send(line(5))
        await until(lambda: monitor.dropped == 3, "the drop")
        assert [(await monitor.next_command())["client_port"] for _ in range(3)] == ["3", "4", "5"]
    with pytest.raises(ConfigurationError, match="buffered must be a whole number of at least 1"):
        client.monitor(buffered=0)


async def test_a_lost_connection(client, monitored):
    """What was read is still told; then every call raises."""
    async with client.monitor() as monitor:
        waiting = asyncio.ensure_future(monitor.next_command())
        await turns()
        monitored[0].send(line(1), line(2))
        monitored[0].close()
        assert (await waiting)["client_port"] == "1"
        assert (await monitor.next_command())["client_port"] == "2"
        for _ in range(2):
            with pytest.raises(ConnectionLostError, match="closed the connection"):
                await monitor.next_command()
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.19", "4.20", "P6")
@pytest.mark.parametrize("end", ["close", "destroy"])
async def test_the_end_of_the_client(client, monitored, peer, end):
    """It is told at once, and does not make close() wait."""
    monitor = client.monitor()
    await monitor.connect()
    waiting = asyncio.ensure_future(monitor.next_command())
    await turns()
    if end == "destroy":
        client.destroy()
    async with asyncio.timeout(2):
        await client.close()
    assert isinstance(await outcome(waiting), ClientClosedError)
    assert not sockets_to(peer.port)
    await monitor.aclose()
    with pytest.raises(ClientClosedError):
        await client.monitor().connect()


async def test_a_cancelled_reader_loses_nothing(client, monitored):
    async with client.monitor() as monitor:
        waiting = asyncio.ensure_future(monitor.next_command())
        await turns()
        waiting.cancel()
        await outcome(waiting)
        monitored[0].send(line(1))
        assert (await monitor.next_command())["client_port"] == "1"


async def test_a_refusal(client, peer):
    peer.on("MONITOR", resp.error("NOPERM this user has no permissions"))
    with pytest.raises(NoPermissionError):
        await client.monitor().__aenter__()
    await until(lambda: len(sockets_to(peer.port)) == 1, "the end of its connection")


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_no_answer(make_client, peer, how):
    peer.on("MONITOR", None)
    client = await make_client(command_timeout=0.05 if how == "timed out" else 5).connect()
    entering = asyncio.ensure_future(client.monitor().__aenter__())
    if how == "cancelled":
        await until(lambda: peer.commands[-1].name == "MONITOR", "the command")
        entering.cancel()
    assert isinstance(await outcome(entering), asyncio.CancelledError if how == "cancelled" else CommandTimeoutError)
    await until(lambda: len(sockets_to(peer.port)) == 1, "the end of its connection")


@pytest.mark.pins("P2", "P6")
async def test_closed_while_it_waits_for_a_connection(make_client, monitored, peer):
    """It lets go of the connection that it gets."""
    client = await make_client(max_dedicated_connections=1).connect()
    monitor = client.monitor()
    async with client.dedicated():
        connecting = asyncio.create_task(monitor.connect())
        await turns()
        await monitor.aclose()
    assert isinstance(await outcome(connecting), ClientClosedError)
    async with asyncio.timeout(5), client.dedicated() as session:
        assert await session.get("k") == b"k"
    assert not monitored


@pytest.mark.parametrize("end", ["closed", "lost"])
async def test_entered_again(client, monitored, end):
    """It connects anew, as redis-py's does; in between it tells nothing."""
    monitor = client.monitor()
    error = ConnectionLostError if end == "lost" else ClientClosedError
    for number in range(2):
        async with monitor:
            monitored[number].send(line(number))
            assert (await monitor.next_command())["client_port"] == str(number)
            if end == "lost":
                monitored[number].close()
                with pytest.raises(ConnectionLostError):
                    await monitor.next_command()
        assert isinstance(await outcome(monitor.next_command()), error)
    assert len(monitored) == 2


async def test_entered_again_while_what_was_closed_still_waits_for_a_connection(make_client, monitored):
    client = await make_client(max_dedicated_connections=1).connect()
    monitor = client.monitor()
    async with client.dedicated():
        connecting = asyncio.create_task(monitor.connect())
        await turns()
        await monitor.aclose()
        entering = asyncio.create_task(monitor.__aenter__())
        await turns()
    assert isinstance(await outcome(connecting), ClientClosedError)
    await entering
    monitored[0].send(line(1))
    assert (await monitor.next_command())["client_port"] == "1"
    await monitor.aclose()


@pytest.mark.pins("P6")
async def test_one_that_is_forgotten(client, monitored, peer):
    monitor = client.monitor()
    await monitor.connect()
    with pytest.warns(ResourceWarning, match="a monitor was not closed"):
        del monitor
        gc.collect()
    await until(lambda: len(sockets_to(peer.port)) == 1, "the end of its connection")


async def test_no_ping_goes_to_it(make_client, monitored, peer, clock):
    """It could not be answered. The kernel watches the connection."""
    client = await make_client(ping_interval=1.0).connect()
    async with client.monitor() as monitor:
        waiting = asyncio.ensure_future(monitor.next_command())
        await asyncio.sleep(10)
        assert [each.name for each in monitored[0].commands][-1] == "MONITOR"
        monitored[0].send(line(1))
        assert (await waiting)["client_port"] == "1"


async def test_of_a_session(client, monitored):
    """It has a connection apart from the session's."""
    async with client.dedicated() as session, session.monitor():
        assert await session.get("k") == b"k"
        assert [each.name for each in monitored[0].commands][-1] == "MONITOR"
