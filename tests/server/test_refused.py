"""Commands that have no business on a shared connection are refused by name, and nothing of them reaches the wire.

Some work in a session or a pipeline, which the refusal says; some nowhere, as their replies can't be attributed.
"""

from __future__ import annotations

import asyncio
import warnings
from importlib import resources

import pytest
import redis.asyncio

from aioredis_kit import create_client
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy.commands import CommandTable, Lane
from aioredis_kit.testing import ScriptedPeer, resp

ARGUMENTS = {
    "CLIENT REPLY": ["OFF"],
    "CLIENT TRACKING": ["ON"],
    "WAIT": [0, 1],
    "WAITAOF": [0, 0, 1],
}
NOWHERE = {
    *("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
    *("SYNC", "PSYNC", "REPLCONF", "MONITOR", "CLIENT REPLY"),
}


def refused_names():
    """Every command that the table keeps for connections of the caller's own."""
    table = CommandTable()
    known = resources.files("aioredis_kit.policy").joinpath("commands.json").read_text("utf-8")
    names = {line.split('"')[1] for line in known.splitlines() if line.lstrip().startswith('"')}
    # What is decided in code, for servers that the data file wasn't generated from.
    names |= {"ASYNC", "PSYNC", "SYNC", "REPLCONF", "MONITOR", "READONLY"}
    return sorted(name for name in names if table.classify(tuple(name.split())).lane is Lane.SESSION_ONLY)


NAMES = refused_names()


def spellings(name):
    """The ways in which a name may be written: in any case, as bytes, joined and split, with spaces around it."""
    for change in (str.upper, str.lower, str.title, str.swapcase):
        text = change(name)
        yield (text,)
        yield (text.encode(),)
        yield (f" {text}\t",)
        yield tuple(text.split())
        yield tuple(word.encode() for word in text.split())
        first, *rest = text.split()
        yield (first, *(bytearray(word.encode()) for word in rest))
        yield (first.encode(), *(memoryview(word.encode()) for word in rest))
        yield (text.replace(" ", "  \n"),)


METHODS = [
    lambda c: c.hello(),
    lambda c: c.reset(),
    lambda c: c.wait(1, 1),
    lambda c: c.waitaof(1, 0, 1),
    lambda c: c.client_reply("OFF"),
    lambda c: c.client_tracking_on(),
    lambda c: c.client_tracking_off(),
    lambda c: c.client_no_evict("ON"),
    lambda c: c.client_no_touch("ON"),
    lambda c: c.readonly(),
    lambda c: c.readwrite(),
    lambda c: c.script_debug("YES"),
    lambda c: c.sync(),
    lambda c: c.psync("?", -1),
    lambda c: c.himport_prepare("f", ["a"]),
    lambda c: c.himport_discard("f"),
    lambda c: c.himport_discard_all(),
    lambda c: c.himport_set("k", "f", ["a"]),
]


def test_all_kinds_are_there():
    """What DESIGN section 4 names is among what is refused."""
    wanted = [
        *("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "RESET", "HELLO", "READONLY", "READWRITE", "ASKING"),
        *("SYNC", "PSYNC", "MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "WAIT", "WAITAOF"),
        *("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
    ]
    parts = ["CLIENT REPLY", "CLIENT TRACKING", "CLIENT CACHING", "CLIENT NO-EVICT", "CLIENT NO-TOUCH", "SCRIPT DEBUG"]
    assert set(wanted + parts) <= set(NAMES)


async def refusal(call):
    """Make a call and return the error with which it is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated and experimental methods
        try:
            await call()
        except Exception as error:  # noqa: BLE001  # it is the result
            return error
    return None


@pytest.mark.pins("P1")
@pytest.mark.parametrize("is_connected", [True, False])
async def test_refused_commands_never_reach_the_wire(is_connected):
    """In every spelling, connected or not yet: a `ConfigurationError` that names the command, and what to use."""
    async with ScriptedPeer() as peer:
        peer.on("GET", resp.bulk("x"))
        client = create_client(peer.url)
        if is_connected:
            await client.connect()
        known = len(peer.commands)
        for name in NAMES:
            for words in spellings(name):
                args = (*words, *ARGUMENTS.get(name, ["k", 0]))
                error = await refusal(lambda args=args: client.execute_command(*args))
                assert isinstance(error, ConfigurationError), args
                assert str(error).startswith(f"{name} "), args
                if name not in NOWHERE:
                    assert "async with client.dedicated() as session, or a pipeline" in str(error), args
                assert error.maybe_executed is False
        assert await client.get("k") == b"x"
        assert [each.name for each in peer.commands[known:]][-1:] == ["GET"]
        assert {each.name for each in peer.commands} == {"HELLO", "CLIENT", "PING", "GET"}
        assert len(peer.connections) == 1
        await client.close()


@pytest.mark.pins("P1")
async def test_what_nobody_can_attribute_is_refused_everywhere():
    """On a client, in a session and in a pipeline, of which nothing else is sent either."""
    async with ScriptedPeer() as peer:
        peer.on("GET", resp.bulk("x"))
        async with create_client(peer.url) as client, client.dedicated() as session:
            for name in sorted(NOWHERE):
                args = (*name.split(), *ARGUMENTS.get(name, []))
                for each in (client, session):
                    error = await refusal(lambda each=each, args=args: each.execute_command(*args))
                    assert isinstance(error, ConfigurationError), args
                    assert str(error).startswith(f"{name} ")
                    pipeline = each.pipeline(transaction=False)
                    pipeline.set("k", 1)
                    pipeline.execute_command(*args)
                    assert isinstance(await refusal(pipeline.execute), ConfigurationError), args
            assert await client.get("k") == await session.get("k") == b"x"
        assert {each.name for each in peer.commands} == {"HELLO", "CLIENT", "PING", "GET"}


@pytest.mark.pins("P1")
async def test_refused_methods_never_reach_the_server(redis_server, redis_url):
    """As MONITOR sees it; and the client serves on, in the database that it was in."""
    async with (
        create_client(redis_url, retry_unanswered="never") as client,
        redis.asyncio.Redis.from_url(redis_url) as watcher,
        watcher.monitor() as monitor,
    ):
        await client.set("before", 1)
        for number, call in enumerate(METHODS):

            async def use(call=call):
                result = call(client)
                if hasattr(result, "__await__"):
                    await result

            error = await refusal(use)
            assert isinstance(error, ConfigurationError | NotImplementedError), number
        await asyncio.gather(*(client.execute_command("GET", "before") for _ in range(3)))
        await client.set("after", 1)
        seen = []
        async with asyncio.timeout(5):
            while not seen or seen[-1] != "SET after 1":
                command = await monitor.next_command()
                seen.append(command["command"])
        own = [each for each in seen if not each.startswith(("MONITOR", "HELLO", "CLIENT", "SELECT", "PING"))]
        assert own == ["SET before 1", "GET before", "GET before", "GET before", "SET after 1"]
        assert not [each for each in seen[seen.index("SET before 1") :] if each not in own]


@pytest.mark.pins("P1")
async def test_streams_are_read_without_waiting(redis_client):
    """XREAD without BLOCK is an ordinary command, also with a key, a group or a consumer that is called so."""
    await redis_client.xadd("BLOCK", {"a": 1}, id="1-1")
    assert await redis_client.xread({"BLOCK": 0})
    assert await redis_client.execute_command("XREAD", "COUNT", 1, "STREAMS", "BLOCK", 0)
    await redis_client.xgroup_create("BLOCK", "BLOCK", 0)
    assert await redis_client.xreadgroup("BLOCK", "BLOCK", {"BLOCK": ">"})


@pytest.mark.pins("P1")
async def test_commands_that_only_look_alike(redis_client):
    """Sub-commands of the same containers, and arguments that are names of refused commands."""
    assert await redis_client.client_id() > 0
    assert await redis_client.client_trackinginfo()
    assert await redis_client.script_exists("0" * 40) == [False]
    assert await redis_client.set("MULTI", "EXEC") is True
    assert await redis_client.get("MULTI") == b"EXEC"
    assert await redis_client.echo("SELECT 1") == b"SELECT 1"


async def test_a_registered_command_that_blocks(redis_client):
    """What the user knows of a command counts from then on, for names in use already too."""
    with pytest.raises(redis.exceptions.ResponseError):
        await redis_client.execute_command("MY.WAIT", "k")
    connections = len(await redis_client.client_list())
    redis_client.register_command("my.wait", blocking=True, keys=1)
    with pytest.raises(redis.exceptions.ResponseError, match="unknown command"):
        await redis_client.execute_command("MY.WAIT", "k")
    assert len(await redis_client.client_list()) == connections + 1
    with pytest.raises(ConfigurationError, match="MULTI"):
        redis_client.register_command("MULTI")
