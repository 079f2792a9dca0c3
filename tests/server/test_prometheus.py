"""Prometheus: a table of names and labels, at a real scrape; from another thread, and with nothing secret."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ResponseError

from aioredis_kit import CacheOptions, ConfigurationError, Credentials, create_client
from aioredis_kit.integrations.measures import MEASURES, Kind
from aioredis_kit.integrations.prometheus import PrometheusCollector
from aioredis_kit.statistics import DURATION_BOUNDS
from aioredis_kit.testing import RedisServer
from tests.support.observing import until

COUNTERS = {
    "commands": "outcome",
    "command_errors": "",
    "command_maybe_executed": "",
    "command_retries": "",
    "command_dropped_replies": "",
    "command_orphaned_replies": "",
    "command_unknown_outcomes": "",
    "connections_opened": "",
    "connections_reconnects": "",
    "connections_losses": "",
    "connections_failures": "",
    "connections_lease_timeouts": "",
    "io_bytes": "direction",
    "io_writes": "",
    "pushes": "",
    "pubsub_gaps": "",
    "pings": "",
    "ping_time_seconds": "",
    "loop_delays": "",
    "loop_delay_time_seconds": "",
    "credentials_renewals": "outcome",
    "credentials_reauthentications": "",
    "cache_requests": "result",
    "cache_loads": "outcome",
    "cache_load_time_seconds": "",
    "cache_joined_loads": "",
    "cache_evictions": "reason",
}
GAUGES = {
    "queue_commands": "state",
    "queue_oldest_seconds": "state",
    "queue_in_flight_bytes": "",
    "queue_abandoned": "",
    "queue_lease_waiters": "",
    "connections": "lane state",
    "ping_latest_seconds": "",
    "ping_longest_seconds": "",
    "loop_delay_longest_seconds": "",
    "credentials_expiry_timestamp_seconds": "",
    "cache_items": "",
    "cache_size_bytes": "",
}


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
def registry():
    return CollectorRegistry(auto_describe=True)


def scrape(registry):
    text = generate_latest(registry).decode()
    for planted in ("key-of-ada", "value-of-ada", "s3cret-of-ada"):
        assert planted not in text
    return {family.name: family for family in text_string_to_metric_families(text)}


async def test_all_names_and_labels(server, registry):
    async def provide():
        return Credentials("default", "s3cret-of-ada", expires_at=4e9)

    collector = PrometheusCollector(registry)
    options = {"client_side_cache": CacheOptions(), "credential_provider": provide, "client_name": "web"}
    async with create_client(server.url, db=3, hooks=collector, **options) as client:
        await client.set("key-of-ada", "value-of-ada")
        await client.get("key-of-ada")
        await client.health()
        families = scrape(registry)
    assert families.keys() == {f"aioredis_kit_{name}" for name in (*COUNTERS, *GAUGES)}
    for kind, names in (("counter", COUNTERS), ("gauge", GAUGES)):
        for name, labels in names.items():
            family = families[f"aioredis_kit_{name}"]
            assert family.type == kind
            assert family.documentation
            for sample in family.samples:
                assert sample.name == family.name + ("_total" if kind == "counter" else "")
                assert sample.labels.keys() == {"address", "db", "client", *labels.split()}
                assert (sample.labels["address"], sample.labels["db"], sample.labels["client"]) == (
                    f"127.0.0.1:{server.port}",
                    "3",
                    "web",
                )
    assert registry.get_sample_value(
        "aioredis_kit_credentials_expiry_timestamp_seconds",
        {"address": f"127.0.0.1:{server.port}", "db": "3", "client": "web"},
    )


async def test_histograms(server, registry):
    collector = PrometheusCollector(registry, durations=True)
    async with create_client(server.url, hooks=collector) as client:
        await client.flushall()
        await client.set("key-of-ada", "value-of-ada")
        for _ in range(3):
            with pytest.raises(ResponseError):
                await client.lpush("key-of-ada", "value-of-ada")
        server.pause()
        task = asyncio.ensure_future(client.get("key-of-ada"))
        await until(lambda: client.statistics().queue.in_flight)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.resume()
        await client.pipeline().get("key-of-ada").execute()
    histogram = scrape(registry)["aioredis_kit_command_server_time_seconds"]
    counts = {
        sample.labels["operation"]: sample.value for sample in histogram.samples if sample.name.endswith("_count")
    }
    assert counts == {"FLUSHALL": 1, "SET": 1, "LPUSH": 3, "MULTI": 1}  # nobody waited for the GET
    bounds = [
        sample.labels["le"]
        for sample in histogram.samples
        if sample.name.endswith("_bucket") and sample.labels["operation"] == "SET"
    ]
    assert bounds == [*map(str, DURATION_BOUNDS), "+Inf"]
    assert all(sample.value > 0 for sample in histogram.samples if sample.name.endswith("_sum"))


async def test_it_asks_nothing_of_calls():
    for durations in (False, True):
        assert create_client(hooks=PrometheusCollector(None, durations=durations)).observation is None


def answered(registry):
    return sum(
        sample.value
        for sample in scrape(registry)["aioredis_kit_commands"].samples
        if sample.labels["outcome"] == "answered"
    )


async def test_two_clients_are_one_series_and_what_they_did_stays(server, registry):
    collector = PrometheusCollector(registry, durations=True)
    for count in range(1, 4):
        async with (
            create_client(server.url, hooks=collector) as client,
            create_client(server.url, hooks=collector, client_name="other") as other,
        ):
            await client.ping()
            await other.ping()
        del client, other
        gc.collect()
        assert answered(registry) == 2 * count
        assert len(scrape(registry)["aioredis_kit_pings"].samples) == 2


@contextmanager
def scraping(registry, found):
    """Scrape in another thread, all the time."""
    is_over = threading.Event()

    def scrape_on():
        try:
            while not is_over.is_set():
                families = {family.name: family for family in registry.collect()}
                found.append(
                    {
                        (sample.name, *sample.labels.values()): sample.value
                        for family in families.values()
                        if family.type in {"counter", "histogram"}
                        for sample in family.samples
                        if not sample.name.endswith("_created")
                    }
                )
        except BaseException as error:  # noqa: BLE001 - for the test to see
            found.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=scrape_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(interval)


async def test_scrapes_from_another_thread(registry, is_long):
    """Under load, while connections and leases come and go: no scrape fails, and no counter goes back."""
    collector = PrometheusCollector(registry, durations=True)
    found = []
    rounds = 30 if is_long else 3
    with RedisServer() as server:
        async with (
            create_client(server.url, hooks=collector, connections=3, reconnect_strategy=0.001) as client,
            create_client(server.url) as admin,
        ):
            client.on("error", lambda _: None)
            is_over = False

            async def call(number):
                while not is_over:
                    await asyncio.gather(client.get(f"key-of-ada:{number}"), return_exceptions=True)

            async def lend():
                while not is_over:
                    await asyncio.gather(client.blpop(["nothing"], timeout=0.01), return_exceptions=True)

            with scraping(registry, found):
                callers = [asyncio.ensure_future(call(number)) for number in range(30)]
                callers += [asyncio.ensure_future(lend()) for _ in range(10)]
                for _ in range(rounds):
                    await admin.client_kill_filter(_type="normal", skipme=True)
                    await until(lambda: client.statistics().connections.losses and client.is_ready)
                    await client.close()
                    await client.connect()
                is_over = True
                await asyncio.gather(*callers)
                count = len(found)
                await until(lambda: len(found) > count + 1)
            expected = collector._ledger.read()
    failures = [each for each in found if isinstance(each, BaseException)]
    assert not failures
    assert len(found) >= 3
    for before, after in itertools.pairwise(found):
        assert not {key: (before[key], after[key]) for key in before if after[key] < before[key]}
    total = sum(statistics.commands.answered for reading in expected for statistics in reading.statistics)
    assert (
        sum(value for key, value in found[-1].items() if key[0].endswith("commands_total") and "answered" in key)
        <= total
    )


def test_one_for_each_registry(registry):
    PrometheusCollector(registry)
    with pytest.raises(ConfigurationError, match="the registry has a PrometheusCollector already"):
        PrometheusCollector(registry)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [((5,), {}, "registry must be a CollectorRegistry"), ((None,), {"durations": 1}, "durations")],
)
def test_what_it_does_not_take(arguments, options, message):
    with pytest.raises(ConfigurationError, match=message):
        PrometheusCollector(*arguments, **options)


def test_the_help_says_what_each_is():
    assert all(each.meaning.endswith(".") for each in MEASURES)
    assert sum(each.kind is Kind.COUNTER for each in MEASURES) == len(COUNTERS)
