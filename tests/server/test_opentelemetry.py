"""OpenTelemetry: a table of names and attributes, by exporters into memory; and no key, value or secret anywhere."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    get_current_span,
    use_span,
)
from redis.exceptions import ResponseError

from aioredis_kit import CacheOptions, CommandTimeoutError, Credentials, create_client
from aioredis_kit.hooks import CommandHook
from aioredis_kit.integrations.opentelemetry import BUCKETS, CONVENTIONAL, OWN, OpenTelemetry
from aioredis_kit.testing import RedisServer
from tests.support.observing import until
from tests.support.token_load import TokenService

PLANTED = ("key-of-ada", "value-of-ada", "s3cret-of-ada", "channel-of-ada")


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


class Exported:
    """What was exported, and a hook that exports to there."""

    def __init__(self, sampler=None):
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.traces = TracerProvider(sampler=sampler or ParentBased(ALWAYS_ON), shutdown_on_exit=False)
        self.traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self.metrics = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.traces.get_tracer("tests")

    def hook(self, **options):
        return OpenTelemetry(tracer_provider=self.traces, meter_provider=self.metrics, **options)

    def in_span(self):
        return self.tracer.start_as_current_span("request")

    @property
    def spans(self):
        return [span for span in self._spans.get_finished_spans() if span.name != "request"]

    def points(self):
        """All metrics, by name: lists of attributes and numbers."""
        data = self._reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = [(dict(each.attributes), each) for each in metric.data.data_points]
        return found

    def value(self, name, **attributes):
        """The sum of a metric over all that has these attributes (with _ for .)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(each.value for has, each in self.points().get(name, ()) if wanted.items() <= {**has}.items())

    def everything(self):
        data = self._reader.get_metrics_data()
        return "".join(span.to_json() for span in self._spans.get_finished_spans()) + (data.to_json() if data else "")

    def close(self):
        self.traces.shutdown()
        self.metrics.shutdown()


@pytest.fixture
def exported():
    exported = Exported()
    yield exported
    for planted in PLANTED:
        assert planted not in exported.everything()
    exported.close()


@pytest.fixture
async def client(server, exported):
    async with create_client(server.url, hooks=exported.hook(durations=True), client_name="web") as client:
        await client.flushall()
        yield client


# Spans.


