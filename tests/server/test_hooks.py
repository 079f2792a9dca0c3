"""Hooks: what they are told of each kind of call, and that nothing they do changes one."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref

import pytest
from redis.exceptions import ResponseError, WatchError

from aioredis_kit import (
    CacheOptions,
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectError,
    RedisClient,
    create_client,
)
from aioredis_kit.hooks import CommandHook
from aioredis_kit.slow_commands import SlowCommandLog
from aioredis_kit.testing import RedisServer
from tests.support.observing import until


class Recorder(CommandHook):
    """Writes down what it is told."""

    def __init__(self):
        self.told = []
        self.calls = []
        self.origins = weakref.WeakSet()

    def attached(self, origin):
        self.origins.add(origin)

    def before(self, call):
        self.told.append(("before", call.operation))
        self.calls.append(call)
        return call

    def after(self, call, noted):
        assert noted is call
        self.told.append(("after", call.operation))

    def error(self, call, noted):
        assert noted is call
        self.told.append(("error", call.operation, type(call.error)))


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
async def _emptied(server):
    async with create_client(server.url) as client:
        await client.flushall()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
async def client(server, recorder):
    async with create_client(server.url, hooks=recorder, client_name="web") as client:
        yield client


def ended(recorder):
    return [told for told in recorder.told if told[0] != "before"]


async def test_a_command(client, recorder):
    assert await client.set("key", "value") is True
    assert recorder.told == [("before", "SET"), ("after", "SET")]
    (call,) = recorder.calls
    assert call.commands == (("SET", "key", "value"),)
    assert call.response is True
    assert call.error is None
    assert call.batch_size is None
    assert not call.is_blocking
    assert call.began <= call.written <= call.ended
    assert call.queue_time >= 0
    assert call.duration == pytest.approx(call.queue_time + call.server_time)


async def test_where_it_comes_from(client, recorder, server):
    await client.ping()
    (origin,) = recorder.origins
    assert recorder.calls[0].origin is origin
    assert (origin.address, origin.host, origin.port) == (f"127.0.0.1:{server.port}", "127.0.0.1", server.port)
    assert (origin.db, origin.client_name) == (0, "web")
    assert origin.statistics().commands.answered == client.statistics().commands.answered >= 1
    await client.execute_command("SELECT", 3)
    assert origin.db == 3


@pytest.mark.parametrize(
    ("command", "operation"),
    [
        (("get", "key"), "GET"),
        ((b"GET", "key"), "GET"),
        (("CONFIG GET", "maxmemory"), "CONFIG GET"),
        (("CONFIG", "GET", "maxmemory"), "CONFIG GET"),
        (("client", b"id"), "CLIENT ID"),
        (("GET key",), "GET"),
        (("SECRETLY", "key"), "_OTHER"),
        (("SECRETLY key",), "_OTHER"),
        ((b"\xff",), "_OTHER"),
    ],
)
async def test_operations(client, recorder, command, operation):
    for _ in range(2):  # the second from what the first left
        await asyncio.gather(client.execute_command(*command), return_exceptions=True)
    assert [call.operation for call in recorder.calls] == [operation] * 2


async def test_registered_commands_have_a_name(client, recorder):
    for _ in range(2):
        with pytest.raises(ResponseError):
            await client.execute_command("SECRETLY")
        client.register_command("SECRETLY")
    assert [call.operation for call in recorder.calls] == ["_OTHER", "SECRETLY"]


async def test_refusals_and_what_is_refused_here(client, recorder):
    await client.set("key", "value")
    with pytest.raises(ResponseError):
        await client.lpush("key", 1)
    with pytest.raises(ConfigurationError):
        await client.execute_command("WATCH", "key")
    assert ended(recorder)[1:] == [("error", "LPUSH", ResponseError), ("error", "WATCH", ConfigurationError)]
    refused, unsent = recorder.calls[1:]
    assert refused.written is not None
    assert unsent.written is None
    assert unsent.server_time == 0


async def test_cancelled_and_timed_out(server, recorder, client):
    server.pause()
    try:
        task = asyncio.ensure_future(client.get("key"))
        await until(lambda: client.statistics().queue.in_flight)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(CommandTimeoutError):
            await client.with_options(command_timeout=0.05).get("key")
    finally:
        server.resume()
    assert ended(recorder) == [("error", "GET", asyncio.CancelledError), ("error", "GET", CommandTimeoutError)]
    assert all(call.written is not None for call in recorder.calls)
    assert recorder.calls[1].server_time >= 0.04


async def test_the_wait_for_a_connection_is_queue_time(server, recorder):
    server.kill()
    async with asyncio.TaskGroup() as tasks:
        client = create_client(server.url, hooks=recorder, reconnect_strategy=0.01)
        command = tasks.create_task(client.set("key", 1))
        await until(lambda: client.statistics().connections.failures)
        server.start()
        await command
    await client.close()
    (call,) = recorder.calls
    assert call.queue_time > call.server_time > 0


async def test_pipelines(client, recorder):
    async with client.pipeline(transaction=False) as pipe:
        assert await pipe.set("key", 1).get("key").execute() == [True, b"1"]
    async with client.pipeline() as pipe:
        assert await pipe.incr("key").execute() == [2]
    assert ended(recorder) == [("after", "PIPELINE"), ("after", "MULTI")]
    pipeline, transaction = recorder.calls
    assert list(pipeline.commands) == [("SET", "key", 1), ("GET", "key")]
    assert (pipeline.batch_size, transaction.batch_size) == (2, 1)
    assert pipeline.response == [True, b"1"]
    assert pipeline.began <= pipeline.written <= pipeline.ended


async def test_watching_transactions(client, recorder, server):
    async with client.pipeline() as pipe:
        await pipe.watch("key")
        await pipe.get("key")
        async with create_client(server.url) as other:
            await other.set("key", 1)
        pipe.multi()
        with pytest.raises(WatchError):
            await pipe.set("key", 2).execute()
    assert ended(recorder) == [("after", "WATCH"), ("after", "GET"), ("error", "MULTI", WatchError)]


async def test_scripts_of_a_pipeline_are_inside_it(client, recorder):
    script = client.register_script("return 1")
    async with client.pipeline(transaction=False) as pipe:
        await script(client=pipe)
        assert await pipe.execute() == [1]
    assert [told for told in recorder.told if told[1] != "SCRIPT LOAD"] == [
        ("before", "PIPELINE"),
        ("before", "SCRIPT EXISTS"),
        ("after", "SCRIPT EXISTS"),
        ("after", "PIPELINE"),
    ]


async def test_sessions_and_views(client, recorder):
    async with client.dedicated() as session:
        await session.ping()
        await session.with_options(decode_responses=True).echo("x")
    await client.with_options(decode_responses=True).get("key")
    async with client.client() as session:
        await session.get("key")
    assert ended(recorder) == [("after", "PING"), ("after", "ECHO"), ("after", "GET"), ("after", "GET")]


async def test_a_single_connection_tells_once(server, recorder):
    async with create_client(server.url, hooks=recorder, single_connection_client=True) as client:
        await client.get("key")
        await client.with_options(decode_responses=True).get("key")
        await client.pipeline(transaction=False).get("key").execute()
    assert ended(recorder) == [("after", "GET"), ("after", "GET"), ("after", "PIPELINE")]


async def test_blocking_commands(client, recorder):
    await client.rpush("list", 1)
    await client.blpop("list")
    blocked = asyncio.ensure_future(client.blpop("list"))
    await until(lambda: len(recorder.calls) == 3)
    await until(lambda: client.statistics().connections.dedicated.ready == 1)
    await client.rpush("list", 2)
    await blocked
    assert [call.is_blocking for call in recorder.calls] == [False, True, True, False]
    for call in recorder.calls[1:3]:
        assert call.began <= call.written <= call.ended


async def test_reads_from_the_cache_are_not_written(server, recorder):
    async with create_client(server.url, hooks=recorder, client_side_cache=CacheOptions()) as client:
        await client.set("key", 1)
        assert [await client.get("key") for _ in range(3)] == [b"1"] * 3
        assert await client.pipeline(transaction=False).get("key").execute() == [b"1"]
    assert [(call.operation, call.written is None) for call in recorder.calls] == [
        ("SET", False),
        ("GET", False),
        ("GET", True),
        ("GET", True),
        ("PIPELINE", True),
    ]


async def test_a_subclass_that_takes_all_commands(server, recorder):
    class Prefixing(RedisClient):
        def execute_command(self, name, *args, **options):
            return super().execute_command(name, *(f"app:{arg}" for arg in args), **options)

    async with Prefixing(server.url, hooks=recorder) as client:
        await client.get("key")
        await client.with_options(decode_responses=True).hgetall("key")
    assert [call.commands for call in recorder.calls] == [(("GET", "app:key"),), (("HGETALL", "app:key"),)]


async def test_hooks_are_told_in_their_order_in_the_callers_context(server):
    variable = contextvars.ContextVar("variable", default="")
    told = []

    class Named(CommandHook):
        def __init__(self, name):
            self.name = name

        def before(self, call):
            told.append((self.name, "before", variable.get()))
            return self.name

        def after(self, call, noted):
            told.append((noted, "after", variable.get()))

    async def caller(name):
        variable.set(name)
        await client.get("key")

    async with create_client(server.url, hooks=[Named("a"), Named("b")]) as client:
        await caller("of ada")
    assert told == [(name, when, "of ada") for when in ("before", "after") for name in ("a", "b")]


@pytest.mark.parametrize("method", ["before", "after", "error"])
async def test_a_hook_that_raises_becomes_an_error_event(server, recorder, method):
    failure = RuntimeError("the hook's own")

    def fail(*_):
        raise failure

    bad = type("Bad", (CommandHook,), {method: fail})()
    errors = []
    async with create_client(server.url, hooks=[bad, recorder]) as client:
        client.on("error", errors.append)
        await client.set("key", 1)
        with pytest.raises(ResponseError):
            await client.lpush("key", 1)
        await until(lambda: errors)
    assert ended(recorder) == [("after", "SET"), ("error", "LPUSH", ResponseError)]
    assert set(errors) == {failure}
    assert len(errors) == (2 if method == "before" else 1)


async def test_a_hook_that_raises_before_the_client_was_opened(server, recorder, caplog):
    bad = type("Bad", (CommandHook,), {"before": lambda *_: 1 / 0})()
    async with create_client(server.url, hooks=[bad, recorder]) as client:
        await client.close()
        with pytest.raises(ClientClosedError):
            await client.get("key")
    unopened = create_client("redis://localhost:1", hooks=bad, reconnect_strategy=False)
    with pytest.raises(ConnectError):
        await unopened.get("key")
    lines = [each.getMessage() for each in caplog.records if each.name == "aioredis_kit.client.observed"]
    assert len(lines) == 2
    assert all(
        line.startswith("a hook failed while the client was not open: ZeroDivisionError in test_") for line in lines
    )


async def test_a_hook_that_raises_is_no_failure_of_the_connection_and_shows_no_key(server, caplog):
    class Bad(CommandHook):
        def before(self, call):
            raise KeyError(call.commands[0][-1])

    async with create_client(server.url, hooks=Bad()) as client:
        await client.get("key-of-ada")
        assert (await client.health()).last_error == ""
    assert "KeyError in test_hooks.py, line " in caplog.text
    assert "key-of-ada" not in caplog.text


@pytest.mark.parametrize("method", ["wants_this_call", "before", "after"])
@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_hook_can_not_cancel_a_call(server, recorder, method, is_alone):
    """As it would with the result of a task that was cancelled."""

    def fail(*_):
        raise asyncio.CancelledError

    bad = type("Bad", (Recorder,), {method: fail})()
    errors = []
    async with create_client(server.url, hooks=bad if is_alone else [bad, recorder]) as client:
        client.on("error", errors.append)
        assert await client.set("key", 1)
        await until(lambda: errors)
    assert str(errors[0]) == "CancelledError()"
    assert is_alone or ended(recorder) == [("after", "SET")]


@pytest.mark.parametrize("is_pipeline", [False, True])
async def test_a_call_that_was_cancelled_is_not_kept(server, is_pipeline):
    """An exception holds the frames that it went through; if these held it, all that is in them would stay."""

    async def call(client):
        try:
            if is_pipeline:
                await client.pipeline(transaction=False).blpop("list").execute()
            else:
                await client.blpop("list")
        except asyncio.CancelledError as error:
            return weakref.ref(error)

    quiet = type("Quiet", (CommandHook,), {"error": lambda *_: None})()
    async with create_client(server.url, hooks=quiet) as client:
        gc.disable()
        try:
            task = asyncio.ensure_future(call(client))
            await until(lambda: client.statistics().connections.dedicated.ready)
            task.cancel()
            error = await task
            await until(lambda: error() is None)
        finally:
            gc.enable()


async def test_the_database_of_a_session(client, recorder):
    async with client.dedicated() as session:
        await session.execute_command("SELECT", 3)
        await session.get("key")
        await session.pipeline().get("key").execute()
    async with client.dedicated() as session:
        await session.get("key")
    await client.execute_command("SELECT", 2)
    await client.pipeline().get("key").execute()
    assert [(call.operation, call.db) for call in recorder.calls] == [
        ("SELECT", 0),
        ("GET", None),
        ("MULTI", None),
        ("GET", 0),
        ("SELECT", 0),
        ("MULTI", 2),
    ]


async def test_hooks_that_want_no_calls_are_no_stage(server):
    class Attached(CommandHook):
        origin = None

        def attached(self, origin):
            self.origin = origin

    hook = Attached()
    events = []
    client = create_client(server.url, hooks=hook)
    assert "_execute" not in vars(client)
    assert "_execute" not in vars(client.dedicated())
    hook.origin.on("ready", lambda: events.append("ready"))
    async with client:
        await until(lambda: events)
        assert hook.origin.statistics().connections.opened == 1


async def test_a_hook_that_wants_some_calls_only(server, recorder):
    class Choosy(Recorder):
        wants = True

        def wants_this_call(self):
            return self.wants

    async def work(client):
        await client.get("key")
        await client.pipeline().get("key").execute()
        async with client.dedicated() as session:
            await session.get("key")

    everything = [("after", "GET"), ("after", "MULTI"), ("after", "GET")]
    choosy = Choosy()
    for hooks in (choosy, [choosy, recorder]):
        async with create_client(server.url, hooks=hooks) as client:
            await work(client)
            assert ended(choosy) == everything
            choosy.wants = False
            await work(client)
            assert ended(choosy) == everything
        choosy.wants, choosy.told = True, []
    assert ended(recorder) == everything * 2


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_hook_that_raises_when_it_is_asked(server, recorder, is_alone):
    bad = type("Bad", (Recorder,), {"wants_this_call": lambda _: 1 / 0})()
    errors = []
    async with create_client(server.url, hooks=bad if is_alone else [bad, recorder]) as client:
        client.on("error", errors.append)
        assert await client.set("key", 1)
        await until(lambda: errors)
    assert not bad.told
    assert is_alone or ended(recorder) == [("after", "SET")]
    assert isinstance(errors[0], ZeroDivisionError)


async def test_a_hook_that_wants_no_calls_is_no_stage(server):
    quiet = type("Quiet", (Recorder,), {"wants_calls": False})()
    assert "_execute" not in vars(create_client(server.url, hooks=quiet))


async def test_totals_go_on(server, recorder):
    client = create_client(server.url, hooks=recorder)
    (origin,) = recorder.origins
    assert origin.totals() == origin.statistics()
    assert origin.peer is None
    for count in range(1, 4):
        async with client:
            await client.ping()
            assert origin.peer == ("127.0.0.1", server.port)
            assert (origin.statistics().commands.answered, origin.totals().commands.answered) == (1, count)
            assert origin.totals().connections.shared.ready == 1
        assert origin.totals().commands.answered == origin.totals().connections.opened == count
        assert origin.totals().connections.shared.ready == 0
    recorder.calls.clear()
    del client
    gc.collect()
    assert origin.is_gone
    assert origin.totals().commands.answered == 3
    assert origin.peer is None
    origin.on("ready", print)  # nobody is there


@pytest.mark.leaves_redis_clients_open(reason="what becomes of one that is forgotten")
async def test_observed_clients_and_sessions_are_collected_as_others(server, recorder):
    client = create_client(server.url, hooks=recorder)
    await client.get("key")
    session = client.dedicated()
    await session.ping()
    await client.pipeline().get("key").execute()
    gc.collect()
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="a session was not closed"):
            del session
        with pytest.warns(ResourceWarning, match="was not closed"):
            del client
    finally:
        gc.enable()


@pytest.mark.parametrize("hooks", [5, CommandHook, [CommandHook], [None], "hooks", [object()]])
def test_what_is_no_hook(hooks):
    with pytest.raises(ConfigurationError, match="hooks must be CommandHook objects, one or a list of them, not "):
        create_client(hooks=hooks)


async def test_slow_commands(server):
    log = SlowCommandLog(0.05, is_logged=False)
    async with create_client(server.url, hooks=log) as client:
        await client.get("key")
        await client.blpop("list", timeout=0.1)
        server.pause()
        slow = asyncio.ensure_future(client.set("key", 1))
        await asyncio.sleep(0.06)  # so long the command is to take
        server.resume()
        await slow
        await client.get("key")
    (slow,) = log.entries()
    assert slow.operation == "SET"
    assert slow.server_time > 0.05 > slow.queue_time


async def test_durations_are_counted_if_a_hook_wants_them(server):
    class Timed(CommandHook):
        wants_durations = True

    async with create_client(server.url, hooks=Timed()) as client, create_client(server.url) as other:
        await asyncio.gather(*(client.get("key") for _ in range(5)))
        await client.execute_command("set", "key", "1")
        await client.config_get("maxmemory")
        await client.pipeline(transaction=False).get("key").get("key").execute()
        await client.blpop("list", timeout=0.05)
        with pytest.raises(ResponseError):
            await client.execute_command("SECRETLY", "key")
        async with client.dedicated() as session:
            await session.ping()
        durations = client.statistics().durations
        assert {name: sum(each.counts) for name, each in durations.items()} == {
            "GET": 5,
            "SET": 1,
            "CONFIG": 1,
            "PIPELINE": 1,
            "BLPOP": 1,
            "_OTHER": 1,
            "PING": 1,
        }
        assert durations["BLPOP"].total > 0.04
        assert client.observation is None
        await other.get("key")
        assert other.statistics().durations == {}