async def test_the_span_of_a_command(server, exported, client):
    with exported.in_span() as parent:
        await client.set("key-of-ada", "value-of-ada")
        assert get_current_span() is parent
    (span,) = exported.spans
    assert (span.name, span.kind, span.status.status_code) == ("SET", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent == parent.get_span_context()
    attributes = dict(span.attributes)
    times = attributes.pop("aioredis_kit.queue_time"), attributes.pop("aioredis_kit.server_time")
    assert times[0] >= 0 < times[1]
    assert attributes == {
        "db.system.name": "redis",
        "db.operation.name": "SET",
        "db.namespace": "0",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
    }
    assert span.instrumentation_scope.name == "aioredis_kit"
    assert not span.events


async def test_what_a_sampler_is_told(server):
    told = []

    class Sampler:
        def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None):
            told.append((name, dict(attributes)))
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)

        def get_description(self):
            return "tells"

    exported = Exported(Sampler())
    async with create_client(server.url, hooks=exported.hook(root_spans=True)) as client:
        await client.ping()
        await client.execute_command("SELECT", 3)
        await client.ping()
    assert [(name, attributes["db.namespace"]) for name, attributes in told] == [
        ("PING", "0"),
        ("SELECT", "0"),
        ("PING", "3"),
    ]
    assert told[0][1] == {
        "db.system.name": "redis",
        "db.operation.name": "PING",
        "db.namespace": "0",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    exported.close()


SCRIPT = "return redis.error_reply(ARGV[1])"


@pytest.mark.parametrize(
    ("command", "name", "code"),
    [
        (("LPUSH", "key-of-ada", 1), "LPUSH", "WRONGTYPE"),
        (("SECRETLY", "value-of-ada"), "_OTHER", "ERR"),
        (("INCR", "key-of-ada"), "INCR", "ERR"),
        (("EVAL", SCRIPT, 0, "LOCKED by value-of-ada"), "EVAL", "LOCKED"),
        (("EVAL", SCRIPT, 0, "value-of-ada"), "EVAL", "ERR"),
        (("EVAL", SCRIPT, 0, "value-of-ada is wrong"), "EVAL", "_OTHER"),
    ],
)
async def test_error_replies(exported, client, command, name, code):
    await client.set("key-of-ada", "value-of-ada")
    with exported.in_span(), pytest.raises(ResponseError):
        await client.execute_command(*command)
    (span,) = exported.spans
    assert span.name == name
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert (span.attributes["error.type"], span.attributes["db.response.status_code"]) == (code, code)
    assert not span.events


async def test_an_error_reply_within_a_pipeline(exported, client):
    await client.set("key-of-ada", "value-of-ada")
    with exported.in_span(), pytest.raises(ResponseError, match="key-of-ada"):
        await client.pipeline(transaction=False).get("key-of-ada").lpush("key-of-ada", "value-of-ada").execute()
    (span,) = exported.spans
    assert (span.name, span.attributes["error.type"]) == ("PIPELINE", "WRONGTYPE")


async def test_time_outs_and_cancelled_calls(server, exported, client):
    with exported.in_span():
        await client.ping()
        server.pause()
        try:
            task = asyncio.ensure_future(client.get("key-of-ada"))
            await until(lambda: client.statistics().queue.in_flight)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with pytest.raises(CommandTimeoutError):
                await client.with_options(command_timeout=0.05).get("key-of-ada")
        finally:
            server.resume()
    _, cancelled, late = exported.spans
    assert cancelled.attributes["error.type"] == "CancelledError"
    assert late.attributes["error.type"] == "CommandTimeoutError"
    assert late.attributes["aioredis_kit.maybe_executed"] is True
    assert late.attributes["aioredis_kit.timeout.cause"].isidentifier()
    assert cancelled.status.status_code is late.status.status_code is StatusCode.ERROR
    assert late.attributes["aioredis_kit.server_time"] >= 0.04


@pytest.mark.parametrize(
    ("commands", "is_transaction", "name", "size"),
    [
        (["get", "get"], False, "PIPELINE GET", 2),
        (["get", "ttl"], False, "PIPELINE", 2),
        (["ttl", "ttl", "ttl"], True, "MULTI TTL", 3),
        (["get", "ttl"], True, "MULTI", 2),
        (["get"], False, "GET", None),
        (["ttl"], True, "TTL", None),
    ],
)
async def test_pipelines(exported, client, commands, is_transaction, name, size):
    with exported.in_span():
        async with client.pipeline(transaction=is_transaction) as pipe:
            for command in commands:
                getattr(pipe, command)("key-of-ada")
            await pipe.execute()
    (span,) = exported.spans
    assert (span.name, span.attributes["db.operation.name"]) == (name, name)
    assert span.attributes.get("db.operation.batch.size") == size


async def test_blocking_commands(exported, client):
    with exported.in_span():
        await client.rpush("key-of-ada", "value-of-ada")
        assert await client.blpop("key-of-ada")
    assert [span.attributes.get("redis.client.operation.blocking") for span in exported.spans] == [None, True]


async def test_the_database_of_a_session_that_has_changed_it_is_not_known(exported, client):
    with exported.in_span():
        async with client.dedicated() as session:
            await session.execute_command("SELECT", 3)
            await session.get("key-of-ada")
    assert [span.attributes.get("db.namespace") for span in exported.spans] == ["0", None]
    durations = exported.points()["db.client.operation.duration"]
    assert {
        has["db.operation.name"]: has.get("db.namespace")
        for has, _ in durations
        if has["db.operation.name"] != "FLUSHALL"
    } == {"SELECT": "0", "GET": None}


async def test_a_transaction_without_commands_has_no_size(exported, client):
    with exported.in_span():
        async with client.pipeline() as pipe:
            await pipe.watch("key-of-ada")
            pipe.multi()
            await pipe.execute()
    assert [(span.name, span.attributes.get("db.operation.batch.size")) for span in exported.spans] == [
        ("WATCH", None),
        ("MULTI", None),
    ]


async def test_scripts_and_functions(exported, client):
    digest = await client.script_load("return 1")
    library = "#!lua name=mylib\nredis.register_function('one', function() return 1 end)"
    await client.function_load(library, replace=True)
    with exported.in_span():
        await client.evalsha(digest, 0)
        await client.fcall("one", 0)
        await client.eval("return 1", 0, "value-of-ada")
        for wrong in (("EVALSHA", "value-of-ada", 0), ("FCALL", "value-of-ada", 0)):
            await asyncio.gather(client.execute_command(*wrong), return_exceptions=True)
    assert [span.attributes.get("db.stored_procedure.name") for span in exported.spans] == [
        digest,
        "one",
        None,
        None,
        None,
    ]


async def test_the_query_without_arguments(server, exported):
    async with create_client(server.url, hooks=exported.hook(query_text=True)) as client:
        with exported.in_span():
            await client.set("key-of-ada", "value-of-ada", ex=10)
            await client.config_get("maxmemory")
            await client.execute_command("CONFIG", "GET", "maxmemory")
            await client.mget([f"key-of-ada:{number}" for number in range(2000)])
            await client.pipeline(transaction=False).get("key-of-ada").ttl("key-of-ada").execute()
    texts = [span.attributes["db.query.text"] for span in exported.spans]
    assert texts[:3] == ["SET ? ? ? ?", "CONFIG GET ?", "CONFIG GET ?"]
    assert texts[3].startswith("MGET ? ?")
    assert len(texts[3]) <= 1025
    assert texts[4] == "GET ?; TTL ?"


async def test_reads_from_the_cache(server, exported):
    options = {"client_side_cache": CacheOptions(), "hooks": exported.hook()}
    async with create_client(server.url, **options) as client:
        with exported.in_span():
            await client.set("key-of-ada", "value-of-ada")
            for _ in range(3):
                await client.get("key-of-ada")
        assert [span.attributes["aioredis_kit.server_time"] > 0 for span in exported.spans] == [
            *(True, True),
            *(False, False),
        ]
        assert exported.value("redis.client.csc.requests", redis__client__csc__result="hit") == 2
        assert exported.value("redis.client.csc.requests", redis__client__csc__result="miss") == 1
        assert exported.value("redis.client.csc.items") == 1
        client._core.caching.cache.clear()  # begins to count anew
        await client.get("key-of-ada")
        assert exported.value("redis.client.csc.requests", redis__client__csc__result="hit") == 2
        assert exported.value("redis.client.csc.requests", redis__client__csc__result="miss") == 2


def remote(*, is_sampled):
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=flags))


@pytest.mark.parametrize(
    ("parent", "has_root_spans", "count"),
    [
        (None, False, 0),
        (None, True, 1),
        (INVALID_SPAN, False, 0),
        (INVALID_SPAN, True, 1),
        (remote(is_sampled=True), False, 1),
        (remote(is_sampled=False), True, 0),
    ],
    ids=[
        "no parent",
        "no parent, but roots",
        "invalid",
        "invalid, but roots",
        "sampled elsewhere",
        "unsampled elsewhere",
    ],
)
@pytest.mark.parametrize("durations", [False, True])
async def test_which_calls_have_spans(server, exported, parent, has_root_spans, count, durations):
    hook = exported.hook(root_spans=has_root_spans, durations=durations)
    async with create_client(server.url, hooks=hook) as client:
        for _ in range(2):
            if parent is None:
                await client.get("key-of-ada")
            else:
                with use_span(parent):
                    await client.get("key-of-ada")
    assert [span.name for span in exported.spans] == ["GET"] * 2 * count


async def test_a_sampler_that_drops(server):
    exported = Exported(ALWAYS_OFF)
    async with create_client(server.url, hooks=exported.hook(root_spans=True)) as client:
        await client.get("key")
    assert not exported.spans
    exported.close()


async def test_nothing_is_asked_of_a_hook_that_only_counts(server, exported):
    client = create_client(server.url, hooks=exported.hook(traces=False))
    assert client.observation is None
    assert isinstance(exported.hook(), CommandHook)
    assert create_client(server.url, hooks=exported.hook(metrics=False)).observation is not None


async def test_without_any_sdk(server):
    async with create_client(server.url, hooks=OpenTelemetry(durations=True, root_spans=True)) as client:
        await client.set("key", 1)


async def test_reconnects_have_spans_of_their_own():
    exported = Exported()
    with RedisServer() as server, exported.in_span():
        async with create_client(server.url, hooks=exported.hook(), reconnect_strategy=0.01) as client:
            client.on("error", lambda _: None)
            await client.ping()
            server.kill()
            await until(lambda: client.statistics().connections.failures)
            server.start()
            await client.wait_for("ready", timeout=5) if not client.is_ready else None
            await until(lambda: [span for span in exported.spans if span.name == "reconnect"])
            assert exported.value("aioredis_kit.connections.reconnects") == 1
            assert (
                exported.value("redis.client.connection.closed", redis__client__connection__close__reason="error") == 1
            )
            assert exported.value("redis.client.errors", error__type="ConnectError") >= 1
            categories = {has["redis.client.errors.category"] for has, _ in exported.points()["redis.client.errors"]}
            assert categories == {"server", "network", "other"}  # of those that redis-py knows
            server.kill()
            await until(lambda: not client.is_ready)
            await until(lambda: client.statistics().connections.failures >= 2)
            client.destroy()
            await until(lambda: len([span for span in exported.spans if span.name == "reconnect"]) == 2)
    back, ended = (span for span in exported.spans if span.name == "reconnect")
    assert back.parent is ended.parent is None
    assert back.status.status_code is StatusCode.UNSET
    assert back.attributes["aioredis_kit.attempts"] >= 1
    assert ended.attributes["error.type"] == "closed"
    exported.close()


# Metrics.


def test_the_names_of_the_conventions():
    assert {each.name: (each.unit, each.kind.name, each.labels) for each in CONVENTIONAL} == {
        "db.client.connection.count": (
            "{connection}",
            "LEVEL",
            ("db.client.connection.state", "aioredis_kit.lane"),
        ),
        "db.client.connection.pending_requests": ("{request}", "LEVEL", ()),
        "db.client.connection.timeouts": ("{timeout}", "COUNTER", ()),
        "redis.client.connection.closed": ("{connection}", "COUNTER", ("redis.client.connection.close.reason",)),
        "redis.client.errors": ("{error}", "COUNTER", ("error.type", "redis.client.errors.category")),
        "redis.client.csc.requests": ("{request}", "COUNTER", ("redis.client.csc.result",)),
        "redis.client.csc.items": ("{item}", "LEVEL", ()),
        "redis.client.csc.evictions": ("{eviction}", "COUNTER", ("redis.client.csc.reason",)),
    }
    names = [each.name for each in (*CONVENTIONAL, *OWN)]
    assert len(set(names)) == len(names)


async def test_all_that_is_counted_is_exported(server, exported):
    async def provide():
        return Credentials("default", "", expires_at=4e9)

    options = {
        "client_side_cache": CacheOptions(),
        "credential_provider": provide,
        "hooks": exported.hook(durations=True),
    }
    async with create_client(server.url, client_name="web", **options) as client:
        await client.get("key-of-ada")
        await client.health()
        points = exported.points()
        own = {"db.client.connection.max", "db.client.operation.duration", "db.client.connection.wait_time"}
        assert points.keys() == {each.name for each in (*CONVENTIONAL, *OWN)} | own
        pool = {
            "db.system.name": "redis",
            "db.namespace": "0",
            "server.address": "127.0.0.1",
            "server.port": server.port,
            "db.client.connection.pool.name": "web",
        }
        for each in (*CONVENTIONAL, *OWN):
            for attributes, _ in points[each.name]:
                assert attributes.items() >= pool.items(), each.name
                assert attributes.keys() == pool.keys() | set(each.labels), each.name
        assert exported.value("db.client.connection.max") == 52
        assert exported.value("db.client.connection.count", db__client__connection__state="used") == 1
        assert exported.value("aioredis_kit.credentials.expiry_timestamp") == 4e9


async def test_durations(server, exported, client):
    await client.set("key-of-ada", "value-of-ada")
    for _ in range(3):
        with pytest.raises(ResponseError):
            await client.lpush("key-of-ada", 1)
    points = exported.points()
    found = {each["db.operation.name"]: (each, point) for each, point in points["db.client.operation.duration"]}
    attributes, point = found["LPUSH"]
    assert attributes == {
        "db.system.name": "redis",
        "db.operation.name": "LPUSH",
        "db.namespace": "0",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "error.type": "WRONGTYPE",
        "db.response.status_code": "WRONGTYPE",
    }
    assert (point.count, tuple(point.explicit_bounds)) == (3, BUCKETS)
    assert "error.type" not in found["SET"][0]
    ((pool, waits),) = points["db.client.connection.wait_time"]
    assert pool == {"db.client.connection.pool.name": "web"}
    assert waits.count == 5  # and FLUSHALL


async def test_a_script_can_not_make_series_without_end(exported, client):
    for number in range(200):
        with pytest.raises(ResponseError):
            await client.eval(SCRIPT, 0, f"CODE{number} is new")
    codes = {each.get("error.type") for each, _ in exported.points()["db.client.operation.duration"]}
    assert len(codes) <= 66
    assert "_OTHER" in codes


async def test_counters_go_on(server, exported):
    """Over being opened again, another client, and being forgotten; those of one name are one pool."""
    hook, read = exported.hook(), lambda: exported.value("aioredis_kit.commands", aioredis_kit__outcome="answered")
    client = create_client(server.url, hooks=hook)
    for _ in range(2):
        await client.connect()
        await client.ping()
        await client.close()
    await client.connect()
    await client.ping()
    assert read() == 3
    async with create_client(server.url, hooks=hook) as other:
        await other.ping()
        assert read() == 4
        assert exported.value("db.client.connection.count") == 2
    await client.close()
    del client, other
    gc.collect()
    assert read() == 4
    assert exported.value("db.client.connection.max") == 0
    async with create_client(server.url, hooks=hook) as another:
        await another.ping()
        assert read() == 5
    assert len(hook._ledger._entries) == 1
    assert exported.value("db.client.connection.count") == 0


async def test_clients_that_come_and_go_are_not_kept(server, exported):
    hook = exported.hook(durations=True)
    for _ in range(4):
        async with create_client(server.url, hooks=hook) as client:
            await client.ping()
        del client
        gc.collect()
    assert len(hook._ledger._entries) == 1
    assert exported.value("aioredis_kit.commands", aioredis_kit__outcome="answered") == 4


def test_clients_may_be_made_in_several_threads_at_once(exported):
    """Another one is made while it is looked which are gone."""

    class Origin:
        address, host, port, db, client_name = "localhost:6379", "localhost", 6379, 0, None
        is_gone = True

    class Racing(Origin):
        was_asked = False

        @property
        def is_gone(self):
            if not self.was_asked:
                self.was_asked = True
                hook.attached(Origin())
            return True

    hook = exported.hook(durations=True, metrics=False, traces=False)
    for origin in (Racing(), Origin(), Origin()):
        hook.attached(origin)


async def test_tokens_subscriptions_and_sessions(server, exported):
    """The rest of what a client does, with secrets; none is in what was exported."""
    async with create_client(server.url) as admin:
        service = TokenService(admin, 1.0)
        options = {"credential_provider": service, "hooks": exported.hook(durations=True)}
        async with create_client(server.url, **options) as client:
            with exported.in_span():
                async with client.subscribe("channel-of-ada") as messages:
                    await admin.publish("channel-of-ada", "value-of-ada")
                    async for _ in messages:
                        break
                async with client.dedicated() as session:
                    await session.get("key-of-ada")
                await until(lambda: client.statistics().reauthentications)
            assert exported.value("aioredis_kit.credentials.renewals", aioredis_kit__outcome="renewed") >= 1
            assert exported.value("aioredis_kit.credentials.reauthentications") >= 1
            assert exported.value("aioredis_kit.pushes") >= 2
            assert exported.value("db.client.connection.count", aioredis_kit__lane="push") == 1
            assert "s3cret-" not in exported.everything()
            assert json.loads(exported.spans[0].to_json())["kind"] == "SpanKind.CLIENT"
        await service.stop()


# Mistakes.
